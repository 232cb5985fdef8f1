"""How well predicted boxes fit: the evaluation of networks that predict boxes (VGG's appendix A).

Boxes of networks are (centre x, centre y, width, height), see `units.Boxes`; all others are edges, see
`data.box_targets`.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from inception_jax.console import percent
from inception_jax.data.augment import Preprocessing
from inception_jax.data.boxes import FITS


def own_box(boxes: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns each example's box of its class, [N, 4], of the network's output [N, classes or 1, 4]."""
    if boxes.shape[1] == 1:
        return boxes[:, 0]
    return jnp.take_along_axis(boxes, labels[:, None, None], axis=1)[:, 0]


def to_edges(boxes: jax.Array) -> jax.Array:
    """Returns edges of a network's boxes, [..., 4]; a negative width or height counts as 0."""
    centre, half = boxes[..., :2], jnp.maximum(boxes[..., 2:], 0) / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def from_edges(edges: jax.Array) -> jax.Array:
    """Returns a network's form of boxes, [..., 4]."""
    low, high = edges[..., :2], edges[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], axis=-1)


def overlap(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the intersection over union of edges, [..., 4], which are broadcast; 0 of boxes without an area."""
    low, high = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    common = jnp.maximum(high - low, 0).prod(axis=-1)
    union = _area(a) + _area(b) - common
    return common / jnp.where(union > 0, union, 1)


def _area(edges: jax.Array) -> jax.Array:
    return (edges[..., 2:] - edges[..., :2]).prod(axis=-1)


def box_losses(predicted: jax.Array, target: jax.Array) -> jax.Array:
    """Returns half the squared Euclidean distance of each box from its target, float32 [N]; 0 if the target is lost.

    Half of it, as in Caffe (src/caffe/layers/euclidean_loss_layer.cpp), from which VGG's code derives. Distances are of
    (centre x, centre y, width, height) in fractions of the crop's side: the paper gives no unit.

    Args:
      predicted: a network's boxes, [N, 4].
      target: edges, [N, 4], see `box_targets.target_of`.
    """
    distances = jnp.square(predicted.astype(jnp.float32) - from_edges(target)).sum(axis=-1) / 2
    return jnp.where(_area(target) > 0, distances, 0.0)


@dataclasses.dataclass(frozen=True)
class BoxEvaluation:
    """Result on one split, by VGG's first protocol: the box of the true class, of one central crop.

    Attributes:
      count: number of images.
      loss: mean of `box_losses`; an image whose box the crop does not show counts as 0.
      box_accuracy: fraction of the images whose box has an intersection over union of 0.5 or more with a true box of
        the class; 1 minus the error of the paper's Table 8.
      labels: int32 [n], labels of the examples 0 ... n - 1 of the split; -1 for an example that another process
        evaluated or that could not be decoded.
      boxes: float32 [n, 4], edges of the predicted boxes in the crop; 0 likewise.
    """

    count: int
    loss: float
    box_accuracy: float
    labels: np.ndarray
    boxes: np.ndarray

    def summary(self) -> dict[str, float]:
        """Returns the numbers for logs: 'loss', 'box_accuracy' and 'count'."""
        return {"loss": self.loss, "box_accuracy": self.box_accuracy, "count": self.count}

    def describe(self) -> str:
        """Returns the result for people, such as 'box accuracy 65.70 %'."""
        return f"box accuracy {percent(self.box_accuracy)}"


def make_box_eval_step(model: nn.Module, preprocessing: Preprocessing, axis: str) -> Callable:
    """Returns `step(variables, batch) -> (sums, predictions)`, as `metrics.make_eval_step`, for `BoxEvaluation`.

    The batch also has what `loader.eval_batches` adds with `boxes`.
    """

    def step(variables, batch):
        images = preprocessing.evaluate(batch["image"], variables["dataset_stats"])
        (boxes, _), _ = model.apply(variables, images, train=False, mutable=["batch_stats"])
        labels, mask, frame = batch["label"], batch["mask"], batch["frame"]
        predicted = own_box(boxes, labels)
        # No object reaches beyond the image.
        edges = jnp.clip(to_edges(predicted), jnp.tile(frame[:, :2], 2), jnp.tile(frame[:, 2:], 2))
        fits = (overlap(edges[:, None], batch["boxes"]) >= FITS).any(axis=1)
        sums = {
            "loss": jnp.sum(jnp.where(mask, box_losses(predicted, batch["box"]), 0.0)),
            "box_accuracy": jnp.sum(mask & fits),
            "count": jnp.sum(mask),
            "damaged": jnp.sum(batch["damaged"]),
        }
        return lax.psum(sums, axis), {"labels": labels, "boxes": edges}

    return step

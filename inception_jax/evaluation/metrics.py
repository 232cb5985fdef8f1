"""Exact evaluation: sums and counts over every example once."""

import dataclasses
from collections.abc import Callable, Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from inception_jax.data.augment import Preprocessing


def label_rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Rank of the label's logit among all, int32 [N], 0 being the best; `logits` are [N, K].

    Of equal logits the lower class index comes first, as in argmax. A label whose logit is not a number is last.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    before = (logits == own) & (jnp.arange(logits.shape[1]) < labels[:, None])
    rank = jnp.sum((logits > own) | before, axis=1)
    return jnp.where(jnp.isnan(own[:, 0]), logits.shape[1], rank)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Result over one split.

    Attributes:
      count: number of images.
      loss: mean cross-entropy without label smoothing.
      top1: share of the images whose label comes first.
      top5: share whose label is among the first five.
      confusion: int64 [K, K], images by true and by predicted class.
      labels: int32 [n], of the examples 0 ... n - 1 of the split; -1 where the example was seen by another process or
        could not be decoded.
      classes: int32 [n, 5], their five most probable classes, the best first (all K if there are fewer); -1 likewise.
      probabilities: float32 [n, 5], theirs.
    """

    count: int
    loss: float
    top1: float
    top5: float
    confusion: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray

    def summary(self) -> dict[str, float]:
        """The numbers for logs."""
        return {"loss": self.loss, "top1": self.top1, "top5": self.top5, "count": self.count}


def make_eval_step(model: nn.Module, preprocessing: Preprocessing, axis: str) -> Callable:
    """Returns `step(variables, batch) -> (sums, predictions)` of one device, to be mapped over the axis `axis`.

    The batch is {'image': uint8 [N, H, W, 3], 'label': int32 [N], 'mask': bool [N], 'damaged': bool [N]}; examples
    without the mask count nowhere. The variables are the model's, and 'statistics', which preprocessing needs.
    """

    def step(variables, batch):
        images = preprocessing.evaluate(batch["image"], variables["statistics"])
        # Batch statistics are only computed, and nothing else is changed, where the model is told to take them.
        (logits, _), _ = model.apply(variables, images, train=False, mutable=["batch_stats"])
        labels, mask = batch["label"], batch["mask"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        rank = label_rank(logits, labels)
        classes = logits.shape[-1]
        probabilities, best = lax.top_k(jax.nn.softmax(logits), min(5, classes))
        sums = {
            "loss": jnp.sum(jnp.where(mask, losses, 0.0)),
            "top1": jnp.sum(mask & (rank < 1)),
            "top5": jnp.sum(mask & (rank < 5)),
            "count": jnp.sum(mask),
            "damaged": jnp.sum(batch["damaged"]),
            "confusion": jnp.zeros((classes, classes), jnp.int32).at[labels, best[:, 0]].add(mask),
        }
        return lax.psum(sums, axis), {"labels": labels, "classes": best, "probabilities": probabilities}

    return step


def evaluate(step: Callable, variables, batches: Iterable[tuple[np.ndarray, dict]], expected: int):
    """Evaluates `variables` over `batches` and returns the `Evaluation`.

    Args:
      step: the mapped step of `make_eval_step`.
      variables: of the model.
      batches: pairs of the split's positions in this process's part of a batch, int64 [n] with -1 for padding, and the
        global batch for the step.
      expected: number of images of the split.

    Raises:
      RuntimeError: the images that were counted and the damaged ones are not as many. This is a defect of the program.
    """
    totals, seen = None, []
    for positions, batch in batches:
        sums, predictions = step(variables, batch)
        seen.append((positions, jax.tree.map(_local_rows, predictions)))
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64 if x.ndim == 0 else np.int64), sums)
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    count = int(totals["count"])
    damaged = int(totals["damaged"])
    if count + damaged != expected:
        raise RuntimeError(f"evaluation counted {count} images instead of {expected - damaged}")
    positions = np.concatenate([places for places, _ in seen])
    predictions = {key: np.concatenate([rows[key] for _, rows in seen]) for key in seen[0][1]}
    by_position = {}
    for key, rows in predictions.items():
        table = np.full((positions.max() + 1, *rows.shape[1:]), 0 if key == "probabilities" else -1, rows.dtype)
        table[positions[positions >= 0]] = rows[positions >= 0]
        by_position[key] = table
    return Evaluation(
        count,
        float(totals["loss"] / count),
        float(totals["top1"] / count),
        float(totals["top5"] / count),
        totals["confusion"],
        **by_position,
    )


def _local_rows(x: jax.Array) -> np.ndarray:
    shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])

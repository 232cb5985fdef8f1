"""Exact evaluation: every example is counted exactly once."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from inception_jax.console import percent
from inception_jax.data.augment import Preprocessing


def label_rank(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the rank of the label's logit among `logits` [N, K], int32 [N]; 0 is the best.

    Among equal logits the lower class index comes first, as in argmax. A label whose logit is NaN comes last.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    before = (logits == own) & (jnp.arange(logits.shape[1]) < labels[:, None])
    rank = jnp.sum((logits > own) | before, axis=1)
    return jnp.where(jnp.isnan(own[:, 0]), logits.shape[1], rank)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Result on one split.

    Attributes:
      count: number of images.
      loss: mean cross-entropy without label smoothing.
      top1: fraction of the images whose label is the most probable class.
      top5: fraction of the images whose label is among the five most probable classes.
      confusion: int64 [K, K], number of images by true and by predicted class.
      labels: int32 [n], labels of the examples 0 ... n - 1 of the split; -1 for an example that another process
        evaluated or that could not be decoded.
      classes: int32 [n, 5], five most probable classes, best first (all K if there are fewer); -1 likewise.
      probabilities: float32 [n, 5], probabilities of these classes; 0 where `classes` is -1.
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
        """Returns the numbers for logs: 'loss', 'top1', 'top5' and 'count'."""
        return {"loss": self.loss, "top1": self.top1, "top5": self.top5, "count": self.count}

    def describe(self) -> str:
        """Returns the result for people, such as 'top-1 98.33 %, top-5 100.00 %'."""
        return f"top-1 {percent(self.top1)}, top-5 {percent(self.top5)}"


def make_eval_step(model: nn.Module, preprocessing: Preprocessing, axis: str) -> Callable:
    """Returns `step(variables, batch) -> (sums, predictions)` of one device, to be mapped over the axis `axis`.

    The batch is {'image': uint8 [N, H, W, 3], 'label': int32 [N], 'mask': bool [N], 'damaged': bool [N]}; examples
    whose mask is False are not counted. The variables are the model's, and 'dataset_stats' for preprocessing.
    """

    def step(variables, batch):
        images = preprocessing.evaluate(batch["image"], variables["dataset_stats"])
        # Mutable for a model that normalises with the statistics of each batch; they are thrown away.
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


def evaluate(
    step: Callable,
    variables,
    batches: Iterable[tuple[np.ndarray, dict]],
    expected: int,
    kind: Callable[..., Any] = Evaluation,
):
    """Evaluates `variables` over `batches` and returns the `Evaluation`.

    Args:
      step: mapped step from `make_eval_step`.
      variables: variables of the model, and 'dataset_stats'.
      batches: pairs of positions and the global batch for the step. The positions, int64 [n], are the places in the
        split of this process's examples; -1 for padding.
      expected: number of images in the split.
      kind: type of the result. Its fields are the means of the step's sums, sums of arrays, and predictions by
        position.

    Raises:
      RuntimeError: the counted and the damaged images do not add up to `expected`. This is a defect of the program.
    """
    totals: Any = None
    seen = []
    for positions, batch in batches:
        sums, predictions = step(variables, batch)
        seen.append((positions, jax.tree.map(_local_rows, predictions)))
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64 if x.ndim == 0 else np.int64), sums)
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    count = int(totals.pop("count"))
    damaged = int(totals.pop("damaged"))
    if count + damaged != expected:
        raise RuntimeError(f"evaluation counted {count} images instead of {expected - damaged}")
    positions = np.concatenate([places for places, _ in seen])
    predictions = {key: np.concatenate([rows[key] for _, rows in seen]) for key in seen[0][1]}
    by_position = {}
    for key, rows in predictions.items():
        missing = 0 if np.issubdtype(rows.dtype, np.floating) else -1
        table = np.full((positions.max() + 1, *rows.shape[1:]), missing, rows.dtype)
        table[positions[positions >= 0]] = rows[positions >= 0]
        by_position[key] = table
    measured = {name: total if total.ndim else float(total / count) for name, total in totals.items()}
    return kind(count=count, **measured, **by_position)


def _local_rows(x: jax.Array) -> np.ndarray:
    shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])

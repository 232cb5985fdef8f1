"""What a network is trained for, and judged by: to name classes, or to predict boxes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from inception_jax.data.boxes import FITS
from inception_jax.errors import UserError
from inception_jax.evaluation.box_metrics import (
    BoxEvaluation,
    box_losses,
    make_box_eval_step,
    overlap,
    own_box,
    to_edges,
)
from inception_jax.evaluation.metrics import Evaluation, label_rank, make_eval_step
from inception_jax.training.losses import Loss, make_loss


class Objective(Protocol):
    """Computes the loss of a training step, and its metrics."""

    def __call__(
        self, outputs: jax.Array, end_points: Mapping[str, jax.Array], targets: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """Returns the metrics, scalars over the examples; 'loss' is what is minimised.

        Args:
          outputs: the network's, [N, ...].
          end_points: the network's.
          targets: 'label' int32 [N]; of mixed images 'mix_lambda' float32 [N], see `Preprocessing.mix`; 'box' float32
            [N, 4], edges in the augmented image, if the task has boxes.
        """


@dataclasses.dataclass(frozen=True)
class Task:
    """What differs between the tasks.

    Attributes:
      objective: the loss of a training step.
      make_eval_step: makes the step of an evaluation, see `metrics.make_eval_step`.
      evaluation: type of its result.
      boxes: whether batches have boxes.
    """

    objective: Objective
    make_eval_step: Callable[..., Callable]
    evaluation: Callable[..., Any]
    boxes: bool


def make_task(loss: str, label_smoothing: float, aux_weights: Mapping[str, float]) -> Task:
    """Returns `box_regression` for the loss 'euclidean', `classification` for the others.

    Args:
      loss: 'euclidean', or see `losses.make_loss`.
      label_smoothing: likewise.
      aux_weights: see `classification`.

    Raises:
      UserError: label smoothing of a loss that has none.
    """
    if loss != "euclidean":
        return classification(make_loss(loss, label_smoothing), aux_weights)
    if label_smoothing:
        raise UserError(f"label_smoothing={label_smoothing} is of labels, not of boxes; set it to 0")
    return box_regression()


def classification(loss: Loss, aux_weights: Mapping[str, float]) -> Task:
    """Returns the task to name the class of an image.

    The metrics are 'loss', which includes the auxiliary losses, 'top1', 'top5' and for each auxiliary head 'NAME_loss'.

    Args:
      loss: loss of all heads, see `losses.make_loss`.
      aux_weights: weight of each auxiliary head's loss, by the head's name; a head with weight 0 is not trained.
    """

    def objective(outputs, end_points, targets):
        logits, labels = outputs, targets["label"]
        wanted = jax.nn.one_hot(labels, logits.shape[-1])
        if "mix_lambda" in targets:
            partners = wanted[jnp.arange(len(labels)) ^ 1]  # as in `Preprocessing.mix`
            mix_lambda = targets["mix_lambda"]
            wanted = mix_lambda[:, None] * wanted + (1 - mix_lambda)[:, None] * partners
        metrics = {}
        total = loss(logits, wanted).mean()
        for head, weight in aux_weights.items():
            metrics[f"{head}_loss"] = loss(end_points[head], wanted).mean()
            total += weight * metrics[f"{head}_loss"]
        rank = label_rank(logits, labels)
        return metrics | {"loss": total, "top1": jnp.mean(rank < 1), "top5": jnp.mean(rank < 5)}

    return Task(objective, make_eval_step, Evaluation, boxes=False)


def box_regression() -> Task:
    """Returns the task to predict the box of the object in an image, whose class is known: VGG's, appendix A.

    The metrics are means over all examples: 'loss', see `box_metrics.box_losses`; 'box_accuracy', whether the box fits
    the target; 'box_lost', whether the crop has lost the box. Such an example has a loss and an accuracy of 0. As the
    divisor is always the number of examples, gradients do not depend on how a batch is split.
    """

    def objective(outputs, end_points, targets):  # noqa: ARG001
        predicted, target = own_box(outputs, targets["label"]), targets["box"]
        fits = overlap(to_edges(predicted), target) >= FITS
        lost = target[:, 2] <= target[:, 0]
        loss = box_losses(predicted, target)
        return {"loss": loss.mean(), "box_accuracy": fits.mean(), "box_lost": lost.mean()}

    return Task(objective, make_box_eval_step, BoxEvaluation, boxes=True)

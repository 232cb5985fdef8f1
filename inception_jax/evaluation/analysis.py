"""Accuracy, loss, calibration and confusion from probabilities and labels, in NumPy; each image counts once.

Of equal probabilities the lower class index comes first, as in `metrics.label_rank`, which training's evaluation uses.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

# The class of each image, or the set of its right classes.
Labels = np.ndarray | Sequence[int] | Sequence[frozenset[int]]
_BINS = 15  # of confidence: Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 5


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The metrics of a classifier over some images.

    Attributes:
      count: number of images.
      top1: fraction of the images whose most probable class is right.
      top5: fraction of the images with a right class among the five most probable.
      loss: mean `log_loss` of the labels; None with several labels per image.
      calibration_error: expected calibration error, a fraction: the mean over all images of |confidence - accuracy| of
        their bin. There are 15 bins of equal width; the confidence is the largest probability (Guo et al. 2017,
        https://arxiv.org/abs/1706.04599, section 2).
      bins: float64 [15, 3], the number of images of each bin, their mean confidence and their accuracy (0 if empty).
      per_class: float64 [K], accuracy of each class; nan if it has no images, or with several labels per image.
      confusion: int64 [K, K], number of images by true and predicted class; None with several labels per image.
    """

    count: int
    top1: float
    top5: float
    loss: float | None
    calibration_error: float
    bins: np.ndarray
    per_class: np.ndarray
    confusion: np.ndarray | None

    def summary(self) -> dict[str, float | int | None]:
        """Returns the metrics that are single numbers, by name."""
        names = ("count", "top1", "top5", "loss", "calibration_error")
        return {name: getattr(self, name) for name in names}


def _are_sets(labels: Labels) -> TypeGuard[Sequence[frozenset[int]]]:
    return isinstance(labels[0], frozenset)


def ranking(probabilities: np.ndarray, count: int = 5) -> np.ndarray:
    """Returns the `count` most probable classes, the best first, int64 [n, min(count, K)].

    Of equal probabilities the lower class index comes first, as in argmax; nan comes last.
    """
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :count]


def right_probability(probabilities: np.ndarray, labels: Labels) -> np.ndarray:
    """Returns the probability of each image's label, or the sum over its right classes, float64 [n]; see `analyse`."""
    if _are_sets(labels):
        pairs = zip(probabilities.astype(np.float64), labels, strict=True)
        return np.array([row[sorted(right)].sum() for row, right in pairs])
    return probabilities[np.arange(len(labels)), np.asarray(labels)].astype(np.float64)


def log_loss(probability: np.ndarray) -> np.ndarray:
    """Returns the negative log-probability, clipped at float32's least, 1.2e-38, so that it stays finite."""
    return -np.log(np.maximum(probability, np.finfo(np.float32).tiny))


def analyse(probabilities: np.ndarray, labels: Labels) -> Analysis:
    """Computes the metrics.

    Args:
      probabilities: float32 [n, K], each row summing to 1. A class whose probability is nan is never right.
      labels: the class of each image, or the set of its right classes: a prediction among them is right (Beyer et al.
        2020, "Are we done with ImageNet?", https://arxiv.org/abs/2006.07159).
    """
    count, classes = probabilities.shape
    several = _are_sets(labels)
    best = ranking(probabilities)
    targets = labels if several else [(label,) for label in labels]
    hits = np.array([[c in target for c in row] for row, target in zip(best.tolist(), targets, strict=True)])
    taken = np.take_along_axis(probabilities, best, axis=1).astype(np.float64)
    hits &= ~np.isnan(taken)  # as in training's evaluation
    right, confidence = hits[:, 0], np.nan_to_num(taken[:, 0])

    bin_of = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)  # (lower, upper], as in the paper
    sizes = np.bincount(bin_of, minlength=_BINS)
    filled = np.maximum(sizes, 1)
    bins = np.stack([sizes, *(np.bincount(bin_of, values, _BINS) / filled for values in (confidence, right))], axis=1)

    loss, confusion, per_class = None, None, np.full(classes, np.nan)
    if not several:
        loss = float(log_loss(right_probability(probabilities, labels)).mean())
        confusion = np.zeros((classes, classes), np.int64)
        np.add.at(confusion, (np.asarray(labels), best[:, 0]), 1)
        totals = confusion.sum(axis=1)
        per_class = np.where(totals > 0, confusion.diagonal() / np.maximum(totals, 1), np.nan)
    return Analysis(
        count=count,
        top1=float(right.mean()),
        top5=float(hits.any(axis=1).mean()),
        loss=loss,
        calibration_error=float((sizes * abs(bins[:, 1] - bins[:, 2])).sum() / count),
        bins=bins,
        per_class=per_class,
        confusion=confusion,
    )

"""How well boxes fit: the error of ILSVRC's classification with localisation, and the accuracy of WSOL's benchmark.

A box fits if its intersection with a true box of the image's class is half of their union or more.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from inception_jax.data.boxes import iou
from inception_jax.localization.heat_boxes import THRESHOLDS

FITS = 0.5
_LEVELS = (0.3, 0.5, 0.7)


class Judged(NamedTuple):
    """What counts of an image.

    Attributes:
      label: class of the image.
      classes: predicted classes, int [k], the best first; one may come several times.
      boxes: boxes of the first of them, [j, 4]; j may be less than k.
      known: the box that was found for the class of the image, [4].
      truth: true boxes of objects of that class, [m, 4].
      largest: float64 [T], the overlap (see `overlap`) of the box for the class of the image, by threshold.
      contours: float64 [T], that of the best of the boxes of all contours, by threshold.
      counts: False of an image on the blacklist of localisation.
    """

    label: int
    classes: np.ndarray
    boxes: np.ndarray
    known: np.ndarray
    truth: np.ndarray
    largest: np.ndarray
    contours: np.ndarray
    counts: bool = True


def overlap(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns each box's largest intersection over union with a true box, float64 [...]; `boxes` is [..., 4]."""
    return iou(boxes[..., None, :], truth).max(axis=-1, initial=0.0)


def classification_error(images: Sequence[Judged], top: int) -> float:
    """Returns the fraction of the images whose class is not among the first `top` predictions."""
    return float(np.mean([image.label not in image.classes[:top] for image in images]))


def localization_error(images: Sequence[Judged], top: int) -> float:
    """Returns the error of ILSVRC's task "classification with localisation", with up to `top` predictions.

    An image is right if one of them has its class and a box that fits a true box of that class. As the development kit
    does it (eval_clsloc.m and compute_overlap.m in zhoubolei/CAM, evaluation), images on the blacklist are left out of
    numerator and denominator.
    """
    wrong = []
    for image in images:
        if image.counts:
            boxes = image.boxes[:top]
            right = image.classes[: len(boxes)] == image.label
            wrong.append(not (right & (overlap(boxes, image.truth) >= FITS)).any())
    return float(np.mean(wrong))


def known_accuracy(images: Sequence[Judged]) -> float:
    """Returns the fraction of the images in which the box for the true class fits (GT-known)."""
    return float(np.mean([overlap(image.known, image.truth) >= FITS for image in images if image.counts]))


class MaxBoxAcc(NamedTuple):
    """MaxBoxAccV2 of Choe et al. 2020, https://arxiv.org/abs/2001.07437 (clovaai/wsolevaluation).

    Attributes:
      mean: of the accuracies.
      accuracies: for an intersection over union of 0.3, 0.5 and 0.7: the fraction of the images in which a box of any
        contour has that much, with the threshold of the heat that is best over all images.
      thresholds: these thresholds, fractions of the maximum.
    """

    mean: float
    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]


def max_box_acc(overlaps: np.ndarray) -> MaxBoxAcc:
    """Returns MaxBoxAccV2 for `Judged.contours` of all images, [n, T]; of equal thresholds the lowest is best."""
    accuracies = np.array([(overlaps >= level).mean(axis=0) for level in _LEVELS])
    best = accuracies.argmax(axis=1)
    values = accuracies[np.arange(len(_LEVELS)), best]
    return MaxBoxAcc(float(values.mean()), tuple(values.tolist()), tuple(THRESHOLDS[best].tolist()))


@dataclasses.dataclass(frozen=True)
class Summary:
    """The metrics over all images, as fractions.

    Attributes:
      images: number of images.
      counted: number of images that are not on the blacklist.
      top1_class_error, top5_class_error: classification errors, over all images.
      top1_error, top5_error: localisation errors, see `localization_error`.
      known: see `known_accuracy`.
      best_known: the same with the best threshold over all images.
      best_threshold: that threshold.
      max_box_acc: see `MaxBoxAcc`.
      known_by_threshold: float64 [T], `known` by threshold.
    """

    images: int
    counted: int
    top1_class_error: float
    top5_class_error: float
    top1_error: float
    top5_error: float
    known: float
    best_known: float
    best_threshold: float
    max_box_acc: MaxBoxAcc
    known_by_threshold: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Returns all numbers as JSON."""
        return dataclasses.asdict(self) | {
            "max_box_acc": self.max_box_acc._asdict(),
            "known_by_threshold": self.known_by_threshold.tolist(),
        }


def summarise(images: Sequence[Judged]) -> Summary:
    """Returns the metrics over images, of which one at least counts."""
    counted = [image for image in images if image.counts]
    known = (np.stack([image.largest for image in counted]) >= FITS).mean(axis=0)
    return Summary(
        images=len(images),
        counted=len(counted),
        top1_class_error=classification_error(images, 1),
        top5_class_error=classification_error(images, 5),
        top1_error=localization_error(images, 1),
        top5_error=localization_error(images, 5),
        known=known_accuracy(images),
        best_known=float(known.max()),
        best_threshold=float(THRESHOLDS[known.argmax()]),
        max_box_acc=max_box_acc(np.stack([image.contours for image in counted])),
        known_by_threshold=known,
    )

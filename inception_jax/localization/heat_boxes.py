"""Boxes around the hot parts of heat maps."""

import cv2
import numpy as np

# Of the maximum: steps of 0.01, the interval of the example in clovaai/wsolevaluation, README.md.
THRESHOLDS = np.arange(100) / 100


def largest_box(heat: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """Returns the box of the largest connected part of a heat map, float64 [4].

    "We first segment the regions of which the value is above 20% of the max value of the CAM. Then we take the bounding
    box that covers the largest connected component" (Zhou et al. 2015, https://arxiv.org/abs/1512.04150, section 3.2).
    Pixels are connected along sides and corners. Of parts with as many pixels the first from the top counts.

    Args:
      heat: float32 [H, W].
      threshold: fraction of the maximum, 0 to below 1, which a pixel must exceed.

    Returns:
      (xmin, ymin, xmax, ymax), the last column and row included; the whole map if nothing in it is above 0.
    """
    _, _, found, _ = cv2.connectedComponentsWithStats(_mask(heat, threshold), connectivity=8)
    if len(found) < 2:  # the background only
        return _whole(heat)
    left, top, width, height, _ = found[1 + found[1:, cv2.CC_STAT_AREA].argmax()]
    return np.array([left, top, left + width - 1, top + height - 1], np.float64)


def all_boxes(heat: np.ndarray, threshold: float) -> np.ndarray:
    """Returns the boxes of all contours of the hot parts of a heat map, float64 [n, 4].

    Those of clovaai/wsolevaluation, evaluation.py, with `multi_contour_eval`: also the contours of holes. There heat is
    in 256 levels and boxes are a pixel larger; here neither.

    Args:
      heat: float32 [H, W].
      threshold: see `largest_box`.
    """
    contours, _ = cv2.findContours(_mask(heat, threshold), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return _whole(heat)[None]
    left, top, width, height = np.array([cv2.boundingRect(contour) for contour in contours], np.float64).T
    return np.stack([left, top, left + width - 1, top + height - 1], axis=1)


def _mask(heat: np.ndarray, threshold: float) -> np.ndarray:
    return (heat > threshold * max(heat.max(), 0)).astype(np.uint8)


def _whole(heat: np.ndarray) -> np.ndarray:
    return np.array([0, 0, heat.shape[1] - 1, heat.shape[0] - 1], np.float64)

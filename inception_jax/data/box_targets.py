"""Boxes in crops: what a network that predicts boxes learns, and what its boxes are compared with.

Boxes are edges here: (left, top, right, bottom) in fractions of the crop's side, from its top left corner. So 0 to 1 is
inside the crop, whatever its size. Intersection over union is the same as in pixels of the image.
"""

from collections.abc import Sequence

import numpy as np

from inception_jax.data.crops import Region
from inception_jax.data.sources import Source
from inception_jax.errors import UserError

MOST_BOXES = 64  # of an image in evaluation; the largest ones, if it has more


def boxes_of(source: Source, index: int) -> np.ndarray:
    """Returns the boxes of an image, float32 [k, 4], k above 0, in pixels (see `data.boxes`).

    Raises:
      UserError: it has none.
    """
    boxes = source.boxes(index)
    if not len(boxes):
        raise UserError(f"{source.name(index)} has no box of its class; leave the image out")
    return boxes


def edges_in_crop(boxes: np.ndarray, region: Region) -> np.ndarray:
    """Returns boxes in pixels of the image, [..., 4] (see `data.boxes`), as edges in a crop, float64 [..., 4]."""
    boxes = np.asarray(boxes, np.float64)
    edges = np.concatenate([boxes[..., :2], boxes[..., 2:] + 1], axis=-1)  # the last pixels are included
    return _in_crop(edges, region)


def frame_in_crop(shape: Sequence[int], region: Region) -> np.ndarray:
    """Returns where the edges of an image of `shape` are in a crop, float64 [4]."""
    return _in_crop(np.array((0, 0, shape[1], shape[0]), np.float64), region)


def _in_crop(edges: np.ndarray, region: Region) -> np.ndarray:
    origin, side = np.array(region[:2] * 2), np.subtract(region[2:], region[:2])
    return (edges - origin) / np.tile(side, 2)


def target_of(edges: np.ndarray, size: int) -> np.ndarray:
    """Chooses the box to learn: what the crop shows of a box, the largest such part.

    Args:
      edges: boxes of the image's class, [k, 4].
      size: height and width of the crop in pixels.

    Returns:
      Edges, float32 [4]; all 0 if the crop shows less than a pixel of each box, in width or height: the box is lost.
    """
    clipped = np.clip(edges, 0, 1)
    sides = clipped[:, 2:] - clipped[:, :2]
    areas = np.where((sides * size < 1).any(axis=1), 0, sides.prod(axis=1))
    best = areas.argmax()
    return clipped[best].astype(np.float32) if areas[best] else np.zeros(4, np.float32)


def largest(edges: np.ndarray) -> np.ndarray:
    """Returns the `MOST_BOXES` largest boxes, float32 [MOST_BOXES, 4], filled up with boxes of zeros."""
    sides = edges[:, 2:] - edges[:, :2]
    order = np.argsort(-sides.prod(axis=1), kind="stable")[:MOST_BOXES]
    filled = np.zeros((MOST_BOXES, 4), np.float32)
    filled[: len(order)] = edges[order]
    return filled

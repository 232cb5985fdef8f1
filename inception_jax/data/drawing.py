"""Brings a drawing into the form of a dataset's images, which were fitted to their frame too."""

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from inception_jax.errors import UserError

# Of scikit-learn's digits (`digits.Digits`): bitmaps of 32x32, of which NIST's program fills 20x32, and the number of
# black pixels in each block of 4x4 (its description there). The part of black pixels is 0.30 to 0.32 in each of the ten
# classes, because that program also thickens and thins strokes (NISTIR 5469); here it is 0.305, the mean of all images.
_BITMAP, _BLOCK, _WIDTH, _INK = 32, 4, 20, 0.305
_MOST_STRETCH = 2.0  # of the width beyond that of the height: a 1 stays narrow (our choice)
_RADII = np.linspace(0, 0.25, 51)  # by which strokes are thickened, as a fraction of the digit's height


def as_digit(ink: np.ndarray) -> np.ndarray:
    """Returns a drawn digit in the form of `digits.Digits`, uint8 [8, 8], light on dark.

    Args:
      ink: bool [H, W], the pixels that were drawn.

    Raises:
      UserError: nothing is drawn.
    """
    ink = np.pad(_of_box(ink), max(ink.shape) // 2)
    height = np.ptp(np.flatnonzero(ink.any(axis=1))) + 1
    distance = cv2.distanceTransform((~ink).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    bitmaps = [_bitmap(distance <= radius * height) for radius in _RADII]
    bitmap = min(bitmaps, key=lambda bitmap: abs(bitmap.mean() - _INK))
    side = _BITMAP // _BLOCK
    counts = bitmap.reshape(side, _BLOCK, side, _BLOCK).sum(axis=(1, 3))
    return np.rint(counts * (255 / _BLOCK**2)).astype(np.uint8)


def as_mnist(ink: np.ndarray) -> np.ndarray:
    """Returns a drawn digit in the form of MNIST, uint8 [28, 28], light on dark.

    The longer side becomes 20 pixels, and the centre of mass the centre of the field (LeCun et al. 1998, section III.A,
    http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf).

    Args:
      ink: bool [H, W], the pixels that were drawn.

    Raises:
      UserError: nothing is drawn.
    """
    box = _of_box(ink).astype(np.float32)
    height, width = (max(1, round(20 * side / max(box.shape))) for side in box.shape)
    small = cv2.resize(box, (width, height), interpolation=cv2.INTER_AREA)
    field = np.zeros((28, 28), np.uint8)
    masses = small.sum(axis=1), small.sum(axis=0)
    centres = (np.average(np.arange(len(mass)), weights=mass) for mass in masses)
    top, left = (
        int(np.clip(round(13.5 - centre), 0, 28 - side)) for centre, side in zip(centres, small.shape, strict=True)
    )
    field[top : top + height, left : left + width] = np.rint(255 * small)
    return field


FORMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"digits": as_digit, "mnist": as_mnist}


def _of_box(ink: np.ndarray) -> np.ndarray:
    """Returns the smallest box with all ink."""
    if not ink.any():
        raise UserError("nothing is drawn")
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _bitmap(ink: np.ndarray) -> np.ndarray:
    """Fits ink into the middle 20 columns of a bitmap, bool [32, 32]."""
    box = _of_box(ink).astype(np.float32)
    width = round(min(_WIDTH, max(1, _MOST_STRETCH * box.shape[1] * _BITMAP / box.shape[0])))
    left = (_BITMAP - width) // 2
    bitmap = np.zeros((_BITMAP, _BITMAP), bool)
    bitmap[:, left : left + width] = cv2.resize(box, (width, _BITMAP), interpolation=cv2.INTER_AREA) >= 0.5
    return bitmap

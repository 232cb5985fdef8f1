"""Pictures of boxes."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

TRUE, RIGHT, WRONG = (255, 255, 255), (40, 200, 80), (235, 60, 50)
_SIDE = 256


def boxed(image: np.ndarray, boxes: Iterable[tuple[np.ndarray, tuple[int, int, int]]], side: int = _SIDE) -> np.ndarray:
    """Returns an image with boxes around objects, uint8 [side, side, 3]; a side that is shorter is filled with grey.

    Args:
      image: uint8 [H, W, 3].
      boxes: (xmin, ymin, xmax, ymax) in its pixels, the last ones included, and colours. Lines are outside of the box
        and black lines around them, so that they are seen on any image.
      side: of the result.
    """
    scale = side / max(image.shape[:2])
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    canvas = Image.new("RGB", (side, side), (128, 128, 128))
    canvas.paste(Image.fromarray(image).resize((width, height), resampling))
    draw = ImageDraw.Draw(canvas)
    for box, colour in boxes:
        low, high = np.asarray(box[:2]) * scale - 1, (np.asarray(box[2:]) + 1) * scale
        for outside, ink in ((1, (0, 0, 0)), (0, colour), (-1, colour)):
            corners = np.clip(np.concatenate([low - outside, high + outside]), 0, side - 1)
            if (corners[2:] >= corners[:2]).all():
                draw.rectangle(tuple(corners.tolist()), outline=ink)
    return np.asarray(canvas)

"""Crops on the host, which turn images of any size into arrays of one size.

Resampling is Pillow's bilinear filter, which is antialiased: when it shrinks, it averages over all source pixels.
"""

import math

import numpy as np
from PIL import Image

from inception_jax.errors import UserError


def random_area_crop(
    image: np.ndarray,
    rng: np.random.Generator,
    size: int,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
    """GoogLeNet's training crop: a random box of random area and aspect ratio, resized to a square.

    "Sampling of various sized patches of the image whose size is distributed evenly between 8% and 100% of the image
    area with aspect ratio constrained to the interval [3/4, 4/3]" (Going deeper with convolutions, section 6). What the
    paper leaves open is as in torchvision's RandomResizedCrop; see `sample_box`. Pixels outside the box have no
    influence. The result is a function of the image and of the state of `rng` alone.

    Args:
      image: uint8 [H, W, 3].
      rng: the generator to draw from.
      size: height and width of the result.
      area: range of the box's share of the image's area.
      aspect: range of the box's width / height.

    Returns:
      uint8 [size, size, 3].
    """
    top, left, height, width = sample_box(*image.shape[:2], rng, area, aspect)
    box = Image.fromarray(image[top : top + height, left : left + width])
    return np.array(box.resize((size, size), Image.Resampling.BILINEAR))


def sample_box(
    height: int, width: int, rng: np.random.Generator, area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Draws the box of `random_area_crop`: `(top, left, height, width)` in pixels, inside a height x width image.

    The area is uniform over its range, the logarithm of the aspect ratio (width / height) over its own, the position
    over all that fit. A box that does not fit is drawn again; after ten such draws it is the largest central box
    whose aspect ratio is in the range.
    """
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        box_height, box_width = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
        if 0 < box_height <= height and 0 < box_width <= width:
            top = int(rng.integers(height - box_height + 1))
            left = int(rng.integers(width - box_width + 1))
            return top, left, box_height, box_width
    box_height = max(1, min(height, round(width / aspect[0])))
    box_width = max(1, min(width, round(height * aspect[1])))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def resize_and_central_crop(image: np.ndarray, size: int, resize: int) -> np.ndarray:
    """The evaluation crop: resize so that the shorter side is `resize`, then cut out the central square.

    Rounding is torchvision's: the longer side becomes floor(resize * longer / shorter), and the crop starts at
    round((side - size) / 2), a half going to the even number. Both steps are done in one resampling of just the part
    that is kept, which differs from resizing the whole by at most one level of 255.

    Args:
      image: uint8 [H, W, 3]; smaller ones than `resize` are enlarged.
      size: height and width of the result.
      resize: length of the shorter side after resizing, at least `size`.

    Returns:
      uint8 [size, size, 3].

    Raises:
      UserError: `resize` is smaller than `size`.
    """
    if resize < size:
        raise UserError(
            f"cannot cut a {size} x {size} crop from an image resized to {resize}: make resize at least {size}"
        )
    height, width = image.shape[:2]
    resized_height, resized_width = (resize * side // min(height, width) for side in (height, width))
    top, left = round((resized_height - size) / 2), round((resized_width - size) / 2)
    y, x = height / resized_height, width / resized_width  # source pixels per resized pixel
    box = (left * x, top * y, min((left + size) * x, width), min((top + size) * y, height))
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))

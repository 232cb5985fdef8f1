"""Crops on the host, which turn images of any size into arrays of one size.

Resampling is Pillow's, by default its bilinear filter, which is antialiased: when it shrinks, it averages over all
source pixels. `random_area_crop` of a `PlainJpeg` comes near to that in a fraction of the time; how near is said there.
The other crops are the same to the bit for all kinds of images.
"""

import math
import random

import cv2
import numpy as np
from PIL import Image

from inception_jax.data.decoding import PlainJpeg

cv2.setNumThreads(0)  # the loader's threads are parallel enough

Method = Image.Resampling
# "Random interpolation methods (bilinear, area, nearest neighbor and cubic, with equal probability)" (Going deeper with
# convolutions, section 6). Area is Pillow's BOX: the mean of the source pixels that a pixel covers.
METHODS = (Method.BILINEAR, Method.BOX, Method.NEAREST, Method.BICUBIC)


def random_area_crop(
    image: np.ndarray | PlainJpeg,
    rng: random.Random,
    size: int,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    out: np.ndarray | None = None,
    mixed: bool = False,
) -> np.ndarray:
    """GoogLeNet's training crop: a random box of random area and aspect ratio, resized to a square.

    "Sampling of various sized patches of the image whose size is distributed evenly between 8% and 100% of the image
    area with aspect ratio constrained to the interval [3/4, 4/3]" (Going deeper with convolutions, section 6). What the
    paper leaves open is as in torchvision's RandomResizedCrop; see `sample_box`. The result is a function of the image
    and of the state of `rng` alone. Pixels outside the box have no influence.

    Of a `PlainJpeg` no more is decoded than needed, and the filter is approximated; the distances given are means of
    |difference| in levels of 255, on scikit-learn's two photographs. Where neither side of the box shrinks by more than
    2.2, by a smoothing of three pixels that makes plain bilinear interpolation as wide as the antialiased one: rounded
    otherwise where the box is enlarged (0.2, 1 at most), 0.2 to 1.8 away where it shrinks. Where both sides shrink to a
    third or less, by reading the image at 1/2, 1/4 or 1/8 of its size, never below 1.5 times the result's: 0.2 to 1.5
    away, and up to 7 pixels beyond the box have some influence.

    Args:
      image: uint8 [H, W, 3], or a JPEG.
      rng: the generator to draw from.
      size: height and width of the result.
      area: range of the box's share of the image's area.
      aspect: range of the box's width / height.
      out: uint8 [size, size, 3] to write the result to; a new array unless given.
      mixed: draw one of `METHODS` for the image instead of the bilinear one. All but that are exact for a JPEG too.

    Returns:
      uint8 [size, size, 3].

    Raises:
      DamagedImage: the JPEG cannot be decoded.
    """
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    top, left, height, width = sample_box(*image.shape[:2], rng, area, aspect)
    method = _draw_method(rng) if mixed else Method.BILINEAR
    if isinstance(image, PlainJpeg) and method != Method.BILINEAR:
        image, _ = image.decode(top + height)
    if not isinstance(image, PlainJpeg):
        _resize(image[top : top + height, left : left + width], out, method=method)
        return out
    shrink = min(height, width) / size
    wanted = next((factor for factor in (8, 4, 2) if shrink >= 1.5 * factor), 1)
    pixels, factor = image.decode(top + height, wanted)
    if max(height, width) <= 2.2 * size:
        _smooth_and_interpolate(pixels[top : top + height, left : left + width], out)
        return out
    edges = top / factor, left / factor, (top + height) / factor, (left + width) / factor
    first_row, first_column = math.floor(edges[0]), math.floor(edges[1])
    pixels = pixels[first_row : math.ceil(edges[2]), first_column : math.ceil(edges[3])]
    box = (edges[1] - first_column, edges[0] - first_row, edges[3] - first_column, edges[2] - first_row)
    _resize(pixels, out, box)
    return out


def _draw_method(rng: random.Random) -> Method:
    return METHODS[int(rng.random() * len(METHODS))]


def _resize(
    image: np.ndarray,
    out: np.ndarray,
    box: tuple[float, float, float, float] | None = None,
    method: Method = Method.BILINEAR,
) -> None:
    """Pillow's resampling of `box` = (left, top, right, bottom), by default of all, to the size of `out`."""
    out[...] = np.asarray(Image.fromarray(image).resize(out.shape[1::-1], method, box=box))


def _smooth_and_interpolate(image: np.ndarray, out: np.ndarray) -> None:
    """Nearly the antialiased bilinear filter, for an image that shrinks by at most 2.2."""
    # Shrinking by s, that filter is a triangle of variance s^2 / 6 pixels; plain interpolation is the one of s = 1. The
    # kernel (a, 1 - 2 a, a) adds 2 a. At s = 1 and s = 2 the sum is the very filter; at s^2 = 5 the kernel is flat.
    down, across = (
        ((ours / result) ** 2 - 1) / 12 for ours, result in zip(image.shape[:2], out.shape[:2], strict=True)
    )
    if down > 0 or across > 0:
        kernels = (np.array((a, 1 - 2 * a, a)) for a in (max(0.0, across), max(0.0, down)))
        image = cv2.sepFilter2D(image, -1, *kernels, borderType=cv2.BORDER_REPLICATE)
    cv2.resize(image, out.shape[1::-1], dst=out, interpolation=cv2.INTER_LINEAR)


def sample_box(
    height: int, width: int, rng: random.Random, area: tuple[float, float], aspect: tuple[float, float]
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
            top = int(rng.random() * (height - box_height + 1))
            left = int(rng.random() * (width - box_width + 1))
            return top, left, box_height, box_width
    box_height = max(1, min(height, round(width / aspect[0])))
    box_width = max(1, min(width, round(height * aspect[1])))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def random_window(
    image: np.ndarray | PlainJpeg,
    rng: random.Random,
    size: int,
    scale: tuple[int, int],
    out: np.ndarray | None = None,
    mixed: bool = False,
    square: bool = False,
) -> np.ndarray:
    """VGG's and AlexNet's training crops: a random window of the resized image.

    The image is resized so that its shorter side is S, and the window cut out of it, or, with `square`, of its central
    S x S pixels. S is a uniform integer, and all positions are equally likely.

    VGG (section 3.1 of https://arxiv.org/abs/1409.1556) draws S from 256 to 512, or fixes it, and cuts from the whole
    image; it does not say which positions. AlexNet (sections 2 and 4.1) fixes S at 256 and cuts from the square. It
    counts 32 x 32 windows of 224 pixels; there are 33 x 33, and all are drawn here.

    Args:
      image: uint8 [H, W, 3], or a JPEG; smaller ones than S are enlarged.
      rng: the generator to draw from.
      size: height and width of the result.
      scale: the least and the most that S can be; the least is at least `size`.
      out: uint8 [size, size, 3] to write the result to; a new array unless given.
      mixed: draw one of `METHODS` for the image instead of the bilinear one.
      square: only the central square is cut from.

    Returns:
      uint8 [size, size, 3], at most one level of 255 from resizing the whole image and cutting.

    Raises:
      DamagedImage: the JPEG cannot be decoded.
    """
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    shorter = scale[0] + int(rng.random() * (scale[1] - scale[0] + 1))
    resized = _resized_shape(image.shape, shorter)
    within = (shorter, shorter) if square else resized
    top, left = (
        _central(whole, part) + int(rng.random() * (part - size + 1))
        for whole, part in zip(resized, within, strict=True)
    )
    _resize_and_cut(image, resized, top, left, out, _draw_method(rng) if mixed else Method.BILINEAR)
    return out


def resize_and_central_crop(
    image: np.ndarray | PlainJpeg, size: int, resize: int, out: np.ndarray | None = None
) -> np.ndarray:
    """The evaluation crop: resize so that the shorter side is `resize`, then cut out the central square.

    Rounding is torchvision's: the longer side becomes floor(resize * longer / shorter), and the crop starts at
    round((side - size) / 2), a half going to the even number. A side that is shorter than `size` is centred on black,
    floor((size - side) / 2) pixels before it: so stand MNIST's digits of 28 x 28 in LeNet-5's field of 32 x 32. Both
    steps are done in one resampling of just the part that is kept, which differs from resizing the whole by at most one
    level of 255.

    Args:
      image: uint8 [H, W, 3], or a JPEG; smaller ones than `resize` are enlarged.
      size: height and width of the result.
      resize: length of the shorter side after resizing.
      out: uint8 [size, size, 3] to write the result to; a new array unless given.

    Returns:
      uint8 [size, size, 3].

    Raises:
      DamagedImage: the JPEG cannot be decoded.
    """
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    resized = _resized_shape(image.shape, resize)
    top, left = (_central(side, size) if side > size else 0 for side in resized)
    height, width = (min(side, size) for side in resized)
    above, before = (size - height) // 2, (size - width) // 2
    if (height, width) != (size, size):
        out[...] = 0
    _resize_and_cut(image, resized, top, left, out[above : above + height, before : before + width])
    return out


def resize_shorter(image: np.ndarray, shorter: int) -> np.ndarray:
    """The whole image, uint8 [H, W, 3], its shorter side resized to `shorter` pixels, the longer rounded down."""
    out = np.empty((*_resized_shape(image.shape, shorter), 3), np.uint8)
    _resize(image, out)
    return out


def squash(image: np.ndarray, size: int, share: float = 1.0) -> np.ndarray:
    """The central part of an image, resized to a square, whatever its aspect; uint8 [size, size, 3].

    With a `share` of 0.875 it is tf-slim's evaluation crop (preprocessing/inception_preprocessing.py): floor((side -
    share * side) / 2) pixels are left out before each side, and as many behind. There the resampling is TensorFlow's
    bilinear one, not antialiased; here it is Pillow's.
    """
    above, before = (int((side - share * side) / 2) for side in image.shape[:2])
    out = np.empty((size, size, 3), np.uint8)
    _resize(image[above : image.shape[0] - above, before : image.shape[1] - before], out)
    return out


def _resized_shape(shape: tuple[int, ...], shorter: int) -> tuple[int, int]:
    """Height and width of an image of that shape when its shorter side has become `shorter`, rounded down."""
    height, width = shorter * shape[0] // min(shape[:2]), shorter * shape[1] // min(shape[:2])
    return height, width


def _central(whole: int, part: int) -> int:
    """Where the central part begins, a half going to the even number."""
    return round((whole - part) / 2)


def _resize_and_cut(
    image: np.ndarray | PlainJpeg,
    resized: tuple[int, int],
    top: int,
    left: int,
    out: np.ndarray,
    method: Method = Method.BILINEAR,
) -> None:
    """Writes to `out` what lies there, from (top, left) on, once the whole image is resized to `resized`."""
    (height, width), (rows, columns) = image.shape[:2], out.shape[:2]
    y, x = height / resized[0], width / resized[1]  # source pixels per resized pixel
    box = (left * x, top * y, min((left + columns) * x, width), min((top + rows) * y, height))
    if isinstance(image, PlainJpeg):
        reach = 2 if method == Method.BICUBIC else 1  # of the filter beyond the box, in pixels of the larger image
        image, _ = image.decode(math.ceil(box[3] + reach * max(1, y)))
    _resize(image, out, box, method)

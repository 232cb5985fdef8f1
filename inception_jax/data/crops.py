"""Crops on the host: turn images of any size into arrays of one size.

Resampling is Pillow's. Its bilinear filter, the default, is antialiased: when it shrinks an image, it averages over all
source pixels. `random_area_crop` of a `PlainJpeg` approximates that in a fraction of the time; its docstring says how
closely. All other crops of a `PlainJpeg` are bit-for-bit those of its decoded pixels.
"""

import dataclasses
import math
import random

import cv2
import numpy as np
from PIL import Image

from inception_jax.data.decoding import PlainJpeg
from inception_jax.errors import UserError, check_choice

cv2.setNumThreads(0)  # the loader's threads are parallel enough

Method = Image.Resampling
CROPS = ("area", "scale", "square", "central")
INTERPOLATIONS = ("bilinear", "mixed", "bicubic")
# "Random interpolation methods (bilinear, area, nearest neighbor and cubic, with equal probability)" (Going deeper with
# convolutions, section 6). Area is Pillow's BOX: the mean of the source pixels that a pixel covers.
METHODS = (Method.BILINEAR, Method.BOX, Method.NEAREST, Method.BICUBIC)


def random_area_crop(
    image: np.ndarray | PlainJpeg,
    rng: random.Random,
    size: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    out: np.ndarray | None = None,
    interpolation: str = "bilinear",
) -> np.ndarray:
    """Cuts GoogLeNet's training crop: a box of random area, aspect ratio and position, resized to a square.

    "Sampling of various sized patches of the image whose size is distributed evenly between 8% and 100% of the image
    area with aspect ratio constrained to the interval [3/4, 4/3]" (Going deeper with convolutions, section 6). Details
    that the paper leaves open follow torchvision's RandomResizedCrop; see `sample_box`. The result depends only on the
    image and the state of `rng`. Pixels outside the box have no influence.

    A `PlainJpeg` is decoded only as far as needed, and the bilinear filter is approximated. The errors below are means
    of |difference| in levels of 255, measured on scikit-learn's two photographs:

    - Neither side shrinks by more than 2.2: smoothing over three pixels makes plain bilinear interpolation as wide as
      the antialiased filter. Error 0.2 (at most 1, by rounding) if the box is enlarged, 0.2 to 1.8 if it shrinks.
    - Both sides shrink to a third or less: the image is decoded at 1/2, 1/4 or 1/8 of its size, but at least 1.5 times
      the size of the result. Error 0.2 to 1.5; up to 7 pixels outside the box have some influence.

    Args:
      image: uint8 [H, W, 3], or a JPEG.
      rng: the generator to draw from.
      size: height and width of the result in pixels.
      area: range of the box's area, as a fraction of the image's.
      aspect: range of the box's width / height.
      out: uint8 [size, size, 3] to write the result to; default: a new array.
      interpolation: one of `INTERPOLATIONS`; 'mixed' draws one of `METHODS`. All but bilinear are exact for a JPEG too.

    Returns:
      uint8 [size, size, 3].

    Raises:
      DamagedImage: the JPEG cannot be decoded.
    """
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    top, left, height, width = sample_box(image.shape[0], image.shape[1], rng, area, aspect)
    method = _method(interpolation, rng)
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


def _method(interpolation: str, rng: random.Random) -> Method:
    if interpolation == "mixed":
        return METHODS[int(rng.random() * len(METHODS))]
    return Method.BICUBIC if interpolation == "bicubic" else Method.BILINEAR


def _resize(
    image: np.ndarray,
    out: np.ndarray,
    box: tuple[float, float, float, float] | None = None,
    method: Method = Method.BILINEAR,
) -> None:
    """Resamples `box` = (left, top, right, bottom), by default the whole image, to the size of `out`."""
    out[...] = np.asarray(Image.fromarray(image).resize(out.shape[1::-1], method, box=box))


def _smooth_and_interpolate(image: np.ndarray, out: np.ndarray) -> None:
    """Approximates the antialiased bilinear filter, for an image that shrinks by at most 2.2."""
    # When shrinking by s, that filter is a triangle of variance s^2 / 6 pixels; plain interpolation is the case s = 1.
    # The kernel (a, 1 - 2 a, a) adds a variance of 2 a. At s = 1 and s = 2 the result is exact; at s^2 = 5 the kernel
    # is flat.
    down, across = (((old / new) ** 2 - 1) / 12 for old, new in zip(image.shape[:2], out.shape[:2], strict=True))
    if down > 0 or across > 0:
        kernel_x, kernel_y = (np.array((a, 1 - 2 * a, a)) for a in (max(0.0, across), max(0.0, down)))
        image = cv2.sepFilter2D(image, -1, kernel_x, kernel_y, borderType=cv2.BORDER_REPLICATE)
    cv2.resize(image, out.shape[1::-1], dst=out, interpolation=cv2.INTER_LINEAR)


def sample_box(
    height: int, width: int, rng: random.Random, area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Draws the box of `random_area_crop`: `(top, left, height, width)` in pixels, inside a height x width image.

    The area, the logarithm of the aspect ratio (width / height) and the position are uniform over their ranges. A box
    that does not fit is drawn again. After ten such draws, the largest central box with an aspect ratio in the range is
    taken.
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
    interpolation: str = "bilinear",
    square: bool = False,
) -> np.ndarray:
    """Cuts VGG's or AlexNet's training crop: a random window of the resized image.

    The image is resized so that its shorter side is S. The window is cut from the whole image or, with `square`, from
    its central S x S pixels. S is a uniform integer; all positions are equally likely.

    VGG (section 3.1 of https://arxiv.org/abs/1409.1556) draws S from 256 to 512, or fixes it, and cuts from the whole
    image; it does not state the distribution of positions. AlexNet (sections 2 and 4.1) fixes S at 256 and cuts from
    the square. The paper counts 32 x 32 windows of 224 pixels; there are 33 x 33, and all are drawn here.

    Args:
      image: uint8 [H, W, 3], or a JPEG; enlarged if its shorter side is less than S.
      rng: the generator to draw from.
      size: height and width of the result in pixels.
      scale: range of S, (least, most); `least` must be at least `size`.
      out: uint8 [size, size, 3] to write the result to; default: a new array.
      interpolation: one of `INTERPOLATIONS`; 'mixed' draws one of `METHODS`.
      square: cut from the central square.

    Returns:
      uint8 [size, size, 3], within one level of 255 of resizing the whole image and then cutting.

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
    _resize_and_cut(image, resized, top, left, out, _method(interpolation, rng))
    return out


def resize_and_central_crop(
    image: np.ndarray | PlainJpeg,
    size: int,
    resize: int,
    out: np.ndarray | None = None,
    method: Method = Method.BILINEAR,
) -> np.ndarray:
    """Cuts the evaluation crop: resizes the shorter side to `resize`, then takes the central square.

    Rounding follows torchvision: the longer side becomes floor(resize * longer / shorter), and the crop starts at
    round((side - size) / 2), halves to even. A side shorter than `size` is centred on black, with
    floor((size - side) / 2) pixels before it; this puts MNIST's 28 x 28 digits into LeNet-5's 32 x 32 field. Only the
    part that is kept is resampled; the result is within one level of 255 of resizing the whole image.

    Args:
      image: uint8 [H, W, 3], or a JPEG; enlarged if its shorter side is less than `resize`.
      size: height and width of the result in pixels.
      resize: length of the shorter side after resizing, in pixels.
      out: uint8 [size, size, 3] to write the result to; default: a new array.
      method: Pillow's filter.

    Returns:
      uint8 [size, size, 3].

    Raises:
      DamagedImage: the JPEG cannot be decoded.
    """
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    resized, top, left, above, before = _central_window(image.shape, size, resize)
    height, width = (min(side, size) for side in resized)
    if (height, width) != (size, size):
        out[...] = 0
    _resize_and_cut(image, resized, top, left, out[above : above + height, before : before + width], method)
    return out


def _central_window(shape: tuple[int, ...], size: int, resize: int) -> tuple[tuple[int, int], int, int, int, int]:
    """Returns height and width of the resized image, where the crop begins in it, and the black above and before it."""
    resized = _resized_shape(shape, resize)
    top, left = (_central(side, size) if side > size else 0 for side in resized)
    above, before = ((size - min(side, size)) // 2 for side in resized)
    return resized, top, left, above, before


def boxes_in_image(boxes: np.ndarray, shape: tuple[int, ...], size: int, resize: int) -> np.ndarray:
    """Returns where boxes of `resize_and_central_crop` are in the image.

    The edges of a box are scaled, not its first and last pixels, so that the box of the whole crop is what the crop
    shows of the image. A box reaches no further than the image, and has no pixels if it is in the black around it.

    Args:
      boxes: [..., 4], (xmin, ymin, xmax, ymax) in pixels of the crop, the last ones included; see `data.boxes`.
      shape: height and width of the image in pixels.
      size: see `resize_and_central_crop`.
      resize: likewise.

    Returns:
      float64 [..., 4] in pixels of the image, not rounded.
    """
    resized, top, left, above, before = _central_window(shape, size, resize)
    first, scale = np.array([left - before, top - above]), np.divide(shape[1::-1], resized[::-1])
    boxes = np.asarray(boxes, np.float64)
    edges = np.stack([boxes[..., :2] + first, boxes[..., 2:] + first + 1], axis=-2) * scale
    edges = np.clip(edges, 0, shape[1::-1])
    return np.concatenate([edges[..., 0, :], edges[..., 1, :] - 1], axis=-1)


def resize_shorter(image: np.ndarray, shorter: int) -> np.ndarray:
    """Resizes the whole image, uint8 [H, W, 3]: the shorter side to `shorter` pixels, the longer side rounded down."""
    out = np.empty((*_resized_shape(image.shape, shorter), 3), np.uint8)
    _resize(image, out)
    return out


def squash(image: np.ndarray, size: int, fraction: float = 1.0) -> np.ndarray:
    """Resizes the central part of an image to a square, changing its aspect ratio; returns uint8 [size, size, 3].

    With a `fraction` of 0.875 it is tf-slim's evaluation crop (preprocessing/inception_preprocessing.py):
    floor((side - fraction * side) / 2) pixels are left out at each end of each side. tf-slim resamples with
    TensorFlow's bilinear filter, which is not antialiased; Pillow's is used here.
    """
    above, before = (int((side - fraction * side) / 2) for side in image.shape[:2])
    out = np.empty((size, size, 3), np.uint8)
    _resize(image[above : image.shape[0] - above, before : image.shape[1] - before], out)
    return out


def _resized_shape(shape: tuple[int, ...], shorter: int) -> tuple[int, int]:
    """Returns height and width after resizing the shorter side to `shorter`, rounded down."""
    height, width = shorter * shape[0] // min(shape[:2]), shorter * shape[1] // min(shape[:2])
    return height, width


def _central(whole: int, part: int) -> int:
    """Returns the start of the central part, halves to even."""
    return round((whole - part) / 2)


def _resize_and_cut(
    image: np.ndarray | PlainJpeg,
    resized: tuple[int, int],
    top: int,
    left: int,
    out: np.ndarray,
    method: Method = Method.BILINEAR,
) -> None:
    """Writes the part of the resized image that begins at (top, left) to `out`; `resized` is its height and width."""
    (height, width), (rows, columns) = image.shape[:2], out.shape[:2]
    y, x = height / resized[0], width / resized[1]  # source pixels per resized pixel
    box = (left * x, top * y, min((left + columns) * x, width), min((top + rows) * y, height))
    if isinstance(image, PlainJpeg):
        reach = 2 if method == Method.BICUBIC else 1  # of the filter beyond the box, in pixels of the larger image
        image, _ = image.decode(math.ceil(box[3] + reach * max(1, y)))
    _resize(image, out, box, method)


@dataclasses.dataclass(frozen=True)
class CropConfig:
    """Says how an image becomes size x size pixels.

    Attributes:
      size: height and width of the network's input in pixels.
      resize: length of the shorter side before the central crop of evaluation; if less than `size`, the rest is black.
      area: for the crop 'area': its area as a fraction of the image's, (least, most).
      aspect: for the crop 'area': its width / height, (least, most).
      crop: training crop, one of `CROPS`. 'area': `random_area_crop` (Inception); 'scale': `random_window` (VGG);
        'square': the same within the central square (AlexNet); 'central': the evaluation crop.
      scale: for the crops 'scale' and 'square': length of the shorter side, (least, most).
      interpolation: one of `INTERPOLATIONS`. 'mixed' draws one of `METHODS` for each random training crop, and is
        bilinear in evaluation.
      max_pixels: an image of more pixels counts as damaged.

    Raises:
      UserError: `crop` or `interpolation` is unknown, or `scale` is less than `size`.
    """

    size: int
    resize: int
    area: tuple[float, float]
    aspect: tuple[float, float]
    crop: str
    scale: tuple[int, int]
    interpolation: str
    max_pixels: int

    def __post_init__(self):
        check_choice("crop", self.crop, CROPS)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        if self.crop in ("scale", "square") and self.scale[0] < self.size:
            raise UserError(
                f"scale={tuple(self.scale)} must not be less than the image size of {self.size}, "
                f"because crop={self.crop!r} cuts windows of {self.size} x {self.size} pixels"
            )

    def train_crop(self, image: np.ndarray | PlainJpeg, rng: random.Random, out: np.ndarray) -> None:
        """Writes a training crop, drawn from `rng`, to `out`, uint8 [size, size, 3]; may raise DamagedImage."""
        match self.crop:
            case "area":
                random_area_crop(image, rng, self.size, self.area, self.aspect, out, self.interpolation)
            case "scale" | "square":
                random_window(image, rng, self.size, self.scale, out, self.interpolation, square=self.crop == "square")
            case "central":
                self.eval_crop(image, out)

    def eval_crop(self, image: np.ndarray | PlainJpeg, out: np.ndarray) -> None:
        """Writes the evaluation crop to `out`, uint8 [size, size, 3]; may raise DamagedImage."""
        method = Method.BICUBIC if self.interpolation == "bicubic" else Method.BILINEAR
        resize_and_central_crop(image, self.size, self.resize, out, method)

    def boxes_in_image(self, boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns where boxes of the evaluation crop are in an image of `shape`, see `boxes_in_image`."""
        return boxes_in_image(boxes, shape, self.size, self.resize)

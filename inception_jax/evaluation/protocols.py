"""The papers' evaluation protocols: which windows of an image the network sees.

The host decodes an image once and resizes it to each scale of the protocol (`Protocol.canvases`); windows are cut out
of these canvases, and mirrored, on the device (`scoring.Scorer`).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from inception_jax.data import crops
from inception_jax.data.crops import CropConfig
from inception_jax.data.decoding import PlainJpeg
from inception_jax.errors import UserError, check_choice


class Canvas(NamedTuple):
    """A resized image, and the places of its windows.

    Attributes:
      pixels: uint8 [H, W, 3].
      corners: int32 [n, 2], top and left of each window; None if the whole canvas is one window.
    """

    pixels: np.ndarray
    corners: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The windows of an image, canvas by canvas; each window is followed by its mirror image if `mirrors`.

    Attributes:
      name: one of NAMES.
      size: height and width of a window in pixels, the network's input; for 'dense' the smallest.
      scales: shorter side of each canvas in pixels; () if the network's own crop fixes it.
      crop_config: the network's own crop.
    """

    name: str
    size: int
    scales: tuple[int, ...]
    crop_config: CropConfig

    @property
    def mirrors(self) -> bool:
        """Whether each window is also seen mirrored."""
        return self.name not in ("single", "anisotropic")

    @property
    def is_dense(self) -> bool:
        """Whether the network sees whole canvases of any shape."""
        return self.name == "dense"

    @property
    def windows(self) -> int:
        """Number of windows of an image, its cost in forward passes; those of 'dense' are larger than others."""
        of_a_scale = {"10crop": 5, "12crop": 6, "144crop": 18, "multicrop": 25}.get(self.name, 1)
        return of_a_scale * max(1, len(self.scales)) * (2 if self.mirrors else 1)

    def canvases(self, image: np.ndarray | PlainJpeg) -> list[Canvas]:
        """Resizes a decoded image to the canvases that windows are cut from; may raise DamagedImage."""
        if isinstance(image, PlainJpeg) and self.name != "single":  # once for all scales
            image, _ = image.decode()
        return _CANVASES[self.name](image, self)

    def describe(self) -> str:
        """Returns the name with its scales: '144crop at 256, 288, 320, 352'."""
        scales = ", ".join(map(str, self.scales))
        return f"{self.name} at {scales}" if scales else self.name


def make_protocol(name: str, crop_config: CropConfig, scales: tuple[int, ...] = ()) -> Protocol:
    """Returns a protocol for a network whose input is `crop_config.size` pixels wide, with the scales of its paper.

    - 'single': the network's own evaluation crop, isotropic: `crops.resize_and_central_crop`.
    - 'anisotropic': tf-slim's, the central 87.5 % of both sides resized to a square: `crops.squash`.
    - '10crop': four corners and the centre of the central square, and their mirror images (AlexNet, section 4.1: 224
      of 256). The scale is that of the network's own crop; if it is not above the window's size, 8/7 of that size.
    - '12crop': the image squeezed to a square of the first scale of '144crop'; its four corners, its centre, the whole
      square squeezed to a window, and their mirror images. No paper defines it. This follows cls/evaluation_cls.py of
      github.com/soeaver/caffe-model, whose results are within 0.3 points of Table 3 of the Inception-v4 paper.
    - '144crop': GoogLeNet's, section 7: 4 scales (256, 288, 320, 352 for 224) x 3 squares (left, centre, right, or top,
      centre, bottom) x 6 (four corners, centre, the square resized) x 2. For 299 no paper gives scales; soeaver's are
      320, 352, 384, 416. Other sizes have scales in proportion to those of 224. The three squares of a square image
      are the same.
    - 'multicrop': VGG's, section 3.2: a 5 x 5 grid x 2 at 3 scales. The grid is regular and reaches from edge to edge
      of the whole image, which the paper does not say.
    - 'dense': VGG's, section 3.2: the network slides over the whole image at 3 scales, also mirrored, and its class
      scores are averaged over the places. The longer side is cut centrally to the shorter one plus a multiple of 1/7
      of the window (32 for 224), because each shape is compiled separately.

    The 3 scales are VGG's: S - d, S, S + d with d = size / 7 (32 for 224), but none below the window, for a network
    trained at one scale S; for one trained with scales from S to T: S, (S + T) / 2, T.

    Args:
      name: one of NAMES.
      crop_config: the crops of the network's training and evaluation.
      scales: shorter sides in pixels, in place of the paper's.

    Raises:
      UserError: no such protocol exists, it has no scales, or one of them is smaller than the window.
    """
    check_choice("protocol", name, NAMES)
    size = crop_config.size
    trained_at_scales = crop_config.crop in ("scale", "square")
    own = crop_config.resize if crop_config.resize > size else round(size * 8 / 7)
    if name in ("single", "anisotropic"):
        if scales:
            raise UserError(f"scales={scales} are not for protocol {name!r}, which has the network's own scale")
    elif scales:
        if min(scales) < size:
            raise UserError(f"scales={scales} must not be less than the network's {size} pixels")
    elif name == "10crop":
        scales = (own,)
    elif name in ("12crop", "144crop"):
        scales = {224: (256, 288, 320, 352), 299: (320, 352, 384, 416)}.get(size) or tuple(
            round(size * scale / 224) for scale in (256, 288, 320, 352)
        )
        scales = scales[:1] if name == "12crop" else scales
    elif trained_at_scales and crop_config.scale[0] < crop_config.scale[1]:
        least, most = crop_config.scale
        scales = (least, (least + most) // 2, most)
    else:
        middle = crop_config.scale[0] if trained_at_scales else own
        step = round(size / 7)
        scales = (max(size, middle - step), middle, middle + step)
    return Protocol(name, size, tuple(scales), crop_config)


def corners_and_centre(height: int, width: int, size: int) -> np.ndarray:
    """Returns top and left of the windows in the corners, row by row, and of the central one, int32 [5, 2]."""
    bottom, right = height - size, width - size
    # Halves are rounded to the even number, as in the single crop.
    return np.array([(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))], np.int32)


def grid(height: int, width: int, size: int, count: int = 5) -> np.ndarray:
    """Returns top and left of the windows of a regular grid, row by row, int32 [count * count, 2]."""
    tops, lefts = (np.rint(np.linspace(0, side - size, count)).astype(np.int32) for side in (height, width))
    return np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)


def three_squares(height: int, width: int) -> np.ndarray:
    """Returns top and left of the first, the central and the last square along the longer side, int32 [3, 2]."""
    down, across = height - min(height, width), width - min(height, width)
    return np.array([(0, 0), (round(down / 2), round(across / 2)), (down, across)], np.int32)


def _single(image, protocol: Protocol) -> list[Canvas]:
    out = np.empty((protocol.size, protocol.size, 3), np.uint8)
    protocol.crop_config.eval_crop(image, out)
    return [_whole(out)]


def _anisotropic(image, protocol: Protocol) -> list[Canvas]:
    return [_whole(crops.squash(image, protocol.size, 0.875))]


def _10crop(image, protocol: Protocol) -> list[Canvas]:
    canvases = []
    for scale in protocol.scales:
        square = crops.resize_and_central_crop(image, scale, scale)
        canvases.append(Canvas(square, corners_and_centre(scale, scale, protocol.size)))
    return canvases


def _12crop(image, protocol: Protocol) -> list[Canvas]:
    canvases = []
    for scale in protocol.scales:
        square = crops.squash(image, scale)
        canvases.append(Canvas(square, corners_and_centre(scale, scale, protocol.size)))
        canvases.append(_whole(crops.squash(square, protocol.size)))
    return canvases


def _144crop(image, protocol: Protocol) -> list[Canvas]:
    canvases = []
    for scale in protocol.scales:
        resized = crops.resize_shorter(image, scale)
        squares = three_squares(*resized.shape[:2])
        within = corners_and_centre(scale, scale, protocol.size)
        canvases.append(Canvas(resized, (squares[:, None] + within).reshape(-1, 2)))
        for top, left in squares:
            square = resized[top : top + scale, left : left + scale]
            canvases.append(_whole(crops.squash(square, protocol.size)))
    return canvases


def _multicrop(image, protocol: Protocol) -> list[Canvas]:
    canvases = []
    for scale in protocol.scales:
        resized = crops.resize_shorter(image, scale)
        canvases.append(Canvas(resized, grid(resized.shape[0], resized.shape[1], protocol.size)))
    return canvases


def _dense(image, protocol: Protocol) -> list[Canvas]:
    canvases = []
    for scale in protocol.scales:
        resized = crops.resize_shorter(image, scale)
        step = round(protocol.size / 7)
        height, width = (scale + (side - scale) // step * step for side in resized.shape[:2])
        top, left = (resized.shape[0] - height) // 2, (resized.shape[1] - width) // 2
        canvases.append(Canvas(resized[top : top + height, left : left + width], None))
    return canvases


def _whole(pixels: np.ndarray) -> Canvas:
    return Canvas(pixels, np.zeros((1, 2), np.int32))


_CANVASES: dict[str, Callable[[np.ndarray | PlainJpeg, Protocol], list[Canvas]]] = {
    "single": _single,
    "anisotropic": _anisotropic,
    "10crop": _10crop,
    "12crop": _12crop,
    "144crop": _144crop,
    "multicrop": _multicrop,
    "dense": _dense,
}
NAMES = tuple(_CANVASES)

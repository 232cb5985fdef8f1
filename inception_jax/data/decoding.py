"""Decodes image files, arrays and PIL images to 8-bit RGB pixels."""

import contextlib
import dataclasses
import errno
import io
import math
import os
import re
import stat
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from inception_jax.errors import UserError
from inception_jax.names import text_of
from inception_jax.paths import is_bucket, read_objects

# Pillow's readers warn about odd metadata and sizes, one line for each image, which helps no user. `Image.open`, which
# other code may use, still warns.
warnings.filterwarnings("ignore", module=r"PIL\.\w+Plugin$")

# A closed list: Pillow knows formats that do not belong among training images (EPS would start Ghostscript). Its
# readers are called directly, because `Image.open` has its own limit and warning for large images.
_READERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
}
FORMATS = tuple(_READERS)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 2**26  # 8192 x 8192 (our choice)
# Limits for small files: an image of one colour may take only a hundred bytes (our choice).
_PIXELS_OF_ANY_FILE, _PIXELS_OF_A_BYTE = 2**24, 2**13
_NO_WHITE = "floating-point pixels have no defined white"
_BAND = 2**20  # pixels that are converted at once
_TURNS = {  # EXIF orientation: the operation that makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DamagedImage(Exception):
    """An image that cannot be decoded: `name` says which, `reason` says why."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)  # both in args, so that the exception can be pickled
        self.name = name
        self.reason = reason

    def __str__(self):
        return f"{self.name}: {self.reason}"


def read_file(path: str | os.PathLike, name: str) -> bytes:
    """Returns the content of an image file, also of one in a bucket; errors call it `name`.

    Raises:
      DamagedImage: the file is missing, cannot be read, or is not a regular file (a pipe may never end).
      UserError: the bucket cannot be read.
    """
    if is_bucket(path):
        [content] = read_objects([text_of(os.fspath(path))])
        if content is None:
            raise DamagedImage(name, os.strerror(errno.ENOENT))
        return content
    try:
        # Looked at first, because opening a device may do something; not blocking, because a pipe may take its place.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DamagedImage(name, "not a regular file")
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DamagedImage(name, "not a regular file")
            return file.read()
    except OSError as error:  # a broken link, no permission
        raise DamagedImage(name, error.strerror or str(error)) from None


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such flag


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image file.

    The result is upright 8-bit RGB, see `to_rgb`. CMYK and YCCK are converted, also with Adobe's inverted inks. The
    first frame of an animation is taken. Safe to call from many threads.

    Args:
      data: content of a JPEG, PNG, WebP, BMP, GIF or TIFF file; the format is recognised by the content.
      name: what errors call the image.
      max_pixels: an image of more pixels counts as damaged.

    Returns:
      uint8 [H, W, 3].

    Raises:
      DamagedImage: the data are empty, truncated or not an image, or the image has too many pixels.
    """
    image = open_image(data, name, max_pixels)
    return image.decode()[0] if isinstance(image, PlainJpeg) else image


def open_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> "PlainJpeg | np.ndarray":
    """Reads only the header of a plain JPEG, and decodes any other image; arguments and errors as in `decode_image`."""
    if not data:
        raise DamagedImage(name, "empty file")
    header = _read_header(data)
    if header is None:
        return _decode_by_pillow(data, name, max_pixels)
    _check_size(header.width, header.height, name, max_pixels, len(data), header.pixels_at_most)
    if header.is_plain:
        return PlainJpeg(data, name, header)
    return _decode_by_pillow(header.without_metadata(data), name, max_pixels)


def to_rgb(image: Image.Image, name: str) -> np.ndarray:
    """Converts a PIL image to upright 8-bit RGB; does not change the image.

    Greyscale is repeated over the channels, palettes are looked up, and the EXIF orientation is applied. Alpha is
    dropped without compositing, as in TensorFlow and torchvision. 16-bit greyscale is scaled by 1/257 and rounded. For
    16-bit colour the high byte is taken, as in Pillow.

    Args:
      image: image in any mode.
      name: what errors call the image.

    Returns:
      uint8 [H, W, 3].

    Raises:
      DamagedImage: the image cannot be decoded, or has floating-point pixels, for which white is undefined.
    """
    try:
        image.load()
        if image.mode == "F":
            raise ValueError(_NO_WHITE)
        turn = None
        with contextlib.suppress(Exception):  # broken EXIF data do not matter to the pixels
            turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        if turn is not None:
            image = image.transpose(turn)
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        rows = max(1, _BAND // image.width)
        for top in range(0, image.height, rows):
            box = 0, top, image.width, min(top + rows, image.height)
            pixels[top : top + rows] = _convert(image.crop(box))
        return pixels
    except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
        raise DamagedImage(name, str(error) or type(error).__name__) from error


def array_to_rgb(array: np.ndarray, name: str) -> np.ndarray:
    """Converts an array to 8-bit RGB, in the same way as `to_rgb` converts an image.

    Args:
      array: uint8, uint16 or bool; [H, W] or [H, W, C] with 1 to 4 channels: grey, grey and alpha, RGB, RGB and alpha.
      name: what errors call the image.

    Returns:
      uint8 [H, W, 3].

    Raises:
      UserError: the array has another type or shape.
      DamagedImage: the pixels are floating-point.
    """
    if array.dtype.kind == "f":
        raise DamagedImage(name, _NO_WHITE)
    kind = array.dtype.newbyteorder("=")
    if kind not in (np.uint8, np.uint16, bool) or array.ndim not in (2, 3) or array.shape[2:] > (4,) or not array.size:
        raise UserError(
            f"{name} must be an array of uint8, uint16 or bool and of shape [H, W] or [H, W, 1 to 4], "
            f"not {array.dtype} {list(array.shape)}"
        )
    array = np.atleast_3d(array)
    is_grey = array.shape[2] < 3
    if kind == np.uint16:
        array = _eight_of_sixteen_bits(array) if is_grey else (array >> 8).astype(np.uint8)
    elif kind.kind == "b":
        array = array.astype(np.uint8) * 255
    return np.repeat(array[..., :1], 3, axis=2) if is_grey else array[..., :3]


def _eight_of_sixteen_bits(grey: np.ndarray) -> np.ndarray:
    """Divides by 257 = 65535 / 255 and rounds."""
    return ((grey.astype(np.int32) + 128) // 257).astype(np.uint8)


def _convert(image: Image.Image) -> np.ndarray:
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Image.convert would clip values above 255 to white.
        return _eight_of_sixteen_bits(np.clip(np.asarray(image), 0, 65535))[..., None]
    image.info.pop("transparency", None)  # Image.convert warns when it drops the alpha of a palette
    return np.asarray(image.convert("RGB"))


def _check_size(
    width: int, height: int, name: str, max_pixels: int, file_bytes: int, pixels_at_most: float = math.inf
) -> None:
    if width * height > max_pixels:
        raise DamagedImage(name, f"{width} x {height} pixels are more than {max_pixels:,}")
    if width * height > min(pixels_at_most, max(_PIXELS_OF_ANY_FILE, _PIXELS_OF_A_BYTE * file_bytes)):
        raise DamagedImage(name, f"{file_bytes} bytes are too few for {width} x {height} pixels")


def _decode_by_pillow(data: bytes, name: str, max_pixels: int) -> np.ndarray:
    for read in _READERS.values():
        try:
            image = read(io.BytesIO(data))
            break
        except Image.DecompressionBombError as error:  # of the readers of GIF and WebP, whatever `max_pixels` is
            raise DamagedImage(name, str(error)) from None
        except Exception:  # SyntaxError: another format; OSError, ValueError, ...: a damaged header
            continue
    else:
        raise DamagedImage(name, f"not an image in any of the formats {', '.join(FORMATS)}")
    with image:
        _check_size(image.width, image.height, name, max_pixels, len(data))
        return to_rgb(image, name)


class PlainJpeg:
    """A JPEG file of which only the header has been read, so that its pixels are decoded only as far as needed.

    It is 8-bit RGB or greyscale, upright and complete; `open_image` returns it for such files only.

    Attributes:
      shape: height and width in pixels.
      nbytes: size of the file in bytes.
    """

    def __init__(self, data: bytes, name: str, header: "_Header"):
        self._data, self._name, self._header = data, name, header
        self.shape, self.nbytes = (header.height, header.width), len(data)

    def decode(self, bottom: int | None = None, factor: int = 1) -> tuple[np.ndarray, int]:
        """Decodes the rows above `bottom`, shrunk by `factor`. Releases the GIL.

        Args:
          bottom: number of rows of the whole image that are needed, from the top; more may be decoded. Default: all.
          factor: 1, 2, 4 or 8. The image is shrunk in the frequency domain, by leaving out high frequencies; pixel
            [i, j] of the result is approximately the mean of factor x factor pixels from [i * factor, j * factor] on.

        Returns:
          uint8 [rows, ceil(width / factor), 3], and the factor: 1 if shrinking is impossible or would lose colour.

        Raises:
          DamagedImage: the file cannot be decoded.
        """
        data, height, header = self._data, self.shape[0], self._header
        factor = factor if header.shrinks else 1
        if bottom is not None and header.rows_in_order:
            # A JPEG is stored from top to bottom: with a smaller height in its header the decoder stops early. Two
            # more rows are needed, because colour is stored at half the resolution and interpolated between rows.
            height = min(height, bottom + 2 * factor)
            at = header.height_at
            data = b"".join((memoryview(data)[:at], struct.pack(">H", height), memoryview(data)[at + 2 :]))
        pixels = np.empty((-(-height // factor), -(-self.shape[1] // factor), 3), np.uint8)
        if _fill(pixels, data, factor):
            return pixels, factor
        if header.rows_in_order:  # an error after the scan does not concern the pixels, whichever rows are needed
            end = _MARKER_IN_SCAN.search(data, header.scan_at)
            if end and _fill(pixels, data[: end.start()] + b"\xff\xd9", factor):
                return pixels, factor
        # Pillow also reads unusual samplings, or else says what is wrong.
        return _decode_by_pillow(header.without_metadata(self._data), self._name, math.prod(self.shape)), 1


def _fill(pixels: np.ndarray, data: bytes, factor: int) -> bool:
    """Decodes a JPEG, shrunk by `factor`, into `pixels`; returns whether all rows were decoded."""
    unwritten = _UNWRITTEN[: 3 * pixels.shape[1]]
    pixels[-1] = unwritten.reshape(-1, 3)
    smallest = {} if factor == 1 else {"min_height": pixels.shape[0], "min_width": pixels.shape[1]}
    try:
        # If strict, it refuses files with data after the last row. If not, it continues after a corrupt block, as
        # Pillow does, but does not report errors: it leaves the remaining rows unwritten.
        simplejpeg.decode_jpeg(data, min_factor=factor, strict=False, buffer=pixels, **smallest)
    except ValueError:
        return False
    return not np.array_equal(pixels[-1].reshape(-1), unwritten)


# Markers of ITU-T T.81, table B.1.
_START_OF_FRAME = range(0xFFC0, 0xFFD0)  # except the next three
_NO_FRAME = (0xFFC4, 0xFFC8, 0xFFCC)
# Minimum number of bits for a block of 8 x 8 pixels, by the frame's marker. A code has at least one bit; a block has
# one code for its first coefficient and, in a sequential scan, at least one for the others.
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xFFC0, 0xFFC1, 0xFFC2
_BLOCK_BITS = {_BASELINE: 2, _EXTENDED: 2, _PROGRESSIVE: 1}
_START_OF_SCAN, _APP0, _APP1, _APP14, _APP15, _COMMENT = 0xFFDA, 0xFFE0, 0xFFE1, 0xFFEE, 0xFFEF, 0xFFFE
_FILL = 0xFFFF
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not an escaped 0xFF, a restart or a fill byte
_LONGEST_SIDE = 65500  # JPEG_MAX_DIMENSION of libjpeg (jmorecfg.h)
_UNWRITTEN = np.random.default_rng(0).integers(0, 256, 3 * _LONGEST_SIDE, np.uint8)  # marks the last row
_USUAL_SCANS = 64  # at most (our choice; jpegtran's progressive files have 10)


@dataclasses.dataclass
class _Header:
    """The header of a JPEG file.

    Attributes:
      height: height in pixels.
      width: width in pixels.
      height_at: offset of the height in the file.
      pixels_at_most: maximum number of pixels in a file of this length.
      is_plain: whether the file is as `PlainJpeg` requires.
      shrinks: whether colour is stored at full resolution, or at half the resolution in both directions.
      rows_in_order: whether rows are stored once, one after another.
      scan_at: offset of the first scan's data.
      metadata: start and end of each segment that does not concern the pixels.
    """

    height: int
    width: int
    height_at: int
    pixels_at_most: int
    is_plain: bool
    shrinks: bool
    rows_in_order: bool
    scan_at: int
    metadata: list[tuple[int, int]]

    def without_metadata(self, data: bytes) -> bytes:
        """Returns the file without `metadata`: if these are odd, Pillow refuses the file."""
        kept, start = [], 0
        for begin, end in self.metadata:
            kept.append(data[start:begin])
            start = end
        return b"".join([*kept, data[start:]]) if kept else data


def _read_header(data: bytes) -> _Header | None:
    """Reads the segments of a JPEG's header; returns None for any other file and for a header it cannot interpret."""
    if data[:2] != b"\xff\xd8":
        return None
    at, upright, metadata = 2, True, []
    frame: Any = None
    try:
        while True:
            marker, length = struct.unpack_from(">HH", data, at)
            body = data[at + 4 : at + 2 + length]
            if marker == _FILL:
                length = -1
            elif marker == _START_OF_SCAN:
                break
            elif marker in _START_OF_FRAME and marker not in _NO_FRAME:
                frame, frame_at = (marker, *struct.unpack_from(">BHHB", body)), at
                # Colour stored at half the width only (4:2:2) would be shrunk twice.
                shrinks = frame[4] == 1 or body[7] in (0x11, 0x22)
            elif marker == _APP1:
                upright = upright and _is_upright(body)
            elif _APP0 <= marker <= _APP15 or marker == _COMMENT:
                # libjpeg reads only these two, if they have at least this length (jdmarker.c).
                if not (marker == _APP0 and body[:5] == b"JFIF\0" and len(body) >= 14) and not (
                    marker == _APP14 and body[:5] == b"Adobe" and len(body) >= 12
                ):
                    metadata.append((at, at + 2 + length))
            elif marker < _START_OF_FRAME.start:
                return None
            at += 2 + length
        kind, precision, height, width, components = frame
        in_one_scan = data[at + 4] == components
    except (struct.error, IndexError, TypeError):  # cut off, or without a frame
        return None
    if kind not in _BLOCK_BITS or not (height and width):  # a height of 0 is given after the first scan
        return None
    # Progressive files have all rows in each scan; other files may have one scan for each colour.
    rows_in_order = kind != _PROGRESSIVE and in_one_scan
    # Each scan takes time for all pixels, however few bytes it has: an unusual number of scans counts as more pixels.
    passes = 1 if rows_in_order else max(1, data.count(b"\xff\xda", at) / _USUAL_SCANS)
    return _Header(
        height=height,
        width=width,
        height_at=frame_at + 5,
        pixels_at_most=int(64 * 8 * len(data) / _BLOCK_BITS[kind] / passes),
        is_plain=precision == 8
        and components in (1, 3)
        and max(height, width) <= _LONGEST_SIDE
        and upright
        # Within a scan no other bytes look like the end marker, so a truncated file does not have it.
        and data.rfind(b"\xff\xd9", at + 2 + length) >= 0,
        shrinks=shrinks,
        rows_in_order=rows_in_order,
        scan_at=at + 2 + length,
        metadata=metadata,
    )


def _is_upright(segment: bytes) -> bool:
    """Returns whether EXIF or XMP data, the content of an APP1 segment, state no orientation but upright."""
    if segment.startswith(b"Exif\0\0"):
        exif = Image.Exif()
        try:
            exif.load(segment)
            return exif.get(ExifTags.Base.Orientation, 1) == 1
        except Exception:  # on damaged blocks Pillow raises SyntaxError, ValueError, struct.error, ...
            return False
    return re.search(rb'tiff:Orientation(="|>)[02-9]', segment) is None

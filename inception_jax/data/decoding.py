"""From the bytes of an image file to 8-bit RGB pixels."""

import contextlib
import io
import struct

import numpy as np
import simplejpeg

# Imported by name, so that `Image.open` finds every format of FORMATS registered and no thread has to load a plugin.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    GifImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

# A closed list: Pillow knows formats that have no business among training images (EPS would start Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class DamagedImage(Exception):
    """An image that cannot be decoded: `name` says which, `reason` says why."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)  # both in args, so that it survives pickling between processes
        self.name = name
        self.reason = reason

    def __str__(self):
        return f"{self.name}: {self.reason}"


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes an image file.

    Everything becomes upright 8-bit RGB: greyscale is repeated over the channels, palettes are looked up, CMYK and YCCK
    are converted (Adobe's inverted inks included), alpha is dropped without compositing (as TensorFlow and torchvision
    do), 16-bit greyscale is scaled by 1/257 and rounded, the EXIF orientation is applied, and of an animation the
    first frame is taken. Safe to call from many threads.

    Args:
      data: the content of a JPEG, PNG, WebP, BMP, GIF or TIFF file, whatever its suffix says.
      name: what to call the image in an error.

    Returns:
      uint8 [H, W, 3].

    Raises:
      DamagedImage: the data are empty, truncated, not an image, or so large that they look like a decompression bomb.
    """
    if not data:
        raise DamagedImage(name, "empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            # The pixels are good by now; a broken EXIF block is no reason to lose them.
            with contextlib.suppress(Exception):
                ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except UnidentifiedImageError:
        raise DamagedImage(name, f"not an image in any of the formats {', '.join(FORMATS)}") from None
    except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
        raise DamagedImage(name, str(error) or type(error).__name__) from error


class PlainJpeg:
    """A JPEG file whose header has been read and whose pixels have not, so that they are decoded only as needed.

    It is 8-bit RGB or greyscale, upright and not cut off; `open_image` makes one of such files alone. Its pixels are
    those of `decode_image`, bit by bit; but what is wrong below the rows that are decoded goes unnoticed.

    Attributes:
      shape: height and width in pixels.
    """

    def __init__(self, data: bytes, name: str, shape: tuple[int, int], height_at: int | None, shrinks: bool):
        self._data, self._name, self._height_at, self._shrinks = data, name, height_at, shrinks
        self.shape = shape

    def decode(self, bottom: int | None = None, factor: int = 1) -> tuple[np.ndarray, int]:
        """Decodes the rows above `bottom`, shrunk by `factor`. Releases the GIL.

        Args:
          bottom: at least the rows before this one of the whole image are decoded; all unless given.
          factor: 1, 2, 4 or 8. The image is shrunk in the frequency domain, by leaving out what a smaller image cannot
            show; pixel [i, j] of the result is the mean of about factor x factor pixels from [i * factor, j * factor].

        Returns:
          uint8 [rows, ceil(width / factor), 3], and the factor, 1 where shrinking is impossible or would cost colour.

        Raises:
          DamagedImage: as `decode_image`.
        """
        data, (height, width) = self._data, self.shape
        factor = factor if self._shrinks else 1
        if bottom is not None and self._height_at is not None:
            # A JPEG is stored from top to bottom: with a smaller height in its header the decoder stops there. Two
            # rows more, because colour, which is stored at half the resolution, is interpolated between rows.
            height = min(height, bottom + 2 * factor)
            at = self._height_at
            data = b"".join((memoryview(data)[:at], struct.pack(">H", height), memoryview(data)[at + 2 :]))
        smallest = {} if factor == 1 else {"min_height": -(-height // factor), "min_width": -(-width // factor)}
        try:
            # What follows the last row is superfluous to the decoder: not an error here.
            strict = height == self.shape[0]
            pixels = simplejpeg.decode_jpeg(data, min_factor=factor, strict=strict, **smallest)
        except ValueError:  # Pillow is the judge of what is damaged
            return decode_image(self._data, self._name), 1
        return pixels, factor


def open_image(data: bytes, name: str) -> PlainJpeg | np.ndarray:
    """Reads the header of a plain JPEG, decodes every other image at once; arguments and errors as `decode_image`."""
    try:
        plain = _plain_jpeg(data, name)
    except (struct.error, IndexError):
        plain = None
    return decode_image(data, name) if plain is None else plain


# Markers of ITU-T T.81, table B.1.
_START_OF_FRAME = range(0xFFC0, 0xFFD0)  # but for the three that are no frames
_NO_FRAME = (0xFFC4, 0xFFC8, 0xFFCC)
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xFFC0, 0xFFC1, 0xFFC2
_END_OF_IMAGE, _START_OF_SCAN, _APP1 = 0xFFD9, 0xFFDA, 0xFFE1


def _plain_jpeg(data: bytes, name: str) -> PlainJpeg | None:
    """Walks through the segments of a JPEG's header; None for whatever is not plain or not understood."""
    if data[:2] != b"\xff\xd8":
        return None
    at, frame = 2, None
    while True:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker in _START_OF_FRAME and marker not in _NO_FRAME:
            precision, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            if marker not in (_BASELINE, _EXTENDED, _PROGRESSIVE) or precision != 8 or components not in (1, 3):
                return None
            # Pillow has the last word on bombs; a height of 0 is given after the first scan.
            if not 0 < height * width <= Image.MAX_IMAGE_PIXELS:
                return None
            # Colour that is stored at half the width alone (4:2:2) would be shrunk twice.
            shrinks = components == 1 or data[at + 11] in (0x11, 0x22)
            frame = marker, at + 5, components, shrinks
        elif marker == _START_OF_SCAN:
            break
        elif marker < 0xFFC0 or (marker == _APP1 and not _is_upright(data)):
            return None
        at += 2 + length
    # Within a scan no other bytes look like the end of the image, so a truncated file does not have it.
    if frame is None or data.rfind(b"\xff\xd9", at) < 0:
        return None
    kind, height_at, components, shrinks = frame
    # Rows can be left out where they are stored once, one after another: in a single scan of all components.
    in_order = kind != _PROGRESSIVE and data[at + 4] == components
    return PlainJpeg(data, name, (height, width), height_at if in_order else None, shrinks)


def _is_upright(data: bytes) -> bool:
    """Whether EXIF and XMP tell no orientation but the usual one."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # on damaged files Pillow raises OSError, SyntaxError, ValueError, struct.error, ...
        return False


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined white")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Image.convert would clip all above 255 to white. 65535 / 257 = 255 exactly; adding 128 rounds to nearest.
        grey = np.clip(np.asarray(image), 0, 65535).astype(np.int32)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    image.info.pop("transparency", None)  # Image.convert warns of a palette with alpha when it drops it
    return np.array(image.convert("RGB"))

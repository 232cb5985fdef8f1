"""From the bytes of an image file to 8-bit RGB pixels."""

import contextlib
import io

import numpy as np

# Imported by name, so that `Image.open` finds every format of FORMATS registered and no thread has to load a plugin.
from PIL import (
    BmpImagePlugin,  # noqa: F401
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


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined white")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Image.convert would clip all above 255 to white. 65535 / 257 = 255 exactly; adding 128 rounds to nearest.
        grey = np.clip(np.asarray(image), 0, 65535).astype(np.int32)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    image.info.pop("transparency", None)  # Image.convert warns of a palette with alpha when it drops it
    return np.array(image.convert("RGB"))

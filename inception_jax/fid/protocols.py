"""How images become the input of the feature network: the protocols 'tf', 'pytorch_fid' and 'clean'.

A FID depends on how images are resized. So a protocol has a name, which stands beside each number and in each file of
statistics; numbers of different protocols must not be compared (docs/fid.md shows by how much they differ).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

_STEP = 128  # sides of a batch are padded to multiples of this, so that few shapes are compiled


class Samples(NamedTuple):
    """Where bilinear interpolation reads along one axis: value i is x[low[i]] + weight[i] * (x[high[i]] - x[low[i]]).

    Attributes:
      low: int32 [..., n].
      high: int32 [..., n].
      weight: float32 [..., n].
    """

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A way to resize images and to scale their values for the network of 2015.

    Attributes:
      name: one of `PROTOCOLS`.
      says: one line for reports.
      samples: (size, new size) to the positions of bilinear interpolation on the device; None: the host resizes.
      mean: subtracted from values of 0 to 255.
      std: values are then divided by it.
    """

    name: str
    says: str
    samples: Callable[[int, int], Samples] | None
    mean: float
    std: float


def tensorflow_samples(size: int, new: int) -> Samples:
    """Positions of TensorFlow 1's `resize_bilinear`: x = i * size / new, without half-pixel centres.

    Source: tensorflow/core/kernels/image/image_resizer_state.h (LegacyScaler), in float32.
    """
    return _samples(np.arange(new, dtype=np.float32) * np.float32(size / new), size)


def pytorch_samples(size: int, new: int) -> Samples:
    """Positions of PyTorch's `interpolate(mode='bilinear', align_corners=False)`: x = (i + 0.5) * size / new - 0.5.

    Source: aten/src/ATen/native/UpSample.h (area_pixel_compute_source_index), in float32.
    """
    half = np.float32(0.5)
    return _samples(np.maximum((np.arange(new, dtype=np.float32) + half) * np.float32(size / new) - half, 0), size)


def _samples(places: np.ndarray, size: int) -> Samples:
    low = np.minimum(np.floor(places).astype(np.int32), size - 1)
    return Samples(low, np.minimum(low + 1, size - 1), places - low.astype(np.float32))


PROTOCOLS = {
    each.name: each
    for each in (
        Protocol("tf", "TensorFlow 1 bilinear, (x - 128) / 128", tensorflow_samples, 128.0, 128.0),
        Protocol("pytorch_fid", "PyTorch bilinear, x / 127.5 - 1", pytorch_samples, 127.5, 127.5),
        Protocol("clean", "Pillow bicubic with antialiasing in float, (x - 128) / 128", None, 128.0, 128.0),
    )
}


class Canvases(NamedTuple):
    """Images of one batch, as they are sent to the device; or one image, without the dimension N.

    Attributes:
      pixels: uint8 [N, H, W, 3] with anything below and to the right of an image; float32 if the host has resized.
      rows: where to read rows, each field [N, size]; None if the host has resized.
      columns: the same for columns.
    """

    pixels: Any
    rows: Samples | None
    columns: Samples | None


def prepare(image: np.ndarray, protocol: Protocol, size: int) -> Canvases:
    """Prepares an image on the host.

    Interpolation without antialiasing reads at most 2 * size rows and columns. Of a larger image only these are kept.

    Args:
      image: uint8 [H, W, 3].
      protocol: how it is resized.
      size: height and width of the network's input.
    """
    if protocol.samples is None:
        return Canvases(resize_clean(image, size), None, None)
    rows, columns = (protocol.samples(side, size) for side in image.shape[:2])
    if image.shape[0] > 2 * size:
        image, rows = image[_read(rows)], _packed(rows)
    if image.shape[1] > 2 * size:
        image, columns = image[:, _read(columns)], _packed(columns)
    return Canvases(image, rows, columns)


def _read(samples: Samples) -> np.ndarray:
    return np.stack([samples.low, samples.high], axis=1).reshape(-1)


def _packed(samples: Samples) -> Samples:
    low = np.arange(0, 2 * len(samples.low), 2, dtype=np.int32)
    return Samples(low, low + 1, samples.weight)


def stack(images: Sequence[Canvases]) -> Canvases:
    """Makes one batch of images that may differ in size."""
    first = images[0].pixels.shape
    if all(image.pixels.shape == first for image in images):
        pixels = np.stack([image.pixels for image in images])
    else:
        sides = np.max([image.pixels.shape[:2] for image in images], axis=0)
        height, width = (math.ceil(side / _STEP) * _STEP for side in sides.tolist())
        pixels = np.zeros((len(images), height, width, 3), np.uint8)
        for canvas, image in zip(pixels, images, strict=True):
            canvas[: image.pixels.shape[0], : image.pixels.shape[1]] = image.pixels
    if images[0].rows is None:
        return Canvases(pixels, None, None)
    rows, columns = (
        Samples(*(np.stack(field) for field in zip(*(image[axis] for image in images), strict=True))) for axis in (1, 2)
    )
    return Canvases(pixels, rows, columns)


def resize(canvases: Canvases) -> jax.Array:
    """Interpolates a batch on the device, float32 [N, size, size, 3] with values of 0 to 255.

    Equal to the reference to a relative 1e-6: rows are interpolated before columns, which saves work.
    """
    pixels, rows, columns = canvases
    if rows is None or columns is None:
        return jnp.asarray(pixels, jnp.float32)

    def along_rows(image, samples):
        low, high = (image[places].astype(jnp.float32) for places in samples[:2])
        return low + samples.weight[:, None, None] * (high - low)

    def along_columns(image, samples):
        low, high = image[:, samples.low], image[:, samples.high]
        return low + samples.weight[:, None] * (high - low)

    return jax.vmap(along_columns)(jax.vmap(along_rows)(pixels, rows), columns)


def resize_clean(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes as clean-fid does: Pillow's bicubic filter on each channel in float32, clipped, not rounded.

    Source: Parmar et al. 2022, https://arxiv.org/abs/2104.11222; cleanfid/resize.py of GaParmar/clean-fid.

    Args:
      image: uint8 or float32 [H, W, 3], values of 0 to 255.
      size: new height and width.

    Returns:
      float32 [size, size, 3].
    """
    channels = (Image.fromarray(np.ascontiguousarray(image[..., channel], np.float32)) for channel in range(3))
    resized = [channel.resize((size, size), Image.Resampling.BICUBIC) for channel in channels]
    return np.stack([np.asarray(channel) for channel in resized], axis=-1).clip(0, 255)

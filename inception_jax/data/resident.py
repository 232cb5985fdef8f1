"""Small data sets, kept: in the host's memory, or on the device and cropped there.

The device crops as `crops` does on the host, but draws its own random numbers. They too depend on nothing but the seed
and the example's index in the stream, see `loader`. The same box gives the same pixels within one level of 255. There
are two exceptions: bicubic pixels where Pillow resizes the columns first, because its result is rounded and clipped in
between; and points on the border between two pixels, where rounding decides.
"""

import functools
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from inception_jax.data.crops import METHODS, CropConfig, Method
from inception_jax.data.decoding import DamagedImage, PlainJpeg
from inception_jax.data.loader import Batch, DamageReport, ProcessShard, in_order, read_ahead, read_image, rows
from inception_jax.data.sources import SourceWrapper
from inception_jax.errors import UserError
from inception_jax.parallel import REPLICATED, SPLIT, DataParallel
from inception_jax.runtime import host_memory

_CROP = 0x43524F50  # what the crops fold into the seed's key, which augmentation and dropout draw from too
_ATTEMPTS = 10  # as of `crops.sample_box`
_ROUNDING = 1e-3  # pixels; more than the errors of float32, which would move points on the border between two pixels
_PART = 64  # images that a thread decodes at once


class KeptSource(SourceWrapper):
    """A source that keeps in memory what the loader has read: decoded images, and plain JPEGs as their files.

    Batches are bit-for-bit those of the source. JPEGs are not kept as pixels, because `crops` decodes no more of them
    than it needs, and its result depends on that. Damaged images are read each time, as are those beyond a quarter of
    the machine's memory. Not for worker processes, of which each would keep all images.
    """

    def __init__(self, source, max_pixels: int):
        """Keeps nothing yet.

        Args:
          source: images, see `sources.Source`.
          max_pixels: an image of more pixels counts as damaged.
        """
        super().__init__(source)
        self._max_pixels = max_pixels
        self._kept: dict[int, tuple[np.ndarray | PlainJpeg, int]] = {}
        self._left = [host_memory() // 4]  # bytes; a list, which `read_ahead` shares

    def opened(self, index: int) -> tuple[np.ndarray | PlainJpeg, int]:
        """Returns what `loader.read_image` does; may raise DamagedImage."""
        if (found := self._kept.get(index)) is not None:
            return found
        image, label = read_image(self._source, index, self._max_pixels)
        if image.nbytes <= self._left[0]:
            self._left[0] -= image.nbytes
            self._kept[index] = image, label
        return image, label

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image, label = self.opened(range(len(self))[index])
        return image.decode()[0] if isinstance(image, PlainJpeg) else image, label

    def read_ahead(self, indices: Sequence[int]) -> "KeptSource":
        """Returns a source that has read these images at once, if they are in a bucket and not yet kept."""
        missing = [index for index in indices if index not in self._kept]
        ahead = KeptSource(read_ahead(self._source, missing) if missing else self._source, self._max_pixels)
        ahead._kept, ahead._left = self._kept, self._left
        return ahead


def read_all(source, crop_config: CropConfig, *, crops: bool, threads: int = 0, most: int | None = None) -> Batch:
    """Decodes a whole source.

    Args:
      source: images, see `sources.Source`.
      crop_config: says how images are cropped.
      crops: whether to keep the crops of evaluation, not the whole images.
      threads: number of decoding threads; 0: one per core.
      most: largest size of the result in bytes; None: any.

    Returns:
      'image', uint8 [N, H, W, 3], and 'label', int32 [N].

    Raises:
      UserError: an image is damaged, whole images differ in size, or the result would be too large.
    """
    labels = np.empty(len(source), np.int32)

    def read(ahead, index: int) -> np.ndarray:
        try:
            image, labels[index] = read_image(ahead, index, crop_config.max_pixels)
            if crops:
                out = np.empty((crop_config.size, crop_config.size, 3), np.uint8)
                crop_config.eval_crop(image, out)
                return out
            return image.decode()[0] if isinstance(image, PlainJpeg) else image
        except DamagedImage as error:
            raise UserError(f"{error.name} cannot be decoded ({error.reason}); repair or remove it") from None

    def load(part: int) -> tuple[None, list[DamagedImage]]:
        indices = range(part * _PART, min((part + 1) * _PART, len(source)))
        ahead = read_ahead(source, list(indices))
        for index in indices:
            image = read(ahead, index)
            if image.shape != shape[1:]:
                sizes = " and ".join(f"{width}x{height}" for height, width, _ in (shape[1:], image.shape))
                raise UserError(f"images of different sizes, such as {sizes}, cannot be kept as one array")
            images[index] = image
        return None, []

    shape = (len(source), *read(source, 0).shape)
    if most is not None and (size := int(np.prod(shape, dtype=np.int64))) > most:
        raise UserError(
            f"{shape[0]:,} images of {shape[2]}x{shape[1]} pixels take {size / 1e9:.3g} GB, more than half of the free "
            f"{2 * most / 1e9:.3g} GB"
        )
    images = np.empty(shape, np.uint8)
    for _ in in_order(load, range(-(-len(source) // _PART)), DamageReport(source), threads):
        pass
    return {"image": images, "label": labels}


def place(source, crop_config: CropConfig, parallel: DataParallel, *, crops: bool, threads: int = 0) -> dict[str, Any]:
    """Copies a whole source to every device.

    Args:
      source: images, see `sources.Source`.
      crop_config: says how images are cropped.
      parallel: the devices.
      crops: see `read_all`.
      threads: number of decoding threads; 0: one per core.

    Returns:
      What `read_all` returns, as arrays on every device.

    Raises:
      UserError: as `read_all`; more than half of the free memory of a device would be taken.
    """
    return parallel.replicate(read_all(source, crop_config, crops=crops, threads=threads, most=_free_memory() // 2))


def _free_memory() -> int:
    """Free memory in bytes of the device that has least; of a CPU, its part of the host's memory."""
    counted = [device.memory_stats() or {} for device in jax.local_devices()]
    of_host = host_memory() // len(counted)
    return min(one["bytes_limit"] - one["bytes_in_use"] if "bytes_limit" in one else of_host for one in counted)


def train_batches(
    resident: Mapping[str, Any],
    crop_config: CropConfig,
    parallel: DataParallel,
    *,
    seed: int,
    batch_size: int,
    first_step: int,
    last_step: int,
    shard: ProcessShard,
) -> Generator[dict[str, jax.Array]]:
    """Yields the batches for steps first_step ... last_step - 1, split over the devices.

    They are those of `loader.train_batches`, but for the random numbers of the crops.

    Args:
      resident: training images of `place`; crops if `crop_config.crop` is 'central', else whole images.
      crop_config: says how images are cropped.
      parallel: the devices.
      seed: seed of order and crops.
      batch_size: global batch size, over all processes.
      first_step: number of steps already done.
      last_step: length of the training in steps.
      shard: this process's part of each batch.
    """
    make = _maker(examples, parallel, crop_config)
    for step in range(first_step, last_step):
        positions = shard.positions(step, batch_size)
        batch = {
            "row": rows(len(resident["label"]), seed, positions),
            "index": np.array(positions).astype(np.uint32),
            "seed": np.full(len(positions), seed, np.uint32),
        }
        yield make(resident, parallel.shard(batch))


def eval_batches(
    resident: Mapping[str, Any], parallel: DataParallel, *, batch_size: int, shard: ProcessShard
) -> Generator[tuple[np.ndarray, dict[str, jax.Array]]]:
    """Yields the batches of `loader.eval_batches`, bit for bit.

    Args:
      resident: crops of `place`.
      parallel: the devices.
      batch_size: global batch size, over all processes.
      shard: this process's part of each batch.

    Yields:
      'position' of a batch, on the host, and all else of it, split over the devices.
    """
    count, make = len(resident["label"]), _maker(_eval_examples, parallel)
    for number in range(-(-count // batch_size)):
        positions = np.array(shard.positions(number, batch_size))
        positions = np.where(positions < count, positions, -1)
        yield positions, make(resident, parallel.shard({"row": positions.astype(np.int32)}))


@functools.cache  # compiled once in a process
def _maker(function, parallel: DataParallel, *options):
    return parallel.map(lambda resident, batch: function(resident, batch, *options), (REPLICATED, SPLIT), SPLIT)


def _eval_examples(resident, batch) -> dict[str, jax.Array]:
    mask = batch["row"] >= 0
    images, labels = resident["image"][batch["row"]], resident["label"][batch["row"]]
    return {
        "image": jnp.where(mask[:, None, None, None], images, 0),
        "label": jnp.where(mask, labels, 0),
        "mask": mask,
        "damaged": jnp.zeros_like(mask),
    }


def examples(resident, batch, crop_config: CropConfig) -> dict[str, jax.Array]:
    """Returns the training examples of a batch; runs on the device.

    Args:
      resident: what `read_all` returns; crops if `crop_config.crop` is 'central', else whole images.
      batch: 'row', int32 [n]: the images' indices in the source; 'index' and 'seed', uint32 [n], see
        `loader.train_batches`.
      crop_config: says how images are cropped.

    Returns:
      A batch of `loader.train_batches`: 'image', 'label', 'index', 'seed'.
    """
    images = resident["image"][batch["row"]]
    if crop_config.crop != "central":
        images = random_crops(images, batch["index"], jax.random.key(batch["seed"][0]), crop_config)
    return {
        "image": images,
        "label": resident["label"][batch["row"]],
        "index": batch["index"],
        "seed": batch["seed"],
    }


def random_crops(images: jax.Array, index: jax.Array, key: jax.Array, crop_config: CropConfig) -> jax.Array:
    """Cuts the random training crops of `CropConfig.train_crop`.

    Args:
      images: uint8 [N, H, W, 3].
      index: uint32 [N], each example's index in the stream of training examples.
      key: random key; each example draws from it and from its index.
      crop_config: a config whose crop is random.

    Returns:
      uint8 [N, size, size, 3].
    """
    key, (height, width) = jax.random.fold_in(key, _CROP), images.shape[1:3]
    size = crop_config.size

    def crop(image, index):
        box_key, method_key = jax.random.split(jax.random.fold_in(key, index))
        if crop_config.crop == "area":
            top, left, rows, columns = _draw_box(box_key, height, width, crop_config.area, crop_config.aspect)
            seen = (top, top + rows), (left, left + columns)
        else:
            top, left, rows, columns = _draw_window(box_key, height, width, crop_config)
            seen = (0, height), (0, width)
        method: int | jax.Array | None = None
        if crop_config.interpolation == "mixed":
            method = jax.random.randint(method_key, (), 0, len(METHODS))
        elif crop_config.interpolation == "bicubic":
            method = METHODS.index(Method.BICUBIC)
        return _resize(image, (top, left, rows, columns), seen, size, method)

    return jax.vmap(crop)(images, index)


def _resize(image: jax.Array, box, seen, size: int, method) -> jax.Array:
    """Resizes a box of an image, uint8 [H, W, 3], to uint8 [size, size, 3], as Pillow does.

    Args:
      image: the image.
      box: top, left, height and width in pixels, which may be fractions.
      seen: first and end of the rows and of the columns that have influence.
      size: height and width of the result.
      method: index into `crops.METHODS`, which may be traced; None: bilinear.
    """
    (top, left, height, width), ((first_row, end_row), (first_column, end_column)) = box, seen
    down = _weights(top, height, first_row, end_row, image.shape[0], size, method)
    across = _weights(left, width, first_column, end_column, image.shape[1], size, method)
    wide = _levels("hwc,jw->hjc", image.astype(jnp.float32), across)  # in Pillow's order, which rounds twice too
    return _levels("hjc,ih->ijc", wide, down).astype(jnp.uint8)


def _levels(subscripts: str, pixels: jax.Array, weights: jax.Array) -> jax.Array:
    # An accelerator's default precision has errors of more than a level.
    return jnp.clip(jnp.floor(jnp.einsum(subscripts, pixels, weights, precision=lax.Precision.HIGHEST) + 0.5), 0, 255)


def _draw_box(key, height: int, width: int, area: tuple[float, float], aspect: tuple[float, float]):
    """Draws a box as `crops.sample_box` does: the first of its attempts that fits, else the largest central box."""
    draws = jax.random.uniform(key, (4, _ATTEMPTS))
    target = (area[0] + (area[1] - area[0]) * draws[0]) * (height * width)
    low, high = np.log(aspect)
    ratio = jnp.exp(low + (high - low) * draws[1])
    columns, rows = jnp.round(jnp.sqrt(target * ratio)), jnp.round(jnp.sqrt(target / ratio))
    fits = (columns > 0) & (columns <= width) & (rows > 0) & (rows <= height)
    top = jnp.floor(draws[2] * (height - rows + 1))
    left = jnp.floor(draws[3] * (width - columns + 1))
    rest_rows, rest_columns = (
        max(1, min(height, round(width / aspect[0]))),
        max(1, min(width, round(height * aspect[1]))),
    )
    rest = ((height - rest_rows) // 2, (width - rest_columns) // 2, rest_rows, rest_columns)
    first = jnp.argmax(fits)
    return tuple(
        jnp.where(fits[first], x[first], other) for x, other in zip((top, left, rows, columns), rest, strict=True)
    )


def _draw_window(key, height: int, width: int, crop_config: CropConfig):
    """Draws a window of `crops.random_window`; returns its top, left, height and width in pixels of the image."""
    size, (least, most) = crop_config.size, crop_config.scale
    draws = jax.random.uniform(key, (3,))
    shorter = least + jnp.floor(draws[0] * (most - least + 1))
    ends = []
    for side, draw in zip((height, width), draws[1:], strict=True):
        resized = jnp.floor(shorter * side / min(height, width))
        within = shorter if crop_config.crop == "square" else resized
        start = jnp.round((resized - within) / 2) + jnp.floor(draw * (within - size + 1))
        ends.append((start * side / resized, size * side / resized))
    (top, rows), (left, columns) = ends
    return top, left, rows, columns


def _weights(start, length, first, end, count: int, size: int, method):
    """Returns Pillow's weights, float32 [size, count], that resample a line of `count` pixels to `size`.

    Args:
      start: where the part begins that becomes `size` pixels.
      length: its length.
      first: pixels before it have no influence.
      end: pixels from it on have no influence.
      count: number of pixels of the line.
      size: number of pixels of the result.
      method: index into `crops.METHODS`, which may be traced; None: bilinear.
    """
    scale = length / size
    centres = (start + (jnp.arange(size) + 0.5) * scale)[:, None]
    pixels = jnp.arange(count)[None]
    # Pillow widens its filters when an image shrinks.
    distance = (pixels + 0.5 - centres) / jnp.maximum(scale, 1.0)
    inside = (pixels >= first) & (pixels < end)

    def bilinear():
        return jnp.maximum(0.0, 1 - jnp.abs(distance))

    def box():
        return ((distance > -0.5 + _ROUNDING) & (distance <= 0.5 + _ROUNDING)).astype(jnp.float32)

    def nearest():
        return (pixels == jnp.floor(centres + _ROUNDING)).astype(jnp.float32)

    def bicubic():
        x = jnp.abs(distance)
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))

    weights = bilinear() if method is None else jnp.stack([bilinear(), box(), nearest(), bicubic()])[method]
    weights = jnp.where(inside, weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)

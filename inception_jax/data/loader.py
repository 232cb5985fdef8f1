"""Batches as a pure function of (seed, step).

Training reads one endless stream of examples: epoch after epoch, each in an order of its own. The stream's place
`index` decides which image it is and how it is cropped, so a run that starts at step k sees exactly what an
uninterrupted run sees from step k on, and the global batch is the same for any number of processes.
"""

import dataclasses
import threading
from collections.abc import Iterator

import grain
import numpy as np

from inception_jax.data import crops
from inception_jax.data.decoding import DamagedImage
from inception_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How an image becomes size x size pixels.

    Attributes:
      size: height and width of the network's input.
      resize: length of the shorter side before the central crop, in evaluation.
      area: share of the image's area that a training crop covers, (least, most).
      aspect: its width over its height, (least, most).
    """

    size: int
    resize: int
    area: tuple[float, float]
    aspect: tuple[float, float]


class DamageReport:
    """Images of one source that could not be decoded; more than 1 % of them stop the run."""

    def __init__(self, source):
        self._source = source
        self._reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, damaged: DamagedImage) -> None:
        """Notes one damaged image.

        Raises:
          UserError: they are now more than 1 % of the source; all are listed.
        """
        with self._lock:
            self._reasons[damaged.name] = damaged.reason
            if 100 * len(self._reasons) > len(self._source):
                listed = "\n".join(f"  {name}: {reason}" for name, reason in sorted(self._reasons.items()))
                raise UserError(
                    f"{len(self._reasons)} of {len(self._source)} images could not be decoded, which is more than 1 %; "
                    f"mend or remove them:\n{listed}"
                )

    def __len__(self) -> int:
        return len(self._reasons)

    def summary(self) -> str:
        """One line for each damaged image."""
        with self._lock:
            return "\n".join(f"skipped damaged {name}: {why}" for name, why in sorted(self._reasons.items()))


@dataclasses.dataclass(frozen=True)
class ProcessShare:
    """Which part of each global batch this process reads: rank `index` of `count`."""

    index: int = 0
    count: int = 1

    def positions(self, batch: int, batch_size: int) -> range:
        """The stream's places that this process reads for global batch number `batch`."""
        local = batch_size // self.count
        start = batch * batch_size + self.index * local
        return range(start, start + local)


def train_batches(
    source,
    geometry: Geometry,
    damage: DamageReport,
    *,
    seed: int,
    batch_size: int,
    first_step: int,
    last_step: int,
    share: ProcessShare,
    threads: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields this process's part of the batches of steps first_step ... last_step - 1.

    A batch is {'image': uint8 [n, size, size, 3], 'label': int32 [n], 'index': uint32 [n]}; index is the place in the
    stream, from which augmentation on the device draws. A damaged image is replaced by the one after it.

    Args:
      source: of images, see `sources`.
      geometry: of the crops.
      damage: where damaged images are noted.
      seed: of order and crops.
      batch_size: over all processes.
      first_step: number of steps that are done.
      last_step: length of training in steps.
      share: this process's.
      threads: that decode at once.
    """
    # Shuffled anew in each epoch; both the order and `order[position]` cost O(1).
    order = grain.MapDataset.source(range(len(source))).seed(seed).shuffle().repeat()

    def load(position: int) -> dict[str, np.ndarray]:
        image, label = _first_intact(source, int(order[position]), damage)
        rng = np.random.Generator(np.random.Philox(key=[seed, position]))
        image = crops.random_area_crop(image, rng, geometry.size, geometry.area, geometry.aspect)
        return {"image": image, "label": np.int32(label), "index": np.uint32(position % 2**32)}

    return _batches(load, range(first_step, last_step), batch_size, share, threads)


def eval_batches(
    source, geometry: Geometry, damage: DamageReport, *, batch_size: int, share: ProcessShare, threads: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yields this process's part of the batches that cover `source` once, in order, the last one padded.

    A batch is {'image': uint8 [n, size, size, 3], 'label': int32 [n], 'position': int64 [n], 'mask': bool [n],
    'damaged': bool [n]}. Padding and damaged images have mask False and position -1.
    """

    def load(position: int) -> dict[str, np.ndarray]:
        image, label, real = np.zeros((geometry.size, geometry.size, 3), np.uint8), 0, False
        if position < len(source):
            try:
                decoded, label = source[position]
                image, real = crops.resize_and_central_crop(decoded, geometry.size, geometry.resize), True
            except DamagedImage as damaged:
                damage.add(damaged)
        return {
            "image": image,
            "label": np.int32(label),
            "position": np.int64(position if real else -1),
            "mask": np.bool_(real),
            "damaged": np.bool_(position < len(source) and not real),
        }

    return _batches(load, range(-(-len(source) // batch_size)), batch_size, share, threads)


def _batches(load, batches: range, batch_size: int, share: ProcessShare, threads: int):
    local = batch_size // share.count

    def load_local(i: int):
        return load(share.positions(batches[i // local], batch_size)[i % local])

    dataset = grain.MapDataset.source(range(len(batches) * local)).map(load_local)
    # Two batches ahead of the one in work.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * local)
    return iter(dataset.to_iter_dataset(options).batch(local))


def _first_intact(source, index: int, damage: DamageReport):
    while True:
        try:
            return source[index]
        except DamagedImage as damaged:
            damage.add(damaged)
            index = (index + 1) % len(source)

"""Batches as a pure function of (seed, step).

Training reads one endless stream of examples: epoch after epoch, each in an order of its own. The stream's place
`index` decides which image it is and how it is cropped, so a run that starts at step k sees exactly what an
uninterrupted run sees from step k on, and the global batch is the same for any number of processes.
"""

import dataclasses
import functools
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from inception_jax.data import crops
from inception_jax.data.decoding import MAX_PIXELS, DamagedImage, PlainJpeg, open_image
from inception_jax.errors import UserError, choose
from inception_jax.runtime import available_cores

Batch = dict[str, np.ndarray]
_PATIENCE = 3.0  # seconds that what is being decoded may still take once nobody waits for it


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How an image becomes size x size pixels.

    Attributes:
      size: height and width of the network's input.
      resize: length of the shorter side before the central crop, in evaluation; if less than `size`, the rest is black.
      area: share of the image's area that a training crop 'area' covers, (least, most).
      aspect: its width over its height, (least, most).
      crop: the training crop. 'area': `crops.random_area_crop` (Inception); 'scale': `crops.random_window` (VGG);
        'square': the same within the central square (AlexNet); 'central': that of evaluation.
      scale: length of the shorter side before a training crop 'scale' or 'square', (least, most).
      interpolation: of random training crops: 'bilinear', or 'mixed': one of `crops.METHODS` for each image.
      max_pixels: an image of more counts as damaged.

    Raises:
      UserError: there is no such crop or interpolation, or a window of `size` does not fit into the least scale.
    """

    size: int
    resize: int
    area: tuple[float, float]
    aspect: tuple[float, float]
    crop: str = "area"
    scale: tuple[int, int] = (256, 256)
    interpolation: str = "bilinear"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        choose("crop", self.crop, dict.fromkeys(("area", "scale", "square", "central")))
        choose("interpolation", self.interpolation, dict.fromkeys(("bilinear", "mixed")))
        if self.crop in ("scale", "square") and self.scale[0] < self.size:
            raise UserError(
                f"cannot cut windows of {self.size} x {self.size} from images resized to {self.scale[0]} pixels "
                f"(crop={self.crop!r}, scale={tuple(self.scale)}): make data.scale at least data.image_size"
            )

    def train_crop(self, image: np.ndarray | PlainJpeg, rng: random.Random, out: np.ndarray) -> None:
        """Writes a training crop, drawn from `rng`, to `out`, uint8 [size, size, 3]; may raise DamagedImage."""
        mixed = self.interpolation == "mixed"
        match self.crop:
            case "area":
                crops.random_area_crop(image, rng, self.size, self.area, self.aspect, out, mixed)
            case "scale" | "square":
                crops.random_window(image, rng, self.size, self.scale, out, mixed, square=self.crop == "square")
            case "central":
                self.eval_crop(image, out)

    def eval_crop(self, image: np.ndarray | PlainJpeg, out: np.ndarray) -> None:
        """Writes the evaluation crop to `out`, uint8 [size, size, 3]; may raise DamagedImage."""
        crops.resize_and_central_crop(image, self.size, self.resize, out)


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
            if _too_many(self._reasons, self._source):
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


def _too_many(damaged, source) -> bool:
    return 100 * len(damaged) > len(source)


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
    processes: int = 0,
    place: Callable[[Batch], Any] = lambda batch: batch,
) -> Iterator[Any]:
    """Yields this process's part of the batches of steps first_step ... last_step - 1.

    A batch is {'image': uint8 [n, size, size, 3], 'label': int32 [n], 'index': uint32 [n], 'seed': uint32 [n]}; index
    is the place in the stream, from which, with the seed, augmentation on the device draws. A damaged image is replaced
    by the one after it. Closing the generator ends its threads and processes.

    Args:
      source: of images, see `sources`.
      geometry: of the crops.
      damage: where damaged images are noted.
      seed: of order and crops.
      batch_size: over all processes.
      first_step: number of steps that are done.
      last_step: length of training in steps.
      share: this process's.
      threads: that decode at once, a batch each; 0: one for each core.
      processes: workers over which the threads are spread; 0: none but this process; -1: see `worker_processes`.
      place: is applied to each batch ahead of its use, in a thread of its own, as for the transfer to a device.

    Raises:
      UserError: more than 1 % of the images are damaged, or there is too little shared memory for `processes`.
    """
    processes = worker_processes(processes, batch_size // share.count * geometry.size**2 * 3)

    def load(step: int) -> tuple[Batch, list[DamagedImage]]:
        places, damaged = share.positions(step, batch_size), {}
        images, labels = _empty(len(places), geometry.size), np.empty(len(places), np.int32)
        batch = {"image": images, "label": labels, "index": np.array(places).astype(np.uint32)}
        batch["seed"] = np.full(len(places), seed, np.uint32)
        for slot, position in enumerate(places):
            rng = random.Random(seed << 64 | position)  # NumPy's take ten times as long to set up
            epoch, place = divmod(position, len(source))
            index = int(_order(len(source), seed, epoch)[place])
            while True:
                try:
                    image, labels[slot] = read_image(source, index, geometry.max_pixels)
                    geometry.train_crop(image, rng, images[slot])
                    break
                except DamagedImage as error:
                    damaged[error.name] = error
                    if _too_many(damaged, source):  # the report stops the run, so the batch may stay as it is
                        return batch, list(damaged.values())
                    index = (index + 1) % len(source)
        return batch, list(damaged.values())

    return in_order(load, range(first_step, last_step), damage, threads, processes, place)


def eval_batches(
    source,
    geometry: Geometry,
    damage: DamageReport,
    *,
    batch_size: int,
    share: ProcessShare,
    threads: int,
    place: Callable[[Batch], Any] = lambda batch: batch,
) -> Iterator[Any]:
    """Yields this process's part of the batches that cover `source` once, in order, the last one padded.

    A batch is {'image': uint8 [n, size, size, 3], 'label': int32 [n], 'position': int64 [n], 'mask': bool [n],
    'damaged': bool [n]}. Padding and damaged images have mask False and position -1. The rest is as in `train_batches`;
    there are no worker processes, because starting them takes longer than most evaluations gain.
    """

    def load(number: int) -> tuple[Batch, list[DamagedImage]]:
        places = np.array(share.positions(number, batch_size))
        images, labels, damaged = _empty(len(places), geometry.size), np.zeros(len(places), np.int32), []
        real = places < len(source)
        mask = real.copy()
        for slot in np.flatnonzero(real):
            try:
                image, labels[slot] = read_image(source, int(places[slot]), geometry.max_pixels)
                geometry.eval_crop(image, images[slot])
            except DamagedImage as error:
                damaged.append(error)
                mask[slot] = False
        images[~mask], labels[~mask] = 0, 0
        positions = np.where(mask, places, -1)
        batch = {"image": images, "label": labels, "position": positions, "mask": mask, "damaged": real & ~mask}
        return batch, damaged

    return in_order(load, range(-(-len(source) // batch_size)), damage, threads, place=place)


def worker_processes(wanted: int, batch_bytes: int) -> int:
    """Returns the number of worker processes, `wanted` unless that is -1.

    Then it is one for every 8 cores from 16 up, else none: of the time that an image takes (1.2 ms for 500 x 375
    pixels) a thread is inside Python for about 0.07, so some 16 threads fill one process. There are none either if
    shared memory, in which their batches travel, is short, as in containers.

    Raises:
      UserError: there is too little shared memory for the number that is wanted.
    """
    processes = available_cores() // 8 if wanted < 0 and available_cores() >= 16 else max(0, wanted)
    if not processes or not os.path.isdir("/dev/shm"):  # only Linux limits it so
        return processes
    memory = os.statvfs("/dev/shm")
    needed = (4 * processes + 4) * batch_bytes  # in work, in each worker's queue, and on the way to the device
    if needed <= (free := memory.f_bavail * memory.f_frsize):
        return processes
    if wanted < 0:
        return 0
    raise UserError(
        f"config.data.processes={wanted} needs {needed >> 20} MiB of shared memory and /dev/shm has {free >> 20}; "
        "enlarge it (docker run --shm-size) or set config.data.processes=0"
    )


def _empty(count: int, size: int) -> np.ndarray:
    return np.empty((count, size, size, 3), np.uint8)


@functools.lru_cache(2)  # batches of two epochs may be in work
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    # Grain's shuffle needs no memory, but 0.06 ms an image of every thread's time: a twentieth of all.
    return np.random.default_rng((seed, epoch)).permutation(np.arange(count, dtype=np.uint32))


def read_image(source, index: int, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray | PlainJpeg, int]:
    """Returns an image, decoded no further than needed, and its label; or raises DamagedImage."""
    if not hasattr(source, "encoded"):
        return source[index]
    data, label = source.encoded(index)
    return open_image(data, source.name(index), max_pixels), label


def whole_image(source, index: int, max_pixels: int) -> np.ndarray | None:
    """Returns an image for a person to see, uint8 [H, W, 3]; None if it is damaged."""
    try:
        image, _ = read_image(source, index, max_pixels)
        return image.decode()[0] if isinstance(image, PlainJpeg) else image
    except DamagedImage:
        return None


def in_order(
    load: Callable[[int], tuple[Any, list[DamagedImage]]],
    numbers: range,
    damage: DamageReport,
    threads: int,
    processes: int = 0,
    place: Callable[[Any], Any] = lambda batch: batch,
) -> Iterator[Any]:
    """Yields place(batch) of each (batch, damaged images) = load(number), in order; arguments as `train_batches`."""
    threads = max(1, (threads or available_cores()) // max(1, processes))
    # A batch is the work of one thread, made in one piece of memory that nobody writes to again: JAX on a CPU reads it
    # where it lies.
    # One more than are in work, so that the thread which ends first need not wait for the one whose batch is next.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    dataset = grain.MapDataset.source(numbers).map(load).to_iter_dataset(options)
    if processes:
        if not flags.FLAGS.is_parsed():  # Grain asks for flags of its own, also where there is no command line
            flags.FLAGS.mark_as_parsed()
        workers = grain.MultiprocessingOptions(num_workers=processes, per_worker_buffer_size=1)
        dataset = dataset.mp_prefetch(workers, worker_init_fn=_start_worker).map(_leave_shared_memory)
    dataset = dataset.map(lambda loaded: (place(loaded[0]), loaded[1]))
    batches = iter(grain.experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=1))
    try:
        for batch, damaged in batches:
            for image in damaged:
                damage.add(image)
            yield batch
    finally:
        # Not without end: a thread may be reading what never comes, from a file system that hangs.
        closing = threading.Thread(target=batches.close, daemon=True)
        closing.start()
        closing.join(_PATIENCE)


def _leave_shared_memory(loaded: tuple[Batch, list[DamagedImage]]) -> tuple[Batch, list[DamagedImage]]:
    # JAX may hold on to a batch for long, and at the interpreter's end Grain cannot free what is still held.
    batch, damaged = loaded
    return {key: np.array(value) for key, value in batch.items()}, damaged


def _start_worker(index: int, count: int) -> None:  # noqa: ARG001 (Grain's signature)
    """Leaves signals to the parent, and ends with it, however it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()

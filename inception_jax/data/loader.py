"""Batches as a pure function of (seed, step).

Training reads one endless stream of examples, epoch after epoch, each epoch in its own random order. An example's index
in the stream decides which image it is and how it is cropped. So a run that starts at step k sees exactly what an
uninterrupted run sees from step k on, and the global batch is the same for any number of processes.
"""

import dataclasses
import functools
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from inception_jax.data.box_targets import MOST_BOXES, boxes_of, edges_in_crop, frame_in_crop, largest, target_of
from inception_jax.data.crops import CropConfig, Region
from inception_jax.data.decoding import DamagedImage, PlainJpeg, open_image
from inception_jax.errors import UserError
from inception_jax.runtime import available_cores

Batch = dict[str, np.ndarray]
_HOPELESS = 100  # damaged images met in one batch after which it is not completed, or 2 % of the source if that is more
_PATIENCE = 3.0  # seconds to wait for running threads when the batches are closed


class DamageReport:
    """Collects the images of a source that could not be decoded; more than 1 % of them stop the run.

    Not for several threads: only whoever consumes batches adds to it.
    """

    def __init__(self, source, stops: bool = True):
        """Begins without damage.

        Args:
          source: the images.
          stops: whether `add` raises an error. One of several processes must not stop alone: it asks for `error`.
        """
        self._source, self._stops = source, stops
        self._reasons: dict[str, str] = {}

    def add(self, damaged: DamagedImage) -> None:
        """Adds one damaged image; raises `error` if there is one and this report stops the run."""
        self._reasons[damaged.name] = damaged.reason
        if self._stops and (error := self.error()):
            raise error

    def error(self) -> UserError | None:
        """Returns an error that lists the damaged images if they are more than 1 % of the source; else None."""
        if 100 * len(self._reasons) <= len(self._source):
            return None
        listed = "\n".join(f"  {name}: {reason}" for name, reason in sorted(self._reasons.items()))
        return UserError(
            f"{len(self._reasons)} of {len(self._source)} images could not be decoded, which is more than 1 %; "
            f"repair or remove them:\n{listed}"
        )

    def __len__(self) -> int:
        return len(self._reasons)

    def summary(self) -> str:
        """Returns one line for each damaged image."""
        return "\n".join(f"skipped damaged {name}: {why}" for name, why in sorted(self._reasons.items()))


@dataclasses.dataclass(frozen=True)
class ProcessShard:
    """Says which part of each global batch this process reads: part `index` of `count`."""

    index: int = 0
    count: int = 1

    def positions(self, batch: int, batch_size: int) -> range:
        """Returns the indices in the stream that this process reads for the global batch with number `batch`."""
        local = batch_size // self.count
        start = batch * batch_size + self.index * local
        return range(start, start + local)


def train_batches(
    source,
    crop_config: CropConfig,
    damage: DamageReport,
    *,
    seed: int,
    batch_size: int,
    first_step: int,
    last_step: int,
    shard: ProcessShard,
    threads: int,
    processes: int = 0,
    boxes: bool = False,
    to_device: Callable[[Batch], Any] = lambda batch: batch,
) -> Generator[Any]:
    """Yields this process's part of the batches for steps first_step ... last_step - 1.

    A batch is {'image': uint8 [n, size, size, 3], 'label': int32 [n], 'index': uint32 [n], 'seed': uint32 [n]}. `index`
    is the index in the stream; augmentation on the device draws from it and the seed. A damaged image is replaced by
    the next one. Closing the generator ends its threads and processes. With `boxes` it also has 'box', float32 [n, 4],
    see `box_targets.target_of`.

    Args:
      source: training images, see `sources.Source`.
      crop_config: says how images are cropped.
      damage: collects damaged images.
      seed: seed of order and crops.
      batch_size: global batch size, over all processes.
      first_step: number of steps already done.
      last_step: length of the training in steps.
      shard: this process's part of each batch.
      threads: number of decoding threads, each working on its own batch; 0: one per core.
      processes: number of worker processes that share the threads; 0: only this process; -1: see `worker_processes`.
      boxes: whether a batch has the images' boxes.
      to_device: applied to each batch before it is needed, in a separate thread.

    Raises:
      UserError: more than 1 % of the images are damaged, shared memory is too small for `processes`, or an image has no
        box.
    """
    processes = worker_processes(processes, batch_size // shard.count * crop_config.size**2 * 3)

    def load(step: int) -> tuple[Batch, list[DamagedImage]]:
        positions = shard.positions(step, batch_size)
        damaged: dict[str, DamagedImage] = {}
        images, labels = _empty(len(positions), crop_config.size), np.empty(len(positions), np.int32)
        batch = {"image": images, "label": labels, "index": np.array(positions).astype(np.uint32)}
        batch["seed"] = np.full(len(positions), seed, np.uint32)
        if boxes:
            batch["box"] = np.empty((len(positions), 4), np.float32)
        indices = rows(len(source), seed, positions).tolist()
        ahead = read_ahead(source, indices)
        for slot, (position, index) in enumerate(zip(positions, indices, strict=True)):
            example = _crop_example(ahead, index, crop_config, seed, position, images[slot], damaged)
            if example is None:
                return {}, list(damaged.values())  # on which `in_order` stops
            index, labels[slot], region = example
            if boxes:
                batch["box"][slot] = target_of(edges_in_crop(boxes_of(ahead, index), region), crop_config.size)
        return batch, list(damaged.values())

    return in_order(load, range(first_step, last_step), damage, threads, processes, to_device)


def train_names(source, crop_config: CropConfig, *, seed: int, batch_size: int, step: int) -> list[str]:
    """Returns the names of the images in the global batch after `step` steps, in order, see `train_batches`.

    It decodes them, because a damaged image is replaced by the next one.
    """
    names: list[str] = []
    damaged: dict[str, DamagedImage] = {}
    positions = ProcessShard().positions(step, batch_size)
    for position, index in zip(positions, rows(len(source), seed, positions).tolist(), strict=True):
        example = _crop_example(source, index, crop_config, seed, position, _empty(1, crop_config.size)[0], damaged)
        if example is None:
            break
        names.append(source.name(example[0]))
    return names


def _crop_example(
    source,
    index: int,
    crop_config: CropConfig,
    seed: int,
    position: int,
    crop: np.ndarray,
    damaged: dict[str, DamagedImage],
) -> tuple[int, int, Region] | None:
    """Writes the example at `position` of the stream into `crop`; adds the damaged images that it passes to `damaged`.

    `index` is its image's in the source, see `rows`; the next ones replace a damaged image.

    Returns:
      The image's index in the source, its label, and what the crop shows; None if too many images are damaged.
    """
    rng = random.Random(seed << 64 | position)  # NumPy's generators take ten times as long to create
    while True:
        try:
            image, label = read_image(source, index, crop_config.max_pixels)
            return index, label, crop_config.train_crop(image, rng, crop)
        except DamagedImage as error:
            damaged[error.name] = error
            if len(damaged) >= min(len(source), max(_HOPELESS, len(source) // 50)):
                return None
            index = (index + 1) % len(source)


def eval_batches(
    source,
    crop_config: CropConfig,
    damage: DamageReport,
    *,
    batch_size: int,
    shard: ProcessShard,
    threads: int,
    boxes: bool = False,
    to_device: Callable[[Batch], Any] = lambda batch: batch,
) -> Generator[Any]:
    """Yields this process's part of the batches that cover `source` once, in order; the last one is padded.

    A batch is {'image': uint8 [n, size, size, 3], 'label': int32 [n], 'position': int64 [n], 'mask': bool [n],
    'damaged': bool [n]}. `position` is the index in the source. Padding and damaged images have mask False and
    position -1. Arguments are those of `train_batches`. There are no worker processes: starting them takes longer than
    most evaluations gain.

    With `boxes` it also has 'box' of the training batches; 'boxes', float32 [n, MOST_BOXES, 4], and 'frame', float32
    [n, 4]: all boxes and the image's edges in the crop, see `box_targets`. They are not clipped.
    """

    def load(number: int) -> tuple[Batch, list[DamagedImage]]:
        positions = np.array(shard.positions(number, batch_size))
        images, labels, damaged = _empty(len(positions), crop_config.size), np.zeros(len(positions), np.int32), []
        real = positions < len(source)
        mask = real.copy()
        truth: Batch = {}
        if boxes:
            shapes = {"box": (4,), "boxes": (MOST_BOXES, 4), "frame": (4,)}
            truth = {name: np.zeros((len(positions), *shape), np.float32) for name, shape in shapes.items()}
        ahead = read_ahead(source, positions[real].tolist())
        for slot in np.flatnonzero(real):
            try:
                image, labels[slot] = read_image(ahead, int(positions[slot]), crop_config.max_pixels)
                region = crop_config.eval_crop(image, images[slot])
                if boxes:
                    edges = edges_in_crop(boxes_of(ahead, int(positions[slot])), region)
                    truth["box"][slot] = target_of(edges, crop_config.size)
                    truth["boxes"][slot], truth["frame"][slot] = largest(edges), frame_in_crop(image.shape, region)
            except DamagedImage as error:
                damaged.append(error)
                mask[slot] = False
        images[~mask], labels[~mask] = 0, 0
        positions = np.where(mask, positions, -1)
        batch = {"image": images, "label": labels, "position": positions, "mask": mask, "damaged": real & ~mask}
        return batch | truth, damaged

    return in_order(load, range(-(-len(source) // batch_size)), damage, threads, to_device=to_device)


def worker_processes(processes: int, batch_bytes: int) -> int:
    """Returns the number of worker processes: `processes`, unless that is -1.

    For -1 it is one per 8 cores on machines with at least 16 cores, else 0. An image of 500 x 375 pixels takes 1.2 ms,
    of which a thread spends about 0.07 ms inside Python, so some 16 threads saturate one process. It is also 0 if
    shared memory, through which batches travel, is too small, as in many containers.

    Args:
      processes: number wanted, or -1.
      batch_bytes: size of this process's part of a batch.

    Raises:
      UserError: shared memory is too small for the number wanted.
    """
    wanted = processes
    if processes < 0:
        wanted = available_cores() // 8 if available_cores() >= 16 else 0
    if not wanted or not os.path.isdir("/dev/shm"):  # only Linux has a limit
        return wanted
    memory = os.statvfs("/dev/shm")
    needed = (4 * wanted + 4) * batch_bytes  # in work, in each worker's queue, and on the way to the device
    if needed <= (free := memory.f_bavail * memory.f_frsize):
        return wanted
    if processes < 0:
        return 0
    raise UserError(
        f"processes={processes} needs {needed >> 20} MiB of shared memory, but /dev/shm has {free >> 20} MiB; "
        "enlarge it (docker run --shm-size) or set processes to 0"
    )


def _empty(count: int, size: int) -> np.ndarray:
    return np.empty((count, size, size, 3), np.uint8)


def rows(count: int, seed: int, positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns which images of a source are at some positions of the stream of training examples.

    Args:
      count: number of images of the source.
      seed: seed of the order.
      positions: indices in the stream.

    Returns:
      int32 array as long as `positions`, indices in the source.
    """
    epochs, places = np.divmod(np.asarray(positions, np.int64), count)
    found = np.empty(len(epochs), np.int32)
    for epoch in np.unique(epochs).tolist():
        found[epochs == epoch] = _order(count, seed, epoch)[places[epochs == epoch]]
    return found


def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return _orders(count, seed)(epoch)


@functools.lru_cache(64)  # runs of several seeds may be trained in turn
def _orders(count: int, seed: int) -> Callable[[int], np.ndarray]:
    @functools.lru_cache(2)  # two epochs may be in work at once
    def order(epoch: int) -> np.ndarray:
        # Grain's shuffle needs no memory, but takes 0.06 ms per image, a twentieth of a thread's time.
        return np.random.default_rng((seed, epoch)).permutation(np.arange(count, dtype=np.uint32))

    return order


def read_ahead(source, indices: list[int]):
    """Returns the source, or one that has read these images at once, if they are in a bucket."""
    return source.read_ahead(indices) if hasattr(source, "read_ahead") else source


def read_image(source, index: int, max_pixels: int) -> tuple[np.ndarray | PlainJpeg, int]:
    """Returns an image, a plain JPEG not yet decoded, and its label; may raise DamagedImage."""
    if hasattr(source, "opened"):
        return source.opened(index)
    if not hasattr(source, "encoded"):
        return source[index]
    data, label = source.encoded(index)
    return open_image(data, source.name(index), max_pixels), label


def whole_image(source, index: int, max_pixels: int) -> np.ndarray | None:
    """Returns a decoded image, uint8 [H, W, 3], or None if it is damaged."""
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
    to_device: Callable[[Any], Any] = lambda batch: batch,
) -> Generator[Any]:
    """Yields to_device(batch) for each number of `numbers`, in order, where (batch, damaged images) = load(number).

    Damaged images are added to `damage`. The other arguments are those of `train_batches`.
    """
    threads = max(1, (threads or available_cores()) // max(1, processes))
    # One thread makes a batch, in one piece of memory that is never written again: JAX on a CPU reads it in place.
    # The buffer has one more place than threads, so that the first to finish need not wait for the next batch's thread.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    dataset = grain.MapDataset.source(numbers).map(load).to_iter_dataset(options)
    if processes:
        if not flags.FLAGS.is_parsed():  # Grain reads flags of its own, even without a command line
            flags.FLAGS.mark_as_parsed()
        workers = grain.MultiprocessingOptions(num_workers=processes, per_worker_buffer_size=1)
        dataset = dataset.mp_prefetch(workers, worker_init_fn=_start_worker).map(_leave_shared_memory)
    dataset = dataset.map(lambda loaded: (to_device(loaded[0]), loaded[1]))
    batches = iter(grain.experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=1))
    try:
        for batch, damaged in batches:
            for image in damaged:
                damage.add(image)
            if damaged and not batch and (error := damage.error()):
                raise error
            yield batch
    finally:
        # Wait for a limited time only: a thread may hang in a file system.
        closing = threading.Thread(target=batches.close, daemon=True)
        closing.start()
        closing.join(_PATIENCE)


def _leave_shared_memory(loaded: tuple[Batch, list[DamagedImage]]) -> tuple[Batch, list[DamagedImage]]:
    # JAX may keep a batch for long, and Grain cannot free memory that is still held when the interpreter exits.
    batch, damaged = loaded
    return {key: np.array(value) for key, value in batch.items()}, damaged


def _start_worker(index: int, count: int) -> None:  # noqa: ARG001 (Grain's signature)
    """Leaves signals to the parent process, and ends when it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    parent: Any = multiprocessing.parent_process()

    def follow():
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()

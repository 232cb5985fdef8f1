"""Scores of a split's images by a protocol, cached on disk so that no forward pass is made twice.

The unit is a chunk: consecutive images of the split, whose scores are one file. A stopped evaluation computes only the
missing chunks, whatever the number of processes, devices or the batch size. Processes take chunks in turn, and each
computes on its own devices.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.data import loader
from inception_jax.data.decoding import DamagedImage
from inception_jax.errors import UserError
from inception_jax.evaluation.protocols import Canvas, Protocol
from inception_jax.parallel import REPLICATED, SPLIT
from inception_jax.runs.classifier import Classifier, softmax

_WINDOWS_OF_A_CHUNK = 4096  # at most about a minute on a GPU

# Ways to combine windows and networks, and the field of `Scores` that each needs.
AGGREGATES = {"probabilities": "mean_probability", "logits": "mean_logit", "max": "largest_probability"}


@dataclasses.dataclass(frozen=True)
class Scores:
    """Outputs of a network for each image, combined over its windows.

    Attributes:
      labels: int32 [n]; -1 if the image could not be decoded.
      names: str [n], names of the images' files; '' for an image without a file.
      damaged: str [n], name of the image and why it could not be decoded; else ''.
      mean_probability: float32 [n, K].
      mean_logit: float32 [n, K].
      largest_probability: float32 [n, K].
    """

    labels: np.ndarray
    names: np.ndarray
    damaged: np.ndarray
    mean_probability: np.ndarray
    mean_logit: np.ndarray
    largest_probability: np.ndarray


def combine(members: Iterable[np.ndarray], aggregate: str) -> np.ndarray:
    """Returns the probabilities of an ensemble of one or more networks, float32 [n, K].

    Args:
      members: `Store.read(AGGREGATES[aggregate])` of each network, for the same images.
      aggregate: how windows and networks are combined, all with the same weight. 'probabilities': their mean
        (GoogLeNet, section 7); 'logits': the softmax of their mean; 'max': the largest probability of each class,
        divided by their sum.
    """
    total: Any = None
    count = 0
    for member in members:  # one at a time in memory
        count += 1
        if aggregate == "max":
            total = member if total is None else np.maximum(total, member)
        else:  # in float64, so that the order of the members does not matter
            total = member.astype(np.float64) if total is None else total + member
    if aggregate == "max":
        return total / total.sum(axis=-1, keepdims=True)
    mean = (total / count).astype(np.float32)
    return softmax(mean) if aggregate == "logits" else mean


class Scorer:
    """Runs a network on windows of images, on all devices of this process.

    The network sees the windows of several images as one stream, in batches of one size. So it is compiled once for all
    protocols but 'dense', for which it is compiled for each shape.
    """

    def __init__(self, classifier: Classifier, parallel, batch_size: int, outputs: np.ndarray):
        """Puts the weights on the devices.

        Args:
          classifier: the network.
          parallel: the `DataParallel` of this process's devices.
          batch_size: approximate number of windows in one forward pass, over all these devices.
          outputs: int [K], the network's output for each class of the labels.
        """
        self.classes, self.max_pixels = len(outputs), classifier.crop_config.max_pixels
        self._classifier, self._parallel, self._outputs = classifier, parallel, outputs
        self._step = max(1, batch_size // parallel.device_count)
        self._variables = parallel.replicate(classifier.variables)

    def images(self, protocol: Protocol) -> int:
        """Returns the largest number of images that `begin` takes."""
        return self._images(protocol) * self._parallel.device_count

    def begin(self, protocol: Protocol, images: Sequence[list[Canvas]]) -> Callable[[], np.ndarray]:
        """Starts to compute the logits of at most `self.images(protocol)` images.

        Args:
          protocol: whose windows the network sees.
          images: canvases of each image; for 'dense' of the same shapes.

        Returns:
          A function that waits for the logits and returns them, float32 [n, windows, K].

        Raises:
          UserError: the protocol is 'dense', and the network takes images of one size only.
        """
        at_once, count, devices = self.images(protocol), len(images), self._parallel.device_count
        filled = [*images, *[images[0]] * (at_once - count)]
        slots = list(zip(*filled, strict=True))  # by place among an image's canvases
        forward = self._forward(protocol.is_dense)
        if protocol.is_dense:
            pixels = [np.stack([canvas.pixels for canvas in slot]) for slot in slots]
            batches = [self._mirror(self._parallel.shard(canvases)) for canvases in pixels]
        else:
            pairs = tuple((_stack(slot), np.stack([canvas.corners for canvas in slot])) for slot in slots)
            batches = self._cut(protocol.mirrors)(self._parallel.shard(pairs))
            # The first device has the most images; what follows them is padding.
            batches = batches[: -(-min(count, self._images(protocol)) * protocol.windows // self._step)]
        begun = [forward(self._variables, batch) for batch in batches]

        def finish() -> np.ndarray:
            # Each device has its windows in order; dense ones come as pairs of a canvas and its mirror image.
            parts = [np.asarray(logits).reshape(devices, -1, self.classes) for logits in begun]
            if protocol.is_dense:
                return np.concatenate([part.reshape(at_once, -1, self.classes) for part in parts], axis=1)[:count]
            windows = np.concatenate(parts, axis=1)
            windows = windows[:, : windows.shape[1] // protocol.windows * protocol.windows]
            return windows.reshape(-1, protocol.windows, self.classes)[:count]

        return finish

    def _images(self, protocol: Protocol) -> int:
        """Number of images per device."""
        if protocol.is_dense:  # canvases are larger than a window, and few have the same shape
            return max(1, self._step // 8)
        return _images_at_once(protocol.windows, self._step)

    @functools.cached_property
    def _mirror(self) -> Callable:
        return self._parallel.map(lambda canvases: _in_a_row([canvases[:, None]], mirrors=True), (SPLIT,), SPLIT)

    @functools.cache  # noqa: B019 (a scorer lives as long as its process)
    def _cut(self, mirrors: bool) -> Callable:
        size = self._classifier.crop_config.size

        def windows_of(canvas, corners):
            return jax.vmap(lambda corner: jax.lax.dynamic_slice(canvas, (*corner, 0), (size, size, 3)))(corners)

        def cut(canvases: tuple[tuple[jax.Array, jax.Array], ...]):
            """Cuts canvases [N, H, W, 3] at corners [N, n, 2] into batches of windows [step, size, size, 3]."""
            windows = _in_a_row([jax.vmap(windows_of)(*pair) for pair in canvases], mirrors)
            windows = jnp.pad(windows, ((0, -len(windows) % self._step), (0, 0), (0, 0), (0, 0)))
            return tuple(jnp.split(windows, len(windows) // self._step))

        return self._parallel.map(cut, (SPLIT,), SPLIT)

    @functools.cache  # noqa: B019
    def _forward(self, dense: bool) -> Callable:
        model = self._classifier.dense_model if dense else self._classifier.model

        def forward(variables, windows: jax.Array):
            images = self._classifier.preprocessing.evaluate(windows, variables["dataset_stats"])
            logits, _ = model.apply(variables, images)
            return logits[:, self._outputs].astype(jnp.float32)

        return self._parallel.map(forward, (REPLICATED, SPLIT), SPLIT)


def _images_at_once(windows: int, step: int) -> int:
    """The smallest number of images whose windows fill their batches with at most 4 % padding."""
    return next(n for n in itertools.count(1) if -n * windows % step <= 0.04 * n * windows)


def _in_a_row(windows: list[jax.Array], mirrors: bool) -> jax.Array:
    """Windows [N, n, h, w, 3] of each canvas to [all, h, w, 3]: by image, each followed by its mirror image."""
    joined = jnp.concatenate(windows, axis=1)
    if mirrors:
        joined = jnp.stack([joined, joined[:, :, :, ::-1]], axis=2)
    return joined.reshape(-1, *joined.shape[-3:])


def _stack(canvases: Sequence[Canvas]) -> np.ndarray:
    """Canvases of different shapes as one array, uint8 [N, H, W, 3], with black below and to the right."""
    shapes = np.array([canvas.pixels.shape[:2] for canvas in canvases])
    least = shapes.min().item()  # the scale, the shorter side of all
    # Sides are rounded up to halves of the scale: each shape of a stack is compiled, so there should be few.
    height, width = (-(-least * -(-2 * side // least) // 2) for side in shapes.max(axis=0).tolist())
    stack = np.zeros((len(canvases), height, width, 3), np.uint8)
    for row, canvas in zip(stack, canvases, strict=True):
        row[: canvas.pixels.shape[0], : canvas.pixels.shape[1]] = canvas.pixels
    return stack


class Store:
    """The chunks of one evaluation on disk, in a directory named after everything that the scores depend on."""

    def __init__(self, directory: Path, identity: Mapping, count: int, windows: int):
        """Opens or makes the directory.

        Args:
          directory: the cache, which holds any number of evaluations.
          identity: everything that the scores depend on, JSON; 'name' is the first part of the directory's name.
          count: number of images.
          windows: number of windows of an image.

        Raises:
          UserError: the directory cannot be written.
        """
        text = json.dumps(identity, sort_keys=True, indent=1)
        self.path = directory / f"{identity['name']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        size = max(1, _WINDOWS_OF_A_CHUNK // windows)
        self.chunks = [range(start, min(start + size, count)) for start in range(0, count, size)]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._replace("identity.json", lambda file: file.write(text.encode()))
        except OSError as error:
            raise UserError(f"cache={directory} cannot be written: {error.strerror}; choose another one") from None

    def missing(self) -> list[range]:
        """Returns the chunks that are missing or damaged."""
        return [chunk for chunk in self.chunks if not self._is_whole(chunk)]

    def write(self, chunk: range, scores: Scores) -> None:
        """Writes a chunk; its file appears whole or not at all."""
        self._replace(self._file(chunk), lambda file: np.savez(file, **dataclasses.asdict(scores)))

    def read(self, field: str) -> np.ndarray:
        """Returns a field of `Scores` for all images; no chunk may be missing."""
        parts = []
        for chunk in self.chunks:
            with np.load(self.path / self._file(chunk)) as arrays:
                parts.append(arrays[field])
        return np.concatenate(parts)

    def _is_whole(self, chunk: range) -> bool:
        try:
            with zipfile.ZipFile(self.path / self._file(chunk)) as arrays:
                return arrays.testzip() is None  # all checksums are right
        except (OSError, EOFError, zipfile.BadZipFile):
            return False

    def _replace(self, name: str, write: Callable) -> None:
        temporary = self.path / f".{name}.{jax.process_index()}"
        with open(temporary, "wb") as file:
            write(file)
        temporary.replace(self.path / name)

    @staticmethod
    def _file(chunk: range) -> str:
        return f"{chunk.start:08d}.npz"


def score(
    source,
    scorer: Scorer,
    protocol: Protocol,
    store: Store,
    *,
    shard: loader.ProcessShard = loader.ProcessShard(),  # noqa: B008 (frozen)
    threads: int = 0,
    advance: Callable[[int], None] = lambda images: None,  # noqa: ARG005
) -> None:
    """Computes the missing chunks of a store that are this process's share.

    Args:
      source: the images, see `data.sources`.
      scorer: runs the network.
      protocol: which windows the network sees.
      store: the scores, to be completed.
      shard: rank of this process.
      threads: number of decoding threads; 0: one for each core.
      advance: called after each chunk with its number of images.

    Raises:
      UserError: more than 1 % of the images are damaged; or as `Scorer.begin`.
    """
    damage = loader.DamageReport(source)
    missing = set(store.missing())
    chunks = [chunk for chunk in store.chunks[shard.index :: shard.count] if chunk in missing]
    positions = [position for chunk in chunks for position in chunk]

    def load(number: int):
        try:
            image, label = loader.read_image(source, positions[number], scorer.max_pixels)
            return (label, protocol.canvases(image)), []
        except DamagedImage as error:
            return (-1, error), [error]

    unfinished = _Unfinished(source, scorer.classes, store, chunks, advance)
    waiting: dict[tuple, list[tuple[int, int, list[Canvas]]]] = collections.defaultdict(list)
    begun: list[tuple[list, Callable]] = []

    def begin(batch):
        begun.append((batch, scorer.begin(protocol, [canvases for _, _, canvases in batch])))
        if len(begun) > 1:  # the next one is computed meanwhile
            finish()

    def finish():
        batch, logits = begun.pop(0)
        for (position, label, _), of_image in zip(batch, logits(), strict=True):
            unfinished.add(position, label, of_image)

    at_once = scorer.images(protocol)
    last_ones = {chunk[-1] for chunk in chunks}
    with contextlib.closing(loader.in_order(load, range(len(positions)), damage, threads)) as images:
        for position, (label, canvases) in zip(positions, images, strict=True):
            if isinstance(canvases, DamagedImage):
                unfinished.add_damaged(position, canvases)
            else:
                shapes = tuple(canvas.pixels.shape for canvas in canvases) if protocol.is_dense else ()
                waiting[shapes].append((position, label, canvases))
                if len(waiting[shapes]) == at_once:
                    begin(waiting.pop(shapes))
            # Else an image of a rare shape would keep its chunk open to the end.
            if position == positions[-1] or (protocol.is_dense and position in last_ones):
                for batch in waiting.values():
                    begin(batch)
                waiting.clear()
    while begun:
        finish()


class _Unfinished:
    """Chunks whose images are being scored; a chunk is written when it is complete."""

    def __init__(self, source, classes: int, store: Store, chunks: Sequence[range], advance: Callable[[int], None]):
        self._source, self._classes, self._store, self._advance = source, classes, store, advance
        self._chunk_of = {position: chunk for chunk in chunks for position in chunk}
        self._scores: dict[range, Scores] = {}
        self._left: dict[range, int] = {}

    def add(self, position: int, label: int, logits: np.ndarray) -> None:
        """Adds the logits of an image's windows, [windows, K]."""
        scores, place = self._of(position)
        probabilities = softmax(logits)
        scores.labels[place] = label
        # Summed in float64, so that the mean of one window is its own value.
        scores.mean_probability[place] = probabilities.mean(axis=0, dtype=np.float64)
        scores.mean_logit[place] = logits.mean(axis=0, dtype=np.float64)
        scores.largest_probability[place] = probabilities.max(axis=0)
        self._count(position)

    def add_damaged(self, position: int, reason: DamagedImage) -> None:
        """Adds an image that could not be decoded."""
        scores, place = self._of(position)
        scores.damaged[place] = str(reason)
        self._count(position)

    def _of(self, position: int) -> tuple[Scores, int]:
        chunk = self._chunk_of[position]
        if chunk not in self._scores:
            count = len(chunk)
            names = np.array([self._source.file_name(place) for place in chunk], str)
            values = (np.zeros((count, self._classes), np.float32) for _ in range(3))
            self._scores[chunk] = Scores(np.full(count, -1, np.int32), names, np.full(count, "", object), *values)
            self._left[chunk] = count
        return self._scores[chunk], position - chunk.start

    def _count(self, position: int) -> None:
        chunk = self._chunk_of[position]
        self._left[chunk] -= 1
        if not self._left[chunk]:
            scores = self._scores.pop(chunk)
            self._store.write(chunk, dataclasses.replace(scores, damaged=scores.damaged.astype(str)))
            self._advance(len(chunk))

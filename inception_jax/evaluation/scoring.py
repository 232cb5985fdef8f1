"""Scores of the images of a split by a protocol, kept on disk so that no forward pass is made twice.

The unit is a chunk: some images in the order of the split, whose scores are one file. What is there is not computed
again, whatever the number of processes, devices or images at once, so an evaluation that was stopped goes on. Processes
take turns at chunks, and each computes on its own devices.
"""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.data import loader
from inception_jax.data.decoding import DamagedImage
from inception_jax.errors import UserError
from inception_jax.evaluation.classifier import Classifier, softmax
from inception_jax.evaluation.protocols import Canvas, Protocol

_WINDOWS_OF_A_CHUNK = 4096  # a minute or so of a GPU's time at the most
_ROUND_UP = 64  # pixels: canvases of different shapes share a program

# What is kept of each image and class over the windows: by aggregation, the kind of value.
AGGREGATES = {"probabilities": "mean_probability", "logits": "mean_logit", "max": "largest_probability"}


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a network says of each image of a split, over its windows.

    Attributes:
      labels: int32 [n]; -1 where the image could not be decoded.
      names: str [n], of the images, as their file is called, else ''.
      damaged: str, what is wrong with those that could not be decoded, a line each.
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
    """The probabilities of an ensemble of any number of networks, float32 [n, K]; of one they are its own.

    Args:
      members: of each network `Store.read(AGGREGATES[aggregate])`, of the same images.
      aggregate: over windows and networks, each with the same weight: 'probabilities', their mean (GoogLeNet, section
        7); 'logits', the softmax of their mean; 'max', the largest probability of each class, divided by their sum.
    """
    total, count = None, 0
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
    """Runs a network on windows of images, on all devices of this process."""

    def __init__(self, classifier: Classifier, protocol: Protocol, parallel, batch_size: int, outputs: np.ndarray):
        """Builds the programs.

        Args:
          classifier: the network.
          protocol: whose windows it sees.
          parallel: the `DataParallel` of this process's devices.
          batch_size: windows that these together see at once, about.
          outputs: int [K], the network's output for each class of the labels.

        Raises:
          UserError: the network cannot see images of any size, and the protocol is 'dense'.
        """
        self.protocol, self.classes = protocol, len(outputs)
        self._parallel = parallel
        model = classifier.dense_model if protocol.is_dense else classifier.model
        # Of a dense canvas itself and its mirror image.
        windows, limit = 2 if protocol.is_dense else protocol.windows, max(1, batch_size // parallel.device_count)
        self._step = next(n for n in range(min(limit, windows), 0, -1) if windows % n == 0)
        # Images whose windows are cut at once.
        self.images = parallel.device_count * max(1, limit // windows)
        self._variables = parallel.replicate(classifier.variables)

        def cut(_, canvases: tuple[tuple[jax.Array, jax.Array], ...]):
            """Pairs of canvases [N, H, W, 3] and corners [N, n, 2] to windows [N, W, size, size, 3]."""

            def windows_of(canvas, corners):
                def one(corner):
                    return jax.lax.dynamic_slice(canvas, (*corner, 0), (protocol.size, protocol.size, 3))

                return jax.vmap(one)(corners)

            return (), _mirrored([jax.vmap(windows_of)(*pair) for pair in canvases], protocol.mirrors)

        def mirror(_, canvas: jax.Array):
            return (), _mirrored([canvas[:, None]], protocol.mirrors)

        def forward(arguments, windows: jax.Array):
            """Logits [N, step, K] of the windows `start` ... `start + step - 1`."""
            variables, start = arguments
            part = jax.lax.dynamic_slice_in_dim(windows, start, self._step, axis=1)
            images = part.reshape(-1, *part.shape[2:])
            images = classifier.preprocessing.evaluate(images, variables["statistics"])
            logits, _ = model.apply(variables, images)
            return (), logits[:, outputs].reshape(*part.shape[:2], -1).astype(jnp.float32)

        self._cut, self._mirror, self._forward = map(parallel.map, (cut, mirror, forward))

    def logits(self, images: Sequence[list[Canvas]]) -> Callable[[], np.ndarray]:
        """Begins to compute the logits of at most `self.images` images, of dense canvases of the same shapes.

        Returns:
          What waits for them and returns float32 [n, windows, K].
        """
        count = len(images)
        images = [*images, *images[:1] * (self.images - count)]
        slots = list(zip(*images, strict=True))  # the canvases of a kind
        if self.protocol.is_dense:
            windows = [self._mirror((), self._parallel.shard(np.stack([c.pixels for c in s])))[1] for s in slots]
        else:
            pairs = tuple((_stack(slot), np.stack([canvas.corners for canvas in slot])) for slot in slots)
            windows = [self._cut((), self._parallel.shard(pairs))[1]]
        parts = []
        for group in windows:
            for start in range(0, group.shape[1], self._step):
                arguments = self._variables, self._parallel.replicate(np.int32(start))
                parts.append(self._forward(arguments, group)[1])
        return lambda: np.concatenate([np.asarray(part) for part in parts], axis=1)[:count]


def _mirrored(windows: list[jax.Array], mirrors: bool) -> jax.Array:
    """[N, n, h, w, 3] of each canvas to [N, all, h, w, 3], each window followed by its mirror image."""
    windows = jnp.concatenate(windows, axis=1)
    if not mirrors:
        return windows
    return jnp.stack([windows, windows[:, :, :, ::-1]], axis=2).reshape(len(windows), -1, *windows.shape[2:])


def _stack(canvases: Sequence[Canvas]) -> np.ndarray:
    """Canvases of different shapes as one array, uint8 [N, H, W, 3], with black below and to the right."""
    shapes = np.array([canvas.pixels.shape[:2] for canvas in canvases])
    least = shapes.min()  # the scale, which all have in common
    height, width = (
        side if side == least else -(-side // _ROUND_UP) * _ROUND_UP for side in shapes.max(axis=0).tolist()
    )
    stack = np.zeros((len(canvases), height, width, 3), np.uint8)
    for row, canvas in zip(stack, canvases, strict=True):
        row[: canvas.pixels.shape[0], : canvas.pixels.shape[1]] = canvas.pixels
    return stack


class Store:
    """The chunks of one evaluation on disk, in a directory that is named after all that its scores depend on."""

    def __init__(self, directory: Path, identity: Mapping, count: int, windows: int):
        """Opens what is there.

        Args:
          directory: of all evaluations.
          identity: all that the scores depend on, JSON; 'name' begins the name of the directory.
          count: number of images.
          windows: of an image.

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
            raise UserError(f"{self.path} cannot be written: {error.strerror}; choose another --cache") from None

    def missing(self) -> list[range]:
        """The chunks that are not there, or damaged."""
        return [chunk for chunk in self.chunks if not self._is_whole(chunk)]

    def write(self, chunk: range, scores: Scores) -> None:
        """Writes a chunk, whole or not at all."""
        self._replace(self._file(chunk), lambda file: np.savez(file, **dataclasses.asdict(scores)))

    def read(self, field: str) -> np.ndarray:
        """A field of `Scores`, of all images; every chunk must be there."""
        parts = []
        for chunk in self.chunks:
            with np.load(self.path / self._file(chunk)) as arrays:
                parts.append(arrays[field])
        return np.concatenate(parts)

    def _is_whole(self, chunk: range) -> bool:
        try:
            with zipfile.ZipFile(self.path / self._file(chunk)) as arrays:
                return arrays.testzip() is None  # its checksums are right
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
    store: Store,
    damage: loader.DamageReport,
    share: loader.ProcessShare,
    threads: int,
    advance: Callable[[int], None],
) -> None:
    """Computes those chunks of `store` that are missing and this process's, rank `share.index` of `share.count`.

    Args:
      source: of images.
      scorer: of the network.
      store: to fill.
      damage: where damaged images are noted.
      share: this process's.
      threads: that decode at once; 0: one for each core.
      advance: called after each chunk with its number of images.

    Raises:
      UserError: more than 1 % of the images are damaged.
    """
    missing = set(store.missing())
    chunks = [chunk for chunk in store.chunks[share.index :: share.count] if chunk in missing]
    positions = [position for chunk in chunks for position in chunk]

    def load(number: int):
        try:
            image, label = loader.read_image(source, positions[number])
            return (label, scorer.protocol.canvases(image)), []
        except DamagedImage as error:
            return (-1, error), [error]

    with contextlib.closing(loader.in_order(load, range(len(positions)), damage, threads)) as images:
        for chunk in chunks:
            names = np.array([source.file_name(position) for position in chunk], str)
            store.write(chunk, _score_chunk(scorer, itertools.islice(images, len(chunk)), names))
            advance(len(chunk))


def _score_chunk(
    scorer: Scorer, images: Iterator[tuple[int, list[Canvas] | DamagedImage]], names: np.ndarray
) -> Scores:
    count = len(names)
    labels, damaged = np.full(count, -1, np.int32), []
    probability, logit, largest = (np.zeros((count, scorer.classes), np.float32) for _ in range(3))
    waiting: dict[tuple, list[tuple[int, list[Canvas]]]] = collections.defaultdict(list)
    begun: list[tuple[tuple[int, ...], Callable]] = []

    def begin(batch):
        places, canvases = zip(*batch, strict=True)
        begun.append((places, scorer.logits(canvases)))
        if len(begun) > 1:  # while the next one is computed
            finish()

    def finish():
        places, result = begun.pop(0)
        for place, logits in zip(places, result(), strict=True):
            probabilities = softmax(logits)
            # Summed in float64: of one window the mean is the window's own value.
            probability[place] = probabilities.mean(axis=0, dtype=np.float64)
            logit[place] = logits.mean(axis=0, dtype=np.float64)
            largest[place] = probabilities.max(axis=0)

    for place, (label, canvases) in enumerate(images):
        if isinstance(canvases, DamagedImage):
            damaged.append(str(canvases))
            continue
        labels[place] = label
        shapes = tuple(canvas.pixels.shape for canvas in canvases) if scorer.protocol.is_dense else ()
        waiting[shapes].append((place, canvases))
        if len(waiting[shapes]) == scorer.images:
            begin(waiting.pop(shapes))
    for batch in waiting.values():
        begin(batch)
    while begun:
        finish()
    return Scores(labels, names, np.array(damaged, str), probability, logit, largest)

"""Measures how far a set of generated images is from a set of real ones."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from inception_jax.console import Progress
from inception_jax.data import loader
from inception_jax.data.decoding import DamagedImage
from inception_jax.errors import UserError, check_choice
from inception_jax.fid import metrics, protocols, statistics
from inception_jax.fid.extractor import Extractor
from inception_jax.fid.sets import ImageSet
from inception_jax.fid.statistics import Statistics

_SECONDS = 10.0  # between two reports of progress


@dataclasses.dataclass(frozen=True)
class Collected:
    """What one pass over a set of images gives.

    Attributes:
      statistics: of the images that could be read, or of the set's file.
      kept: float32 [n, d] by output, in the order of the images.
      damaged: images of this process that could not be read.
      damaged_count: number of such images in all processes.
    """

    statistics: Statistics
    kept: Mapping[str, np.ndarray]
    damaged: Sequence[DamagedImage]
    damaged_count: int


def collect(
    images: ImageSet,
    extractor: Extractor,
    *,
    spatial: bool = False,
    keep: Sequence[str] = (),
    batch_size: int | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> Collected:
    """Makes one pass over a set of images, on all devices of all processes.

    Memory grows with the number of images only by what is kept.

    Args:
      images: the set; a file of statistics is not computed again, and its images are seen only if something is kept.
      extractor: the feature network.
      spatial: whether the statistics are to have what sFID needs.
      keep: outputs of `extractor.OUTPUTS` to keep for all images.
      batch_size: number of images in one forward pass, over all devices of this process; None: 16 on a CPU, or 64 for
        each other device.
      threads: number of decoding threads; 0: one for each core.
      progress: shows the progress; None shows nothing.

    Raises:
      UserError: an argument is invalid, there are fewer than two images, or there are statistics only.
    """
    devices = extractor.parallel.device_count
    if batch_size is None:
        batch_size = 16 if jax.default_backend() == "cpu" else 64 * devices
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} must be 1 or more")
    batch_size = -(-batch_size // devices) * devices
    if images.statistics is not None:
        if spatial and images.statistics.spatial is None:
            raise UserError(f"{images.name} has no spatial features (mu_s, sigma_s), which sFID needs")
        if not keep:
            return Collected(images.statistics, {}, (), 0)
        if not images.count:
            raise UserError(f"{images.name} holds statistics only: give the images")
    running = statistics.start(extractor=extractor, spatial=spatial)
    outputs = tuple(dict.fromkeys([*running.parts, *keep]))
    positions = range(jax.process_index(), images.count, jax.process_count())
    damaged: list[DamagedImage] = []
    kept: list[tuple[list[int], dict[str, Any]]] = []

    def finish(places: list[int], found: Mapping[str, jax.Array]) -> None:
        if keep:
            kept.append((places, {name: np.asarray(found[name])[: len(places)] for name in keep}))

    begun: list[tuple[list[int], dict[str, jax.Array]]] = []
    meter = _Meter(images, progress, len(positions))
    batches = _batches(images, extractor, positions, batch_size, threads)
    with contextlib.closing(batches), contextlib.closing(meter):
        for places, batch, bad in batches:
            damaged += bad
            if batch is not None:
                found = extractor.run(batch, outputs)
                running = statistics.add(running, found, np.arange(batch_size) < len(places))
                begun.append((places, found))
                if len(begun) > 1:  # the next batch is computed meanwhile
                    finish(*begun.pop(0))
            meter.advance(len(places) + len(bad))
    for last in begun:
        finish(*last)
    unread = int(_of_all_processes(len(damaged)).sum())
    if images.count - unread < 2:
        first = f"; {damaged[0]}" if damaged else ""
        raise UserError(f"{images.name}: {images.count - unread} of {images.count} images could be read{first}")
    shapes = {name: extractor.dimensions(name) for name in keep}
    return Collected(images.statistics or running.finish(), _in_order(kept, shapes), damaged, unread)


def _batches(
    images: ImageSet, extractor: Extractor, positions: range, batch_size: int, threads: int
) -> Generator[tuple[list[int], protocols.Canvases | None, list[DamagedImage]]]:
    """Positions of the images in a batch, the batch, padded (None if it is empty), and the damaged images beside it."""

    def load(number: int):
        try:
            return protocols.prepare(images.load(positions[number]), extractor.protocol, extractor.size), []
        except DamagedImage as error:
            return error, []

    loaded = loader.in_order(load, range(len(positions)), loader.DamageReport(images), threads)
    with contextlib.closing(loaded):
        pairs = zip(positions, loaded, strict=True)
        while group := list(itertools.islice(pairs, batch_size)):
            damaged = [canvas for _, canvas in group if isinstance(canvas, DamagedImage)]
            places = [place for place, canvas in group if not isinstance(canvas, DamagedImage)]
            canvases = [canvas for _, canvas in group if not isinstance(canvas, DamagedImage)]
            padded = canvases + canvases[:1] * (batch_size - len(canvases))
            yield places, protocols.stack(padded) if padded else None, damaged


class _Meter:
    """Shows how many images have been seen."""

    def __init__(self, images: ImageSet, progress: Progress | None, total: int):
        self._done, self._total, self._progress, self._start = 0, total, progress, time.perf_counter()
        self._shown = self._start
        if progress:
            progress.say(f"{images.name}: {images.count:,} images")
            progress.start(0, total)

    def advance(self, images: int) -> None:
        self._done += images
        now = time.perf_counter()
        if self._progress:
            self._progress.advance(self._done)
            if now - self._shown > _SECONDS or self._done == self._total:
                self._shown = now
                self._progress.report(self._done, self._total, {"img/s": f"{self._done / (now - self._start):.1f}"})

    def close(self) -> None:
        if self._progress:
            self._progress.stop()


def _of_all_processes(number: int) -> np.ndarray:
    return np.asarray(multihost_utils.process_allgather(np.array(number))).reshape(-1)


def _in_order(kept: Sequence[tuple[list[int], Mapping[str, Any]]], shapes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The kept outputs of all processes in the order of the images, which subsets and splits depend on."""
    places = np.array([place for group, _ in kept for place in group], np.int64)
    arrays = {
        name: np.concatenate([np.zeros((0, size), np.float32), *(found[name] for _, found in kept)])
        for name, size in shapes.items()
    }
    if jax.process_count() == 1 or not arrays:
        return arrays
    counts = _of_all_processes(len(places))
    missing = max(counts) - len(places)
    gathered = multihost_utils.process_allgather(
        {name: np.pad(array, ((0, missing), (0, 0))) for name, array in arrays.items()}
        | {"": np.pad(places.astype(np.int32), (0, missing))}
    )

    def joined(array: np.ndarray) -> np.ndarray:
        return np.concatenate([part[:count] for part, count in zip(array, counts, strict=True)])

    order = np.argsort(joined(gathered.pop("")))
    return {name: joined(array)[order] for name, array in gathered.items()}


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Options of the metrics that sample.

    Attributes:
      seed: of subsets, shuffling and resampling.
      splits: number of splits of the Inception score.
      subsets: number of subsets of KID.
      subset_size: number of images of each set in one subset of KID.
      neighbours: k of precision and recall; density and coverage have their paper's 5.
      resamples: number of resamplings for the FID's interval.
    """

    seed: int = metrics.SEED
    splits: int = 10
    subsets: int = 100
    subset_size: int = 1000
    neighbours: int = 3
    resamples: int = 100


class _Metric(NamedTuple):
    """A metric of real images `a`, generated ones `b` and options `s`.

    Attributes:
      keys: names of its numbers.
      real: outputs of the real images to keep in memory.
      generated: outputs of the generated images to keep in memory.
      compute: (a, b, s) to its numbers.
    """

    keys: tuple[str, ...]
    real: tuple[str, ...]
    generated: tuple[str, ...]
    compute: Callable[[Any, Collected, Sampling], tuple[float, ...]]


_KEPT = ("features",)
METRICS = {
    "fid": _Metric(("fid",), (), (), lambda a, b, s: (statistics.distance(a.statistics, b.statistics),)),  # noqa: ARG005
    "sfid": _Metric(
        ("sfid",),
        (),
        (),
        lambda a, b, s: (statistics.distance(a.statistics, b.statistics, spatial=True),),  # noqa: ARG005
    ),
    "kid": _Metric(
        ("kid", "kid_deviation"),
        _KEPT,
        _KEPT,
        lambda a, b, s: metrics.kernel_distance(
            b.kept["features"], a.kept["features"], subsets=s.subsets, subset_size=s.subset_size, seed=s.seed
        ),
    ),
    "is": _Metric(
        ("inception_score", "inception_score_deviation"),
        (),
        ("logits",),
        lambda a, b, s: metrics.inception_score(b.kept["logits"], splits=s.splits, seed=s.seed),  # noqa: ARG005
    ),
    "prc": _Metric(
        ("precision", "recall"),
        _KEPT,
        _KEPT,
        lambda a, b, s: metrics.precision_recall(a.kept["features"], b.kept["features"], neighbours=s.neighbours),
    ),
    "dc": _Metric(
        ("density", "coverage"),
        _KEPT,
        _KEPT,
        lambda a, b, s: metrics.density_coverage(a.kept["features"], b.kept["features"]),  # noqa: ARG005
    ),
    "fid_infinity": _Metric(
        ("fid_infinity", "fid_infinity_error"),
        (),
        _KEPT,
        lambda a, b, s: metrics.fid_infinity(_moments(a), b.kept["features"], seed=s.seed),
    ),
    "interval": _Metric(
        ("fid_low", "fid_high"),
        (),
        _KEPT,
        lambda a, b, s: metrics.fid_interval(_moments(a), b.kept["features"], resamples=s.resamples, seed=s.seed),
    ),
}


def _moments(collected: Collected) -> tuple[np.ndarray, np.ndarray]:
    return collected.statistics.mean, collected.statistics.covariance


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Distances between two sets of images.

    Attributes:
      kind: 'FID', or 'FID-like, network ...' for any other network.
      identity: protocol, network, end point and weights, see `Extractor.identity`.
      values: numbers by their names in METRICS.
      counts: number of images of each set that were measured; None if a file does not say it.
      damaged: images of this process that could not be read.
      damaged_count: number of such images in all processes.
    """

    kind: str
    identity: Mapping[str, Any]
    values: Mapping[str, float]
    counts: tuple[int | None, ...]
    damaged: Sequence[DamagedImage]
    damaged_count: int


def measure(
    real: ImageSet | None,
    generated: ImageSet,
    extractor: Extractor,
    chosen: Sequence[str] = ("fid",),
    *,
    sampling: Sampling = Sampling(),
    batch_size: int | None = None,
    threads: int = 0,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda line: None,  # noqa: ARG005
) -> Measurement:
    """Measures the distance of two sets of images.

    Args:
      real: the real images; None if only the Inception score is asked for.
      generated: the generated images.
      extractor: the feature network.
      chosen: some of METRICS. 'prc': precision and recall; 'dc': density and coverage; 'interval': the FID's 95 %
        interval; the others by their names.
      sampling: options of the metrics that sample.
      batch_size: see `collect`.
      threads: see `collect`.
      progress: shows the progress; None shows nothing.
      warn: called with one line, see `statistics.check_comparable`.

    Raises:
      UserError: an argument is invalid, or the sets cannot be compared.
    """
    for name in chosen:
        check_choice("metrics", name, METRICS)
    if real is None and set(chosen) != {"is"}:
        raise UserError(f"metrics={','.join(chosen)} need two sets of images")
    options: dict[str, Any] = {"spatial": "sfid" in chosen, "batch_size": batch_size, "threads": threads}
    wanted = [METRICS[name] for name in chosen]
    kept_real = sorted({output for metric in wanted for output in metric.real})
    kept = sorted({output for metric in wanted for output in metric.generated})
    a = collect(real, extractor, keep=kept_real, progress=progress, **options) if real is not None else None
    b = collect(generated, extractor, keep=kept, progress=progress, **options)
    if a is not None:
        statistics.check_comparable(a.statistics, b.statistics, warn)
    features = b.kept.get("features")
    if "fid_infinity" in chosen and features is not None and len(features) < 2 * features.shape[1]:
        warn(f"{len(features):,} images are too few to extrapolate the FID: give {2 * features.shape[1]:,} or more")
    values = {
        key: value for metric in wanted for key, value in zip(metric.keys, metric.compute(a, b, sampling), strict=True)
    }
    seen = [each for each in (a, b) if each is not None]
    return Measurement(
        kind=extractor.kind,
        identity=extractor.identity,
        values=values,
        counts=tuple(each.statistics.count for each in seen),
        damaged=[image for each in seen for image in each.damaged],
        damaged_count=sum(each.damaged_count for each in seen),
    )

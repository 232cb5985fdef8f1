"""Statistics of a set of images: in memory, streamed from batches, and in files."""

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.errors import UserError, check_choice
from inception_jax.fid import protocols
from inception_jax.fid.extractor import Extractor, make_extractor
from inception_jax.fid.metrics import frechet_distance
from inception_jax.fid.moments import Moments, PartialMoments, add_batch, no_moments, total_moments

ROUNDINGS = ("nearest", "floor", "none")
LAYOUTS = ("pytorch_fid", "jax_fid")
_NAMES = {"features": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
_JAX_FID = {"features": ("ref_mu", "ref_sigma")}
_METADATA = "metadata"


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Mean and covariance of the features of a set of images.

    Attributes:
      mean: float64 [d].
      covariance: float64 [d, d].
      count: number of images; None if a file of another program does not say it.
      identity: protocol, network, end point and weights, see `Extractor.identity`; {} if the file does not say it.
      spatial: mean and covariance of sFID's features, float64 [2023] and [2023, 2023]; None if they are missing.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None
    identity: Mapping[str, Any]
    spatial: tuple[np.ndarray, np.ndarray] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class RunningStatistics:
    """Statistics of the images so far, on the devices; a value that `update` does not change.

    Attributes:
      extractor: the feature network.
      parts: moments of each device, by output ('features', 'spatial').
    """

    extractor: Extractor
    parts: Mapping[str, PartialMoments]

    def finish(self) -> Statistics:
        """Merges the devices of all processes; with several, each must call it, and gets the same result."""
        moments = {name: total_moments(part) for name, part in self.parts.items()}
        return from_moments(moments["features"], self.extractor.identity, moments.get("spatial"))


def from_moments(features: Moments, identity: Mapping[str, Any], spatial: Moments | None = None) -> Statistics:
    """Returns statistics of moments; raises UserError for fewer than two images."""
    pair = None if spatial is None else (spatial.mean, spatial.covariance)
    return Statistics(features.mean, features.covariance, features.count, identity, pair)


def start(
    protocol: str = "tf", *, extractor: Extractor | None = None, spatial: bool = False, **options: Any
) -> RunningStatistics:
    """Returns the statistics of no image, for `update`.

    Args:
      protocol: 'tf', 'pytorch_fid' or 'clean', see `protocols.PROTOCOLS`.
      extractor: a feature network of `make_extractor`; None: it is made from `protocol` and `options`.
      spatial: whether to keep what sFID needs, too.
      **options: `weights`, `end_point` and `devices` of `make_extractor`.
    """
    extractor = extractor or make_extractor(protocol, **options)
    outputs = ["features", *(["spatial"] if spatial else [])]
    return RunningStatistics(
        extractor, {name: no_moments(extractor.parallel, extractor.dimensions(name)) for name in outputs}
    )


def update(
    statistics: RunningStatistics, images: np.ndarray | jax.Array, rounding: str | None = None
) -> RunningStatistics:
    """Adds a batch of images; resizing, network and sums are compiled and run on all devices of this process.

    Nothing waits for the devices, unless the protocol is 'clean', which resizes on the host. Batches of one shape are
    compiled once.

    Args:
      statistics: of `start` or `update`.
      images: [N, H, W, 3]: uint8, or floating-point values of 0 to 255. With several processes, images of this process,
        or a global array, of which each process takes its own part.
      rounding: what becomes of floating-point values, which moves the distance: 'nearest' or 'floor' (as files of
        images would hold them), or 'none'. They are clipped to 0 and 255 first, except for 'none'.

    Raises:
      UserError: the images have another shape or type, or floating-point images come without `rounding`.
    """
    images = _own_part(images)
    if images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise UserError(f"images must be [N, H, W, 3], not of shape {list(images.shape)}")
    images = _rounded(images, rounding)
    canvases, valid = _batch(statistics.extractor, images)
    return add(statistics, statistics.extractor.run(canvases, tuple(statistics.parts)), valid)


def add(statistics: RunningStatistics, outputs: Mapping[str, jax.Array], valid: Any) -> RunningStatistics:
    """Adds outputs of `Extractor.run`; `valid`, bool [N], is False for padding."""
    parallel = statistics.extractor.parallel
    valid = jax.device_put(valid, parallel.split)
    parts = {name: add_batch(parallel, part, outputs[name], valid) for name, part in statistics.parts.items()}
    return RunningStatistics(statistics.extractor, parts)


def _own_part(images: Any) -> np.ndarray | jax.Array:
    if not isinstance(images, jax.Array):
        return np.asarray(images)
    if images.is_fully_addressable:
        return images
    if images.is_fully_replicated:  # every process has all of them
        return np.asarray(images)[jax.process_index() :: jax.process_count()]
    parts = {str(shard.index): shard for shard in images.addressable_shards}  # one of each, if some are replicas
    return np.concatenate([np.asarray(shard.data) for shard in parts.values()])


def _rounded(images: Any, rounding: str | None) -> Any:
    if images.dtype == np.uint8:
        return images
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f"images must be uint8 or floating-point values of 0 to 255, not {images.dtype}")
    if rounding is None:
        raise UserError("rounding=None: floating-point images need nearest, floor or none; it moves the result")
    check_choice("rounding", rounding, ROUNDINGS)
    if rounding == "none":
        return images.astype(jnp.float32)
    return (jnp.rint if rounding == "nearest" else jnp.floor)(jnp.clip(images, 0, 255)).astype(jnp.uint8)


def _batch(extractor: Extractor, images: Any) -> tuple[protocols.Canvases, np.ndarray]:
    """The images, padded to a multiple of the number of devices, and which of them are no padding."""
    count, size = len(images), extractor.size
    padding = -count % extractor.parallel.device_count
    valid = np.arange(count + padding) < count
    samples = extractor.protocol.samples
    if samples is None:
        resized = np.stack([protocols.resize_clean(image, size) for image in np.asarray(images)])
        return protocols.Canvases(np.pad(resized, ((0, padding), (0, 0), (0, 0), (0, 0))), None, None), valid
    rows, columns = (
        protocols.Samples(*(np.broadcast_to(field, (len(valid), size)) for field in samples(side, size)))
        for side in images.shape[1:3]
    )
    images = jnp.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0))) if padding else images
    return protocols.Canvases(images, rows, columns), valid


def distance(
    a: Statistics | RunningStatistics,
    b: Statistics | RunningStatistics,
    *,
    spatial: bool = False,
    warn: Callable[[str], None] = lambda line: None,  # noqa: ARG005
) -> float:
    """Returns the Frechet distance of two sets of images, see `metrics.frechet_distance`.

    Args:
      a: statistics of one set.
      b: statistics of the other set.
      spatial: whether to return sFID, of the spatial features, in place of FID.
      warn: called with one line if a file does not say its protocol, or a set has fewer images than dimensions.

    Raises:
      UserError: the sets differ in protocol, network, end point or weights, or have no spatial features.
    """
    a, b = (each.finish() if isinstance(each, RunningStatistics) else each for each in (a, b))
    check_comparable(a, b, warn)
    if not spatial:
        return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    if a.spatial is None or b.spatial is None:
        raise UserError("spatial=True needs statistics with spatial features (mu_s, sigma_s)")
    return frechet_distance(*a.spatial, *b.spatial)


def check_comparable(a: Statistics, b: Statistics, warn: Callable[[str], None]) -> None:
    """Raises UserError if two sets must not be compared; warns of what cannot be checked and of too few images."""
    differences = [key for key in a.identity if key in b.identity and a.identity[key] != b.identity[key]]
    if differences:
        found = ", ".join(f"{key} {a.identity[key]!r} and {b.identity[key]!r}" for key in differences)
        raise UserError(f"these statistics must not be compared: they have {found}")
    if a.mean.shape != b.mean.shape:
        raise UserError(f"these statistics have {len(a.mean)} and {len(b.mean)} dimensions: they are of other layers")
    known = a.identity or b.identity
    if not (a.identity and b.identity):
        text = f"it is taken for {known['protocol']!r}" if known else "make sure that both have the same"
        warn(f"a file of statistics does not say its protocol and weights; {text}")
    count = min((each.count for each in (a, b) if each.count is not None), default=None)
    if count is not None and count <= len(a.mean):
        warn(
            f"{count:,} images give a covariance of rank {count - 1:,} in {len(a.mean):,} dimensions: the distance is "
            "far too large; compare it only with distances of sets of the same sizes"
        )


def write(file: str | os.PathLike, statistics: Statistics, layout: str = "pytorch_fid") -> None:
    """Writes statistics to an .npz file.

    Args:
      file: to write.
      statistics: what to write.
      layout: 'pytorch_fid': arrays mu and sigma, which pytorch-fid, ADM's evaluator and clean-fid read, and ADM's mu_s
        and sigma_s for sFID. 'jax_fid': ref_mu and ref_sigma. Both also have count and our metadata.

    Raises:
      UserError: the file cannot be written, or the layout is unknown.
    """
    check_choice("layout", layout, LAYOUTS)
    names = _NAMES if layout == "pytorch_fid" else _JAX_FID
    pairs = {"features": (statistics.mean, statistics.covariance), "spatial": statistics.spatial}
    arrays = {
        name: array
        for output, pair in names.items()
        for name, array in zip(pair, pairs[output] or (), strict=bool(pairs[output]))
    }
    versions = {name: metadata.version(name) for name in ("jax", "flax", "numpy")}
    text = json.dumps({"identity": dict(statistics.identity), "versions": versions})
    if statistics.count is not None:
        arrays["count"] = np.array(statistics.count)
    path = Path(file)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as target:
            np.savez(target, **arrays, **{_METADATA: np.array(text)})  # type: ignore[arg-type]
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None


def is_statistics(file: str | os.PathLike) -> bool:
    """Whether a file is an .npz file with statistics."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(f"{pair[0]}.npy" in archive.namelist() for pair in (_NAMES["features"], _JAX_FID["features"]))
    except (OSError, zipfile.BadZipFile):
        return False


def read(file: str | os.PathLike) -> Statistics:
    """Reads statistics of `write`, pytorch-fid, ADM's evaluator, clean-fid or jax-fid.

    Raises:
      UserError: the file cannot be read, or holds no or damaged statistics.
    """
    path = Path(os.path.expanduser(file))
    try:
        with open(path, "rb") as content, np.load(content) as loaded:
            present = set(loaded.files)
            wanted = [*_NAMES["features"], *_NAMES["spatial"], *_JAX_FID["features"], "count", _METADATA]
            arrays = {name: loaded[name] for name in wanted if name in present}
        text = json.loads(str(arrays.pop(_METADATA))) if _METADATA in arrays else {}
        count = int(arrays["count"]) if "count" in arrays else None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # NumPy, zipfile and json raise many types on damaged files
        raise UserError(f"{path} cannot be read as statistics: {error}") from None
    names = next((names for names in (_NAMES["features"], _JAX_FID["features"]) if names[0] in arrays), None)
    if names is None:
        raise UserError(f"{path} holds no statistics: mu and sigma are missing among {', '.join(sorted(present))}")
    spatial = _pair(arrays, _NAMES["spatial"], path) if _NAMES["spatial"][0] in arrays else None
    identity = text.get("identity", {}) if isinstance(text, dict) else {}
    return Statistics(*_pair(arrays, names, path), count, identity, spatial)


def _pair(arrays: Mapping[str, np.ndarray], names: Sequence[str], path: Path) -> tuple[np.ndarray, np.ndarray]:
    mean, covariance = (np.asarray(arrays.get(name, ()), np.float64) for name in names)
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        shapes = f"{list(mean.shape)} and {list(covariance.shape)}"
        raise UserError(f"{path} is damaged: {names[0]} and {names[1]} have shapes {shapes}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError(f"{path} is damaged: {names[0]} or {names[1]} is not finite")
    return mean, covariance

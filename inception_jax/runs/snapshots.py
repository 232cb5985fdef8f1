"""Snapshots of a training: what changes from one evaluation to the next, in small files WORKDIR/snapshots/STEP.npz."""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from inception_jax.errors import UserError
from inception_jax.paths import AnyPath, names_in, read_whole, storage, write_whole

_DIRECTORY = "snapshots"
_MOST = 30  # files of a run; a longer run keeps some, spread over its steps
_ACTIVATIONS = "activations/"  # before the name of an end point


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """What one evaluation has seen.

    Attributes:
      step: number of finished steps.
      places: int64 [n], places in the evaluated split of the images whose predictions are kept, ascending.
      labels: int32 [n], their labels.
      classes: int32 [n], their most probable classes.
      probabilities: float32 [n], the probabilities of these classes.
      filters: uint8 [kh, kw, 1 or 3, cout], kernels of the first convolution, each scaled from its smallest to its
        largest weight; `cout` is 0 if no convolution reads colours or grey.
      image: uint8 [h, w, 3], the image of the activations, made small.
      activations: uint8 [h, w, channels] by end point in the order of computation: some channels, made small and scaled
        from the smallest to the largest of their values. A vector is [1, 1, channels].
    """

    step: int
    places: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    filters: np.ndarray
    image: np.ndarray
    activations: Mapping[str, np.ndarray]


# Of the arrays in a file: number of dimensions, and the letter of the dtype.
_ARRAYS = {
    "places": (1, "i"),
    "labels": (1, "i"),
    "classes": (1, "i"),
    "probabilities": (1, "f"),
    "filters": (4, "u"),
    "image": (3, "u"),
}


def write(workdir: AnyPath, snapshot: Snapshot) -> None:
    """Writes a snapshot, and removes what is too much: later ones of an earlier start, and those between others.

    The first and the last one stay. Beyond `_MOST` the one goes whose neighbours are nearest to each other.

    Raises:
      UserError: the workdir cannot be written.
    """
    arrays = {name: getattr(snapshot, name) for name in _ARRAYS}
    arrays |= {_ACTIVATIONS + name: values for name, values in snapshot.activations.items()}
    file = io.BytesIO()
    np.savez_compressed(file, step=snapshot.step, **arrays)
    write_whole(_path(workdir, snapshot.step), file.getvalue())
    steps = steps_in(workdir)
    for step in set(steps).difference(_spread([step for step in steps if step <= snapshot.step])):
        path = _path(workdir, step)
        with storage(path, "cannot be removed"):
            path.unlink()


def _spread(steps: list[int]) -> list[int]:
    """At most `_MOST` of the steps, ascending: one after another is left out where the gap becomes smallest."""
    while len(steps) > _MOST:
        gaps = np.subtract(steps[2:], steps[:-2])
        del steps[1 + int(gaps.argmin())]
    return steps


def steps_in(workdir: AnyPath) -> list[int]:
    """Returns the steps of the snapshots of a run, ascending."""
    stems = (name.removesuffix(".npz") for name in names_in(workdir / _DIRECTORY) if name.endswith(".npz"))
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdecimal())


def read(workdir: AnyPath, step: int) -> Snapshot:
    """Reads the snapshot of a step.

    Raises:
      UserError: it is damaged, or cannot be read.
      FileNotFoundError: it is missing.
    """
    path = _path(workdir, step)
    with storage(path, "cannot be read"):
        content = read_whole(path)
    try:
        with np.load(io.BytesIO(content)) as archive:
            arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
        for name, (dimensions, kind) in _ARRAYS.items():
            _check(name, arrays[name], dimensions, kind)
        activations = {name: values for name, values in arrays.items() if name.startswith(_ACTIVATIONS)}
        for name, values in activations.items():
            _check(name, values, 3, "u")
        if len({len(arrays[name]) for name in ("places", "labels", "classes", "probabilities")}) > 1:
            raise ValueError("its predictions are not of equally many images")
        if arrays["filters"].shape[2] not in (1, 3) or arrays["image"].shape[2] != 3:
            raise ValueError("its pictures are neither colours nor grey")
    except Exception as error:  # zipfile, zlib and NumPy raise many types
        raise UserError(f"{path} is damaged: {' '.join(str(error).split())[:120]}") from None
    activations = {name.removeprefix(_ACTIVATIONS): values for name, values in activations.items()}
    return Snapshot(step=step, **{name: arrays[name] for name in _ARRAYS}, activations=activations)


def _check(name: str, array: np.ndarray, dimensions: int, kind: str) -> None:
    if array.ndim != dimensions or array.dtype.kind != kind or (kind == "u" and array.dtype.itemsize != 1):
        raise ValueError(f"its {name} are {array.dtype}{list(array.shape)}")


def _path(workdir: AnyPath, step: int) -> AnyPath:
    return workdir / _DIRECTORY / f"{step}.npz"


def first_filters(params: Mapping[str, Any]) -> np.ndarray | None:
    """The kernels of the convolution that reads colours or grey, [kh, kw, 1 or 3, cout]; None if there is none."""
    kernels = (leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 4 and leaf.shape[2] in (1, 3))
    kernel = next(kernels, None)
    return None if kernel is None else np.asarray(kernel)


def as_bytes(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Scales values to uint8, from the smallest to the largest along `axes`; where all are equal, to mid-grey.

    Values that are not finite count as 0.
    """
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low = values.min(axis=axes, keepdims=True)
    span = values.max(axis=axes, keepdims=True) - low
    scaled = np.where(span > 0, (values - low) / np.where(span > 0, span, 1), 0.5)
    return np.round(255 * scaled).astype(np.uint8)

"""Features of very many images, in shards: npz or Parquet."""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from inception_jax.console import Progress
from inception_jax.data import loader
from inception_jax.data.decoding import DamagedImage
from inception_jax.errors import UserError, check_choice, needs_extra
from inception_jax.evaluation.predict import ImageFile
from inception_jax.evaluation.shards import Shards, open_shards, read_shards
from inception_jax.names import readable, text_of
from inception_jax.runs.classifier import Classifier, read_picture
from inception_jax.weights import files


@dataclasses.dataclass(frozen=True)
class Features:
    """Outputs of a layer for some images.

    Attributes:
      paths: of the images that could be read.
      features: float32 [n, ...], their features.
      unread: pairs (path, reason) of the others.
    """

    paths: tuple[str, ...]
    features: np.ndarray
    unread: tuple[tuple[str, str], ...] = ()


def open_features(
    classifier: Classifier,
    images: Sequence[ImageFile],
    end_point: str,
    out: str | os.PathLike,
    *,
    form: str = "npz",
    shard_size: int = 4096,
    batch_size: int = 32,
) -> Shards:
    """Opens a directory for the features of images, or makes it; see `shards.open_shards`.

    Args:
      classifier: the network.
      images: all images, also those of other machines, in the order that all machines agree on.
      end_point: name of the layer, one of `Classifier.end_points`.
      out: the directory.
      form: one of FORMATS.
      shard_size: number of images in a shard.
      batch_size: number of images in one forward pass.

    Raises:
      UserError: an argument is invalid, or the directory holds something else.
    """
    check_choice("end_point", end_point, classifier.end_points)
    check_choice("format", form, FORMATS)
    for name, value in (("shard_size", shard_size), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name}={value} must be 1 or more")
    if not images:
        raise UserError("images=[] must have one entry or more")
    FORMATS[form].check()
    identity = {
        "network": classifier.name,
        "weights_sha256": files.sha256(classifier.variables),
        "end_point": end_point,
        "shape": list(classifier.end_point_shape(end_point)),
        "preprocessing": classifier.metadata["preprocessing"],
        "batch_size": batch_size,  # rounding in float32 depends on it
    }
    return open_shards(out, [image.path for image in images], shard_size, FORMATS[form].suffix, identity)


def write_features(
    classifier: Classifier,
    images: Sequence[ImageFile],
    shards: Shards,
    *,
    index: int = 0,
    count: int = 1,
    threads: int = 0,
    progress: Progress | None = None,
) -> Iterator[tuple[str, str]]:
    """Computes the missing shards of machine `index` of `count`, on all devices of this process.

    Memory does not grow with the number of images. A shard is the same whatever was computed before it.

    Args:
      classifier: the network.
      images: all images, as given to `open_features`.
      shards: of `open_features`.
      index: number of this machine, from 0.
      count: number of machines.
      threads: number of decoding threads; 0: one for each core.
      progress: shows the progress; None shows nothing.

    Yields:
      Path and reason of each image that cannot be read.

    Raises:
      UserError: the directory cannot be written.
    """
    manifest, form = shards.manifest, _form(shards)
    missing = shards.missing(index, count)
    positions = [position for number in missing for position in shards.positions(number)]
    done = 0

    def load(place: int):
        path, error = images[positions[place]]
        try:
            if error:
                raise DamagedImage(path, error)
            return classifier.crop(read_picture(path, classifier.crop_config.max_pixels, path)), []
        except DamagedImage as damaged:
            return damaged, []

    crops = loader.in_order(load, range(len(positions)), loader.DamageReport(images), threads)
    with contextlib.closing(crops), contextlib.ExitStack() as shown:
        if progress:
            progress.start(0, len(positions))
            shown.callback(progress.stop)
        for number in missing:
            members = [images[position] for position in shards.positions(number)]
            found = _shard(classifier, members, crops, manifest["end_point"], manifest["batch_size"])
            names = [image.path for image in members]
            shards.write(number, names, len(found.unread), functools.partial(form.write, found))
            yield from found.unread
            done += len(members)
            if progress:
                progress.advance(done)
                progress.report(done, len(positions), {"shard": f"{number + 1}"})


def _shard(
    classifier: Classifier, images: Sequence[ImageFile], crops: Iterator, end_point: str, batch_size: int
) -> Features:
    paths: list[str] = []
    unread: list[tuple[str, str]] = []
    parts: list[np.ndarray] = [np.zeros((0, *classifier.end_point_shape(end_point)), np.float32)]
    begun: list[tuple[int, Callable]] = []

    def finish() -> None:
        count, outputs = begun.pop(0)
        parts.append(outputs()[0][:count])

    for start in range(0, len(images), batch_size):
        members = images[start : start + batch_size]
        good: list[Any] = []
        for image, crop in zip(members, itertools.islice(crops, len(members)), strict=True):
            if isinstance(crop, DamagedImage):
                unread.append((readable(text_of(image.path)), crop.reason))
            else:
                paths.append(readable(text_of(image.path)))
                good.append(crop)
        if good:
            padded = np.stack(good + good[:1] * (batch_size - len(good)))
            begun.append((len(good), classifier.begin(padded, end_point)))
        if len(begun) > 1:  # the next batch is computed meanwhile
            finish()
    while begun:
        finish()
    return Features(tuple(paths), np.concatenate(parts), tuple(unread))


@dataclasses.dataclass(frozen=True)
class _Format:
    suffix: str
    check: Callable[[], Any]
    write: Callable[[Features, BinaryIO], Any]
    read: Callable[[BinaryIO], Features]


def _write_npz(found: Features, file: BinaryIO) -> None:
    unread = [np.array(texts, str) for texts in zip(*found.unread, strict=True)] or [np.zeros(0, str)] * 2
    np.savez(
        file,
        paths=np.array(found.paths, str),
        features=found.features,
        unread_paths=unread[0],
        unread_reasons=unread[1],
    )


def _read_npz(file: BinaryIO) -> Features:
    with np.load(file) as arrays:
        unread = zip(arrays["unread_paths"].tolist(), arrays["unread_reasons"].tolist(), strict=True)
        return Features(tuple(arrays["paths"].tolist()), arrays["features"], tuple(unread))


def _pyarrow():
    with needs_extra("features"):
        import pyarrow.parquet
    return pyarrow


def _write_parquet(found: Features, file: BinaryIO) -> None:
    pyarrow = _pyarrow()
    shape = found.features.shape[1:]
    values = pyarrow.array(found.features.reshape(-1))
    vectors = pyarrow.FixedSizeListArray.from_arrays(values, int(np.prod(shape)))
    table = pyarrow.table({"path": pyarrow.array(found.paths, pyarrow.string()), "features": vectors})
    about = {"shape": json.dumps(shape), "unread": json.dumps(found.unread)}
    pyarrow.parquet.write_table(table.replace_schema_metadata(about), file)


def _read_parquet(file: BinaryIO) -> Features:
    table = _pyarrow().parquet.read_table(file)
    shape, unread = (json.loads(table.schema.metadata[key]) for key in (b"shape", b"unread"))
    values = table["features"].combine_chunks().flatten().to_numpy()
    features = np.asarray(values, np.float32).reshape(-1, *shape)
    return Features(tuple(table["path"].to_pylist()), features, tuple(map(tuple, unread)))


FORMATS = {
    "npz": _Format(".npz", lambda: None, _write_npz, _read_npz),
    "parquet": _Format(".parquet", _pyarrow, _write_parquet, _read_parquet),
}


def _form(shards: Shards) -> _Format:
    for form in FORMATS.values():
        if form.suffix == shards.manifest["suffix"]:
            return form
    raise UserError(f"{shards.directory} holds {shards.manifest['suffix']} files, which are no features")


def read_features(directory: str | os.PathLike) -> Iterator[Features]:
    """Reads the shards of a directory in turn, in the order of the images.

    Raises:
      UserError: the directory is not complete, see `shards.Shards.check`.
    """
    shards = read_shards(directory)
    shards.check()
    yield from _read(shards)


def _read(shards: Shards) -> Iterator[Features]:
    form = _form(shards)
    for number in range(shards.count):
        with shards.file(number).open("rb") as file:
            yield form.read(file)


def merge_features(directory: str | os.PathLike, file: str | os.PathLike) -> tuple[int, int]:
    """Writes all shards of a directory to one .npz file with the arrays 'paths' and 'features', shard by shard.

    Returns:
      The number of images in the file, and of those that could not be read.

    Raises:
      UserError: the directory is not complete, or the file cannot be written.
    """
    shards = read_shards(directory)
    unread = shards.check()
    count = shards.manifest["images"] - unread
    paths: list[str] = []
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, *shards.manifest["shape"])}
    try:
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open("features.npy", "w", force_zip64=True) as target:
                np.lib.format.write_array_header_2_0(target, header)
                for part in _read(shards):
                    paths += part.paths
                    target.write(np.ascontiguousarray(part.features, "<f4").tobytes())
            with archive.open("paths.npy", "w", force_zip64=True) as target:
                np.lib.format.write_array(target, np.array(paths, str), allow_pickle=False)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    return count, unread

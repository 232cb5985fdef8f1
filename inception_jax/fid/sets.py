"""Sets of images to compare: folders, patterns, arrays in .npz or .npy files, workdirs' splits, statistics."""

import dataclasses
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.data.decoding import MAX_PIXELS, DamagedImage, array_to_rgb, decode_image, read_file
from inception_jax.errors import UserError
from inception_jax.evaluation.evaluate import open_data
from inception_jax.evaluation.predict import find_images
from inception_jax.fid import statistics
from inception_jax.fid.statistics import Statistics
from inception_jax.paths import AnyPath, is_bucket, to_path


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images by index, and the statistics of a file.

    Attributes:
      name: what reports call the set.
      count: number of images; 0 if only statistics are known.
      load: index to image, uint8 [H, W, 3]; raises DamagedImage. Safe to call from many threads.
      statistics: from a file; None if they are to be computed.
    """

    name: str
    count: int
    load: Callable[[int], np.ndarray]
    statistics: Statistics | None = None


def open_set(path: str | os.PathLike, split: str = "", max_pixels: int = MAX_PIXELS) -> ImageSet:
    """Opens a set of images.

    Args:
      path: an image; a folder, which stands for the images below it; a pattern with *, ?, [...] or **; an .npz file
        whose first array is images, uint8 [N, H, W, 3] (ADM's samples), or statistics, or both (ADM's reference
        batches); an .npy file of images; or a workdir, which stands for the split that its run evaluates. An image, a
        folder or a workdir may be in a bucket.
      split: another split of a workdir's data.
      max_pixels: an image of more pixels counts as damaged.

    Raises:
      UserError: nothing is found there, or the file cannot be read.
    """
    name = os.fspath(path)
    place: AnyPath = to_path(name) if is_bucket(name) else Path(os.path.expanduser(name))
    if is_bucket(name) and place.suffix in (".npz", ".npy"):
        raise UserError(f"{name} must be a local file: it is mapped into memory")
    if isinstance(place, Path) and place.suffix == ".npz" and place.is_file():
        known = statistics.read(place) if statistics.is_statistics(place) else None
        images = _images_of_npz(place, needed=known is None)
        return ImageSet(name, len(images), _loader(images, name), known)
    if isinstance(place, Path) and place.suffix == ".npy" and place.is_file():
        images = _checked(_mapped(place), place)
        return ImageSet(name, len(images), _loader(images, name))
    if (place / "config.json").is_file():
        source, title = open_data([place], split=split or None)
        return ImageSet(f"{name} ({title})", len(source), lambda index: source[index][0])
    if split:
        raise UserError(f"split={split!r} is for workdirs, and {name} is none")
    found = find_images(str(place) if isinstance(place, Path) and place.exists() else name, pattern=True)
    if len(found) == 1 and found[0].error:
        raise UserError(f"{name}: {found[0].error}")

    def load(index: int) -> np.ndarray:
        file, error = found[index]
        if error:
            raise DamagedImage(file, error)
        return decode_image(read_file(file, file), file, max_pixels)

    return ImageSet(name, len(found), load)


def _mapped(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def _loader(images: Any, name: str) -> Callable[[int], np.ndarray]:
    return lambda index: array_to_rgb(np.asarray(images[index]), f"{name}[{index}]")


def _images_of_npz(file: Path, needed: bool) -> Any:
    """The images of an .npz file, [] if it has none and they are not `needed`."""
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if (stored := _stored(file, archive, entry)) is not None:
                    return stored
            if needed:
                names = ", ".join(entry.filename.removesuffix(".npy") for entry in archive.infolist()[:5])
                raise UserError(f"{file} has no images, uint8 [N, H, W, 3], among its arrays ({names} ...)")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} cannot be read: {error}") from None
    return []


def _stored(file: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Any:
    """An array of images in an .npz file, mapped into memory if it is not compressed; None for any other array."""
    with archive.open(entry) as content:
        version = np.lib.format.read_magic(content)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(content)
        if len(shape) != 4 or shape[3] not in (1, 3) or dtype != np.uint8 or fortran:
            return None
        start = content.tell()
        if entry.compress_type != zipfile.ZIP_STORED:
            return np.frombuffer(content.read(), dtype).reshape(shape)
    with open(file, "rb") as whole:  # the entry's own header is 30 bytes, its name and its extra field (APPNOTE 4.3.7)
        whole.seek(entry.header_offset + 26)
        lengths = int.from_bytes(whole.read(2), "little"), int.from_bytes(whole.read(2), "little")
    return np.memmap(file, dtype, "r", entry.header_offset + 30 + sum(lengths) + start, shape)


def _checked(images: np.ndarray, file: Path) -> np.ndarray:
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
        raise UserError(f"{file} must hold uint8 [N, H, W, 3], not {images.dtype} {list(images.shape)}")
    return images

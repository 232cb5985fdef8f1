"""Boxes of objects in images: the ground truth of localisation, from PASCAL VOC's XML (ILSVRC's) or from CSV.

A box is (xmin, ymin, xmax, ymax) in pixels of the upright image, from 0 on; float32 in arrays. Its last column and row
belong to it: it is xmax - xmin + 1 pixels wide. Numbers in files are taken as they are.
"""

import copy
import csv
import io
import math
import os
import re
import xml.parsers.expat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from inception_jax.data.decoding import IMAGE_SUFFIXES
from inception_jax.data.sources import Source, SourceWrapper, Subset
from inception_jax.errors import UserError
from inception_jax.names import native_path, printable, readable, text_of
from inception_jax.paths import AnyPath, files_below, read_whole, storage, to_path

FITS = 0.5  # a box is right if its intersection over union with a true one is this or more
SIDES = ("xmin", "ymin", "xmax", "ymax")
_LARGEST_XML = 1 << 20  # bytes; ILSVRC's have about a thousand


class Object(NamedTuple):
    """An object in an image.

    Attributes:
      label: name of its class; '' if the file has none: that of the image.
      box: (xmin, ymin, xmax, ymax).
    """

    label: str
    box: tuple[float, float, float, float]


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the intersection over the union of boxes, float64 [...]; `a` and `b`, [..., 4], are broadcast."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    common = np.maximum(high - low + 1, 0).prod(axis=-1)
    return common / (pixels_of(a) + pixels_of(b) - common)


def pixels_of(boxes: np.ndarray) -> np.ndarray:
    """Returns the number of pixels in boxes [..., 4]."""
    return (boxes[..., 2:] - boxes[..., :2] + 1).prod(axis=-1)


class BoxedSource(SourceWrapper):
    """A source whose images have the boxes of a file."""

    def __init__(self, source: Source, path: str | os.PathLike):
        """Reads the boxes.

        Args:
          source: the images. One without an entry in the file has no boxes.
          path: a CSV file, or a directory of XML files; see `read_boxes`.

        Raises:
          UserError: it cannot be read, or has boxes of none of the images.
        """
        super().__init__(source)
        self._path = path
        self._objects = read_boxes(path)
        stems: dict[str, list[str]] = {}
        for name in self._objects:
            stems.setdefault(PurePosixPath(name).name, []).append(name)
        self._by_stem = {stem: names[0] for stem, names in stems.items() if len(names) == 1}
        self.class_names = source.class_names
        if not any(self._entry(index) for index in range(len(source))):
            raise UserError(
                f"{path} has boxes of {len(self._objects)} images, such as {next(iter(self._objects))!r}, but of none "
                f"of these, such as {source.name(0)!r}"
            )

    def read_ahead(self, indices: Sequence[int]) -> "BoxedSource":
        """Returns a source that has read these images at once, if they are in a bucket."""
        if not hasattr(self._source, "read_ahead"):
            return self
        ahead = copy.copy(self)
        ahead._source = self._source.read_ahead(indices)
        return ahead

    def boxes(self, index: int) -> np.ndarray:
        """Returns the boxes of the objects of the image's class, float32 [k, 4].

        Raises:
          UserError: there is none.
        """
        label = self.class_names[self._source.label(index)]
        entry = self._entry(index)
        objects = self._objects[entry] if entry else []
        # Of names such as 'n01440764 tench', those of published weights, the WordNet number counts.
        number = re.sub(r"^(n\d{8}) .*", r"\1", label)
        found = [one.box for one in objects if one.label in ("", label, number)]
        if not found:
            others = ", ".join(sorted({one.label for one in objects}))
            raise UserError(
                f"{self._path} has no box of class {label!r} in {self._source.name(index)}"
                + (f", only of {others}" if others else "")
            )
        return np.array(found, np.float32)

    def listed(self) -> list[int]:
        """Returns the indices of the images that the file has an entry of."""
        return [index for index in range(len(self)) if self._entry(index)]

    def _entry(self, index: int) -> str:
        for name in (self._source.name(index), self._source.file_name(index)):
            if (stem := _without_suffix(name)) in self._objects:
                return stem
        return self._by_stem.get(PurePosixPath(stem).name, "")


def with_boxes(source: Source, path: str | os.PathLike) -> Source:
    """Returns those images that a file has an entry of, with their boxes; arguments are those of `BoxedSource`.

    A TFDS data set is read from end to end for the names of its images.

    Raises:
      UserError: see `BoxedSource`.
    """
    boxed = BoxedSource(source, path)
    listed = boxed.listed()
    return boxed if len(listed) == len(source) else Subset(boxed, listed)


def _without_suffix(image: str) -> str:
    suffix = PurePosixPath(image).suffix
    return image.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else image


def read_boxes(path: str | os.PathLike) -> dict[str, list[Object]]:
    """Reads the boxes of images.

    Args:
      path: a directory, in which every .xml file has the objects of the image of its name, as in ILSVRC's
        Annotations/CLS-LOC/val; or a CSV file with the columns image, xmin, ymin, xmax, ymax and perhaps label, and a
        line for each box. The first line may name them. Both may be in a bucket.

    Returns:
      {name: objects}. A name is the path of the image, or of the XML file below the directory, without its suffix.

    Raises:
      UserError: the path cannot be read, or is no such file or directory.
    """
    path = to_path(path)
    try:
        with storage(path, "cannot be read"):
            return _read_directory(path) if path.is_dir() else _read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None


def _read_directory(directory: AnyPath) -> dict[str, list[Object]]:
    if isinstance(directory, Path):
        below = sorted(text_of(str(file.relative_to(directory))) for file in directory.rglob("*.[xX][mM][lL]"))
    else:
        below = [name for name in files_below(directory) if name.lower().endswith(".xml")]
    objects = {}
    for name in below:
        where = readable(f"{directory}/{name}")
        file = directory / native_path(name)
        if isinstance(file, Path) and not file.is_file():
            raise UserError(f"{where} is not a regular file")
        objects[readable(name[: -len(".xml")])] = read_xml(read_whole(file), where)
    if not objects:
        raise UserError(f"{directory} has no .xml files")
    return objects


def _read_csv(file: AnyPath) -> dict[str, list[Object]]:
    if isinstance(file, Path) and not file.is_file():  # such as a pipe, which may never end
        raise UserError(f"{file} is neither a file nor a directory" if file.exists() else f"{file} does not exist")
    objects: dict[str, list[Object]] = {}
    try:
        rows = list(csv.reader(io.StringIO(read_whole(file).decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is no CSV file: {error}") from None
    for line, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (line == 1 and tuple(cells[1:5]) == SIDES):
            continue
        if len(cells) not in (5, 6) or not cells[0]:
            raise UserError(f"{file}, row {line}, does not have the columns image, {', '.join(SIDES)}[, label]")
        name = _without_suffix(readable(cells[0]))
        label = readable(cells[5]) if len(cells) == 6 else ""
        objects.setdefault(name, []).append(Object(label, _box(cells[1:5], f"{file}, row {line},")))
    if not objects:
        raise UserError(f"{file} has no boxes")
    return objects


class _Refused(Exception):
    pass


def read_xml(content: bytes, name: str) -> list[Object]:
    """Reads the objects of a file in PASCAL VOC's format.

    Args:
      content: of the file.
      name: what errors call it.

    Raises:
      UserError: it is no such file.
    """
    objects: list[dict[str, str]] = []
    path: list[str] = []

    def start(tag: str, _attributes: Mapping[str, str]) -> None:
        path.append(tag)
        if len(path) > 32:
            raise _Refused("it is too deep")
        if path == ["annotation", "object"]:
            objects.append({})

    def text(data: str) -> None:
        # Parts of an object have boxes too: only its own count.
        if path[:2] == ["annotation", "object"] and (path[2:] == ["name"] or path[2:-1] == ["bndbox"]):
            objects[-1][path[-1]] = objects[-1].get(path[-1], "") + data

    def refuse(*_arguments) -> None:
        raise _Refused("it has a document type, which could contain entities")

    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, lambda _tag: path.pop()
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, refuse
    try:
        if len(content) > _LARGEST_XML:
            raise _Refused(f"it has more than {_LARGEST_XML:,} bytes")
        parser.Parse(content, True)
    except (_Refused, xml.parsers.expat.ExpatError, ValueError, LookupError) as error:  # ValueError: of an encoding
        raise UserError(f"{name} is no annotation in PASCAL VOC's format: {error}") from None
    found = []
    for number, one in enumerate(objects, 1):
        missing = [part for part in ("name", *SIDES) if not one.get(part, "").strip()]
        if missing:
            raise UserError(f"{name}: object {number} has no {missing[0]}")
        label = readable(one["name"].strip())
        found.append(Object(label, _box([one[side] for side in SIDES], f"{name}: object {number}")))
    return found


def _box(texts: list[str], where: str) -> tuple[float, float, float, float]:
    try:
        xmin, ymin, xmax, ymax = map(float, texts)
        if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
            raise ValueError
    except ValueError:
        raise UserError(f"{where} has a box that is not four numbers: {printable(', '.join(texts))[:80]}") from None
    if xmax < xmin or ymax < ymin or max(map(abs, (xmin, ymin, xmax, ymax))) > 1e6:
        raise UserError(f"{where} has no box ({xmin:g}, {ymin:g}) to ({xmax:g}, {ymax:g})")
    return xmin, ymin, xmax, ymax

"""Reads files that choose images, give several labels per image, or map labels to outputs."""

import collections
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.data.decoding import IMAGE_SUFFIXES
from inception_jax.errors import UserError
from inception_jax.names import readable


def read_subset(file: Path, names: Sequence[str]) -> np.ndarray:
    """Reads a list of images; returns which images it names, bool [n].

    A line is the name of an image's file, with or without its suffix, or a number. ILSVRC2012_val_00000017.JPEG has the
    number 17, as in the lists of the challenge. If the files have no such numbers, it is the position in the split,
    from 0 on.

    Args:
      file: a text file, one image per line.
      names: n names of the images' files; '' for an image without a file.

    Raises:
      UserError: the file cannot be read, or a line names no image or several.
    """
    lines = [line.strip() for line in _read(file).splitlines() if line.strip()]
    places = _places(names)
    chosen = np.zeros(len(names), bool)
    for line in lines:
        place = places.get(int(line)) if line.isdecimal() else _place(line, places)
        if place is None:
            raise UserError(f"{file} names {line!r}, which is no image of this split, or several")
        chosen[place] = True
    return chosen


def read_multilabels(file: Path, names: Sequence[str], classes: int) -> list[frozenset[int]]:
    """Reads the right classes of each image; an image with an empty set does not count.

    Args:
      file: JSON, such as real.json of github.com/google-research/reassessed-imagenet. It is a list of lists of classes,
        by the numbers of the files from 1 on (by position in the split, if the files have no numbers); or an object of
        lists by the names of the files.
      names: names of the images' files.
      classes: number of classes.

    Raises:
      UserError: the file has another form, an image is missing in it, or several images have its name.
    """
    content = _read_json(file)
    values = content.values() if isinstance(content, dict) else content
    if not isinstance(content, dict | list) or not all(_is_list_of_integers(value) for value in values):
        raise UserError(f"{file} is no JSON list (or object) of lists of classes")
    if any(not 0 <= label < classes for right in values for label in right):
        raise UserError(f"{file} has classes outside 0 ... {classes - 1}")
    labels: dict[int | None, Any]
    if isinstance(content, list):
        numbers = _numbers(names)
        keys = range(len(names)) if numbers is None else [number - 1 for number in numbers]
        labels = dict(enumerate(content))
    else:
        places = _places(names)
        keys = range(len(names))
        labels = {_place(name, places): value for name, value in content.items()}
    result = []
    for name, key in zip(names, keys, strict=True):
        if key not in labels:
            raise UserError(f"{file} has no labels for image {name or key}")
        result.append(frozenset(labels[key]))
    return result


def output_of_classes(ours: Sequence[str], theirs: Sequence[str], label_map: str = "") -> np.ndarray:
    """Returns the network's output for each class of the data, int [K].

    Args:
      ours: class names of the network.
      theirs: class names of the data, K.
      label_map: 'drop_first' if the network has one more output, its first (the background of tf-slim's 1001); or a
        JSON file with a list of K outputs (for the 1008 of the graph of 2015); '' matches by name. Of names such as
        'n01440764 tench', those of published weights, the WordNet number counts.

    Raises:
      UserError: the classes do not match.
    """
    if label_map == "drop_first":
        if len(ours) != len(theirs) + 1:
            raise UserError(f"label_map=drop_first: {len(ours)} outputs are not one more than {len(theirs)} classes")
        return np.arange(1, len(ours))
    if label_map:
        outputs = _read_json(Path(label_map))
        if not _is_list_of_integers(outputs) or len(outputs) != len(theirs):
            raise UserError(
                f"label_map={label_map} is no JSON list of {len(theirs)} whole numbers, an output for each class"
            )
        outputs = np.array(outputs)
        if outputs.min() < 0 or outputs.max() >= len(ours):
            raise UserError(f"label_map={label_map} has outputs outside 0 ... {len(ours) - 1}")
        return outputs
    ours, theirs = ([re.sub(r"^(n\d{8}) .*", r"\1", name) for name in names] for names in (ours, theirs))
    if ours == theirs:
        return np.arange(len(ours))
    twice = [name for name, count in collections.Counter(ours).items() if count > 1]
    if twice:  # as ImageNet's 'crane' and 'maillot'
        raise UserError(
            f"several classes of the network are named {twice[0]!r}; give a label map (a JSON list of outputs)"
        )
    places = {name: place for place, name in enumerate(ours)}
    unknown = [name for name in theirs if name not in places]
    if unknown:
        raise UserError(
            f"the network has {len(ours)} classes, the data {len(theirs)}; unknown to the network: "
            f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}; give a label map (a JSON list of outputs)"
        )
    return np.array([places[name] for name in theirs])


def _read_json(file: Path) -> Any:
    """The content of a JSON file; None if it is no JSON."""
    text = _read(file)
    try:
        return json.loads(text)
    except ValueError:
        return None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {getattr(error, 'strerror', error)}") from None


def _numbers(names: Sequence[str]) -> list[int] | None:
    """The numbers at the end of the file names; None unless each has a different one."""
    found = [re.search(r"\d+$", Path(name).stem) for name in names]
    numbers = [int(match[0]) for match in found if match]
    return numbers if len(set(numbers)) == len(names) else None


def _places(names: Sequence[str]) -> dict[str | int, int]:
    """The position of each image by its number, and by its file name (also without suffix) if no other has it."""
    by_number = {number: place for place, number in enumerate(_numbers(names) or range(len(names)))}
    by_name = collections.defaultdict(set)
    for place, name in enumerate(map(readable, names)):
        if name:
            by_name[name].add(place)
            by_name[Path(name).stem].add(place)
    return by_number | {name: next(iter(places)) for name, places in by_name.items() if len(places) == 1}


def _place(name: str, places: dict[str | int, int]) -> int | None:
    """The position of the named file, which may have another suffix in the list."""
    name = readable(name)
    path = Path(name)
    return places.get(name, places.get(path.stem) if path.suffix.lower() in IMAGE_SUFFIXES else None)


def _is_list_of_integers(value) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)

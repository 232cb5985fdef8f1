"""Which images count and what is right of them, as files say: label lists, several labels an image, label maps."""

import collections
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inception_jax.errors import UserError


def read_subset(file: Path, names: Sequence[str]) -> np.ndarray:
    """Which images a list names, bool [n].

    A line is the name of an image's file, with or without its suffix; or a number: of ILSVRC2012_val_00000017.JPEG it
    is 17, as in the lists of the challenge, and where the files have no such numbers it is the place in the split, from
    0 on.

    Args:
      file: the list, a text.
      names: of the images' files, '' where they have none.

    Raises:
      UserError: the file cannot be read, or a line names no image.
    """
    lines = [line.strip() for line in _read(file).splitlines() if line.strip()]
    places = _places(names)
    chosen = np.zeros(len(names), bool)
    for line in lines:
        key = int(line) if line.isdigit() else Path(line).stem
        if key not in places:
            raise UserError(f"{file} names {line!r}, which is no image of this split")
        chosen[places[key]] = True
    return chosen


def read_multilabels(file: Path, names: Sequence[str], classes: int) -> list[frozenset[int]]:
    """The right classes of each image; an empty set is of an image that does not count.

    Args:
      file: JSON, as real.json of github.com/google-research/reassessed-imagenet: a list of lists of classes, by the
        numbers of the files from 1 on (by the place in the split, where the files have no numbers); or an object of
        lists by the files' names.
      names: of the images' files.
      classes: number of classes.

    Raises:
      UserError: the file is none of this, or says nothing of an image.
    """
    try:
        content = json.loads(_read(file))
        items = content.items() if isinstance(content, dict) else enumerate(content)
        labels = {key if isinstance(key, int) else Path(key).stem: frozenset(map(int, value)) for key, value in items}
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{file} is no JSON list (or object) of lists of classes") from None
    if any(not 0 <= label < classes for right in labels.values() for label in right):
        raise UserError(f"{file} has classes that are not in 0 ... {classes - 1}")
    numbers = _numbers(names)
    first = 1 if numbers is not None else 0
    result = []
    for place, name in enumerate(names):
        number = place if numbers is None else numbers[place]
        key = number - first if isinstance(content, list) else Path(name).stem
        if key not in labels:
            raise UserError(f"{file} says nothing of image {name or place}")
        result.append(labels[key])
    return result


def output_of_classes(ours: Sequence[str], theirs: Sequence[str], label_map: str = "") -> np.ndarray:
    """The network's output for each class of the data, int [K].

    Args:
      ours: the network's class names.
      theirs: those of the data, K.
      label_map: 'drop_first': the network has one output more, its first (the background of tf-slim's 1001); a JSON
        file with a list of K outputs (for the 1008 of the graph of 2015); '': by the names.

    Raises:
      UserError: the classes do not match.
    """
    if label_map == "drop_first":
        if len(ours) != len(theirs) + 1:
            raise UserError(f"--label-map=drop_first: {len(ours)} outputs are not one more than {len(theirs)} classes")
        return np.arange(1, len(ours))
    if label_map:
        try:
            outputs = np.array(json.loads(_read(Path(label_map))))
        except ValueError:
            outputs = np.array("")
        if outputs.shape != (len(theirs),) or outputs.dtype.kind != "i":
            raise UserError(f"{label_map} is no JSON list of {len(theirs)} whole numbers, an output for each class")
        if outputs.min() < 0 or outputs.max() >= len(ours):
            raise UserError(f"{label_map} names outputs that are not in 0 ... {len(ours) - 1}")
        return outputs
    if tuple(ours) == tuple(theirs):
        return np.arange(len(ours))
    places = {name: place for place, name in enumerate(ours)}
    unknown = [name for name in theirs if name not in places]
    if unknown:
        raise UserError(
            f"the network has {len(ours)} classes, and the data {len(theirs)}, of which it does not know "
            f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}; say with --label-map which output is which"
        )
    return np.array([places[name] for name in theirs])


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {getattr(error, 'strerror', error)}") from None


def _numbers(names: Sequence[str]) -> list[int] | None:
    """The numbers at the end of the files' names, None unless all have one of their own."""
    found = [re.search(r"\d+$", Path(name).stem) for name in names]
    numbers = [int(match[0]) for match in found if match]
    return numbers if len(set(numbers)) == len(names) else None


def _places(names: Sequence[str]) -> dict[str | int, int]:
    """The place of each image by its number, and by its file's name without suffix where no other has that."""
    by_number = {number: place for place, number in enumerate(_numbers(names) or range(len(names)))}
    stems = collections.Counter(Path(name).stem for name in names if name)
    by_name = {Path(name).stem: place for place, name in enumerate(names)}
    return by_number | {stem: by_name[stem] for stem, count in stems.items() if count == 1}

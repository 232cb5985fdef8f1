"""Identifies a published file, and converts it to the variables and classes of a network."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.console import plural
from inception_jax.errors import UserError
from inception_jax.weights import formats
from inception_jax.weights.sources import catalogue, mapping
from inception_jax.weights.sources.catalogue import Source


@dataclasses.dataclass(frozen=True)
class Imported:
    """Weights from a published file.

    Attributes:
      source: what the file is.
      variables: 'params' and 'batch_stats' of the network.
      options: arguments of `create_model` without the number of classes, the name among them.
      class_names: names by class index.
    """

    source: Source
    variables: dict[str, Any]
    options: dict[str, Any]
    class_names: tuple[str, ...]


def read(file: Path, source: Source | None = None) -> Imported:
    """Reads a published file.

    Args:
      file: the file, in its publisher's format.
      source: what the file is; None: its names and shapes decide.

    Raises:
      UserError: it cannot be read, or its arrays are not those of `source`, or of several, or of no known source.
    """
    content = _content(file)
    if source is None:
        found = identify(content.arrays)
        if len({id(each.weights) for each in found}) != 1 or different(found):
            raise UserError(f"{file} may be {explain(found)}" if found else f"{file}: {nearest(content.arrays)}")
        source = found[0]
    try:
        variables = mapping.to_ours(source.weights, content.arrays)
    except UserError as error:
        raise UserError(f"{file} is not {source.name}: {error}") from None
    classes = mapping.number_of_classes(source.weights, content.arrays)
    options = {"name": source.weights.network, **source.weights.options}
    return Imported(source, variables, options, class_names(classes))


def identify_file(file: Path) -> list[Source]:
    """Returns what a file may be, see `identify`; raises UserError if it cannot be read."""
    return identify(_content(file).arrays)


def _content(file: Path) -> formats.Content:
    content = formats.read(file)
    if content.metadata.get("positional"):
        raise UserError(f"{file} numbers its arrays and names no layers; save the whole model (.keras or .h5)")
    return content


def class_names(classes: int) -> tuple[str, ...]:
    """Returns ImageNet's class names, 'n01440764 tench', in the order of the WordNet numbers; for others numbers.

    Source of the list: torchvision/models/_meta.py and timm's imagenet_synsets.txt, which agree.
    """
    if classes != 1000:
        return tuple(f"class {number}" for number in range(classes))
    text = resources.files("inception_jax.reference").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def identify(arrays: Mapping[str, np.ndarray]) -> list[Source]:
    """Returns the known files that have arrays of these names and shapes.

    The number of classes may be any. But where maps differ in the classes that they drop, the one that leaves the 1000
    of ImageNet (or how many the network has by default) is right, or else the one that drops none.
    """
    found: list[tuple[tuple[bool, bool], list[Source]]] = []
    for weights, sources in catalogue.maps():
        named = weights.prepare(arrays) if weights.prepare else arrays
        if not all(_has(named, prefix) for prefix in weights.scopes.values()):
            continue  # names alone decide here, which takes no time
        try:
            mapping.check(weights, arrays)
        except UserError:
            continue
        classes = mapping.number_of_classes(weights, arrays)
        found.append(((classes == mapping.default_classes(weights), not weights.background), sources))
    best = max((rank for rank, _ in found), default=None)
    return [source for rank, sources in found if rank == best for source in sources]


def _has(arrays: Mapping[str, np.ndarray], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in arrays)


def different(found: Sequence[Source]) -> bool:
    """Returns whether files with the same arrays need different networks or preprocessing."""
    return len({str(_needs(each)) for each in found}) > 1


def _needs(source: Source) -> dict[str, Any]:
    """What the arrays of a file need to be used rightly."""
    weights = source.weights
    facts = {"network": weights.network, **weights.options, "bgr": weights.bgr, "background": weights.background}
    return facts | source.data


def explain(found: Sequence[Source]) -> str:
    """Returns the names of files with the same arrays, and in lines what differs between them."""
    values = {source.name: _needs(source) for source in found}
    keys = dict.fromkeys(key for each in values.values() for key in each)
    lines = [
        f"  {name}: "
        + ", ".join(f"{key}={each.get(key)}" for key in keys if len({str(v.get(key)) for v in values.values()}) > 1)
        for name, each in values.items()
    ]
    return f"any of {plural(len(found), 'source')}; name one. They differ in:\n" + "\n".join(lines)


def nearest(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns a line about the map that has the most names in common with a file of no known source."""

    def shared(entry) -> int:
        return sum(_has(arrays, prefix) for prefix in entry[0].scopes.values())

    weights, sources = max(catalogue.maps(), key=shared)
    common = shared((weights, sources))
    names = ", ".join(list(arrays)[:3])
    if not common:
        return f"no known network has its {plural(len(arrays), 'array')} ({names} ...)"
    try:
        mapping.check(weights, arrays)
    except UserError as error:
        return f"it is nearest to {sources[0].name}, but {error}"
    return f"it is {sources[0].name}"

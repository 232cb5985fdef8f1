"""Files of Keras: .h5 (until Keras 2, and `save("x.h5")`), .weights.h5 and .keras (Keras 3).

As Keras itself does (keras/src/saving/saving_lib.py), it refuses what makes HDF5 read other files: soft and external
links, external and virtual datasets.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from inception_jax.weights.formats.content import Content, Malformed, check_size

_MOST_LINKS = 100_000
# Names of variables: Keras 1 has W and b, Keras 2 appends ':0' and, in a second session, '_1'.
_OLD_NAMES = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
# Variables in the order in which Keras 3 numbers them, by class of the layer.
_ORDER = {
    "Conv2D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "DepthwiseConv2D": ("depthwise_kernel", "bias"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel", "bias"),
}


def read_h5(file: Path, most: int) -> Content:
    """Reads a file of HDF5: of Keras 2, or the weights alone of Keras 3.

    Args:
      file: the file.
      most: number of bytes that one array may have.

    Raises:
      Malformed: the file is damaged, or refers to others.
    """
    with h5py.File(file, "r") as opened:
        root = opened
        if "model_weights" in opened:
            root = _group(opened, "model_weights")
        if "layer_names" in root.attrs:
            return Content("keras h5", dict(_legacy(root, most)))
        arrays = dict(_numbered(opened, most))
        return Content("keras weights", arrays, {"positional": True})


def read_keras(archive: zipfile.ZipFile, most: int) -> Content:
    """Reads a .keras file; config.json says which layer has which place.

    Raises:
      Malformed: the file is damaged, or refers to others.
    """
    config = json.loads(_member(archive, "config.json", most))
    with h5py.File(io.BytesIO(_member(archive, "model.weights.h5", most)), "r") as opened:
        positional = dict(_numbered(opened, most))
    arrays, places = {}, dict(_places(config["config"]["layers"]))
    for path, value in positional.items():
        matched = re.fullmatch(r"(?:_layer_checkpoint_dependencies|layers)/(.+)/vars/(\d+)", path)
        if not matched or matched[1] not in places:
            raise Malformed(f"{path} belongs to no layer of its config.json")
        layer = places[matched[1]]
        arrays[f"{layer['config']['name']}/{_variables(layer)[int(matched[2])]}"] = value
    return Content("keras", arrays, {"class_name": config.get("class_name", "")})


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    if archive.getinfo(name).file_size > most:
        raise Malformed(f"{name} would become {archive.getinfo(name).file_size} bytes")
    return archive.read(name)


def _places(layers: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place of each layer: its class in snake case, numbered where it repeats."""
    counts: dict[str, int] = {}
    for layer in layers:
        snake = re.sub(
            r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", layer["class_name"])
        ).lower()
        count = counts[snake] = counts.get(snake, -1) + 1
        yield f"{snake}_{count}" if count else snake, layer


def _variables(layer: dict[str, Any]) -> tuple[str, ...]:
    if layer["class_name"] == "BatchNormalization":
        kept = {"gamma": layer["config"].get("scale", True), "beta": layer["config"].get("center", True)}
        return *(name for name in kept if kept[name]), "moving_mean", "moving_variance"
    if layer["class_name"] not in _ORDER:
        raise Malformed(
            f"its layer {layer['config']['name']} is a {layer['class_name']}, whose variables are not known"
        )
    return _ORDER[layer["class_name"]]


def _legacy(root: h5py.Group, most: int) -> Iterator[tuple[str, np.ndarray]]:
    for layer in map(_text, root.attrs["layer_names"]):
        group = _group(root, layer)
        for name in map(_text, group.attrs["weight_names"]):
            last = name.rpartition("/")[2].partition(":")[0]
            last = last.removeprefix(f"{layer}_")
            last = re.sub(r"_\d+$", "", last)
            yield f"{layer}/{_OLD_NAMES.get(last, last)}", _dataset(group, name, most)


def _numbered(opened: h5py.Group, most: int) -> Iterator[tuple[str, np.ndarray]]:
    waiting, seen = [(opened, "")], 0
    while waiting:
        group, prefix = waiting.pop(0)
        for name in group:
            seen += 1
            if seen > _MOST_LINKS:
                raise Malformed("it has more groups than any network")
            _check_link(group, name)
            child = group[name]
            if isinstance(child, h5py.Group):
                waiting.append((child, f"{prefix}{name}/"))
            else:
                yield f"{prefix}{name}", _dataset(group, name, most)


def _group(parent: h5py.Group, path: str) -> h5py.Group:
    for name in path.split("/"):
        _check_link(parent, name)
        parent = parent[name]
        if not isinstance(parent, h5py.Group):
            raise Malformed(f"{path} is no group")
    return parent


def _dataset(group: h5py.Group, path: str, most: int) -> np.ndarray:
    folder, _, name = path.rpartition("/")
    parent = _group(group, folder) if folder else group
    _check_link(parent, name)
    dataset = parent[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiub" or dataset.shape is None:
        raise Malformed(f"{path} is no array of numbers")
    if dataset.external or dataset.is_virtual:
        raise Malformed(f"{path} stands in another file")
    check_size(dataset.shape, dataset.dtype, most)
    return dataset[()]


def _check_link(group: h5py.Group, name: str) -> None:
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise Malformed(f"{name} is a link" if link else f"{name} is missing")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def is_hdf5(start: bytes) -> bool:
    """Whether a file begins as HDF5 does."""
    return start.startswith(b"\x89HDF\r\n\x1a\n")

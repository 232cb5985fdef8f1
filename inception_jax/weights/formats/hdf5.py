"""Files of Keras: .h5 (until Keras 2, and `save("x.h5")`), .weights.h5 and .keras (Keras 3).

As Keras itself does (keras/src/saving/saving_lib.py), it refuses what makes HDF5 read other files: soft and external
links, external and virtual datasets. No name is looked up before its link is known to be a plain one.
"""

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from inception_jax.weights.formats.content import Content, Malformed, Room, is_numeric, native, put

_MOST_LINKS = 20_000
_DEEPEST = 30  # groups in groups
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # those in HDF5 and h5py; others are plugins
# Names of variables: Keras 1 has W and b, Keras 2 appends ':0' and, in a second session, '_1'.
_OLD_NAMES = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
# Variables in the order in which Keras 3 numbers them, by class of the layer.
_ORDER = {
    "Conv2D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "DepthwiseConv2D": ("depthwise_kernel", "bias"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel", "bias"),
}
_CONTAINERS = "(?:_layer_checkpoint_dependencies|layers)"


def read_h5(file: Path) -> Content:
    """Reads a file of HDF5: of Keras 2, or the weights alone of Keras 3.

    Raises:
      Malformed: the file is damaged, or refers to others.
    """
    with h5py.File(file, "r") as opened:
        root = opened
        if _has(opened, "model_weights"):
            root = _group(opened, "model_weights")
        if "layer_names" in root.attrs or "layer_names0" in root.attrs:
            return Content("keras h5", _legacy(root, Room(file)))
        arrays = dict(_numbered(opened, Room(file)))
        return Content("keras weights", arrays, {"positional": True})


def read_keras(file: Path, archive: zipfile.ZipFile) -> Content:
    """Reads a .keras file; config.json says which layer has which place.

    Raises:
      Malformed: the file is damaged, or refers to others.
    """
    config = json.loads(archive.read("config.json"))
    with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as opened:
        positional = dict(_numbered(opened, Room(file)))
    arrays: dict[str, np.ndarray] = {}
    places = dict(_places(config["config"]["layers"]))
    for path, value in positional.items():
        if path.startswith("optimizer/") or "/seed_generator/" in path:
            continue  # of training: momenta; the state of the random numbers of dropout
        matched = re.fullmatch(rf"{_CONTAINERS}/(.+)/vars/(\d+)", path)
        place = re.sub(rf"/{_CONTAINERS}/", "/", matched[1]) if matched else ""
        if not matched or place not in places:
            raise Malformed(f"{path} belongs to no layer of its config.json")
        layer, number = places[place], int(matched[2])
        names = _variables(layer)
        put(arrays, f"{layer['config']['name']}/{names[number] if names else number}", value)
    return Content("keras", arrays, {"class_name": str(config.get("class_name", ""))})


def _places(layers: list[dict[str, Any]], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place of each layer: its class in snake case, numbered where it repeats; also of layers in models."""
    counts: dict[str, int] = {}
    for layer in layers:
        name = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer["class_name"])).lower()
        count = counts[name] = counts.get(name, -1) + 1
        place = f"{prefix}{name}_{count}" if count else f"{prefix}{name}"
        yield place, layer
        if isinstance(inner := layer["config"].get("layers"), list):
            yield from _places(inner, f"{place}/")


def _variables(layer: dict[str, Any]) -> tuple[str, ...]:
    """Returns the names of a layer's variables in their order; () if they have none here, only numbers."""
    if layer["class_name"] == "BatchNormalization":
        kept = {"gamma": layer["config"].get("scale", True), "beta": layer["config"].get("center", True)}
        return *(name for name in kept if kept[name]), "moving_mean", "moving_variance"
    return _ORDER.get(layer["class_name"], ())


def _legacy(root: h5py.Group, room: Room) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for layer in _names(root, "layer_names"):
        group = _group(root, layer)
        paths = list(_names(group, "weight_names"))
        variables = [_variable(layer, path) for path in paths]
        repeated = len(set(variables)) < len(variables)
        for path, variable in zip(paths, variables, strict=True):
            # A model as a layer has variables of many layers: 'inner/conv/kernel', in Keras 2 'conv/kernel:0'.
            owners = path.split("/")[:-1]
            owner = owners[-1] if owners and (repeated or layer in owners) else layer
            put(arrays, f"{owner}/{variable}", _dataset(group, path, room))
    return arrays


def _names(group: h5py.Group, attribute: str) -> Iterator[str]:
    """Yields texts of an attribute, which Keras cuts into NAME0, NAME1 ... where they are more than 64 KB."""
    parts = [attribute]
    if attribute not in group.attrs:
        parts = [f"{attribute}{number}" for number in range(len(group.attrs)) if f"{attribute}{number}" in group.attrs]
    if not parts:
        raise Malformed(f"{group.name} has no {attribute}")
    for part in parts:
        for value in group.attrs[part]:
            yield value.decode() if isinstance(value, bytes) else str(value)


def _variable(layer: str, path: str) -> str:
    last = path.rpartition("/")[2].partition(":")[0]
    last = last.removeprefix(f"{layer}_")
    last = re.sub(r"_\d+$", "", last)
    return _OLD_NAMES.get(last, last)


def _numbered(opened: h5py.Group, room: Room) -> Iterator[tuple[str, np.ndarray]]:
    waiting, seen = [(opened, "", 0)], 0
    while waiting:
        group, prefix, depth = waiting.pop(0)
        for name in group:
            seen += 1
            if seen > _MOST_LINKS or depth > _DEEPEST:
                raise Malformed("it has more groups than any network")
            _check_link(group, name)
            child = group[name]
            if isinstance(child, h5py.Group):
                waiting.append((child, f"{prefix}{name}/", depth + 1))
            else:
                yield f"{prefix}{name}", _dataset(group, name, room)


def _group(parent: h5py.Group, path: str) -> h5py.Group:
    for name in path.split("/"):
        _check_link(parent, name)
        parent = parent[name]
        if not isinstance(parent, h5py.Group):
            raise Malformed(f"{path} is no group")
    return parent


def _dataset(group: h5py.Group, path: str, room: Room) -> np.ndarray:
    folder, _, name = path.rpartition("/")
    parent = _group(group, folder) if folder else group
    _check_link(parent, name)
    dataset = parent[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None or not is_numeric(dataset.dtype):
        raise Malformed(f"{path} is no array of numbers")
    if dataset.external or dataset.is_virtual:
        raise Malformed(f"{path} stands in another file")
    properties = dataset.id.get_create_plist()
    if any(properties.get_filter(number)[0] not in _FILTERS for number in range(properties.get_nfilters())):
        raise Malformed(f"{path} is compressed by a plugin of HDF5; of Keras's files none is")
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > room.left:  # it is read whole
        raise Malformed(f"{path} has chunks that are larger than the file can hold")
    room.take(dataset.shape, dataset.dtype)
    return native(np.asarray(dataset[()]))


def _has(group: h5py.Group, name: str) -> bool:
    """Whether a group has a link of this name; `in` would follow it."""
    return group.get(name, getlink=True) is not None


def _check_link(group: h5py.Group, name: str) -> None:
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise Malformed(f"{name} is a link" if link else f"{name} is missing")

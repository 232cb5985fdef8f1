"""Files of weights: an .npz with one array for each parameter, and the metadata of the network as JSON."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

from inception_jax.errors import UserError

_METADATA, _OLD_METADATA = "metadata", "facts"  # name of the JSON text beside the arrays, and in version 0.1


def path_of(path: tuple[Any, ...]) -> str:
    """Returns the name of a leaf of a tree: 'inception_4a/conv1x1/kernel'; `path` is a key path of `jax.tree_util`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def flatten(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of nested dicts by names such as 'params/inception_4a/conv1x1/kernel'."""
    return {path_of(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}


def write(file: Path, variables: Mapping[str, Any], metadata: Mapping[str, Any]) -> int:
    """Writes weights to an .npz file.

    Args:
      file: to write.
      variables: nested dicts of arrays, such as 'params' and 'batch_stats'.
      metadata: what else is needed to use them, JSON.

    Returns:
      The number of arrays.

    Raises:
      UserError: the file cannot be written.
    """
    arrays, text = flatten(variables), np.array(json.dumps(metadata))
    try:
        with open(file, "wb") as target:
            np.savez(target, **arrays, **{_METADATA: text})  # type: ignore[arg-type]  # the stubs match ** with allow_pickle too
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    return len(arrays)


def sha256(variables: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of parameters and batch statistics, whatever file they came from.

    It covers the arrays sorted by name, each as its name, its shape and its values in little-endian float32.
    """
    digest = hashlib.sha256()
    arrays = flatten({part: variables.get(part, {}) for part in ("params", "batch_stats")})
    for name in sorted(arrays):
        digest.update(f"{name}{list(arrays[name].shape)}".encode())
        digest.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()


def is_ours(file: Path) -> bool:
    """Whether a file is one of `write`, by its first array's name."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.startswith(("params/", "metadata.")) for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return file.suffix == ".npz"  # so that the error says that it is damaged


def read(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a file of `write`.

    Returns:
      The variables, nested dicts of NumPy arrays, and the metadata; {} if the file has none.

    Raises:
      UserError: it is no such file, or it is damaged.
    """
    try:
        with open(file, "rb") as content, np.load(content) as loaded:
            arrays = dict(loaded)
        texts = [str(arrays.pop(name)) for name in (_METADATA, _OLD_METADATA) if name in arrays]
        variables = flax.traverse_util.unflatten_dict({tuple(name.split("/")): a for name, a in arrays.items()})
        return variables, json.loads(texts[0]) if texts else {}
    except Exception as error:  # NumPy, zipfile and json raise many types on damaged files
        raise UserError(f"{file} cannot be read as a file of weights: {error}") from None

"""The archive of a network: safetensors under our names, with config.json beside it, which says what the network is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax

from inception_jax.errors import UserError
from inception_jax.weights import formats
from inception_jax.weights.files import flatten
from inception_jax.weights.formats.safetensors import write_safetensors

CONFIG = "config.json"
_KEY = "inception_jax"  # of the metadata in the safetensors file, so that the file alone suffices


def write(file: Path, variables: Mapping[str, Any], metadata: Mapping[str, Any]) -> int:
    """Writes weights and, beside them, config.json; returns the number of arrays.

    Args:
      file: .safetensors file to write.
      variables: nested dicts of arrays, such as 'params' and 'batch_stats'.
      metadata: network, preprocessing and class names, JSON.

    Raises:
      UserError: a file cannot be written.
    """
    arrays = flatten(variables)
    try:
        write_safetensors(file, arrays, {_KEY: json.dumps(metadata)})
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    write_config(file, metadata)
    return len(arrays)


def write_config(file: Path, metadata: Mapping[str, Any]) -> None:
    """Writes config.json beside a file of weights."""
    try:
        file.with_name(CONFIG).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file.with_name(CONFIG)} cannot be written: {error.strerror}") from None


def read(content: formats.Content) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Returns the variables and the metadata of a file of `write`; None: it is another's."""
    text = content.metadata.get(_KEY) if content.format == "safetensors" else None
    if text is None:
        return None
    return flax.traverse_util.unflatten_dict(dict(content.arrays), sep="/"), json.loads(text)

"""TFDS's directory, and the datasets that this package writes to it."""

import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from etils import epath

from inception_jax.errors import UserError
from inception_jax.names import check_utf8, is_utf8
from inception_jax.paths import is_bucket
from inception_jax.runtime import writable

_METADATA = ("features.json", "dataset_info.json")


def default_directory() -> str:
    """Returns TFDS's default, $TFDS_DATA_DIR or ~/tensorflow_datasets; begins with '~' without a home directory."""
    return os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def expanded(directory: str) -> str:
    """Replaces '~' by the home directory; raises UserError if there is none."""
    directory = os.path.expanduser(directory)
    if directory.startswith("~"):
        raise UserError(f"{directory} needs a home directory, but there is none; give a directory or set TFDS_DATA_DIR")
    return directory


def check_metadata(dataset: epath.Path) -> None:
    """Checks what TFDS would trust in the metadata of a prepared dataset.

    Args:
      dataset: DATA_DIR/NAME; the metadata are in its versions, or in the versions of its configs.

    Raises:
      UserError: they name a class outside of TFDS, whose module TFDS would import, or files in another directory.
    """
    for file in (file for name in _METADATA for depth in ("*", "*/*") for file in dataset.glob(f"{depth}/{name}")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # TFDS says what is wrong with it
        for key, value in _texts(content):
            # In features.json the class of each feature; in dataset_info.json the pattern of the files' names.
            if key in ("pythonClassName", "type") and not value.startswith("tensorflow_datasets."):
                raise UserError(f"{file} names the class {value!r}, which is not part of TFDS; it is not imported")
            if key in ("filepathTemplate", "name") and re.search(r"[/\\]", value):
                raise UserError(f"{file} names the files {value!r}, which are not beside it")


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The texts in JSON by their keys, at any depth."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, dict | list):
        for name, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _texts(value, str(name))


def prepared(make: Callable, name: str, data_dir: str):
    """Returns the builder of a dataset that this package makes; writes the dataset as ArrayRecord if it is missing.

    Args:
      make: given TFDS's directory, returns the builder.
      name: what errors call the dataset.
      data_dir: TFDS's directory; '' for its default, or a temporary directory if the default cannot be used. The
        dataset is read from a bucket, but not written to it.

    Raises:
      UserError: `data_dir` cannot be written to, or is not UTF-8.
    """
    if is_bucket(data_dir or default_directory()):
        builder = make(data_dir or default_directory())
        if not builder.info.splits:
            raise UserError(
                f"the {name} are not in {data_dir or default_directory()}; prepare them in a local directory"
            )
        return builder
    if data_dir:
        directory = expanded(data_dir)
    else:
        directory = default_directory()
        # An existing dataset may be in a read-only directory.
        if directory.startswith("~") or not is_utf8(directory) or not make(directory).info.splits:
            directory = str(writable(Path(directory), "TFDS_DATA_DIR"))
    check_utf8(directory)
    builder = make(directory)
    if not builder.info.splits:
        import tensorflow_datasets as tfds

        tfds.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints what it does
                builder.download_and_prepare(file_format="array_record")
        except (OSError, RuntimeError) as error:  # RuntimeError: ArrayRecord's when the disk is full
            # TFDS writes to another directory and renames it, which fails for the slower of two processes.
            builder = make(directory)
            if not builder.info.splits:
                raise UserError(f"cannot write the {name}; give another directory ({error})") from error
    return builder

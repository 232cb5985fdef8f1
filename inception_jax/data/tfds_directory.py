"""TFDS's directory, and the datasets that this package writes to it."""

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

from inception_jax.errors import UserError
from inception_jax.names import check_utf8, is_utf8
from inception_jax.runtime import writable


def default_directory() -> str:
    """Returns TFDS's default, $TFDS_DATA_DIR or ~/tensorflow_datasets; begins with '~' without a home directory."""
    return os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def expanded(directory: str) -> str:
    """Replaces '~' by the home directory; raises UserError if there is none."""
    directory = os.path.expanduser(directory)
    if directory.startswith("~"):
        raise UserError(f"{directory} needs a home directory, but there is none; give a directory or set TFDS_DATA_DIR")
    return directory


def prepared(make: Callable, name: str, data_dir: str):
    """Returns the builder of a dataset that this package makes; writes the dataset as ArrayRecord if it is missing.

    Args:
      make: given TFDS's directory, returns the builder.
      name: what errors call the dataset.
      data_dir: TFDS's directory; '' for its default, or a temporary directory if the default cannot be used.

    Raises:
      UserError: `data_dir` cannot be written to, or is not UTF-8.
    """
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

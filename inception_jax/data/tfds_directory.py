"""Where TFDS keeps its data sets, and how those that this package makes itself come there."""

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

from inception_jax.errors import UserError
from inception_jax.names import check_utf8, is_utf8
from inception_jax.runtime import writable


def default_directory() -> str:
    """TFDS's own choice, $TFDS_DATA_DIR or ~/tensorflow_datasets; begins with '~' where there is no home directory."""
    return os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def expanded(directory: str) -> str:
    """Puts the home directory in the place of '~'; raises UserError if there is none."""
    directory = os.path.expanduser(directory)
    if directory.startswith("~"):
        raise UserError(f"there is no home directory for {directory}; give a data_dir, or set TFDS_DATA_DIR")
    return directory


def prepared(make: Callable, name: str, data_dir: str):
    """Returns the builder of images that this package makes; the first time it writes them, as ArrayRecord.

    Args:
      make: takes TFDS's directory and returns the builder.
      name: what to call the images in an error.
      data_dir: TFDS's directory; '' for its default, which a temporary one replaces where it cannot be used.

    Raises:
      UserError: `data_dir` cannot be written to, or is not UTF-8.
    """
    if data_dir:
        directory = expanded(data_dir)
    else:
        directory = default_directory()
        # What is there may be read-only.
        if directory.startswith("~") or not is_utf8(directory) or not make(directory).info.splits:
            directory = str(writable(Path(directory), "TFDS_DATA_DIR"))
    check_utf8(directory)
    builder = make(directory)
    if not builder.info.splits:
        import tensorflow_datasets as tfds

        tfds.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces what it does
                builder.download_and_prepare(file_format="array_record")
        except (OSError, RuntimeError) as error:  # the latter is ArrayRecord's when a disk is full
            # TFDS writes beside the target and renames: that fails for the slower of two processes.
            builder = make(directory)
            if not builder.info.splits:
                raise UserError(f"cannot write the {name}; give another data_dir ({error})") from error
    return builder

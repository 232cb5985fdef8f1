"""Reads files of HDF5 in another process: on damaged files its code in C can crash, or come to no end."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from inception_jax.errors import needs_extra
from inception_jax.weights.formats.content import Content, Malformed, limit
from inception_jax.weights.formats.safetensors import read_safetensors, write_safetensors

_SECONDS, _BYTES_PER_SECOND = 30, 5_000_000
_REFUSED = 3


def read(file: Path, scratch: Path) -> Content:
    """Reads an .h5 or .keras file.

    Args:
      file: the file.
      scratch: a folder; the arrays stay in a file there.

    Raises:
      Malformed: the file is damaged, or refers to others.
      MissingExtraError: h5py is not installed.
    """
    with needs_extra("weights"):
        if importlib.util.find_spec("h5py") is None:
            raise ModuleNotFoundError(name="h5py")
    target = scratch / "content.safetensors"
    code = f"from {__name__} import write; write()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path), "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, file, target],
            env=environment,
            capture_output=True,
            timeout=_SECONDS + file.stat().st_size / _BYTES_PER_SECOND,
        )
    except subprocess.TimeoutExpired:
        raise Malformed("it is damaged (HDF5 comes to no end)") from None
    if done.returncode == _REFUSED:
        raise Malformed(done.stdout.decode(errors="replace"))
    if done.returncode:
        raise Malformed(f"it is damaged (HDF5 ended with status {done.returncode})")
    content = read_safetensors(target)
    description = json.loads(content.metadata["description"])
    return Content(
        description["format"], {name: content.arrays[name] for name in description["names"]}, description["metadata"]
    )


def write() -> None:
    """Is the other process: reads the file of the first argument, and writes its content to that of the second."""
    file, target = map(Path, sys.argv[1:])
    _limit_memory(2**31 + 2 * limit(file.stat().st_size))
    try:
        from inception_jax.weights.formats import hdf5

        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                content = hdf5.read_keras(file, archive)
        else:
            content = hdf5.read_h5(file)
        description = {"format": content.format, "metadata": content.metadata, "names": list(content.arrays)}
        write_safetensors(target, content.arrays, {"description": json.dumps(description)})
    except Exception as error:  # h5py raises many types on damaged files
        known = isinstance(error, Malformed)
        sys.stdout.buffer.write((str(error) if known else f"it is damaged ({type(error).__name__}: {error})").encode())
        sys.exit(_REFUSED)


def _limit_memory(count: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (count, count))

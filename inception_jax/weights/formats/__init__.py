"""Reads files of weights of other frameworks. What a file is, its content says; nothing that it contains is run."""

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import math
import os
import re
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.errors import MissingExtraError, UserError
from inception_jax.weights.formats import isolated, protobuf, pytorch, safetensors, tensorflow
from inception_jax.weights.formats.content import Content, Malformed, is_numeric, limit, native

__all__ = ["Content", "read"]

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".h5", ".keras", ".ckpt", ".caffemodel", ".pb", ".onnx", ".npz")
_COMPRESSED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_MOST_MEMBERS = 10_000


def read(path: str | os.PathLike) -> Content:
    """Reads a file of weights: safetensors, PyTorch, Keras, TensorFlow, Caffe, ONNX or NumPy, also in an archive.

    Args:
      path: the file. For a checkpoint of TensorFlow any of its files, or their common beginning.

    Raises:
      UserError: it does not exist, is none of these, or is damaged. One line names it and the reason.
    """
    file = _existing(Path(os.path.expanduser(path)))
    try:
        with tempfile.TemporaryDirectory() as scratch:
            content = _read(file, Path(scratch))
            _check_names(content)
            if os.listdir(scratch):  # its files are about to go
                arrays = {name: np.array(value) for name, value in content.arrays.items()}
                content = Content(content.format, arrays, content.metadata)
        return content
    except MissingExtraError:
        raise
    except Malformed as error:
        reason = str(error)
    except MemoryError:
        reason = "it needs more memory than there is"
    except OSError as error:
        mine = error.errno in (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EMFILE)  # not the file's fault
        reason = str(error.strerror) if mine else f"it is damaged ({type(error).__name__}: {error})"
    except (EOFError, struct.error):
        reason = "it is cut off"
    except Exception as error:  # the readers of zip, tar, HDF5, JSON and pickle raise many types on damaged files
        reason = f"it is damaged ({type(error).__name__}: {error})"
    raise UserError(f"{file} cannot be read: {_printable(reason)[:300]}")


def _existing(file: Path) -> Path:
    """Returns a regular file, or the one that stands for the checkpoint of TensorFlow that is named.

    Raises:
      UserError: there is none.
    """
    try:
        file = _checkpoint(file)
        if file.is_file():
            return file
        reason = "is a directory" if file.is_dir() else "is no regular file" if file.exists() else "does not exist"
    except OSError as error:  # such as a name that is too long
        reason = f"cannot be read: {error.strerror}"
    raise UserError(f"{file} {reason}")


def _checkpoint(file: Path) -> Path:
    """Returns the file that stands for a checkpoint of TensorFlow: PREFIX.index, or the one that is named."""
    matched = re.fullmatch(r"(.+)\.(?:data-\d{5}-of-\d{5}|meta)", file.name)
    prefix = matched[1] if matched else file.name
    index = file.with_name(f"{prefix}.index")
    if index.is_file() and (matched or not file.exists()):
        return index
    return file


def _printable(text: str) -> str:
    """Returns a text in one line, without what moves a terminal's cursor: a file can contain any text as a name."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _check_names(content: Content) -> None:
    for name in content.arrays:
        if not name.isprintable() or len(name) > 1000:
            raise Malformed(f"an array has the name {name[:100]!r}")


def _read(file: Path, scratch: Path, packed: tuple[str, ...] = ()) -> Content:
    """Reads a file. What it unpacks goes to the folder `scratch`; `packed` says what the file was unpacked from."""
    with open(file, "rb") as stream:
        start = stream.read(512)
        stream.seek(max(0, file.stat().st_size - 8))
        end = stream.read()
    if not start:
        raise Malformed("it is empty")
    if start.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:
            return _read_zip(file, archive, scratch, packed)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return isolated.read(file, scratch)
    if pytorch.is_legacy(start):
        return pytorch.read_legacy(file)
    if end == tensorflow.TABLE_END:
        return tensorflow.read_checkpoint(file)
    for magic, open_ in _COMPRESSED.items():
        if start.startswith(magic):
            if packed:
                raise Malformed("it is an archive in an archive")
            with open_(file) as source:
                target = _unpack(source, scratch / "decompressed", limit(file.stat().st_size))
            return _read(target, scratch, ("compressed",))
    if start[257:262] == b"ustar" or _is_tar(file):
        with tarfile.open(file, "r:") as archive:
            return _read_tar(file, archive, scratch, packed)
    if start[8:9] == b"{" and not any(start[4:8]):
        return safetensors.read_safetensors(file)
    return protobuf.read_protobuf(file)


def _is_tar(file: Path) -> bool:
    """Whether a file is a tar archive of before 1988, which has no mark."""
    if file.stat().st_size < 1024:
        return False
    with contextlib.suppress(tarfile.TarError), tarfile.open(file, "r:"):
        return True
    return False


def _read_zip(file: Path, archive: zipfile.ZipFile, scratch: Path, packed: tuple[str, ...]) -> Content:
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if sum(info.file_size for info in archive.infolist()) > limit(file.stat().st_size):
        raise Malformed("its content is out of proportion to its size")
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return pytorch.read_zip(file, archive)
    if "model.weights.h5" in names:
        return isolated.read(file, scratch)
    if names and all(name.endswith(".npy") for name in names):
        return _read_npz(archive)
    return _read_member(names, archive.open, scratch, packed)


def _read_npz(archive: zipfile.ZipFile) -> Content:
    arrays = {
        name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
        for name in archive.namelist()
    }
    numbers = {name: native(value) for name, value in arrays.items() if is_numeric(value.dtype)}
    return Content("npz", numbers)


def _read_tar(file: Path, archive: tarfile.TarFile, scratch: Path, packed: tuple[str, ...]) -> Content:
    members: dict[str, tarfile.TarInfo] = {}
    size, most = 0, limit(file.stat().st_size)
    for number, member in enumerate(archive):
        size += member.size
        if size > most or member.size < 0 or number > _MOST_MEMBERS:
            raise Malformed("its content is out of proportion to its size")
        if member.isreg():
            members[member.name] = member
    if members.keys() >= {"storages", "tensors", "pickle"}:
        return pytorch.read_tar(file, archive)
    return _read_member(list(members), lambda name: archive.extractfile(members[name]), scratch, packed)


def _read_member(names: Iterable[str], open_: Callable[[str], Any], scratch: Path, packed: tuple[str, ...]) -> Content:
    """Reads the file of weights among those of an archive; `open_` opens one by its name."""
    if "archive" in packed:
        raise Malformed("it is an archive in an archive")
    targets = []
    for name in _weights([name for name in names if not Path(name).name.startswith("._")]):  # ._x: of macOS
        with open_(name) as source:
            targets.append(_unpack(source, scratch / Path(name).name))  # without its folders
    return _read(targets[0], scratch, (*packed, "archive"))


def _weights(names: list[str]) -> list[str]:
    """Returns the name of the file of weights in an archive; for a checkpoint of TensorFlow its files, .index first."""
    index = [name for name in names if name.endswith(".index")]
    if len(index) == 1:
        prefix = index[0].removesuffix(".index")
        return [*index, *(name for name in names if name.startswith(f"{prefix}.data-"))]
    found = [name for name in names if name.endswith(_SUFFIXES)]
    if len(found) != 1:
        listed = ", ".join((found or names)[:5])
        raise Malformed(f"it is an archive with {len(found)} files of weights ({listed}); unpack it and name one")
    return found


def _unpack(source: Any, target: Path, most: float = math.inf) -> Path:
    """Writes what `source` contains to a new file, and returns that."""
    size = 0
    with open(target, "xb") as copy:
        while block := source.read(2**20):
            size += len(block)
            if size > most:
                raise Malformed("its content is out of proportion to its size")
            copy.write(block)
    return target

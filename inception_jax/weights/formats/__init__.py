"""Reads files of weights of other frameworks. What a file is, its content says; nothing that it contains is run."""

import contextlib
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inception_jax.errors import MissingExtraError, UserError, needs_extra
from inception_jax.weights.formats import protobuf, pytorch, safetensors
from inception_jax.weights.formats.content import Content, Malformed, limit

__all__ = ["Content", "read"]

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".h5", ".keras", ".ckpt", ".caffemodel", ".pb", ".onnx", ".npz")
_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # last bytes of a table of LevelDB, in which TensorFlow keeps variables


def read(path: str | os.PathLike) -> Content:
    """Reads a file of weights: safetensors, PyTorch, Keras, TensorFlow, Caffe, ONNX or NumPy, also in an archive.

    Args:
      path: the file. For a checkpoint of TensorFlow its .index file, or the common beginning of its files.

    Raises:
      UserError: it does not exist, is none of these, or is damaged. One line names it and the reason.
    """
    file = Path(os.path.expanduser(path))
    if not file.exists() and file.with_name(f"{file.name}.index").exists():
        file = file.with_name(f"{file.name}.index")
    if not file.is_file():
        raise UserError(f"{file} {'is a directory' if file.is_dir() else 'does not exist'}")
    try:
        return _read(file)
    except MissingExtraError:
        raise
    except Malformed as error:
        reason = str(error)
    except MemoryError:
        reason = "it needs more memory than there is"
    except Exception as error:  # the readers of zip, tar, HDF5, JSON and pickle raise many types on damaged files
        reason = f"it is damaged ({type(error).__name__}: {error})"
    raise UserError(f"{file} cannot be read: {' '.join(reason.split())[:300]}")


def _read(file: Path, in_archive: bool = False) -> Content:
    with open(file, "rb") as stream:
        start = stream.read(512)
        stream.seek(max(0, file.stat().st_size - 8))
        end = stream.read()
    if start.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:
            return _read_zip(file, archive, in_archive)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return _hdf5().read_h5(file, limit(file))
    if start.startswith(pytorch.LEGACY_START):
        return pytorch.read_legacy(file)
    if end == _TABLE:
        return _read_tensorflow(file)
    if start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar" or _is_tar(file):
        with tarfile.open(file) as archive:
            return _read_tar(file, archive, in_archive)
    if start[8:9] == b"{" and not any(start[4:8]):
        return safetensors.read_safetensors(file)
    return protobuf.read_protobuf(file)


def _hdf5():
    """Returns the reader of HDF5, whose library is large and optional."""
    with needs_extra("weights"):
        from inception_jax.weights.formats import hdf5
    return hdf5


def _is_tar(file: Path) -> bool:
    return file.stat().st_size >= 1024 and tarfile.is_tarfile(file)


def _read_zip(file: Path, archive: zipfile.ZipFile, in_archive: bool) -> Content:
    names = archive.namelist()
    if sum(info.file_size for info in archive.infolist()) > limit(file):
        raise Malformed("its content is out of proportion to its size")
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return pytorch.read_zip(archive)
    if "model.weights.h5" in names:
        return _hdf5().read_keras(archive, limit(file))
    if names and all(name.endswith(".npy") for name in names):
        return _read_npz(archive)
    [name] = _one([name for name in names if not name.endswith("/")], in_archive)
    with _temporary(name) as target:
        with archive.open(name) as source, open(target, "wb") as copy:
            shutil.copyfileobj(source, copy)
        return _in_memory(_read(target, in_archive=True))


def _read_npz(archive: zipfile.ZipFile) -> Content:
    arrays = {
        name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
        for name in archive.namelist()
    }
    return Content("npz", {name: value for name, value in arrays.items() if value.dtype.kind in "fiubV"})


def _read_tar(file: Path, archive: tarfile.TarFile, in_archive: bool) -> Content:
    members: dict[str, tarfile.TarInfo] = {}
    size, most = 0, limit(file)
    for member in archive:
        size += member.size
        if size > most or len(members) > 10_000:
            raise Malformed("its content is out of proportion to its size")
        if member.isreg():
            members[member.name] = member
    if members.keys() >= {"storages", "tensors", "pickle"}:
        return pytorch.read_tar(archive)
    names = _one(list(members), in_archive)
    with _temporary(names[0]) as target:
        for name in names:
            source = archive.extractfile(members[name])
            with open(target.parent / Path(name).name, "wb") as copy:
                shutil.copyfileobj(source, copy)  # type: ignore[arg-type]  # it is regular
        return _in_memory(_read(target, in_archive=True))


def _one(names: list[str], in_archive: bool) -> list[str]:
    """Returns the name of the file of weights in an archive; for a checkpoint of TensorFlow its files, .index first."""
    if in_archive:
        raise Malformed("it is an archive in an archive")
    index = [name for name in names if name.endswith(".index")]
    if len(index) == 1:
        prefix = index[0].removesuffix(".index")
        return [*index, *(name for name in names if name.startswith(f"{prefix}.data-"))]
    found = [name for name in names if name.endswith(_SUFFIXES)]
    if len(found) != 1:
        listed = ", ".join(found or names)
        raise Malformed(f"it is an archive with {len(found)} files of weights ({listed}); unpack it and name one")
    return found


@contextlib.contextmanager
def _temporary(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory, Path(name).name)


def _in_memory(content: Content) -> Content:
    """Returns the content with copies of the arrays, whose file is about to go."""
    return Content(content.format, {name: np.array(a) for name, a in content.arrays.items()}, content.metadata)


def _read_tensorflow(file: Path) -> Content:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with needs_extra("tensorboard"):
        import tensorflow as tf
    name = str(file)
    version = "tensorflow v1"
    if name.endswith(".index"):
        name, version = name.removesuffix(".index"), "tensorflow v2"
    reader = tf.train.load_checkpoint(name)
    shapes = reader.get_variable_to_shape_map()
    return Content(version, {variable: np.asarray(reader.get_tensor(variable)) for variable in sorted(shapes)})

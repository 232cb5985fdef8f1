"""Files of `torch.save`, without PyTorch and without running what they contain.

A pickle can call any function of Python. Here it may name only the few that rebuild tensors, and these are ours: they
note what a tensor is made of. Three containers exist (torch/serialization.py): a tar archive (2016), a stream of
pickles followed by the storages (2017 to 2020), and a zip archive (since PyTorch 1.6).
"""

import collections
import dataclasses
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from inception_jax.weights.formats.content import DTYPES, Content, Malformed, check_size

MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = pickle.dumps(MAGIC, protocol=2)
_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}
_WRAPPED = ("state_dict", "model_state_dict", "model", "net", "weights")  # where a checkpoint holds the state dict


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A class of storages or tensors, such as torch.FloatStorage."""

    dtype: np.dtype


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A storage that a pickle refers to."""

    key: str
    dtype: np.dtype
    offset: int = 0


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor: a view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, storages: Mapping[str, memoryview | bytes]) -> np.ndarray:
        if self.storage.key not in storages:
            raise Malformed(f"the storage {self.storage.key} is missing")
        dtype = self.storage.dtype
        data = storages[self.storage.key]
        flat = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
        numbers = (self.offset, self.storage.offset, *self.strides)
        if len(self.shape) != len(self.strides) or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise Malformed(f"a tensor has the offset {self.offset} and the strides {self.strides}")
        check_size(self.shape, dtype, len(data))
        start = self.storage.offset + self.offset
        last = start + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if 0 not in self.shape and last >= len(flat):
            raise Malformed("a tensor reaches beyond its storage")
        if 0 in self.shape:
            return np.zeros(self.shape, dtype)
        strides = [stride * dtype.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(flat[start:], self.shape, strides, writeable=False)


class _Module:
    """An object of TorchScript: its attributes, among them tensors and other modules."""

    def __init__(self, *_):
        self.attributes: Any = {}

    def __setstate__(self, state):
        self.attributes = state


def _rebuild_tensor(storage, offset, shape, strides, *_):
    if not isinstance(storage, _Storage):
        raise Malformed("a tensor has no storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _first(value, *_):
    return value


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch.jit._pickle", "restore_type_tag"): _first,
    **{("torch.jit._pickle", f"build_{kind}list"): list for kind in ("int", "double", "bool", "tensor")},
    **{("torch", f"{name}{kind}"): _Kind(DTYPES[d]) for name, d in _STORAGES.items() for kind in ("Storage", "Tensor")},
}


class _Unpickler(pickle._Unpickler):  # the one in C allocates what a pickle's memo index says
    """Builds tensors' descriptions; any global that is not needed for that is refused."""

    def __init__(self, file: BinaryIO, storage: Callable[[Any], Any]):
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str):
        if module.startswith("__torch__"):
            return _Module
        if (module, name) not in _ALLOWED:
            raise Malformed(f"it needs {module}.{name}, which could run code; save the state dict alone")
        return _ALLOWED[module, name]

    def persistent_load(self, pid):
        return self._storage(pid)


def _load(file: BinaryIO, storage: Callable[[Any], Any] = lambda _: None) -> Any:
    return _Unpickler(file, storage).load()


def _storage_of(pid: Any) -> _Storage:
    match pid:
        case ("storage", _Kind(dtype), str(key), _, int(), *view):
            match view:
                case [] | [None]:
                    return _Storage(key, dtype)
                case [(_, int(offset), int())]:
                    return _Storage(key, dtype, offset)
    raise Malformed("a storage is described in an unknown way")


def read_zip(archive: zipfile.ZipFile) -> Content:
    """Reads the container of PyTorch 1.6 and later, also TorchScript's."""
    [pickled] = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    folder = pickled.removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise Malformed("it was saved on a big-endian machine")
    tensors = _tensors(_load(io.BytesIO(_stored(archive, pickled)), _storage_of))
    keys = dict.fromkeys(tensor.storage.key for tensor in tensors.values())
    storages = {key: _stored(archive, f"{folder}data/{key}") for key in keys}
    return _content("torch zip", tensors, storages)


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.NameToInfo:
        raise Malformed(f"{name} is missing")
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise Malformed(f"{name} is compressed, which PyTorch never does")
    return archive.read(name)


def read_legacy(file: Path) -> Content:
    """Reads the stream of PyTorch 0.1.3 to 1.5."""
    data = memoryview(np.memmap(file, np.uint8, mode="r"))  # type: ignore[arg-type]  # an array is a buffer
    with open(file, "rb") as stream:
        if _load(stream) != MAGIC or _load(stream) != 1001:
            raise Malformed("it has another version than 1001")
        if not _load(stream).get("little_endian", True):
            raise Malformed("it was saved on a big-endian machine")
        tensors = _tensors(_load(stream, _storage_of))
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
        storages = {}
        for key in _load(stream):
            if key not in dtypes:  # of no tensor; nothing says how long its elements are
                raise Malformed(f"the storage {key} belongs to no tensor")
            storages[key] = _block(data, stream, dtypes[key])
    return _content("torch legacy", tensors, storages)


def _block(data: memoryview, stream: BinaryIO, dtype: np.dtype) -> memoryview:
    """Returns the bytes of a storage at the place of `stream`: their number of elements, then they; moves `stream`."""
    (count,) = struct.unpack("<q", stream.read(8))
    start = stream.tell()
    if not 0 <= count * dtype.itemsize <= len(data) - start:
        raise Malformed(f"a storage of {count} elements is longer than the file")
    stream.seek(start + count * dtype.itemsize)
    return data[start : stream.tell()]


def read_tar(archive: tarfile.TarFile) -> Content:
    """Reads the container of 2016: a file of storages, one of tensors, and the pickle."""
    parts = {}
    for member in archive.getmembers():
        if member.isreg() and member.name in ("storages", "tensors", "pickle"):
            parts[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]  # it is regular
    storages, dtypes, tensors = {}, {}, {}
    data, stream = memoryview(parts["storages"]), io.BytesIO(parts["storages"])
    for _ in range(_load(stream)):
        key, _, kind = _load(stream)
        storages[str(key)], dtypes[str(key)] = _block(data, stream, kind.dtype), kind.dtype
    for target, root, offset, count in _load(stream):
        size = dtypes[str(root)].itemsize
        storages[str(target)] = storages[str(root)][offset * size : (offset + count) * size]
        dtypes[str(target)] = dtypes[str(root)]
    stream = io.BytesIO(parts["tensors"])
    for _ in range(_load(stream)):
        key, storage, _ = _load(stream)
        dimensions, _ = struct.unpack("<ii", stream.read(8))
        numbers = struct.unpack(f"<{2 * dimensions + 1}q", stream.read(8 * (2 * dimensions + 1)))
        shape, strides, offset = numbers[:dimensions], numbers[dimensions:-1], numbers[-1]
        tensors[str(key)] = _Tensor(_Storage(str(storage), dtypes[str(storage)]), offset, shape, strides)
    root = _load(io.BytesIO(parts["pickle"]), lambda pid: tensors[str(pid)])
    return _content("torch tar", _tensors(root), storages)


def _content(format_: str, tensors: Mapping[str, _Tensor], storages: Mapping[str, Any]) -> Content:
    return Content(format_, {name: tensor.of(storages) for name, tensor in tensors.items()})


def _tensors(saved: Any) -> dict[str, _Tensor]:
    """Returns the tensors of a state dict, of a checkpoint around one, or of a TorchScript module, by name."""
    if isinstance(saved, _Module):
        return dict(_of_module(saved, ""))
    found = _of_dict(saved)
    for key in _WRAPPED:
        if not found and isinstance(saved, dict) and key in saved:
            found = _of_dict(saved[key])
    if not found:
        raise Malformed("it holds no state dict (names with tensors)")
    if all(name.startswith("module.") for name in found):  # of DataParallel
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return found


def _of_dict(saved: Any) -> dict[str, _Tensor]:
    if not isinstance(saved, dict):
        return {}
    return {name: value for name, value in dict.items(saved) if isinstance(name, str) and isinstance(value, _Tensor)}


def _of_module(module: _Module, prefix: str, depth: int = 0) -> Iterator[tuple[str, _Tensor]]:
    if depth > 50 or not isinstance(module.attributes, dict):
        raise Malformed("its modules are nested without an end, or have no names")
    for name, value in module.attributes.items():
        if isinstance(value, _Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _of_module(value, f"{prefix}{name}.", depth + 1)

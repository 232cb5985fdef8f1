"""Files of `torch.save`, without PyTorch and without running what they contain.

A pickle can call any function of Python. Here it may name only the few that rebuild tensors, and these are ours: they
note what a tensor is made of. It may use only the instructions that `torch.save` writes. Three containers exist
(torch/serialization.py): a tar archive (2016), a stream of pickles followed by the storages (2017 to 2020), and a zip
archive (since PyTorch 1.6).
"""

import collections
import dataclasses
import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from inception_jax.weights.formats.content import DTYPES, Content, Malformed, Room

MAGIC = 0x1950A86A20F9469CFC6C
_LONGEST_PICKLE = 2**23  # bytes; a network with a thousand tensors needs 100,000, and each may become an object of 64
_MOST_MODULES = 10_000
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


def is_legacy(start: bytes) -> bool:
    """Whether a file begins with the number that marks the stream of pickles."""
    return start[:1] == pickle.PROTO and pickle.dumps(MAGIC, protocol=2)[2:] in start[:32]


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A class of storages or tensors, such as torch.FloatStorage, or a dtype."""

    dtype: np.dtype


@dataclasses.dataclass(frozen=True)
class _Function:
    """What a pickle may call."""

    call: Callable[..., Any]


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

    def of(self, storages: Mapping[str, memoryview], room: Room) -> np.ndarray:
        if self.storage.key not in storages:
            raise Malformed(f"the storage {self.storage.key} is missing")
        dtype = self.storage.dtype
        data = storages[self.storage.key]
        numbers = (self.offset, self.storage.offset, *self.strides)
        if len(self.shape) != len(self.strides) or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise Malformed(f"a tensor has the offset {self.offset} and the strides {self.strides}")
        room.take(self.shape, dtype)
        if 0 in self.shape:
            return np.zeros(self.shape, dtype)
        flat = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
        start = self.storage.offset + self.offset
        last = start + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if last >= len(flat):
            raise Malformed("a tensor reaches beyond its storage")
        strides = [stride * dtype.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(flat[start:], self.shape, strides, writeable=False)


class _Module:
    """An object of TorchScript: its attributes, among them tensors and other modules."""

    def __init__(self, *_):
        self.attributes: dict[Any, Any] = {}


def _rebuild_tensor(storage, offset, shape, strides, *_):
    if not isinstance(storage, _Storage):
        raise Malformed("a tensor has no storage")
    if max(len(shape), len(strides)) > 32:
        raise Malformed(f"a tensor has {len(shape)} dimensions")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_tensor_v3(storage, offset, shape, strides, _requires_grad, _hooks, kind, *_):
    """Rebuilds a tensor of a dtype that has no class of storages, such as uint16: the storage is of bytes."""
    return _rebuild_tensor(dataclasses.replace(storage, dtype=kind.dtype), offset, shape, strides)


def _rebuild_from_type(function, _type, arguments, _state):
    """Rebuilds a tensor that has attributes."""
    return function.call(*arguments)


def _first(value, *_):
    return value


def _nothing(*_):
    """Stands for a value that is of no use here."""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("torch", "Size"): _Function(_first),
    ("torch._utils", "_rebuild_tensor"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Function(_rebuild_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): _Function(_first),
    ("torch._utils", "_rebuild_parameter_with_state"): _Function(_first),
    ("torch._tensor", "_rebuild_from_type_v2"): _Function(_rebuild_from_type),
    ("torch.nn.parameter", "Parameter"): _Function(_first),
    ("torch", "Tensor"): _Function(_nothing),
    ("torch.jit._pickle", "restore_type_tag"): _Function(_first),
    **{("torch.jit._pickle", f"build_{kind}list"): _Function(_first) for kind in ("int", "double", "bool", "tensor")},
    **{
        (module, f"{name}{kind}"): _Kind(DTYPES[dtype])
        for name, dtype in _STORAGES.items()
        for kind in ("Storage", "Tensor")
        for module in ("torch", "torch.cuda")
    },
    ("torch.storage", "UntypedStorage"): _Kind(DTYPES["uint8"]),
    **{("torch", name): _Kind(dtype) for name, dtype in DTYPES.items()},
    # Of no use, but PyTorch's own restricted reader takes them too (torch/_weights_only_unpickler.py).
    ("torch", "device"): _Function(_nothing),
    ("torch.serialization", "_get_layout"): _Function(_nothing),
    ("_codecs", "encode"): _Function(_nothing),
    **{(m, n): _Function(_nothing) for m in ("builtins", "__builtin__") for n in ("set", "bytearray", "complex")},
    ("collections", "Counter"): _Function(_nothing),
}


class _Instructions(dict):
    """The methods of pickle's reader by instruction."""

    def __missing__(self, code: int):
        raise Malformed(f"its pickle has the instruction {code:#x}, which PyTorch does not write")


class _Unpickler(pickle._Unpickler):  # the one in C allocates what a pickle's memo index says
    """Builds tensors' descriptions. Any global that is not needed for that is refused.

    What pickle's own methods do for any object is done here for the few kinds that occur: a call of a `_Function`, the
    state of a `_Module`, items of plain dicts and lists. So a pickle cannot change an object of this program.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: BinaryIO, storage: Callable[[Any], Any]):
        super().__init__(_Limited(file), encoding="utf-8")
        self._storage = storage
        self._copied = 0

    def find_class(self, module: str, name: str):
        if module.startswith("__torch__"):
            return _Function(_Module)
        if (module, name) == ("collections", "OrderedDict"):
            return _Function(self._ordered)
        if (module, name) not in _ALLOWED:
            raise Malformed(f"it needs {module}.{name}, which could run code; save the state dict alone")
        return _ALLOWED[module, name]

    def persistent_load(self, pid):
        return self._storage(pid)

    def _ordered(self, pairs=()):
        """Makes an OrderedDict, which Python 2 calls with its items; these are copied, so their number is limited."""
        self._copied += len(pairs)
        if self._copied > 1_000_000:
            raise Malformed("it has more names than any network")
        made: collections.OrderedDict[Any, Any] = collections.OrderedDict()
        for key, value in pairs:
            _set(made, key, value)
        return made

    def _call(self):
        arguments = self.stack.pop()
        if not isinstance(self.stack[-1], _Function) or not isinstance(arguments, tuple):
            raise Malformed("its pickle calls what is no function")
        self.stack[-1] = self.stack[-1].call(*arguments)

    def _build(self):
        state = self.stack.pop()
        match self.stack[-1]:
            case _Module() as module if isinstance(state, dict):
                module.attributes = state
            case collections.OrderedDict() | _Tensor() | None:  # a state dict's _metadata, attributes of a tensor
                pass
            case _:
                raise Malformed("its pickle sets the state of an unknown object")

    def _append(self):
        value = self.stack.pop()
        self._list().append(value)

    def _appends(self):
        values = self.pop_mark()
        self._list().extend(values)

    def _list(self) -> list:
        if not isinstance(self.stack[-1], list):
            raise Malformed("its pickle appends to what is no list")
        return self.stack[-1]

    def _set_item(self):
        value, key = self.stack.pop(), self.stack.pop()
        _set(self.stack[-1], key, value)

    def _set_items(self):
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            _set(self.stack[-1], key, value)


_PLAIN = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.BINPERSID),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1),
    *(pickle.BINFLOAT, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINSTRING, pickle.SHORT_BINSTRING),
    *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_TUPLE),
    *(pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
)
_Unpickler.dispatch = _Instructions(
    {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _PLAIN}
    | {
        pickle.REDUCE[0]: _Unpickler._call,
        pickle.NEWOBJ[0]: _Unpickler._call,
        pickle.BUILD[0]: _Unpickler._build,
        pickle.APPEND[0]: _Unpickler._append,
        pickle.APPENDS[0]: _Unpickler._appends,
        pickle.SETITEM[0]: _Unpickler._set_item,
        pickle.SETITEMS[0]: _Unpickler._set_items,
    }
)


class _Limited:
    """A stream that ends with an error behind `_LONGEST_PICKLE` bytes; reading allocates no more than that."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._left = stream, _LONGEST_PICKLE

    def read(self, count: int) -> bytes:
        self._take(count)
        return self._stream.read(count)

    def readline(self) -> bytes:
        line = self._stream.readline(1000)
        self._take(len(line))
        return line

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Malformed("its pickle is longer than that of any network")


def _set(target: Any, key: Any, value: Any) -> None:
    """Sets an item of a dict; others than texts and numbers as keys are left out.

    Hashing a tuple that is nested a million deep would overflow the stack of C.
    """
    if not isinstance(target, dict):
        raise Malformed("its pickle sets an item of what is no dict")
    if isinstance(key, str | int | float):
        target[key] = value


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


def read_zip(file: Path, archive: zipfile.ZipFile) -> Content:
    """Reads the container of PyTorch 1.6 and later, also TorchScript's."""
    pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise Malformed(f"it has {len(pickles)} files data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    data = memoryview(np.memmap(file, np.uint8, mode="r"))  # type: ignore[arg-type]  # an array is a buffer
    order = f"{folder}byteorder"
    if order in archive.NameToInfo and bytes(_stored(archive, data, order)) != b"little":
        raise Malformed("it was saved on a big-endian machine")
    tensors = _tensors(_load(io.BytesIO(_stored(archive, data, pickles[0])), _storage_of))
    keys = dict.fromkeys(tensor.storage.key for tensor in tensors.values())
    storages = {key: _stored(archive, data, f"{folder}data/{key}") for key in keys}
    return _content("torch zip", tensors, storages, Room(file))


def _stored(archive: zipfile.ZipFile, data: memoryview, name: str) -> memoryview:
    """Returns the bytes of a file in an archive, whose bytes are `data`, without a copy of them."""
    if name not in archive.NameToInfo:
        raise Malformed(f"{name} is missing")
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise Malformed(f"{name} is compressed, which PyTorch never does")
    # The local header: 30 bytes, of which the last four are the lengths of the name and of the extra field.
    header = data[info.header_offset : info.header_offset + 30]
    if bytes(header[:4]) != b"PK\x03\x04":
        raise Malformed(f"{name} is not where the archive says")
    start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    found = data[start : start + info.file_size]
    if len(found) != info.file_size:
        raise Malformed(f"{name} is cut off")
    if info.CRC and zlib.crc32(found) != info.CRC:  # 0: PyTorch was told not to compute it
        raise Malformed(f"{name} is damaged: its checksum differs")
    return found


def read_legacy(file: Path) -> Content:
    """Reads the stream of PyTorch 0.1.3 to 1.5."""
    data = memoryview(np.memmap(file, np.uint8, mode="r"))  # type: ignore[arg-type]  # an array is a buffer
    dtypes: dict[str, np.dtype] = {}

    def storage_of(pid: Any) -> _Storage:
        storage = _storage_of(pid)
        if dtypes.setdefault(storage.key, storage.dtype) != storage.dtype:
            raise Malformed(f"the storage {storage.key} has two types")
        return storage

    with open(file, "rb") as stream:
        if _load(stream) != MAGIC or _load(stream) != 1001:
            raise Malformed("it has another version than 1001")
        if not _load(stream).get("little_endian", True):
            raise Malformed("it was saved on a big-endian machine")
        tensors = _tensors(_load(stream, storage_of))
        storages = {}
        for key in _load(stream):
            if key not in dtypes:  # nothing says how long its elements are
                raise Malformed(f"the storage {key} belongs to no tensor")
            storages[key] = _block(data, stream, dtypes[key])
    return _content("torch legacy", tensors, storages, Room(file))


def _block(data: memoryview, stream: BinaryIO, dtype: np.dtype) -> memoryview:
    """Returns the bytes of a storage at the place of `stream`: their number of elements, then they; moves `stream`."""
    (count,) = struct.unpack("<q", stream.read(8))
    start = stream.tell()
    if not 0 <= count * dtype.itemsize <= len(data) - start:
        raise Malformed(f"a storage of {count} elements is longer than the file")
    stream.seek(start + count * dtype.itemsize)
    return data[start : stream.tell()]


def read_tar(file: Path, archive: tarfile.TarFile) -> Content:
    """Reads the container of 2016: a file of storages, one of tensors, and the pickle."""
    parts = {}
    for member in archive.getmembers():
        if member.isreg() and member.name in ("storages", "tensors", "pickle"):
            parts[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]  # it is regular
    storages: dict[str, memoryview] = {}
    dtypes: dict[str, np.dtype] = {}
    tensors: dict[str, _Tensor] = {}
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
    root = _load(io.BytesIO(parts["pickle"]), lambda pid: tensors.get(str(pid)))  # None: a storage alone
    return _content("torch tar", _tensors(root), storages, Room(file))


def _content(format_: str, tensors: Mapping[str, _Tensor], storages: Mapping[str, Any], room: Room) -> Content:
    return Content(format_, {name: tensor.of(storages, room) for name, tensor in tensors.items()})


def _tensors(saved: Any) -> dict[str, _Tensor]:
    """Returns the tensors of a state dict, of a checkpoint around one, or of a TorchScript module, by name."""
    if isinstance(saved, _Module):
        return _of_module(saved)
    found = _of_dict(saved)
    for key in _WRAPPED:  # first: a checkpoint can hold tensors beside the state dict, such as the best accuracy
        if isinstance(saved, dict) and (inner := _of_dict(saved.get(key))):
            found = inner
            break
    if not found:
        raise Malformed("it holds no state dict (names with tensors)")
    if all(name.startswith("module.") for name in found):  # of DataParallel
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return found


def _of_dict(saved: Any) -> dict[str, _Tensor]:
    if not isinstance(saved, dict):
        return {}
    return {name: value for name, value in saved.items() if isinstance(name, str) and isinstance(value, _Tensor)}


def _of_module(module: _Module) -> dict[str, _Tensor]:
    """Returns the tensors of a module and of the modules in it; one that is used twice has two names."""
    found: dict[str, _Tensor] = {}
    waiting, seen = [(module, "")], 0
    while waiting:
        module, prefix = waiting.pop()
        seen += 1
        if seen > _MOST_MODULES or len(prefix) > 1000:
            raise Malformed("its modules are nested without an end")
        for name, value in module.attributes.items():
            if isinstance(value, _Tensor):
                found[f"{prefix}{name}"] = value
        inner = [(value, f"{prefix}{name}.") for name, value in module.attributes.items() if isinstance(value, _Module)]
        waiting.extend(reversed(inner))
    if not found:
        raise Malformed("its modules hold no tensors")
    return found

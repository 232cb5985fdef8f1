"""Files of Caffe, TensorFlow (GraphDef) and ONNX: messages of protocol buffers, read without their libraries.

Wire format: https://protobuf.dev/programming-guides/encoding. Numbers of fields: src/caffe/proto/caffe.proto;
tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto; onnx/onnx.proto.
"""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.weights.formats.content import DTYPES, Content, Malformed, Room, array, put

VARINT, I64, LEN, I32 = 0, 1, 2, 5
_MOST_FIELDS = 1_000_000  # of one message: layers of a network, nodes of a graph, numbers that are not packed
_UNKNOWN = "it is no file of weights that is known, or it is damaged"
Field = tuple[int, int, Any]  # number, wire type, value: an integer, or the bytes


def fields(message: memoryview) -> Iterator[Field]:
    """Yields the fields of a message in their order.

    Raises:
      Malformed: the message is cut off, or holds what is no field, or more fields than any network has; each takes
        time, and as an object of Python a hundred times its two bytes.
    """
    place = seen = 0
    while place < len(message):
        seen += 1
        if seen > _MOST_FIELDS:
            raise Malformed("its protocol buffer has more fields than that of any network")
        tag, place = read_varint(message, place)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == VARINT:
            value, place = read_varint(message, place)
        elif wire in (I64, I32, LEN):
            length = {I64: 8, I32: 4}.get(wire)
            if length is None:
                length, place = read_varint(message, place)
            value, place = message[place : place + length], place + length
        if wire not in (VARINT, I64, I32, LEN) or place > len(message) or not number:
            raise Malformed("its protocol buffer is damaged")
        yield number, wire, value


def read_varint(message: memoryview, place: int) -> tuple[int, int]:
    """Returns the integer at a place of a message, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise Malformed("its protocol buffer is cut off")
        byte = message[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value & (2**64 - 1), place
    raise Malformed("its protocol buffer is damaged")


def all_of(message: memoryview, number: int) -> list[Any]:
    """Returns the values of a repeated field."""
    return [value for n, _, value in fields(message) if n == number]


def first(message: memoryview, number: int, default: Any = b"") -> Any:
    """Returns the value of a field, the first one if there are more."""
    return next((value for n, _, value in fields(message) if n == number), default)


def text(value: Any) -> str:
    """Returns the value of a field as text."""
    return bytes(value).decode()


def integers(message: memoryview, number: int, dtype: Any = np.int64) -> np.ndarray:
    """Returns a repeated field of integers, packed or not; one that is too large for `dtype` wraps around."""
    found = bytearray()
    single: list[int] = []

    def add(values: Any) -> None:
        found.extend(np.asarray(values, np.uint64).astype(dtype).tobytes())

    for n, wire, value in fields(message):
        if n == number and wire == VARINT:
            single.append(value)
        if len(single) == 2**16 or (n == number and wire == LEN):
            add(single)
            single = []
        if n == number and wire == LEN:
            for part in _packed(value):
                add(part)
    add(single)
    return np.frombuffer(found, dtype)


def _packed(data: memoryview) -> Iterator[np.ndarray]:
    """Yields the integers of a packed field in parts: half-precision weights are such lists, of millions."""
    place = 0
    while place < len(data):
        part = np.frombuffer(data[place : place + 2**20], np.uint8)
        last = np.flatnonzero(part < 128)  # the last byte of each integer
        if not len(last):
            raise Malformed("its protocol buffer is cut off")
        first = np.concatenate([[0], last[:-1] + 1])
        values = np.zeros(len(last), np.uint64)
        if (longest := int((last - first).max())) > 9:
            raise Malformed("its protocol buffer is damaged")
        for byte in range(longest + 1):
            has = first + byte <= last
            values[has] |= (part[first[has] + byte] & 127).astype(np.uint64) << np.uint64(7 * byte)
        yield values
        place += int(last[-1]) + 1


def numbers(message: memoryview, number: int) -> Any:
    """Returns a repeated field of floats or doubles, packed or not, as bytes; those of one packed field are no copy."""
    found: Any = b""
    for n, wire, value in fields(message):
        if n == number and wire != VARINT:
            if not len(found):
                found = value
                continue
            if not isinstance(found, bytearray):
                found = bytearray(found)
            found += value
    return found


def read_protobuf(file: Path) -> Content:
    """Reads a .caffemodel, a GraphDef .pb or an .onnx file, whichever it is.

    Raises:
      Malformed: it is none of them, or damaged.
    """
    message = memoryview(np.memmap(file, np.uint8, mode="r"))  # type: ignore[arg-type]  # an array is a buffer
    kinds: dict[int, int] = {}
    names = 0
    try:
        for number, wire, _ in fields(message):
            kinds[number] = wire
            names += number == 1
    except Malformed:
        raise Malformed(_UNKNOWN) from None
    if kinds.get(1) == VARINT and kinds.get(7) == LEN:
        return _onnx(message, file)
    # Field 1 of a NetParameter is its one name, of a GraphDef its nodes.
    if kinds.get(1, LEN) == LEN and names < 2 and LEN in (kinds.get(100), kinds.get(2)) and kinds.get(4) != LEN:
        return _caffe(message)
    if kinds.get(1) == LEN and not kinds.keys() - {1, 2, 3, 4, 5}:
        return _graphdef(message, Room(file))
    raise Malformed(_UNKNOWN)


# ------------------------------------------- Caffe

# Kinds of layers by number (V1LayerParameter.LayerType) and by name (LayerParameter, V0LayerParameter), with the number
# of dimensions of their first blob.
_DIMENSIONS = {4: 4, 14: 2, "Convolution": 4, "InnerProduct": 2, "conv": 4, "innerproduct": 2}


def _caffe(message: memoryview) -> Content:
    arrays: dict[str, np.ndarray] = {}
    types: dict[str, int | str] = {}
    new = False
    for field, _, layer in fields(message):
        if field not in (2, 100):
            continue
        new |= field == 100
        name_field, kind_field, blob_field = (1, 2, 7) if field == 100 else (4, 5, 6)
        if field == 2 and (older := first(layer, 1)):  # V0LayerParameter, of 2013
            layer, name_field, kind_field, blob_field = older, 1, 2, 50
        name, kind = text(first(layer, name_field)), first(layer, kind_field, 0)
        types[name] = kind if isinstance(kind, int) else text(kind)
        for place, blob in enumerate(all_of(layer, blob_field)):
            put(arrays, f"{name}/{place}", _blob(blob, _DIMENSIONS.get(types[name], 1) if place == 0 else 1))
    return Content("caffe" if new else "caffe v1", arrays, {"layers": types})


def _blob(message: memoryview, dimensions: int) -> np.ndarray:
    """Reads an array; `dimensions` is how many an old one has at least, whose shape is filled up with ones to four."""
    shape = [int(n) for each in all_of(message, 7) for n in integers(each, 1)]
    if not all_of(message, 7):
        shape = [first(message, number, 1) for number in (1, 2, 3, 4)]  # num, channels, height, width
        while len(shape) > dimensions and shape[0] == 1:
            shape = shape[1:]
    data, dtype = numbers(message, 5), DTYPES["float32"]
    if not data:
        data, dtype = numbers(message, 8), DTYPES["float64"]
    return array(data, dtype, shape)


# ------------------------------------------- GraphDef

TENSORFLOW = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}


def _graphdef(message: memoryview, room: Room) -> Content:
    arrays: dict[str, np.ndarray] = {}
    operations: dict[str, str] = {}
    for node in all_of(message, 1):
        name, operation = text(first(node, 1)), text(first(node, 2))
        operations[name] = operation
        if operation != "Const":
            continue
        for entry in all_of(node, 5):
            if first(entry, 1) == b"value" and (tensor := first(first(entry, 2), 8)) and _is_numeric(tensor):
                put(arrays, name, _tensor_proto(tensor, room))
    if not all(operations.values()) or not operations:
        raise Malformed(_UNKNOWN)
    return Content("graphdef", arrays, {"operations": operations})


def _is_numeric(tensor: memoryview) -> bool:
    return first(tensor, 1, 0) in TENSORFLOW


def _tensor_proto(tensor: memoryview, room: Room) -> np.ndarray:
    dtype = DTYPES[TENSORFLOW[first(tensor, 1)]]
    shape = dimensions(first(tensor, 2))
    count = math.prod(room.take(shape, dtype))
    if content := first(tensor, 4):
        return array(content, dtype, shape)
    values = listed_values(tensor, dtype)
    if len(values) == count:
        return values.reshape(shape)
    if len(values) > count or (not len(values) and count):
        raise Malformed(f"a constant has {len(values)} values in place of {count}")
    if len(values) == 1:
        return np.broadcast_to(values[0], shape)
    return np.concatenate([values, np.repeat(values[-1:], count - len(values))]).reshape(shape)  # the last one repeats


def dimensions(shape: memoryview) -> list[int]:
    """Returns the dimensions of a TensorShapeProto."""
    return [signed(first(dimension, 1, 0)) for dimension in all_of(shape, 2)]


def listed_values(tensor: memoryview, dtype: np.dtype) -> np.ndarray:
    """Returns the values of a TensorProto that has them in the list of their type."""
    lists = {"float32": 5, "float64": 6, "int64": 10, "bool": 11, "uint32": 16, "uint64": 17}
    if dtype.name in ("float32", "float64"):
        return np.frombuffer(numbers(tensor, lists[dtype.name]), dtype)
    if dtype.name in ("float16", "bfloat16"):  # their bits, as integers
        return integers(tensor, 13, np.uint16).view(dtype)
    return integers(tensor, lists.get(dtype.name, 7), dtype)


def signed(value: int) -> int:
    """Returns an integer of a field, which may be negative."""
    return value - 2**64 if value >= 2**63 else value


# ------------------------------------------- ONNX

_ONNX = {
    **{1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool"},
    **{10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"},
}


def _onnx(message: memoryview, file: Path) -> Content:
    graph = first(message, 7)
    arrays: dict[str, np.ndarray] = {}
    nodes = []
    room = Room(file)
    room.left = max(room.left, 2**31)  # files without weights have constants in their place
    for tensor in all_of(graph, 5):
        if (value := _onnx_tensor(tensor, file)) is not None:
            put(arrays, text(first(tensor, 8)), value)
    for node in all_of(graph, 1):
        outputs = [text(value) for value in all_of(node, 2)]
        operation = text(first(node, 4))
        nodes.append({"type": operation, "inputs": [text(value) for value in all_of(node, 1)], "outputs": outputs})
        for attribute in all_of(node, 5) if operation in ("Constant", "ConstantOfShape") else ():
            tensor = first(attribute, 5)
            if not tensor or (value := _onnx_tensor(tensor, file)) is None:
                continue
            if operation == "Constant":
                put(arrays, outputs[0], value)
            elif nodes[-1]["inputs"][0] in arrays:
                shape = room.take(arrays[nodes[-1]["inputs"][0]].tolist(), value.dtype)
                put(arrays, outputs[0], np.broadcast_to(value.reshape(-1)[:1].reshape(()), shape))
    return Content("onnx", arrays, {"nodes": nodes, "producer": text(first(message, 2))})


def _onnx_tensor(tensor: memoryview, file: Path) -> np.ndarray | None:
    """Reads a TensorProto; None: it is of texts, or of numbers that no network here has."""
    code = first(tensor, 2, 0)
    if code not in _ONNX:
        return None
    dtype, shape = DTYPES[_ONNX[code]], integers(tensor, 1).tolist()
    if first(tensor, 14, 0):
        return _beside(tensor, file, dtype, shape)
    if raw := first(tensor, 9):
        return array(raw, dtype, shape)
    if dtype.name in ("float32", "float64"):
        return array(numbers(tensor, 4 if dtype.name == "float32" else 10), dtype, shape)
    number = {"int64": 7, "uint32": 11, "uint64": 11}.get(dtype.name, 5)
    halves = dtype.name in ("float16", "bfloat16")  # their bits, as integers
    values = integers(tensor, number, np.uint16 if halves else dtype)
    return array(values.view(dtype).tobytes(), dtype, shape)


def _beside(tensor: memoryview, file: Path, dtype: np.dtype, shape: Iterable[int]) -> np.ndarray:
    """Reads a tensor that stands in a file beside the model."""
    entries = {text(first(entry, 1)): text(first(entry, 2)) for entry in all_of(tensor, 13)}
    name = entries.get("location", "")
    other = file.parent / name
    if not name or os.path.basename(name) != name or other.is_symlink() or not other.is_file():
        raise Malformed(f"its weights are in {name or 'another file'}, which is not beside it")
    start = int(entries.get("offset", 0))
    length = int(entries.get("length", other.stat().st_size - start))
    if not 0 <= start <= start + length <= other.stat().st_size:
        raise Malformed(f"its weights are at {start} to {start + length} of {name}, which is shorter")
    if not length:
        return array(b"", dtype, shape)
    data = memoryview(np.memmap(other, np.uint8, mode="r"))  # type: ignore[arg-type]  # an array is a buffer
    return array(data[start : start + length], dtype, shape)

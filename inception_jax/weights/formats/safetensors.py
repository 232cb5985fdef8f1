"""Files of the safetensors format (https://github.com/huggingface/safetensors, README: Format).

Eight bytes, the length of the header; the header, JSON: {name: {dtype, shape, data_offsets}}; the arrays.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.weights.formats.content import DTYPES, Content, Malformed, array

_NAMES = {
    "BOOL": "bool",
    **{
        f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
    },
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": "bfloat16",
}
_CODES = {dtype: name for name, dtype in _NAMES.items()}
_LONGEST = 25_000_000  # bytes of a header; as Python's objects they become twenty times as many


def read_safetensors(file: Path) -> Content:
    """Maps a file into memory; an array is read when it is used.

    Raises:
      Malformed: the file is damaged.
    """
    data = memoryview(np.memmap(file, np.uint8, mode="r"))  # type: ignore[arg-type]  # an array is a buffer
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(_LONGEST, len(data) - 8):
        raise Malformed(f"its header of {length} bytes is longer than the file")
    header = json.loads(bytes(data[8 : 8 + length]))
    body, arrays, end = data[8 + length :], {}, 0
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise Malformed("its __metadata__ is not texts by name")
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != end or not start <= stop <= len(body):
            raise Malformed(f"the array {name} is at {start} to {stop} of {len(body)} bytes")
        if entry["dtype"] not in _NAMES:
            raise Malformed(f"the array {name} has the unknown dtype {entry['dtype']}")
        arrays[name] = array(body[start:stop], DTYPES[_NAMES[entry["dtype"]]], entry["shape"])
        end = stop
    if end != len(body):
        raise Malformed(f"{len(body) - end} bytes belong to no array")
    return Content("safetensors", arrays, metadata)


def write_safetensors(file: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays, in their order and in little-endian bytes; `metadata` are texts by name."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, value in arrays.items():
        start, end = end, end + value.nbytes
        header[name] = {"dtype": _CODES[value.dtype.name], "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin at a multiple of 8
    with open(file, "wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        for value in arrays.values():
            little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            target.write(little.reshape(-1).view(np.uint8).data if math.prod(value.shape) else b"")

"""Files of safetensors, ours and damaged ones."""

import json
import struct

import numpy as np
import pytest

from inception_jax.weights import formats
from inception_jax.weights.formats.safetensors import write_safetensors
from tests.weights.formats.samples import arrays, error_of, same


def test_safetensors(tmp_path):
    file = tmp_path / "weights.bin"  # the content decides, not the name
    write_safetensors(file, arrays(), {"format": "pt"})
    content = formats.read(file)
    assert (content.format, content.metadata) == ("safetensors", {"format": "pt"})
    same(content.arrays, arrays())

    def with_header(header, body=b"\0" * 8):
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + body)

    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for header, message in (
        ({"a": entry | {"data_offsets": [0, 80]}}, "is at 0 to 80 of 8 bytes"),
        ({"a": entry, "b": entry}, "is at 0 to 8"),  # overlapping
        ({"a": entry | {"shape": [3]}}, "an array 3 of float32 has 8 bytes"),
        ({"a": entry | {"shape": [1]}}, "has 8 bytes"),
        ({"a": entry | {"shape": [-2]}}, "has the shape"),
        ({"a": entry | {"dtype": "F8"}}, "unknown dtype F8"),
        ({"a": entry | {"shape": [1], "data_offsets": [0, 4]}}, "belong to no array"),
    ):
        with_header(header)
        error_of(file, message)
    file.write_bytes(struct.pack("<Q", 2**40) + b"{}" + b" " * 20)
    error_of(file, "no file of weights")


def test_what_is_written_is_little_endian(tmp_path):
    file = tmp_path / "weights"
    write_safetensors(file, {"a": np.array([1, 2], ">f4"), "b": np.arange(6).reshape(2, 3).T}, {})
    assert file.read_bytes()[-56:-48] == np.float32([1, 2]).tobytes()
    same(formats.read(file).arrays, {"a": np.float32([1, 2]), "b": np.arange(6).reshape(2, 3).T})


def test_an_array_may_begin_anywhere(tmp_path):
    """Old writers did not align the arrays."""
    text = b'{"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F32","shape":[1],"data_offsets":[3,7]}}'
    (tmp_path / "weights").write_bytes(struct.pack("<Q", len(text)) + text + b"\1\2\3" + np.float32(5).tobytes())
    same(formats.read(tmp_path / "weights").arrays, {"a": np.int8([1, 2, 3]), "b": np.float32([5])})


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"__metadata__":3}', "__metadata__ is not texts by name"),
        (b'{"__metadata__":{"a":[]}}', "__metadata__ is not texts by name"),
        (b'{"a":3}', "is damaged"),
        (b'{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}', "has the shape"),
        (b'{"a":{"dtype":"F32","shape":[9999999999,9999999999,0],"data_offsets":[0,0]}}', "is damaged"),
        (b'{"a":' + b"[" * 100_000, "is damaged"),
        (b"{" + b"\xff" * 8, "is damaged"),
        (b'{"\\u001b[2J":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', "an array has the name"),
        (b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', "an array has the name"),
    ],
)
def test_damaged_headers(tmp_path, header, message):
    (tmp_path / "weights").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    error_of(tmp_path / "weights", message)

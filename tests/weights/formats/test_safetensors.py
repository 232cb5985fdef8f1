"""Files of safetensors, ours and damaged ones."""

import json
import struct

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
        ({"a": entry | {"shape": [3]}}, "larger than the file"),
        ({"a": entry | {"shape": [1]}}, "has 8 bytes"),
        ({"a": entry | {"shape": [-2]}}, "has the shape"),
        ({"a": entry | {"dtype": "F8"}}, "unknown dtype F8"),
        ({"a": entry | {"shape": [1], "data_offsets": [0, 4]}}, "belong to no array"),
    ):
        with_header(header)
        error_of(file, message)
    file.write_bytes(struct.pack("<Q", 2**40) + b"{}" + b" " * 20)
    error_of(file, "no file of weights")

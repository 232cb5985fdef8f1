"""Damaged files of every kind."""

import os
import random

import h5py
import numpy as np

from inception_jax.errors import UserError
from inception_jax.weights import formats
from inception_jax.weights.formats.safetensors import write_safetensors
from tests.weights.formats import torch_files
from tests.weights.formats.samples import arrays, caffe_files, onnx_file
from tests.weights.formats.torch_files import View
from tests.weights.protobuf_files import encode, floats

ROUNDS = int(os.environ.get("FUZZ", "60"))  # mutated files of each kind


def samples(directory):
    """A small file of each kind."""
    storage = np.arange(12, dtype=np.float32)
    state = {"a": View(storage, (3, 4)), "b": View(storage, (2,), (1,), 3)}
    write_safetensors(directory / "safetensors", arrays(), {})
    for name in ("zip", "legacy", "tar"):
        getattr(torch_files, f"write_{name}")(directory / name, state)
    new, old, _ = caffe_files()
    (directory / "caffe").write_bytes(new)
    (directory / "caffe_v1").write_bytes(old)
    (directory / "onnx").write_bytes(onnx_file(encode((1, 2), (2, 1), (4, floats(5, 6)), (8, "b"))))
    np.savez(directory / "npz", a=storage)
    (directory / "npz.npz").rename(directory / "npz")
    with h5py.File(directory / "h5", "w") as opened:
        opened["layers/dense/vars/0"] = storage
    return sorted(directory.iterdir())


def mutated(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.choice((0, 1, 127, 128, 255))
            case 2:
                data = data[:place] or bytearray(b"\0")
            case 3:
                other = rng.randrange(len(data))
                data[place:place] = data[other : other + rng.randrange(1, 40)]
    return bytes(data)


def test_damaged_files_end_in_one_line(tmp_path):
    """FUZZ=2000 takes that many files of each kind."""
    (tmp_path / "good").mkdir()
    for sample in samples(tmp_path / "good"):
        rng, data = random.Random(sample.name), sample.read_bytes()
        formats.read(sample)
        for number in range(ROUNDS):
            file = tmp_path / "file"
            file.write_bytes(mutated(data, rng))
            lines = 1
            try:
                formats.read(file)
            except UserError as error:
                lines = len(str(error).splitlines())
            assert lines == 1, (sample.name, number)

"""Files of PyTorch in their three containers, made byte by byte."""

import os
import pickle
import zipfile

import numpy as np

from inception_jax.weights import formats
from tests.weights.formats import torch_files
from tests.weights.formats.samples import error_of, same
from tests.weights.formats.torch_files import View


def test_containers_of_pytorch(tmp_path):
    storage = np.arange(12, dtype=np.float32)
    state = {
        "whole": View(storage, (3, 4)),
        "transposed": View(storage, (4, 3), (1, 4)),
        "part": View(storage, (2, 2), (4, 1), offset=5),
        "scalar": View(storage, (), (), offset=3),
        "empty": View(storage, (0, 3)),
    }
    expected = {
        "whole": storage.reshape(3, 4),
        "transposed": storage.reshape(3, 4).T,
        "part": storage.reshape(3, 4)[1:, 1:3],
        "scalar": storage[3],
        "empty": np.zeros((0, 3), np.float32),
    }
    for write, format_ in (
        (torch_files.write_zip, "torch zip"),
        (torch_files.write_legacy, "torch legacy"),
        (torch_files.write_tar, "torch tar"),
    ):
        write(tmp_path / "weights", state)
        content = formats.read(tmp_path / "weights")
        assert content.format == format_
        same(content.arrays, expected)
    torch_files.write_zip(tmp_path / "weights", {"epoch": 3, "state_dict": {"module.a": View(storage, (12,))}})
    same(formats.read(tmp_path / "weights").arrays, {"a": storage})
    dtypes = {"half": View(np.float16([1, 2])), "long": View(np.arange(3))}
    torch_files.write_legacy(tmp_path / "weights", dtypes)
    same(formats.read(tmp_path / "weights").arrays, {"half": np.float16([1, 2]), "long": np.arange(3)})


def test_a_pickle_runs_nothing(tmp_path):
    file, ran = tmp_path / "weights.pth", tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(ran),)

    torch_files.write_legacy(file, {"a": Hostile()})
    error_of(file, r"it needs posix\.mkdir, which could run code; save the state dict alone")
    assert not ran.exists()
    storage = np.zeros(4, np.float32)
    for view, message in (
        (View(storage, (5,)), "beyond its storage"),
        (View(storage, (2,), (4,)), "beyond its storage"),
        (View(storage, (2,), (1,), offset=3), "beyond its storage"),
        (View(storage, (2,), (-1,), offset=3), "strides"),
    ):
        torch_files.write_zip(file, {"a": view})
        error_of(file, message)
    torch_files.write_zip(file, {"a": View(storage)}, zipfile.ZIP_DEFLATED)
    error_of(file, "is compressed, which PyTorch never does")
    torch_files.write_zip(file, {"a": 1})
    error_of(file, "no state dict")
    # An index of the memo for which pickle's C code would allocate 16 GB.
    file.write_bytes(pickle.dumps(torch_files.MAGIC, 2) + b"\x80\x02K\x01r\xff\xff\xff\x7f.")
    error_of(file, "another version")

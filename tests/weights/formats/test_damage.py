"""Damaged files of every kind: each ends in one line, in little time and memory.

FUZZ=2000 takes that many files of each kind.
"""

import gzip
import io
import os
import random
import resource
import tarfile
import time
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_jax.errors import UserError
from inception_jax.weights import formats
from inception_jax.weights.formats.safetensors import write_safetensors
from tests.weights.formats import torch_files
from tests.weights.formats.samples import arrays, caffe_files, onnx_file
from tests.weights.formats.torch_files import View
from tests.weights.protobuf_files import encode, floats

ROUNDS = int(os.environ.get("FUZZ", "200"))
PROCESSES = int(os.environ.get("FUZZ", "5"))  # of those that are read in a process of their own


def torch_file(kind):
    storage = np.arange(12, dtype=np.float32)
    return lambda file: getattr(torch_files, f"write_{kind}")(
        file, {"a": View(storage, (3, 4)), "b": View(storage, (2,), (1,), 3)}
    )


def caffe(file):
    file.write_bytes(caffe_files()[0])


def old_caffe(file):
    file.write_bytes(caffe_files()[1])


def onnx(file):
    file.write_bytes(onnx_file(encode((1, 2), (2, 1), (4, floats(5, 6)), (8, "b"))))


def graph(file):
    with tf.Graph().as_default() as made:
        tf.constant(np.ones((2, 3), np.float32), name="a")
        tf.constant(np.full((4,), 7), name="b")
    file.write_bytes(made.as_graph_def().SerializeToString())


def npz(file):
    with open(file, "wb") as target:
        np.savez(target, a=np.arange(12.0), b=np.ones((2, 3), np.float16))


def checkpoint(version):
    def write(file):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.compat.v1.get_variable("conv/weights", initializer=np.ones((1, 2, 3, 4), np.float32))
            tf.compat.v1.get_variable("conv/biases", initializer=np.arange(4.0))
            session.run(tf.compat.v1.global_variables_initializer())
            saver = tf.compat.v1.train.Saver(write_version=version)
            saver.save(session, str(file.with_suffix("")), write_meta_graph=False)
        if version == 1:
            file.with_suffix("").rename(file)

    return write


def tar(file):
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("é/net.caffemodel")
        info.size = len(caffe_files()[0])
        archive.addfile(info, io.BytesIO(caffe_files()[0]))
    file.write_bytes(file.read_bytes()[:4096])


def tgz(file):
    tar(file)
    file.write_bytes(gzip.compress(file.read_bytes()))


def zipped(file):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net.caffemodel", caffe_files()[0])


def hdf5(file):
    with h5py.File(file, "w") as opened:
        opened["layers/dense/vars/0"] = np.arange(12.0)


def keras_file(suffix):
    def write(file):
        layers = [keras.Input((4,)), keras.layers.Dense(2), keras.layers.BatchNormalization()]
        keras.Sequential(layers).save(file.with_suffix(suffix))
        file.with_suffix(suffix).rename(file)

    return write


KINDS = {
    "safetensors": lambda file: write_safetensors(file, arrays(), {"a": "b"}),
    **{f"torch {kind}": torch_file(kind) for kind in ("zip", "legacy", "tar")},
    **{"tensorflow v1": checkpoint(1), "tensorflow v2": checkpoint(2), "graphdef": graph},
    **{"caffe": caffe, "caffe v1": old_caffe, "onnx": onnx, "npz": npz, "tar": tar, "tgz": tgz, "zip": zipped},
    **{"keras weights": hdf5, "keras h5": keras_file(".h5"), "keras": keras_file(".keras")},
}


# Archives have checksums, so that damage in them is found before it is read. Here one file in them is damaged first.
INSIDE = {"torch zip": "archive/data.pkl", "npz": "a.npy", "keras": "model.weights.h5"}


def mutated(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place, other, count = rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(1, 40)
        match rng.randrange(7):
            case 0 | 1:
                data[place] ^= 1 << rng.randrange(8)
            case 2:
                data[place] = rng.choice((0, 1, 127, 128, 255))
            case 3:
                data = data[:place] or bytearray(b"\0")
            case 4:
                data[place:place] = data[other : other + count]
            case 5:
                data[place : place + count] = data[other : other + count]
            case 6:  # a number that is extreme
                width = rng.choice((2, 4, 8))
                number = rng.choice((0, 2 ** (8 * width) - 1, 2 ** (8 * width - 1) - 1, 2 ** rng.randrange(8 * width)))
                data[place : place + width] = number.to_bytes(width, "little")
    return bytes(data)


def rewritten(data, name, change):
    """An archive in which one file is another one."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive, io.BytesIO() as target:
        with zipfile.ZipFile(target, "w") as copy:
            for member in archive.namelist():
                copy.writestr(member, change(archive.read(member)) if member == name else archive.read(member))
        return target.getvalue()


def line(file):
    """What reading a file ends in, as one line."""
    try:
        return " ".join(formats.read(file).arrays)
    except UserError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # in Keras
@pytest.mark.parametrize(("kind", "inside"), [(kind, "") for kind in KINDS] + list(INSIDE.items()))
def test_damaged_files_end_in_one_line(tmp_path, kind, inside):
    sample, file = tmp_path / "sample.index", tmp_path / "file.index"
    KINDS[kind](sample)
    for beside in tmp_path.glob("sample.data-*"):  # of TensorFlow
        beside.rename(beside.with_name(beside.name.replace("sample", "file")))
    data, rng = sample.read_bytes(), random.Random(kind)
    file.write_bytes(data)
    formats.read(file)
    memory, slowest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0
    for number in range(PROCESSES if "keras" in kind else ROUNDS):
        file.write_bytes(rewritten(data, inside, lambda part: mutated(part, rng)) if inside else mutated(data, rng))
        start = time.monotonic()
        assert line(file).isprintable(), number
        slowest = max(slowest, time.monotonic() - start)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    print(f"{kind} {inside}: slowest {slowest:.2f} s, {memory:.0f} MB more")
    assert memory < 500
    assert slowest < 60  # HDF5 is ended after half a minute

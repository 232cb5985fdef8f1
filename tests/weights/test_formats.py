"""Files of weights of all formats, honest, damaged and hostile. They are made by their own packages or byte by byte."""

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_jax.errors import UserError
from inception_jax.weights import formats
from inception_jax.weights.formats import protobuf
from inception_jax.weights.formats.safetensors import write_safetensors
from tests.weights import torch_files
from tests.weights.protobuf_files import encode, floats, varint
from tests.weights.torch_files import View

ROUNDS = int(os.environ.get("FUZZ", "60"))  # mutated files of each kind


def same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def error_of(path, match):
    with pytest.raises(UserError, match=match) as caught:
        formats.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def arrays():
    rng = np.random.default_rng(0)
    return {
        "b": rng.standard_normal((2, 3), np.float32),
        "a": np.arange(4),
        "c": np.float16([0.5]),
        "d": np.zeros((0, 2)),
    }


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


def small_keras_model(**options):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, name="first"),
            layers.BatchNormalization(scale=False),
            layers.Conv2D(2, 1),
            layers.BatchNormalization(),
            layers.SeparableConv2D(2, 1),
            layers.Flatten(),
            layers.Dense(2),
        ],
        **options,
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # in Keras
def test_files_of_keras(tmp_path):
    model = small_keras_model()
    rng = np.random.default_rng(0)
    expected = {}
    for variable in model.variables:
        variable.assign(rng.standard_normal(variable.shape))
        expected[variable.path.removeprefix(f"{model.name}/")] = np.asarray(variable)
    for name, format_ in (("model.h5", "keras h5"), ("model.keras", "keras")):
        model.save(tmp_path / name)
        content = formats.read(tmp_path / name)
        assert content.format == format_
        assert content.arrays.keys() == expected.keys()
        same({key: content.arrays[key] for key in expected}, expected)
    model.save_weights(tmp_path / "model.weights.h5")
    content = formats.read(tmp_path / "model.weights.h5")
    assert content.metadata == {"positional": True}
    assert len(content.arrays) == len(expected)


def test_hdf5_does_not_read_other_files(tmp_path):
    secret, file = tmp_path / "secret.h5", tmp_path / "weights.h5"
    with h5py.File(secret, "w") as opened:
        opened["a"] = np.arange(3.0)
    (tmp_path / "raw").write_bytes(b"\0" * 24)

    def external(opened):
        opened.create_dataset("a", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])

    def virtual(opened):
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "a", (3,))
        opened.create_virtual_dataset("a", layout)

    def huge(opened):
        opened.create_dataset("a", (2**40,), "f8", chunks=(2**20,), compression="gzip")

    for make, message in (
        (lambda opened: opened.__setitem__("a", h5py.ExternalLink(str(secret), "a")), "a is a link"),
        (lambda opened: opened.__setitem__("a", h5py.SoftLink("/b")), "a is a link"),
        (external, "stands in another file"),
        (virtual, "stands in another file"),
        (huge, "larger than the file can hold"),
        (lambda opened: opened.__setitem__("a", b"text"), "no array of numbers"),
    ):
        with h5py.File(file, "w") as opened:
            make(opened)
        error_of(file, message)


def test_checkpoints_of_tensorflow(tmp_path):
    values = {"Net/conv/weights": np.ones((1, 2, 3, 4), np.float32), "Net/conv/biases": np.arange(4, dtype=np.float32)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in values.items():
            tf.compat.v1.get_variable(name, initializer=value)
        session.run(tf.compat.v1.global_variables_initializer())
        for version, format_ in ((1, "tensorflow v1"), (2, "tensorflow v2")):
            saver = tf.compat.v1.train.Saver(write_version=version)
            prefix = saver.save(session, str(tmp_path / f"v{version}.ckpt"), write_meta_graph=False)
            content = formats.read(prefix)
            assert content.format == format_
            same(content.arrays, dict(sorted(values.items())))
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:  # as tf-slim's are published
        archive.add(tmp_path / "v1.ckpt", "inception_v1.ckpt")
    same(formats.read(tmp_path / "archive.tar.gz").arrays, dict(sorted(values.items())))
    with tarfile.open(tmp_path / "archive.tgz", "w:gz") as archive:
        for path in tmp_path.glob("v2.ckpt.*"):
            archive.add(path, path.name)
    same(formats.read(tmp_path / "archive.tgz").arrays, dict(sorted(values.items())))


def caffe_files():
    kernel, bias = np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1), np.float32([1, 2, 3])
    new = [encode((7, encode(*((1, n) for n in a.shape))), (5, a.tobytes())) for a in (kernel, bias)]
    old = [encode((1, 3), (2, 2), (3, 1), (4, 1), (5, kernel.tobytes()))]
    old += [encode((1, 1), (2, 1), (3, 1), (4, 3), *[(5, bias.tobytes())])]
    layers = encode((1, "net"), (100, encode((1, "data"), (2, "Data"))))
    layers += encode((100, encode((1, "conv1/7x7"), (2, "Convolution"), (7, new[0]), (7, new[1]))))
    v1 = encode((1, "net"), (2, encode((4, "conv1/7x7"), (5, 4), (6, old[0]), (6, old[1]))))
    return layers, v1, {"conv1/7x7/0": kernel, "conv1/7x7/1": bias}


def test_files_of_caffe(tmp_path):
    new, old, expected = caffe_files()
    for data, format_ in ((new, "caffe"), (old, "caffe v1")):
        (tmp_path / "net.caffemodel").write_bytes(data)
        content = formats.read(tmp_path / "net.caffemodel")
        assert content.format == format_
        same(content.arrays, expected)


def test_graphs_of_tensorflow(tmp_path):
    values = {
        "conv/weights": np.ones((3, 3, 1, 2), np.float32),
        "conv/half": np.float16([1.5, 2]),
        "repeated": np.full((2, 2), 7, np.int64),
        "brain": np.arange(3, dtype=np.float32).astype(tf.bfloat16.as_numpy_dtype),
        "yes": np.array([True, False]),
    }
    with tf.Graph().as_default() as graph:
        for name, value in values.items():
            tf.constant(value, name=name)
        tf.constant("text", name="label")
        tf.compat.v1.placeholder(tf.float32, name="input")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    content = formats.read(tmp_path / "graph.pb")
    assert content.format == "graphdef"
    same(content.arrays, values)
    with zipfile.ZipFile(tmp_path / "inception5h.zip", "w") as archive:  # as published
        archive.write(tmp_path / "graph.pb", "tensorflow_inception_graph.pb")
        archive.writestr("LICENSE", "text")
    same(formats.read(tmp_path / "inception5h.zip").arrays, values)


def onnx_file(*tensors):
    node = encode((1, "x"), (1, "w"), (2, "y"), (4, "Conv"))
    graph = encode((1, node), (2, "g"), *((5, tensor) for tensor in tensors))
    return encode((1, 8), (2, "test"), (7, graph), (8, encode((2, 17))))


def test_files_of_onnx(tmp_path):
    file = tmp_path / "model.onnx"
    raw = encode((1, 2), (1, 2), (2, 1), (8, "w"), (9, floats(1, 2, 3, 4)))
    typed = encode((1, 2), (2, 1), (4, floats(5, 6)), (8, "b"))
    packed = encode((1, varint(2)), (2, 7), (7, varint(-1) + varint(3)), (8, "shape"))
    file.write_bytes(onnx_file(raw, typed, packed))
    content = formats.read(file)
    assert content.metadata["nodes"] == [{"type": "Conv", "inputs": ["x", "w"], "outputs": ["y"]}]
    expected = {"w": np.float32([[1, 2], [3, 4]]), "b": np.float32([5, 6]), "shape": np.array([-1, 3])}
    same(content.arrays, expected)

    def outside(location):
        entries = [encode((1, "location"), (2, location)), encode((1, "length"), (2, "8"))]
        return onnx_file(encode((1, 2), (2, 1), (8, "w"), *((13, entry) for entry in entries), (14, 1)))

    (tmp_path / "weights").write_bytes(floats(7, 8))
    file.write_bytes(outside("weights"))
    same(formats.read(file).arrays, {"w": np.float32([7, 8])})
    for location in ("../weights", "/etc/hostname", "missing", ""):
        file.write_bytes(outside(location))
        error_of(file, "not beside it")


def test_archives(tmp_path):
    file = tmp_path / "archive"
    np.savez(tmp_path / "weights.npz", a=np.arange(3))
    same(formats.read(tmp_path / "weights.npz").arrays, {"a": np.arange(3)})

    def tar(*members):
        with tarfile.open(file, "w") as archive:
            for name, content in members:
                info = tarfile.TarInfo(name)
                if content is None:
                    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                    archive.addfile(info)
                else:
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))

    new, _, expected = caffe_files()
    tar(("../../x/net.caffemodel", new), ("readme.txt", b"text"))
    same(formats.read(file).arrays, expected)
    assert not (tmp_path.parent.parent / "x").exists()
    tar(("net.caffemodel", None))
    error_of(file, "0 files of weights")
    tar(("a.caffemodel", new), ("b.caffemodel", new))
    error_of(file, "2 files of weights .a.caffemodel, b.caffemodel.; unpack it and name one")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.pb", b"\0" * 2**27)
    error_of(file, "out of proportion")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    error_of(tmp_path / "objects.npz", "allow_pickle")


def test_what_is_no_file_of_weights(tmp_path):
    for content in (b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, b"\0" * 1000, b"<html>" * 100):
        (tmp_path / "file").write_bytes(content)
        error_of(tmp_path / "file", "no file of weights|is empty")
    with pytest.raises(UserError, match="does not exist"):
        formats.read(tmp_path / "missing.pth")
    with pytest.raises(UserError, match="is a directory"):
        formats.read(tmp_path)


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


def test_fields_of_protocol_buffers():
    assert list(protobuf.fields(memoryview(encode((1, 300), (2, "ab"))))) == [(1, 0, 300), (2, 2, b"ab")]
    for data in (b"\x08", b"\x08\xff", b"\x12\x05ab", b"\x0b", b"\x07", b"\x08" + b"\xff" * 11):
        with pytest.raises(Exception, match="protocol buffer"):
            list(protobuf.fields(memoryview(data)))

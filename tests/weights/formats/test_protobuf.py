"""Files of Caffe, graphs of TensorFlow, and ONNX: protocol buffers."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf

from inception_jax.weights import formats
from inception_jax.weights.formats import protobuf
from tests.weights.formats.samples import caffe_files, error_of, onnx_file, same
from tests.weights.protobuf_files import encode, floats, varint


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


def test_fields_of_protocol_buffers():
    assert list(protobuf.fields(memoryview(encode((1, 300), (2, "ab"))))) == [(1, 0, 300), (2, 2, b"ab")]
    for data in (b"\x08", b"\x08\xff", b"\x12\x05ab", b"\x0b", b"\x07", b"\x08" + b"\xff" * 11):
        with pytest.raises(Exception, match="protocol buffer"):
            list(protobuf.fields(memoryview(data)))

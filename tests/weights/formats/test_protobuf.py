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


def test_many_tiny_fields():
    with pytest.raises(Exception, match="more fields than that of any network"):
        list(protobuf.fields(memoryview(b"\x0a\x00" * 1_000_001)))


def test_old_shapes_of_caffe(tmp_path):
    """They have four dimensions; a layer's type says how many are meant. The oldest layers are one level deeper."""

    def blob(*shape):
        return encode(*((number, n) for number, n in enumerate(shape, 1)), (5, floats(*range(int(np.prod(shape))))))

    bias, one_output, one_class = blob(1, 1, 1, 1), blob(1, 2, 3, 3), blob(1, 1, 1, 4)
    shapes = {"conv/0": (1, 2, 3, 3), "conv/1": (1,), "fc/0": (1, 4), "fc/1": (1,)}
    v1 = [
        encode((4, "conv"), (5, 4), (6, one_output), (6, bias)),
        encode((4, "fc"), (5, 14), (6, one_class), (6, bias)),
    ]
    v0 = [
        encode((1, encode((1, "conv"), (2, "conv"), (50, one_output), (50, bias)))),
        encode((1, encode((1, "fc"), (2, "innerproduct"), (50, one_class), (50, bias)))),
    ]
    for layers in (v1, v0):
        # With the shape of the input, whose fields a graph of TensorFlow has too.
        inputs = [(3, "data"), *((4, n) for n in (1, 3, 224, 224))]
        (tmp_path / "net").write_bytes(encode((1, "net"), *((2, layer) for layer in layers), *inputs))
        content = formats.read(tmp_path / "net")
        assert content.format == "caffe v1"
        assert {name: value.shape for name, value in content.arrays.items()} == shapes


def test_names_are_used_once(tmp_path):
    layer = (100, encode((1, "a"), (2, "Convolution"), (7, encode((7, encode((1, 1))), (5, floats(1))))))
    (tmp_path / "net").write_bytes(encode((1, "net"), layer, layer))
    error_of(tmp_path / "net", "two arrays named a/0")


def constant(name, shape, values, dtype=1):
    tensor = encode((1, dtype), (2, encode(*((2, encode((1, n))) for n in shape))), *values)
    return encode((1, name), (2, "Const"), (5, encode((1, "value"), (2, encode((8, tensor))))))


def graph(*nodes):
    return encode(*((1, node) for node in nodes), (4, encode((1, 1087))))


def test_lists_of_values(tmp_path):
    """Values packed or one by one, halves as integers, the last value repeated."""
    halves = np.arange(300_000, dtype=np.uint16) % 31_000
    packed = b"".join(varint(int(n)) for n in halves)
    nodes = [
        constant("half", (300_000,), [(13, packed)], 19),
        constant("single", (2,), [(7, 300), (7, -1)], 3),
        constant("repeated", (2, 2), [(5, floats(1, 2))]),
        constant("same", (2, 2), [(5, floats(7))]),
        constant("empty", (0, 3), []),
    ]
    (tmp_path / "graph").write_bytes(graph(*nodes))
    expected = {
        "half": halves.view(np.float16),
        "single": np.int32([300, -1]),
        "repeated": np.float32([[1, 2], [2, 2]]),
        "same": np.full((2, 2), 7, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }
    same(formats.read(tmp_path / "graph").arrays, expected)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [constant(f"a{number}", (2000, 2000), [(5, floats(1))]) for number in range(8)],
            "larger than the file can hold",
        ),
        ([constant("a", (2**62, 2), [(5, floats(1))])], "larger than the file can hold"),
        ([constant("a", (-1,), [(5, floats(1))])], "has the shape"),
        ([constant("a", (1,), [(5, floats(1, 2))])], "2 values in place of 1"),
        ([constant("a", (2,), [])], "0 values in place of 2"),
        ([constant("a", (2,), [(4, b"123")])], "has 3 bytes"),
        ([constant("a", (2,), [(5, b"123")])], "is damaged"),
        ([constant("a", (1,), [(7, b"\xff" * 11 + b"\1")], 3)], "protocol buffer is damaged"),
        ([constant("a", (1,), [(7, b"\xff")], 3)], "protocol buffer is cut off"),
        ([constant("a", (), [(5, floats(1))])] * 2, "two arrays named a"),
        ([encode((1, "a"))], "no file of weights that is known"),
    ],
)
def test_damaged_graphs(tmp_path, nodes, message):
    (tmp_path / "graph").write_bytes(graph(*nodes))
    error_of(tmp_path / "graph", message)


def test_what_else_is_in_a_file_of_onnx(tmp_path):
    file = tmp_path / "model.onnx"
    words = encode((1, 1), (2, 8), (6, "text"), (8, "words"))  # texts are left out
    half = encode((1, 2), (2, 10), (5, varint(0x3C00) + varint(0xC000)), (8, "half"))
    shape = encode((1, 2), (2, 7), (7, varint(2) + varint(3)), (8, "shape"))
    value = encode((1, 1), (2, 1), (4, floats(0.5)))
    fill = encode((1, "shape"), (2, "filled"), (4, "ConstantOfShape"), (5, encode((1, "value"), (5, value))))
    const = encode((2, "const"), (4, "Constant"), (5, encode((1, "value"), (5, value))))
    tensors = [(5, tensor) for tensor in (words, half, shape)]
    file.write_bytes(encode((1, 8), (7, encode((1, fill), (1, const), *tensors))))
    expected = {"half": np.float16([1, -2]), "shape": np.array([2, 3])}
    expected |= {"filled": np.full((2, 3), 0.5, np.float32), "const": np.float32([0.5])}
    same(formats.read(file).arrays, expected)


def test_hostile_files_of_onnx(tmp_path):
    file = tmp_path / "model.onnx"
    (tmp_path / "weights").write_bytes(floats(7, 8))
    (tmp_path / "link").symlink_to(tmp_path / "weights")

    def outside(**entries):
        entries = [(13, encode((1, key), (2, value))) for key, value in entries.items()]
        return onnx_file(encode((1, 2), (2, 1), (8, "w"), *entries, (14, 1)))

    for entries, message in (
        ({"location": "link"}, "not beside it"),
        ({"location": "weights", "offset": "4"}, "an array 2 of float32 has 4 bytes"),
        ({"location": "weights", "offset": "-8", "length": "8"}, "at -8 to 0 of weights, which is shorter"),
        ({"location": "weights", "offset": "99"}, "is shorter"),
        ({"location": "weights", "length": "9" * 5000}, "is damaged"),
    ):
        file.write_bytes(outside(**entries))
        error_of(file, message)
    shape = encode((1, 1), (2, 7), (7, varint(2**40)), (8, "shape"))
    fill = encode(
        (1, "shape"), (2, "filled"), (4, "ConstantOfShape"), (5, encode((5, encode((1, 1), (2, 1), (4, floats(0))))))
    )
    file.write_bytes(encode((1, 8), (7, encode((1, fill), (5, shape)))))
    error_of(file, "larger than the file can hold")

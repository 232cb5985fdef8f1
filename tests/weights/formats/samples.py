"""What the tests of files of weights share: small files, and how they are compared."""

import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.weights import formats
from tests.weights.protobuf_files import encode


def same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def error_of(path, match):
    with pytest.raises(UserError, match=match) as caught:
        formats.read(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


def arrays():
    rng = np.random.default_rng(0)
    return {
        "b": rng.standard_normal((2, 3), np.float32),
        "a": np.arange(4),
        "c": np.float16([0.5]),
        "d": np.zeros((0, 2)),
    }


def caffe_files():
    kernel, bias = np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1), np.float32([1, 2, 3])
    new = [encode((7, encode(*((1, n) for n in a.shape))), (5, a.tobytes())) for a in (kernel, bias)]
    old = [encode((1, 3), (2, 2), (3, 1), (4, 1), (5, kernel.tobytes()))]
    old += [encode((1, 1), (2, 1), (3, 1), (4, 3), *[(5, bias.tobytes())])]
    layers = encode((1, "net"), (100, encode((1, "data"), (2, "Data"))))
    layers += encode((100, encode((1, "conv1/7x7"), (2, "Convolution"), (7, new[0]), (7, new[1]))))
    v1 = encode((1, "net"), (2, encode((4, "conv1/7x7"), (5, 4), (6, old[0]), (6, old[1]))))
    return layers, v1, {"conv1/7x7/0": kernel, "conv1/7x7/1": bias}


def onnx_file(*tensors):
    node = encode((1, "x"), (1, "w"), (2, "y"), (4, "Conv"))
    graph = encode((1, node), (2, "g"), *((5, tensor) for tensor in tensors))
    return encode((1, 8), (2, "test"), (7, graph), (8, encode((2, 17))))

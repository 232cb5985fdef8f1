"""Maps of the ONNX model zoo, without its graphs: tests/parity/test_sources_onnx.py has those."""

import numpy as np

from inception_jax.weights.sources import mapping, onnx_zoo


def test_a_factor_and_offset_after_batch_normalisation_are_merged():
    """Batch normalisation gives s * x + b, then w * (s * x + b) + c."""
    arrays = {
        "conv1/7x7_s2_w_0": np.ones((2, 3, 7, 7), np.float32),
        "conv1/7x7_s2/bn_scale_0": np.float32([2, 3]),
        "conv1/7x7_s2/bn_bias_0": np.float32([4, 5]),
        "conv1/7x7_s2/bn_mean_0": np.float32([6, 7]),
        "conv1/7x7_s2/bn/sc_w_0": np.float32([10, 100]),
        "conv1/7x7_s2/bn/sc_b_0": np.float32([1, 2]),
    }
    found = onnx_zoo.merged(arrays)
    assert list(found) == [name for name in arrays if "sc_" not in name]
    np.testing.assert_array_equal(found["conv1/7x7_s2/bn_scale_0"], [20, 300])
    np.testing.assert_array_equal(found["conv1/7x7_s2/bn_bias_0"], [41, 502])
    assert list(onnx_zoo.merged(found)) == list(found)


def test_names_of_mxnet_count_networks():
    weights = onnx_zoo.VGG[16, True]
    shapes = {entry.theirs: tuple(n or 1000 for n in entry.shape) for entry in mapping.entries(weights)}
    arrays = {name.replace("vgg0_", "vgg3_"): np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()}
    assert "vgg3_batchnorm12_running_var" in arrays
    assert "vgg3_conv12_bias" in arrays
    mapping.check(weights, arrays)


def test_shapes_are_no_weights():
    weights = onnx_zoo.ZFNET512
    arrays = {
        entry.theirs: np.broadcast_to(np.float32(1), tuple(n or 1000 for n in entry.shape))
        for entry in mapping.entries(weights)
    }
    assert arrays["gpu_0/fc7_w_0"].shape == (1024, 4096)
    arrays |= {"OC2_DUMMY_1": np.array([1, 18432]), "gpu_0/conv1_w_0__SHAPE": np.array([96, 3, 7, 7])}
    mapping.check(weights, arrays)

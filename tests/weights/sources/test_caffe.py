"""Maps of Caffe: files in both of its formats, the order of channels, and of what a dense layer sees."""

import numpy as np

from inception_jax.weights import formats
from inception_jax.weights.sources import caffe, mapping
from tests.weights.protobuf_files import encode


def drawn(weights) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {entry.theirs: [1000 if n is None else n for n in entry.shape] for entry in mapping.entries(weights)}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in sorted(shapes.items())}


def layers_of(arrays):
    """The two blobs of each layer by its name."""
    return {name.removesuffix("/0"): (arrays[name], arrays[name[:-1] + "1"]) for name in arrays if name.endswith("/0")}


def write(file, arrays):
    """A file as Caffe has written it since 2014, with layers that have no weights."""
    text = encode((1, "net"), (100, encode((1, "data"), (2, "Data"))))
    for name, blobs in layers_of(arrays).items():
        fields = [(7, encode((7, encode(*((1, n) for n in blob.shape))), (5, blob.tobytes()))) for blob in blobs]
        text += encode((100, encode((1, name), (2, "Convolution"), *fields)))
        text += encode((100, encode((1, f"relu_{name}"), (2, "ReLU"))))
    file.write_bytes(text)


def write_v1(file, arrays):
    """A file of 2013: layers of the first version, whose blobs all have four dimensions."""
    text = encode((1, "net"))
    for name, blobs in layers_of(arrays).items():
        fields = []
        for blob in blobs:
            shape = (1,) * (4 - blob.ndim) + blob.shape
            fields.append((6, encode(*zip((1, 2, 3, 4), shape, strict=True), (5, blob.tobytes()))))
        text += encode((2, encode((4, name), (5, 4), *fields)))
    file.write_bytes(text)


def assert_there_and_back(weights, file, arrays):
    variables = mapping.to_ours(weights, formats.read(file).arrays)
    back = mapping.to_theirs(weights, variables)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
    return variables["params"]


def test_googlenet_with_its_heads(tmp_path):
    arrays = drawn(caffe.GOOGLENET)
    assert sum(array.size for array in arrays.values()) == 13_378_280  # the published file has four bytes for each
    write(tmp_path / "net.caffemodel", arrays)
    params = assert_there_and_back(caffe.GOOGLENET, tmp_path / "net.caffemodel", arrays)
    # Red is the last channel in the file.
    np.testing.assert_array_equal(params["conv1"]["conv7x7"]["kernel"][2, 3, 0], arrays["conv1/7x7_s2/0"][:, 2, 2, 3])
    np.testing.assert_array_equal(params["inception_4a"]["conv5x5"]["bias"], arrays["inception_4a/5x5/1"])
    # The file flattens 128x4x4, we 4x4x128.
    ours, theirs = params["aux1"]["fc"]["kernel"], arrays["loss1/fc/0"]
    np.testing.assert_array_equal(ours[(2 * 4 + 3) * 128 + 77], theirs[:, (77 * 4 + 2) * 4 + 3])


def test_network_in_network_in_the_first_format(tmp_path):
    arrays = drawn(caffe.NIN)
    write_v1(tmp_path / "net.caffemodel", arrays)
    assert formats.read(tmp_path / "net.caffemodel").format == "caffe v1"
    params = assert_there_and_back(caffe.NIN, tmp_path / "net.caffemodel", arrays)
    np.testing.assert_array_equal(params["cccp8"]["conv1x1"]["kernel"], arrays["cccp8-1024/0"][:, :, 0, 0].T)


def test_old_dense_layers_have_four_dimensions():
    matrix, vector = np.ones((1, 1, 5, 7), np.float32), np.ones((1, 1, 1, 5), np.float32)
    kernel = np.ones((64, 3, 1, 1), np.float32)
    found = caffe.without_leading_ones({"fc6/0": matrix, "fc6/1": vector, "conv/0": kernel})
    assert {name: array.shape for name, array in found.items()} == {
        "fc6/0": (5, 7),
        "fc6/1": (5,),
        "conv/0": (64, 3, 1, 1),
    }


def test_groups_of_alexnet():
    """A filter of the second half sees the second half of the channels; neither format says so."""
    shapes = {entry.theirs: entry.shape for entry in mapping.entries(caffe.ALEXNET)}
    assert shapes["conv2/0"] == (256, 48, 5, 5)
    assert shapes["conv3/0"] == (384, 256, 3, 3)
    assert shapes["conv5/0"] == (256, 192, 3, 3)
    assert shapes["fc6/0"] == (4096, 9216)
    assert {entry.theirs for entry in mapping.entries(caffe.CAFFENET)} == shapes.keys()


def test_names_of_the_networks_for_class_activation_maps():
    for weights, convolution in ((caffe.GOOGLENET_GAP, (1024, 416, 3, 3)), (caffe.VGG16_GAP, (1024, 256, 3, 3))):
        shapes = {entry.theirs: entry.shape for entry in mapping.entries(weights)}
        assert shapes["CAM_conv/0"] == convolution  # two groups
        assert shapes["CAM_fc/0"] == (None, 1024)
        assert not any(name.startswith(("loss", "inception_5", "fc")) for name in shapes)

"""Maps of Keras: its own networks with random weights, and ours with the same; every end point is compared."""

import dataclasses
import os

import jax
import numpy as np
import pytest

from inception_jax.weights import formats
from inception_jax.weights.sources import keras as maps
from inception_jax.weights.sources import mapping

CLASSES = 10
TOLERANCE = 1e-5  # largest difference relative to the largest value

# Keras's layer by our end point.
STEM = {
    "conv2d_1a_3x3": "activation",
    "conv2d_2a_3x3": "activation_1",
    "conv2d_2b_3x3": "activation_2",
    "maxpool_3a_3x3": "max_pooling2d",
    "conv2d_3b_1x1": "activation_3",
    "conv2d_4a_3x3": "activation_4",
    "maxpool_5a_3x3": "max_pooling2d_1",
}
HEAD = {"pool": "avg_pool", "logits": "predictions"}
INCEPTION_V3 = (
    STEM
    | {
        f"mixed_{layer}": f"mixed{i}"
        for i, layer in enumerate(("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"))
    }
    | HEAD
)
INCEPTION_RESNET_V2 = (
    STEM
    | {layer: layer for layer in ("mixed_5b", "mixed_6a", "mixed_7a")}
    | {
        f"{block}_{i}": f"{block}_{i}_ac"
        for block, count in (("block35", 10), ("block17", 20), ("block8", 9))
        for i in range(1, count + 1)
    }
    | {"block8_10": "custom_scale_layer_39", "conv2d_7b_1x1": "conv_7b_ac"}  # the fortieth sum has no activation
    | HEAD
)
RESNET50 = {"conv1": "conv1_relu", "pool1": "pool1_pool", "pool": "avg_pool", "fc": "predictions"} | {
    f"conv{stage}_{i}": f"conv{stage}_block{i}_out"
    for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3))
    for i in range(1, count + 1)
}


def vgg(counts):
    return {
        f"conv{stage}_{i}": f"block{stage}_conv{i}" for stage, count in counts.items() for i in range(1, count + 1)
    } | {f"pool{stage}": f"block{stage}_pool" for stage in counts}


VGG16 = vgg({1: 2, 2: 2, 3: 3, 4: 3, 5: 3})
VGG19 = vgg({1: 2, 2: 2, 3: 4, 4: 4, 5: 4})


@dataclasses.dataclass(frozen=True)
class Case:
    theirs: str
    weights: mapping.WeightMap
    outputs: dict
    size: tuple[int, int]  # where strides meet an even height and an odd width each time


CASES = (
    Case("InceptionV3", maps.INCEPTION_V3, INCEPTION_V3, (138, 139)),
    Case("InceptionResNetV2", maps.INCEPTION_RESNET_V2, INCEPTION_RESNET_V2, (138, 139)),
    Case("ResNet50", maps.RESNET50, RESNET50, (64, 65)),
    Case("VGG16", maps.VGG16_NOTOP, VGG16, (64, 127)),
    Case("VGG19", maps.VGG19_NOTOP, VGG19, (64, 127)),
)


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    return pytest.importorskip("keras")


def draw(rng, kind: str, shape) -> np.ndarray:
    """Values that keep the signal's scale from layer to layer."""
    if kind == "kernel":
        return rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[:-1]), dtype=np.float32)
    if kind == "moving_variance":
        return rng.uniform(0.7, 1.3, shape).astype(np.float32)
    if kind == "gamma":
        return rng.uniform(0.5, 1.0, shape).astype(np.float32)
    assert kind in ("bias", "beta", "moving_mean")
    return 0.2 * rng.standard_normal(shape, np.float32)


def randomized(network) -> dict[str, np.ndarray]:
    """Gives each variable random values, and returns them by 'LAYER/VARIABLE', the names in Keras's files."""
    rng, values = np.random.default_rng(0), {}
    for variable in network.variables:
        values[variable.path] = draw(rng, variable.name, variable.shape)
        variable.assign(values[variable.path])
    assert len(values) == len(network.variables)
    return values


def assert_close(name, ours, theirs):
    theirs = np.asarray(theirs)
    ours = np.asarray(ours).reshape(theirs.shape) if name == "pool" else np.asarray(ours)  # we keep the grid, of 1x1
    assert ours.shape == theirs.shape, name
    assert theirs.std() > 0.01 * abs(theirs).max(), f"{name} is constant"
    error = abs(ours - theirs).max() / abs(theirs).max()
    assert error < TOLERANCE, f"{name}: {error:.1e}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.theirs)
def test_end_points_are_those_of_keras(keras, case):
    keras.backend.clear_session()  # names of layers start again
    top = not case.weights.absent
    network = getattr(keras.applications, case.theirs)(
        weights=None,
        input_shape=(*case.size, 3),
        include_top=top,
        classes=CLASSES,
        classifier_activation=None,
    )
    values = randomized(network)
    images = np.random.default_rng(1).standard_normal((1, *case.size, 3), np.float32)
    taps = {ours: network.get_layer(theirs).output for ours, theirs in case.outputs.items()}
    expected = keras.Model(network.input, taps)(images)

    variables = mapping.to_ours(case.weights, values)
    model = mapping.build(case.weights, **({"num_classes": CLASSES} if top else {}))
    if not top:
        model = model.clone(layers=model.layers[: [name for name, _ in model.layers].index("pool5") + 1])
        variables = {"params": {name: variables["params"][name] for name, _ in model.layers if "conv" in name}}
    # VGG and ResNet-50 take blue, green, red, ours red, green, blue.
    assert case.weights.bgr == (case.theirs in ("ResNet50", "VGG16", "VGG19"))
    _, end_points = jax.jit(model.apply)(variables, images[..., ::-1] if case.weights.bgr else images)
    names = [name for name, _ in model.layers if not name.startswith("dropout")]
    assert set(names) == set(case.outputs)
    for name in names:  # in the network's order: the first to fail is where it differs
        assert_close(name, end_points[name], expected[name])


def test_there_and_back(keras):
    keras.backend.clear_session()
    values = randomized(keras.applications.InceptionV3(weights=None, classes=CLASSES))
    variables = mapping.to_ours(maps.INCEPTION_V3, values)
    back = mapping.to_theirs(maps.INCEPTION_V3, variables)
    assert back.keys() == maps.renumbered(values).keys()
    for name, value in maps.renumbered(values).items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_biases_of_resnet_are_folded_once(keras):
    keras.backend.clear_session()
    values = randomized(keras.applications.ResNet50(weights=None, classes=CLASSES))
    once = mapping.to_ours(maps.RESNET50, values)
    twice = mapping.to_ours(maps.RESNET50, mapping.to_theirs(maps.RESNET50, once))
    jax.tree.map(np.testing.assert_array_equal, once, twice)
    mean = once["batch_stats"]["conv1"]["conv7x7_bn"]["mean"]
    np.testing.assert_array_equal(mean, values["conv1_bn/moving_mean"] - values["conv1_conv/bias"])


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # in Keras
@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_files_from_a_session_that_has_made_other_layers(keras, suffix, tmp_path):
    """Their numbers go on counting."""
    keras.backend.clear_session()
    for _ in range(3):
        keras.layers.Conv2D(1, 1)
    network = keras.applications.InceptionV3(weights=None, include_top=False)
    values = randomized(network)
    assert "conv2d_3/kernel" in values
    assert "conv2d/kernel" not in values
    network.save(tmp_path / f"model.{suffix}")
    variables = mapping.to_ours(maps.INCEPTION_V3_NOTOP, formats.read(tmp_path / f"model.{suffix}").arrays)
    ours = variables["params"]["mixed_5b"]["conv5x5"]["kernel"]  # the eighth convolution
    np.testing.assert_array_equal(ours, values["conv2d_10/kernel"])


def test_dense_layers_of_vgg_see_the_grid_as_ours_do():
    """Height, width, channels: nothing is permuted."""
    for scope, shape in (("fc6/dense", (25088, 4096)), ("fc8/classifier", (4096, None))):
        [entry] = [each for each in mapping.entries(maps.VGG16) if each.ours == f"params/{scope}/kernel"]
        assert entry.shape == shape
        array = np.broadcast_to(np.arange(shape[0], dtype=np.float32)[:, None], (shape[0], 2))
        np.testing.assert_array_equal(entry.read(array), array)

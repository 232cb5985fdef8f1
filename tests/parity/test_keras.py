"""Our networks against Keras's: the same numbers in, every end point compared.

Keras's variables get random values, ours are taken from them by name.
"""

import dataclasses
import itertools
import os

import jax
import numpy as np
import pytest

import inception_jax
from inception_jax.models import trace

CLASSES = 10
TOLERANCE = 1e-5  # largest difference relative to the largest value

# The convolutions of each module, in the order in which Keras makes and numbers its own.
MODULE_A = ("conv1x1", "conv5x5_reduce", "conv5x5", "double3x3_reduce", "double3x3_1", "double3x3_2", "pool_proj")
REDUCTION_A = ("conv3x3", "double3x3_reduce", "double3x3_1", "double3x3_2")
MODULE_B = (
    "conv1x1",
    "conv7x7_reduce",
    "conv1x7",
    "conv7x1",
    "double7x7_reduce",
    "double7x1_1",
    "double1x7_1",
    "double7x1_2",
    "double1x7_2",
    "pool_proj",
)
REDUCTION_B = ("conv3x3_reduce", "conv3x3", "conv7x7_reduce", "conv1x7", "conv7x1", "conv7x7_3x3")
MODULE_C = (
    "conv1x1",
    "conv3x3_reduce",
    "conv1x3",
    "conv3x1",
    "double3x3_reduce",
    "double3x3",
    "double1x3",
    "double3x1",
    "pool_proj",
)
BLOCK_35 = ("conv1x1", "conv3x3_reduce", "conv3x3", "double3x3_reduce", "double3x3_1", "double3x3_2")
BLOCK_17 = ("conv1x1", "conv7x7_reduce", "conv1x7", "conv7x1")
BLOCK_8 = ("conv1x1", "conv3x3_reduce", "conv1x3", "conv3x1")
RESIDUAL_REDUCTION_B = (
    "conv3x3_reduce",
    "conv3x3",
    "conv3x3_b_reduce",
    "conv3x3_b",
    "double3x3_reduce",
    "double3x3_1",
    "double3x3_2",
)

# Our layer; Keras's layer with the same output; our convolutions, numbered by Keras.
STEM = (
    ("conv2d_1a_3x3", "activation", ("conv3x3",)),
    ("conv2d_2a_3x3", "activation_1", ("conv3x3",)),
    ("conv2d_2b_3x3", "activation_2", ("conv3x3",)),
    ("maxpool_3a_3x3", "max_pooling2d", ()),
    ("conv2d_3b_1x1", "activation_3", ("conv1x1",)),
    ("conv2d_4a_3x3", "activation_4", ("conv3x3",)),
    ("maxpool_5a_3x3", "max_pooling2d_1", ()),
)
INCEPTION_V3 = (
    *STEM,
    ("mixed_5b", "mixed0", MODULE_A),
    ("mixed_5c", "mixed1", MODULE_A),
    ("mixed_5d", "mixed2", MODULE_A),
    ("mixed_6a", "mixed3", REDUCTION_A),
    ("mixed_6b", "mixed4", MODULE_B),
    ("mixed_6c", "mixed5", MODULE_B),
    ("mixed_6d", "mixed6", MODULE_B),
    ("mixed_6e", "mixed7", MODULE_B),
    ("mixed_7a", "mixed8", REDUCTION_B),
    ("mixed_7b", "mixed9", MODULE_C),
    ("mixed_7c", "mixed10", MODULE_C),
)
INCEPTION_RESNET_V2 = (
    *STEM,
    ("mixed_5b", "mixed_5b", MODULE_A),
    *((f"block35_{i}", f"block35_{i}_ac", BLOCK_35) for i in range(1, 11)),
    ("mixed_6a", "mixed_6a", REDUCTION_A),
    *((f"block17_{i}", f"block17_{i}_ac", BLOCK_17) for i in range(1, 21)),
    ("mixed_7a", "mixed_7a", RESIDUAL_REDUCTION_B),
    *((f"block8_{i}", f"block8_{i}_ac", BLOCK_8) for i in range(1, 10)),
    ("block8_10", "custom_scale_layer_39", BLOCK_8),  # the fortieth sum, without activation
)


def numbered_names(rows):
    """Names of (outputs, layers): Keras's by our end point, and by our layer and unit."""
    outputs, layers = {}, {}
    numbers = itertools.count()
    for layer, output, units in rows:
        outputs[layer] = output
        for unit in units:
            i = next(numbers)
            layers[layer, unit] = f"conv2d_{i}" if i else "conv2d"
            layers[layer, f"{unit}_bn"] = f"batch_normalization_{i}" if i else "batch_normalization"
    outputs |= {"pool": "avg_pool", "logits": "predictions"}
    layers["logits", "classifier"] = "predictions"
    return outputs, layers


def inception_v3_names():
    return numbered_names(INCEPTION_V3)


def inception_resnet_v2_names():
    outputs, layers = numbered_names(INCEPTION_RESNET_V2)
    for layer in outputs:
        if layer.startswith("block"):
            layers[layer, "conv1x1_expand"] = f"{layer}_conv"
    outputs["conv2d_7b_1x1"] = "conv_7b_ac"
    layers["conv2d_7b_1x1", "conv1x1"] = "conv_7b"
    layers["conv2d_7b_1x1", "conv1x1_bn"] = "conv_7b_bn"
    return outputs, layers


def vgg_names(convolutions):
    outputs, layers = {}, {}
    for stage, count in enumerate(convolutions, start=1):
        for i in range(1, count + 1):
            outputs[f"conv{stage}_{i}"] = f"block{stage}_conv{i}"
            layers[f"conv{stage}_{i}", "conv3x3"] = f"block{stage}_conv{i}"
        outputs[f"pool{stage}"] = f"block{stage}_pool"
    for layer, unit, theirs in (("fc6", "dense", "fc1"), ("fc7", "dense", "fc2"), ("fc8", "classifier", "predictions")):
        outputs[layer] = layers[layer, unit] = theirs
    return outputs, layers


def resnet50_names():
    outputs = {"conv1": "conv1_relu", "pool1": "pool1_pool", "pool": "avg_pool", "fc": "predictions"}
    layers = {("conv1", "conv7x7"): "conv1_conv", ("conv1", "conv7x7_bn"): "conv1_bn"}
    for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for i in range(1, count + 1):
            ours, theirs = f"conv{stage}_{i}", f"conv{stage}_block{i}"
            outputs[ours] = f"{theirs}_out"
            units = ["conv1x1_reduce", "conv3x3", "conv1x1_expand"]
            for k, unit in enumerate(["shortcut", *units] if i == 1 else units, start=int(i > 1)):
                layers[ours, unit] = f"{theirs}_{k}_conv"
                layers[ours, f"{unit}_bn"] = f"{theirs}_{k}_bn"
    layers["fc", "classifier"] = "predictions"
    return outputs, layers


@dataclasses.dataclass(frozen=True)
class Case:
    ours: str
    options: dict
    theirs: str
    names: tuple
    size: tuple[int, int]  # where strides meet an even height and an odd width each time, and 2x3 cells are left


NO_GAMMA = {"batch_norm_scale": False, "aux": False}
CASES = (
    Case("inception_v3", NO_GAMMA, "InceptionV3", inception_v3_names(), (138, 139)),
    Case("inception_resnet_v2", NO_GAMMA, "InceptionResNetV2", inception_resnet_v2_names(), (138, 139)),
    Case("vgg_d", {}, "VGG16", vgg_names((2, 2, 3, 3, 3)), (64, 127)),
    Case("vgg_e", {}, "VGG19", vgg_names((2, 2, 4, 4, 4)), (64, 127)),
    Case("resnet50", {"downsample": "conv1x1"}, "ResNet50", resnet50_names(), (64, 65)),
)
BATCH_NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("tensorflow")
    os.environ["KERAS_BACKEND"] = "tensorflow"
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


def our_variables(model, image_shape, layers, values):
    """Fills the tree of `model` with Keras's `values`, by the names in `layers`; each is used once."""
    values = dict(values)

    def fill(path, leaf):
        _, layer, unit, kind = (part.key for part in path)
        value = values.pop(f"{layers[layer, unit]}/{BATCH_NORM[kind] if unit.endswith('_bn') else kind}")
        assert value.shape == leaf.shape, path
        return value

    variables = jax.tree_util.tree_map_with_path(fill, trace.abstract_variables(model, image_shape))
    assert not values, f"not used: {sorted(values)}"
    return variables


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.ours)
def test_end_points_are_those_of_keras(keras, case):
    outputs, layers = case.names
    image_shape = (*case.size, 3)
    keras.backend.clear_session()  # numbers start again
    network = getattr(keras.applications, case.theirs)(
        weights=None, input_shape=image_shape, classes=CLASSES, classifier_activation=None
    )
    rng = np.random.default_rng(0)
    values = {}
    for variable in network.variables:
        values[variable.path] = draw(rng, variable.name, variable.shape)
        variable.assign(values[variable.path])
    assert len(values) == len(network.variables)
    images = rng.standard_normal((2, *image_shape), np.float32)
    taps = {ours: network.get_layer(theirs).output for ours, theirs in outputs.items()}
    expected = keras.Model(network.input, taps)(images)

    model = inception_jax.create_model(case.ours, CLASSES, **case.options)
    if case.ours == "resnet50":
        # Keras's epsilon is 1.001e-5 (ours is 1e-5, which differs by less than float32 shows at a variance near 1), and
        # its convolutions have a bias, which acts as a lower moving mean.
        batch_norm = dataclasses.replace(model.style.batch_norm, epsilon=1.001e-5)
        model = model.clone(style=dataclasses.replace(model.style, batch_norm=batch_norm))
        for name in [name for name in values if name.endswith("_conv/bias")]:
            values[name.replace("_conv/bias", "_bn/moving_mean")] -= values.pop(name)
    variables = our_variables(model, image_shape, layers, values)
    logits, end_points = jax.jit(model.apply)(variables, images)

    # In the network's order: the first to fail is where it differs.
    names = [name for name, _ in model.layers if not name.startswith("dropout")]
    assert set(names) == set(outputs)
    for name in names:
        ours, theirs = np.asarray(end_points[name]), np.asarray(expected[name])
        if name == "pool":  # we keep the grid, of 1x1
            ours = ours.reshape(theirs.shape)
        assert ours.shape == theirs.shape, name
        assert theirs.std() > 0.01 * abs(theirs).max(), f"{name} is constant"
        error = abs(ours - theirs).max() / abs(theirs).max()
        assert error < TOLERANCE, f"{name}: {error:.1e}"
    assert np.array_equal(logits, end_points[names[-1]])

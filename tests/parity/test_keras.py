"""Our networks against Keras's: the same numbers in, every end point compared.

Keras's variables get random values, ours are taken from them by name.
"""

import dataclasses
import os

import jax
import numpy as np
import pytest

from inception_jax.weights import formats
from inception_jax.weights.export import peers
from inception_jax.weights.sources import keras as sources
from inception_jax.weights.sources import mapping

CLASSES = 10
TOLERANCE = 1e-5  # largest difference relative to the largest value

# Our end point: Keras's layer with the same output.
STEM = {
    "conv2d_1a_3x3": "activation",
    "conv2d_2a_3x3": "activation_1",
    "conv2d_2b_3x3": "activation_2",
    "maxpool_3a_3x3": "max_pooling2d",
    "conv2d_3b_1x1": "activation_3",
    "conv2d_4a_3x3": "activation_4",
    "maxpool_5a_3x3": "max_pooling2d_1",
}
TOP = {"pool": "avg_pool", "logits": "predictions"}
MODULES = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
INCEPTION_V3 = STEM | {f"mixed_{name}": f"mixed{i}" for i, name in enumerate(MODULES)} | TOP
INCEPTION_RESNET_V2 = (
    STEM
    | {name: name for name in ("mixed_5b", "mixed_6a", "mixed_7a")}
    | {f"block35_{i}": f"block35_{i}_ac" for i in range(1, 11)}
    | {f"block17_{i}": f"block17_{i}_ac" for i in range(1, 21)}
    | {f"block8_{i}": f"block8_{i}_ac" for i in range(1, 10)}
    | {"block8_10": "custom_scale_layer_39"}  # the fortieth sum, without activation
    | {"conv2d_7b_1x1": "conv_7b_ac"}
    | TOP
)


def vgg(convolutions):
    stages = list(enumerate(convolutions, start=1))
    return (
        {f"conv{stage}_{i}": f"block{stage}_conv{i}" for stage, count in stages for i in range(1, count + 1)}
        | {f"pool{stage}": f"block{stage}_pool" for stage, _ in stages}
        | {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    )


RESNET50 = {"conv1": "conv1_relu", "pool1": "pool1_pool", "pool": "avg_pool", "fc": "predictions"} | {
    f"conv{stage}_{i}": f"conv{stage}_block{i}_out"
    for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3))
    for i in range(1, count + 1)
}


@dataclasses.dataclass(frozen=True)
class Case:
    weights: mapping.WeightMap
    theirs: str
    outputs: dict[str, str]
    size: tuple[int, int]  # where strides meet an even height and an odd width each time, and 2x3 cells are left


CASES = (
    Case(sources.INCEPTION_V3, "InceptionV3", INCEPTION_V3, (138, 139)),
    Case(sources.INCEPTION_RESNET_V2, "InceptionResNetV2", INCEPTION_RESNET_V2, (138, 139)),
    Case(sources.VGG16, "VGG16", vgg((2, 2, 3, 3, 3)), (224, 224)),  # the flattened grid is that of the file
    Case(sources.VGG19, "VGG19", vgg((2, 2, 4, 4, 4)), (224, 224)),
    Case(sources.RESNET50, "ResNet50", RESNET50, (64, 65)),
)


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.theirs)
def test_a_saved_network_comes_in_and_out(keras, case, tmp_path):
    """Keras's own file: every end point is Keras's, and what we export Keras loads, with the same scores."""
    image_shape = (*case.size, 3)
    keras.backend.clear_session()  # numbers start again
    network = getattr(keras.applications, case.theirs)(
        weights=None, input_shape=image_shape, classes=CLASSES, classifier_activation=None
    )
    rng = np.random.default_rng(0)
    for variable in network.variables:
        variable.assign(draw(rng, variable.name, variable.shape))
    images = rng.standard_normal((2, *image_shape), np.float32)
    turned = images[..., ::-1] if case.weights.bgr else images  # ours takes red, green, blue
    taps = {ours: network.get_layer(theirs).output for ours, theirs in case.outputs.items()}
    expected = keras.Model(network.input, taps)(images)

    network.save(tmp_path / "network.keras")
    network.save(tmp_path / "network.h5")
    old, new = (formats.read(tmp_path / f"network.{suffix}").arrays for suffix in ("h5", "keras"))
    assert old.keys() == new.keys()
    variables = mapping.to_ours(case.weights, new)
    model = mapping.build(case.weights, num_classes=CLASSES)
    logits, end_points = jax.jit(model.apply)(variables, turned)

    # In the network's order: the first to fail is where it differs.
    names = [name for name, _ in model.layers if not name.startswith("dropout")]
    assert set(names) == set(case.outputs)
    for name in names:
        ours, theirs = np.asarray(end_points[name]), np.asarray(expected[name])
        if name == "pool":  # we keep the grid, of 1x1
            ours = ours.reshape(theirs.shape)
        assert ours.shape == theirs.shape, name
        assert theirs.std() > 0.01 * abs(theirs).max(), f"{name} is constant"
        error = abs(ours - theirs).max() / abs(theirs).max()
        assert error < TOLERANCE, f"{name}: {error:.1e}"
    assert np.array_equal(logits, end_points[names[-1]])

    peers.write(tmp_path / "back.keras", "keras", case.weights, variables, CLASSES)
    back = keras.models.load_model(tmp_path / "back.keras")
    if case.size == tuple(back.input_shape[1:3]) or case.theirs.startswith("VGG"):
        found = np.asarray(back(images))
        np.testing.assert_allclose(found, np.asarray(jax.nn.softmax(logits)), rtol=1e-3, atol=1e-6)
    returned = mapping.to_ours(case.weights, formats.read(tmp_path / "back.keras").arrays)
    for ours, theirs in zip(jax.tree.leaves(variables), jax.tree.leaves(returned), strict=True):
        np.testing.assert_array_equal(ours, theirs)

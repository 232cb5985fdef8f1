"""Exported Keras files: Keras loads them and gives our probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.weights import formats
from inception_jax.weights.export import peers
from inception_jax.weights.sources import keras as sources
from inception_jax.weights.sources import mapping
from tests.parity.test_export_onnx import randomize


@pytest.mark.parametrize(
    "weights", [sources.INCEPTION_V3, sources.VGG16, sources.RESNET50], ids=lambda weights: weights.network
)
def test_keras_loads_what_we_write(keras, weights, tmp_path):
    model = mapping.build(weights, num_classes=10)
    shape = (1, *model.input_shape)
    variables = randomize(jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape))))
    peers.write(tmp_path / "network.keras", "keras", weights, variables, 10)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    # Those of Keras that came from Caffe take blue, green, red.
    theirs = keras.models.load_model(tmp_path / "network.keras")(images[..., ::-1] if weights.bgr else images)
    ours = jax.nn.softmax(jax.jit(model.apply)(variables, images)[0])
    np.testing.assert_allclose(np.asarray(theirs), ours, rtol=1e-3, atol=1e-6)
    back = mapping.to_ours(weights, formats.read(tmp_path / "network.keras").arrays)
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a, b)

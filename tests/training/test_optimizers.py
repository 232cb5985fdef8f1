import jax.numpy as jnp
import numpy as np
import optax
import pytest

from inception_jax.errors import UserError
from inception_jax.training.optimizers import make_optimizer

PARAMS = {"conv": {"kernel": jnp.array([2.0, -1.0]), "bias": jnp.array([3.0])}, "conv_bn": {"scale": jnp.array([5.0])}}
GRADIENTS = {
    "conv": {"kernel": jnp.array([3.0, 0.0]), "bias": jnp.array([4.0])},
    "conv_bn": {"scale": jnp.array([0.0])},
}


def steps(count, rates=(0.1, 0.1), **options):
    optimizer = make_optimizer(lambda step: jnp.array(rates)[step], name="sgd", **options)
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(count):
        updates, state = optimizer.update(GRADIENTS, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_momentum():
    params = steps(2, rates=(0.1, 0.01), momentum=0.9)
    # v1 = g, v2 = 0.9 g + g; w = w0 - 0.1 v1 - 0.01 v2
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * 4 - 0.01 * 1.9 * 4, rtol=1e-6)


def test_nesterov():
    params = steps(1, momentum=0.9, nesterov=True)
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * (4 + 0.9 * 4), rtol=1e-6)


def test_only_kernels_decay():
    params = steps(1, momentum=0.0, weight_decay=0.5)
    np.testing.assert_allclose(params["conv"]["kernel"], [2 - 0.1 * (3 + 0.5 * 2), -1 - 0.1 * (0.5 * -1)], rtol=1e-6)
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * 4, rtol=1e-6)
    np.testing.assert_allclose(params["conv_bn"]["scale"], 5)


def test_gradients_are_clipped_before_decay():
    # Their norm is 5.
    params = steps(1, momentum=0.0, clip_norm=1.0, weight_decay=0.5)
    np.testing.assert_allclose(params["conv"]["kernel"][0], 2 - 0.1 * (3 / 5 + 0.5 * 2), rtol=1e-6)
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * 4 / 5, rtol=1e-6)
    params = steps(1, momentum=0.0, clip_norm=6.0)
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * 4, rtol=1e-6)


def test_unknown_optimizer():
    with pytest.raises(UserError, match="optimizer.name='adam' is not one of sgd"):
        make_optimizer(lambda step: 0.1, name="adam")

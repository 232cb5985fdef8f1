import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from inception_jax.errors import UserError
from inception_jax.training.optimizers import lr_factor, make_optimizer, with_learning_rate

PARAMS = {"conv": {"kernel": jnp.array([2.0, -1.0]), "bias": jnp.array([3.0])}, "conv_bn": {"scale": jnp.array([5.0])}}
GRADIENTS = {
    "conv": {"kernel": jnp.array([3.0, 0.0]), "bias": jnp.array([4.0])},
    "conv_bn": {"scale": jnp.array([0.0])},
}


def make(**options):
    return make_optimizer(**common.get_config().optimizer.to_dict() | options)


def steps(count, rates=(0.1, 0.1), params=PARAMS, gradients=GRADIENTS, **options):
    optimizer = make(**options)
    state = optimizer.init(params)
    for rate in rates[:count]:
        updates, state = optimizer.update(gradients, with_learning_rate(state, jnp.float32(rate)), params)
        params = optax.apply_updates(params, updates)
    return params


def test_momentum():
    params = steps(2, rates=(0.1, 0.01), momentum=0.9)
    # v1 = g, v2 = 0.9 g + g; w = w0 - 0.1 v1 - 0.01 v2
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * 4 - 0.01 * 1.9 * 4, rtol=1e-6)


def test_momentum_of_updates():
    params = steps(2, rates=(0.1, 0.01), momentum=0.9, caffe_momentum=True)
    # v1 = 0.1 g, v2 = 0.9 v1 + 0.01 g; w = w0 - v1 - v2
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * 4 - (0.09 + 0.01) * 4, rtol=1e-6)


def test_alexnets_rule():
    # Section 5: v <- 0.9 v - 0.0005 e w - e g, w <- w + v.
    params = steps(2, rates=(0.1, 0.01), momentum=0.9, caffe_momentum=True, weight_decay=0.0005)
    w, v = 2.0, 0.0
    for rate in (0.1, 0.01):
        v = 0.9 * v - 0.0005 * rate * w - rate * 3.0
        w += v
    np.testing.assert_allclose(params["conv"]["kernel"][0], w, rtol=1e-6)


def test_nesterov():
    params = steps(1, momentum=0.9, nesterov=True)
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * (4 + 0.9 * 4), rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_rmsprop_is_tensorflows(momentum):
    """Five steps of ms <- d ms + (1 - d) g^2, mom <- m mom + lr g / sqrt(ms + e), w <- w - mom, from ms = 1."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 4)) * [1e-3, 0.1, 1, 100]
    w = rng.normal(size=4)
    params, options = {"kernel": jnp.array(w)}, {"momentum": momentum, "rms_decay": 0.8, "rms_epsilon": 0.5}
    optimizer = make(name="rmsprop", **options)
    state = optimizer.init(params)
    ms, mom = np.ones(4), np.zeros(4)
    for step, gradient in enumerate(gradients):
        rate = 0.045 * 0.94**step
        state = with_learning_rate(state, jnp.float32(rate))
        updates, state = optimizer.update({"kernel": gradient}, state, params)
        params = optax.apply_updates(params, updates)
        ms = 0.8 * ms + 0.2 * gradient**2
        mom = momentum * mom + rate * gradient / np.sqrt(ms + 0.5)
        w = w - mom
        np.testing.assert_allclose(params["kernel"], w, rtol=1e-5)


def test_defaults_of_rmsprop_are_the_papers():
    # Rethinking the Inception architecture, section 8: decay 0.9, epsilon 1.
    [moved] = steps(1, rates=(1.0,), name="rmsprop", params={"b": jnp.zeros(1)}, gradients={"b": jnp.ones(1)})["b"]
    np.testing.assert_allclose(moved, -1 / np.sqrt(0.9 + 0.1 + 1.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("lamb", lambda mask: optax.lamb(0.1, weight_decay=0.02, mask=mask)),
        ("adamw", lambda mask: optax.adamw(0.1, weight_decay=0.02, mask=mask)),
        (
            "lars",
            lambda mask: optax.lars(0.1, 0.02, weight_decay_mask=mask, trust_ratio_mask=mask, momentum=0.9),
        ),
    ],
)
def test_optax_by_name(name, theirs):
    optimizer = theirs({"conv": {"kernel": True, "bias": False}, "conv_bn": {"scale": False}})
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(3):
        updates, state = optimizer.update(GRADIENTS, state, params)
        params = optax.apply_updates(params, updates)
    ours = steps(3, (0.1,) * 3, name=name, weight_decay=0.02)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, params)


def test_only_kernels_decay():
    params = steps(1, momentum=0.0, weight_decay=0.5)
    np.testing.assert_allclose(params["conv"]["kernel"], [2 - 0.1 * (3 + 0.5 * 2), -1 - 0.1 * (0.5 * -1)], rtol=1e-6)
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * 4, rtol=1e-6)
    np.testing.assert_allclose(params["conv_bn"]["scale"], 5)


def test_what_decays_is_a_pattern():
    params = steps(1, momentum=0.0, weight_decay=0.5, weight_decay_on=("bias$", "_bn/"))
    np.testing.assert_allclose(params["conv"]["kernel"][1], -1)
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * (4 + 0.5 * 3), rtol=1e-6)
    np.testing.assert_allclose(params["conv_bn"]["scale"], 5 - 0.1 * 0.5 * 5, rtol=1e-6)


def test_styles_of_weight_decay():
    """The gradients' norm is 5; with the decay of the kernel added, (4, -0.5, 4, 0), it is sqrt(32.25)."""
    options = {"momentum": 0.0, "clip_norm": 1.0, "weight_decay": 0.5}
    caffe = steps(1, weight_decay_style="caffe", **options)
    np.testing.assert_allclose(caffe["conv"]["kernel"][0], 2 - 0.1 * (3 / 5 + 0.5 * 2), rtol=1e-6)
    np.testing.assert_allclose(caffe["conv"]["bias"], 3 - 0.1 * 4 / 5, rtol=1e-6)
    tf = steps(1, weight_decay_style="tf", **options)
    np.testing.assert_allclose(tf["conv"]["kernel"][0], 2 - 0.1 * 4 / 32.25**0.5, rtol=1e-6)
    np.testing.assert_allclose(tf["conv"]["bias"], 3 - 0.1 * 4 / 32.25**0.5, rtol=1e-6)
    without = steps(1, momentum=0.0, clip_norm=6.0)
    np.testing.assert_allclose(without["conv"]["bias"], 3 - 0.1 * 4, rtol=1e-6)


def test_decoupled_decay_is_beside_the_momentum():
    params = steps(2, momentum=0.9, weight_decay=0.5, weight_decay_style="decoupled")
    w, v = 2.0, 0.0
    for _ in range(2):
        v = 0.9 * v + 3.0
        w = w - 0.1 * v - 0.1 * 0.5 * w
    np.testing.assert_allclose(params["conv"]["kernel"][0], w, rtol=1e-6)


def test_learning_rates_of_their_own():
    # BVLC Caffe's networks: biases learn twice as fast. The first pattern that fits counts.
    options = {"lr_multipliers": (("conv/bias$", 2.0), ("conv/", 0.5))}
    params = steps(1, momentum=0.0, **options)
    np.testing.assert_allclose(params["conv"]["bias"], 3 - 0.1 * 2 * 4, rtol=1e-6)
    np.testing.assert_allclose(params["conv"]["kernel"][0], 2 - 0.1 * 0.5 * 3, rtol=1e-6)


def test_frozen_parameters_do_not_decay_either():
    params = steps(2, weight_decay=0.5, freeze=("kernel",), lr_multipliers=(("conv", 2.0),))
    np.testing.assert_array_equal(params["conv"]["kernel"], [2, -1])
    assert params["conv"]["bias"] != 3


FILTERS = {
    "conv": {"kernel": jnp.stack([jnp.full((3, 3, 2), 1.0), jnp.full((3, 3, 2), 0.05)], axis=-1)},
    "fc": {"kernel": jnp.array([[3.0, 0.3], [4.0, 0.4]]), "bias": jnp.array([9.0, 9.0])},
}


def test_zfnets_renormalisation():
    """A convolution's filter whose RMS exceeds 0.1 gets that RMS; others, and dense layers, stay."""
    still = jax.tree.map(jnp.zeros_like, FILTERS)
    params = steps(1, params=FILTERS, gradients=still, max_rms=0.1)
    np.testing.assert_allclose(params["conv"]["kernel"][..., 0], 0.1, rtol=1e-6)
    np.testing.assert_allclose(params["conv"]["kernel"][..., 1], 0.05, rtol=1e-6)
    np.testing.assert_array_equal(params["fc"]["kernel"], FILTERS["fc"]["kernel"])


def test_max_norm():
    """The norm of the weights that enter a unit is at most 2, and counts after the step."""
    gradients = jax.tree.map(jnp.zeros_like, FILTERS)
    gradients["fc"]["kernel"] = jnp.array([[0.0, -30.0], [0.0, -40.0]])
    params = steps(1, params=FILTERS, gradients=gradients, max_norm=2.0)
    np.testing.assert_allclose(params["fc"]["kernel"], [[1.2, 1.2], [1.6, 1.6]], rtol=1e-6)
    np.testing.assert_allclose(params["conv"]["kernel"][..., 0], 2 / 18**0.5, rtol=1e-6)
    np.testing.assert_array_equal(params["fc"]["bias"], 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adam"}, "name='adam' is not one of sgd, rmsprop, adamw, lars, lamb"),
        ({"name": "sgd", "weight_decay_style": "l2"}, "weight_decay_style='l2' is not one of caffe, tf, decoupled"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        make(**options)


def test_the_factor_of_a_parameter_is_that_of_the_first_pattern_that_fits():
    def factor(name):
        return lr_factor(name, ("^stem",), (("bias$", 2.0), ("conv", 0.0), ("stem", 3.0)))

    names = ("stem/conv/bias", "conv/bias", "conv/kernel", "head/kernel")
    assert [factor(name) for name in names] == [0.0, 2.0, 0.0, 1.0]

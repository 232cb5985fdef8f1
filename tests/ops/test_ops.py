import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax import ops


def grid(rows):
    return jnp.array(rows, jnp.float32)[None, :, :, None]


@pytest.mark.parametrize(
    ("size", "window", "stride", "rule", "expected"),
    [
        (224, 7, 2, "SAME", (2, 3)),  # tf-slim's first convolution
        (224, 7, 2, "SYMMETRIC", (3, 3)),  # Caffe's
        (224, 7, 2, "VALID", (0, 0)),
        (112, 3, 2, "SAME", (0, 1)),
        (112, 3, 2, "CEIL", (0, 1)),
        (113, 3, 2, "SAME", (1, 1)),
        (113, 3, 2, "CEIL", (0, 0)),  # (113 - 3) / 2 is whole
        (2, 3, 2, "CEIL", (0, 1)),
        (14, 5, 1, "SYMMETRIC", (2, 2)),
        (224, 7, 2, 1, (1, 1)),
    ],
)
def test_padding(size, window, stride, rule, expected):
    assert ops.explicit_padding((size, size), (window, window), stride, rule) == [expected] * 2


def test_padding_of_an_asymmetric_window():
    assert ops.explicit_padding((17, 17), (1, 7), 1, "SYMMETRIC") == [(0, 0), (3, 3)]


def test_padding_rule_is_checked():
    with pytest.raises(ValueError, match="'FULL' is not one of SAME, VALID, SYMMETRIC, CEIL"):
        ops.explicit_padding((8, 8), (3, 3), 1, "FULL")


def test_max_pool_pads_with_minus_infinity():
    x = grid([[-5, -6, -7], [-8, -1, -9], [-3, -4, -2]])
    np.testing.assert_array_equal(ops.max_pool(x, 3, 1, "SAME")[0, :, :, 0], np.full((3, 3), -1))
    np.testing.assert_array_equal(ops.max_pool(x, 2, 2, "CEIL")[0, :, :, 0], [[-1, -7], [-3, -2]])


def test_max_pool_gradient_goes_to_the_maximum():
    x = grid([[1, 5], [2, 3]])
    gradient = jax.grad(lambda x: 7.0 * ops.max_pool(x, 2, 1, "VALID").sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 7], [0, 0]])


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CEIL", "SYMMETRIC"])
@pytest.mark.parametrize(
    ("size", "window", "stride"), [((7, 8), 3, 1), ((8, 9), 3, 2), ((11, 7), 2, 2), ((9, 10), 3, 3)]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_max_pool_gradient_on_a_cpu_equals_laxs(size, window, stride, padding, dtype):
    # Whole numbers of a small range: many ties, and sums that bfloat16 holds exactly.
    x = jax.random.randint(jax.random.key(0), (2, *size, 3), 0, 4).astype(dtype)
    y = ops.max_pool(x, window, stride, padding)
    weights = jax.random.randint(jax.random.key(1), y.shape, -3, 4).astype(dtype)

    def reference(x):
        pads = ops.explicit_padding(size, (window, window), stride, padding)
        shape, strides = (1, window, window, 1), (1, stride, stride, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, shape, strides, [(0, 0), *pads, (0, 0)])

    np.testing.assert_array_equal(y, reference(x))
    ours, theirs = (
        jax.grad(lambda x, pool=pool: jnp.sum(weights * pool(x)))(x)
        for pool in (lambda x: ops.max_pool(x, window, stride, padding), reference)
    )
    assert ours.dtype == x.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_average_pool_counts_padding_or_not():
    x = grid([[1, 2], [3, 4]])
    corner = ops.avg_pool(x, 3, 1, "SAME", count_include_pad=True)[0, 0, 0, 0]
    np.testing.assert_allclose(corner, 10 / 9, rtol=1e-6)
    corner = ops.avg_pool(x, 3, 1, "SAME", count_include_pad=False)[0, 0, 0, 0]
    np.testing.assert_allclose(corner, 10 / 4, rtol=1e-6)


@pytest.mark.parametrize("pool", ["average", "adaptive"])
def test_averages_are_computed_in_float32(pool):
    x = jax.random.uniform(jax.random.key(0), (1, 7, 7, 5)).astype(jnp.bfloat16)
    y = ops.avg_pool(x, 7, 1, "VALID", count_include_pad=False) if pool == "average" else ops.adaptive_avg_pool(x, 1)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y[0, 0, 0], jnp.mean(x.astype(jnp.float32), (0, 1, 2)).astype(jnp.bfloat16))


def test_local_response_norm_by_hand():
    x = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).reshape(1, 1, 1, 6)
    # Channel 0 sees the channels 0 to 2, channel 3 sees 1 to 5.
    first = 1.0 / (1.0 + 0.5 / 5 * (1 + 4 + 9)) ** 0.75
    fourth = 4.0 / (1.0 + 0.5 / 5 * (4 + 9 + 16 + 25 + 36)) ** 0.75
    y = ops.local_response_norm(x, size=5, alpha=0.5, beta=0.75, k=1.0)[0, 0, 0]
    np.testing.assert_allclose([y[0], y[3]], [first, fourth], rtol=1e-6)


def test_local_response_norm_keeps_the_dtype():
    x = jnp.full((1, 1, 1, 8), 300.0, jnp.bfloat16)
    y = ops.local_response_norm(x)
    assert y.dtype == jnp.bfloat16
    # 5 * 300^2 * 1e-4 / 5 = 9
    np.testing.assert_allclose(np.float32(y[0, 0, 0, 4]), 300 / 10**0.75, rtol=0.01)

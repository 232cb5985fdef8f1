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


SHAPES = [((7, 8), 3, 1), ((8, 9), 3, 2), ((11, 7), 2, 2), ((9, 10), 3, 3), ((5, 5), 5, 1), ((6, 7), 2, 3)]


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "window", "stride"), SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_max_pool_by_axis_equals_laxs_under_jit_and_vmap(size, window, stride, padding, dtype):
    x = jax.random.randint(jax.random.key(2), (3, 2, *size, 4), -3, 4).astype(dtype)
    pads = [(0, 0), *ops.explicit_padding(size, (window, window), stride, padding), (0, 0)]

    def reference(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, window, window, 1), (1, stride, stride, 1), pads)

    def ours(x):
        return ops.max_pool(x, window, stride, padding)

    expected = jnp.stack([reference(each) for each in x])
    np.testing.assert_array_equal(jax.jit(jax.vmap(ours))(x), expected)
    weights = jax.random.randint(jax.random.key(3), expected.shape, -3, 4).astype(dtype)
    gradients = (
        jax.jit(jax.vmap(jax.grad(lambda x, w, pool=pool: jnp.sum(w * pool(x)))))(x, weights)
        for pool in (ours, reference)
    )
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("stride", [1, 2])
def test_max_pool_has_second_derivatives(stride):
    """The pool is linear between ties: of sum(pool(x)^3) the Hessian is 6 pool(x) where an entry is the maximum."""
    x = jax.random.normal(jax.random.key(0), (1, 5, 6, 2))

    def product(pool):
        curvature = jax.grad(lambda x: jnp.vdot(jax.grad(lambda x: jnp.sum(pool(x) ** 3))(x), jnp.cos(x0)))
        return curvature(x)

    x0 = x
    pads = [(0, 0), *ops.explicit_padding((5, 6), (3, 3), stride, "SAME"), (0, 0)]
    # Maxima by sorting, which JAX differentiates any number of times: select-and-scatter it does not.
    padded = lambda x: jnp.pad(x, pads, constant_values=-1e9)  # noqa: E731

    def reference(x):
        p = padded(x)
        rows = range(0, p.shape[1] - 2, stride)
        columns = range(0, p.shape[2] - 2, stride)
        return jnp.stack([jnp.stack([p[:, i : i + 3, j : j + 3].max((1, 2)) for j in columns], 1) for i in rows], 1)

    np.testing.assert_allclose(
        product(lambda x: ops.max_pool(x, 3, stride, "SAME")), product(reference), rtol=1e-5, atol=1e-6
    )


def test_max_pool_in_forward_mode_is_a_clear_error():
    x = jnp.ones((1, 4, 4, 1))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: ops.max_pool(x, 2, 2, "VALID"), (x,), (x,))


def test_an_accelerators_pool_is_one_operation():
    """On a GPU or TPU nothing of the CPU's detour may be left: one window's maximum, and XLA's own gradient."""
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    step = jax.jit(jax.grad(lambda x: ops.max_pool(x, 3, 2, "SAME").sum()))
    forward = jax.jit(lambda x: ops.max_pool(x, 3, 2, "SAME"))
    for platform, windows, scatters in (("cuda", 1, 0), ("tpu", 1, 0), ("cpu", 2, 0)):
        text = forward.trace(x).lower(lowering_platforms=(platform,)).as_text()
        assert (text.count("reduce_window"), text.count("select_and_scatter")) == (windows, scatters), platform
    assert "select_and_scatter" in step.trace(x).lower(lowering_platforms=("cuda",)).as_text()
    assert "select_and_scatter" not in step.trace(x).lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("beta", [0.75, 0.6])
def test_local_response_norm_equals_the_formula(beta, dtype):
    """Value and gradient, under jit and vmap, against the formula written with a general power."""
    x = (10 * jax.random.normal(jax.random.key(0), (2, 3, 3, 5, 9))).astype(dtype)

    def reference(x):
        x = x.astype(jnp.float32)
        padded = jnp.pad(x * x, [(0, 0)] * (x.ndim - 1) + [(2, 2)])
        total = sum(padded[..., i : i + x.shape[-1]] for i in range(5))
        return x * (2.0 + 0.3 / 5 * total) ** -beta

    def ours(x):
        return ops.local_response_norm(x, 5, 0.3, beta, 2.0)

    tolerance = 2e-6 if dtype == "float32" else 8e-3  # bfloat16 has eight bits
    np.testing.assert_allclose(
        jax.jit(jax.vmap(ours))(x).astype(np.float32), jax.vmap(reference)(x), rtol=tolerance, atol=tolerance
    )
    gradients = (
        np.float32(jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x).astype(jnp.float32))))(x)) for f in (ours, reference)
    )
    np.testing.assert_allclose(*gradients, rtol=0, atol=5 * tolerance)


def test_local_response_norm_has_second_derivatives():
    x = jax.random.normal(jax.random.key(0), (6,))

    def total(x, beta):
        return jnp.sum(ops.local_response_norm(x.reshape(1, 1, 1, 6), 5, 2.0, beta, 1.0) ** 2)

    # 0.75 as two roots against the general power a hair beside it.
    ours, near = jax.hessian(total)(x, 0.75), jax.hessian(total)(x, 0.75 + 1e-7)
    np.testing.assert_allclose(ours, near, rtol=1e-3, atol=1e-4)


NUMBERS = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize(
    ("image", "kernel", "groups", "strides", "padding"),
    [
        ((7, 9, 1), (5, 3, 1, 4), 1, (1, 1), [(0, 0), (0, 0)]),  # a grey image
        ((7, 9, 1), (5, 3, 1, 4), 1, (1, 1), [(2, 1), (0, 3)]),
        ((6, 9, 3), (3, 5, 3, 2), 1, (1, 1), [(1, 1), (0, 2)]),  # short rows of several channels
        ((3, 5, 2), (3, 5, 2, 4), 1, (1, 1), [(0, 0), (0, 0)]),  # one place
        ((4, 6, 3), (1, 1, 3, 2), 1, (1, 1), [(0, 0), (0, 0)]),
        ((1, 1, 3), (1, 1, 3, 2), 1, (1, 1), [(0, 0), (0, 0)]),
        ((6, 5, 4), (3, 3, 2, 6), 2, (1, 1), [(1, 1), (1, 1)]),  # AlexNet's halves
        ((7, 6, 3), (5, 5, 1, 6), 3, (2, 2), [(1, 2), (2, 2)]),  # Inception-v2's separable convolution
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fast_convolutions_equal_laxs(image, kernel, groups, strides, padding, dtype):
    # Whole numbers of a small range, which bfloat16 and any order of summation hold exactly.
    x = jax.random.randint(jax.random.key(0), (2, *image), -1, 2).astype(dtype)
    kernel = jax.random.randint(jax.random.key(1), kernel, -1, 2).astype(dtype)
    options = {"dimension_numbers": NUMBERS, "feature_group_count": groups}

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)

    def ours(x, kernel):
        return ops.convolve(x, kernel, strides, padding, **options)

    y = jax.jit(ours)(x, kernel)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, reference(x, kernel))
    doubled = jnp.stack([x, 2 * x])
    np.testing.assert_array_equal(jax.vmap(ours, (0, None))(doubled, kernel), jnp.stack([y, 2 * y]))
    weights = jax.random.randint(jax.random.key(2), y.shape, -1, 2).astype(dtype)
    gradients = (jax.grad(lambda x, k, f=f: jnp.sum(weights * f(x, k)), (0, 1))(x, kernel) for f in (ours, reference))
    jax.tree.map(np.testing.assert_array_equal, *gradients)
    # Not the very convolution: a wrong path that is never taken would pass all of this.
    lowered = (jax.jit(f).lower(x, kernel).as_text().replace(f.__name__, "f") for f in (ours, reference))
    assert next(lowered) != next(lowered)


@pytest.mark.parametrize(
    ("channels", "groups", "strides", "padding"),
    [
        (3, 1, (2, 2), [(0, 0), (0, 0)]),
        (1, 1, (2, 2), [(0, 0), (0, 0)]),
        (3, 1, (1, 1), [(1, 0), (0, 0)]),
        (8, 8, (1, 1), [(0, 0), (0, 0)]),  # too many groups to take them one by one
    ],
)
def test_other_convolutions_are_laxs(channels, groups, strides, padding):
    x, kernel = jnp.ones((1, 8, 29, channels)), jnp.ones((3, 3, channels // groups, 8))

    def ours(x, kernel):
        return ops.convolve(x, kernel, strides, padding, dimension_numbers=NUMBERS, feature_group_count=groups)

    assert [e.primitive.name for e in jax.make_jaxpr(ours)(x, kernel).eqns] == ["conv_general_dilated"]


def test_dilated_convolutions_are_laxs():
    def ours(x, kernel):
        options = {"dimension_numbers": NUMBERS, "lhs_dilation": (1, 1), "rhs_dilation": (2, 2)}
        return ops.convolve(x, kernel, (1, 1), [(0, 0), (0, 0)], **options)

    jaxpr = jax.make_jaxpr(ours)(jnp.ones((1, 8, 8, 1)), jnp.ones((3, 3, 1, 2)))
    assert [e.primitive.name for e in jaxpr.eqns] == ["conv_general_dilated"]
    assert jaxpr.out_avals[0].shape == (1, 4, 4, 2)  # 5 x 5 with the holes


def test_convolutions_in_training_have_the_same_derivatives():
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    options = {"strides": (1, 1), "padding": [(1, 1), (1, 1)], "dimension_numbers": NUMBERS}

    def loss(convolve):
        return lambda x, kernel: jnp.sum(convolve(x, kernel, **options) ** 3)

    def of_gradient(f):
        return jax.grad(lambda x, kernel: sum(jnp.sum(g**2) for g in jax.grad(f, (0, 1))(x, kernel)), (0, 1))

    for derive in (lambda f: f, lambda f: jax.grad(f, (0, 1)), of_gradient):
        ours, plain = (jax.jit(derive(loss(f)))(x, kernel) for f in (ops.convolve_in_training, ops.convolve))
        jax.tree.map(np.testing.assert_array_equal, ours, plain)
    # Not even what is not a number is passed on from the kernel's gradient.
    ours, plain = (
        jax.grad(loss(f), (0, 1))(x.at[0].set(jnp.inf), kernel) for f in (ops.convolve_in_training, ops.convolve)
    )
    assert np.isnan(ours[1]).all()
    assert np.isfinite(ours[0][1]).all()
    jax.tree.map(np.testing.assert_array_equal, ours, plain)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: ops.convolve_in_training(x, kernel, **options), (x,), (x,))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu(dtype):
    x = jnp.array([-jnp.inf, -2, -0.0, 0, 3, jnp.inf, jnp.nan], dtype)
    y = jax.jit(ops.relu)(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(np.float32(y), [0, 0, 0, 0, 3, np.inf, np.nan])
    slope = jax.vmap(jax.grad(ops.relu))(x[:-1])
    assert slope.dtype == dtype
    np.testing.assert_array_equal(slope, [0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(jax.jvp(ops.relu, (x[:-1],), (jnp.full(6, 5, dtype),))[1], [0, 0, 0, 0, 5, 5])
    cubes = jax.vmap(jax.grad(jax.grad(lambda x: ops.relu(x) ** 3)))(jnp.array([-2.0, 2.0]))
    np.testing.assert_array_equal(cubes, [0, 12])


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(("size", "window", "stride", "padding"), [((7, 8), 3, 1, "SAME"), ((11, 7), 5, 3, "VALID")])
def test_average_pool_by_axis_equals_laxs(size, window, stride, padding, count_include_pad):
    x = jax.random.normal(jax.random.key(0), (3, 2, *size, 4))
    pads = [(0, 0), *ops.explicit_padding(size, (window, window), stride, padding), (0, 0)]

    def total(x):
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, window, window, 1), (1, stride, stride, 1), pads)

    def reference(x):
        return total(x) / (window**2 if count_include_pad else total(jnp.ones_like(x)))

    def ours(x):
        return ops.avg_pool(x, window, stride, padding, count_include_pad)

    np.testing.assert_allclose(jax.jit(jax.vmap(ours))(x), jax.vmap(reference)(x), rtol=1e-5, atol=1e-6)
    for order in (lambda f: jax.grad(f), lambda f: jax.grad(lambda x: jnp.sum(jax.grad(f)(x) ** 2))):
        gradients = (order(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(x[0]) for f in (ours, reference))
        np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)

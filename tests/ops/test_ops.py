import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax import ops
from inception_jax.ops import gpu

NUMBERS = ("NHWC", "HWIO", "NHWC")


def grid(rows):
    return jnp.array(rows, jnp.float32)[None, :, :, None]


def test_padding():
    for size, window, stride, rule, expected in (
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
    ):
        found = ops.explicit_padding((size, size), (window, window), stride, rule)
        assert found == [expected] * 2, (size, window, stride, rule)


def test_padding_of_an_asymmetric_window():
    assert ops.explicit_padding((17, 17), (1, 7), 1, "SYMMETRIC") == [(0, 0), (3, 3)]


def test_padding_rule_is_checked():
    with pytest.raises(ValueError, match="'FULL' is not one of SAME, VALID, SYMMETRIC, CEIL"):
        ops.explicit_padding((8, 8), (3, 3), 1, "FULL")


def test_max_pool_pads_with_minus_infinity():
    x = grid([[-5, -6, -7], [-8, -1, -9], [-3, -4, -2]])
    np.testing.assert_array_equal(ops.max_pool(x, 3, 1, "SAME")[0, :, :, 0], np.full((3, 3), -1))
    np.testing.assert_array_equal(ops.max_pool(x, 2, 2, "CEIL")[0, :, :, 0], [[-1, -7], [-3, -2]])


def test_max_pool_gradient_goes_to_the_first_maximum():
    for pool in (ops.max_pool, ops.max_pool_in_training):
        for rows, window, stride, expected in (
            ([[1, 5], [2, 3]], 2, 1, [[0, 7], [0, 0]]),
            ([[1, 5], [5, 5]], 2, 2, [[0, 7], [0, 0]]),  # windows that do not overlap have a path of their own
            ([[5, 1, 5], [5, 5, 5]], 2, 1, [[7, 0, 7], [0, 0, 0]]),
        ):
            x = grid(rows)
            gradient = jax.grad(lambda x, p=pool, w=window, s=stride: 7.0 * p(x, w, s, "VALID").sum())(x)
            np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


# Size, window and stride; they overlap, meet, or leave a gap.
WINDOWS = [((7, 8), 3, 1), ((8, 9), 3, 2), ((11, 7), 2, 2), ((9, 10), 3, 3), ((5, 5), 5, 1), ((6, 7), 2, 3)]


def test_max_pools_equal_laxs():
    """Value and gradient, under jit and vmap, of both kinds of our pool and of lax's operation; the tangent of one."""
    cases = [(window, padding, "float32") for window in WINDOWS for padding in ("SAME", "VALID")]
    cases += [(window, padding, "float32") for window in WINDOWS[1:3] for padding in ("CEIL", "SYMMETRIC")]
    cases += [(window, "SAME", "bfloat16") for window in WINDOWS[1:4]]
    for (size, window, stride), padding, dtype in cases:
        message = f"{size} {window}/{stride} {padding} {dtype}"
        pads = [(0, 0), *ops.explicit_padding(size, (window, window), stride, padding), (0, 0)]
        options = {"window": window, "stride": stride, "padding": padding}
        reference = functools.partial(
            jax.lax.reduce_window,
            init_value=-jnp.inf,
            computation=jax.lax.max,
            window_dimensions=(1, window, window, 1),
            window_strides=(1, stride, stride, 1),
            padding=pads,
        )
        plain, training = (lambda x, f=f, o=options: f(x, **o) for f in (ops.max_pool, ops.max_pool_in_training))
        # Whole numbers of a small range: many ties, and sums that bfloat16 holds exactly.
        x = jax.random.randint(jax.random.key(0), (2, 2, *size, 3), -2, 2).astype(dtype)
        shape = jax.eval_shape(jax.vmap(reference), x).shape
        weights = jax.random.randint(jax.random.key(1), shape, -3, 4).astype(dtype)

        def result(pool, x, weights):
            y, backward = jax.vjp(pool, x)
            return y, *backward(weights)

        @jax.jit
        def results(x, weights, pools=(plain, training, reference)):
            by_reverse = [jax.vmap(functools.partial(result, pool))(x, weights) for pool in pools]
            return by_reverse, [jax.jvp(jax.vmap(pool), (x,), (x,))[1] for pool in pools[::2]]

        (*ours, expected), tangents = results(x, weights)
        for found in ours:
            assert [array.dtype for array in found] == [dtype, dtype], message
            jax.tree.map(functools.partial(np.testing.assert_array_equal, err_msg=message), found, expected)
        np.testing.assert_array_equal(*tangents, err_msg=message)


def test_max_pools_keep_what_is_not_a_number():
    for window, stride in ((2, 2), (3, 2)):
        for place in range(4):
            x = jnp.ones((1, 3, 3, 1)).at[0, place // 2, place % 2, 0].set(jnp.nan)
            assert np.isnan(ops.max_pool(x, window, stride, "VALID")[0, 0, 0, 0]), (window, place)


def test_average_pool_counts_padding_or_not():
    x = grid([[1, 2], [3, 4]])
    corner = ops.avg_pool(x, 3, 1, "SAME", count_include_pad=True)[0, 0, 0, 0]
    np.testing.assert_allclose(corner, 10 / 9, rtol=1e-6)
    corner = ops.avg_pool(x, 3, 1, "SAME", count_include_pad=False)[0, 0, 0, 0]
    np.testing.assert_allclose(corner, 10 / 4, rtol=1e-6)


def test_averages_are_computed_in_float32():
    x = jax.random.uniform(jax.random.key(0), (1, 7, 7, 5)).astype(jnp.bfloat16)
    for y in (ops.avg_pool(x, 7, 1, "VALID", count_include_pad=False), ops.adaptive_avg_pool(x, 1)):
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


def test_max_pools_have_second_derivatives():
    """The pool is linear between ties: of sum(pool(x)^3) the Hessian is 6 pool(x) where an entry is the maximum."""
    x = jax.random.normal(jax.random.key(0), (1, 5, 6, 2))

    def reverse(pool, x):
        return jax.grad(lambda x: jnp.vdot(jax.grad(lambda x: jnp.sum(pool(x) ** 3))(x), jnp.cos(x0)))(x)

    def forward(pool, x):
        return jax.jvp(jax.grad(lambda x: jnp.sum(pool(x) ** 3)), (x,), (jnp.cos(x0),))[1]

    x0 = x
    for window, stride in ((3, 1), (3, 2), (2, 2)):
        pads = [(0, 0), *ops.explicit_padding((5, 6), (window, window), stride, "SAME"), (0, 0)]

        # Maxima by sorting, which JAX differentiates any number of times.
        def reference(x, window=window, stride=stride, pads=pads):
            p = jnp.pad(x, pads, constant_values=-1e9)
            rows, columns = (range(0, p.shape[axis] - window + 1, stride) for axis in (1, 2))
            cell = lambda i, j: p[:, i : i + window, j : j + window].max((1, 2))  # noqa: E731
            return jnp.stack([jnp.stack([cell(i, j) for j in columns], 1) for i in rows], 1)

        @jax.jit
        def products(x, p=(window, stride, "SAME"), reference=reference):
            plain, training = (lambda x, f=f: f(x, *p) for f in (ops.max_pool, ops.max_pool_in_training))
            return reverse(reference, x), [reverse(plain, x), reverse(training, x), forward(plain, x)]

        expected, found = products(x)
        for product in found:
            np.testing.assert_allclose(product, expected, rtol=1e-5, atol=1e-6)


def test_what_is_for_training_in_forward_mode_is_a_clear_error():
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((1, 1, 1, 2))
    convolve = functools.partial(ops.convolve_in_training, strides=(1, 1), padding="VALID", dimension_numbers=NUMBERS)
    for f in (lambda x: ops.max_pool_in_training(x, 2, 2, "VALID"), lambda x: convolve(x, kernel)):
        with pytest.raises(TypeError, match="forward-mode"):
            jax.jvp(f, (x,), (x,))


def test_each_platform_has_its_own_pool():
    """Forward, one operation on a GPU or TPU; backward, XLA's own gradient on a TPU alone."""
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    step = jax.jit(jax.grad(lambda x: ops.max_pool_in_training(x, 3, 2, "SAME").sum()))
    forward = jax.jit(lambda x: ops.max_pool(x, 3, 2, "SAME"))
    for platform, windows, scatters in (("cuda", 1, 0), ("tpu", 1, 0), ("cpu", 2, 0)):
        text = forward.trace(x).lower(lowering_platforms=(platform,)).as_text()
        assert (text.count("reduce_window"), text.count("select_and_scatter")) == (windows, scatters), platform
    for platform, scatters in (("cuda", 0), ("tpu", 1), ("cpu", 0)):
        text = step.trace(x).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("select_and_scatter") == scatters, platform


def test_a_gpus_convolution_of_an_image():
    """Space to depth gives the value and the derivatives of the plain convolution, and is what a GPU runs."""
    for size, window, stride, rule in (((16, 17), 7, 2, "SAME"), ((13, 16), 3, 2, "VALID"), ((24, 23), 11, 4, 2)):
        x, kernel = (
            jax.random.normal(jax.random.key(i), shape)
            for i, shape in enumerate(((2, *size, 3), (window, window, 3, 5)))
        )
        pads = ops.explicit_padding(size, (window, window), stride, rule)
        options = {"dimension_numbers": NUMBERS}

        def plain(x, kernel, stride=stride, pads=pads):
            return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=NUMBERS)

        fast = gpu.fast_convolution(x.shape, (stride, stride), pads, 1, options)
        expected, pull = jax.vjp(plain, x, kernel)
        found, pull_fast = jax.vjp(fast, x, kernel)
        for a, b in zip((found, *pull_fast(found)), (expected, *pull(expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)

        convolve = jax.jit(lambda x, k, s=stride, p=pads: ops.convolve(x, k, (s, s), p, dimension_numbers=NUMBERS))
        for platform, is_plain in (("cuda", False), ("tpu", True), ("cpu", True)):
            text = convolve.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
            assert (f"stride = [{stride}, {stride}]" in text) == is_plain, platform


def test_a_gpu_convolves_with_the_1x1_kernels_of_one_input_at_once():
    x = jax.random.normal(jax.random.key(0), (2, 5, 7, 4))
    kernels = {
        name: jax.random.normal(jax.random.key(i), (1, 1, 4, features))
        for i, (name, features) in enumerate((("a", 3), ("b", 1), ("c", 6)))
    }
    expected, pull = jax.vjp(
        lambda x, ks: {name: jnp.einsum("nhwc,ijcf->nhwf", x, k) for name, k in ks.items()}, x, kernels
    )

    def on_gpu(x, kernels):
        convolve = functools.partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding="VALID")
        outputs = gpu.convolve_at_once(functools.partial(convolve, dimension_numbers=NUMBERS), x, *kernels.values())
        return dict(zip(kernels, outputs, strict=True))

    for convolve in (ops.convolve, ops.convolve_in_training):
        here = functools.partial(ops.convolve_1x1s, convolve=convolve)
        for function in (here, on_gpu):
            found, pull_found = jax.vjp(function, x, kernels)
            jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected)
            gradients = pull_found(found), pull(expected)
            jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), *gradients)
        step = jax.jit(lambda x, ks, f=here: jax.vjp(f, x, ks)[1](f(x, ks)))
        for platform, count in (("cuda", 1), ("tpu", 3)):
            text = step.trace(x, kernels).lower(lowering_platforms=(platform,)).as_text()
            assert text.count("stablehlo.convolution") == 3 * count, platform  # forward, and two gradients


def test_local_response_norm_equals_the_formula():
    """Value, gradient and tangent, under jit and vmap, against the formula written with a general power."""
    for beta, dtype in ((0.75, "float32"), (0.75, "bfloat16"), (0.6, "float32")):
        x = (10 * jax.random.normal(jax.random.key(0), (2, 3, 3, 5, 9))).astype(dtype)

        def reference(x, beta=beta):
            x = x.astype(jnp.float32)
            padded = jnp.pad(x * x, [(0, 0)] * (x.ndim - 1) + [(2, 2)])
            total = sum(padded[..., i : i + x.shape[-1]] for i in range(5))
            return x * (2.0 + 0.3 / 5 * total) ** -beta

        def ours(x, beta=beta):
            return ops.local_response_norm(x, 5, 0.3, beta, 2.0)

        @jax.jit
        def results(x, ours=ours, reference=reference):
            sines = (lambda x, f=f: jnp.sum(jnp.sin(f(x).astype(jnp.float32))) for f in (ours, reference))
            return [(jax.vmap(f)(x), jax.grad(g)(x)) for f, g in zip((ours, reference), sines, strict=True)]

        tolerance = 2e-6 if dtype == "float32" else 8e-3  # bfloat16 has eight bits
        (value, gradient), (expected, expected_gradient) = jax.tree.map(np.float32, results(x))
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=5 * tolerance)


def test_local_response_norm_has_second_derivatives():
    x = jax.random.normal(jax.random.key(0), (6,))

    def total(x, beta):
        return jnp.sum(ops.local_response_norm(x.reshape(1, 1, 1, 6), 5, 2.0, beta, 1.0) ** 2)

    # 0.75 as two roots against the general power a hair beside it.
    ours, near = jax.jit(lambda x: [jax.hessian(total)(x, beta) for beta in (0.75, 0.75 + 1e-7)])(x)
    np.testing.assert_allclose(ours, near, rtol=1e-3, atol=1e-4)


# Image, kernel, groups, strides and padding of convolutions that have a fast path.
FAST = [
    ((7, 9, 1), (5, 3, 1, 4), 1, (1, 1), [(0, 0), (0, 0)]),  # a grey image
    ((7, 9, 1), (5, 3, 1, 4), 1, (1, 1), [(2, 1), (0, 3)]),
    ((6, 9, 3), (3, 5, 3, 2), 1, (1, 1), [(1, 1), (0, 2)]),  # short rows of several channels
    ((3, 5, 2), (3, 5, 2, 4), 1, (1, 1), [(0, 0), (0, 0)]),  # one place
    ((4, 6, 3), (1, 1, 3, 2), 1, (1, 1), [(0, 0), (0, 0)]),
    ((1, 1, 3), (1, 1, 3, 2), 1, (1, 1), [(0, 0), (0, 0)]),
    ((6, 5, 4), (3, 3, 2, 6), 2, (1, 1), [(1, 1), (1, 1)]),  # AlexNet's halves
    ((7, 6, 3), (5, 5, 1, 6), 3, (2, 2), [(1, 2), (2, 2)]),  # Inception-v2's separable convolution
]


def test_fast_convolutions_equal_laxs():
    """Value under jit and vmap, gradients and tangent."""
    for i, (image, shape, groups, strides, padding) in enumerate(FAST):
        for dtype in ("float32", "bfloat16") if i in (1, 4, 6) else ("float32",):
            # Whole numbers of a small range, which bfloat16 and any order of summation hold exactly.
            x = jax.random.randint(jax.random.key(0), (2, *image), -1, 2).astype(dtype)
            kernel = jax.random.randint(jax.random.key(1), shape, -1, 2).astype(dtype)
            options = {"dimension_numbers": NUMBERS, "feature_group_count": groups}

            def results(f, x, kernel, strides=strides, padding=padding, options=options):
                run = lambda x, kernel: f(x, kernel, strides, padding, **options)  # noqa: E731
                y, backward = jax.vjp(run, x, kernel)
                batch = jax.vmap(run, (0, None))(jnp.stack([x, 2 * x]), kernel)
                return y, batch, backward(jnp.round(jnp.sin(y) * 3)), jax.jvp(run, (x, kernel), (x, kernel))[1]

            ours, plain = (jax.jit(functools.partial(results, f)) for f in (ops.convolve, jax.lax.conv_general_dilated))
            message = f"{image} {shape} {dtype}"
            for a, b in zip(jax.tree.leaves(ours(x, kernel)), jax.tree.leaves(plain(x, kernel)), strict=True):
                assert a.dtype == b.dtype == dtype, message
                np.testing.assert_array_equal(a, b, err_msg=message)
            # Not the very convolution: a wrong path that is never taken would pass all of this.
            lowered = (
                jax.jit(lambda x, k, f=f, o=(strides, padding), q=options: f(x, k, *o, **q)).lower(x, kernel).as_text()
                for f in (ops.convolve, jax.lax.conv_general_dilated)
            )
            assert next(lowered) != next(lowered), message


def test_other_convolutions_are_laxs():
    for channels, groups, strides, padding in (
        (8, 1, (2, 2), [(0, 0), (0, 0)]),
        (3, 1, (1, 1), [(1, 0), (0, 0)]),
        (8, 8, (1, 1), [(0, 0), (0, 0)]),  # too many groups to take them one by one
    ):
        x, kernel = jnp.ones((1, 8, 29, channels)), jnp.ones((3, 3, channels // groups, 8))
        options = {"dimension_numbers": NUMBERS, "feature_group_count": groups}
        jaxpr = jax.make_jaxpr(functools.partial(ops.convolve, strides=strides, padding=padding, **options))(x, kernel)
        assert [e.primitive.name for e in jaxpr.eqns] == ["conv_general_dilated"], (channels, groups, strides)


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


def test_average_pools_equal_laxs():
    for (size, window, stride, padding), count_include_pad in itertools.product(
        (((7, 8), 3, 1, "SAME"), ((11, 7), 5, 3, "VALID"), ((6, 7), 2, 2, "VALID")), (True, False)
    ):
        average_equals_laxs(size, window, stride, padding, count_include_pad)


def average_equals_laxs(size, window, stride, padding, count_include_pad):
    x = jax.random.normal(jax.random.key(0), (3, 2, *size, 4))
    pads = [(0, 0), *ops.explicit_padding(size, (window, window), stride, padding), (0, 0)]

    def total(x):
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, window, window, 1), (1, stride, stride, 1), pads)

    def reference(x):
        return total(x) / (window**2 if count_include_pad else total(jnp.ones_like(x)))

    def ours(x):
        return ops.avg_pool(x, window, stride, padding, count_include_pad)

    def results(f, x):
        total = lambda x: jnp.sum(jnp.sin(f(x)))  # noqa: E731
        second = jax.grad(lambda x: jnp.sum(jax.grad(total)(x) ** 2))
        return jax.vmap(f)(x), jax.grad(total)(x[0]), second(x[0]), jax.jvp(f, (x[0],), (x[1],))[1]

    found, expected = jax.jit(lambda x: [results(f, x) for f in (ours, reference)])(x)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=f"{size} {window}/{stride} {padding}")

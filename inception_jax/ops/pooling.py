"""Max and average pooling of NHWC arrays."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from inception_jax.ops.padding import explicit_padding


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Maximum over `window` x `window` cells of `x` [N, H, W, C]; padding counts as minus infinity, never as 0.

    The gradient goes to the first maximum of a window, in the order of rows.
    """
    return _reduce_max(x, window, stride, padding)


def _reduce_max(x, window, stride, padding):
    return lax.reduce_window(x, -jnp.inf, lax.max, *_geometry(x, window, stride, padding))


def _max_pool_forward(x, window, stride, padding):
    return max_pool(x, window, stride, padding), x


def _max_pool_backward(window, stride, padding, x, gradient):
    def by_scatter(x, gradient):
        return jax.vjp(lambda x: _reduce_max(x, window, stride, padding), x)[1](gradient)[0]

    def by_shifts(x, gradient):
        return _max_pool_gradient_by_shifts(x, gradient, window, stride, padding)

    # XLA's select-and-scatter runs one element at a time on a CPU, ten times slower than the loops below.
    return (lax.platform_dependent(x, gradient, cpu=by_shifts, default=by_scatter),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _max_pool_gradient_by_shifts(x, gradient, window, stride, padding):
    """Each input cell sums, over the window's cells, the gradients of the windows whose maximum it is."""
    (_, height, width, _), (_, rows, columns, _) = x.shape, gradient.shape
    offsets = [(i, j) for i in range(window) for j in range(window)]
    pads = explicit_padding((height, width), (window, window), stride, padding)
    padded = lax.pad(x, jnp.array(-jnp.inf, x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in pads), (0, 0, 0)])

    # Which cell of each window is its first maximum.
    best = jnp.full(gradient.shape, -jnp.inf, x.dtype)
    which = jnp.zeros(gradient.shape, jnp.int8)
    for k, (i, j) in enumerate(offsets):
        last = (padded.shape[0], i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1, padded.shape[3])
        cell = lax.slice(padded, (0, i, j, 0), last, (1, stride, stride, 1))
        better = cell > best
        best, which = jnp.where(better, cell, best), jnp.where(better, jnp.int8(k), which)

    # Spread both over the input's grid, so that one shift for each cell of the window brings them together.
    def spread(y, empty):
        before = [window - 1 - lo for lo, _ in pads]
        after = [
            size - 1 + lo - (count - 1) * stride
            for size, count, (lo, _) in zip((height, width), (rows, columns), pads, strict=True)
        ]
        config = [(0, 0, 0), *zip(before, after, (stride - 1,) * 2, strict=True), (0, 0, 0)]
        return lax.pad(y, jnp.array(empty, y.dtype), config)

    # The barrier keeps XLA from computing the spread arrays anew for each shift.
    gradient, which = lax.optimization_barrier((spread(gradient, 0), spread(which, -1)))
    total = jnp.zeros_like(x)
    for k, (i, j) in enumerate(offsets):
        start = (0, window - 1 - i, window - 1 - j, 0)
        stop = (x.shape[0], start[1] + height, start[2] + width, x.shape[3])
        total += jnp.where(lax.slice(which, start, stop) == k, lax.slice(gradient, start, stop), 0)
    return total


def avg_pool(x: jax.Array, window: int, stride: int, padding: str, count_include_pad: bool) -> jax.Array:
    """Mean over `window` x `window` cells of `x` [N, H, W, C].

    `count_include_pad` says whether cells of the padding are counted in the divisor: Caffe and PyTorch count them,
    TensorFlow does not. It is without effect where nothing is padded. Computed in float32, returned in the dtype of
    `x`.
    """
    geometry = _geometry(x, window, stride, padding)
    total = lax.reduce_window(x.astype(jnp.float32), 0.0, lax.add, *geometry)
    if count_include_pad:
        count = window**2
    else:
        count = lax.reduce_window(jnp.ones((1, *x.shape[1:3], 1)), 0.0, lax.add, *geometry)
    return (total / count).astype(x.dtype)


@functools.partial(jax.jit, static_argnums=1)  # so that it stands in a trace under its name
def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Mean over `size` x `size` windows laid evenly over the grid of `x` [N, H, W, C], to [N, size, size, C].

    Window i reaches from floor(i n / size) to ceil((i + 1) n / size), so that windows may overlap and, on a grid under
    `size`, repeat: PyTorch's AdaptiveAvgPool2d. Computed in float32, returned in the dtype of `x`.
    """
    mean = x.astype(jnp.float32)
    for axis in (1, 2):
        cells = x.shape[axis]
        bounds = [(i * cells // size, -(-(i + 1) * cells // size)) for i in range(size)]
        windows = [lax.slice_in_dim(mean, start, stop, axis=axis) for start, stop in bounds]
        mean = jnp.concatenate([jnp.mean(window, axis, keepdims=True) for window in windows], axis)
    return mean.astype(x.dtype)


def _geometry(x, window, stride, padding):
    pads = explicit_padding(x.shape[1:3], (window, window), stride, padding)
    return (1, window, window, 1), (1, stride, stride, 1), [(0, 0), *pads, (0, 0)]

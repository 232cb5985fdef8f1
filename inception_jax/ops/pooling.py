"""Max and average pooling of NHWC arrays."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from inception_jax.ops import cpu
from inception_jax.ops.padding import cut, explicit_padding, pad


def max_pool(x: jax.Array, window: int, stride: int, padding: str | int) -> jax.Array:
    """Maximum over `window` x `window` cells of `x` [N, H, W, C]; padding counts as minus infinity, never as 0.

    The gradient goes to the first maximum of a window, in the order of rows. Differentiable in forward and in reverse
    mode, any number of times.
    """
    return _reduce(x, -jnp.inf, lax.max, window, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool_in_training(x: jax.Array, window: int, stride: int, padding: str | int) -> jax.Array:
    """`max_pool`, whose backward pass is several times faster on CPUs and GPUs; forward mode is a TypeError."""
    return max_pool(x, window, stride, padding)


def _max_pool_forward(x, window, stride, padding):
    return max_pool(x, window, stride, padding), x


def _max_pool_backward(window, stride, padding, x, gradient):
    def plain(x, gradient):
        return jax.vjp(lambda x: max_pool(x, window, stride, padding), x)[1](gradient)[0]

    def fast(x, gradient):
        pads = explicit_padding(x.shape[1:3], (window, window), stride, padding)
        return max_pool_gradient(x, gradient, window, stride, pads)

    return (lax.platform_dependent(x, gradient, tpu=plain, default=fast),)


max_pool_in_training.defvjp(_max_pool_forward, _max_pool_backward)


def max_pool_gradient(
    x: jax.Array, gradient: jax.Array, window: int, stride: int, pads: Sequence[tuple[int, int]]
) -> jax.Array:
    """The gradient of a max-pool with respect to its input `x`, given that of its output.

    Each input cell sums, over the windows that contain it, the gradients of those whose first maximum it is. XLA's
    select-and-scatter runs one element at a time on a CPU, ten times slower than these loops. On a GPU it adds
    atomically: GoogLeNet's training step took 1.5 times as long (docs/performance.md).
    """
    (batch, *size, channels), counts = x.shape, gradient.shape[1:3]
    padded = pad(x, -jnp.inf, pads)

    # Which cell of each window is its first maximum.
    best, which = None, jnp.zeros(gradient.shape, jnp.int8)
    for i, j in np.ndindex(window, window):
        cell = cut(padded, (i, j), counts, stride)
        if best is None:
            best = cell
            continue
        better = cell > best
        best, which = jnp.where(better, cell, best), jnp.where(better, jnp.int8(i * window + j), which)

    # Input cell (stride u + p) of an axis, padding included, is cell (p + stride m) of the window number u - m.
    reach = -(-window // stride)
    grid = [-(-(n + lo) // stride) for n, (lo, _) in zip(size, pads, strict=True)]
    borders = [(0, 0, 0), *((reach - 1, u - n, 0) for u, n in zip(grid, counts, strict=True)), (0, 0, 0)]
    # The barrier keeps XLA from padding again for each shift.
    gradient, which = lax.optimization_barrier(
        (lax.pad(gradient, jnp.zeros((), gradient.dtype), borders), lax.pad(which, jnp.int8(-1), borders))
    )

    def phase(p, q):
        total = jnp.zeros((batch, *grid, channels), x.dtype)
        for m, n in np.ndindex(reach, reach):
            i, j = p + stride * m, q + stride * n
            if i < window and j < window:
                shift = (reach - 1 - m, reach - 1 - n)
                hit = cut(which, shift, grid) == i * window + j
                total += jnp.where(hit, cut(gradient, shift, grid), 0)
        return total

    total = jnp.stack([jnp.stack([phase(p, q) for q in range(stride)], 3) for p in range(stride)], 2)
    total = total.reshape(batch, grid[0] * stride, grid[1] * stride, channels)
    return cut(total, [lo for lo, _ in pads], size)


def avg_pool(x: jax.Array, window: int, stride: int, padding: str | int, count_include_pad: bool) -> jax.Array:
    """Mean over `window` x `window` cells of `x` [N, H, W, C].

    `count_include_pad` says whether cells of the padding are counted in the divisor: Caffe and PyTorch count them,
    TensorFlow does not. It has no effect where nothing is padded. Computed in float32, returned in the dtype of `x`.
    """
    total = _reduce(x.astype(jnp.float32), 0.0, lax.add, window, stride, padding)
    if count_include_pad:
        count = window**2
    else:
        count = _reduce(jnp.ones((1, *x.shape[1:3], 1)), 0.0, lax.add, window, stride, padding)
    return (total / count).astype(x.dtype)


@functools.partial(jax.jit, static_argnums=1)  # so that a trace shows it under its name
def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Mean over `size` x `size` windows laid evenly over the grid of `x` [N, H, W, C], to [N, size, size, C].

    Window i reaches from floor(i n / size) to ceil((i + 1) n / size), as in PyTorch's AdaptiveAvgPool2d. So windows may
    overlap, and on a grid under `size` they repeat. Computed in float32, returned in the dtype of `x`.
    """
    mean = x.astype(jnp.float32)
    for axis in (1, 2):
        cells = x.shape[axis]
        bounds = [(i * cells // size, -(-(i + 1) * cells // size)) for i in range(size)]
        windows = [lax.slice_in_dim(mean, start, stop, axis=axis) for start, stop in bounds]
        mean = jnp.concatenate([jnp.mean(window, axis, keepdims=True) for window in windows], axis)
    return mean.astype(x.dtype)


def _reduce(x, start, combine, window, stride, padding):
    pads = explicit_padding(x.shape[1:3], (window, window), stride, padding)

    def plain(x):
        windows, strides = (1, window, window, 1), (1, stride, stride, 1)
        return lax.reduce_window(x, start, combine, windows, strides, [(0, 0), *pads, (0, 0)])

    def fast(x):
        return cpu.reduce_windows(x, start, combine, window, stride, pads)

    return lax.platform_dependent(x, cpu=fast, default=plain)

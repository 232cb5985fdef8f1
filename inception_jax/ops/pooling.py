"""Max and average pooling of NHWC arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from inception_jax.ops.padding import explicit_padding


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: jax.Array, window: int, stride: int, padding: str | int) -> jax.Array:
    """Maximum over `window` x `window` cells of `x` [N, H, W, C]; padding counts as minus infinity, never as 0.

    The gradient goes to the first maximum of a window, in the order of rows. Differentiable in reverse mode, any number
    of times; forward mode (`jax.jvp`, `jax.jacfwd`) is a TypeError.
    """

    return _reduce(x, -jnp.inf, lax.max, window, stride, padding)


def _reduce(x, start, operation, window, stride, padding):
    pads = explicit_padding(x.shape[1:3], (window, window), stride, padding)

    def over(x, *axes):
        windows, strides, all_pads = [1] * 4, [1] * 4, [(0, 0)] * 4
        for axis in axes:
            windows[axis], strides[axis], all_pads[axis] = window, stride, pads[axis - 1]
        return lax.reduce_window(x, start, operation, windows, strides, all_pads)

    def by_cells(x):
        padded = lax.pad(x, jnp.array(start, x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in pads), (0, 0, 0)])
        counts = [(n - window) // stride + 1 for n in padded.shape[1:3]]
        return functools.reduce(operation, (_cut(padded, at, counts, stride) for at in np.ndindex(window, window)))

    # On a CPU XLA makes one loop, vectorised over channels, of the cells of windows that do not overlap. Where they do,
    # 2 x window operations take less time than window^2, though what the rows give is written and read once more. An
    # accelerator is bound by its memory.
    on_cpu = by_cells if window <= stride else lambda x: over(over(x, 2), 1)
    return lax.platform_dependent(x, cpu=on_cpu, default=lambda x: over(x, 1, 2))


def _max_pool_forward(x, window, stride, padding):
    return max_pool(x, window, stride, padding), x


def _max_pool_backward(window, stride, padding, x, gradient):
    def by_scatter(x, gradient):
        return jax.vjp(lambda x: _reduce(x, -jnp.inf, lax.max, window, stride, padding), x)[1](gradient)[0]

    def by_shifts(x, gradient):
        return _max_pool_gradient_by_shifts(x, gradient, window, stride, padding)

    # XLA's select-and-scatter runs one element at a time on a CPU, ten times slower than the loops below.
    return (lax.platform_dependent(x, gradient, cpu=by_shifts, default=by_scatter),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _max_pool_gradient_by_shifts(x, gradient, window, stride, padding):
    """Each input cell sums, over the windows that contain it, the gradients of those whose maximum it is."""
    (batch, *size, channels), counts = x.shape, gradient.shape[1:3]
    pads = explicit_padding(size, (window, window), stride, padding)
    padded = lax.pad(x, jnp.array(-jnp.inf, x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in pads), (0, 0, 0)])

    # Which cell of each window is its first maximum.
    best, which = None, jnp.zeros(gradient.shape, jnp.int8)
    for i, j in np.ndindex(window, window):
        cell = _cut(padded, (i, j), counts, stride)
        if best is None:
            best = cell
            continue
        better = cell > best
        best, which = jnp.where(better, cell, best), jnp.where(better, jnp.int8(i * window + j), which)

    # Input cell (stride u + p) of an axis, padding included, is cell (p + stride m) of the window number u - m.
    reach = -(-window // stride)
    grid = [-(-(n + lo) // stride) for n, (lo, _) in zip(size, pads, strict=True)]
    borders = [(0, 0, 0), *((reach - 1, u - n, 0) for u, n in zip(grid, counts, strict=True)), (0, 0, 0)]
    # The barrier keeps XLA from padding anew for each shift.
    gradient, which = lax.optimization_barrier(
        (lax.pad(gradient, jnp.zeros((), gradient.dtype), borders), lax.pad(which, jnp.int8(-1), borders))
    )

    def phase(p, q):
        total = jnp.zeros((batch, *grid, channels), x.dtype)
        for m, n in np.ndindex(reach, reach):
            i, j = p + stride * m, q + stride * n
            if i < window and j < window:
                shift = (reach - 1 - m, reach - 1 - n)
                hit = _cut(which, shift, grid) == i * window + j
                total += jnp.where(hit, _cut(gradient, shift, grid), 0)
        return total

    total = jnp.stack([jnp.stack([phase(p, q) for q in range(stride)], 3) for p in range(stride)], 2)
    total = total.reshape(batch, grid[0] * stride, grid[1] * stride, channels)
    return _cut(total, [lo for lo, _ in pads], size)


def _cut(x, start, size, stride=1):
    """`size` cells of height and width from `start` on, `stride` apart."""
    stop = [a + (n - 1) * stride + 1 for a, n in zip(start, size, strict=True)]
    return lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[3]), (1, stride, stride, 1))


def avg_pool(x: jax.Array, window: int, stride: int, padding: str, count_include_pad: bool) -> jax.Array:
    """Mean over `window` x `window` cells of `x` [N, H, W, C].

    `count_include_pad` says whether cells of the padding are counted in the divisor: Caffe and PyTorch count them,
    TensorFlow does not. It is without effect where nothing is padded. Computed in float32, returned in the dtype of
    `x`.
    """
    total = _reduce(x.astype(jnp.float32), 0.0, lax.add, window, stride, padding)
    if count_include_pad:
        count = window**2
    else:
        count = _reduce(jnp.ones((1, *x.shape[1:3], 1)), 0.0, lax.add, window, stride, padding)
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

"""Max and average pooling of NHWC arrays."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from inception_jax.ops import cpu
from inception_jax.ops.padding import explicit_padding


def max_pool(x: jax.Array, window: int, stride: int, padding: str | int) -> jax.Array:
    """Maximum over `window` x `window` cells of `x` [N, H, W, C]; padding counts as minus infinity, never as 0.

    The gradient goes to the first maximum of a window, in the order of rows. Differentiable in forward and in reverse
    mode, any number of times.
    """
    return _reduce(x, -jnp.inf, lax.max, window, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool_in_training(x: jax.Array, window: int, stride: int, padding: str | int) -> jax.Array:
    """`max_pool`, whose backward pass is several times faster on a CPU; forward mode is a TypeError."""
    return max_pool(x, window, stride, padding)


def _max_pool_forward(x, window, stride, padding):
    return max_pool(x, window, stride, padding), x


def _max_pool_backward(window, stride, padding, x, gradient):
    def plain(x, gradient):
        return jax.vjp(lambda x: max_pool(x, window, stride, padding), x)[1](gradient)[0]

    def fast(x, gradient):
        pads = explicit_padding(x.shape[1:3], (window, window), stride, padding)
        return cpu.max_pool_gradient(x, gradient, window, stride, pads)

    return (lax.platform_dependent(x, gradient, cpu=fast, default=plain),)


max_pool_in_training.defvjp(_max_pool_forward, _max_pool_backward)


def avg_pool(x: jax.Array, window: int, stride: int, padding: str, count_include_pad: bool) -> jax.Array:
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

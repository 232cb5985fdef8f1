"""Max and average pooling of NHWC arrays."""

import jax
import jax.numpy as jnp
from jax import lax

from inception_jax.ops.padding import explicit_padding


def max_pool(x: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Maximum over `window` x `window` cells of `x` [N, H, W, C]; padding counts as minus infinity, never as 0."""
    return lax.reduce_window(x, -jnp.inf, lax.max, *_geometry(x, window, stride, padding))


def avg_pool(x: jax.Array, window: int, stride: int, padding: str, count_include_pad: bool) -> jax.Array:
    """Mean over `window` x `window` cells of `x` [N, H, W, C].

    `count_include_pad` says whether cells of the padding are counted in the divisor: Caffe and PyTorch count them,
    TensorFlow does not. It is without effect where nothing is padded.
    """
    geometry = _geometry(x, window, stride, padding)
    total = lax.reduce_window(x, 0.0, lax.add, *geometry)
    if count_include_pad:
        return total / window**2
    return total / lax.reduce_window(jnp.ones((1, *x.shape[1:3], 1), x.dtype), 0.0, lax.add, *geometry)


def _geometry(x, window, stride, padding):
    pads = explicit_padding(x.shape[1:3], (window, window), stride, padding)
    return (1, window, window, 1), (1, stride, stride, 1), [(0, 0), *pads, (0, 0)]

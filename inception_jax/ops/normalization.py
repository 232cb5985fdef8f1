"""Local response normalisation across channels."""

import jax
import jax.numpy as jnp
from jax import lax


def local_response_norm(x: jax.Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
    """y_c = x_c / (k + alpha / size * sum of x_j^2 over the `size` channels around c) ^ beta, for x [..., C].

    Channels beyond the ends count as 0. The defaults are Caffe's for GoogLeNet; like Caffe and PyTorch, and unlike
    `tf.nn.lrn`, alpha is divided by the window's size. Krizhevsky et al. 2012, section 3.3, write the formula without
    that division. Computed in float32, returned in the dtype of `x`.
    """
    square = lax.square(x.astype(jnp.float32))
    window = (1,) * (x.ndim - 1) + (size,)
    pads = [(0, 0)] * (x.ndim - 1) + [((size - 1) // 2, size // 2)]
    total = lax.reduce_window(square, 0.0, lax.add, window, (1,) * x.ndim, pads)
    base = k + alpha / size * total
    if beta == 0.75:  # the papers' power, from two roots: several times faster than a general power on a CPU
        root = lax.rsqrt(base)
        return (x * (root * jnp.sqrt(root))).astype(x.dtype)
    return (x * base**-beta).astype(x.dtype)

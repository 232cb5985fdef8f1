"""A dense layer that slides over a grid."""

import jax
from jax import lax


def sliding_dense(x: jax.Array, kernel: jax.Array, window: int) -> jax.Array:
    """The products of `kernel` [window * window * C, features] with each window x window part of `x` [N, H, W, C].

    Returns [N, H - window + 1, W - window + 1, features] in their dtype: a VALID convolution, with the kernel as a
    dense layer on a flattened grid has it.
    """

    def convolve(x, kernel):
        kernel = kernel.reshape(window, window, x.shape[-1], -1)
        return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def multiply(x, kernel):
        return (x.reshape(x.shape[0], -1) @ kernel)[:, None, None]

    # A CPU's convolution brings so large a kernel into another order first, in each call.
    one_place = x.shape[1:3] == (window, window)
    return lax.platform_dependent(x, kernel, cpu=multiply if one_place else convolve, default=convolve)

"""Convolutions with a fast path on a CPU, and a dense layer that slides over a grid."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_WIDEST_BAND = 64


def convolve(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Sequence[tuple[int, int]], **options
) -> jax.Array:
    """`lax.conv_general_dilated` of `x` [N, H, W, C] and `kernel` [h, w, C / groups, features], with its options."""

    def plain(x, kernel):
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)

    grey = x.shape[-1] == 1 and x.shape[2] + sum(padding[1]) <= _WIDEST_BAND
    if not grey or tuple(strides) != (1, 1) or kernel.shape[3] == 1:
        return plain(x, kernel)

    def by_rows(x, kernel):
        # A row of pixels as the channels of one cell: more products, but CPUs need many channels to be fast. For a
        # 5x5 kernel on 32x32 pixels it takes a fifth of the time.
        x = jnp.pad(x, [(0, 0), *padding, (0, 0)])
        (batch, height, width, _), (rows, columns, _, features) = x.shape, kernel.shape
        count = width - columns + 1
        place = np.arange(width)[:, None, None] == np.arange(count)[:, None] + np.arange(columns)
        band = jnp.einsum("xoj,ijcf->ixof", place.astype(kernel.dtype), kernel)
        band = band.reshape(rows, 1, width, count * features)
        numbers = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(
            x.reshape(batch, height, 1, width), band, (1, 1), "VALID", dimension_numbers=numbers
        )
        return y.reshape(batch, -1, count, features)

    return lax.platform_dependent(x, kernel, cpu=by_rows, default=plain)


def sliding_dense(x: jax.Array, kernel: jax.Array, window: int) -> jax.Array:
    """The products of `kernel` [window * window * C, features] with each window x window part of `x` [N, H, W, C].

    Returns [N, H - window + 1, W - window + 1, features] in their dtype: a VALID convolution, with the kernel as a
    dense layer on a flattened grid has it.
    """

    def slide(x, kernel):
        kernel = kernel.reshape(window, window, x.shape[-1], -1)
        return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def multiply(x, kernel):
        return (x.reshape(x.shape[0], -1) @ kernel)[:, None, None]

    # A CPU's convolution brings so large a kernel into another order first, in each call.
    one_place = x.shape[1:3] == (window, window)
    return lax.platform_dependent(x, kernel, cpu=multiply if one_place else slide, default=slide)

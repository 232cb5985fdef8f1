"""Fast paths of a CPU. Each gives the results and the derivatives of the plain form that names it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from inception_jax.ops.padding import cut, pad

_MAX_ROW = 84  # the input of LeNet-5's C3; the 96 values of a row of CIFAR are too many
_MAX_SPLITS = 4

Pads = Sequence[tuple[int, int]]


def fast_convolution(
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: Sequence[int],
    padding: Pads,
    groups: int,
    options: Mapping[str, Any],
) -> Callable | None:
    """Returns a faster function of (x, kernel) than `lax.conv_general_dilated`; None: there is none.

    `image` and `kernel` are shapes, `options` are lax's other options, of which only the dimensions' numbers are set.
    """
    if 1 < groups <= _MAX_SPLITS:
        return functools.partial(_convolve_by_groups, groups=groups, strides=strides, padding=padding, options=options)
    if groups > 1 or tuple(strides) != (1, 1):
        return None
    no_padding = all(pad == (0, 0) for pad in map(tuple, padding))
    if no_padding and kernel[:2] in ((1, 1), image[1:3]):
        return _convolve_by_product
    if (image[2] + sum(padding[1])) * image[3] <= _MAX_ROW:
        return functools.partial(_convolve_by_rows, padding=padding)
    return None


def _convolve_by_groups(x, kernel, groups, strides, padding, options):
    """Convolves each group by itself: a CPU takes ten times as long for the gradient of a grouped kernel."""
    parts = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
    return jnp.concatenate([lax.conv_general_dilated(*part, strides, padding, **options) for part in parts], axis=-1)


def _convolve_by_product(x, kernel):
    """Multiplies matrices, where the kernel is 1 x 1 or has one place: a CPU would reorder a large kernel each time."""
    depth = kernel.size // kernel.shape[-1]
    y = x.reshape(-1, depth) @ kernel.reshape(depth, -1)
    one_place = kernel.shape[:2] == x.shape[1:3]
    return y.reshape(x.shape[0], *((1, 1) if one_place else x.shape[1:3]), -1)


def _convolve_by_rows(x, kernel, padding):
    """Takes a whole row of cells as the channels of one: more products, but CPUs need many channels to be fast.

    For a 5 x 5 kernel on 32 x 32 grey pixels it takes a fifth of the time.
    """
    x = jnp.pad(x, [(0, 0), *padding, (0, 0)])
    (batch, height, width, channels), (rows, columns, _, features) = x.shape, kernel.shape
    count = width - columns + 1
    place = np.arange(width)[:, None, None] == np.arange(count)[:, None] + np.arange(columns)
    band = jnp.einsum("xoj,ijcf->ixcof", place.astype(kernel.dtype), kernel)
    band = band.reshape(rows, 1, width * channels, count * features)
    numbers = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(
        x.reshape(batch, height, 1, width * channels), band, (1, 1), "VALID", dimension_numbers=numbers
    )
    return y.reshape(batch, -1, count, features)


@jax.custom_vjp
def kernel_gradient_first(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns both as they are; in the backward pass the kernel's gradient is computed before that of `x` is used.

    Left to itself XLA computes kernels' gradients last on a CPU, and keeps all layers' gradients for it.
    """
    return x, kernel


def _forward(x, kernel):
    return (x, kernel), None


def _backward(_, gradients):
    def wait(gradient, of_kernel):
        return jnp.where(of_kernel.ravel()[0] > jnp.inf, 0, gradient)  # never true, but XLA does not know that

    gradient, of_kernel = gradients
    # XLA drops an optimization barrier before it decides on the order.
    return lax.platform_dependent(gradient, of_kernel, cpu=wait, default=lambda gradient, _: gradient), of_kernel


kernel_gradient_first.defvjp(_forward, _backward)


def reduce_windows(x: jax.Array, start: float, combine: Callable, window: int, stride: int, pads: Pads) -> jax.Array:
    """`lax.reduce_window` over window x window cells of `x` [N, H, W, C]; `combine` is `lax.max` or `lax.add`.

    XLA makes one loop, vectorised over channels, of the cells of windows that do not overlap. Where windows overlap,
    2 x window operations take less time than window^2, though the result for the rows is written and read once more.
    """
    if window <= stride:
        padded = pad(x, start, pads)
        counts = [(n - window) // stride + 1 for n in padded.shape[1:3]]
        cells = (cut(padded, at, counts, stride) for at in np.ndindex(window, window))
        return functools.reduce(_first_max if combine is lax.max else combine, cells)
    for axis in (2, 1):
        windows, strides, all_pads = [1] * 4, [1] * 4, [(0, 0)] * 4
        windows[axis], strides[axis], all_pads[axis] = window, stride, pads[axis - 1]
        x = lax.reduce_window(x, start, combine, windows, strides, all_pads)
    return x


def _first_max(a, b):
    """`lax.max`, whose gradient goes to `a` alone where both are equal."""
    return jnp.where((b > a) | (b != b), b, a)

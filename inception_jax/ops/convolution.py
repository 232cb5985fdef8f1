"""Convolution with fast paths on a CPU."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_LONGEST_ROW = 84  # the input of LeNet-5's C3; the 96 values of a row of CIFAR are too many
_MOST_SPLITS = 4


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    feature_group_count: int = 1,
    **options,
) -> jax.Array:
    """`lax.conv_general_dilated` of `x` [N, H, W, C] and `kernel` [h, w, C / groups, features].

    Its other options may be given too; all but the dimensions' numbers, which must be these, cost the fast path.
    """

    def plain(x, kernel, groups=feature_group_count):
        return lax.conv_general_dilated(x, kernel, strides, padding, feature_group_count=groups, **options)

    usual = all(value in (None, (1, 1)) for name, value in options.items() if name != "dimension_numbers")
    fast = None
    window, once = kernel.shape[:2], (tuple(strides), tuple(map(tuple, padding))) == ((1, 1), ((0, 0), (0, 0)))
    row = (x.shape[2] + sum(padding[1])) * x.shape[3]
    if 1 < feature_group_count <= _MOST_SPLITS:
        fast = _by_groups(plain, feature_group_count)
    elif feature_group_count == 1 and once and window in ((1, 1), x.shape[1:3]):
        fast = _product
    elif feature_group_count == 1 and tuple(strides) == (1, 1) and row <= _LONGEST_ROW:
        fast = _by_rows(padding)
    return lax.platform_dependent(x, kernel, cpu=fast, default=plain) if fast and usual else plain(x, kernel)


def convolve_in_training(x: jax.Array, kernel: jax.Array, *args, **options) -> jax.Array:
    """`convolve`, whose backward pass takes up to a third less memory on a CPU; forward mode is a TypeError."""
    return convolve(*_kernel_gradient_first(x, kernel), *args, **options)


@jax.custom_vjp
def _kernel_gradient_first(x, kernel):
    """Both as they are. Left to itself XLA computes kernels' gradients last, and keeps all layers' gradients for it."""
    return x, kernel


def _give_both(x, kernel):
    return (x, kernel), None


def _pass_on_in_turn(_, gradients):
    def wait(gradient, of_kernel):
        return jnp.where(of_kernel.ravel()[0] > jnp.inf, 0, gradient)  # never true, but XLA does not know that

    gradient, of_kernel = gradients
    # XLA drops an optimization barrier before it decides on the order.
    return lax.platform_dependent(gradient, of_kernel, cpu=wait, default=lambda gradient, _: gradient), of_kernel


_kernel_gradient_first.defvjp(_give_both, _pass_on_in_turn)


def _by_groups(plain: Callable, groups: int) -> Callable:
    """Each group by itself: a CPU takes ten times as long for the gradient of a grouped kernel."""

    def convolve(x, kernel):
        parts = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
        return jnp.concatenate([plain(*part, groups=1) for part in parts], axis=-1)

    return convolve


def _product(x, kernel):
    """A matrix product, where the kernel is 1 x 1 or has one place: a CPU would reorder a large kernel in each call."""
    depth = kernel.size // kernel.shape[-1]
    y = x.reshape(-1, depth) @ kernel.reshape(depth, -1)
    one_place = kernel.shape[:2] == x.shape[1:3]
    return y.reshape(x.shape[0], *((1, 1) if one_place else x.shape[1:3]), -1)


def _by_rows(padding: Sequence[tuple[int, int]]) -> Callable:
    """A whole row of cells as the channels of one: more products, but CPUs need many channels to be fast.

    For a 5 x 5 kernel on 32 x 32 grey pixels it takes a fifth of the time.
    """

    def convolve(x, kernel):
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

    return convolve

"""Convolution of NHWC arrays."""

import functools
from collections.abc import Callable, Sequence

import jax
from jax import lax

from inception_jax.ops import cpu, gpu


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    feature_group_count: int = 1,
    **options,
) -> jax.Array:
    """`lax.conv_general_dilated` of `x` [N, H, W, C] and `kernel` [h, w, C / groups, features].

    lax's other options may be given too. The dimensions' numbers must be these; any other option costs the fast paths.
    """
    plain: Callable[..., jax.Array] = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        feature_group_count=feature_group_count,
        **options,
    )
    fast: dict[str, Callable] = {}
    if all(value in (None, (1, 1)) for name, value in options.items() if name != "dimension_numbers"):
        found = {
            "cpu": cpu.fast_convolution(x.shape, kernel.shape, strides, padding, feature_group_count, options),
            "cuda": gpu.fast_convolution(x.shape, strides, padding, feature_group_count, options),
        }
        fast = {platform: function for platform, function in found.items() if function}
    return lax.platform_dependent(x, kernel, **fast, default=plain) if fast else plain(x, kernel)


def convolve_in_training(x: jax.Array, kernel: jax.Array, *args, **options) -> jax.Array:
    """`convolve`, whose backward pass takes up to a third less memory on a CPU; forward mode is a TypeError."""
    return convolve(*cpu.kernel_gradient_first(x, kernel), *args, **options)

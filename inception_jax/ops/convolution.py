"""Convolution of NHWC arrays."""

import functools
from collections.abc import Callable, Mapping, Sequence

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


def convolve_1x1s(x: jax.Array, kernels: Mapping[str, jax.Array], convolve: Callable) -> dict[str, jax.Array]:
    """Convolves `x` [N, H, W, C] with each of the kernels [1, 1, C, features], each in a scope of its name.

    `convolve` is a function of this module. A GPU convolves with all of them at once.
    """
    names, arguments = kernels.keys(), {"strides": (1, 1), "padding": [(0, 0)] * 2}
    convolve = functools.partial(convolve, **arguments, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def apart(x, *kernels):
        outputs = []
        for name, kernel in zip(names, kernels, strict=True):
            with jax.named_scope(name):
                outputs.append(convolve(x, kernel))
        return tuple(outputs)

    at_once = functools.partial(gpu.convolve_at_once, convolve)
    outputs = lax.platform_dependent(x, *kernels.values(), cuda=at_once, default=apart)
    return dict(zip(names, outputs, strict=True))

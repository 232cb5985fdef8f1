"""Fast paths of a GPU. Each gives the results and the derivatives of the plain form that names it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from inception_jax.ops.padding import pad

_COLOURS = 4  # channels of an image, at most
_MULTIPLE = 8  # of channels, for which cuDNN uses tensor cores in bfloat16


def fast_convolution(
    image: tuple[int, ...],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    groups: int,
    options: Mapping[str, Any],
) -> Callable | None:
    """Returns a faster function of (x, kernel) than `lax.conv_general_dilated`; None: there is none.

    `image` is a shape, `options` are lax's other options, of which only the dimensions' numbers are set.
    """
    if groups == 1 and image[3] <= _COLOURS and strides[0] == strides[1] > 1:
        return functools.partial(_convolve_blocks, stride=strides[0], padding=padding, options=options)
    return None


def _convolve_blocks(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Sequence[tuple[int, int]], options: Mapping[str, Any]
) -> jax.Array:
    """Convolves an image whose cells are blocks of stride x stride pixels ("space to depth"), so with stride 1.

    cuDNN is slow on three channels: a 7x7/2 on 224x224x3 took 2.8 times as long forward, 2.3 times backward
    (docs/performance.md). The kernel is padded with 0 to a multiple of the stride; what it then covers beyond the
    image is 0 too.
    """
    height, width, channels, features = kernel.shape
    cells = [-(-k // stride) for k in (height, width)]
    counts = [
        (n + lo + hi - k) // stride + 1 for n, k, (lo, hi) in zip(x.shape[1:3], (height, width), padding, strict=True)
    ]
    blocks = [count + cell - 1 for count, cell in zip(counts, cells, strict=True)]
    ends = [block * stride - n - lo for block, n, (lo, _) in zip(blocks, x.shape[1:3], padding, strict=True)]
    x = pad(x, 0, [(lo, end) for (lo, _), end in zip(padding, ends, strict=True)])
    x = x.reshape(x.shape[0], blocks[0], stride, blocks[1], stride, channels).transpose(0, 1, 3, 2, 4, 5)
    kernel = jnp.pad(kernel, [(0, cells[0] * stride - height), (0, cells[1] * stride - width), (0, 0), (0, 0)])
    kernel = kernel.reshape(cells[0], stride, cells[1], stride, channels, features).transpose(0, 2, 1, 3, 4, 5)
    depth = stride**2 * channels
    x, kernel = x.reshape(x.shape[0], *blocks, depth), kernel.reshape(*cells, depth, features)
    missing = -depth % _MULTIPLE
    x, kernel = (jnp.pad(a, [(0, 0)] * i + [(0, missing)] + [(0, 0)] * (3 - i)) for a, i in ((x, 3), (kernel, 2)))
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", **options)


def convolve_at_once(
    convolve: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, *kernels: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns the outputs of several kernels of the same size on `x`, from one convolution that reads `x` once.

    It also gives the gradient of `x` as one product, where the sum of several would be written and read again.
    """
    ends = np.cumsum([kernel.shape[-1] for kernel in kernels])
    return tuple(jnp.split(convolve(x, jnp.concatenate(kernels, axis=-1)), ends[:-1], axis=-1))

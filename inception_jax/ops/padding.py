"""The padding rules of the frameworks from which the networks come, as explicit pairs; padding and cutting arrays."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

RULES = ("SAME", "VALID", "SYMMETRIC", "CEIL")


def explicit_padding(
    size: tuple[int, int], window: tuple[int, int], stride: int, rule: str | int
) -> list[tuple[int, int]]:
    """Returns the (before, after) padding of height and width that `rule` means for an input of `size`.

    - `SAME` (TensorFlow): the output is ceil(size / stride); the odd cell goes after.
    - `VALID`: none.
    - `SYMMETRIC` (Caffe and PyTorch convolutions with pad = (k - 1) / 2): the same on both sides.
    - `CEIL` (Caffe's pooling, PyTorch's `ceil_mode`, pad 0): none before; after, as much as the last, partly covered
      window needs. Caffe: src/caffe/layers/pooling_layer.cpp.
    - a number: that number of cells on each side.

    For a 3x3/2 window on an even size `SAME` and `CEIL` agree; on an odd size they do not.

    Raises:
      ValueError: the rule is not one of these.
    """
    if isinstance(rule, int):
        return [(rule, rule), (rule, rule)]
    if rule == "VALID":
        return [(0, 0), (0, 0)]
    if rule == "SYMMETRIC":
        return [((k - 1) // 2, (k - 1) // 2) for k in window]
    if rule == "SAME":
        totals = [max((-(-n // stride) - 1) * stride + k - n, 0) for n, k in zip(size, window, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if rule == "CEIL":
        return [(0, max(-(-(n - k) // stride) * stride + k - n, 0)) for n, k in zip(size, window, strict=True)]
    raise ValueError(f"padding {rule!r} is not one of {', '.join(RULES)}")


def pad(x: jax.Array, value: float, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """Pads height and width of `x` [N, H, W, C] with `value`; a negative number of cells removes them."""
    return lax.pad(x, jnp.array(value, x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in pads), (0, 0, 0)])


def cut(x: jax.Array, start: Sequence[int], size: Sequence[int], stride: int = 1) -> jax.Array:
    """Returns `size` cells of height and width from `start` on, `stride` apart."""
    stop = [a + (n - 1) * stride + 1 for a, n in zip(start, size, strict=True)]
    return lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[3]), (1, stride, stride, 1))

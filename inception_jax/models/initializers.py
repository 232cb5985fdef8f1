"""Initialisers. Equal arguments give equal initialisers, so that equal networks are equal modules and compile once."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax.linen import initializers

constant = functools.cache(initializers.constant)
glorot_uniform = functools.cache(initializers.glorot_uniform)
he_normal = functools.cache(initializers.he_normal)
ones = initializers.ones
variance_scaling = functools.cache(initializers.variance_scaling)
zeros = initializers.zeros


@dataclasses.dataclass(frozen=True)
class normal:
    """A normal distribution of mean 0 and a standard deviation that does not depend on the layer's size.

    Attributes:
      std: the standard deviation, before any truncation.
      truncated: whether the distribution is cut at two standard deviations.
    """

    std: float
    truncated: bool = False

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:  # noqa: D102
        draw = initializers.truncated_normal if self.truncated else initializers.normal
        return draw(self.std)(key, shape, dtype)


truncated_normal = functools.partial(normal, truncated=True)


def for_width(init: Callable, width: float) -> Callable:
    """Returns the initialiser of a layer that sees `width` times as many channels as `init` was chosen for.

    A fixed standard deviation grows by 1 / sqrt(width), so that signals keep their strength. In AlexNet with a quarter
    of the filters they would otherwise fade by half from layer to layer. Other initialisers depend on the layer's size.
    """
    return dataclasses.replace(init, std=init.std / width**0.5) if isinstance(init, normal) else init

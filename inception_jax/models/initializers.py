"""Initialisers, equal for equal arguments: so equal descriptions are equal modules, and are traced once."""

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
      std: the standard deviation.
      truncated: at two standard deviations, before which it is `std`.
    """

    std: float
    truncated: bool = False

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:  # noqa: D102
        draw = initializers.truncated_normal if self.truncated else initializers.normal
        return draw(self.std)(key, shape, dtype)


truncated_normal = functools.partial(normal, truncated=True)


def for_width(init: Callable, width: float) -> Callable:
    """The initialiser of a layer that sees `width` times as many channels as that for which `init` was chosen.

    A fixed standard deviation grows by 1 / sqrt(width), so that signals keep their strength: in AlexNet with a quarter
    of the filters they would fade by half from layer to layer. The others depend on the layer's size by themselves.
    """
    return dataclasses.replace(init, std=init.std / width**0.5) if isinstance(init, normal) else init

"""Flax's initialisers, one object for equal arguments: so equal descriptions are equal modules, and are traced once."""

import functools

from flax.linen import initializers

constant = functools.cache(initializers.constant)
glorot_uniform = functools.cache(initializers.glorot_uniform)
he_normal = functools.cache(initializers.he_normal)
normal = functools.cache(initializers.normal)
ones = initializers.ones
truncated_normal = functools.cache(initializers.truncated_normal)
variance_scaling = functools.cache(initializers.variance_scaling)
zeros = initializers.zeros

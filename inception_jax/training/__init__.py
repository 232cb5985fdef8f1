"""Trains a network: the loop and its parts."""

from inception_jax.errors import needs_extra

with needs_extra("train"):
    import clu  # noqa: F401
    import ml_collections  # noqa: F401

"""Inception image classifiers, and the networks they grew from, in JAX."""

from inception_jax.errors import UserError
from inception_jax.models import create_model, list_models

__all__ = ["UserError", "create_model", "list_models", "load"]  # noqa: F822 (`load` is of `__getattr__`)


def __getattr__(name: str):
    if name == "load":  # not before it is asked for, because Orbax takes seconds to import
        from inception_jax.training.weights import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

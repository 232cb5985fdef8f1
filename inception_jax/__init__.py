"""Inception image classifiers, and the networks they grew from, in JAX."""

from inception_jax.errors import UserError
from inception_jax.models import create_model, list_models

__all__ = ["UserError", "create_model", "list_models"]

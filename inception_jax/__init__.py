"""Inception image classifiers, and the networks they grew from, in JAX."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inception_jax import explain, fid
    from inception_jax.errors import UserError
    from inception_jax.evaluation.evaluate import evaluate
    from inception_jax.models import create_model, list_models
    from inception_jax.models.summary import summary
    from inception_jax.runs.classifier import load

# Imported when first asked for: JAX and Orbax take seconds, and a command's --help needs neither.
_MODULES = {
    "UserError": "errors",
    "create_model": "models",
    "evaluate": "evaluation.evaluate",
    "list_models": "models",
    "load": "runs.classifier",
    "summary": "models.summary",
}
__all__ = ["UserError", "create_model", "evaluate", "explain", "fid", "list_models", "load", "summary"]


def __getattr__(name: str):
    if name in ("explain", "fid"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

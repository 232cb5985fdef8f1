"""The networks, by name.

All keep one contract: `logits, end_points = model.apply(variables, images, train=False)`; see `blocks.Network`.
"""

import difflib
import inspect

import flax.linen as nn
import jax.numpy as jnp

from inception_jax.errors import UserError
from inception_jax.models import googlenet

_MODELS = {"googlenet": googlenet.googlenet}


def list_models() -> list[str]:
    """Names of all networks that `create_model` builds."""
    return sorted(_MODELS)


def create_model(name: str, num_classes: int = 1000, dtype: str = "float32", **options) -> nn.Module:
    """Builds the network `name`.

    Args:
      name: one of `list_models()`.
      num_classes: number of classes.
      dtype: of the computation ('float32', 'bfloat16'); parameters and logits are float32 always.
      **options: the network's own, see its docstring (for instance `aux=False`).

    Raises:
      UserError: no such network, or it has no such option; the nearest ones are named.
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3) or list_models()
        raise UserError(f"there is no network {name!r}; did you mean {' or '.join(near)}?")
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"dtype={dtype!r} is not one of float32, bfloat16")
    build = _MODELS[name]
    known = [key for key in inspect.signature(build).parameters if key not in ("num_classes", "dtype")]
    for option in options:
        if option not in known:
            raise UserError(f"network {name!r} has no option {option!r}; it has {', '.join(known)}")
    return build(num_classes, dtype=jnp.dtype(dtype), **options)

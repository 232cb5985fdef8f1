"""Loads weights into a network that was initialised."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from inception_jax.console import plural
from inception_jax.errors import UserError
from inception_jax.weights.files import path_of


def load_into(
    variables: Mapping[str, Any], weights: Mapping[str, np.ndarray], reinit: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Replaces the arrays of a network by loaded ones of the same names and shapes.

    An array that matches one of the patterns `reinit` keeps its initial values.

    Args:
      variables: 'params' and 'batch_stats' of the network, nested dicts of arrays.
      weights: arrays by names such as 'params/inception_4a/conv1x1/kernel'.
      reinit: regular expressions, searched in names such as 'inception_4a/conv1x1/kernel'.

    Returns:
      The variables with the weights, in the network's dtypes, and lines that say what was loaded.

    Raises:
      UserError: arrays that match no pattern are missing among the weights or have other shapes; lists all of them.
    """
    loaded, initial, wrong = [], [], []

    def pick(path, own):
        name = path_of(path)
        given = weights.get(name)
        if any(re.search(pattern, name.partition("/")[2]) for pattern in reinit):
            initial.append(name)
        elif given is None:
            wrong.append(f"{name}: missing")
        elif given.shape != own.shape:
            wrong.append(f"{name}: {_shape(own)} in the network, {_shape(given)} in the weights")
        else:
            loaded.append(name)
            return given.astype(own.dtype)
        return own

    picked = jax.tree_util.tree_map_with_path(pick, dict(variables))
    if wrong:
        total = len(wrong) + len(loaded) + len(initial)
        raise UserError(
            f"reinit={tuple(reinit)} leaves {len(wrong)} of {total} arrays that do not match the weights; "
            "add patterns for those to re-initialise:\n" + "\n".join(f"  {line}" for line in wrong)
        )
    unused = sorted(weights.keys() - set(loaded))
    return picked, [
        f"{plural(len(loaded), 'array')} loaded, {len(initial)} re-initialised" + _listed(initial),
        *([f"{plural(len(unused), 'array')} of the weights not used{_listed(unused)}"] if unused else []),
    ]


def _listed(names: Sequence[str]) -> str:
    return ": " + ", ".join(names) if names else ""


def _shape(array) -> str:
    return "x".join(map(str, array.shape)) or "scalar"

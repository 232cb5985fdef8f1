"""The keys of a config: which there are, and of what type."""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from inception_jax.errors import UserError

# What each key means is said in configs/common.py, beside its default.
_KEYS = {
    "seed": int,
    "parallel": str,
    "model": {"name": str, "dtype": str},  # and the options of the network, which `create_model` checks
    "data": {
        "name": str,
        "dir": str,
        "train_split": str,
        "eval_split": str,
        "image_size": int,
        "resize": int,
        "area": tuple,
        "aspect": tuple,
        "flip": bool,
        "mean": tuple,
        "std": tuple,
        "threads": int,
    },
    "train": {
        "batch_size": int,
        "steps": int,
        "epochs": float,
        "examples": int,
        "accumulate": int,
        "aux_weights": dict,
        "label_smoothing": float,
        "average_decay": float,
        "sync_batch_norm": bool,
    },
    "optimizer": {"name": str, "momentum": float, "nesterov": bool, "weight_decay": float, "clip_norm": float},
    "schedule": {
        "name": str,
        "base_lr": float,
        "warmup": str,
        "every": str,
        "rate": float,
        "power": float,
        "boundaries": tuple,
        "end_lr": float,
    },
    "eval": {"every": str, "batch_size": int},
    "checkpoint": {"every": str, "keep": int},
    "log": {"every": str, "tensorboard": bool, "report": bool, "profile_at": int, "profile_steps": int},
}
_OPEN = ("model",)

# A run may be resumed with other values of these: they do not change what it computes.
_FREE = ("parallel", "data.dir", "data.threads", "eval", "checkpoint", "log")


def validate(config: ConfigDict) -> None:
    """Checks that `config` has exactly the keys there are, with values of their types.

    Raises:
      UserError: names the first key that is wrong, and the nearest right one.
    """
    _validate(config.to_dict(), _KEYS, "config")


def _validate(values: Mapping[str, Any], keys: Mapping[str, Any], path: str) -> None:
    for key in values:
        if key not in keys and path.removeprefix("config.") not in _OPEN:
            near = difflib.get_close_matches(key, keys, n=1) or sorted(keys)
            raise UserError(f"{path} has no key {key!r}; did you mean {' or '.join(near)}?")
    for key, kind in keys.items():
        if key not in values:
            raise UserError(f"{path}.{key} is missing; start from configs/common.py, which sets every key")
        value = values[key]
        if isinstance(kind, dict) and isinstance(value, Mapping):
            _validate(value, kind, f"{path}.{key}")
            continue
        kind = dict if isinstance(kind, dict) else kind
        accepted = {float: (int, float), tuple: (tuple, list)}.get(kind, (kind,))
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"{path}.{key}={value!r} must be of type {kind.__name__}, not {type(value).__name__}")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines 'key: old -> new' for each key with which two runs compute different things."""
    old, new = _flatten(old), _flatten(new)
    absent = object()
    lines = []
    for key in sorted(old.keys() | new.keys()):
        if key in _FREE or key.split(".")[0] in _FREE:
            continue
        before, after = old.get(key, absent), new.get(key, absent)
        if before != after:
            shown = ("absent" if value is absent else repr(value) for value in (before, after))
            lines.append(f"config.{key}: {' -> '.join(shown)}")
    return lines


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat

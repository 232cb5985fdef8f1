"""The keys of a config: which there are, and of what type."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from inception_jax.errors import UserError
from inception_jax.training.schedules import parse_duration

# What each key means is said in configs/common.py, beside its default.
_KEYS = {
    "seed": int,
    "parallel": str,
    "model": {"name": str, "dtype": str, "width": float},  # and the options of the network, which `create_model` checks
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
        "processes": int,
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

# The least and the most that makes sense.
_INF = math.inf
_RANGES = {
    "seed": (0, 2**32 - 1),
    "data.image_size": (1, _INF),
    "data.threads": (0, _INF),
    "data.processes": (-1, _INF),
    "train.batch_size": (1, _INF),
    "train.steps": (0, _INF),
    "train.epochs": (0, _INF),
    "train.examples": (0, _INF),
    "train.accumulate": (1, _INF),
    "train.label_smoothing": (0, 1),
    "train.average_decay": (0, 1),
    "optimizer.momentum": (0, 1),
    "optimizer.weight_decay": (0, _INF),
    "optimizer.clip_norm": (0, _INF),
    "schedule.base_lr": (1e-30, _INF),
    "schedule.rate": (0, _INF),
    "schedule.power": (0, _INF),
    "schedule.end_lr": (0, _INF),
    "eval.batch_size": (0, _INF),
    "checkpoint.keep": (1, _INF),
    "log.profile_at": (0, _INF),
    "log.profile_steps": (1, _INF),
}
_DURATIONS = ("schedule.warmup", "schedule.every", "eval.every", "checkpoint.every", "log.every")

# A run may be resumed with other values of these: they do not change what it computes.
_FREE = ("parallel", "data.dir", "data.threads", "data.processes", "eval", "checkpoint", "log")


def validate(config: ConfigDict) -> None:
    """Checks that `config` has exactly the keys there are, with values of their types that make sense.

    Raises:
      UserError: names the first key that is wrong, and the nearest right one or what is right.
    """
    values = config.to_dict()
    _validate(values, _KEYS, "config")
    flat = _flatten(values)
    for key, (least, most) in _RANGES.items():
        if not (least <= flat[key] <= most and math.isfinite(flat[key])):
            bounds = f"at least {least}" if most == _INF else f"between {least} and {most}"
            raise UserError(f"config.{key}={flat[key]!r} must be {bounds}")
    for key in _DURATIONS:
        parse_duration(flat[key], f"config.{key}")
    for boundary in flat["schedule.boundaries"]:
        parse_duration(boundary, "config.schedule.boundaries")
    for head, weight in values["train"]["aux_weights"].items():
        if not isinstance(weight, (int, float)) or not 0 <= weight < _INF:
            raise UserError(f"config.train.aux_weights.{head}={weight!r} must be at least 0")
    for key, right, what in (
        ("data.area", lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 1, "two shares of 1, the smaller one first"),
        ("data.aspect", lambda v: len(v) == 2 and 0 < v[0] <= v[1], "two positive numbers, the smaller one first"),
        ("data.mean", lambda v: len(v) == 3, "three numbers"),
        ("data.std", lambda v: len(v) == 3 and min(v) > 0, "three positive numbers"),
    ):
        if not all(isinstance(v, (int, float)) for v in flat[key]) or not right(flat[key]):
            raise UserError(f"config.{key}={tuple(flat[key])!r} must be {what}")


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

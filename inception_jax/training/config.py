"""The keys of a config: which there are, and of what type."""

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from inception_jax.errors import UserError
from inception_jax.training.schedules import parse_duration

# What each key means is said in configs/common.py, beside its default.
_KEYS = {
    "seed": int,
    "parallel": str,
    "hasty": bool,
    "init_from": str,
    "init_new": tuple,
    "model": {"name": str, "dtype": str, "width": float},  # and the options of the network, which `create_model` checks
    "data": {
        "name": str,
        "dir": str,
        "train_split": str,
        "eval_split": str,
        "image_size": int,
        "channels": int,
        "resize": int,
        "crop": str,
        "area": tuple,
        "aspect": tuple,
        "scale": tuple,
        "interpolation": str,
        "flip": bool,
        "randaugment": int,
        "randaugment_magnitude": float,
        "photometric": str,
        "photometric_strength": float,
        "pca_noise": float,
        "mean": tuple,
        "std": tuple,
        "whitening": str,
        "shift": int,
        "mixup": float,
        "cutmix": float,
        "threads": int,
        "processes": int,
    },
    "train": {
        "batch_size": int,
        "microbatch": int,
        "steps": int,
        "epochs": float,
        "examples": int,
        "loss": str,
        "aux_weights": dict,
        "label_smoothing": float,
        "average_decay": float,
        "sync_batch_norm": bool,
        "freeze_batch_norm": bool,
    },
    "optimizer": {
        "name": str,
        "momentum": float,
        "nesterov": bool,
        "lr_in_momentum": bool,
        "rms_decay": float,
        "rms_epsilon": float,
        "weight_decay": float,
        "weight_decay_reading": str,
        "weight_decay_on": tuple,
        "lr_multipliers": tuple,
        "freeze": tuple,
        "clip_norm": float,
        "max_norm": float,
        "max_rms": float,
    },
    "schedule": {
        "name": str,
        "base_lr": float,
        "scale_from": int,
        "warmup": str,
        "every": str,
        "rate": float,
        "power": float,
        "boundaries": tuple,
        "patience": int,
        "end_lr": float,
    },
    "eval": {"every": str, "batch_size": int, "batch_norm_check": int},
    "checkpoint": {"every": str, "keep": int},
    "log": {"every": str, "tensorboard": bool, "report": bool, "profile_at": int, "profile_steps": int},
}
_OPEN = ("model",)

# The least and the most that makes sense.
_INF = math.inf
_RANGES = {
    "seed": (0, 2**32 - 1),
    "data.image_size": (1, _INF),
    "data.randaugment": (0, 10),
    "data.randaugment_magnitude": (0, 10),
    "data.photometric_strength": (0, 1),
    "data.pca_noise": (0, _INF),
    "data.shift": (0, _INF),
    "data.mixup": (0, _INF),
    "data.cutmix": (0, _INF),
    "data.threads": (0, _INF),
    "data.processes": (-1, _INF),
    "train.batch_size": (1, _INF),
    "train.microbatch": (0, _INF),
    "train.steps": (0, _INF),
    "train.epochs": (0, _INF),
    "train.examples": (0, _INF),
    "train.label_smoothing": (0, 1),
    "train.average_decay": (0, 1),
    "optimizer.momentum": (0, 1),
    "optimizer.weight_decay": (0, _INF),
    "optimizer.rms_decay": (0, 1),
    "optimizer.rms_epsilon": (0, _INF),
    "optimizer.clip_norm": (0, _INF),
    "optimizer.max_norm": (0, _INF),
    "optimizer.max_rms": (0, _INF),
    "schedule.base_lr": (1e-30, _INF),
    "schedule.scale_from": (0, _INF),
    "schedule.patience": (1, _INF),
    "schedule.rate": (0, _INF),
    "schedule.power": (0, _INF),
    "schedule.end_lr": (0, _INF),
    "eval.batch_size": (0, _INF),
    "eval.batch_norm_check": (0, _INF),
    "checkpoint.keep": (1, _INF),
    "log.profile_at": (0, _INF),
    "log.profile_steps": (1, _INF),
}
# Words, of which one must be chosen. (Those of the optimizer and the schedule are checked where they are read.)
_CHOICES = {
    "data.channels": (1, 3),
    "data.crop": ("area", "scale", "square", "central"),
    "data.interpolation": ("bilinear", "mixed"),
    "data.photometric": ("none", "slim", "slim_fast"),
    "data.whitening": ("none", "gcn", "gcn_zca"),
    "train.loss": ("softmax", "map"),
}
_PATTERNS = ("init_new", "optimizer.weight_decay_on", "optimizer.freeze")
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
    for key, choices in _CHOICES.items():
        if flat[key] not in choices:
            raise UserError(f"config.{key}={flat[key]!r} is not one of {', '.join(map(str, choices))}")
    for key in _PATTERNS:
        for pattern in flat[key]:
            _check_pattern(pattern, key)
    for pair in flat["optimizer.lr_multipliers"]:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and _is_number(pair[1]) and pair[1] >= 0):
            raise UserError(f"config.optimizer.lr_multipliers: {pair!r} is no pair of a pattern and a factor")
        _check_pattern(pair[0], "optimizer.lr_multipliers")
    for key in _DURATIONS:
        parse_duration(flat[key], f"config.{key}")
    for boundary in flat["schedule.boundaries"]:
        parse_duration(boundary, "config.schedule.boundaries")
    for head, weight in values["train"]["aux_weights"].items():
        if not _is_number(weight) or not 0 <= weight < _INF:
            raise UserError(f"config.train.aux_weights.{head}={weight!r} must be at least 0")
    for key, right, what in (
        ("data.area", lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 1, "two shares of 1, the smaller one first"),
        ("data.aspect", lambda v: len(v) == 2 and 0 < v[0] <= v[1], "two positive numbers, the smaller one first"),
        ("data.scale", lambda v: len(v) == 2 and 0 < v[0] <= v[1], "two lengths in pixels, the smaller one first"),
        ("data.mean", lambda v: len(v) == 3, "three numbers"),
        ("data.std", lambda v: len(v) == 3 and min(v) > 0, "three positive numbers"),
    ):
        if not all(map(_is_number, flat[key])) or not right(flat[key]):
            raise UserError(f"config.{key}={tuple(flat[key])!r} must be {what}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_pattern(pattern: Any, key: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UserError(f"config.{key}: {pattern!r} is no regular expression ({error})") from None


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

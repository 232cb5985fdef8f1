"""The keys of a config: which there are, and which values each takes."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from inception_jax.errors import UserError
from inception_jax.models import create_model
from inception_jax.training.optimizers import OPTIMIZERS, WEIGHT_DECAY_READINGS
from inception_jax.training.schedules import SCHEDULES, parse_duration

# A rule takes a key and its value; it returns the value in the form in which it is used, or raises UserError.
Rule = Callable[[str, Any], Any]

_ENDLESS = 1e30  # float32 ends soon after it
_SIDE = 2**13  # pixels; a square of it has as many as an image may have by default
_BATCH = 2**20
_LONGEST = 1e15  # of a duration, in whatever unit
_WORDS = {2: "two", 3: "three"}


def _typed(key: str, value: Any, kind: type) -> Any:
    accepted = {float: (int, float), tuple: (tuple, list), dict: Mapping}.get(kind, kind)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{key}={value!r} must be of type {kind.__name__}, not {type(value).__name__}")
    return value


def _flag(key: str, value: Any) -> bool:
    return _typed(key, value, bool)


def _number(least: float, most: float = _ENDLESS, kind: type = float, below: bool = False) -> Rule:
    """A number from `least` to `most`, or `below` it."""

    def rule(key: str, value: Any) -> float:
        _typed(key, value, kind)
        if value < least:
            raise UserError(f"{key}={value!r} must be at least {least}")
        if not value <= most or (below and value == most):  # NaN is not either
            excluded = f", {most} excluded" if below else ""
            raise UserError(f"{key}={value!r} must be between {least} and {most}{excluded}")
        return value

    return rule


def _whole(least: int, most: float = _ENDLESS) -> Rule:
    return _number(least, most, kind=int)


def _choice(choices: Sequence[Any]) -> Rule:
    def rule(key: str, value: Any) -> Any:
        _typed(key, value, type(choices[0]))
        if value not in choices:
            raise UserError(f"{key}={value!r} is not one of {', '.join(map(str, choices))}")
        return value

    return rule


def _text(wanted: str, optional: bool = False) -> Rule:
    """Free text: what is right shows when it is used, but for the word None where nothing is meant."""

    def rule(key: str, value: Any) -> str:
        _typed(key, value, str)
        if value.strip().lower() == "none" or not (value.strip() or optional):
            raise UserError(f"{key}={value!r}: {'leave it empty, or ' if optional else ''}give {wanted}")
        return value

    return rule


def _duration(key: str, value: Any, zero: bool = False) -> str:
    amount, _ = parse_duration(_typed(key, value, str), key)
    if not amount and not zero:
        raise UserError(f"{key}={value!r} must be longer than 0")
    if amount > _LONGEST:
        raise UserError(f"{key}={value!r} must be at most {_LONGEST:g} steps, epochs or examples")
    return " ".join(value.lower().split())


def _duration_or_zero(key: str, value: Any) -> str:
    return _duration(key, value, zero=True)


def _pattern(key: str, value: Any) -> str:
    if _typed(key, value, str) == "":
        raise UserError(f"{key} has an empty pattern, which fits everything; leave it out, or write '.' for everything")
    try:
        re.compile(value)
    except (re.error, OverflowError) as error:
        raise UserError(f"{key}: {value!r} is no regular expression ({error})") from None
    return value


def _list_of(rule: Rule) -> Rule:
    return lambda key, value: tuple(rule(key, item) for item in _typed(key, value, tuple))


_FACTOR = _number(0, 1e6)


def _multiplier(key: str, value: Any) -> tuple[str, float]:
    if not (isinstance(value, (tuple, list)) and len(value) == 2 and _is_number(value[1])):
        raise UserError(f"{key}: {value!r} is no pair of a pattern and a factor, such as ('bias$', 2.0)")
    pattern, factor = value
    return _pattern(key, pattern), float(_FACTOR(f"{key}: the factor of {pattern!r}", factor))


def _multipliers(key: str, value: Any) -> tuple[tuple[str, float], ...]:
    """A list of pairs; a pair alone, and pairs without their brackets, are taken for one."""
    _typed(key, value, tuple)
    patterns, factors = value[::2], value[1::2]
    if len(patterns) == len(factors) and all(isinstance(p, str) for p in patterns) and all(map(_is_number, factors)):
        value = tuple(zip(patterns, factors, strict=True))
    return _list_of(_multiplier)(key, value)


def _numbers(count: int, least: float, most: float, kind: type = float) -> Rule:
    """Two numbers, the smaller one first, or three, one for each channel; one alone is taken for all three."""
    what = f"{_WORDS[count]} {'whole ' if kind is int else ''}numbers between {least} and {most}"
    what += ", the smaller one first" if count == 2 else ", or one for all"

    def rule(key: str, value: Any) -> tuple[float, ...]:
        numbers = tuple(_typed(key, value, tuple)) * (count if count == 3 and len(value) == 1 else 1)
        right = len(numbers) == count and all(_is_number(n) and least <= n <= most and kind(n) == n for n in numbers)
        if not right or (count == 2 and numbers[0] > numbers[1]):
            raise UserError(f"{key}={tuple(value)!r} must be {what}")
        return tuple(map(kind, numbers))

    return rule


def _weights(key: str, value: Any) -> Any:
    """Of auxiliary heads, whose names the network knows."""
    for head, weight in _typed(key, value, dict).items():
        _number(0, 1e6)(f"{key}.{head}", weight)
    return value


def _network(key: str, value: Any) -> Any:
    """`create_model` knows which options each network has, and their values."""
    for name, kind in {"name": str, "dtype": str, "width": float}.items():
        if name not in _typed(key, value, dict):
            raise UserError(f"{key}.{name} is missing; start from configs/common.py, which sets every key")
        _typed(f"{key}.{name}", value[name], kind)
    try:
        create_model(**value)
    except UserError as error:
        about_an_option = re.match(r"\w+=", str(error))
        raise UserError(f"{key}.{error}" if about_an_option else str(error)) from None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# What each key means is said in configs/common.py, beside its default.
_KEYS = {
    "seed": _whole(0, 2**32 - 1),
    "parallel": _choice(("shard_map", "pmap")),
    "hasty": _flag,
    "init_from": _text("a workdir, a checkpoint or a file of exported weights", optional=True),
    "init_new": _list_of(_pattern),
    "model": _network,
    "data": {
        "name": _text("'folder', 'digits', 'glyphs', 'synthetic' or the name of a TFDS data set"),
        "dir": _text("a directory", optional=True),
        "train_split": _text("the name of a split"),
        "eval_split": _text("the name of a split"),
        "image_size": _whole(1, _SIDE),
        "channels": _choice((1, 3)),
        "resize": _whole(1, _SIDE),
        "crop": _choice(("area", "scale", "square", "central")),
        "area": _numbers(2, 1e-4, 1),
        "aspect": _numbers(2, 0.01, 100),
        "scale": _numbers(2, 1, _SIDE, kind=int),
        "interpolation": _choice(("bilinear", "mixed")),
        "flip": _flag,
        "randaugment": _whole(0, 10),
        "randaugment_magnitude": _number(0, 10),
        "photometric": _choice(("none", "slim", "slim_fast")),
        "photometric_strength": _number(0, 1),
        "pca_noise": _number(0, 10),
        "mean": _numbers(3, 0, 255),  # of pixels, which are from 0 to 255
        "std": _numbers(3, 1e-3, 1e4),
        "whitening": _choice(("none", "gcn", "gcn_zca")),
        "shift": _whole(0, _SIDE),
        "mixup": _number(0, 100),
        "cutmix": _number(0, 100),
        "max_pixels": _whole(1),
        "threads": _whole(0, 1024),
        "processes": _whole(-1, 1024),
    },
    "train": {
        "batch_size": _whole(1, _BATCH),
        "microbatch": _whole(0, _BATCH),
        "steps": _whole(0),
        "epochs": _number(0),
        "examples": _whole(0),
        "loss": _choice(("softmax", "map")),
        "aux_weights": _weights,
        "label_smoothing": _number(0, 1, below=True),
        "average_decay": _number(0, 1, below=True),
        "sync_batch_norm": _flag,
        "freeze_batch_norm": _flag,
    },
    "optimizer": {
        "name": _choice(OPTIMIZERS),
        "momentum": _number(0, 1, below=True),
        "nesterov": _flag,
        "lr_in_momentum": _flag,
        "rms_decay": _number(0, 1, below=True),
        "rms_epsilon": _number(1e-30),  # 0 divides by 0 where a gradient stays 0
        "weight_decay": _number(0),
        "weight_decay_reading": _choice(WEIGHT_DECAY_READINGS),
        "weight_decay_on": _list_of(_pattern),
        "lr_multipliers": _multipliers,
        "freeze": _list_of(_pattern),
        "clip_norm": _number(0),
        "max_norm": _number(0),
        "max_rms": _number(0),
    },
    "schedule": {
        "name": _choice(SCHEDULES),
        "base_lr": _number(1e-30),
        "scale_from": _whole(0),
        "warmup": _duration_or_zero,
        "every": _duration,
        "rate": _number(1e-30),
        "power": _number(1e-30),
        "boundaries": _list_of(_duration),
        "patience": _whole(1),
        "end_lr": _number(0),
    },
    "eval": {"every": _duration, "batch_size": _whole(0, _BATCH), "batch_norm_check": _whole(0)},
    "checkpoint": {"every": _duration, "keep": _whole(1)},
    "log": {
        "every": _duration,
        "tensorboard": _flag,
        "report": _flag,
        "profile_at": _whole(0),
        "profile_steps": _whole(1),
    },
}

# A run may be resumed with other values of these: they do not change what it computes.
_FREE = ("parallel", "data.dir", "data.max_pixels", "data.threads", "data.processes", "eval", "checkpoint", "log")


def validate(config: ConfigDict) -> None:
    """Checks that `config` has exactly the keys there are, with values that make sense, and brings these to one form.

    Lists become tuples, one number for all channels three, '8 Epochs' becomes '8 epochs'.

    Raises:
      UserError: names the first key that is wrong, and the nearest right one or what is right.
    """
    _validate(config, _KEYS, "config")


def _validate(config: ConfigDict, keys: Mapping[str, Any], path: str) -> None:
    values = config.to_dict()
    for name in values:
        if name not in keys:
            near = difflib.get_close_matches(name, keys, n=1) or sorted(keys)
            raise UserError(f"{path} has no key {name!r}; did you mean {' or '.join(near)}?")
    for name, rule in keys.items():
        key = f"{path}.{name}"
        if name not in values:
            raise UserError(f"{key} is missing; start from configs/common.py, which sets every key")
        value = values[name]
        if isinstance(rule, dict):
            _typed(key, value, dict)
            _validate(config[name], rule, key)
        elif repr(right := rule(key, value)) != repr(value):  # 256.0 == 256
            with config.ignore_type():
                config[name] = right


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

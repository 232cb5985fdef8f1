"""Kinds of config keys, from which configs/common.py builds its table, and the checks of a config by that table.

A table is a dict from names to keys or to sections, which are tables themselves. Every kind of key takes its default
and its meaning first; the other arguments say which values are valid.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from inception_jax.errors import UserError, check_choice
from inception_jax.runs.renamed import CONFIG_KEYS

UNITS = ("steps", "epochs", "examples")
_ENDLESS = 1e30  # float32 ends at 3.4e38
_LONGEST = 1e15  # longest duration, in any unit

# Takes the full name of a key and a value; returns the value in canonical form or raises UserError.
Rule = Callable[[str, Any], Any]


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a config.

    Attributes:
      default: value unless a recipe sets another.
      meaning: phrase that explains the key, for the documentation.
      valid: valid values in words, for the documentation.
      rule: checks a value and returns its canonical form.
    """

    default: Any
    meaning: str
    valid: str
    rule: Rule


Table = Mapping[str, "Key | Table"]


def build(table: Table) -> ConfigDict:
    """Returns the config with every key at its default."""
    config = ConfigDict()
    for name, entry in table.items():
        default = entry.default if isinstance(entry, Key) else build(entry)
        config[name] = ConfigDict(default) if isinstance(default, Mapping) else default
    return config


def validate(config: ConfigDict, table: Table, path: str = "config", open_sections: Sequence[str] = ()) -> None:
    """Checks that `config` has exactly the keys of `table`, with valid values, and makes the values canonical.

    Lists become tuples, one number for all channels becomes three, '8 Epochs' becomes '8 epochs'.

    Args:
      config: config, or a section of it.
      table: its keys.
      path: its name in errors.
      open_sections: names of sections that may have more keys, which are not checked here.

    Raises:
      UserError: names the first invalid key, and the nearest valid key or the valid values.
    """
    for name in config:
        if name not in table and path not in open_sections:
            raise UserError(_unknown(f"{path}.{name}", table))
    for name, entry in table.items():
        key = f"{path}.{name}"
        if name not in config:
            raise UserError(f"{key} is missing; start from configs/common.py, which sets every key")
        if isinstance(entry, Key):
            value = config.to_dict()[name]
            if repr(right := entry.rule(key, value)) != repr(value):  # 256.0 == 256
                with config.ignore_type():
                    config[name] = right
        else:
            validate(_typed(key, config[name], ConfigDict), entry, key, open_sections)


def _unknown(key: str, table: Table) -> str:
    path, _, name = key.rpartition(".")
    renamed = CONFIG_KEYS.get(key.removeprefix("config."))
    if renamed:
        return f"{key} is now called config.{renamed}"
    near = difflib.get_close_matches(name, table, n=1) or sorted(table)
    return f"{path} has no key {name!r}; did you mean {' or '.join(near)}?"


def flag(default: bool, meaning: str) -> Key:
    """True or False."""
    return Key(default, meaning, "True, False", lambda key, value: _typed(key, value, bool))


def number(
    default: float, meaning: str, least: float = 0, most: float = _ENDLESS, below: bool = False, kind: type = float
) -> Key:
    """A number from `least` to `most`; `below` excludes `most` itself."""

    def rule(key: str, value: Any) -> float:
        _typed(key, value, kind)
        if value < least:
            raise UserError(f"{key}={value!r} must be at least {least}")
        if not value <= most or (below and value == most):  # false for NaN too
            excluded = f", {most} excluded" if below else ""
            raise UserError(f"{key}={value!r} must be between {least} and {most}{excluded}")
        return value

    what = "whole number" if kind is int else "number"
    upper = "" if most == _ENDLESS else f", {'below' if below else 'at most'} {most:{',' if kind is int else 'g'}}"
    return Key(default, meaning, f"{what}, at least {least:g}{upper}", rule)


def whole(default: int, meaning: str, least: int = 0, most: float = _ENDLESS) -> Key:
    """A whole number from `least` to `most`."""
    return number(default, meaning, least, most, kind=int)


def choice(default: Any, meaning: str, choices: Sequence[Any]) -> Key:
    """One of `choices`."""

    def rule(key: str, value: Any) -> Any:
        check_choice(key, _typed(key, value, type(default)), choices)
        return value

    return Key(default, meaning, ", ".join(map(repr, choices)), rule)


def text(default: str, meaning: str, wanted: str, optional: bool = False) -> Key:
    """Free text, or '' if `optional`. The word None is an error, because users may write it to mean ''."""

    def rule(key: str, value: Any) -> str:
        _typed(key, value, str)
        if value.strip().lower() == "none" or not (value.strip() or optional):
            raise UserError(f"{key}={value!r}: {'leave it empty, or ' if optional else ''}give {wanted}")
        return value

    return Key(default, meaning, f"{wanted}{', or empty' if optional else ''}", rule)


def duration(default: str, meaning: str, zero: bool = False) -> Key:
    """A duration such as '8 epochs', longer than 0 unless `zero`."""
    return Key(default, meaning, "duration", lambda key, value: _duration(key, value, zero))


def durations(default: tuple[str, ...], meaning: str) -> Key:
    """Any number of durations."""
    return Key(default, meaning, "durations", _list_of(_duration))


def patterns(default: tuple[str, ...], meaning: str) -> Key:
    """Regular expressions, searched in the path of a parameter."""
    return Key(default, meaning, "patterns", _list_of(_pattern))


def factors(default: tuple[tuple[str, float], ...], meaning: str) -> Key:
    """Pairs of a pattern and a factor; a single pair, and pairs without brackets, are accepted too."""

    def pair(key: str, value: Any) -> tuple[str, float]:
        if not (isinstance(value, (tuple, list)) and len(value) == 2 and _is_number(value[1])):
            raise UserError(f"{key}: {value!r} is not a pair of a pattern and a factor, such as ('bias$', 2.0)")
        pattern, factor = value
        return _pattern(key, pattern), float(_FACTOR.rule(f"{key}: the factor of {pattern!r}", factor))

    def rule(key: str, value: Any) -> tuple[tuple[str, float], ...]:
        _typed(key, value, tuple)
        names, numbers = value[::2], value[1::2]
        if len(names) == len(numbers) and all(isinstance(n, str) for n in names) and all(map(_is_number, numbers)):
            value = tuple(zip(names, numbers, strict=True))
        return _list_of(pair)(key, value)

    return Key(default, meaning, "pairs of a pattern and a factor", rule)


def interval(default: tuple, meaning: str, least: float, most: float, kind: type = float) -> Key:
    """Two numbers, the smaller one first."""
    return _numbers(default, meaning, 2, least, most, kind)


def per_channel(default: tuple[float, float, float], meaning: str, least: float, most: float) -> Key:
    """Three numbers, one for each channel; a single number is used for all."""
    return _numbers(default, meaning, 3, least, most, float)


def weights(default: Mapping[str, float], meaning: str) -> Key:
    """A ConfigDict from names, which are not checked, to factors."""

    def rule(key: str, value: Any) -> Any:
        for name, weight in _typed(key, value, dict).items():
            _FACTOR.rule(f"{key}.{name}", weight)
        return value

    return Key(dict(default), meaning, "a factor for each name", rule)


def parse_duration(duration: str, name: str = "duration") -> tuple[float, str]:
    """Splits '500 steps', '8 Epochs' or '10000 examples' into amount and unit ('step', 'epoch' or 'example').

    Raises:
      UserError: `duration` has another form; the message calls it `name`.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*(?:e[+-]?\d+)?)\s*(step|epoch|example)s?\s*", str(duration).lower())
    if match is None:
        raise UserError(f"{name}={duration!r} is not a duration; write '500 steps', '8 epochs' or '10000 examples'")
    return float(match[1]), match[2]


_FACTOR = number(1.0, "", 0, 1e6)


def _duration(key: str, value: Any, zero: bool = False) -> str:
    amount, _ = parse_duration(_typed(key, value, str), key)
    if not amount and not zero:
        raise UserError(f"{key}={value!r} must be longer than 0")
    if amount > _LONGEST:
        raise UserError(f"{key}={value!r} must be at most {_LONGEST:g} steps, epochs or examples")
    return " ".join(value.lower().split())


def _pattern(key: str, value: Any) -> str:
    if _typed(key, value, str) == "":
        raise UserError(f"{key} has an empty pattern, which matches everything; remove it, or write '.' for everything")
    try:
        re.compile(value)
    except (re.error, OverflowError) as error:
        raise UserError(f"{key}: {value!r} is not a regular expression ({error})") from None
    return value


def _list_of(rule: Rule) -> Rule:
    return lambda key, value: tuple(rule(key, item) for item in _typed(key, value, tuple))


def _numbers(default: tuple, meaning: str, count: int, least: float, most: float, kind: type) -> Key:
    kinds = "whole numbers" if kind is int else "numbers"
    words = {2: f"two {kinds} between {least} and {most}, the smaller one first"}
    words[3] = f"three {kinds} between {least} and {most}, or one for all"

    def rule(key: str, value: Any) -> tuple[float, ...]:
        numbers = tuple(_typed(key, value, tuple)) * (count if count == 3 and len(value) == 1 else 1)
        right = len(numbers) == count and all(_is_number(n) and least <= n <= most and kind(n) == n for n in numbers)
        if not right or (count == 2 and numbers[0] > numbers[1]):
            raise UserError(f"{key}={tuple(value)!r} must be {words[count]}")
        return tuple(map(kind, numbers))

    return Key(default, meaning, words[count], rule)


def _typed(key: str, value: Any, kind: type) -> Any:
    accepted: Any = {float: (int, float), tuple: (tuple, list), dict: Mapping}.get(kind, kind)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        name = {ConfigDict: "dict"}.get(kind, kind.__name__)
        raise UserError(f"{key}={value!r} must be of type {name}, not {type(value).__name__}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

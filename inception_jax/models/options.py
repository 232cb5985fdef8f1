"""The types of networks' options. A network's signature states with them which values each option takes.

A word is a `Literal` of its choices; `| None` allows None beside the values of a type.
"""

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

from inception_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Values:
    """The values of an option: their description, which ends the error message, and their test."""

    description: str
    accepts: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1


def up_to(most: int) -> Values:
    """Whole numbers from 1 to `most`."""
    return Values(f"a whole number from 1 to {most}", lambda value: _is_count(value) and value <= most)


Flag = Annotated[bool, Values("True or False", lambda value: isinstance(value, bool))]
Count = Annotated[int, Values("a whole number above 0", _is_count)]
Factor = Annotated[float, Values("a number not below 0", lambda value: _is_number(value) and value >= 0)]
# Dropout rates and decays of running statistics.
Rate = Annotated[float, Values("a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1)]
Width = Annotated[float, Values("a number above 0 and at most 16", lambda value: _is_number(value) and 0 < value <= 16)]


def check(option: str, value: Any, kind: Any) -> None:
    """Checks a value of an option of the type `kind`.

    Raises:
      UserError: the type has no such value.
    """
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        if value is None:
            return
        kind, _ = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise UserError(f"{option}={value!r} is not one of {', '.join(map(str, choices))}")
        return
    [values] = kind.__metadata__
    if not values.accepts(value):
        raise UserError(f"{option}={value!r} must be {values.description}")

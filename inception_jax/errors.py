"""Errors that the user can fix."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class UserError(ValueError):
    """Invalid input; the message is one line that names the problem and how to fix it.

    A message about an argument begins with its name and value: `scales=(200,) must not be less than 224`. A caller that
    knows where the argument comes from adds its section, see `section`. Commands print the line and exit with status 2.
    Any other exception is a defect of this package and keeps its traceback.
    """


class MissingExtraError(UserError, ImportError):
    """An optional package is not installed."""


@contextlib.contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Turns a failed import into a MissingExtraError that names the extra of pyproject.toml to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = str(error.name).partition(".")[0]
        raise MissingExtraError(f"{module} is not installed: pip install 'inception_jax[{name}]'") from error


def choose(argument: str, value: str, choices: Mapping[str, T]) -> T:
    """Returns `choices[value]`.

    Raises:
      UserError: `value` is not among the choices; the message lists them.
    """
    check_choice(argument, value, choices)
    return choices[value]


def check_choice(argument: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises a UserError that lists the choices unless `value` is among them."""
    choices = tuple(choices)
    if value not in choices:
        raise UserError(f"{argument}={value!r} is not one of {', '.join(map(str, choices))}")


@contextlib.contextmanager
def section(name: str) -> Iterator[None]:
    """Puts `name` before the argument in messages: `warmup=...` becomes `config.schedule.warmup=...`."""
    try:
        yield
    except UserError as error:
        if not re.match(r"\w+=", str(error)):
            raise
        raise UserError(f"{name}.{error}") from None

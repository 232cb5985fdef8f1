"""The one exception that a command shows as a single line."""

from collections.abc import Mapping
from typing import Any


class UserError(Exception):
    """Bad input: the message names the thing that is wrong and the way out.

    Commands print it as one line and exit with status 2; everything else that is raised is a defect of
    ours and keeps its traceback.
    """


def choose(option: str, value: str, choices: Mapping[str, Any]) -> Any:
    """Returns `choices[value]`.

    Raises:
      UserError: there is none; the choices are named.
    """
    if value not in choices:
        raise UserError(f"{option}={value!r} is not one of {', '.join(choices)}")
    return choices[value]

"""What the commands share: a mistake on the command line is one line, not a traceback."""

import ast
import contextlib
import re
import sys

from absl import flags


def parse_flags(argv: list[str], command: str, required: tuple[str, ...] = (), positional: bool = False) -> list[str]:
    """Parses the flags of `command`; exits with 2 if one is wrong or missing.

    Returns what is left of `argv`, the program's name and, if `positional`, arguments that are no flags.
    """
    try:
        rest = flags.FLAGS(argv)
        for name in required:
            if flags.FLAGS[name].value is None:
                raise ValueError(f"--{name} is missing")
        config = flags.FLAGS["config"].value
        if config is not None:
            config.keys()  # raises if the file could not be read
        if len(rest) > 1 and not positional:
            raise ValueError(f"{rest[1]!r} is no flag")
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, SyntaxError) as error:
        print(f"error: {reason(error)}\nSee python {command} --help", file=sys.stderr)
        sys.exit(2)
    return rest


def reason(error: Exception) -> str:
    """What is wrong with a flag, in one line."""
    text = str(error.args[0] if error.args else error).replace("\\n", " ")
    if isinstance(error, OSError):  # ml_collections tells of every place where it looked
        text = str(error).strip().splitlines()[-1]
    with contextlib.suppress(SyntaxError, ValueError):  # the text of a KeyError may be quoted once more
        text = str(ast.literal_eval(text))
    text = " ".join(text.split())
    # Of an error in a recipe ml_collections shows the traceback too; its last line says what is wrong.
    return re.sub(r"Error whilst parsing config file: Traceback .* \w+: ", "", text)

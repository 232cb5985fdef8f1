"""What the commands share: a mistake on the command line is one line, not a traceback."""

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
        if len(rest) > 1 and not positional:
            raise ValueError(f"{rest[1]!r} is no flag")
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        text = " ".join(str(error.args[0] if error.args else error).replace("\\n", " ").split())
        print(f"error: {text}\nSee python {command} --help", file=sys.stderr)
        sys.exit(2)
    return rest

"""What the commands share: how --config.KEY=VALUE is read, and that a mistake is one line, not a traceback."""

import ast
import contextlib
import re
import sys
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.tuple_parser import TupleParser


class _Number(flags.FloatParser):
    def convert(self, argument: Any) -> float:
        with _wanted("a number is wanted, such as 90 or 0.5"):
            return super().convert(argument)


class _Whole(flags.IntegerParser):
    def convert(self, argument: Any) -> int:
        with _wanted("a whole number is wanted, such as 1000"):
            with contextlib.suppress(ValueError):
                return super().convert(argument)
            number = float(argument)  # '1e3', '1000.0'
            if not number.is_integer():
                raise ValueError
            return int(number)


class _Bool(flags.BooleanParser):
    def parse(self, argument: Any) -> bool:
        with _wanted("true or false is wanted"):
            return super().parse(argument)


class _Tuple(TupleParser):
    def parse(self, argument: Any) -> tuple:
        if isinstance(argument, str) and not argument.strip():
            return ()
        with _wanted("""a list is wanted, such as "(0.5, 1.0)" or "('^conv', '^aux')\""""):
            try:
                return super().parse(argument)
            except ValueError:
                if "," in argument:
                    raise
                return (argument,)  # such as '30 epochs'


class _Section(flags.ArgumentParser):
    def parse(self, argument: Any) -> ConfigDict:
        with _wanted("keys and values are wanted, such as {'aux1': 0.3}; or one key, as in config.data.dir"):
            return ConfigDict(ast.literal_eval(argument) if isinstance(argument, str) else argument)


@contextlib.contextmanager
def _wanted(what: str):
    try:
        yield
    except (AttributeError, SyntaxError, TypeError, ValueError):
        raise ValueError(what) from None


for _type, _parser in {float: _Number(), int: _Whole(), bool: _Bool(), tuple: _Tuple(), ConfigDict: _Section()}.items():
    config_flags.register_flag_parser_for_type(_type, _parser)


# What absl and ml_collections raise for a flag, or a recipe, that is wrong.
MISTAKES = (flags.Error, AttributeError, LookupError, TypeError, ValueError, OSError, SyntaxError)


def parse_flags(argv: list[str], command: str, required: tuple[str, ...] = (), positional: bool = False) -> list[str]:
    """Parses the flags of `command`; exits with 2 if one is wrong or missing.

    Returns what is left of `argv`, the program's name and, if `positional`, arguments that are no flags.
    """
    try:
        rest = flags.FLAGS(argv)
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # JAX tells of backends that are not there, Orbax of every save
        for name in required:
            if flags.FLAGS[name].value is None:
                raise ValueError(f"--{name} is missing")
        config = flags.FLAGS["config"].value
        if config is not None:
            config.keys()  # raises if the file could not be read
        if len(rest) > 1 and not positional:
            raise ValueError(f"{rest[1]!r} is no flag")
    except MISTAKES as error:
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
    if re.fullmatch(r"'?\w+'?", text):  # of a KeyError
        return "the config has no key " + repr(text.strip("'"))
    # The parsers above do not know the key, absl does.
    text = re.sub(r"^flag --(config\.\S+?)=(.*): (.+ wanted.*)$", lambda m: f"{m[1]}={m[2]!r}: {m[3]}", text)
    # Of an error in a recipe ml_collections shows the traceback too; its last line says what is wrong.
    return re.sub(r"Error whilst parsing config file: Traceback .* \w+: ", "", text)

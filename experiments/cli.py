"""Frame of every command: arguments, --config.KEY=VALUE, one-line errors, exit status."""

import argparse
import ast
import contextlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.tuple_parser import TupleParser

from experiments import stop_at_once, supervisor
from inception_jax import ignored

if TYPE_CHECKING:
    from inception_jax.paths import AnyPath


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


# What absl and ml_collections raise for an invalid flag or recipe.
_MISTAKES = (flags.Error, AttributeError, LookupError, TypeError, ValueError, OSError, SyntaxError)


class Parser(argparse.ArgumentParser):
    """Reads the arguments of a command; invalid arguments print one line and exit with status 2.

    With `add_config` the command takes `--config=FILE[:VARIANTS]` and `--config.KEY=VALUE`, and `parse_args` returns
    the ConfigDict as `config`.
    """

    def __init__(self, command: str, description: str, epilog: str = ""):
        """Creates a parser without arguments.

        Args:
          command: what follows `python`, such as '-m experiments.predict'.
          description: the module's docstring.
          epilog: text below the list of arguments.
        """
        super().__init__(
            prog=f"python {command}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._config: str | None = None

    def add_config(self, required: bool = True) -> None:
        """Adds --config and its overrides."""
        self._config = "required" if required else "optional"
        group = self.add_argument_group("recipe")
        group.add_argument("--config", metavar="FILE[:VARIANTS]", help="recipe, a file of configs/")
        group.add_argument("--config.KEY", metavar="VALUE", dest="_override", help="value of one key of the recipe")

    def add_network(self, group: "argparse._ArgumentGroup | None" = None) -> None:
        """Adds --workdir, --checkpoint and --weights, for `runs.classifier.load`."""
        add = (group or self).add_argument
        add("--workdir", type=path, required=True, help="run, one of its checkpoints, or a file of weights")
        add("--checkpoint", default="best", help="best (default), last or a step")
        add("--weights", default="", choices=("ema", "raw"), help="moving averages (default if kept) or latest weights")

    def add_distributed(self) -> "argparse._ArgumentGroup":
        """Adds --distributed and the place of this process in its job, for `join`; returns their group."""
        group = self.add_argument_group("several processes")
        group.add_argument(
            "--distributed",
            action="store_true",
            help="join the other processes of this job, which JAX finds on SLURM, MPI, Kubernetes and TPU pods",
        )
        group.add_argument("--coordinator", metavar="HOST:PORT", help="elsewhere: the address of process 0")
        group.add_argument("--num-processes", type=positive, metavar="N", help="their number")
        group.add_argument("--process-id", type=_natural, metavar="I", help="the number of this one, from 0")
        return group

    def add_raw_csv(self, group: "argparse._ArgumentGroup | None" = None) -> None:
        """Adds --raw-csv, for `spreadsheet.row_writer`."""
        (group or self).add_argument(
            "--raw-csv",
            action="store_true",
            help="write names to CSV as they are (default: an apostrophe before = + - @, which spreadsheets run)",
        )

    def add_share(self) -> None:
        """Adds what `add_distributed` adds, --shard and --shard-size, for `own_share`."""
        group = self.add_distributed()
        group.add_argument(
            "--shard", type=share, metavar="I/N", help="this is machine I of N, from 1/N to N/N, which need not meet"
        )
        group.add_argument(
            "--shard-size", type=positive, default=4096, metavar="N", help="images in a file (default: %(default)s)"
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace=None) -> argparse.Namespace:
        """Reads `args`, by default those of the process; exits with status 2 if one is invalid or missing."""
        args = list(sys.argv[1:] if args is None else args)
        if self._config is None or "-h" in args or "--help" in args:
            return super().parse_args(args, namespace)
        config, rest = self._read_config(args)
        arguments = super().parse_args(rest, namespace)
        arguments.config = config
        return arguments

    def _read_config(self, args: list[str]) -> tuple[ConfigDict | None, list[str]]:
        values = flags.FlagValues()
        values.set_gnu_getopt(True)
        try:
            config_flags.DEFINE_config_file("config", None, "", flag_values=values, lock_config=True, sys_argv=args)
            rest = values([self.prog, *args], known_only=True)[1:]
            config = values["config"].value
            if config is not None:
                config.keys()  # raises if the file could not be read
        except _MISTAKES as error:
            self.error(_renamed(args) or _reason(error))
        if config is None and self._config == "required":
            self.error("--config is missing")
        return config, rest

    def error(self, message: str):
        """Prints `message` and exits with status 2."""
        print(f"error: {message}\nSee {self.prog} --help", file=sys.stderr)
        sys.exit(2)

    def flag(self, argument: str) -> str:
        """Returns the option of an argument, '--batch-size' for 'batch_size'; '' if the command has none."""
        return next((flag for action in self._actions if action.dest == argument for flag in action.option_strings), "")


def path(text: str) -> "AnyPath":
    """Converts an argument to a path, also one in a bucket that can be reached."""
    from inception_jax.errors import UserError
    from inception_jax.paths import is_bucket, to_path

    try:
        return to_path(text) if is_bucket(text) else Path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Converts an argument to a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, 1 or more")
    return int(text)


def run(parser: Parser, command: Callable[[argparse.Namespace], int | None], argv: Sequence[str] | None = None) -> int:
    """Reads the arguments and runs a command with them.

    Args:
      parser: parser of the arguments.
      command: function of the arguments; it returns the exit status, or None for 0.
      argv: the arguments; by default those of the process.

    Returns:
      The exit status: that of the command, 2 for invalid input, 130 after Ctrl-C, 143 after SIGTERM, 141 if the output
      was closed.
    """
    if argv is None and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        ignored.notice(KeyboardInterrupt, _repeat)
    logging.set_verbosity(logging.WARNING)  # JAX logs missing backends, Orbax every save
    if argv is None and any(arg.startswith(("--distributed", "--coordinator")) for arg in sys.argv):
        supervisor.supervise()  # before anything is imported that starts threads
    arguments = parser.parse_args(argv)
    try:
        if getattr(arguments, "config", None) is not None:
            from configs.common import validate  # not at the top, so that --help appears at once

            validate(arguments.config)
        status = command(arguments) or 0
        if is_distributed(arguments):
            from inception_jax import processes

            processes.agree(None)  # JAX itself waits only five minutes for processes that end later
        sys.stdout.flush()  # here, where an error of it is handled
        return status
    except BrokenPipeError:  # as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        return 141
    except KeyboardInterrupt as stopped:
        number = _signal_of(stopped)
        print(f"stopped by {signal.Signals(number).name}", file=sys.stderr)
        return _end(128 + number, arguments, argv)
    except Exception as error:
        from inception_jax.console import harmless
        from inception_jax.errors import UserError
        from inception_jax.paths import is_bucket_error, reason

        status = 2
        if isinstance(error, UserError):
            text = _with_flag(str(error), parser)
        elif supervisor.is_about_others(error):
            text, status = supervisor.OTHERS_ENDED, supervisor.STATUS
        elif isinstance(error, OSError) or is_bucket_error(error):
            text = f"{error.filename}: {error.strerror}" if getattr(error, "filename", None) else reason(error)
        elif is_distributed(arguments) and argv is None:
            traceback.print_exc()
            return _end(1, arguments, argv)
        else:
            raise
        print(f"error: {harmless(text)}", file=sys.stderr)
        return _end(status, arguments, argv)


def _end(status: int, arguments: argparse.Namespace, argv: Sequence[str] | None) -> int:
    """Returns the exit status; a process of a job with several, or with Orbax, ends at once instead."""
    if argv is not None:
        return status
    if is_distributed(arguments):
        from inception_jax import processes

        if status != supervisor.STATUS:
            processes.part()
        supervisor.leave(status)
    # After an error Orbax's threads may wait for minutes for a directory that could not be made.
    if status == 2 and "orbax.checkpoint" in sys.modules:
        supervisor.leave(status)
    return status


def _stop(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt; ends the process in an import, where nothing is at stake and libraries may catch it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            stop_at_once(number, None)
        frame = frame.f_back
    raise KeyboardInterrupt(number)


def _repeat(ignored_stop: KeyboardInterrupt) -> None:
    os.kill(os.getpid(), _signal_of(ignored_stop))


def _signal_of(stop: KeyboardInterrupt) -> int:
    """Returns the number that `_stop` gave; SIGINT if another handler raised it, such as Python's own."""
    return stop.args[0] if stop.args else signal.SIGINT


def _with_flag(message: str, parser: Parser) -> str:
    """Turns `batch_size=0 ...` into `--batch-size=0 ...`, if the command has that option."""
    name, equals, _ = message.partition("=")
    flag = parser.flag(name) if equals else ""
    return flag + message.removeprefix(name) if flag else message


def _renamed(args: Sequence[str]) -> str:
    """Returns the message for the first key in the arguments that was renamed; '' if there is none."""
    from inception_jax.runs.renamed import CONFIG_KEYS

    keys = (match[1] for arg in args if (match := re.match(r"--(?:no)?config\.([\w.]+)", arg)))
    return next((f"config.{key} is now called config.{CONFIG_KEYS[key]}" for key in keys if key in CONFIG_KEYS), "")


def _reason(error: Exception) -> str:
    """Returns what is wrong with a flag or a recipe, in one line."""
    text = str(error.args[0] if error.args else error).replace("\\n", " ")
    if isinstance(error, OSError):  # ml_collections lists every place where it looked
        text = str(error).strip().splitlines()[-1]
    with contextlib.suppress(SyntaxError, ValueError):  # the text of a KeyError may be quoted twice
        text = str(ast.literal_eval(text))
    text = " ".join(text.split())
    if re.fullmatch(r"'?\w+'?", text):  # from a KeyError
        return "the config has no key " + repr(text.strip("'"))
    # absl knows the name of the key, the parsers above do not.
    text = re.sub(r"^flag --(config\.\S+?)=(.*): (.+ wanted.*)$", lambda m: f"{m[1]}={m[2]!r}: {m[3]}", text)
    # For an error in a recipe ml_collections adds the traceback; only its last line says what is wrong.
    return re.sub(r"Error whilst parsing config file: Traceback .* \w+: ", "", text)


def check_writable(*files: "AnyPath | None") -> None:
    """Raises UserError if a file cannot be written at the end; None is no file."""
    from inception_jax.errors import UserError

    for file in filter(None, files):
        if isinstance(file, Path) and (file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK)):
            raise UserError(f"{file} cannot be written")


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, 0 or more")
    return int(text)


def share(text: str) -> tuple[int, int]:
    """Reads '3/16', the third of sixteen machines, as (2, 16)."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not i/n, such as 3/16: the third of sixteen, from 1/16 to 16/16")
    return int(number) - 1, int(count)


def own_share(arguments: argparse.Namespace) -> tuple[int, int]:
    """Number of this machine, from 0, and of all, by --shard or --distributed, which it joins."""
    import jax

    from inception_jax.errors import UserError

    if arguments.shard and is_distributed(arguments):
        raise UserError("--shard and --distributed are two ways to divide the images: give one")
    join(arguments)
    return arguments.shard or (jax.process_index(), jax.process_count())


def is_distributed(arguments: argparse.Namespace) -> bool:
    """Whether the arguments ask for several processes."""
    return any(getattr(arguments, name, None) for name in ("distributed", "coordinator", "num_processes"))


def join(arguments: argparse.Namespace) -> None:
    """Joins the other processes of this job, if there are any, and says how many there are."""
    from inception_jax import processes, runtime
    from inception_jax.errors import UserError

    place = (arguments.coordinator, arguments.num_processes, arguments.process_id)
    if None in place and place != (None,) * 3:
        raise UserError("--coordinator, --num-processes and --process-id need each other")
    if not is_distributed(arguments):
        return
    processes.join(*place)
    runtime.cache_compilations(per_host=True)
    if processes.is_first():
        print(processes.described(), file=sys.stderr)

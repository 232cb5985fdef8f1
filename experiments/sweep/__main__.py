"""Runs an ablation: every variant of a sweep file with every seed, here or on a SLURM cluster; or lists runs.

python -m experiments.sweep experiments/sweeps/googlenet_aux.py --workdir=runs/googlenet_aux --jobs=2
python -m experiments.sweep experiments/sweeps/googlenet_aux.py:imagenet2012 --workdir=/data/aux --cluster=slurm
python -m experiments.sweep --list --workdir=runs --where='top1>0.9' --where=model.name=googlenet --csv=runs.csv
"""

import argparse
import ast
import json
import sys
from collections.abc import Sequence
from pathlib import Path

_EPILOG = """
FILE is one of experiments/sweeps/, or your own like them; what follows its colon is the data: embedded (default; the
images of this package, small networks, about a minute a run), cifar10, cifar100, imagenette/320px-v2, imagenet2012 (the
paper's recipe). Runs are in WORKDIR/VARIANT/SEED, each with its log.txt. The same command skips what is finished and
goes on with what was stopped; failed runs are shown, and run again with --retry. Flags --config.KEY=VALUE go to all
runs. At the end there is WORKDIR/report.html, see python -m experiments.report.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Does as the command line says.

    Args:
      argv: the arguments; those of the process unless given.

    Returns:
      The exit status: 0, 1 if a run is not finished, 2 for bad input, 130 if it was stopped.
    """
    parser = _parser()
    arguments, settings = parser.parse_known_args(argv)
    for setting in settings:
        if not setting.startswith(("--config.", "--noconfig.")):
            parser.error(f"unrecognized argument {setting}")
    if arguments.list == bool(arguments.file):
        parser.error("give a FILE, or --list")
    # Imported here, so that --help answers at once.
    from inception_jax.errors import UserError

    try:
        return _list(arguments) if arguments.list else _sweep(arguments, settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130


def _sweep(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    from experiments.sweep import plan
    from experiments.sweep.board import Board
    from experiments.sweep.launcher import Launcher
    from inception_jax.errors import UserError

    sweep, file, data = plan.load(arguments.file)
    directory = arguments.workdir.absolute()
    runs = plan.runs_of(sweep, directory, arguments.seeds, arguments.filter, settings)
    plan.check(runs)
    described = plan.described(sweep, file, data, arguments.seeds, settings)
    _check_directory(directory, described["name"])
    launcher = Launcher(
        runs, directory, arguments.cluster, arguments.jobs, arguments.gpus, dict(map(_parameter, arguments.slurm))
    )
    if arguments.dry_run:
        for run in runs:
            print(f"# {run.name}: {launcher.state(run)}\npython {plan.shown(run)}")
        return 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "sweep.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"the workdir {directory} cannot be written: {error.strerror}") from None
    board = Board(runs, directory, launcher.parallel)
    launcher.launch(arguments.retry, board)
    states = {run.name: launcher.state(run) for run in runs}
    is_done = all(state == "finished" for state in states.values())
    failed = [name for name, state in states.items() if state == "failed"]
    if not is_done:
        board.say(board.summary())
    if failed:
        board.say(f"failed, --retry runs them again: {', '.join(failed)}")
    if "finished" in states.values():
        from experiments.report.__main__ import main as report

        report([str(directory)])
    return 0 if is_done else 1


def _check_directory(directory: Path, name: str) -> None:
    """Raises a UserError if `directory` is of another sweep."""
    from inception_jax.errors import UserError

    try:
        there = json.loads((directory / "sweep.json").read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if there != name:
        raise UserError(f"{directory} holds the sweep {there}; give another --workdir")


def _parameter(text: str) -> tuple[str, object]:
    """'mem_gb=64' as a name and a value."""
    from inception_jax.errors import UserError

    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--slurm={text} must be NAME=VALUE, such as --slurm=slurm_partition=gpu")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):  # a word
        return name, value


def _list(arguments: argparse.Namespace) -> int:
    from experiments.sweep import index
    from experiments.sweep.launcher import state_in

    connection = index.refresh(arguments.workdir, state_in)
    header, rows = index.select(
        connection, arguments.where, arguments.sort, arguments.columns.split(",") if arguments.columns else ()
    )
    if arguments.csv:
        index.write_csv(arguments.csv, header, rows)
    print(index.table(header, rows))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep",
        description=__doc__.split("\n")[0],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", metavar="FILE[:DATA]", help="the sweep file")
    parser.add_argument(
        "--workdir", type=Path, required=True, help="of the sweep; with --list: where runs are searched"
    )
    what = parser.add_argument_group("runs").add_argument
    what("--seeds", type=_count, default=0, metavar="K", help="seeds 0 to K - 1 (default: as the file says)")
    what("--filter", action="append", default=[], help="of names, VARIANT or VARIANT/SEED, such as 'x5*'; repeatable")
    what("--retry", action="store_true", help="run those again that failed")
    what("--dry-run", action="store_true", help="print each run's state and command, start nothing")
    where = parser.add_argument_group("machines").add_argument
    where("--cluster", default="local", choices=("local", "slurm"))
    where("--jobs", type=_count, default=0, metavar="N", help="runs at once, each with its share of the cores and "
          "GPUs (default: one for each GPU, or one; with slurm: all)")  # fmt: skip
    where("--gpus", type=_count, default=1, help="GPUs for each run, where there are any (default: %(default)s); "
          "a cluster without: --slurm=gpus_per_node=0")  # fmt: skip
    where("--slurm", action="append", default=[], metavar="NAME=VALUE", help="parameter of submitit's executor: "
          "timeout_min, mem_gb, cpus_per_task, slurm_partition, ...; repeatable")  # fmt: skip
    listing = parser.add_argument_group("list").add_argument
    listing("--list", action="store_true", help="list all runs below WORKDIR, from an index in WORKDIR/index.sqlite")
    listing("--where", action="append", default=[], metavar="KEY=VALUE", help="of the config or the results, also with "
            "!= < <= > >= and ~ (contains); repeatable")  # fmt: skip
    listing("--sort", default="", metavar="KEY", help="-KEY: the greatest first")
    listing("--columns", default="", help="keys, separated by commas")
    listing("--csv", type=Path, help="file to write them to")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

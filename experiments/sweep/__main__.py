"""Runs an ablation: every variant of a sweep file with every seed, here or on a SLURM cluster; or lists runs.

python -m experiments.sweep experiments/sweeps/googlenet_aux.py --workdir=runs/googlenet_aux --jobs=2
python -m experiments.sweep experiments/sweeps/googlenet_aux.py:imagenet2012 --workdir=/data/aux --cluster=slurm
python -m experiments.sweep --list --workdir=runs --where='top1>0.9' --where=model.name=googlenet --csv=runs.csv
"""

import argparse
import ast
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments import cli

if TYPE_CHECKING:
    from experiments.sweep.launcher import Launcher
    from experiments.sweep.plan import Task
    from inception_jax.paths import AnyPath

_EPILOG = """
FILE is one of experiments/sweeps/, or your own like them. After its colon stands the data: embedded (default; the
images of this package, small networks, a planned sweep), cifar10, cifar100, imagenette/320px-v2, imagenet2012 (the
paper's recipe). Runs are in WORKDIR/VARIANT/SEED, each with its log.txt; those of a planned sweep in
WORKDIR/SET/VARIANT/SEED. Rerun the same command to resume: finished
runs are skipped, failed ones are run again with --retry. --config.KEY=VALUE applies to all runs. At the end the report
is written, WORKDIR/report.html, see python -m experiments.report.
"""
_SETTINGS = ("--config.", "--noconfig.")


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if a run is not finished, 2 for invalid input, 130 for Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    settings = [argument for argument in argv if argument.startswith(_SETTINGS)]
    others = [argument for argument in argv if not argument.startswith(_SETTINGS)]
    return cli.run(_parser(), lambda arguments: _run(arguments, settings), others)


def _parser() -> cli.Parser:
    parser = cli.Parser("-m experiments.sweep", __doc__, _EPILOG)
    parser.add_argument("file", nargs="?", metavar="FILE[:DATA]", help="sweep file")
    parser.add_argument(
        "--workdir", type=cli.path, required=True, help="directory of the sweep; with --list: of the runs"
    )
    what = parser.add_argument_group("runs").add_argument
    what("--config.KEY", metavar="VALUE", dest="_settings", help="value of one key of the recipe, for all runs")
    what(
        "--seeds",
        type=cli.positive,
        default=0,
        metavar="K",
        help="number of seeds, 0 to K - 1 (default: the file's; of a planned sweep: the plan's)",
    )
    what("--filter", action="append", default=[], metavar="NAME", help="runs only the runs of this name, VARIANT or "
         "VARIANT/SEED, such as 'x5*'; repeatable")  # fmt: skip
    what("--retry", action="store_true", help="run failed runs again")
    what("--dry-run", action="store_true", help="print the state and the command of each run, start nothing")
    where = parser.add_argument_group("machines").add_argument
    where("--cluster", default="local", choices=("local", "slurm"), help="where to run (default: %(default)s)")
    where("--jobs", type=cli.positive, default=0, metavar="N", help="number of concurrent runs, which divide the cores "
          "and GPUs (default: one for each GPU, or one; with slurm: all)")  # fmt: skip
    where("--gpus", type=cli.positive, default=1, help="GPUs of each run, if there are any (default: %(default)s); on "
          "a cluster without GPUs: --slurm=gpus_per_node=0")  # fmt: skip
    where("--slurm", action="append", default=[], type=_parameter, metavar="NAME=VALUE", help="parameter of submitit's "
          "executor: timeout_min, mem_gb, cpus_per_task, slurm_partition, ...; repeatable")  # fmt: skip
    group = parser.add_argument_group("list")
    parser.add_raw_csv(group)
    listing = group.add_argument
    listing("--list", action="store_true", help="list all runs below WORKDIR")
    listing("--where", action="append", default=[], metavar="KEY=VALUE", help="lists only runs with this value; KEY is "
            "of the config or the results; also != < <= > >= and ~ (contains); repeatable")  # fmt: skip
    listing("--sort", default="", metavar="KEY", help="sorts by KEY; -KEY: largest first")
    listing("--columns", default="", metavar="KEY,KEY", help="columns to show")
    listing("--csv", type=cli.path, metavar="FILE", help="writes the list to a file, too")
    return parser


def _parameter(text: str) -> tuple[str, object]:
    """'mem_gb=64' as a name and a value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} must be NAME=VALUE, such as slurm_partition=gpu")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):  # a word
        return name, value


def _run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    from inception_jax.errors import UserError

    if arguments.list == bool(arguments.file):
        raise UserError("give either a FILE or --list")
    if arguments.list:
        _list(arguments)
        return 0
    return _sweep(arguments, settings)


def _sweep(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    from experiments import report
    from experiments.sweep import bench, plan
    from inception_jax.paths import to_path
    from inception_jax.report.sweep.data import read

    directory = to_path(arguments.workdir)
    sweep, described = plan.load(arguments.file, arguments.seeds, settings)
    plan.check_directory(directory, described)
    if not sweep.base.sets:
        tasks = plan.tasks_of(sweep, directory, arguments.seeds, arguments.filter, settings)
        plan.check(tasks)
    else:
        bench.check(sweep, settings)
        if (planned := bench.read_plan(directory)) is None:
            tuning = bench.tasks_of(sweep, arguments.file, directory, bench.TUNING, arguments.filter, settings)
            if arguments.dry_run:
                return _print(arguments, directory, tuning)
            if set(_run_all(arguments, directory, described, tuning).values()) != {"finished"}:
                return 1
            planned = bench.write_plan(sweep, directory, arguments.seeds)
        described["seeds"] = list(range(planned["seeds"]))
        tasks = bench.tasks_of(sweep, arguments.file, directory, bench.TRAINING, arguments.filter, settings)
        if not arguments.filter:
            tasks += bench.evaluation_tasks(sweep, directory, planned["seeds"])
    if arguments.dry_run:
        return _print(arguments, directory, tasks)
    states = _run_all(arguments, directory, described, tasks).values()
    if "finished" in states:
        report.write(read(directory), directory / "report.html")
    return 0 if set(states) == {"finished"} else 1


def _launcher(arguments: argparse.Namespace, directory: "AnyPath", tasks: Sequence["Task"]) -> "Launcher":
    from experiments.sweep.launcher import Launcher

    return Launcher(
        tasks, directory, arguments.cluster, jobs=arguments.jobs, gpus=arguments.gpus, slurm=dict(arguments.slurm)
    )


def _print(arguments: argparse.Namespace, directory: "AnyPath", tasks: Sequence["Task"]) -> int:
    launcher = _launcher(arguments, directory, tasks)
    for task in tasks:
        print(f"# {task.name}: {launcher.state(task)}\npython {task.shown}")
    return 0


def _run_all(
    arguments: argparse.Namespace, directory: "AnyPath", described: dict, tasks: Sequence["Task"]
) -> dict[str, str]:
    """Runs the tasks that are not finished, and says what is left to do; returns their states by name."""
    from experiments.sweep import plan
    from experiments.sweep.board import Board

    launcher = _launcher(arguments, directory, tasks)
    plan.describe(directory, described)
    board = Board(tasks, directory, launcher.parallel)
    launcher.launch(arguments.retry, board)
    states = {task.name: launcher.state(task) for task in tasks}
    if set(states.values()) != {"finished"}:
        board.say(board.summary())
    if failed := [name for name, state in states.items() if state in ("failed", "damaged")]:
        board.say(f"failed, --retry runs them again: {', '.join(failed)}")
    return states


def _list(arguments: argparse.Namespace) -> None:
    from experiments.sweep.slurm import current
    from inception_jax.runs import listing

    runs = {path: current(run) for path, run in listing.find(arguments.workdir).items()}
    columns = arguments.columns.split(",") if arguments.columns else ()
    header, rows = listing.select(runs, arguments.where, arguments.sort, columns)
    if arguments.csv:
        listing.write_csv(arguments.csv, header, rows, arguments.raw_csv)
    print(listing.table(header, rows))


if __name__ == "__main__":
    sys.exit(main())

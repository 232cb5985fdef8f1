"""Trains a network, or resumes an existing run.

python main.py --config=configs/googlenet.py --workdir=/data/googlenet [--config.train.epochs=90]
"""

import argparse
import functools
import os
import sys
import threading
from typing import TYPE_CHECKING

from experiments import cli, supervisor

if TYPE_CHECKING:
    from inception_jax.report.training import Report

_PATIENCE = 5.0  # seconds that the threads of a stopped job get to end


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input, 128 + N if signal N stopped a run that can be resumed."""
    parser = cli.Parser("main.py", __doc__)
    parser.add_config()
    parser.add_argument("--workdir", required=True, help="run directory; an existing run is resumed")
    parser.add_distributed()
    return cli.run(parser, functools.partial(_train, leaves=argv is None), argv)


def _train(arguments: argparse.Namespace, leaves: bool) -> int:
    # Imported here, so that --help and errors about flags appear at once.
    import jax

    from inception_jax.report.training import Report
    from inception_jax.runtime import configure
    from inception_jax.training.loop import train_and_evaluate
    from inception_jax.training.preemption import Interrupted, Preemption

    configure(arguments.config.model.dtype)
    cli.join(arguments)
    report = Report(arguments.workdir) if arguments.config.log.report else None
    try:
        on_evaluation = report.write if report else None
        train_and_evaluate(arguments.config, arguments.workdir, exits=True, on_evaluation=on_evaluation)
        if jax.process_index() == 0:
            with Preemption(exits=True) as preemption, preemption.at_once():  # everything is saved
                _show(arguments, report)
    except Interrupted as interruption:
        print(f"{interruption}; rerun the same command to resume", file=sys.stderr)
        status = 128 + interruption.signal_number
        # Everything is written. An orderly end would wait for threads that read from a hanging file system, and crash
        # where a compilation was interrupted. But the processes of a job end together, in order.
        if leaves and jax.process_count() == 1:
            supervisor.leave(status)
        elif leaves:
            timer = threading.Timer(_PATIENCE, os._exit, [status])
            timer.daemon = True
            timer.start()
        return status
    return 0


def _show(arguments: argparse.Namespace, report: "Report | None") -> None:
    """Writes the report, if the config asks for it, and prints the results."""
    from inception_jax.console import warn
    from inception_jax.paths import to_path
    from inception_jax.report.training import facts

    config, workdir = arguments.config, to_path(arguments.workdir)
    shown = {"Experiment": f"{config.model.name} on {config.data.name}"} | facts(workdir)
    if report:
        try:
            shown["Report"] = str(report.write())
        except Exception as error:  # no failure of the report may spoil a finished run
            warn(f"{workdir / 'report.html'} is not written: {type(error).__name__}: {error}")
    shown["Workdir"] = str(workdir)
    print("\n" + "\n".join(f"  {name:<16}{value}" for name, value in shown.items()) + "\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())

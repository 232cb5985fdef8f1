"""Starts a command as several processes on this machine, as torchrun does.

python -m experiments.launch --processes=2 -- main.py --config=configs/digits.py --workdir=/tmp/digits
"""

import argparse
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import BinaryIO

from experiments import cli, supervisor
from experiments.sweep.shares import visible_gpus

_PATIENCE = 5.0  # seconds that the other processes get to end by themselves after one has failed


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or that of the first process that failed."""
    parser = cli.Parser(
        "-m experiments.launch", __doc__, "The command gets --coordinator, --num-processes, --process-id."
    )
    parser.add_argument("--processes", type=cli.positive, required=True, metavar="N", help="number of processes")
    parser.add_argument(
        "--devices",
        type=cli.positive,
        metavar="N",
        help="devices of each: GPUs (default: all, divided), or simulated ones of a CPU",
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="main.py or '-m experiments.NAME', and arguments")
    arguments, rest = _split(sys.argv[1:] if argv is None else argv)
    return cli.run(parser, _launch, [*arguments, *(["--", *rest] if rest else [])])


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    place = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:place]), list(argv[place + 1 :])


def _launch(arguments: argparse.Namespace) -> int:
    coordinator = f"127.0.0.1:{_free_port()}"
    started = []
    for index, devices in enumerate(_devices(arguments.processes, arguments.devices)):
        place = [f"--coordinator={coordinator}", f"--num-processes={arguments.processes}", f"--process-id={index}"]
        process = subprocess.Popen(
            [sys.executable, *arguments.command, *place],
            env=os.environ | devices,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        threading.Thread(target=_label, args=(index, process.stderr), daemon=True).start()
        started.append(process)

    def forward(number: int, _: object) -> None:
        for process in started:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    return _wait(started)


def _wait(started: Sequence[subprocess.Popen]) -> int:
    """Waits for all processes; returns the first exit status that is not 0."""
    failed, deadline = 0, None
    while any(process.poll() is None for process in started):
        failed = failed or next((process.returncode for process in started if process.returncode), 0)
        if failed and deadline is None:
            deadline = time.monotonic() + _PATIENCE
        if deadline is not None and time.monotonic() > deadline:
            for process in started:
                process.send_signal(supervisor.OTHER_HAS_ENDED)
            deadline = math.inf
        time.sleep(0.05)
    return failed or next((process.returncode for process in started if process.returncode), 0)


def _devices(processes: int, count: int | None) -> list[dict[str, str]]:
    """Returns the environment variables that give each process its devices."""
    from inception_jax.errors import UserError

    gpus = visible_gpus()
    if not gpus:
        return [{"JAX_NUM_CPU_DEVICES": str(count)} if count else {}] * processes
    each = count or len(gpus) // processes
    if not each or each * processes > len(gpus):
        raise UserError(f"processes={processes} with {max(1, each)} GPUs each need more than the {len(gpus)} GPUs here")
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[i * each : (i + 1) * each])} for i in range(processes)]


def _label(index: int, lines: BinaryIO) -> None:
    """Copies the standard error of a process, each line with its number."""
    for line in lines:
        os.write(2, f"[{index}] ".encode() + line)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())

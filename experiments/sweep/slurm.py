"""What SLURM says of the jobs of runs."""

import dataclasses
import functools
import subprocess
import time

from inception_jax.paths import AnyPath
from inception_jax.runs.run import Run

_SQUEUE_SECONDS = 10.0
_STATES = {
    "PENDING": "queued",
    "REQUEUED": "queued",
    "CONFIGURING": "queued",
    "RUNNING": "running",
    "COMPLETING": "running",
    "SUSPENDED": "running",
}


def current(run: Run) -> Run:
    """Returns the run with the state of its SLURM job, where its files say that one is queued or running."""
    launch = run.launch or {}
    number = launch.get("job")
    if run.state not in ("queued", "running") or run.state != launch.get("state") or not number:
        return run
    return dataclasses.replace(run, state=_STATES.get(_state(run.path, number), "interrupted"))


def _state(directory: AnyPath, number: str) -> str:
    state = _job(directory, number).state.partition(" ")[0]
    # The accounting learns of a job some time after the queue, and there are clusters without it.
    return _squeue(number, time.monotonic() // _SQUEUE_SECONDS) if state == "UNKNOWN" else state


@functools.cache  # each new object would ask the accounting at once; existing ones ask together, now and then
def _job(directory: AnyPath, number: str):
    import submitit  # not at the top: without jobs it is not needed

    return submitit.SlurmJob(directory, number)  # of which only the state is used


@functools.lru_cache(maxsize=4096)
def _squeue(number: str, _turn: float) -> str:
    query = ["squeue", "--noheader", f"--jobs={number}", "--format=%T"]
    try:
        return subprocess.run(query, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # the job has ended, for instance
        return "UNKNOWN"

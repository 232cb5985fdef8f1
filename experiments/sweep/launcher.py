"""Starts the runs of a sweep through submitit, here or on a SLURM cluster, and follows them to their ends."""

import contextlib
import importlib.util
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import submitit

from experiments.sweep import job
from experiments.sweep.board import Board
from experiments.sweep.plan import ROOT, Run, ready
from inception_jax.errors import UserError
from inception_jax.runtime import available_cores

_JOBS = ".jobs"  # where submitit keeps what it needs
_POLL_SECONDS = 0.5
_YEARS = 60 * 24 * 1000  # minutes: a local job is never too long
_STATES = {"PENDING": "queued", "RUNNING": "running", "REQUEUED": "queued", "COMPLETING": "running"}


class Launcher:
    """The runs of a sweep and their jobs.

    Attributes:
      runs: in the order in which they are started.
      directory: of the sweep, absolute.
      parallel: how many run at once; 0: as many as the cluster has room for.
    """

    def __init__(self, runs: Sequence[Run], directory: Path, cluster: str, jobs: int, gpus: int, slurm: dict[str, Any]):
        """Prepares; nothing is started.

        Args:
          runs: of the sweep.
          directory: of the sweep, absolute.
          cluster: 'local' or 'slurm'.
          jobs: how many run at once; 0: as many as there are GPUs for, or one; on a cluster: all.
          gpus: for each run.
          slurm: parameters of submitit's SLURM executor.

        Raises:
          UserError: there are not so many GPUs, or no SLURM.
        """
        self.runs, self.directory = list(runs), directory
        self._local = cluster == "local"
        self._jobs: dict[str, submitit.Job] = {}
        self._slots: dict[str, int] = {}
        folder = directory / _JOBS / "%j"
        if self._local:
            self._shares = shares(jobs, gpus)
            self.parallel = len(self._shares)
            self._executor = submitit.AutoExecutor(folder, cluster="local")
            self._executor.update_parameters(timeout_min=_YEARS)
        else:
            self.parallel = jobs
            try:
                self._executor = submitit.AutoExecutor(folder, cluster="slurm")
                self._executor.update_parameters(
                    **{"timeout_min": 24 * 60, "gpus_per_node": gpus, "slurm_job_name": directory.name} | slurm,
                    **({"slurm_array_parallelism": jobs} if jobs else {}),
                )
            except (RuntimeError, NameError, TypeError, ValueError) as error:  # no sbatch; no such parameter
                raise UserError(f"--cluster=slurm: {' '.join(str(error).split())}") from None
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

    def state(self, run: Run) -> str:
        """'waiting', 'queued', 'running', 'finished', 'failed' or 'interrupted'.

        What was finished with another command counts as waiting: main.py says what differs.
        """
        directory = self.directory / run.name
        known = job.record(directory)
        if not known or known["command"] != list(run.command):
            return "running" if job.is_alive(directory) else "waiting"
        if known["state"] not in ("running", "queued"):
            return known["state"]
        if known.get("job"):  # of SLURM's
            return _STATES.get(_slurm_state(self.directory, known["job"]), "interrupted")
        return "running" if job.is_alive(directory) else "interrupted"

    def launch(self, retry: bool, board: Board) -> None:
        """Runs all that is not finished, and returns when nothing is left to do or to wait for.

        Args:
          retry: whether failed ones are run again.
          board: shows them.

        Raises:
          KeyboardInterrupt: the local jobs were told to save their state, and have ended.
        """
        states = {run.name: self.state(run) for run in self.runs}
        waiting = [r for r in self.runs if states[r.name] in ("waiting", "interrupted", "failed" if retry else "")]
        finished = {name for name, state in states.items() if state == "finished"}
        with _terminable(), contextlib.ExitStack() as stack:
            stack.enter_context(board)
            try:
                while True:
                    startable = [r for r in ready(waiting, finished) if states[r.name] not in ("running", "queued")]
                    for run in self._submit(startable):
                        waiting.remove(run)
                        states[run.name] = "queued"
                    for run in self.runs:
                        if states[run.name] in ("running", "queued"):
                            states[run.name] = self._follow(run)
                            if states[run.name] == "finished":
                                finished.add(run.name)
                    board.show(states)
                    busy = any(state in ("running", "queued") for state in states.values())
                    if not busy and not list(ready(waiting, finished)):
                        return
                    time.sleep(_POLL_SECONDS)
            except KeyboardInterrupt:
                self._stop(board.say)
                raise

    def _submit(self, runs: Sequence[Run]) -> list[Run]:
        """Starts those that there is room for."""
        if not runs:
            return []
        if self._local:
            started = []
            free = [slot for slot in range(len(self._shares)) if slot not in self._slots.values()]
            for run, slot in zip(runs, free, strict=False):
                cores, gpus = self._shares[slot]
                with _deaf_to_interrupts():  # Ctrl-C reaches every process of the terminal; jobs are ended by us
                    self._jobs[run.name] = self._executor.submit(self._job(run, cores, gpus))
                self._slots[run.name] = slot
                started.append(run)
            return started
        with self._executor.batch():
            jobs = [self._executor.submit(self._job(run, (), ())) for run in runs]
        for run, submitted in zip(runs, jobs, strict=True):
            self._jobs[run.name] = submitted
            directory = self.directory / run.name
            directory.mkdir(parents=True, exist_ok=True)
            content = {"command": list(run.command), "job": submitted.job_id, "error": "", "seconds": 0.0}
            job.write(directory, job.record(directory) | content | {"state": "queued"})
        return list(runs)

    def _job(self, run: Run, cores: Sequence[int], gpus: Sequence[str]) -> job.Job:
        return job.Job(self.directory / run.name, ROOT, run.command, cores, gpus)

    def _follow(self, run: Run) -> str:
        """The state of a run that was started, here or by another launcher."""
        submitted = self._jobs.get(run.name)
        if submitted is None:
            return self.state(run)
        if not submitted.done():
            return "running" if job.record(self.directory / run.name).get("state") == "running" else "queued"
        self._slots.pop(run.name, None)
        del self._jobs[run.name]
        state = self.state(run)
        if state in ("waiting", "interrupted"):  # killed, for instance for want of memory; not begun again at once
            directory = self.directory / run.name
            words = job.last_words(directory / job.LOG)
            known = {"command": list(run.command), "seconds": 0.0} | job.record(directory)
            said = f"; its last line: {words}" if words else ""
            job.write(directory, known | {"state": "failed", "error": f"the process was killed{said}"})
            state = "failed"
        return state

    def _stop(self, say: Callable[[str], None]) -> None:
        if not self._local:
            say("the jobs stay in the queue; the same command follows them")
            return
        say(f"stopping {len(self._jobs)} runs, each saves its state")
        for submitted in self._jobs.values():
            if submitted._process is not None:
                submitted._process.terminate()  # which submitit passes on to the job, where `cancel` would kill it
        while self._jobs and not all(submitted.done() for submitted in self._jobs.values()):
            time.sleep(_POLL_SECONDS / 5)


def shares(jobs: int, gpus: int) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """What each of the runs at once may use: cores of the CPU (none: all) and GPUs, none of which is in two shares.

    Args:
      jobs: how many at once; 0: as many as there are GPUs for, one if there are none.
      gpus: for each run.

    Raises:
      UserError: there are too few GPUs, or cores.
    """
    devices = visible_gpus()
    count = jobs or max(1, len(devices) // gpus)
    if devices and count * gpus > len(devices):
        what = f"{count} runs at once with {gpus} each need {count * gpus} GPUs, and there are {len(devices)}"
        raise UserError(f"{what}; lower --jobs or --gpus")
    of_gpus = [tuple(devices[i * gpus : (i + 1) * gpus]) for i in range(count)]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores and count > len(cores):
        raise UserError(f"--jobs={count} is more than the {available_cores()} cores that there are")
    bounds = [len(cores) * i // count for i in range(count + 1)]
    of_cores = [tuple(cores[start:end]) if count > 1 else () for start, end in itertools.pairwise(bounds)]
    return list(zip(of_cores, of_gpus, strict=True))


def visible_gpus() -> list[str]:
    """NVIDIA's GPUs that JAX would use here, as CUDA_VISIBLE_DEVICES names them; asked without starting JAX."""
    plugin = any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
    if not plugin or os.environ.get("JAX_PLATFORMS", "cuda") not in ("", "cuda", "gpu"):
        return []
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [device for device in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if device]
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def _slurm_state(directory: Path, number: str) -> str:
    return submitit.SlurmJob(directory / _JOBS / "%j", number).state.partition(" ")[0]


@contextlib.contextmanager
def _deaf_to_interrupts():
    """A process that is started now ignores SIGINT."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def _terminable():
    """SIGTERM is as Ctrl-C."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

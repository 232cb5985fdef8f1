"""Starts the runs of a sweep through submitit, here or on a SLURM cluster, and follows them to their ends."""

import contextlib
import functools
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
_SQUEUE_SECONDS = 10.0
_STATES = {
    "PENDING": "queued",
    "REQUEUED": "queued",
    "CONFIGURING": "queued",
    "RUNNING": "running",
    "COMPLETING": "running",
    "SUSPENDED": "running",
}


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
        if self._local:
            self._shares = shares(jobs, gpus)
            self.parallel = len(self._shares)
            self._parameters = {"timeout_min": _YEARS}
        else:
            self.parallel = jobs
            self._parameters = {"timeout_min": 24 * 60, "gpus_per_node": gpus, "slurm_job_name": directory.name}
            self._parameters |= ({"slurm_array_parallelism": jobs} if jobs else {}) | slurm
            _ = self._executor  # which checks them
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

    @functools.cached_property
    def _executor(self) -> submitit.AutoExecutor:
        """Submitit's. The local one makes its directory at once, so not before something is started."""
        try:
            executor = submitit.AutoExecutor(self.directory / _JOBS / "%j", cluster="local" if self._local else "slurm")
            executor.update_parameters(**self._parameters)
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:  # no srun; no such parameter
            raise UserError(f"--cluster=slurm: {' '.join(str(error).split())}") from None
        return executor

    def state(self, run: Run) -> str:
        """'waiting', 'queued', 'running', 'finished', 'failed' or 'interrupted'.

        What was finished with another command counts as waiting: main.py says what differs.
        """
        directory = self.directory / run.name
        if job.record(directory).get("command") != list(run.command):
            return "running" if job.is_alive(directory) else "waiting"
        return state_in(directory)

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
                            if states[run.name] == "waiting":  # another command had it in work until now
                                waiting.append(run)
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
                with _undisturbed():
                    self._jobs[run.name] = self._executor.submit(self._job(run, cores, gpus))
                    self._slots[run.name] = slot
                started.append(run)
            return started
        with _undisturbed():
            try:
                with self._executor.batch():
                    jobs = [self._executor.submit(self._job(run, (), ())) for run in runs]
            except (OSError, RuntimeError) as error:  # sbatch is not there, or does not take them
                raise UserError(f"--cluster=slurm: {' '.join(str(error).split())}") from None
            for run, submitted in zip(runs, jobs, strict=True):
                self._jobs[run.name] = submitted
                self._note(run, submitted.job_id)
        return list(runs)

    def _note(self, run: Run, number: str) -> None:
        """Writes down that a run is in SLURM's queue, unless its job was quicker."""
        directory = self.directory / run.name
        directory.mkdir(parents=True, exist_ok=True)
        known = job.record(directory)
        if known.get("job") != number:
            spent = known.get("seconds", 0.0) if known.get("command") == list(run.command) else 0.0
            content = {"command": list(run.command), "job": number, "error": "", "state": "queued", "seconds": spent}
            job.write(directory, content)

    def _job(self, run: Run, cores: Sequence[int], gpus: Sequence[str]) -> job.Job:
        return job.Job(self.directory / run.name, ROOT, run.command, cores, gpus)

    def _follow(self, run: Run) -> str:
        """The state of a run that was started, here or by another launcher."""
        submitted = self._jobs.get(run.name)
        if submitted is None:
            return self.state(run)
        directory = self.directory / run.name
        if not submitted.done() or job.is_alive(directory):  # submitit's process may be killed, and the run go on
            return "running" if job.record(directory).get("state") == "running" else "queued"
        self._slots.pop(run.name, None)
        del self._jobs[run.name]
        state = self.state(run)
        known = job.record(directory)
        if state == "waiting" or (state == "interrupted" and known["state"] != "interrupted"):
            # Killed, for instance for want of memory; not begun again at once.
            known |= {"command": list(run.command), "state": "failed"}
            job.write(directory, {"seconds": 0.0} | known | {"error": job.killed(job.last_words(directory / job.LOG))})
            state = "failed"
        return state

    def _stop(self, say: Callable[[str], None]) -> None:
        if not self._local:
            say("the jobs stay in the queue; the same command follows them")
            return
        say(f"stopping {len(self._jobs)} runs, each saves its state")
        while alive := [submitted for submitted in self._jobs.values() if not submitted.done()]:
            for submitted in alive:
                if submitted._process is not None:
                    # Submitit passes it on to the job, where `cancel` would kill it; one that is just starting may miss
                    # it, so it is said until all have ended.
                    submitted._process.terminate()
            time.sleep(_POLL_SECONDS)


def state_in(directory: Path) -> str:
    """The state of the run in `directory`, whatever its command: as its run.json says, if that is still true."""
    known = job.record(directory)
    if known.get("state", "waiting") not in ("running", "queued"):
        return known.get("state", "waiting")
    if known.get("job"):  # of SLURM's
        return _STATES.get(_slurm_state(directory, known["job"]), "interrupted")
    return "running" if job.is_alive(directory) else "interrupted"


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
    if not plugin or os.environ.get("JAX_PLATFORMS", "cuda").split(",")[0] not in ("", "cuda", "gpu"):
        return []
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        devices = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        return list(itertools.takewhile(lambda device: device not in ("", "-1", "NoDevFiles"), devices))
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, encoding="utf-8", check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def _slurm_state(directory: Path, number: str) -> str:
    state = _slurm_job(directory, number).state.partition(" ")[0]
    # The accounting learns of a job some time after the queue, and there are clusters without it.
    return _squeue(number, time.monotonic() // _SQUEUE_SECONDS) if state == "UNKNOWN" else state


@functools.cache  # each new one would ask the accounting at once, those that are there ask together and now and then
def _slurm_job(directory: Path, number: str) -> submitit.SlurmJob:
    return submitit.SlurmJob(directory, number)  # of which nothing but its state is asked


@functools.lru_cache(maxsize=4096)
def _squeue(number: str, _turn: float) -> str:
    query = ["squeue", "--noheader", f"--jobs={number}", "--format=%T"]
    try:
        return subprocess.run(query, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no such job any more, for instance
        return "UNKNOWN"


@contextlib.contextmanager
def _undisturbed():
    """Ctrl-C and SIGTERM wait, so that no job is started that the launcher does not know of.

    A process that is started now has SIGINT blocked: Ctrl-C reaches every process of the terminal, and would end those
    of submitit before the run has saved its state.
    """
    came = []
    handlers = {n: signal.signal(n, lambda *_: came.append(True)) for n in (signal.SIGINT, signal.SIGTERM)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


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

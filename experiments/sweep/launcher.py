"""Starts the tasks of a sweep through submitit, here or on a SLURM cluster, and follows them to their ends."""

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit

from experiments.sweep import job
from experiments.sweep.board import Board
from experiments.sweep.plan import ROOT, Task, ready
from experiments.sweep.shares import shares
from experiments.sweep.slurm import current
from inception_jax.errors import UserError
from inception_jax.paths import AnyPath
from inception_jax.runs.run import Run, bookkeeping, is_locked, read_launch

_JOBS = ".jobs"  # where submitit keeps what it needs
_POLL_SECONDS = 0.5
_BUCKET_POLL_SECONDS = 5.0  # each look is a request for each run at work
_YEARS = 60 * 24 * 1000  # minutes: a local job is never too long
_RESUMABLE = ("waiting", "interrupted", "unfinished")


class Launcher:
    """The tasks of a sweep and their jobs.

    Attributes:
      tasks: in the order in which they are started.
      directory: directory of the sweep, absolute.
      parallel: number of concurrent runs; 0: as many as the cluster has room for.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        directory: AnyPath,
        cluster: str = "local",
        *,
        jobs: int = 0,
        gpus: int = 1,
        slurm: Mapping[str, Any] | None = None,
    ):
        """Prepares; nothing is started.

        Args:
          tasks: tasks of the sweep.
          directory: directory of the sweep, absolute.
          cluster: 'local' or 'slurm'.
          jobs: number of concurrent runs; 0: as many as there are GPUs for, or one; on a cluster: all.
          gpus: GPUs of each run.
          slurm: parameters of submitit's SLURM executor.

        Raises:
          UserError: there are too few GPUs or cores, or there is no SLURM.
        """
        self.tasks, self.directory = list(tasks), directory
        self._local = cluster == "local"
        self._poll_seconds = _POLL_SECONDS if isinstance(directory, Path) else _BUCKET_POLL_SECONDS
        self._jobs: dict[str, submitit.Job] = {}
        self._slots: dict[str, int] = {}
        if self._local:
            self._shares = shares(jobs, gpus)
            self.parallel = len(self._shares)
            self._parameters = {"timeout_min": _YEARS}
        else:
            self.parallel = jobs
            self._parameters = {"timeout_min": 24 * 60, "gpus_per_node": gpus, "slurm_job_name": directory.name}
            self._parameters |= ({"slurm_array_parallelism": jobs} if jobs else {}) | dict(slurm or {})
            _ = self._executor  # which checks them
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

    @functools.cached_property
    def _executor(self) -> submitit.AutoExecutor:
        """Submitit's executor. The local one makes its directory at once, so it is made when something is started."""
        try:
            executor = submitit.AutoExecutor(
                bookkeeping(self.directory) / _JOBS / "%j", cluster="local" if self._local else "slurm"
            )
            executor.update_parameters(**self._parameters)
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:  # no srun; no such parameter
            raise UserError(f"cluster=slurm: {' '.join(str(error).split())}") from None
        return executor

    def state(self, task: Task) -> str:
        """Returns the state of a task, see `inception_jax.runs.run.STATES`.

        A run that another command has finished is waiting: main.py says what differs.
        """
        directory = self.directory / task.name
        if read_launch(directory).get("command") != list(task.command):
            return "running" if is_locked(directory) else "waiting"
        return current(Run.read(directory, metrics_bytes=0)).state

    def launch(self, retry: bool, board: Board) -> None:
        """Runs all tasks that are not finished; returns when nothing is left to do or to wait for.

        Args:
          retry: whether failed tasks are run again.
          board: shows the states.

        Raises:
          KeyboardInterrupt: a signal came; the local jobs were told to save their state, and have ended.
        """
        states = {task.name: self.state(task) for task in self.tasks}
        wanted = (*_RESUMABLE, *(("failed", "damaged") if retry else ()))
        waiting = [task for task in self.tasks if states[task.name] in wanted]
        finished = {name for name, state in states.items() if state == "finished"}
        with _terminable(), board:
            try:
                while True:
                    startable = [t for t in ready(waiting, finished) if states[t.name] not in ("running", "queued")]
                    for task in self._submit(startable):
                        waiting.remove(task)
                        states[task.name] = "queued"
                    for task in self.tasks:
                        if states[task.name] in ("running", "queued"):
                            states[task.name] = self._follow(task)
                            if states[task.name] == "finished":
                                finished.add(task.name)
                            if states[task.name] == "waiting":  # another command worked on it until now
                                waiting.append(task)
                    board.show(states)
                    busy = any(state in ("running", "queued") for state in states.values())
                    if not busy and not list(ready(waiting, finished)):
                        return
                    time.sleep(self._poll_seconds)
            except KeyboardInterrupt:
                self._stop(board.say)
                raise

    def _submit(self, tasks: Sequence[Task]) -> list[Task]:
        """Starts the tasks that there is room for, and returns them."""
        if not tasks:
            return []
        if self._local:
            free = [slot for slot in range(len(self._shares)) if slot not in self._slots.values()]
            started = list(zip(tasks, free, strict=False))
            for task, slot in started:
                with _undisturbed():
                    self._jobs[task.name] = self._executor.submit(self._job(task, *self._shares[slot]))
                    self._slots[task.name] = slot
            return [task for task, _ in started]
        with _undisturbed():
            try:
                with self._executor.batch():
                    jobs = [self._executor.submit(self._job(task, (), ())) for task in tasks]
            except (OSError, RuntimeError) as error:  # sbatch is missing, or refuses them
                raise UserError(f"cluster=slurm: {' '.join(str(error).split())}") from None
            for task, submitted in zip(tasks, jobs, strict=True):
                self._jobs[task.name] = submitted
                self._note(task, submitted.job_id)
        return list(tasks)

    def _note(self, task: Task, number: str) -> None:
        """Writes down that a run is in SLURM's queue, unless its job was quicker."""
        directory = self.directory / task.name
        known = read_launch(directory)
        if known.get("job") != number:
            spent = known.get("seconds", 0.0) if known.get("command") == list(task.command) else 0.0
            content = {"command": list(task.command), "job": number, "error": "", "state": "queued", "seconds": spent}
            job.write(directory, content)

    def _job(self, task: Task, cores: Sequence[int], gpus: Sequence[str]) -> job.Job:
        return job.Job(self.directory / task.name, ROOT, task.command, cores, gpus)

    def _follow(self, task: Task) -> str:
        """The state of a task that was started, here or by another launcher."""
        submitted = self._jobs.get(task.name)
        if submitted is None:
            return self.state(task)
        directory = self.directory / task.name
        known = read_launch(directory)
        if not submitted.done() or is_locked(directory):  # submitit's process may be killed, and the run live on
            return "running" if known.get("state") == "running" else "queued"
        self._slots.pop(task.name, None)
        del self._jobs[task.name]
        state, known = self.state(task), read_launch(directory)
        if state == "waiting" or (state == "interrupted" and known["state"] != "interrupted"):
            # Killed, for instance for lack of memory; it is not started again at once.
            known |= {"command": list(task.command), "state": "failed"}
            error = job.killed(job.last_words(bookkeeping(directory) / job.LOG))
            job.keep_log(directory)
            job.write(directory, {"seconds": 0.0} | known | {"error": error})
            state = "failed"
        return state

    def _stop(self, say: Callable[[str], None]) -> None:
        if not self._local:
            say("the jobs stay in the queue; rerun the same command to follow them")
            return
        say(f"stopping {len(self._jobs)} runs, each saves its state; rerun the same command to resume")
        while alive := [submitted for submitted in self._jobs.values() if not submitted.done()]:
            for submitted in alive:
                if submitted._process is not None:
                    # Submitit passes it on to the job, which `cancel` would kill. A job that is just starting may miss
                    # the signal, so it is repeated until all have ended.
                    submitted._process.terminate()
            time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _undisturbed():
    """Delays Ctrl-C and SIGTERM, so that no job is started that the launcher does not know of.

    A process that is started now has SIGINT blocked: Ctrl-C reaches every process of the terminal, and would end those
    of submitit before the run has saved its state.
    """
    came: list[int] = []
    handlers = {n: signal.signal(n, lambda number, _: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt(came[0])


@contextlib.contextmanager
def _terminable():
    """Treats SIGTERM as Ctrl-C."""

    def interrupt(number: int, _: Any) -> None:
        raise KeyboardInterrupt(number)

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

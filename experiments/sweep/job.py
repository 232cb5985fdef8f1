"""One run as a job of submitit's: a process of its own, whose state is on disk whatever happens to the launcher."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import submitit

from inception_jax.paths import AnyPath, bucket_errors, read_whole, to_path, write_whole
from inception_jax.runs.run import LAUNCH, LOCK, bookkeeping, read_launch

LOG = "log.txt"


class Job:
    """Runs Python with `command` in a process of its own; its output goes to log.txt, its state to run.json.

    In a bucket log.txt appears when the process ends; until then it is in the directory of `bookkeeping`.

    SIGTERM, which ends a SLURM job, and the warning that its time is up are passed on to that process, which saves its
    state. After the warning the job is queued again.
    """

    def __init__(
        self, directory: AnyPath, root: Path, command: Sequence[str], cores: Sequence[int], gpus: Sequence[str]
    ):
        """Describes the job.

        Args:
          directory: directory of the run.
          root: working directory.
          command: arguments of Python.
          cores: CPU cores that it may use; none given: all.
          gpus: GPUs as CUDA_VISIBLE_DEVICES names them; none given: those of the environment.
        """
        self.directory, self.root, self.command = directory, root, tuple(command)
        self.cores, self.gpus = tuple(cores), tuple(gpus)
        self._process: subprocess.Popen | None = None
        self._ended = False  # it was told to end

    def __call__(self) -> int:
        """Runs it to its end and returns the exit status; 75 if another process works on this run."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which the launcher blocks
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        environment = dict(os.environ)
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        directory = to_path(self.directory)  # a bucket is prepared in each process
        here = bookkeeping(directory)
        here.mkdir(parents=True, exist_ok=True)
        with open(here / LOCK, "w", encoding="utf-8") as lock, open(here / LOG, "ab") as log:
            if not _take(lock):
                return os.EX_TEMPFAIL
            before = read_launch(directory)
            now = {"command": list(self.command), "host": socket.gethostname(), "job": _job_id(), "error": ""}
            begun, spent = time.time(), before.get("seconds", 0.0) if before.get("command") == now["command"] else 0.0
            write(directory, now | {"state": "running", "seconds": spent})
            start = log.tell()
            # A session of its own: Ctrl-C is for the launcher, which ends its jobs. The lock lives as long as it does.
            self._process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=self.root,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )
            if self._ended:  # a signal came before there was a process
                self._process.terminate()
            try:
                status = self._process.wait()
            except BaseException as error:  # submitit's: SystemExit if it has queued the job again
                state = "queued" if isinstance(error, SystemExit) and now["job"] else "interrupted"
                write(directory, now | {"state": state, "seconds": round(spent + time.time() - begun, 1)})
                keep_log(directory)
                raise
            now |= {"seconds": round(spent + time.time() - begun, 1), "status": status, "state": state_of(status)}
            if now["state"] == "failed":
                words = last_words(here / LOG, start)
                now["error"] = killed(words, -status) if status < 0 else words or f"ended with status {status}"
            keep_log(directory)
            write(directory, now)
            return status

    def _end(self, *_: Any) -> None:
        # Once: a second signal could kill the process while it saves its state.
        first, self._ended = not self._ended, True
        if first and self._process is not None:
            self._process.terminate()

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Has the state saved and asks for another turn; submitit calls it when the job's time is nearly up."""
        self._end()
        if self._process is not None:
            # Not `wait`: this is a signal handler, and the interrupted code may hold the lock that `wait` takes.
            with contextlib.suppress(ChildProcessError):  # `wait` has returned
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(Job(self.directory, self.root, self.command, self.cores, self.gpus))


def state_of(status: int) -> str:
    """Returns the state that an exit status of `main.py` or `experiments.evaluate` stands for."""
    ends = (signal.SIGINT, signal.SIGTERM)  # the latter ends Python itself until `main.py` handles it
    stopped = [128 + number for number in ends] + [-number for number in ends]
    return "finished" if status == 0 else "interrupted" if status in stopped else "failed"


def killed(words: str, number: int = 0) -> str:
    """Returns the error of a process that was killed after the line `words`, by signal `number` if it is known."""
    by = f" by signal {number} ({signal.strsignal(number)})" if number else ""
    return f"the process was killed{by}" + (f"; its last line: {words}" if words else "")


def write(directory: AnyPath, content: dict[str, Any]) -> None:
    """Writes run.json at once or not at all."""
    write_whole(directory / LAUNCH, (json.dumps(content, indent=1) + "\n").encode())


def keep_log(directory: AnyPath) -> None:
    """Adds what the log has on this machine to log.txt of a run in a bucket; other machines may have written to it."""
    part = bookkeeping(directory) / LOG
    if isinstance(directory, Path) or not part.exists():
        return
    with bucket_errors(directory):
        before = b""
        with contextlib.suppress(FileNotFoundError):
            before = read_whole(directory / LOG)
    write_whole(directory / LOG, before + part.read_bytes())
    part.write_bytes(b"")


def _take(lock: TextIO) -> bool:
    """Takes the lock unless another process has it. `is_locked` takes it for a moment, so this tries repeatedly."""
    for _ in range(20):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:  # the file system has no locks
            return True
    return False


def last_words(log: Path, start: int = 0) -> str:
    """Returns the last line of the log after byte `start` that begins with 'error:', else the last line, or ''."""
    lines = list(_lines(log, start))
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or [""])[-1]


def _lines(log: Path, start: int) -> Iterator[str]:
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - 20_000))
        for line in file.read().decode(errors="replace").splitlines():
            if line.strip():
                yield line.strip()[:500]


def _job_id() -> str:
    """The number of this SLURM job as submitit names it; '' elsewhere, even within a SLURM allocation."""
    environment = submitit.JobEnvironment() if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" else None
    return environment.job_id if environment else ""

"""Watches a process of a job with several, so that the end of another process is one line.

JAX's coordination service ends a process by a crash when another one has ended, with a stack trace that no handler in
that process can prevent. So its parent reads what it writes on standard error, and passes on all but that.
"""

import contextlib
import ctypes
import os
import re
import signal
import sys
import threading

OTHERS_ENDED = "another process of this job has ended or does not answer; rerun the same command in all processes"
OTHER_HAS_ENDED = signal.SIGUSR1  # by which `experiments.launch` tells it at once
STATUS = 1  # exit status then; 2 is for invalid input, upon which nobody should start the job again
_CRASHES = (b"coordination_service_agent.cc", b"coordination_service.cc", b"JAX distributed service detected fatal")
# What JAX raises where a collective operation finds that another process has ended.
_LOST = ("UNAVAILABLE", "Connection closed", "Connection reset", "Connection refused", "Broken pipe", "Socket closed",
    "Gloo", "NCCL", "heartbeat", "DEADLINE_EXCEEDED")  # fmt: skip
_KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def supervise() -> None:
    """Goes on in a child process; the parent waits for its end and exits with its status.

    Call it before any thread is started. SIGTERM and SIGINT to the parent reach the child, which does not outlive it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.dup2(writer, 2)
        os.close(writer)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, signal.SIGKILL)
        return
    os.close(writer)

    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    crashed = threading.Event()

    def end(*_: object) -> None:
        crashed.set()
        forward(signal.SIGKILL, None)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    signal.signal(OTHER_HAS_ENDED, end)
    relay = threading.Thread(target=_relay, args=(reader, crashed), daemon=True)
    relay.start()
    _, status = os.waitpid(child, 0)
    relay.join(2)  # its own children may hold the pipe for a moment longer
    code = os.waitstatus_to_exitcode(status)
    if crashed.is_set():
        os.write(2, f"error: {OTHERS_ENDED}\n".encode())
        code = STATUS
    elif code < 0:
        os.write(2, f"error: the process was killed by signal {-code} ({signal.strsignal(-code)})\n".encode())
        code = 128 - code
    os._exit(code)


def _relay(reader: int, crashed: threading.Event) -> None:
    """Copies lines to standard error up to the report of a crash."""
    with open(reader, "rb") as lines:
        for line in lines:
            if any(words in line for words in _CRASHES):
                crashed.set()
            if not crashed.is_set():
                os.write(2, line)


def is_about_others(error: BaseException) -> bool:
    """Whether JAX raised an error because another process has ended."""
    # A collective operation inside a compiled step raises a ValueError that begins with a status.
    is_jax = type(error).__name__ == "JaxRuntimeError" or re.match("UNKNOWN: (Gloo|NCCL)", str(error))
    return bool(is_jax) and any(words in str(error) for words in _LOST)


def leave(status: int) -> None:
    """Ends this process at once: an orderly end would wait for the other processes of the job."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

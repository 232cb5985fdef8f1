import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from experiments import cli
from inception_jax import ignored
from inception_jax.training.preemption import Interrupted, Preemption


def test_the_first_signal_is_noted_and_a_second_interrupt_stops_at_once(monkeypatch, capfd):
    exits = []
    monkeypatch.setattr(os, "_exit", exits.append)
    before = signal.getsignal(signal.SIGINT)
    with Preemption() as signals:
        assert signals.received() == 0
        signal.raise_signal(signal.SIGTERM)
        assert signals.received() == signal.SIGTERM
        signal.raise_signal(signal.SIGINT)  # the first of its kind
        assert (signals.received(), exits) == (signal.SIGINT, [])
        signal.raise_signal(signal.SIGINT)
        assert exits == [130]
    assert "stopped at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_is_raised_where_that_does_no_harm():
    with Preemption() as signals:
        with pytest.raises(Interrupted, match="^stopped by SIGTERM$"), signals.at_once():
            signal.raise_signal(signal.SIGTERM)
        signals.step = 7
        with pytest.raises(Interrupted, match="^stopped by SIGTERM after step 7, which is saved$"), signals.at_once():
            raise AssertionError  # it has come before
    with Preemption() as signals:
        with signals.at_once():
            pass
        signal.raise_signal(signal.SIGTERM)  # no more
        assert signals.received() == signal.SIGTERM
    assert not issubclass(Interrupted, Exception)  # nobody takes it for a damaged file


class Signals:
    """Sends SIGTERM when it is deleted, where Python ignores exceptions."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_python_ignores_is_repeated():
    with Preemption() as preemption, pytest.raises(Interrupted), preemption.at_once():
        Signals()
        threading.Event().wait(60)
        raise AssertionError("the signal was lost")


@pytest.mark.parametrize(
    ("arguments", "number"), [((signal.SIGTERM,), signal.SIGTERM), ((), signal.SIGINT)], ids=["cli", "python"]
)
def test_a_stop_of_a_command_that_python_ignores_is_repeated(arguments, number):
    """Python's own handler of Ctrl-C raises KeyboardInterrupt without a number."""

    class Stopped:
        def __del__(self):
            raise KeyboardInterrupt(*arguments)

    came = threading.Event()
    before = signal.signal(number, lambda *_: came.set())
    end = ignored.notice(KeyboardInterrupt, cli._repeat)
    try:
        Stopped()
        assert came.wait(60)
    finally:
        end()
        signal.signal(number, before)


def test_a_signal_that_a_library_swallows_is_raised_at_the_end_of_the_block():
    with (
        Preemption() as preemption,
        pytest.raises(Interrupted),
        preemption.at_once(),
        contextlib.suppress(Interrupted),
    ):
        signal.raise_signal(signal.SIGTERM)


def test_the_process_is_ended_where_python_does_not_come_to_the_signal():
    """Compilation, for instance, is one long call; here it waits for a lock in C."""
    code = """if True:
        import ctypes, os, signal, sys, threading
        from inception_jax.training import preemption
        preemption._PATIENCE = 0.1
        lock, libc = (ctypes.c_char * 64)(), ctypes.CDLL(None)
        libc.pthread_mutex_lock(lock)
        with preemption.Preemption(exits=True) as signals, signals.at_once(saved=sys.argv[1] == "saved"):
            signals.finish, signals.step = lambda: os.write(2, b"finished\\n"), 5
            signal.signal(signal.SIGUSR1, lambda *_: None)  # somebody else's, which ends nothing
            os.kill(os.getpid(), signal.SIGUSR1)
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
            threading.Timer(1, os.write, (2, b"waited\\n")).start()
            threading.Timer(1.1, libc.pthread_mutex_unlock, (lock,)).start()
            libc.pthread_mutex_lock(lock)
    """

    def run(argument):
        return subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=False)

    result = run("saved")
    said = "finished\nstopped by SIGTERM after step 5, which is saved; rerun the same command to resume\n"
    assert (result.returncode, result.stderr) == (128 + signal.SIGTERM, said)
    result = run("not saved")
    assert result.stderr.startswith("waited\n")
    assert "Interrupted: stopped by SIGTERM" in result.stderr

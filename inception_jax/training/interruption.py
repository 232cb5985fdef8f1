"""Stopping a run by a signal, so that nothing that is trained is lost."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

_TAKEN = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 5.0  # seconds that a compilation or a hanging file system may still take once a signal has come


class Interrupted(BaseException):
    """Training was stopped by a signal, its state is saved, and the same command resumes it.

    No Exception, like KeyboardInterrupt, so that whoever handles damaged files does not take it for damage.
    """

    def __init__(self, signal_number: int, step: int | None = None):
        after = "" if step is None else f" after step {step}, which is saved"
        super().__init__(f"stopped by {signal.Signals(signal_number).name}{after}")
        self.signal_number = signal_number


class Signals:
    """Takes SIGTERM and SIGINT while a run is going on.

    A signal is noted, so that the step in work can be finished and saved: the loop asks `received`. Where there is
    nothing to save, or nothing but waiting is going on, the run says so by `at_once`, and is left at once. A second
    SIGINT ends the process.

    Attributes:
      step: of the latest checkpoint, which the message names; None before there is one.
      finish: brings to its end what is being written; called, from a thread, before the process is ended.
    """

    def __init__(self, exits: bool = False):
        """Takes no signal yet.

        Args:
          exits: whether the process may be ended where it does not come back in time from what Python cannot
            interrupt, such as a compilation; else that is waited for.
        """
        self.step: int | None = None
        self.finish: Callable[[], None] = lambda: None
        self._exits = exits
        self._number = 0
        self._at_once = self._saved = False
        self._restore = contextlib.ExitStack()

    def __enter__(self):
        # Several processes must stop after the same step, see `received`; elsewhere than in the main thread the caller
        # handles signals.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in _TAKEN:
                self._restore.callback(signal.signal, number, signal.signal(number, self._note))
            if self._exits:
                self._watch()
        return self

    def __exit__(self, *exception):
        self._restore.close()

    @contextlib.contextmanager
    def at_once(self, saved: bool = True) -> Iterator[None]:
        """While this is entered, a signal raises Interrupted, wherever the main thread is.

        Args:
          saved: whether there is nothing to save, so that the process may be ended.
        """
        try:
            self._at_once, self._saved = True, saved  # first, so that no signal is noted and then not seen
            if self._number:
                raise Interrupted(self._number, self.step)
            yield
        finally:
            self._at_once = self._saved = False

    def received(self, step: int) -> int:
        """Number of the signal that came, 0 if none did; asked after each step.

        Several processes must stop after the same step: JAX's own service notices SIGTERM in any of them and agrees on
        the step.
        """
        if jax.process_count() == 1:
            return self._number
        return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else 0

    def _note(self, number, _):
        if self._number == number == signal.SIGINT:
            # No exception: it could be raised anywhere. A checkpoint that is being written is renamed when it is whole.
            _exit(number, "stopped at once")
        self._number = number
        if self._at_once:
            raise Interrupted(number, self.step)

    def _watch(self):
        """Ends the process where the handler above cannot run, because Python does not come to it."""
        reader, writer = os.pipe()  # gets the numbers of signals at once, whatever the main thread does
        os.set_blocking(writer, False)
        self._restore.callback(os.close, writer)
        self._restore.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer))

        def watch():
            with open(reader, "rb", buffering=0) as numbers:
                while number := numbers.read(1):
                    if number[0] not in _TAKEN:  # somebody else's
                        continue
                    time.sleep(_PATIENCE)
                    if self._saved:
                        self.finish()
                        _exit(number[0], str(Interrupted(number[0], self.step)))

        threading.Thread(target=watch, daemon=True).start()


def _exit(number: int, said: str):
    sys.stdout.flush()
    os.write(2, f"{said}; the same command resumes the run\n".encode())
    os._exit(128 + number)

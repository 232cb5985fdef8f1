"""Stops a run at a signal without losing its training."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

from inception_jax import ignored

T = TypeVar("T")

_TAKEN = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 5.0  # seconds that a compilation or a hanging file system may still take after a signal


class Interrupted(BaseException):
    """Training was stopped by a signal; its state is saved, and the same command resumes it.

    Like KeyboardInterrupt it is not an Exception, so that code that handles damaged files does not catch it.
    """

    def __init__(self, signal_number: int, step: int | None = None):
        after = "" if step is None else f" after step {step}, which is saved"
        super().__init__(f"stopped by {signal.Signals(signal_number).name}{after}")
        self.signal_number = signal_number


class Preemption:
    """Takes SIGTERM and SIGINT while a run is active.

    A signal is noted, so that the current step can be finished and saved: the loop asks `received`. Where the run has
    nothing to save or only waits, it uses `at_once`, and a signal stops it immediately. A second SIGINT ends the
    process.

    Attributes:
      step: step of the latest checkpoint, for the message; None if there is no checkpoint.
      finish: waits until pending files are written; called from a thread before the process is ended.
    """

    def __init__(self, exits: bool = False):
        """Prepares; signals are taken only inside the `with` block.

        Args:
          exits: whether the process may be ended if it takes too long in code that Python cannot interrupt, such as a
            compilation. Otherwise the run waits for that code.
        """
        self.step: int | None = None
        self.finish: Callable[[], None] = lambda: None
        self._exits = exits
        self._number = self._calls = 0
        self._at_once = self._saved = self._repeated = False
        self._restore = contextlib.ExitStack()

    def __enter__(self):
        if threading.current_thread() is not threading.main_thread():  # the caller handles signals
            return self
        if jax.process_count() > 1:  # see `received`
            self._restore.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, request_stop))
            return self
        for number in _TAKEN:
            self._restore.callback(signal.signal, number, signal.signal(number, self._note))
        self._restore.callback(ignored.notice(Interrupted, self._repeat))
        if self._exits:
            self._watch()
        return self

    def __exit__(self, *exception):
        self._restore.close()

    @contextlib.contextmanager
    def at_once(self, saved: bool = True) -> Iterator[None]:
        """Lets a signal raise Interrupted immediately, wherever the main thread is.

        Args:
          saved: whether there is nothing left to save, so that the process may be ended.
        """
        try:
            self._at_once, self._saved = True, saved  # first, so that no signal is noted but missed
            self.check()
            yield
            self.check()  # a library may have swallowed the exception
        finally:
            self._at_once = self._saved = False

    def check(self) -> None:
        """Raises Interrupted if a signal came. Several processes do not stop here, see `received`."""
        if self._number:
            raise Interrupted(self._number, self.step)

    def received(self) -> int:
        """Returns the number of the signal that came, 0 if none did.

        Several processes must stop at the same point. So all call this equally often, after each step and each batch of
        an evaluation. JAX's own service notices SIGTERM in any of them, and agrees with the others on a later call.
        """
        if jax.process_count() == 1:
            return self._number
        self._calls += 1
        return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(self._calls) else 0

    def stoppable(self, batches: Iterable[T]) -> Iterator[T]:
        """Yields the batches of an evaluation; several processes raise Interrupted after the same one.

        A single process uses `at_once`.
        """
        for batch in batches:
            yield batch
            if jax.process_count() > 1 and (number := self.received()):
                raise Interrupted(number, self.step)

    def _note(self, number, _):
        if self._number == number == signal.SIGINT and not self._repeated:
            # No exception, because it could be raised anywhere. A checkpoint gets its name only when it is complete.
            _exit(number, "stopped at once")
        self._number, self._repeated = number, False
        if self._at_once:
            raise Interrupted(number, self.step)

    def _repeat(self, interruption: Interrupted) -> None:
        self._repeated = True
        os.kill(os.getpid(), interruption.signal_number)

    def _watch(self):
        """Ends the process if the handler above cannot run, because Python does not get to it."""
        reader, writer = os.pipe()  # receives signal numbers at once, whatever the main thread does
        os.set_blocking(writer, False)
        self._restore.callback(os.close, writer)
        self._restore.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer))

        def watch():
            with open(reader, "rb", buffering=0) as numbers:
                while number := numbers.read(1):
                    if number[0] not in _TAKEN:  # not one of these
                        continue
                    time.sleep(_PATIENCE)
                    if self._saved:
                        self.finish()
                        _exit(number[0], str(Interrupted(number[0], self.step)))

        threading.Thread(target=watch, daemon=True).start()


def request_stop(*_) -> None:
    """Has all processes of the job stop at the same point, as SIGTERM does."""
    os.kill(os.getpid(), signal.SIGTERM)


def _exit(number: int, said: str):
    sys.stdout.flush()
    os.write(2, f"{said}; rerun the same command to resume\n".encode())
    os._exit(128 + number)

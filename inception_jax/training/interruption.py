"""Stopping a run by a signal."""

import contextlib
import os
import signal

import jax
from jax.experimental import multihost_utils


class Interrupted(Exception):
    """Training was stopped by a signal, and its state is saved; the same command goes on."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}, which is saved")
        self.signal_number = signal_number


class Signals:
    """Notes SIGTERM and SIGINT, so that the step in work can be finished and saved. A second SIGINT stops at once."""

    def __init__(self):
        self._number = 0
        self._previous = {}

    def __enter__(self):
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(ValueError):  # not in the main thread: the caller handles signals
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        if self._number == number == signal.SIGINT:
            # No exception: it could be raised anywhere. A checkpoint that is being written is renamed when it is whole.
            os.write(2, b"stopped at once; the same command goes on from the last checkpoint\n")
            os._exit(128 + number)
        self._number = number

    def received(self, step: int | None) -> int:
        """Number of the signal that came, 0 if none did.

        Several processes must stop after the same step: JAX's own service notices SIGTERM in any of them and agrees on
        the step. It is asked at steps alone (`step` is not None).
        """
        if jax.process_count() == 1:
            return self._number
        if step is not None and multihost_utils.reached_preemption_sync_point(step):
            return signal.SIGTERM
        return 0

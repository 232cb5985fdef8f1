"""Metrics of training steps, summed on the device."""

import collections
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.training.nonfinite import NonFiniteError

_IN_FLIGHT = 2  # running steps; more would only keep the memory of their batches
_FLAGS = ("skipped", "failed")


class MetricAccumulator:
    """Sums the metrics of steps on the device and fetches only the sums, so that no step waits for its metrics."""

    def __init__(self, step: int, window: dict[str, Any] | None = None):
        """Starts after `step` finished steps; `window` is the result of `check` after the same step."""
        count = window["count"] if window else 0
        self._step = step - count
        self._totals: Any = None  # see `_sum`; None: no step yet
        if window and count:
            sums = {name: np.float32(value) for name, value in window["sums"].items()}
            self._totals = {name: np.int32(window.get(name, 0)) for name in ("count", "skipped", "failed")}
            self._totals |= {"sums": sums, "learning_rate": sums["learning_rate"], "at_failure": sums}
        self._in_flight: collections.deque = collections.deque()

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Adds the metrics of the next step; waits until at most two steps are still running."""
        self._totals = _first(metrics) if self._totals is None else _add(self._totals, metrics)
        self._in_flight.append(self._totals["count"])
        if len(self._in_flight) > _IN_FLIGHT:
            self._in_flight.popleft().block_until_ready()

    def check(self) -> dict[str, Any]:
        """Waits for all steps; returns their number and sums since the last reading, in JSON's types.

        With these a resumed run continues the window, so that its row of metrics is that of an uninterrupted run.

        Raises:
          NonFiniteError: the run has failed, see `step.make_train_step`; it has the number and the metrics of the step.
        """
        totals = self._fetch()
        if not totals:
            return {}
        sums = {name: float(total) for name, total in totals["sums"].items()}
        return {"count": int(totals["count"]), "skipped": int(totals["skipped"]), "sums": sums}

    def read(self) -> dict[str, float]:
        """Returns the means since the last reading, and the latest learning rate; then starts a new reading.

        Skipped steps do not count; their number is 'skipped'. If all were skipped, the means are NaN.

        Raises:
          NonFiniteError: see `check`.
        """
        totals = self._fetch()
        count, skipped = int(totals["count"]), int(totals["skipped"])
        self._step += count
        self._totals = None
        finite = count - skipped
        means = {name: float(total) / finite if finite else float("nan") for name, total in totals["sums"].items()}
        return means | {"learning_rate": float(totals["learning_rate"]), "skipped": skipped}

    def _fetch(self) -> dict:
        if self._totals is None:
            return {}
        totals = jax.device_get(self._totals)
        self._in_flight.clear()
        if totals["failed"]:
            values = {name: float(value) for name, value in totals["at_failure"].items()}
            raise NonFiniteError(self._step + int(totals["failed"]), values)
        return totals


@jax.jit
def _first(metrics):
    zeros = {name: jnp.int32(0) for name in ("count", "skipped", "failed")}
    values = {name: jnp.zeros_like(value) for name, value in metrics.items() if name not in _FLAGS}
    return _sum(zeros | {"sums": values, "at_failure": values}, metrics)


@jax.jit
def _add(totals, metrics):
    return _sum(totals, metrics)


def _sum(totals, metrics):
    """Adds a step; 'failed' is the number of the step at which the run failed, 'at_failure' its metrics."""
    count = totals["count"] + 1
    values = {name: value for name, value in metrics.items() if name not in _FLAGS}
    fails = metrics["failed"] & (totals["failed"] == 0)
    return {
        "count": count,
        "skipped": totals["skipped"] + metrics["skipped"],
        "sums": jax.tree.map(lambda sum, x: jnp.where(metrics["skipped"], sum, sum + x), totals["sums"], values),
        "learning_rate": metrics["learning_rate"],
        "failed": jnp.where(fails, count, totals["failed"]),
        "at_failure": jax.tree.map(lambda old, new: jnp.where(fails, new, old), totals["at_failure"], values),
    }

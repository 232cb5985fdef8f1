"""Metrics of training steps, summed on the device."""

import collections
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.errors import UserError

_IN_FLIGHT = 2  # running steps; more would only keep the memory of their batches
_CHECKED = ("loss", "grad_norm")


class MetricAccumulator:
    """Sums the metrics of steps on the device and fetches only the sums, so that no step waits for its metrics."""

    def __init__(self, step: int, window: dict[str, Any] | None = None):
        """Starts after `step` finished steps; `window` is the result of `check` after the same step."""
        count = window["count"] if window else 0
        self._step = step - count
        self._totals: Any = None  # see `_sum`; None: no step yet
        if window and count:
            sums = {name: np.float32(value) for name, value in window["sums"].items()}
            bad = {name: np.float32(0) for name in _CHECKED}
            self._totals = {"count": np.int32(count), "sums": sums, "last": sums, "first_bad": np.int32(0), "bad": bad}
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
          UserError: a loss or gradient was not finite; the message names the first such step.
        """
        totals = self._fetch()
        if not totals:
            return {}
        sums = {name: float(total) for name, total in totals["sums"].items()}
        return {"count": int(totals["count"]), "sums": sums}

    def read(self) -> dict[str, float]:
        """Returns the means since the last reading, and the latest learning rate; then starts a new reading.

        Raises:
          UserError: see `check`.
        """
        totals = self._fetch()
        count = int(totals["count"])
        self._step += count
        self._totals = None
        means = {name: float(total) / count for name, total in totals["sums"].items()}
        return means | {"learning_rate": float(totals["last"]["learning_rate"])}

    def _fetch(self) -> dict:
        if self._totals is None:
            return {}
        totals = jax.device_get(self._totals)
        self._in_flight.clear()
        if totals["first_bad"]:
            step = self._step + int(totals["first_bad"])
            name, value = next((n, v) for n in _CHECKED if not math.isfinite(v := float(totals["bad"][n])))
            raise UserError(
                f"{name} is {value} at step {step}; no checkpoint from before it is lost. Lower "
                "config.schedule.base_lr, lengthen config.schedule.warmup or set config.optimizer.clip_norm, "
                "with a new workdir"
            )
        return totals


@jax.jit
def _first(metrics):
    zeros = {"count": jnp.int32(0), "first_bad": jnp.int32(0)}
    zeros |= {"sums": jax.tree.map(jnp.zeros_like, metrics), "bad": {name: jnp.float32(0) for name in _CHECKED}}
    return _sum(zeros, metrics)


@jax.jit
def _add(totals, metrics):
    return _sum(totals, metrics)


def _sum(totals, metrics):
    """Adds a step; 'first_bad' is the number of the first step with a value that is not finite, 'bad' its values."""
    count = totals["count"] + 1
    checked = {name: metrics[name] for name in _CHECKED}
    is_bad = ~jnp.all(jnp.array([jnp.isfinite(value) for value in checked.values()]))
    is_first = is_bad & (totals["first_bad"] == 0)
    return {
        "count": count,
        "sums": jax.tree.map(jnp.add, totals["sums"], metrics),
        "last": metrics,
        "first_bad": jnp.where(is_first, count, totals["first_bad"]),
        "bad": jax.tree.map(lambda old, new: jnp.where(is_first, new, old), totals["bad"], checked),
    }

"""Converts durations to steps, and builds learning-rate schedules."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import optax

from inception_jax.config import UNITS, parse_duration
from inception_jax.errors import UserError, check_choice

SCHEDULES = ("constant", "exponential", "piecewise", "poly", "cosine", "plateau")
_MOST_STEPS = 2**31 - 1  # they are counted in int32


@dataclasses.dataclass(frozen=True)
class Clock:
    """Converts durations into steps for one batch size and one training set."""

    batch_size: int
    examples_per_epoch: int

    def examples(self, duration: str) -> float:
        """Converts a duration to a number of examples, see `parse_duration`."""
        amount, unit = parse_duration(duration)
        return amount * {"step": self.batch_size, "epoch": self.examples_per_epoch, "example": 1}[unit]

    def steps(self, duration: str) -> int:
        """Converts a duration to steps, rounded to the nearest step."""
        return round(self.examples(duration) / self.batch_size)

    def epochs(self, step: int) -> float:
        """Converts `step` steps to epochs."""
        return step * self.batch_size / self.examples_per_epoch

    def due(self, step: int, every: str) -> bool:
        """Whether an interval of length `every` ends with this step; False at step 0.

        An interval ends with the step that processes its last example. So '1 epoch' stays in step with the epochs, even
        if an epoch is not a whole number of steps. An interval shorter than a step ends with every step.
        """
        interval = max(self.examples(every), self.batch_size)
        return step > 0 and step * self.batch_size // interval > (step - 1) * self.batch_size // interval

    def total_steps(self, steps: int, epochs: float, examples: int) -> int:
        """Returns the length of training in steps; it is given in one of three units, the other two are 0."""
        given = {unit: n for unit, n in zip(UNITS, (steps, epochs, examples), strict=True) if n}
        if len(given) != 1:
            listed = " and ".join(f"{unit}={n:g}" for unit, n in given.items()) or "none"
            raise UserError(
                f"exactly one of steps, epochs, examples says how long to train, here {listed}; set the others to 0"
            )
        [(unit, amount)] = given.items()
        total = self.steps(f"{amount} {unit}")
        if total < 1:
            raise UserError(f"{unit}={amount:g} is less than one step of {self.batch_size} images")
        if total > _MOST_STEPS:
            raise UserError(f"{unit}={amount:g} is more than {_MOST_STEPS} steps")
        return total


def make_schedule(
    clock: Clock,
    total_steps: int,
    *,
    name: str,
    base_lr: float,
    base_batch_size: int,
    warmup: str,
    every: str,
    rate: float,
    power: float,
    boundaries: tuple[str, ...],
    patience: int,  # noqa: ARG001 - see `make_plateau`
    end_lr: float,
) -> optax.Schedule:
    """Returns the learning rate as a function of the step.

    Args:
      clock: converts durations.
      total_steps: length of training, warm-up included.
      name: 'constant'; 'exponential': multiplied by `rate` at the end of each `every`, a staircase (GoogLeNet, section
        6: 0.96 every 8 epochs); 'piecewise': multiplied by `rate` at each of `boundaries`; 'poly':
        base_lr * (1 - step / total) ^ power (Caffe's quick solver: power 0.5); 'cosine': half a cosine. The last two
        reach `end_lr` at the end of training. 'plateau': like 'constant', but multiplied by the scale of `Plateau`.
      base_lr: learning rate after the warm-up.
      base_batch_size: batch size that base_lr and end_lr are for; with another batch size they are scaled linearly
        (Goyal et al. 2017, https://arxiv.org/abs/1706.02677). 0: no scaling.
      warmup: duration of a linear rise from 0. It does not shift the schedule, except that 'poly' and 'cosine' start
        to fall at its end.
      every: see 'exponential'.
      rate: see 'exponential' and 'piecewise'.
      power: see 'poly'.
      boundaries: durations from the start of training, see 'piecewise'.
      patience: see `Plateau`.
      end_lr: see 'poly' and 'cosine'.

    Raises:
      UserError: there is no such schedule, or a duration does not fit the length of training.
    """
    check_choice("name", name, SCHEDULES)
    scale = clock.batch_size / base_batch_size if base_batch_size else 1
    base_lr, end_lr = base_lr * scale, end_lr * scale
    warmup_steps = clock.steps(warmup)
    if warmup_steps >= total_steps:
        raise UserError(f"warmup={warmup!r} is {warmup_steps} steps, training only {total_steps}")
    remaining = total_steps - warmup_steps
    match name:
        case "constant" | "plateau":
            schedule = optax.constant_schedule(base_lr)
        case "exponential":
            interval = clock.steps(every)
            if interval < 1:
                raise UserError(f"every={every!r} is less than one step")
            # A very long interval would overflow int32.
            schedule = optax.exponential_decay(base_lr, min(interval, total_steps + 1), rate, staircase=True)
        case "piecewise":
            steps = [clock.steps(boundary) for boundary in boundaries]
            if 0 in steps or len(set(steps)) < len(steps):
                raise UserError(
                    f"boundaries={tuple(boundaries)!r} are the steps {', '.join(map(str, steps))}; they must differ, "
                    "and come after the first step"
                )
            schedule = optax.piecewise_constant_schedule(base_lr, {s: rate for s in steps if s <= total_steps})
        case "poly":
            schedule = optax.polynomial_schedule(base_lr, end_lr, power, remaining)
        case "cosine":
            # alpha: the final value as a fraction of the initial one
            schedule = optax.cosine_decay_schedule(base_lr, remaining, alpha=end_lr / base_lr)
    if not warmup_steps:
        return schedule
    rise = optax.linear_schedule(0.0, base_lr, warmup_steps)
    after = schedule if name in ("poly", "cosine") else (lambda step: schedule(step + warmup_steps))
    return optax.join_schedules([rise, after], [warmup_steps])


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Lowers the learning rate when evaluations stop improving, as in AlexNet (section 5) and VGG (section 3.1).

    Its state is part of the training state, a dict of scalars: 'scale', float32, factor on the learning rate; 'best',
    float32, highest score so far; 'waited', int32, number of evaluations since then.

    Attributes:
      rate: factor by which the scale is multiplied.
      patience: number of successive evaluations without a better score before that.
      least: lowest scale.
    """

    rate: float
    patience: int
    least: float

    def start(self) -> dict[str, np.generic]:
        """Returns the state before the first evaluation."""
        return {"scale": np.float32(1), "best": np.float32(-1), "waited": np.int32(0)}

    def after(self, state: Mapping[str, Any], score: float) -> dict[str, np.generic]:
        """Returns the state after an evaluation with the result `score`: top-1, or of boxes their accuracy."""
        if np.float32(score) > state["best"]:
            return {"scale": np.float32(state["scale"]), "best": np.float32(score), "waited": np.int32(0)}
        waited, scale = int(state["waited"]) + 1, float(state["scale"])
        if waited >= self.patience:
            waited, scale = 0, max(scale * self.rate, self.least)
        return {"scale": np.float32(scale), "best": np.float32(state["best"]), "waited": np.int32(waited)}


def make_plateau(*, name: str, base_lr: float, rate: float, patience: int, end_lr: float, **_) -> Plateau | None:
    """Returns the `Plateau` of the schedule 'plateau', None for others; takes the arguments of `make_schedule`.

    Raises:
      UserError: the rate would not lower the learning rate.
    """
    if name != "plateau":
        return None
    if rate >= 1:
        raise UserError(f"rate={rate} must be below 1 for a plateau")
    return Plateau(rate, patience, end_lr / base_lr)

"""Durations and learning-rate schedules."""

import dataclasses
import re

import numpy as np
import optax

from inception_jax.errors import UserError

UNITS = ("steps", "epochs", "examples")
SCHEDULES = ("constant", "exponential", "piecewise", "poly", "cosine", "plateau")
_MOST_STEPS = 2**31 - 1  # they are counted in int32


def parse_duration(duration: str, name: str = "a duration") -> tuple[float, str]:
    """Returns amount and unit ('step', 'epoch', 'example') of '500 steps', '8 Epochs' or '10000 examples'.

    Raises:
      UserError: it is none of these; the message calls it `name`.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*(?:e[+-]?\d+)?)\s*(step|epoch|example)s?\s*", str(duration).lower())
    if match is None:
        raise UserError(f"{name}={duration!r} is no duration; write '500 steps', '8 epochs' or '10000 examples'")
    return float(match[1]), match[2]


@dataclasses.dataclass(frozen=True)
class Clock:
    """Converts durations into steps for one batch size and one training set."""

    batch_size: int
    examples_per_epoch: int

    def examples(self, duration: str) -> float:
        """Number of examples of a duration, see `parse_duration`."""
        amount, unit = parse_duration(duration)
        return amount * {"step": self.batch_size, "epoch": self.examples_per_epoch, "example": 1}[unit]

    def steps(self, duration: str) -> int:
        """`duration` in steps, rounded to the nearest one."""
        return round(self.examples(duration) / self.batch_size)

    def epochs(self, step: int) -> float:
        """Number of epochs that `step` steps are."""
        return step * self.batch_size / self.examples_per_epoch

    def due(self, step: int, every: str) -> bool:
        """Whether one more `every` is full after `step` steps than after the step before; never at step 0.

        A step is due at the first moment at which the examples are seen, so that 'every 1 epoch' stays with the epochs
        however many steps they have. An interval of less than a step is due at each.
        """
        interval = max(self.examples(every), self.batch_size)
        return step > 0 and step * self.batch_size // interval > (step - 1) * self.batch_size // interval

    def total_steps(self, steps: int, epochs: float, examples: int) -> int:
        """The length of training, given in one of three units; the other two are 0."""
        given = {unit: n for unit, n in zip(UNITS, (steps, epochs, examples), strict=True) if n}
        if len(given) != 1:
            listed = " and ".join(f"{unit}={n:g}" for unit, n in given.items()) or "none"
            raise UserError(
                f"config.train: exactly one of steps, epochs, examples says how long to train, here {listed}; "
                "set the others to 0"
            )
        [(unit, amount)] = given.items()
        total = self.steps(f"{amount} {unit}")
        if total < 1:
            raise UserError(f"config.train.{unit}={amount:g} is less than one step of {self.batch_size} images")
        if total > _MOST_STEPS:
            raise UserError(f"config.train.{unit}={amount:g} is more steps than can be counted, {_MOST_STEPS}")
        return total


def make_schedule(
    clock: Clock,
    total_steps: int,
    *,
    name: str,
    base_lr: float,
    scale_from: int = 0,
    warmup: str = "0 steps",
    every: str = "8 epochs",
    rate: float = 0.96,
    power: float = 0.5,
    boundaries: tuple[str, ...] = (),
    patience: int = 3,  # noqa: ARG001 - of `make_plateau`
    end_lr: float = 0.0,
) -> optax.Schedule:
    """Returns the learning rate as a function of the step.

    Args:
      clock: converts durations.
      total_steps: length of training, warm-up included.
      name: 'constant'; 'exponential': times `rate` at the end of each `every`, a staircase (GoogLeNet, section 6:
        0.96 every 8 epochs); 'piecewise': times `rate` at each of `boundaries`; 'poly':
        base_lr * (1 - step / total) ^ power (Caffe's quick solver: power 0.5); 'cosine': half a cosine. The last two
        end at `end_lr`, at the end of training. 'plateau': as 'constant', times the scale of `Plateau`.
      base_lr: the rate at the start, after the warm-up.
      scale_from: the batch size for which base_lr and end_lr are given; for another they grow linearly with it (Goyal
        et al. 2017, https://arxiv.org/abs/1706.02677). 0: they are taken as they are.
      warmup: duration of a linear rise from 0; the schedule proper is not shifted by it, except that 'poly' and
        'cosine' begin their fall at its end.
      every: see 'exponential'.
      rate: see 'exponential' and 'piecewise'.
      power: see 'poly'.
      boundaries: durations from the start of training, see 'piecewise'.
      patience: see `Plateau`.
      end_lr: see 'poly' and 'cosine'.
    """
    base_lr, end_lr = _scaled(clock, scale_from, base_lr, end_lr)
    warmup_steps = clock.steps(warmup)
    if warmup_steps >= total_steps:
        raise UserError(f"config.schedule.warmup={warmup!r} is {warmup_steps} steps, training only {total_steps}")
    remaining = total_steps - warmup_steps
    shifted = False
    match name:
        case "constant" | "plateau":
            schedule = optax.constant_schedule(base_lr)
        case "exponential":
            interval = clock.steps(every)
            if interval < 1:
                raise UserError(f"config.schedule.every={every!r} is less than one step")
            # An interval without an end does not fit into int32.
            schedule = optax.exponential_decay(base_lr, min(interval, total_steps + 1), rate, staircase=True)
        case "piecewise":
            steps = [clock.steps(boundary) for boundary in boundaries]
            if 0 in steps or len(set(steps)) < len(steps):
                raise UserError(
                    f"config.schedule.boundaries={tuple(boundaries)!r} are the steps {', '.join(map(str, steps))}; "
                    "they must differ, and come after the first step"
                )
            falls = {step: rate for step in steps if step <= total_steps}
            schedule = optax.piecewise_constant_schedule(base_lr, falls)
        case "poly":
            schedule, shifted = optax.polynomial_schedule(base_lr, end_lr, power, remaining), True
        case "cosine":
            # optax's cosine ends at a share of the initial value
            schedule, shifted = optax.cosine_decay_schedule(base_lr, remaining, alpha=end_lr / base_lr), True
        case _:
            raise UserError(f"config.schedule.name={name!r} is not one of {', '.join(SCHEDULES)}")
    if not warmup_steps:
        return schedule
    rise = optax.linear_schedule(0.0, base_lr, warmup_steps)
    after = schedule if shifted else (lambda step: schedule(step + warmup_steps))
    return optax.join_schedules([rise, after], [warmup_steps])


def _scaled(clock: Clock, scale_from: int, *rates: float) -> list[float]:
    factor = clock.batch_size / scale_from if scale_from else 1
    return [rate * factor for rate in rates]


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Lowers the learning rate when evaluations get no better, as AlexNet (section 5) and VGG (section 3.1) say.

    Its state is {'scale': float32, factor on the learning rate; 'best': float32, the highest top-1 so far; 'waited':
    int32, evaluations since}, scalars, and part of the state of training.

    Attributes:
      rate: factor on the scale.
      patience: number of evaluations in a row without a better top-1 after which it is applied.
      least: the scale goes no lower.
    """

    rate: float
    patience: int
    least: float

    def start(self) -> dict[str, np.ndarray]:
        """The state before the first evaluation."""
        return {"scale": np.float32(1), "best": np.float32(-1), "waited": np.int32(0)}

    def after(self, state: dict[str, np.ndarray], top1: float) -> dict[str, np.ndarray]:
        """The state after an evaluation that gave `top1`."""
        top1 = np.float32(top1)
        if top1 > state["best"]:
            return {"scale": np.float32(state["scale"]), "best": top1, "waited": np.int32(0)}
        waited, scale = int(state["waited"]) + 1, float(state["scale"])
        if waited >= self.patience:
            waited, scale = 0, max(scale * self.rate, self.least)
        return {"scale": np.float32(scale), "best": np.float32(state["best"]), "waited": np.int32(waited)}


def make_plateau(
    *, name: str, base_lr: float, rate: float = 0.1, patience: int = 3, end_lr: float = 0.0, **_
) -> Plateau | None:
    """The plateau of a schedule of that name, else None; the arguments are those of `make_schedule`."""
    if name != "plateau":
        return None
    if rate >= 1:
        raise UserError(f"config.schedule.rate={rate} must be below 1 for a plateau")
    return Plateau(rate, patience, end_lr / base_lr)

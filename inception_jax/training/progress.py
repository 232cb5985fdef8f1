"""What a person sees of a run: a live bar on a terminal, plain lines elsewhere."""

import itertools
import sys
import time

import jax
from tqdm import tqdm


class Progress:
    """Shows how far training, or evaluation, has come on standard error; silent on all processes but the first."""

    def __init__(self, unit: str = "step"):
        self._unit = unit
        self._shown = jax.process_index() == 0
        self._bar = None

    def start(self, step: int, total_steps: int) -> None:
        """Begins with `step` of `total_steps` done."""
        if self._shown and sys.stderr.isatty():
            form = f"{{percentage:3.0f}}%|{{bar:20}}| {self._unit} {{n_fmt}}/{{total_fmt}}{{postfix}}"
            self._bar = tqdm(total=total_steps, initial=step, bar_format=form, dynamic_ncols=True)

    def advance(self, step: int) -> None:
        """Moves the bar to `step`."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def report(self, step: int, total_steps: int, values: dict[str, str]) -> None:
        """Shows values beside the bar, or as a line of their own."""
        text = "  ".join(f"{name} {value}" for name, value in values.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            self.say(f"{self._unit} {step}/{total_steps}  {text}")

    def say(self, text: str) -> None:
        """Prints a line."""
        if self._shown:
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Stopwatch:
    """Training speed over the time since the last reading; evaluation and compilation are not counted."""

    def __init__(self):
        self.total_seconds, self.total_examples = 0.0, 0
        self.reset()

    def reset(self) -> None:
        """Begins a new reading."""
        self._start, self._waited, self._examples = time.perf_counter(), 0.0, 0

    def wait(self, iterator):
        """Returns the next item, and counts the time until it was there as waiting."""
        before = time.perf_counter()
        item = next(iterator)
        self._waited += time.perf_counter() - before
        return item

    def count(self, examples: int) -> None:
        """Counts finished examples."""
        self._examples += examples

    def read(self) -> tuple[float, float]:
        """Returns examples per second and the share of time spent waiting since the last reading; begins anew."""
        seconds = time.perf_counter() - self._start
        rate, waited = self._examples / seconds, self._waited / seconds
        self.total_seconds += seconds
        self.total_examples += self._examples
        self.reset()
        return rate, waited


def duration(seconds: float) -> str:
    """'42 s', '3 min 20 s', '5 h 12 min', '2 d 3 h'."""
    seconds = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (large, size), (small, part) in itertools.pairwise(units):
        if seconds >= size:
            return f"{seconds // size} {large} {seconds % size // part} {small}"
    return f"{seconds} s"

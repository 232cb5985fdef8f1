"""Prints for people on a terminal: progress, tables, durations, warnings."""

import codecs
import io
import itertools
import sys
import time
from collections.abc import Sequence
from typing import Any

from inception_jax.errors import needs_extra
from inception_jax.names import printable


class Progress:
    """Shows the progress of training or evaluation on standard error; only the first process prints.

    A terminal gets a bar with the latest values; any other output gets one line for each report.
    """

    def __init__(self, unit: str = "step"):
        import jax  # not at the top: --help answers at once

        self._unit = unit
        self._shown = jax.process_index() == 0
        self._bar = None

    def start(self, step: int, total_steps: int) -> None:
        """Shows the bar, with `step` of `total_steps` steps done."""
        if self._shown and sys.stderr.isatty():
            form = f"{{percentage:3.0f}}%|{{bar:20}}| {self._unit} {{n_fmt}}/{{total_fmt}}{{postfix}}"
            self._bar = bar(total=total_steps, initial=step, bar_format=form, dynamic_ncols=True)

    def advance(self, step: int) -> None:
        """Moves the bar to `step`."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def report(self, step: int, total_steps: int, values: dict[str, str]) -> None:
        """Shows values beside the bar, or on a line of their own."""
        text = "  ".join(f"{name} {value}" for name, value in values.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            self.say(f"{self._unit} {step}/{total_steps}  {text}")

    def say(self, text: str) -> None:
        """Prints lines."""
        if not self._shown:
            return
        text = harmless(text)
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr)
        sys.stderr.flush()

    def stop(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def bar(**options):
    """Returns a bar of tqdm with these options."""
    with needs_extra("train"):
        from tqdm import tqdm

    return tqdm(**options)


class Stopwatch:
    """Measures the training throughput since the last reading.

    Call `reset` after an evaluation or a compilation, so that its time is not counted.
    """

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Starts a new reading."""
        self._start, self._waited, self._examples = time.perf_counter(), 0.0, 0

    def wait(self, iterator):
        """Returns the next item of `iterator`, and counts the time that it takes as waiting."""
        before = time.perf_counter()
        item = next(iterator)
        self._waited += time.perf_counter() - before
        return item

    def count(self, examples: int) -> None:
        """Counts finished examples."""
        self._examples += examples

    def read(self) -> tuple[float, float]:
        """Returns examples per second and the fraction of time spent waiting, then starts a new reading."""
        seconds = time.perf_counter() - self._start
        rate, waited = self._examples / seconds, self._waited / seconds
        self.reset()
        return rate, waited


def duration(seconds: float) -> str:
    """Formats a duration: '42 s', '3 min 20 s', '5 h 12 min', '2 d 3 h'."""
    seconds = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (large, size), (small, part) in itertools.pairwise(units):
        if seconds >= size:
            return f"{seconds // size} {large} {seconds % size // part} {small}"
    return f"{seconds} s"


def percent(fraction: float, digits: int = 2) -> str:
    """Formats a fraction: 0.98056 becomes '98.06 %'."""
    return f"{100 * fraction:.{digits}f} %"


def plural(count: int, noun: str) -> str:
    """Formats a count: '1 image', '1,797 images'."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Formats rows of text as a table; the first `left` columns are left-aligned, the others right-aligned."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    for place, name in enumerate(header):
        shown.add_column(Text(name), justify="left" if place < left else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    file = io.StringIO()
    Console(file=file, width=10_000, color_system=None).print(shown)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def warn(line: str) -> None:
    """Prints a warning on standard error."""
    print(f"warning: {harmless(line)}", file=sys.stderr)


def harmless(text: str) -> str:
    """Escapes control characters, with which a name could move the terminal's cursor, but keeps lines."""
    return "\n".join(map(printable, text.split("\n")))


def tolerate_encoding() -> None:
    r"""Makes standard output show characters that its encoding lacks as escapes such as \xe9.

    Bytes of file names are written as they are. Standard error escapes characters by default. A choice of the user,
    such as PYTHONIOENCODING=ascii:replace, is kept.
    """
    codecs.register_error("inception_jax", _replace)
    # Only Python's defaults are replaced. A substitute of standard output, as in a notebook, may lack both attributes.
    if getattr(sys.stdout, "errors", None) in ("strict", "surrogateescape") and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="inception_jax")


def _replace(error: Any) -> tuple[str | bytes, int]:
    # One character at a time, because bytes of a file name may stand among characters that the encoding lacks.
    error = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(error)

"""What a person sees of a sweep: a live table on a terminal, elsewhere a line at each change."""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from experiments.sweep import job
from experiments.sweep.plan import Task
from inception_jax.console import duration, harmless, percent
from inception_jax.names import printable
from inception_jax.paths import AnyPath
from inception_jax.runs.run import Run, field

_ORDER = ("running", "failed", "damaged", "queued", "interrupted", "unfinished", "finished", "waiting")
_STYLES = {"running": "bold", "failed": "red", "damaged": "red", "finished": "green"}
_TAIL_BYTES = 8192  # of metrics.jsonl, about twenty lines
_REFRESH_SECONDS = 2.0


class Board:
    """Shows the tasks of a sweep on standard error; a context manager."""

    def __init__(self, tasks: Sequence[Task], directory: AnyPath, parallel: int):
        """Prepares.

        Args:
          tasks: all of them.
          directory: directory of the sweep.
          parallel: number of concurrent runs, from which the remaining time is estimated; 0: all.
        """
        self._tasks, self._directory, self._parallel = tasks, directory, parallel
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._live: Live | None = None
        self._states: dict[str, str] = {}
        self._runs: dict[str, Run] = {}
        self._read_at = 0.0

    def __enter__(self):
        if sys.stderr.isatty():
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
            self._live.__enter__()
        return self

    def __exit__(self, *exception):
        if self._live is not None:
            self._live.__exit__(*exception)
            self._live = None

    def say(self, text: str) -> None:
        """Prints a line."""
        self._console.print(escape(harmless(text)), soft_wrap=True)

    def show(self, states: Mapping[str, str]) -> None:
        """Shows the present states, by the tasks' names."""
        changed = [task for task in self._tasks if self._states.get(task.name) != states[task.name]]
        first, self._states = not self._states, dict(states)
        due = time.monotonic() >= self._read_at + _REFRESH_SECONDS
        active = [task for task in self._tasks if states[task.name] == "running"] if due else []
        for name in dict.fromkeys(task.name for task in (*changed, *active)):
            self._runs[name] = Run.read(self._directory / name, _TAIL_BYTES)
        if due:
            self._read_at = time.monotonic()
        if self._live is not None:
            if changed or due:
                self._live.update(self.table(self._console.height - 4), refresh=True)
        elif first:
            self.say(self.summary())
        else:
            for task in changed:
                if states[task.name] not in ("waiting", "queued"):
                    self.say(self._line(task))

    def summary(self) -> str:
        """Returns '3 running, 1 failed, 12 finished, 20 waiting; about 25 min 0 s left'."""
        counts = Counter(self._states.values())
        text = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
        left = self._left()
        return text + (f"; about {duration(left)} left" if left >= 1 else "")

    def _left(self) -> float:
        """Seconds until all is finished, by the mean time of finished runs; 0 if none is, or nothing is left."""
        spent = [
            field(self._runs[task.name].launch, "seconds") or 0.0
            for task in self._tasks
            if self._states[task.name] == "finished"
        ]
        remaining = sum(state in ("waiting", "queued", "interrupted", "unfinished") for state in self._states.values())
        remaining += 0.5 * sum(state == "running" for state in self._states.values())
        return sum(spent) / len(spent) * remaining / (self._parallel or len(self._tasks)) if spent else 0.0

    def _line(self, task: Task) -> str:
        done = sum(state == "finished" for state in self._states.values())
        state, run = self._states[task.name], self._runs[task.name]
        line = f"[{done}/{len(self._tasks)}] {task.name} {state}"
        if state == "finished":
            top1, seconds = _top1(run), field(run.launch, "seconds") or 0
            reached = f"top-1 {top1}, " if top1 else ""
            return f"{line}: {reached}in {duration(seconds)}, {self.summary()}"
        if state in ("failed", "damaged"):
            return f"{line}: {run.error}, see {self._directory / task.name / job.LOG}"
        return line

    def table(self, height: int) -> Table:
        """Returns at most `height` tasks as a table, running and failed ones first."""
        table = Table(caption=self.summary(), box=None, pad_edge=False)
        for column in ("run", "state"):
            table.add_column(column)
        for column in ("step", "loss", "top-1", "left"):
            table.add_column(column, justify="right")
        for task in sorted(self._tasks, key=lambda task: _ORDER.index(self._states[task.name]))[: max(5, height)]:
            run, state = self._runs.get(task.name) or Run(self._directory / task.name), self._states[task.name]
            step, total, loss = run.step, run.total_steps, run.last("train", "loss")
            cells = ["" if step is None else f"{step:,}" + (f"/{total:,}" if total else "")]
            cells += ["" if loss is None else f"{loss:.3f}", _top1(run)]
            left = _seconds_left(run) if state == "running" else None
            cells += [run.error[:60] if state in ("failed", "damaged") else "" if left is None else duration(left)]
            table.add_row(*(escape(printable(cell)) for cell in (task.name, state, *cells)), style=_STYLES.get(state))
        return table


def _top1(run: Run) -> str:
    """The last top-1 of a training, or of an evaluation; '' if there is none."""
    if run.config is None:
        rows = field(run.evaluation, "rows")
        top1 = field(rows[-1], "top1") if rows else None
    else:
        top1 = field(run.results, "last.top1")
    return percent(top1) if isinstance(top1, (int, float)) else ""


def _seconds_left(run: Run) -> float | None:
    rate, batch = run.last("train", "images_per_second"), field(run.config, "train.batch_size")
    if not rate or not batch or run.total_steps is None:
        return None
    return (run.total_steps - (run.step or 0)) * batch / rate

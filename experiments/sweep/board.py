"""What a person sees of a sweep: a live table on a terminal, a line at each change elsewhere."""

import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from experiments.sweep import job
from experiments.sweep.plan import Run
from inception_jax.training.progress import duration
from inception_jax.training.workdir import metrics_rows

_ORDER = ("running", "failed", "queued", "interrupted", "finished", "waiting")
_STYLES = {"running": "bold", "failed": "red", "finished": "green"}
_TAIL_BYTES = 8192  # of metrics.jsonl, some twenty lines
_REFRESH_SECONDS = 2.0


class Progress(NamedTuple):
    """How far a run has come; None where it is not known yet."""

    step: int | None = None
    total: int | None = None
    loss: float | None = None  # of training, the last logged
    top1: float | None = None  # of the last evaluation, a share of 1
    left: float | None = None  # seconds of training


def progress(directory: Path) -> Progress:
    """Reads it from a training's config.json and the end of its metrics.jsonl, or from an evaluation's results."""
    total = batch = None
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        if not (directory / "config.json").exists():  # a training may have been evaluated by hand
            return Progress(
                top1=float(json.loads((directory / "evaluation.json").read_text(encoding="utf-8"))["rows"][-1]["top1"])
            )
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        content = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        batch, total = content["config"]["train"]["batch_size"], content["network"]["total_steps"]
    rows = _tail(directory / "metrics.jsonl")
    train = [row for row in rows if row.get("split") == "train"]
    tests = [row for row in rows if "top1" in row and row.get("split") != "train"]
    step = rows[-1].get("step") if rows else None
    rate = train[-1].get("images_per_second") if train else None
    left = (total - step) * batch / rate if rate and total and step is not None else None
    return Progress(step, total, train[-1].get("loss") if train else None, tests[-1]["top1"] if tests else None, left)


def _tail(file: Path) -> list[dict]:
    with contextlib.suppress(OSError), open(file, "rb") as content:
        content.seek(max(0, content.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return metrics_rows(content.read())
    return []


class Board:
    """Shows the runs of a sweep on standard error, while it is entered."""

    def __init__(self, runs: Sequence[Run], directory: Path, parallel: int):
        """Prepares.

        Args:
          runs: all of them.
          directory: of the sweep.
          parallel: how many run at once, from which the time that is left is estimated; 0: all.
        """
        self._runs, self._directory, self._parallel = runs, directory, parallel
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._live: Live | None = None
        self._states: dict[str, str] = {}
        self._progress: dict[str, Progress] = {}
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
        self._console.print(escape(text), soft_wrap=True)

    def show(self, states: Mapping[str, str]) -> None:
        """Shows them as they are now."""
        changed = [run for run in self._runs if self._states.get(run.name) != states[run.name]]
        first, self._states = not self._states, dict(states)
        due = time.monotonic() >= self._read_at + _REFRESH_SECONDS
        active = [run for run in self._runs if states[run.name] == "running"] if due else []
        for run in {run.name: run for run in (*changed, *active)}.values():
            self._progress[run.name] = progress(self._directory / run.name)
        if due:
            self._read_at = time.monotonic()
        if self._live is not None:
            if changed or due:
                self._live.update(self.table(self._console.height - 4), refresh=True)
        elif first:
            self.say(self.summary())
        else:
            for run in changed:
                if states[run.name] in ("running", "finished", "failed", "interrupted"):
                    self.say(self._line(run))

    def summary(self) -> str:
        """'3 running, 12 finished, 1 failed, 20 waiting; 25 min left'."""
        counts = Counter(self._states.values())
        text = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
        left = self._left()
        return text + (f"; about {duration(left)} left" if left else "")

    def _left(self) -> float:
        """Seconds until all is finished, by the mean time of those that are; 0 if none is, or nothing is left."""
        spent = [
            job.record(self._directory / run.name).get("seconds", 0.0)
            for run in self._runs
            if self._states[run.name] == "finished"
        ]
        remaining = sum(state in ("waiting", "queued", "interrupted") for state in self._states.values())
        remaining += 0.5 * sum(state == "running" for state in self._states.values())
        return sum(spent) / len(spent) * remaining / (self._parallel or len(self._runs)) if spent else 0.0

    def _line(self, run: Run) -> str:
        done = sum(state == "finished" for state in self._states.values())
        cells = [f"[{done}/{len(self._runs)}] {run.name} {self._states[run.name]}"]
        known, of = job.record(self._directory / run.name), self._progress[run.name]
        if self._states[run.name] == "finished":
            cells += [f"top-1 {of.top1:.2%}"] if of.top1 is not None else []
            cells += [f"in {duration(known.get('seconds', 0))}", self.summary()]
        if self._states[run.name] == "failed":
            cells += [known.get("error", ""), f"see {self._directory / run.name / job.LOG}"]
        return ": ".join([cells[0], ", ".join(filter(None, cells[1:]))]) if cells[1:] else cells[0]

    def table(self, height: int) -> Table:
        """The runs, those first that are running or failed, at most `height` of them."""
        table = Table(caption=self.summary(), box=None, pad_edge=False)
        for column in ("run", "state"):
            table.add_column(column)
        for column in ("step", "loss", "top-1", "left"):
            table.add_column(column, justify="right")
        shown = sorted(self._runs, key=lambda run: _ORDER.index(self._states[run.name]))[: max(5, height)]
        for run in shown:
            of, state = self._progress.get(run.name, Progress()), self._states[run.name]
            step = "" if of.step is None else f"{of.step:,}" + (f"/{of.total:,}" if of.total else "")
            loss = "" if of.loss is None else f"{of.loss:.3f}"
            top1 = "" if of.top1 is None else f"{of.top1:.2%}"
            left = duration(of.left) if of.left is not None and state == "running" else ""
            if state == "failed":
                left = job.record(self._directory / run.name).get("error", "")[:60]
            cells = (run.name, state, step, loss, top1, left)
            table.add_row(*map(escape, cells), style=_STYLES.get(state))
        return table

"""Starts the real commands, watches their phases, ends them, and compares what they leave."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STEPS, EVALUATION = 60, 10  # steps of a training, and between its evaluations
PHASES = ("start-up", "data preparation", "compilation", "step", "checkpoint", "evaluation", "report")
_TIMINGS = ("images_per_second", "data_wait", "peak_memory")
_PATIENCE = 300  # seconds; what takes longer hangs
_POLL = 0.003


def train_command(workdir: Path, *more: str) -> list[str]:
    """Returns the command of a training of LeNet-5 on the digits, with EMA and AdamW, that takes a few seconds."""
    return [
        "main.py",
        "--config=configs/digits.py:lenet5",
        f"--workdir={workdir}",
        "--config.train.epochs=0",
        f"--config.train.steps={STEPS}",
        "--config.train.batch_size=16",
        "--config.schedule.warmup=10 steps",
        "--config.log.every=1 step",
        "--config.log.tensorboard=false",
        f"--config.eval.every={EVALUATION} steps",
        "--config.checkpoint.every=4 steps",
        *more,
    ]


class Started:
    """A command as a process group of its own, with what it writes on standard error.

    Attributes:
      process: the process.
      lines: what it has written so far.
      begun: moment of its start, of `time.monotonic`.
    """

    def __init__(self, command: Sequence[str], place: Path, **environment: str):
        """Starts it.

        Args:
          command: what follows `python`.
          place: directory with its prepared data and its compiled programs, empty at first.
          **environment: variables besides those of this process.
        """
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | _environment(place) | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    def wait_for(self, reached: Callable[[], Any]) -> bool:
        """Waits until `reached()` is true; False if the process has ended before."""
        deadline = time.monotonic() + _PATIENCE
        while not reached():
            if self.process.poll() is not None:
                return bool(reached())
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise TimeoutError(f"{self.process.args} hangs; it has said {self.lines[-5:]}")
            time.sleep(_POLL)
        return True

    def has_said(self, pattern: str) -> bool:
        """Whether a line has a match of a regular expression."""
        return any(re.search(pattern, line) for line in self.lines)

    def send(self, number: int) -> None:
        """Sends a signal to the process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """Waits for its end; returns the exit status, negative if a signal has ended it."""
        try:
            status = self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            raise TimeoutError(f"{self.process.args} hangs; it has said {self.lines[-5:]}") from None
        self._reader.join(5)
        return status


def _environment(place: Path) -> dict[str, str]:
    return {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "TFDS_DATA_DIR": str(place / "data"),
        "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
        "PYTHONUNBUFFERED": "1",
    }


def run(command: Sequence[str], place: Path, **environment: str) -> tuple[int, list[str]]:
    """Runs a command to its end; returns the exit status and the lines on standard error."""
    started = Started(command, place, **environment)
    return started.wait(), started.lines


def phase_of(started: Started, workdir: Path, place: Path) -> str:
    """Tells the phase of a training from its log and its files: one of `PHASES`."""
    lines = list(started.lines)
    step = re.match(r"step (\d+)(/|:)", lines[-1] if lines else "")
    if step and step[2] == "/" and int(step[1]) % EVALUATION == 0:
        return "evaluation"
    if _being_written(workdir):
        return "checkpoint"
    if step:
        return "report" if step[2] == ":" and int(step[1]) == STEPS else "step"
    if any("resuming after" in line and f"step {STEPS} of" in line for line in lines):
        return "report"
    if any(line.startswith("first step after") for line in lines):
        return "step"
    if any(" images to train on" in line for line in lines):
        return "compilation"
    if (place / "data" / "digits").exists() and not list((place / "data").glob("digits/*/dataset_info.json")):
        return "data preparation"
    return "start-up"


def _being_written(workdir: Path) -> bool:
    with contextlib.suppress(OSError):
        return any("checkpoint-tmp" in name for name in os.listdir(workdir / "checkpoints"))
    return False


def timeline(started: Started, workdir: Path, place: Path) -> dict[str, list[float]]:
    """Waits for the end of a training; returns the seconds of each time that it was in each phase."""
    spent: dict[str, list[float]] = {}
    phase, since = "", started.begun
    while started.process.poll() is None:
        now, current = time.monotonic(), phase_of(started, workdir, place)
        if current != phase:
            if phase:
                spent.setdefault(phase, []).append(now - since)
            phase, since = current, now
        time.sleep(_POLL)
    spent.setdefault(phase, []).append(time.monotonic() - since)
    return spent


def wait_for_phase(started: Started, phase: str, times: int, workdir: Path, place: Path) -> bool:
    """Waits until a training is in a phase for the given time, from 1; False if it has ended before."""
    seen, was = 0, False

    def reached() -> bool:
        nonlocal seen, was
        now = phase_of(started, workdir, place) == phase
        seen, was = seen + (now and not was), now
        return seen >= times

    return started.wait_for(reached)


def differences(workdir: Path, reference: Path) -> list[str]:
    """Compares two finished runs bit by bit; returns a line for each difference.

    Compared are all arrays of the last checkpoint, its metadata, metrics.jsonl without timings, results.json, the
    arrays of predictions.npz, and the config.
    """
    found: list[str] = []
    one, other = (_content(path) for path in (workdir, reference))
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            found.append(f"{name}: {str(one.get(name))[:80]} in place of {str(other.get(name))[:80]}")
    return found


def _content(workdir: Path) -> dict[str, Any]:
    """Returns everything that two runs must have alike, by name; what cannot be read is the text of its error."""
    content: dict[str, Any] = {}
    for name, read in {
        "checkpoint": _checkpoint,
        "metrics.jsonl": _metrics,
        "results.json": lambda path: {"": json.loads((path / "results.json").read_bytes())},
        "predictions.npz": _predictions,
        "config.json": lambda path: {"": json.loads((path / "config.json").read_bytes())["config"]},
    }.items():
        try:
            content |= {f"{name} {key}".strip(): value for key, value in read(workdir).items()}
        except Exception as error:  # whatever is wrong with it is a difference
            content[name] = f"{type(error).__name__}: {error}"
    return content


def _checkpoint(workdir: Path) -> dict[str, Any]:
    from inception_jax.runs.checkpoints import read_metadata, read_state, steps_in

    step = steps_in(workdir)[-1]
    checkpoint = workdir / "checkpoints" / str(step)
    metadata = read_metadata(checkpoint)
    del metadata["log"]  # of metrics.jsonl with its timings
    return {"step": step, "metadata": metadata} | dict(_arrays(read_state(checkpoint)))


def _arrays(tree: Any, name: str = "") -> Iterator[tuple[str, tuple]]:
    if isinstance(tree, Mapping | list | tuple):
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in items:
            yield from _arrays(value, f"{name}/{key}")
    elif tree is not None:
        yield name, (str(tree.dtype), tree.shape, tree.tobytes())


def _metrics(workdir: Path) -> dict[str, Any]:
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{key: value for key, value in json.loads(line).items() if key not in _TIMINGS} for line in lines]
    return {f"line {number}": json.dumps(row) for number, row in enumerate(rows, 1)}


def _predictions(workdir: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(workdir / "predictions.npz") as archive:
        return dict(_arrays({name: archive[name] for name in archive.files}))

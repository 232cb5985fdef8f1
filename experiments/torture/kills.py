"""SIGKILL at random moments, and SIGTERM and SIGINT, in every phase of a run and of an import."""

import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.torture.runs import (
    PHASES,
    Started,
    differences,
    phase_of,
    run,
    timeline,
    train_command,
    wait_for_phase,
)

_IMPORT = "import"
_BEFORE = ("start-up", "data preparation", "compilation")
_AT_START = 2.0  # seconds that a command may take to end after a signal


class Reference(NamedTuple):
    """An uninterrupted run.

    Attributes:
      workdir: its directory.
      spent: seconds of each time that it was in each phase.
      seconds: length of a second run, with prepared data and compiled programs.
    """

    workdir: Path
    spent: dict[str, list[float]]
    seconds: float


def uninterrupted(scratch: Path) -> Reference:
    """Trains twice without interruption, the second time with prepared data and compiled programs.

    Raises:
      AssertionError: the two runs differ, so that nothing can be compared with them.
    """
    workdir, again = scratch / "reference", scratch / "again"
    started = Started(train_command(workdir), scratch)
    spent = timeline(started, workdir, scratch)
    assert started.wait() == 0, started.lines
    begun = time.monotonic()
    status, lines = run(train_command(again), scratch)
    assert status == 0, lines
    seconds = time.monotonic() - begun
    assert not (found := differences(again, workdir)), found
    shutil.rmtree(again)
    return Reference(workdir, spent, seconds)


def kills(
    scratch: Path, reference: Reference, runs: int, seed: int, say: Callable[[str], None], phases=(*PHASES, _IMPORT)
) -> dict[str, Any]:
    """Kills runs one to three times each, resumes them, and compares them with an uninterrupted run.

    The first kill of a run is aimed at one phase after another, at a random moment of it; the others come at random
    moments of the whole run.

    Args:
      scratch: directory for everything that is written.
      reference: an uninterrupted run.
      runs: number of runs.
      seed: of the moments.
      say: called with a line for each run.
      phases: at which the first kills are aimed.

    Returns:
      "runs", "bitwise" and "kills", their numbers; "phases": kills by phase; "failures": a line for each difference.
    """
    rng = random.Random(seed)
    imports = _Import(scratch) if _IMPORT in phases and runs >= len(phases) else None
    counted, bitwise, failures = Counter(), 0, []
    for number in range(runs):
        aim = phases[number % len(phases)]
        if aim == _IMPORT and imports is None:
            aim = "start-up"
        place = scratch / f"kill{number}"
        place.mkdir()
        if aim not in _BEFORE:  # what is already made is no target
            for made in ("data", "compiled"):
                shutil.copytree(scratch / made, place / made)
        if aim == _IMPORT:
            hit, found = imports.kill(place, rng)
        else:
            hit, found = _kill(place, aim, rng, reference)
        counted.update(hit)
        bitwise += not found
        failures += [f"run {number}, killed in {', '.join(hit)}: {line}" for line in found]
        say(f"run {number + 1} of {runs}: killed in {', '.join(hit)}; {found[0] if found else 'bitwise equal'}")
        shutil.rmtree(place)
    return {
        "runs": runs,
        "bitwise": bitwise,
        "kills": sum(counted.values()),
        "phases": {phase: counted[phase] for phase in (*PHASES, _IMPORT)},
        "failures": failures,
    }


def _kill(place: Path, aim: str, rng: random.Random, reference: Reference) -> tuple[list, list]:
    """Kills one run; returns the phases of the kills, and what differs at its end."""
    workdir, hit = place / "run", []
    for kill in range(rng.randint(1, 3)):
        started = Started(train_command(workdir), place)
        if kill == 0:
            durations = reference.spent.get(aim, [0.0])
            wait_for_phase(started, aim, rng.randint(1, len(durations)), workdir, place)
            delay = rng.uniform(0, 0.8 * sum(durations) / len(durations))
        else:
            delay = rng.uniform(0, reference.seconds)
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline and started.process.poll() is None:
            time.sleep(0.001)
        phase = phase_of(started, workdir, place)
        if started.process.poll() is None:
            started.send(signal.SIGKILL)
        if started.wait() == -signal.SIGKILL:  # else it has ended before
            hit.append(phase)
    status, lines = run(train_command(workdir), place)
    found = differences(workdir, reference.workdir)
    return hit, [*([f"exit status {status}: {lines[-1:]}"] if status else []), *_tracebacks(lines), *found]


def _tracebacks(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("Traceback", "Fatal Python error"))]


class _Import:
    """The import of a file of GoogLeNet's weights as torchvision publishes them, with random values."""

    def __init__(self, scratch: Path):
        """Writes the file, and imports it without interruption."""
        place = Path(tempfile.mkdtemp(dir=scratch))
        self._file, self._whole = place / "googlenet.safetensors", place / "imported"
        _write_weights(self._file)
        begun = time.monotonic()
        status, lines = run(self.command(self._whole), scratch)
        assert status == 0, lines
        self.seconds = time.monotonic() - begun

    def command(self, workdir: Path) -> list[str]:
        return [
            "-m",
            "experiments.import_weights",
            "torchvision/googlenet",
            f"--file={self._file}",
            f"--workdir={workdir}",
        ]

    def kill(self, place: Path, rng: random.Random) -> tuple[list, list]:
        hit = []
        for _ in range(rng.randint(1, 3)):
            started = Started(self.command(place / "run"), place)
            # The first second is the start of Python and JAX.
            time.sleep(rng.uniform(0.2, self.seconds))
            started.send(signal.SIGKILL)
            if started.wait() == -signal.SIGKILL:
                hit.append(_IMPORT)
        return hit, self.finish(place)

    def finish(self, place: Path) -> list[str]:
        """Repeats the import; returns what differs from the uninterrupted one."""
        from experiments.torture.runs import _checkpoint

        status, lines = run(self.command(place / "run"), place)
        if status and not any("holds a run already" in line for line in lines):  # it was complete
            return [f"exit status {status}: {lines[-1:]}"]
        one, other = _checkpoint(place / "run"), _checkpoint(self._whole)
        return [f"{name} differs" for name in one.keys() | other.keys() if one.get(name) != other.get(name)]


def _write_weights(file: Path) -> None:
    import jax
    import numpy as np

    import inception_jax
    from inception_jax.weights.export import peers
    from inception_jax.weights.sources import catalogue

    weights = catalogue.find("torchvision/googlenet").weights
    model = inception_jax.create_model(weights.network, **weights.options)
    image = jax.ShapeDtypeStruct((1, *model.input_shape), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.uniform(0.01, 0.1, x.shape).astype(x.dtype), shapes)
    peers.write(file, "torchvision", weights, variables, 1000)


def signals(
    scratch: Path, reference: Reference, say: Callable[[str], None], phases=(*PHASES, _IMPORT)
) -> dict[str, Any]:
    """Stops a run by SIGTERM and by SIGINT in each phase, and resumes it.

    Returns:
      "stops": number of signals; "kept": after how many all was as promised; "seconds": the longest time to the end by
      phase; "failures": a line for each fault.
    """
    rng = random.Random(1)
    imports = _Import(scratch) if _IMPORT in phases else None
    longest, failures, stops, kept = {}, [], 0, 0
    for phase in phases:
        for number in (signal.SIGTERM, signal.SIGINT):
            place = scratch / f"{phase}-{number.name}".replace(" ", "-")
            place.mkdir()
            if phase == _IMPORT:
                started = Started(imports.command(place / "run"), place)
                time.sleep(rng.uniform(0.2, imports.seconds * 0.7))
            else:
                started = Started(train_command(place / "run"), place)
                durations = reference.spent.get(phase, [0.0])
                wait_for_phase(started, phase, rng.randint(1, len(durations)), place / "run", place)
                # From 0.1 s on: before it Python itself starts, and no program can take a signal.
                least = 0.1 if phase == "start-up" else 0.0
                time.sleep(rng.uniform(least, max(least, 0.7 * sum(durations) / len(durations))))
            before, sent = len(started.lines), time.monotonic()
            started.send(number)
            status = started.wait()
            took = time.monotonic() - sent
            found = _stop_faults(phase, number, status, started.lines[before:], took)
            if phase == _IMPORT:
                found += imports.finish(place)
            else:
                again, lines = run(train_command(place / "run"), place)
                found += [f"resumed with exit status {again}: {lines[-1:]}"] if again else []
                found += differences(place / "run", reference.workdir)
            longest[phase] = max(longest.get(phase, 0.0), took)
            stops, kept = stops + 1, kept + (not found)
            failures += [f"{number.name} in {phase}: {line}" for line in found]
            say(f"{number.name} in {phase}: ended after {took:.1f} s; {found[0] if found else 'as promised'}")
            shutil.rmtree(place)
    return {"stops": stops, "kept": kept, "seconds": longest, "failures": failures}


def _stop_faults(phase: str, number: signal.Signals, status: int, said: list[str], seconds: float) -> list[str]:
    found = []
    if status != 128 + number:
        found.append(f"exit status {status}")
    stopped = [line for line in said if line.startswith("stopped")]
    if len(stopped) != 1 or _tracebacks(said):
        found.append(f"said {said[-3:]}")
    if phase == "start-up" and seconds > _AT_START:
        found.append(f"ended after {seconds:.1f} s")
    return found

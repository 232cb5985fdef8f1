"""Full and read-only disks, damaged files, and two runs on one workdir."""

import contextlib
import functools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.torture.kills import Reference
from experiments.torture.runs import STEPS, Started, differences, run, train_command

_KINDS = ("flipped", "truncated", "missing")
_EVALUATED = "^step 20: "
_METRICS_ONLY = ("--config.checkpoint.every=1000 steps", "--config.eval.every=1000 steps")


class CannotMount(Exception):
    """File systems cannot be mounted here."""


@contextlib.contextmanager
def _mounted(directory: Path, *options: str) -> Iterator[None]:
    """Mounts a file system on a directory."""
    try:
        subprocess.run(["mount", *options, str(directory)], capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotMount(getattr(error, "stderr", "") or str(error)) from None
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True, capture_output=True)


@contextlib.contextmanager
def _read_only(directory: Path) -> Iterator[None]:
    with _mounted(directory, "--bind", str(directory)):
        command = ["mount", "-o", "remount,ro,bind", str(directory)]
        while subprocess.run(command, check=False, capture_output=True).returncode:
            time.sleep(0.01)  # the run is just writing a file
        yield


def _fill(directory: Path, left: int) -> Path:
    """Writes a file that leaves about `left` bytes on the file system."""
    filler = directory / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    with open(filler, "r+b") as file:
        file.truncate(max(0, filler.stat().st_size - left))
    return filler


def disks(scratch: Path, reference: Reference, say: Callable[[str], None]) -> dict[str, Any]:
    """Fills the disk of a run at a checkpoint, at a line of its metrics, and at its report; then makes it read-only.

    Returns:
      "cases": {name: {"said": the last line, "status", "kept": whether all was as promised}}.

    Raises:
      CannotMount: this needs the right to mount file systems.
    """
    workdir = reference.workdir
    cases: dict[str, Any] = {}

    def finish(name: str, place: Path, status: int, wanted: int, said: list[str]) -> None:
        again, lines = run(train_command(place), scratch)
        found = [f"exit status {status}"] if status != wanted else []
        found += [f"said {said}"] if len(said) != 1 else []
        found += [f"resumed with exit status {again}: {lines[-1:]}"] if again else differences(place, workdir)
        cases[name] = {"said": _plain(said[-1:], place), "status": status, "kept": not found, "failures": found}
        say(f"{name}: {cases[name]['said']}; {found[0] if found else 'as promised'}")

    def stopped(started: Started, before: int) -> tuple[int, list[str]]:
        status = started.wait()
        # The report and the snapshots of a run are not written either, which is no error.
        return status, [line for line in started.lines[before:] if not re.match(r"step \d+|warning: ", line)]

    for name, left, more in (("full at a checkpoint", 2**15, ()), ("full at metrics.jsonl", 0, _METRICS_ONLY)):
        place = scratch / "disk"
        place.mkdir()
        with _mounted(place, "-t", "tmpfs", "-o", "size=32m", "tmpfs"):
            started = Started(train_command(place / "run", *more), scratch)
            started.wait_for(functools.partial(started.has_said, "^step 5/" if more else _EVALUATED))
            before, filler = len(started.lines), _fill(place, left)
            status, said = stopped(started, before)
            filler.unlink()
            finish(name, place / "run", status, 2, said)
        place.rmdir()

    place = scratch / "disk"
    place.mkdir()
    with _mounted(place, "-t", "tmpfs", "-o", "size=32m", "tmpfs"):
        assert run(train_command(place / "run", "--config.log.report=false"), scratch)[0] == 0
        filler = _fill(place, 2**15)
        status, said = run(train_command(place / "run"), scratch)
        filler.unlink()
        # The run is finished, and only its report is missing, so that is no error.
        finish("full at report.html", place / "run", status, 0, [line for line in said if "warning" in line])
    place.rmdir()

    place = scratch / "read-only"
    started = Started(train_command(place), scratch)
    started.wait_for(lambda: started.has_said(_EVALUATED))
    before = len(started.lines)
    with _read_only(place):
        status, said = stopped(started, before)
        again, lines = run(train_command(place), scratch)
    finish("read-only during the run", place, status, 2, said)
    cases["read-only at the start"] = {
        "said": _plain(lines[-1:], place),
        "status": again,
        "kept": again == 2 and len(lines) == 1,
        "failures": [] if again == 2 and len(lines) == 1 else lines[-3:],
    }
    return {"cases": cases}


def _plain(lines: list[str], workdir: Path) -> str:
    """The last line, with the workdir's path made short and addresses left out."""
    text = (lines or ["nothing"])[-1].replace(str(workdir), "RUN").replace(socket.gethostname(), "HOST")
    return re.sub(r"process \d+", "process N", text)


def damage(
    scratch: Path, reference: Reference, seed: int, say: Callable[[str], None], every_file: bool = True
) -> dict[str, Any]:
    """Damages the files of a run, one after another, and resumes it.

    Args:
      scratch: directory for everything that is written, with the data and compiled programs of the reference.
      reference: an uninterrupted run.
      seed: of the damaged bits.
      say: called with a line for each case.
      every_file: whether each file of the latest checkpoint is damaged in each way, or one in one way.

    Returns:
      "cases": for each {"file", "kind", "status", "said", "outcome", "failures"}; the outcome is 'resumed' if the run
      ended bitwise equal to an uninterrupted one, 'reported' if only lines of metrics.jsonl are lost, which it said,
      'refused' after one line with exit status 2, else 'broken'.
    """
    rng = random.Random(seed)
    finished = reference.workdir
    half = scratch / "half"
    started = Started(train_command(half), scratch)
    started.wait_for(lambda: started.has_said("^step 30: "))
    started.send(signal.SIGKILL)
    started.wait()
    cases: list[dict[str, Any]] = []

    def case(name: str, kind: str, base: Path, files: list[str]) -> None:
        workdir = shutil.copytree(base, scratch / "broken")
        for file in files:
            _damage(workdir / file, kind, rng)
        status, lines = run(train_command(workdir), scratch)
        found = [] if status else differences(workdir, finished)
        errors = [line for line in lines if line.startswith("error: ")]
        said = [line for line in lines if re.search("damaged|error|warning|lost", line)]
        if status == 0 and not found:
            outcome = "resumed"
        elif status == 0 and said and all(line.startswith("metrics.jsonl line") for line in found):
            outcome = "reported"
        elif status == 2 and len(errors) == 1 and not any("Traceback" in line for line in lines):
            outcome = "refused"  # a config that differs is followed by the list of what does
        else:
            outcome = "broken"
        row = {"file": name, "kind": kind, "status": status, "said": _plain(said, workdir), "outcome": outcome}
        row["failures"] = [*found[:3], *lines[-2:]] if outcome == "broken" else []
        cases.append(row)
        say(f"{name} {kind}: {outcome}; {row['said']}")
        shutil.rmtree(workdir)

    latest = f"checkpoints/{STEPS}"
    files = sorted(str(path.relative_to(finished)) for path in (finished / latest).rglob("*") if path.is_file())
    if not every_file:
        files = [max(files, key=lambda file: (finished / file).stat().st_size)]
    for file in files:
        is_empty = not (finished / file).stat().st_size
        for kind in (_KINDS[2:] if is_empty else _KINDS) if every_file else _KINDS[:1]:
            case(f"latest checkpoint: {_short(file)}", kind, finished, [file])
    everywhere = [str(path.relative_to(finished)) for path in finished.glob("checkpoints/*/state/d/*")]
    for kind in _KINDS if every_file else ():
        case("all checkpoints: state/d/*", kind, finished, everywhere)
    for name in ("config.json", "metrics.jsonl", "results.json", "predictions.npz") if every_file else ():
        for kind in _KINDS:
            case(name, kind, half if name in ("config.json", "metrics.jsonl") else finished, [name])
    return {"cases": cases}


def _short(file: str) -> str:
    return re.sub(r"[0-9a-f]{32}", "*", file.split("/", 2)[2])


def _damage(file: Path, kind: str, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    if kind == "missing":
        file.unlink()
        return
    if kind == "truncated":
        content = content[: len(content) // 2]
    else:
        # Not in the last tenth, where TensorStore keeps its index, of which some bits do not matter.
        content[rng.randrange(len(content) * 9 // 10)] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def two_runs(scratch: Path, reference: Reference, say: Callable[[str], None]) -> dict[str, Any]:
    """Starts a second run on a workdir; then kills the first, and takes over.

    Returns:
      "refused" and "taken": the lines of the second run and of the resumed one; "failures".
    """
    workdir = reference.workdir
    place = scratch / "shared"
    started = Started(train_command(place), scratch)
    started.wait_for(lambda: started.has_said("^step 3/"))
    os.killpg(started.process.pid, signal.SIGSTOP)  # so that it is still at work when the second comes
    status, lines = run(train_command(place), scratch)
    os.killpg(started.process.pid, signal.SIGCONT)
    failures = []
    owner = f"process {started.process.pid} on {socket.gethostname()}"
    if status != 2 or len(lines) != 1 or owner not in lines[0]:
        failures.append(f"the second run: exit status {status}, said {lines[-3:]}")
    if first := started.wait():
        failures.append(f"the first run: exit status {first}, said {started.lines[-2:]}")
    failures += differences(place, workdir)
    refused = _plain(lines[-1:], place)

    shutil.rmtree(place)
    started = Started(train_command(place), scratch)
    started.wait_for(lambda: started.has_said("^step 3/"))
    started.send(signal.SIGKILL)
    started.wait()
    status, lines = run(train_command(place), scratch)
    owner = f"process {started.process.pid} on {socket.gethostname()}"
    taken = [line for line in lines if owner in line and "takes over" in line]
    if status or len(taken) != 1:
        failures.append(f"the run that takes over: exit status {status}, said {lines[:3]}")
    failures += differences(place, workdir)
    say(f"two runs: {refused}; {failures[0] if failures else 'as promised'}")
    return {"refused": refused, "taken": _plain(taken, place), "failures": failures}

"""A long run, whose process must not grow; and jobs of several processes, of which one is killed."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.torture.runs import Started, train_command

_STEPS, _SAVING = 2000, 6000  # steps
_POOLS = 5  # threads by which pools may still grow; one for each checkpoint would be 30 in the half that is looked at
_SAVE_LAST = ("--config.checkpoint.every=100000 steps", "--config.eval.every=100000 steps")


def long_run(scratch: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Watches the memory, descriptors and threads of two long runs, and their files. Needs Linux.

    Returns:
      For "steps", a run with an evaluation and a checkpoint at its end, and for "checkpoints", one with a checkpoint
      every 50 steps and an evaluation every 100, what `_watch` returns.
    """
    found = {
        "steps": _watch(scratch / "steps", _STEPS, *_SAVE_LAST),
        "checkpoints": _watch(
            scratch / "saves", _SAVING, "--config.checkpoint.every=50 steps", "--config.eval.every=100 steps"
        ),
    }
    for name, values in found.items():
        say(f"long run, {name}: {values}")
    return found


def _watch(workdir: Path, steps: int, *flags: str) -> dict[str, Any]:
    """Watches a run.

    Returns:
      "steps"; "slope": MB of resident memory per 1,000 steps, by least squares over the second half; "resident": MB at
      its end; "descriptors" and "threads": smallest and largest number in the second half; "grown": those of which the
      smallest number grew; "bytes": of the workdir at a quarter of the steps, and at the end.
    """
    import numpy as np

    command = train_command(workdir, f"--config.train.steps={steps}", "--config.log.every=20 steps", *flags)
    started = Started(command, workdir.parent)
    process, samples = Path(f"/proc/{started.process.pid}"), []
    quarter = 0
    while started.process.poll() is None:
        step = _step(started)
        try:
            pages = int((process / "statm").read_text(encoding="ascii").split()[1])
            counts = (len(os.listdir(process / "fd")), len(os.listdir(process / "task")))
        except OSError:  # it has just ended
            break
        if steps // 2 <= step < steps:  # the last evaluation and the report need memory of their own
            samples.append((step, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, *counts))
        if step >= steps // 4 and not quarter:
            quarter = _bytes(workdir)
        time.sleep(0.05)
    status = started.wait()
    assert status == 0, started.lines[-5:]
    step, resident, descriptors, threads = (np.array(column) for column in zip(*samples, strict=True))
    return {
        "steps": steps,
        "slope": float(np.polyfit(step, resident, 1)[0] * 1000),
        "resident": float(resident[-1]),
        "descriptors": [int(descriptors.min()), int(descriptors.max())],
        "threads": [int(threads.min()), int(threads.max())],
        "grown": [name for name, counts in (("descriptors", descriptors), ("threads", threads)) if _grows(counts)],
        "bytes": [quarter, _bytes(workdir)],
    }


def _grows(counts) -> bool:
    """Whether the least count of the second half is above that of the first; more come and go with each checkpoint."""
    middle = len(counts) // 2
    return bool(counts[middle:].min() > counts[:middle].min() + _POOLS)


def _step(started: Started) -> int:
    steps = (re.match(r"step (\d+)/", line) for line in reversed(started.lines[-3:]))
    return next((int(match[1]) for match in steps if match), 0)


def _bytes(directory: Path) -> int:
    """The bytes of all files; of a checkpoint that vanishes meanwhile, none."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def killed_processes(scratch: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Kills one of two processes of a job, with and without the launcher.

    Returns:
      "cases": {name: {"seconds": from the kill to the end of the other, "said": its line, "status", "failures"}}.
    """
    cases: dict[str, Any] = {}
    for launched in (True, False):
        for victim in (0, 1):
            name = f"process {victim} killed, {'with' if launched else 'without'} the launcher"
            cases[name] = _kill_one(scratch / f"job{victim}{launched:d}", launched, victim)
            say(f"{name}: {cases[name]}")
    return {"cases": cases}


def _kill_one(place: Path, launched: bool, victim: int) -> dict[str, Any]:
    place.mkdir()
    command = train_command(place / "run", "--config.train.steps=20000")
    environment = {"JAX_NUM_CPU_DEVICES": "1"}
    if launched:
        job = [Started(["-m", "experiments.launch", "--processes=2", "--", *command], place, **environment)]
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
        places = ([f"--coordinator={coordinator}", "--num-processes=2", f"--process-id={index}"] for index in (0, 1))
        job = [Started([*command, *arguments], place, **environment) for arguments in places]
    try:
        assert job[0].wait_for(lambda: job[0].has_said(r"step 30/")), job[0].lines[-5:]
        supervisor = _children(job[0].process.pid)[victim] if launched else job[victim].process.pid
        before, killed = [len(each.lines) for each in job], time.monotonic()
        os.kill(_children(supervisor)[0], signal.SIGKILL)  # the worker; its parent only watches
        other = job[0] if launched else job[1 - victim]
        status = other.wait()
        seconds = time.monotonic() - killed
    finally:
        for each in job:
            each.send(signal.SIGKILL)
    said = [line for each, count in zip(job, before, strict=True) for line in each.lines[count:]]
    errors = [line for line in other.lines if "error: another process" in line]
    noise = [line for line in said if re.search("Traceback|Fatal|stack trace|\\*\\*\\*", line)]
    failures = [f"said {said[-60:]}"] if noise or len(errors) != 1 else []
    failures += [] if status else ["exit status 0"]
    return {"seconds": seconds, "said": errors[-1:], "status": status, "failures": failures}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]

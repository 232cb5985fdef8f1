"""The page docs/reliability.md, written from what was measured."""

import collections
import re
from collections.abc import Mapping
from typing import Any

from inception_jax import markdown

COMMAND = "python -m experiments.torture"
_TEST = "tests/experiments/test_torture.py"

# Promises that tests of the suite hold, with what was measured where they measure: promise, test, figure, command.
HELD_BY_TESTS = (
    ("A file that is no image, or a damaged one, gives one line: no crash, no hang, bounded memory",
        "tests/data/test_decoding_fuzz.py",
        "10,000 mutated files of 21 kinds (JPEG, PNG, WebP, GIF, TIFF): 2,043 decoded, 7,957 one line; slowest 0.18 s "
        "of processor time; peak memory 163 MB, 45 MB before. Headers of 20,000 x 20,000 pixels: one line within "
        "0.3 ms each",
        "FUZZ=10000 python -m pytest -n 0 -s tests/data/test_decoding_fuzz.py"),
    ("Pipes, sockets, directories with image names, link loops and names of any bytes stop nothing",
        "tests/experiments/test_hostile_files.py", "", ""),
    ("Class and file names cannot put a program into a report", "tests/report/test_hostile_names.py", "", ""),
    ("Archives and metadata of data sets stay in their folder",
        "tests/weights/formats/test_archives.py, tests/data/test_sources.py", "", ""),
    ("No file of data or weights is run as a program", "tests/test_security.py", "", ""),
    ("A spreadsheet runs no field of a CSV file", "tests/test_spreadsheet.py", "", ""),
    ("Launch files do what their comments say", "tests/test_launch_files.py",
        "Slurm 22.05.8, 2 tasks on the CPUs of one node: saved, ended and requeued 8 s after SIGTERM, resumed after "
        "the same step", ""),
    ("Several processes compute what one does, and stop after the same step",
        "tests/experiments/test_processes.py", "", ""),
    ("A run in a bucket is resumed like one on a disk; one process at a time writes it",
        "tests/runs/test_buckets.py", "", ""),
    ("A step that is not finite is named, with its layer and its examples; no weights are spoilt",
        "tests/training/test_nonfinite.py", "", ""),
)  # fmt: skip

_MOST = 1.0  # MB of resident memory per 1,000 steps
_OUTCOMES = ("resumed", "reported", "refused", "broken")
_INTRODUCTION = """\
# What a run survives

Written by `{command} --runs={runs} --json=results/reliability.json --out=docs/reliability.md` from what it measured; a
page is written from such a file alone by `{command} --from-json=results/reliability.json --out=docs/reliability.md`.
The command drives the real commands as processes, breaks what a run relies on, and resumes it. It trains LeNet-5 on the
digits for {steps} steps with AdamW and EMA: a step is a few milliseconds, so most of the time goes to what lies between
the steps, where interruptions do harm. An evaluation comes every 10 steps, a checkpoint every 4.

*Bitwise* means: all arrays of the last checkpoint (parameters, optimizer, EMA) and its metadata, every line of
metrics.jsonl but for its timings, results.json, and all arrays of predictions.npz equal those of an uninterrupted run.

Measured on {machine}.
"""


def write(record: Mapping[str, Any]) -> str:
    """Returns the page of a record of `experiments.torture`."""
    parts = record["parts"]
    rows = [row for name, part in parts.items() for row in _ROWS[name](part)]
    text = _INTRODUCTION.format(command=COMMAND, **record["facts"])
    header = ("promise", "held", "measured", "held by", "command")
    text += "\n## Promises about runs\n\n" + markdown.table(header, rows) + "\n"
    text += "\n## Promises that tests hold\n\n"
    others = [
        (promise, ", ".join(f"`{name}`" for name in test.split(", ")), figure, f"`{command}`" if command else "")
        for promise, test, figure, command in HELD_BY_TESTS
    ]
    text += markdown.table(("promise", "held by", "measured", "command"), others) + "\n"
    for name, part in parts.items():
        if name in _DETAILS and "cases" in part:
            text += _DETAILS[name](part)
    return text


def failures(record: Mapping[str, Any]) -> list[str]:
    """Returns a line for each promise that was broken."""
    return [
        f"{row[0]}: {row[2]}" for name, part in record["parts"].items() for row in _ROWS[name](part) if row[1] == "no"
    ]


def _row(part: str, promise: str, held: bool, figure: str, test: str = _TEST) -> tuple[str, ...]:
    return promise, "yes" if held else "no", figure, f"`{test}`", f"`{COMMAND} --only={part}`"


def _kills(part: Mapping[str, Any]) -> list:
    phases = ", ".join(f"{phase} {count}" for phase, count in part["phases"].items())
    figure = f"{part['bitwise']} of {part['runs']} runs bitwise after {part['kills']} kills ({phases})"
    promise = "SIGKILL of the process group at any moment loses nothing: the same command ends bitwise alike"
    return [_row("kills", promise, part["bitwise"] == part["runs"], figure)]


def _signals(part: Mapping[str, Any]) -> list:
    seconds = ", ".join(f"{phase} {value:.1f}" for phase, value in part["seconds"].items())
    figure = f"{part['kept']} of {part['stops']}; seconds from the signal to the end, at most: {seconds}"
    promise = "SIGTERM and SIGINT in every phase, from 0.1 s on: exit status 143 or 130, one line, resumed bitwise"
    return [_row("signals", promise, part["kept"] == part["stops"], figure, "tests/test_main.py")]


def _disks(part: Mapping[str, Any]) -> list:
    if "skipped" in part:
        return [("A full or read-only disk ends in one line", "not measured", part["skipped"], "", "")]
    kept = sum(case["kept"] for case in part["cases"].values())
    promise = (
        "A disk that is full or becomes read-only: one line, exit status 2, earlier checkpoints kept, resumed bitwise; "
        "only a missing report is no error"
    )
    return [_row("disks", promise, kept == len(part["cases"]), f"{kept} of {len(part['cases'])} cases, see below")]


def _damage(part: Mapping[str, Any]) -> list:
    counts = {name: sum(case["outcome"] == name for case in part["cases"]) for name in _OUTCOMES}
    figure = ", ".join(f"{count} {name}" for name, count in counts.items()) + "; see below"
    promise = (
        "A flipped bit, a truncated or a missing file: resumed bitwise from what is left, or refused in one line; lost "
        "lines of metrics.jsonl are reported"
    )
    return [_row("damage", promise, not counts["broken"], f"{len(part['cases'])} cases: {figure}")]


def _two_runs(part: Mapping[str, Any]) -> list:
    promise = (
        "A second run on a workdir refuses, naming process and host; that of a killed run is taken over, which is said"
    )
    return [_row("two-runs", promise, not part["failures"], f"`{part['refused']}`; `{part['taken']}`")]


def _long(part: Mapping[str, Any]) -> list:
    steps, saves = part["steps"], part["checkpoints"]
    promises = (
        (f"Steps do not grow: less than {_MOST:.0f} MB per 1,000 steps", steps, steps["slope"] < _MOST),
        ("Descriptors, threads and files do not grow with checkpoints (one every 50 steps, evaluations every 100); the "
            "memory that they take is measured, not promised", saves, saves["bytes"][1] < 2 * saves["bytes"][0]),
    )  # fmt: skip
    return [_row("long", promise, held and not each["grown"], _long_figure(each)) for promise, each, held in promises]


def _long_figure(part: Mapping[str, Any]) -> str:
    quarter, end = (count / 1e6 for count in part["bytes"])
    steps = part["steps"]
    return (
        f"{part['slope']:+.2f} MB of resident memory per 1,000 steps over the second half of {steps:,} steps, "
        f"{part['resident']:.0f} MB at its end; descriptors {_span(part['descriptors'])}, threads "
        f"{_span(part['threads'])}; workdir {quarter:.2f} MB after {steps // 4:,} steps, {end:.2f} MB at its end"
    )


def _span(values: list[int]) -> str:
    return " to ".join(f"{value:,}" for value in sorted(set(values)))


def _jobs(part: Mapping[str, Any]) -> list:
    promise = "One of two processes is killed: the other ends with one line"
    held = not any(case["failures"] for case in part["cases"].values())
    seconds = "; ".join(f"{name}: {case['seconds']:.1f} s" for name, case in part["cases"].items())
    return [_row("jobs", promise, held, seconds, "tests/experiments/test_processes.py")]


_ROWS = {
    "kills": _kills,
    "signals": _signals,
    "disks": _disks,
    "damage": _damage,
    "two-runs": _two_runs,
    "long": _long,
    "jobs": _jobs,
}


def _disk_cases(part: Mapping[str, Any]) -> str:
    rows = [
        (name, str(case["status"]), f"`{case['said']}`", "yes" if case["kept"] else "no")
        for name, case in part["cases"].items()
    ]
    return "\n## Disks\n\n" + markdown.table(("disk", "exit status", "last line", "held"), rows) + "\n"


def _damage_cases(part: Mapping[str, Any]) -> str:
    cases = collections.Counter(
        (case["file"], case["kind"], case["outcome"], f"`{_shortened(case['said'])}`") for case in part["cases"]
    )
    rows = [(*case, str(count)) for case, count in cases.items()]
    text = (
        "\n## Damaged files\n\nThe names of checkpoint files are those that Orbax gives; `*` stands for any name. "
        "`nothing` was said where the damage does not matter, or where the file is written again anyway.\n\n"
    )
    return text + markdown.table(("file", "damage", "outcome", "said", "cases"), rows) + "\n"


def _shortened(said: str) -> str:
    """Returns a message without the details of TensorStore's errors, which name arrays and places on a disk."""
    return re.sub(r": (Error (opening|reading)|Metadata at).*|at key path.*", ": ...", said)


_DETAILS = {"disks": _disk_cases, "damage": _damage_cases}

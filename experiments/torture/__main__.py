"""Breaks every promise about lost work on purpose, and says what held: kills, signals, disks, damaged files.

python -m experiments.torture --runs=20 --json=results/reliability.json --out=docs/reliability.md    # half an hour
python -m experiments.torture --runs=3 --only=kills
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments import cli

PARTS = ("kills", "signals", "disks", "damage", "two-runs", "long", "jobs")
_EPILOG = """\
parts: kills (SIGKILL), signals (SIGTERM, SIGINT), disks (full or read-only; needs the right to mount), damage (flipped,
truncated, missing files), two-runs (on one workdir), long (2,000 steps), jobs (two processes, of which one is killed).
Needs Linux. The parts of an earlier --json file that are not measured now stay in it.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if a promise was broken, 2 for invalid input."""
    parser = cli.Parser("-m experiments.torture", __doc__, _EPILOG)
    add = parser.add_argument
    add("--runs", type=cli.positive, default=20, metavar="N", help="number of runs to kill (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the moments and of the damaged bits (default: %(default)s)")
    add("--only", type=_parts, default=PARTS, metavar="PART,...", help=f"some of {', '.join(PARTS)}")
    add("--json", type=Path, metavar="FILE", help="JSON file of what was measured")
    add("--from-json", type=Path, metavar="FILE", help="measure nothing, take what is in this file")
    add("--out", type=Path, metavar="FILE.md", help="page to write")
    return cli.run(parser, _torture, argv)


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(PARTS)}")
    return names


def _torture(arguments: argparse.Namespace) -> int:
    from experiments.torture import page
    from inception_jax.errors import UserError

    cli.check_writable(arguments.json, arguments.out)
    file = arguments.from_json or arguments.json
    record: dict[str, Any] = {"facts": {}, "parts": {}}
    if file and file.exists():
        record = json.loads(file.read_bytes())
    elif arguments.from_json:
        raise UserError(f"there is no file {file}")
    if not arguments.from_json:
        for name, part in _measured(arguments):
            record["parts"] = {known: part if known == name else record["parts"].get(known) for known in PARTS}
            record["parts"] = {known: value for known, value in record["parts"].items() if value is not None}
            record["facts"] |= _facts() | ({"runs": arguments.runs} if name == "kills" else {})
            if arguments.json:  # after each part, so that nothing is lost if the command is stopped
                arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if arguments.out:
        arguments.out.write_text(page.write(record), encoding="utf-8")
    broken = page.failures(record)
    for line in broken:
        print(f"broken: {line}")
    if not broken:
        print(f"held: {', '.join(record['parts'])}")
    return 1 if broken else 0


def _measured(arguments: argparse.Namespace):
    """Yields the name and the result of each part."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # this process only reads checkpoints
    from experiments.torture import files, jobs, kills

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="torture-") as directory:
        scratch = Path(directory)
        reference = kills.uninterrupted(scratch)
        say(f"an uninterrupted run takes {reference.seconds:.1f} s")
        for name in arguments.only:
            if name == "kills":
                yield name, kills.kills(scratch, reference, arguments.runs, arguments.seed, say)
            elif name == "signals":
                yield name, kills.signals(scratch, reference, say)
            elif name == "disks":
                try:
                    yield name, files.disks(scratch, reference, say)
                except files.CannotMount as error:
                    yield name, {"skipped": f"file systems cannot be mounted here: {error}"}
            elif name == "damage":
                yield name, files.damage(scratch, reference, arguments.seed, say)
            elif name == "two-runs":
                yield name, files.two_runs(scratch, reference, say)
            elif name == "long":
                yield name, jobs.long_run(scratch, say)
            else:
                yield name, jobs.killed_processes(scratch, say)


def _facts() -> dict[str, Any]:
    import jax

    from experiments.torture.runs import STEPS
    from inception_jax.runtime import available_cores

    machine = (
        f"{available_cores()} cores, {platform.system()}, Python {platform.python_version()}, JAX {jax.__version__}"
    )
    return {"machine": machine, "steps": STEPS}


if __name__ == "__main__":
    sys.exit(main())

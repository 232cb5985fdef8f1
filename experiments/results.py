"""The last evaluation of each run as a table, read from the workdirs.

python -m experiments.results runs/digits /data/googlenet [--json=results.json]
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from ml_collections import ConfigDict

_COLUMNS = (
    "workdir",
    "network",
    "data",
    "size",
    "steps",
    "seed",
    "images",
    "top1",
    "top5",
    "best_top1",
    "images_per_second",
)


def row(workdir: Path) -> dict:
    """One run's row: shares of 1, images per second as the median of the training log's lines.

    Raises:
      OSError, ValueError, KeyError: the run has not been evaluated yet, or its files are damaged.
    """
    results = json.loads((workdir / "results.json").read_text())
    config = ConfigDict(json.loads((workdir / "config.json").read_text())["config"])
    lines = (json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines())
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
    last = results["last"]
    return {
        "workdir": str(workdir),
        "network": config.model.name,
        "data": config.data.name,
        "size": config.data.image_size,
        "steps": last["step"],
        "seed": config.seed,
        "images": last["count"],
        "top1": last["top1"],
        "top5": last["top5"],
        "best_top1": results["best"]["top1"],
        "images_per_second": round(statistics.median(speeds)) if speeds else None,
    }


def markdown(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    shares = ("top1", "top5", "best_top1")
    cells = [[f"{100 * r[c]:.2f} %" if c in shares else str(r[c]) for c in _COLUMNS] for r in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [_COLUMNS, ["---"] * len(_COLUMNS), *cells])


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR")
    parser.add_argument("--json", type=Path, help="file to write the rows to, as a list of objects")
    arguments = parser.parse_args()
    rows = []
    for workdir in arguments.workdirs:
        try:
            rows.append(row(workdir))
        except (OSError, ValueError, KeyError) as error:
            print(f"error: {workdir} holds no evaluated run ({type(error).__name__}: {error})", file=sys.stderr)
            return 2
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

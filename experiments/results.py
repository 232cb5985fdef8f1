"""The last evaluation of each run as a table, read from the workdirs; or docs/results.md, over seeds.

python -m experiments.results runs/digits /data/googlenet [--json=results.json]
python -m experiments.results runs/results/* --json=docs/results.json --document=docs/results.md
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable
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

    Beside what the table shows: 'recipe', such as 'digits:vgg_a'; 'width'; 'parameters'; 'batch'; 'lr'; 'aux'; and
    'evaluations', pairs of a step and the top-1 after it.

    Raises:
      OSError, ValueError, KeyError: the run has not been evaluated yet, or its files are damaged.
    """
    results = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    record = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    config = ConfigDict(record["config"])
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
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
        "recipe": _recipe(record["commands"]),
        "width": config.model.width,
        "parameters": _parameters(workdir / "parameters.txt"),
        "batch": config.train.batch_size,
        "lr": config.schedule.base_lr,
        "aux": config.model.get("aux"),
        "evaluations": [[line["step"], line["top1"]] for line in lines if line["split"] == config.data.eval_split],
    }


def _recipe(commands: list[list[str]]) -> str:
    """'digits:vgg_a' of '--config=configs/digits.py:vgg_a'."""
    [config, *_] = [argument for argument in commands[-1] if argument.startswith("--config=")] or [""]
    file, _, words = config.partition("=")[2].partition(".py")
    return Path(file).name + words


def _parameters(file: Path) -> int | None:
    total = re.search(r"^Total: ([\d,]+)", file.read_text(encoding="utf-8") if file.exists() else "", re.MULTILINE)
    return int(total[1].replace(",", "")) if total else None


def markdown(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    shares = ("top1", "top5", "best_top1")
    return _table(_COLUMNS, ([f"{100 * r[c]:.2f} %" if c in shares else str(r[c]) for c in _COLUMNS] for r in rows))


def _table(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    header = list(header)
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def document(rows: list[dict]) -> str:
    """docs/results.md: runs of one recipe are its seeds; mean and standard deviation over them.

    Raises:
      KeyError: a recipe that the text compares was not run.
    """
    by_recipe: dict[str, list[dict]] = {}
    for one in rows:
        by_recipe.setdefault(one["recipe"], []).append(one)
    sections = [_INTRODUCTION]
    for data, text in _DATA.items():
        recipes = {recipe: runs for recipe, runs in by_recipe.items() if runs[0]["data"].split("/")[0] == data}
        sections += [f"## {data.capitalize()}", text, _networks(recipes)]
    sections += [
        "## Batch normalisation: steps to plain Inception's accuracy",
        _BATCH_NORM,
        *(_steps(by_recipe, d) for d in _DATA),
    ]
    sections += ["## GoogLeNet's auxiliary heads", _heads(by_recipe)]
    return "\n\n".join(sections) + "\n"


_INTRODUCTION = """# Results

Measured with this code in float32, two runs at a time, each on one core of a shared CPU; written by
`python -m experiments.results runs/results/* --json=docs/results.json --document=docs/results.md` from the artefacts of
the runs, and a test fails where the text and docs/results.json differ. Each row is three runs, seeds 0, 1 and 2:

```
python main.py --config=configs/digits.py:vgg_a --config.seed=0 --workdir=runs/results/digits-vgg_a-0
```

Accuracies are those of the last step on the test split, mean ± standard deviation over the seeds; time is that of
training alone. The networks have a share of their papers' filters and small images: these tables show that all of them
train, and nothing of how they compare on ImageNet.

There is no third split: learning rates, epochs and sizes (configs/digits.py, configs/glyphs.py) were chosen with a view
of the accuracies on these test images, seeds 0 and 2 among them. On images never looked at they may be lower."""

_DATA = {
    "digits": "1,437 handwritten digits to train on, 360 to test: one picture more or less is 0.28 %.",
    "glyphs": """Synthetic characters of 20 classes under distortion, clutter and noise (`inception_jax/data/glyphs.py`,
difficulty 1): 20,000 to train on, each seen once, and 1,000 to test. Chance is 5 %: networks near it had not begun to
learn after these 312 steps.""",
}


_BATCH_NORM = """`bn_inception` against the same network without batch normalisation, with LRN and dropout, each at
a learning rate that suits it. Steps are those after which an evaluation first has the accuracy with which plain
Inception of the same seed ended. The paper (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, Fig. 3) on
ImageNet: Inception reaches its 72.2 % after 31.0 million steps, BN-x5 after 2.1 million, "14 times fewer"."""


def _networks(recipes: dict[str, list[dict]]) -> str:
    header = ("recipe", "size", "width", "parameters", "steps x batch", "seconds", "seeds", "top-1", "worst seed")
    lines = []
    for recipe, runs in recipes.items():
        one = runs[0]
        seconds = [run["steps"] * run["batch"] / run["images_per_second"] for run in runs]
        cells = (f"`{recipe}`", one["size"], f"{one['width']:g}", f"{one['parameters']:,}")
        length = (f"{one['steps']:,} x {one['batch']}", f"{statistics.mean(seconds):.0f}", len(runs))
        accuracies = [run["top1"] for run in runs]
        lines.append(map(str, (*cells, *length, _mean(accuracies), f"{100 * min(accuracies):.2f} %")))
    return _table(header, lines)


def _mean(values: list[float], scale: float = 100, unit: str = " %", digits: int = 2) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{scale * statistics.mean(values):.{digits}f} ± {scale * spread:.{digits}f}{unit}"


def _steps(by_recipe: dict[str, list[dict]], data: str) -> str:
    plain, normalised = (
        sorted(by_recipe[f"{data}:{recipe}"], key=lambda run: run["seed"]) for recipe in ("inception", "bn_inception")
    )
    lines, means = [], []
    for runs in (plain, normalised):
        steps = [_first(run["evaluations"], target["top1"]) for run, target in zip(runs, plain, strict=True)]
        means.append(None if None in steps else statistics.mean(steps))
        shown = ["never" if step is None else f"{step:,}" for step in steps]
        one, mean = runs[0], "–" if means[-1] is None else f"{means[-1]:,.0f}"
        accuracies = ", ".join(f"{100 * run['top1']:.2f} %" for run in runs)
        lines.append([f"`{one['recipe']}`", f"{one['lr']:g}", accuracies, ", ".join(shown), mean])
    verdict = (
        "no ratio, for not every run got there" if None in means else f"{means[0] / means[1]:.1f} times fewer steps"
    )
    return f"On the {data}, evaluated every {plain[0]['evaluations'][0][0]} steps: {verdict}.\n\n" + _table(
        ("recipe", "learning rate", "final top-1 of each seed", "steps of each seed", "mean"), lines
    )


def _first(evaluations: list[list], target: float) -> int | None:
    """The first step whose evaluation reaches `target`."""
    return next((step for step, top1 in evaluations if top1 >= target), None)


def _heads(by_recipe: dict[str, list[dict]]) -> str:
    lines = []
    for recipe in (f"{data}{words}" for data in _DATA for words in ("", ":googlenet_no_aux")):
        runs = by_recipe[recipe]
        heads = "two" if runs[0]["aux"] else "none"
        lines.append((f"`{recipe}`", heads, f"{runs[0]['parameters']:,}", _mean([run["top1"] for run in runs])))
    return (
        "The paper (section 5) adds them to let gradients reach the lower layers, and names no gain; Szegedy et al.\n"
        "(2015, https://arxiv.org/abs/1512.00567, section 4) found the lower one of no use.\n\n"
        + _table(("recipe", "auxiliary heads", "parameters", "top-1"), lines)
    )


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR")
    parser.add_argument("--json", type=Path, help="file to write the rows to, as a list of objects")
    parser.add_argument("--document", type=Path, help="file to write docs/results.md to, from all its runs")
    arguments = parser.parse_args()
    rows = []
    for workdir in arguments.workdirs:
        try:
            rows.append(row(workdir))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            print(f"error: {workdir} holds no evaluated run ({type(error).__name__}: {error})", file=sys.stderr)
            return 2
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if arguments.document:
        try:
            arguments.document.write_text(document(rows), encoding="utf-8")
        except KeyError as error:
            print(f"error: the document needs runs of {error}", file=sys.stderr)
            return 2
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The tables of a sweep, and the Markdown made of them: the report on one sweep, the document over several."""

import dataclasses
import re
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable

from experiments.report.analysis import (
    INTERVAL,
    MARGIN,
    TRAINING_COST,
    VERDICTS,
    Analysis,
    Claim,
    Row,
    analyse,
    code,
    in_points,
    outcome,
    setting,
)

MEANING = (
    f"A verdict says what our runs say of a claim. Of accuracies: the claim *agrees* if the {INTERVAL} (Student's, of "
    "the differences seed by seed) lies on its side of 0, *disagrees* if it lies on the other, and is *inconclusive* "
    "otherwise, as it is with fewer than two pairs. That a variant is as good *agrees* if the interval begins above "
    f"-{MARGIN:g} point, a margin that is our choice, and *disagrees* if it lies below 0 and its mean below the "
    "margin. Of speed: the steps to the top-1 that the other variant of the same seed ends with are compared by their "
    "ratio; a variant that never gets there in any seed disagrees, in some seeds is inconclusive. A claim on several "
    "variants counts the pairs of all of them. A verdict is on the direction alone, not on the size that a paper gives."
)
CHANCE = "Of 20 comparisons at 95 % of variants that do not differ, one excludes 0 by chance."
SMALL = (
    "These are small networks on small data, not the papers' on ImageNet: a verdict is on the claim here, not on the "
    "paper."
)
HOW = (
    "Accuracies are those of the last step on the test split. Time is that of training alone, without evaluation and "
    "compilation: steps times batch, divided by the images per second that the log has for them. The multiply-adds of "
    f"a network are those of one image's forward pass; training until a step counts {TRAINING_COST} times as many for "
    "each image, for the backward pass costs about twice the forward one. Memory is the most that was in use: "
    "an accelerator's, or on a CPU that of the whole process. A paper's figures are of its own data and are to be "
    "compared among themselves."
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """Text, in which backticks mark code; and what it is sorted by where that is a number."""

    text: str
    value: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; of a column of `numbers` the cells without a value are sorted last."""

    heading: str
    note: str
    header: list[str]
    rows: list[list[Cell]]
    numbers: frozenset[str] = frozenset()


def results_table(data: dict, analysis: Analysis) -> Table:
    """Every variant and evaluation over its seeds."""
    goal = "" if analysis.threshold is None else f" {percent(analysis.threshold)}"
    base = data["sweep"]["baseline"]
    columns = {
        "variant": lambda row: Cell(code(row.name)),
        "changes": lambda row: Cell(row.changes),
        "runs": lambda row: Cell(_of(len(row.top1), row.wanted), len(row.top1)),
        "top-1": _top1,
        f"against {code(base)}": _difference,
        f"steps to{goal}": _steps,
        "parameters": lambda row: _cell(row.others["parameters"], "{:,.0f}"),
        "multiply-adds": lambda row: _cell(row.others["multiply_adds"], "{:,.0f}"),
        "img/s": lambda row: _cell(row.others["images_per_second"], "{:,.0f}"),
        "training": lambda row: Cell(duration(row.others["train_seconds"]), row.others["train_seconds"]),
        "memory": lambda row: Cell(memory(row.others["peak_memory"]), row.others["peak_memory"]),
        "paper": lambda row: Cell(row.printed or "–", _number(row.printed)),
    }
    if not any(row.printed for row in analysis.rows):
        del columns["paper"]
    whose = "named on the command line" if analysis.given else f"the mean that {code(base)} ends with"
    notes = ["Means and standard deviations over the finished runs."]
    if goal:
        notes.append(f"Steps: the first evaluation of each seed with a top-1 of{goal} or more, {whose}.")
    if "paper" in columns and data["sweep"]["printed_what"]:
        notes.append(f"Paper: {data['sweep']['printed_what']}.")
    rows = [[make(row) for make in columns.values()] for row in analysis.rows]
    return Table("Results", " ".join(notes), list(columns), rows, frozenset(list(columns)[2:]))


def claims_table(analysis: Analysis) -> Table:
    """What the paper claims, and the verdicts."""
    return Table("Claims", tally(analysis.claims), _JUDGED, [_judged(claim) for claim in analysis.claims])


def absent_table(analysis: Analysis) -> Table:
    """The runs that are not averaged, and why."""
    rows = [
        [Cell(code(run["name"])), Cell(str(run["seed"]), run["seed"]), Cell(run["state"]), Cell(code(run["error"]))]
        for run in analysis.absent
    ]
    note = "Runs and evaluations that are missing, unfinished or failed; they are in no mean."
    return Table("Not counted", note, ["variant", "seed", "state", "why"], rows, frozenset(["seed"]))


def tables(data: dict, analysis: Analysis) -> list[Table]:
    """Those of one sweep that have a row."""
    made = [results_table(data, analysis), claims_table(analysis), absent_table(analysis)]
    return [table for table in made if table.rows]


def report(data: dict) -> str:
    """The Markdown report on one sweep."""
    analysis = analyse(data)
    parts = [f"# {heading(data)}", *_about(data)]
    for table in tables(data, analysis):
        parts += [f"## {table.heading}", _markdown(table)]
    parts += ["## How to read this", *reading(data), "## Again", _block(command(data))]
    return "\n\n".join(parts) + "\n"


def document(sweeps: dict[str, dict]) -> str:
    """The Markdown document over all sweeps of a JSON file, of which alone it is a function."""
    analyses = {name: analyse(data) for name, data in sweeps.items()}
    claims = [claim for analysis in analyses.values() for claim in analysis.claims]
    overview = [
        [Cell(f"[{heading(sweeps[name])}](#{_anchor(heading(sweeps[name]))})"), *_judged(claim)]
        for name, analysis in analyses.items()
        for claim in analysis.claims
    ]
    table = Table("", "", ["ablation", *_JUDGED], overview)
    differences = [row.difference for analysis in analyses.values() for row in analysis.rows if row.difference]
    tested = [difference for difference in differences if difference.low is not None and not difference.flat]
    excluding = sum(bool(difference.sign) for difference in tested)
    count = (
        f"{tally(claims)} The tables below compare variants with their baseline {len(tested)} times; "
        f"{excluding} of the intervals exclude 0, and about {len(tested) / 20:.1f} would if nothing differed."
    )
    parts = ["# Ablations", _INTRODUCTION, *_seeds(sweeps), MEANING, f"{CHANCE} {SMALL}", HOW, "## Overview", count]
    parts += [_markdown(table)] if overview else []
    for name, data in sweeps.items():
        parts += [f"## {heading(data)}", *_about(data)]
        for one in tables(data, analyses[name]):
            parts += [f"### {one.heading}", _markdown(one)]
        parts.append(_block(command(data)))
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """What the papers say of their networks' parts, tried on networks and data small enough for this
repository: fewer filters, smaller images, fewer classes. What differs from the paper is said with each ablation.

Steps and learning rates were chosen in trials, so that the baseline had begun to learn and had not learnt everything.
GoogLeNet's 350 steps replaced 500 after runs of 500, at which the baseline was at 99 %: those of the interpolation were
thrown away and run again. The margin of "as good" became one-sided, and the claim that residual networks are more
accurate was added, together with the first four sweeps' results and not before them. Two runs at a time shared two
cores, at times with other work: speeds and times are rough.

Generated from docs/ablations.json, which holds the runs; do not edit. A sweep is run, and this is written, by

```
python -m experiments.sweep experiments/sweeps/NAME.py --workdir=DIR
python -m experiments.report DIR [DIR ...] --json=docs/ablations.json --document=docs/ablations.md
```"""


def _seeds(sweeps: dict[str, dict]) -> list[str]:
    counts = Counter(run["state"] for data in sweeps.values() for run in data["runs"])
    seeds = {len(data["sweep"]["seeds"]) for data in sweeps.values()}
    if not seeds:
        return []
    each = " or ".join(map(str, sorted(seeds)))
    others = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if state != "finished")
    return [
        f"{len(sweeps)} sweep{'' if len(sweeps) == 1 else 's'} of {counts.total()} runs, {counts['finished']} of them "
        f"finished{f' ({others})' if others else ''}, {each} seeds of each variant. Variants are compared seed by "
        "seed: runs of one seed see the images in the same order, unless the variant changes that."
    ]


def heading(data: dict) -> str:
    """A sweep's title, and what it was run on."""
    sweep = data["sweep"]
    return f"{sweep['title']} ({sweep['data']})" if sweep["data"] else sweep["title"]


def paragraphs(data: dict) -> list[str]:
    """A sweep's own text."""
    return [part.strip() for part in re.split(r"\n\s*\n", data["sweep"]["text"]) if part.strip()]


def facts(data: dict) -> dict[str, str]:
    """What all runs of a sweep share, in words; backticks mark code."""
    sweep, runs = data["sweep"], data["runs"]
    base = code(sweep["base"].get("config", "")) if sweep["base"].get("config") else ""
    overrides = [
        setting(key, value)
        for key, value in sweep["base"].get("overrides", {}).items()
        if not key.startswith(("log.", "checkpoint."))  # which change no result
    ]
    found = {
        "Base": base + (" with " if base and overrides else "") + ", ".join(overrides),
        "Baseline": code(sweep["baseline"]),
        "Seeds": ", ".join(map(str, sweep["seeds"])),
        "Runs": f"{_of(sum(run['state'] == 'finished' for run in runs), len(runs))} finished",
        "Training": _common(runs, "total_steps", "{:,} steps") + _common(runs, "batch", " of {} images"),
        "Test images": _common([*runs, *data["evaluations"]], "count", "{:,}"),
        "Device": _common(runs, "device", "{}"),
    }
    return {name: value for name, value in found.items() if value}


def reading(data: dict) -> list[str]:
    """What must be known to read the tables of a sweep, in paragraphs."""
    small = "" if data["sweep"]["data"].startswith("imagenet2012") else f" {SMALL}"
    return [MEANING, f"{CHANCE}{small}", HOW]


def command(data: dict) -> str:
    """The command that runs the sweep again."""
    sweep = data["sweep"]
    words = f":{sweep['data']}" if sweep["data"] else ""
    settings = shlex.join(map(str, sweep["settings"]))
    return f"python -m experiments.sweep {sweep['file']}{words} --workdir=DIR {settings}".rstrip()


def tally(claims: Iterable[Claim]) -> str:
    """'Of 3 claims 1 agrees, 0 disagree, 2 are inconclusive.'"""
    count = Counter(claim.verdict for claim in claims)
    agrees, disagrees, rest = (count[verdict] for verdict in VERDICTS)
    return (
        f"Of {count.total()} claim{'' if count.total() == 1 else 's'} {agrees} agree{'s' if agrees == 1 else ''}, "
        f"{disagrees} disagree{'s' if disagrees == 1 else ''}, {rest} {'is' if rest == 1 else 'are'} inconclusive."
    )


def percent(share: float, spread: float | None = None) -> str:
    """'91.23 %', or '91.23 ± 0.45 %'."""
    return f"{100 * share:.2f} %" if spread is None else f"{100 * share:.2f} ± {100 * spread:.2f} %"


def duration(seconds: float | None) -> str:
    """'95 s', '12.5 min', '3.2 h'."""
    if seconds is None:
        return "–"
    if seconds < 600:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def memory(size: float | None) -> str:
    """Bytes as '812 MB' or '1.25 GB'."""
    if size is None:
        return "–"
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def _about(data: dict) -> list[str]:
    listed = "\n".join(f"- {name}: {value}" for name, value in facts(data).items())
    return [*paragraphs(data), listed]


def _common(runs: list[dict], key: str, form: str) -> str:
    values = dict.fromkeys(run[key] for run in runs if run.get(key) is not None)
    return ", ".join(form.format(value) for value in values)


def _of(count: int, wanted: int) -> str:
    return str(count) if count == wanted else f"{count} of {wanted}"


def _cell(value: float | None, form: str) -> Cell:
    return Cell("–" if value is None else form.format(value), value)


def _number(text: str) -> float | None:
    """The first number of what a paper prints."""
    found = re.search(r"-?\d+(\.\d+)?", text.replace(",", ""))
    return float(found[0]) if found else None


def _top1(row: Row) -> Cell:
    values = list(row.top1.values())
    if not values:
        return Cell("–")
    mean = statistics.fmean(values)
    return Cell(percent(mean, statistics.stdev(values) if len(values) > 1 else None), mean)


def _difference(row: Row) -> Cell:
    if row.difference is None:
        return Cell("baseline", 0.0 if row.top1 else None)
    if row.difference.mean is None:
        return Cell("–")
    return Cell(f"{in_points(row.difference, row.wanted)}: {outcome(row.difference)}", row.difference.mean)


def _steps(row: Row) -> Cell:
    steps = list(row.steps.values())
    if not steps:
        return Cell("–")
    never = steps.count(None)
    if never == len(steps):
        return Cell(f"never in {len(steps)} run{'' if len(steps) == 1 else 's'}")
    each = ", ".join("never" if step is None else f"{step:,}" for step in steps)
    if never:
        return Cell(f"{each}: {never} of {len(steps)} never")
    mean = statistics.fmean(steps)
    return Cell(f"{mean:,.0f} ({each})" if len(steps) > 1 else each, mean)


_JUDGED = ["claim", "source", "our runs", "verdict"]


def _judged(claim: Claim) -> list[Cell]:
    return [Cell(claim.text), Cell(claim.source), Cell(claim.words), Cell(claim.verdict)]


def _markdown(table: Table) -> str:
    rows = [table.header, ["---"] * len(table.header), *([cell.text for cell in row] for row in table.rows)]
    lines = (f"| {' | '.join(' '.join(text.split()).replace('|', chr(92) + '|') for text in row)} |" for row in rows)
    return "\n".join([table.note, ""][: 2 * bool(table.note)] + list(lines))


def _block(text: str) -> str:
    return f"```\n{text}\n```"


def _anchor(text: str) -> str:
    """What GitHub calls a heading."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")

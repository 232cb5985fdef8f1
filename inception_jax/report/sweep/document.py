"""The tables of a sweep, and the Markdown made of them: the report on one sweep, the document over several."""

import dataclasses
import re
import shlex
import statistics
from collections import Counter
from collections.abc import Callable, Iterable

from inception_jax.console import duration, percent, plural
from inception_jax.console import table as text_table
from inception_jax.paths import AnyPath, written
from inception_jax.report.sweep.analysis import (
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
    f"A verdict says what our runs say about a claim. *More accurate*: the {INTERVAL} decides, Student's, of the "
    "differences seed by seed. The claim *agrees* if the interval lies on its side of 0, *disagrees* if it lies on the "
    "other side, and is *inconclusive* otherwise, or with fewer than two pairs. *As accurate*: it agrees if the "
    f"interval begins above -{MARGIN:g} point, a margin of our choice. It disagrees if the interval lies below 0 and "
    "its mean below the margin. *Faster*: we compare the steps to the top-1 with which the other variant of the same "
    "seed ends, by their ratio. A variant that never gets there in any seed disagrees; in some seeds, it is "
    "inconclusive. A claim about several variants counts the pairs of all of them. A verdict is about the direction, "
    "not about the size that a paper gives."
)
CHANCE = "Of 20 comparisons at 95 % of variants that do not differ, one excludes 0 by chance."
SMALL = "These are small networks on small data, not the papers' on ImageNet: a verdict is about the claim here."
HOW = (
    "Accuracies are those of the last step on the test split. Time is that of training alone, without evaluation and "
    "compilation: steps times batch size, divided by the images per second in the log. Multiply-adds of a network are "
    f"those of the forward pass of one image; training counts {TRAINING_COST} times as many for each image, because "
    "the backward pass costs about twice the forward pass. Memory is the peak: that of an accelerator, or on a CPU "
    "that of the whole process. A paper's numbers were measured on its own data; compare them among themselves."
)
# Of a document, what stands above this line is written by hand, and stays.
MARK = "<!-- Generated below this line by `python -m experiments.report`; do not edit. -->"


@dataclasses.dataclass(frozen=True)
class Cell:
    """Text, in which backticks mark code; and what it is sorted by where that is a number."""

    text: str
    value: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table. In the columns named in `numbers`, cells without a value are sorted last."""

    heading: str
    note: str
    header: list[str]
    rows: list[list[Cell]]
    numbers: frozenset[str] = frozenset()


def results_table(data: dict, analysis: Analysis) -> Table:
    """Returns the table of all variants and evaluations over their seeds; a column without a value is left out."""
    goal = "" if analysis.threshold is None else f" {percent(analysis.threshold)}"
    base = data["sweep"]["baseline"]
    lengths = {_length(row).text for row in analysis.rows} - {"–"}
    columns = {
        "variant": lambda row: Cell(code(row.name)),
        "changes": lambda row: Cell(row.changes),
        "runs": lambda row: Cell(_of(len(row.top1), row.wanted), len(row.top1)),
        "top-1": _top1,
        "lowest": lambda row: _cell(min(row.top1.values(), default=None), percent),
        f"against {code(base)}": _difference,
        f"steps to{goal}": _steps,
        "steps x batch": lambda row: _length(row) if len(lengths) > 1 else Cell("–"),
        "parameters": lambda row: _cell(row.others["parameters"], "{:,.0f}".format),
        "multiply-adds": lambda row: _cell(row.others["multiply_adds"], "{:,.0f}".format),
        "img/s": lambda row: _cell(row.others["images_per_second"], "{:,.0f}".format),
        "training": lambda row: _cell(row.others["train_seconds"], duration),
        "memory": lambda row: _cell(row.others["peak_memory"], memory),
        "paper": lambda row: Cell(row.printed or "–", _number(row.printed)),
    }
    made = {name: [make(row) for row in analysis.rows] for name, make in columns.items()}
    made = {name: cells for name, cells in made.items() if any(cell.text != "–" for cell in cells)}
    whose = "which was given" if analysis.given else f"the mean that {code(base)} ends with"
    notes = ["Means and standard deviations over the finished runs; *lowest* is that of the worst seed."]
    if goal:
        notes.append(f"Steps: the first evaluation of each seed with a top-1 of{goal} or more, {whose}.")
    if "paper" in made and data["sweep"]["printed_what"]:
        notes.append(f"Paper: {data['sweep']['printed_what']}.")
    rows = [list(row) for row in zip(*made.values(), strict=True)]
    return Table("Results", " ".join(notes), list(made), rows, frozenset(list(columns)[2:]))


def claims_table(analysis: Analysis) -> Table:
    """Returns the table of what the paper claims, and the verdicts."""
    return Table("Claims", tally(analysis.claims), _JUDGED, [_judged(claim) for claim in analysis.claims])


def absent_table(analysis: Analysis) -> Table:
    """Returns the table of the runs that are not averaged, and why."""
    rows = [
        [Cell(code(run["name"])), Cell(str(run["seed"]), run["seed"]), Cell(run["state"]), Cell(code(run["error"]))]
        for run in analysis.absent
    ]
    note = "Runs and evaluations that are not finished; they are in no mean."
    return Table("Not counted", note, ["variant", "seed", "state", "why"], rows, frozenset(["seed"]))


def tables(data: dict, analysis: Analysis) -> list[Table]:
    """Returns the tables of one sweep that have a row."""
    made = [results_table(data, analysis), claims_table(analysis), absent_table(analysis)]
    return [table for table in made if table.rows]


def report(data: dict) -> str:
    """Returns the Markdown report on one sweep."""
    analysis = analyse(data)
    parts = [f"# {heading(data)}", *_about(data)]
    for table in tables(data, analysis):
        parts += [f"## {table.heading}", _markdown(table)]
    parts += ["## How to read this", *reading(data), "## Again", _block(command(data))]
    return "\n\n".join(parts) + "\n"


def terminal(data: dict) -> str:
    """Returns the report on one sweep for a terminal: results, verdicts, and the runs that are not counted."""
    analysis = analyse(data)
    results = results_table(data, analysis)
    kept = [i for i, name in enumerate(results.header) if name in ("variant", "runs", "top-1") or " " in name]
    rows = [[row[i].text.replace("`", "") for i in kept] for row in results.rows]
    header = [results.header[i].replace("`", "") for i in kept]
    lines = [f"{heading(data)}\n", text_table(header, rows, left=len(header))]
    if analysis.claims:
        lines += ["", tally(analysis.claims)]
        lines += [f"  {claim.verdict:<13} {claim.text} ({claim.words})".replace("`", "") for claim in analysis.claims]
    if analysis.absent:
        lines += ["", f"Not counted: {len(analysis.absent)}"]
        lines += [f"  {' '.join(cell.text for cell in row)}".replace("`", "") for row in absent_table(analysis).rows]
    return "\n".join(lines)


def write_document(file: AnyPath, sweeps: dict[str, dict]) -> None:
    """Writes the document over several sweeps; what stands in the file above `MARK` stays."""
    head = "# Sweeps\n\n"
    if file.exists():
        head = file.read_text(encoding="utf-8", errors="backslashreplace").partition(MARK)[0]
    with written(file) as local:
        local.write_text(f"{head}{MARK}\n\n{document(sweeps)}", encoding="utf-8", errors="backslashreplace")


def document(sweeps: dict[str, dict]) -> str:
    """Returns the Markdown over several sweeps, by name; a function of their data alone."""
    analyses = {name: analyse(data) for name, data in sweeps.items()}
    claims = [claim for analysis in analyses.values() for claim in analysis.claims]
    overview = [
        [Cell(f"[{heading(sweeps[name])}](#{_anchor(heading(sweeps[name]))})"), *_judged(claim)]
        for name, analysis in analyses.items()
        for claim in analysis.claims
    ]
    table = Table("", "", ["sweep", *_JUDGED], overview)
    differences = [row.difference for analysis in analyses.values() for row in analysis.rows if row.difference]
    tested = [difference for difference in differences if difference.low is not None and not difference.flat]
    excluding = sum(bool(difference.sign) for difference in tested)
    count = (
        f"{tally(claims)} The tables below compare variants with their baseline {len(tested)} times; "
        f"{excluding} of the intervals exclude 0, and about {len(tested) / 20:.1f} would if nothing differed."
    )
    parts = [*_seeds(sweeps), MEANING, f"{CHANCE} {SMALL}", HOW, "## Overview", count]
    parts += [_markdown(table)] if overview else []
    for name, data in sweeps.items():
        parts += [f"## {heading(data)}", *_about(data)]
        for one in tables(data, analyses[name]):
            parts += [f"### {one.heading}", _markdown(one)]
        parts.append(_block(command(data)))
    return "\n\n".join(parts) + "\n"


def _seeds(sweeps: dict[str, dict]) -> list[str]:
    counts = Counter(run["state"] for data in sweeps.values() for run in data["runs"])
    seeds = {len(data["sweep"]["seeds"]) for data in sweeps.values()}
    if not seeds:
        return []
    each = " or ".join(map(str, sorted(seeds)))
    others = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if state != "finished")
    return [
        f"{plural(len(sweeps), 'sweep')} of {counts.total()} runs, {counts['finished']} of them finished"
        f"{f' ({others})' if others else ''}, {each} seeds of each variant. Variants are compared seed by seed: runs "
        "of one seed see the images in the same order, unless the variant changes that."
    ]


def heading(data: dict) -> str:
    """Returns a sweep's title, and what it was run on."""
    sweep = data["sweep"]
    return f"{sweep['title']} ({sweep['data']})" if sweep["data"] else sweep["title"]


def paragraphs(data: dict) -> list[str]:
    """Returns a sweep's own text, in paragraphs."""
    return [part.strip() for part in re.split(r"\n\s*\n", data["sweep"]["text"]) if part.strip()]


def facts(data: dict) -> dict[str, str]:
    """Returns what all runs of a sweep share, in words; backticks mark code."""
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
        "Training": _common(runs, "total_steps", "{:,}", " steps") + _common(runs, "batch", "{}", " images", " of "),
        "Test images": _common([*runs, *data["evaluations"]], "count", "{:,}"),
        "Device": _common(runs, "device", "{}"),
    }
    return {name: value for name, value in found.items() if value}


def reading(data: dict) -> list[str]:
    """Returns what must be known to read the tables of a sweep, in paragraphs."""
    small = "" if data["sweep"]["data"].startswith("imagenet2012") else f" {SMALL}"
    return [MEANING, f"{CHANCE}{small}", HOW]


def command(data: dict) -> str:
    """Returns the command that runs the sweep again."""
    sweep = data["sweep"]
    words = f":{sweep['data']}" if sweep["data"] else ""
    settings = shlex.join(map(str, sweep["settings"]))
    return f"python -m experiments.sweep {sweep['file']}{words} --workdir=DIR {settings}".rstrip()


def tally(claims: Iterable[Claim]) -> str:
    """Returns 'Of 3 claims 1 agrees, 0 disagree, 2 are inconclusive.'"""
    count = Counter(claim.verdict for claim in claims)
    agrees, disagrees, rest = (count[verdict] for verdict in VERDICTS)
    return (
        f"Of {plural(count.total(), 'claim')} {agrees} agree{'s' if agrees == 1 else ''}, "
        f"{disagrees} disagree{'s' if disagrees == 1 else ''}, {rest} {'is' if rest == 1 else 'are'} inconclusive."
    )


def memory(size: float) -> str:
    """Formats bytes as '812 MB' or '1.25 GB'."""
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def _about(data: dict) -> list[str]:
    listed = "\n".join(f"- {name}: {value}" for name, value in facts(data).items())
    return [*paragraphs(data), listed]


def _common(runs: list[dict], key: str, form: str, unit: str = "", before: str = "") -> str:
    values = dict.fromkeys(run[key] for run in runs if run.get(key) is not None)
    return f"{before}{', '.join(map(form.format, values))}{unit}" if values else ""


def _of(count: int, wanted: int) -> str:
    return str(count) if count == wanted else f"{count} of {wanted}"


def _cell(value: float | None, form: Callable[[float], str]) -> Cell:
    return Cell("–" if value is None else form(value), value)


def _length(row: Row) -> Cell:
    steps, batch = row.others["total_steps"], row.others["batch"]
    return Cell("–") if steps is None or batch is None else Cell(f"{steps:,.0f} x {batch:.0f}", steps * batch)


def _number(text: str) -> float | None:
    """The first number in what a paper prints."""
    found = re.search(r"-?\d+(\.\d+)?", text.replace(",", ""))
    return float(found[0]) if found else None


def _top1(row: Row) -> Cell:
    values = list(row.top1.values())
    if not values:
        return Cell("–")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Cell(percent(mean), mean)
    return Cell(f"{100 * mean:.2f} ± {percent(statistics.stdev(values))}", mean)


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
        return Cell(f"never in {plural(len(steps), 'run')}")
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
    """The name that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")

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
    AT_CHANCE,
    LEVEL,
    MARGINS,
    TRAINING_COST,
    VERDICTS,
    Analysis,
    Claim,
    Row,
    analyse,
    analyse_together,
    baseline_of,
    code,
    family_of,
    in_points,
    in_words,
    interval_name,
    mark_chance,
    outcome,
    set_of,
    setting,
    short,
)
from inception_jax.report.sweep.forest import forest

_POINTS, _RATIO = in_words(MARGINS["top1"]), f"{MARGINS['steps']:g}"
MEANING = (
    "A verdict says what our runs say about a claim, by t tests on differences between runs of one seed. The claim "
    "*agrees* if the interval lies on its side of 0, and *disagrees* if it lies on the other side. Otherwise it is "
    "*equivalent* if the interval lies within the margin: the difference is too small to matter, for or against. That "
    "is two tests of one side each; the interval is theirs, and 0 may lie outside of it. The rest is "
    f"*inconclusive*. The margin is our choice: {_POINTS}, or {_RATIO} times the steps, unless another is stated. "
    "If the errors are below the margin, no difference can be larger, and the verdict says little.",
    "Two kinds of claims differ. *As accurate* agrees if the interval lies above minus the margin. It disagrees if the "
    "interval lies below 0 and the mean below minus the margin. *Faster* compares the steps to the last top-1 of the "
    f"other run of the same seed, minus {_POINTS}, by their ratio. Without this margin, noise would decide where a "
    "curve is flat. A run that never gets there counts with all its steps: it needs more than that, so its claim may "
    "disagree, but neither agree nor be equivalent.",
    "A claim about several variants or sets of images gives each of them the same weight, however many runs it has. "
    "With fewer than two pairs of any of them there is no test. The interval has the level at which the claim was "
    "tested. A verdict is about the direction, not about the size that a paper gives.",
)
SMALL = "These are small networks on small data, not the papers' on ImageNet: a verdict is about the claim here."
HOW = (
    "Accuracies are those of the last step on the test split. Time is that of training alone, without evaluation and "
    "compilation: steps times batch size, divided by the images per second in the log. Multiply-adds of a network are "
    f"those of the forward pass of one image; training counts {TRAINING_COST} times as many for each image, because "
    "the backward pass costs about twice the forward pass. Memory is the peak: that of an accelerator, or on a CPU "
    "that of the whole process. A paper's numbers were measured on its own data; compare them among themselves."
)
SEEN = "What could have been seen"
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


def results_table(data: dict, analysis: Analysis, one: str = "") -> Table:
    """Returns the table of the variants and evaluations of a set over their seeds.

    Args:
      data: of the sweep.
      analysis: what `analyse` returns of it.
      one: name of the set; "" in a sweep without sets.

    Returns:
      The table; a column without a value is left out.
    """
    sweep, threshold = data["sweep"], analysis.thresholds.get(one)
    analysed = [row for row in analysis.rows if row.data == one]
    goal = "" if threshold is None else f" {percent(threshold)}"
    base = code(sweep["baseline"])
    shared = _shared(sweep, one)
    lengths = {_length(row).text for row in analysed} - {"–"}
    columns = {
        "variant": lambda row: Cell(code(short(sweep, row.name))),
        "changes": lambda row: Cell(", ".join(part for part in row.changes if part not in shared) or "nothing"),
        "learning rate": lambda row: Cell(row.rate or "–", _number(row.rate)),
        "runs": lambda row: Cell(_runs(row), len(row.top1)),
        "top-1": _top1,
        "lowest": lambda row: _cell(min(row.top1.values(), default=None), percent),
        f"against {base}": _difference,
        f"steps to{goal}": _steps,
        "steps x batch": lambda row: _length(row) if len(lengths) > 1 else Cell("–"),
        "parameters": lambda row: _cell(row.others["parameters"], "{:,.0f}".format),
        "multiply-adds": lambda row: _cell(row.others["multiply_adds"], "{:,.0f}".format),
        "img/s": lambda row: _cell(row.others["images_per_second"], "{:,.0f}".format),
        "training": lambda row: _cell(row.others["train_seconds"], duration),
        "memory": lambda row: _cell(row.others["peak_memory"], memory),
        "paper": lambda row: Cell(row.printed or "–", _number(row.printed)),
    }
    made = {name: [make(row) for row in analysed] for name, make in columns.items()}
    made = {name: cells for name, cells in made.items() if any(cell.text != "–" for cell in cells)}
    whose = "which was given" if analysis.given else f"the mean that {base} ends with"
    notes = []
    if one in ["", *sweep["sets"][:1]]:  # what holds for the tables of all sets is told once
        notes += ["Means and standard deviations over the finished runs; *lowest* is that of the worst seed."]
        notes += [f"Against {base}: the plain {interval_name(LEVEL)}, not corrected for the number of comparisons."]
        if "learning rate" in made and any(len(tried) > 1 for tried in data["plan"]["rates"].values()):
            notes.append("Learning rate: the one that did best on the validation split before the runs.")
        if "paper" in made and sweep["printed_what"]:
            notes.append(f"Paper: {sweep['printed_what']}.")
    if goal:
        notes.append(f"Steps: the first evaluation of each seed with a top-1 of{goal} or more, {whose}.")
    if shared:
        notes.append(f"All variants have {', '.join(shared)}.")
    rows = [list(row) for row in zip(*made.values(), strict=True)]
    numbers = frozenset(list(columns)[2:])
    return Table(f"Results on {one}" if one else "Results", " ".join(notes), list(made), rows, numbers)


def claims_table(analysis: Analysis, note: str = "") -> Table:
    """Returns the table of what the paper claims, and the verdicts."""
    rows = [_judged(claim) for claim in analysis.claims]
    return Table("Claims", f"{tally(analysis.claims)} {note}".strip(), _JUDGED, rows)


def seen_table(sweeps: dict[str, dict], analyses: dict[str, Analysis]) -> Table:
    """Returns the table of what the sweeps that have claims could show, before and after their runs."""
    rows, plans = [], []
    for name, data in sweeps.items():
        analysis, plan = analyses[name], data.get("plan")
        if not analysis.claims:
            continue
        plans += [plan] if plan else []
        halves = [
            (claim.interval[1] - claim.interval[0]) / 2
            for claim in analysis.claims
            if claim.interval and claim.measure != "steps"
        ]
        decided = [claim for claim in analysis.claims if claim.verdict != "inconclusive"]
        low = sum(claim.ceiling for claim in decided)
        rows.append(
            [
                Cell(_linked(data)),
                Cell(str(len(data["sweep"]["seeds"])), len(data["sweep"]["seeds"])),
                Cell(_by_set({one: pilot["sd"] for one, pilot in plan["pilot"].items()}) if plan else "–"),
                Cell(f"{plan['visible']:.1f}", plan["visible"]) if plan else Cell("–"),
                Cell(_by_set(_observed(data, analysis))),
                Cell(_span(halves), max(halves, default=None)),
                Cell(
                    f"{len(decided)} of {len(analysis.claims)}"
                    + (f", {low} with errors below the margin" if low else ""),
                    len(decided) / len(analysis.claims),
                ),
            ]
        )
    header = ["sweep", "seeds", "SD of the pilot", "visible", "SD of the baseline", "half the interval", "decided"]
    notes = ["SD: the standard deviation of top-1 between seeds, in points."]
    if plans:
        powers, claims = (sorted({plan[key] for plan in plans}) for key in ("power", "claims"))
        notes.append(
            "The pilot ran the baseline on the validation split, before the number of seeds was chosen. Visible: the "
            "difference in points that, by the plan, so many seeds show with probability "
            f"{_either(powers)}, in a test corrected for {_either(claims)} claims. For it the SD of a difference is "
            "taken as the square root of 2 times that between seeds, as if two runs of one seed had nothing in common "
            "and variants varied as the baseline does."
        )
    notes.append("Half the interval: of the claims about accuracy, in points, corrected. Decided: not inconclusive.")
    kept = [i for i in range(len(header)) if any(row[i].text != "–" for row in rows)]
    kept = kept[1:] if len(sweeps) == 1 else kept
    rows = [[row[i] for i in kept] for row in rows]
    return Table(SEEN, " ".join(notes), [header[i] for i in kept], rows, frozenset(header[i] for i in (1, 3, 5, 6)))


def absent_table(analysis: Analysis) -> Table:
    """Returns the table of the runs that are not averaged, and why."""
    rows = [
        [Cell(code(run["name"])), Cell(str(run["seed"]), run["seed"]), Cell(run["state"]), Cell(code(run["error"]))]
        for run in analysis.absent
    ]
    note = (
        "Runs and evaluations that are not finished, or that are at chance: below the accuracy of guessing plus "
        f"{AT_CHANCE} standard errors. They are in no mean."
    )
    return Table("Not counted", note, ["variant", "seed", "state", "why"], rows, frozenset(["seed"]))


def results_tables(data: dict, analysis: Analysis) -> list[Table]:
    """Returns the tables of results, one for each set."""
    made = [results_table(data, analysis, one) for one in data["sweep"]["sets"] or [""]]
    return [table for table in made if table.rows]


def verdict_tables(data: dict, analysis: Analysis) -> list[Table]:
    """Returns the tables of one sweep that say what was found, and what could have been seen."""
    made = [claims_table(analysis, correction([data])), seen_table({"": data}, {"": analysis})]
    return [table for table in made if table.rows]


def detail_tables(data: dict, analysis: Analysis) -> list[Table]:
    """Returns the tables of one sweep that give the details."""
    return [*results_tables(data, analysis), *([absent_table(analysis)] if analysis.absent else [])]


def correction(sweeps: Iterable[dict]) -> str:
    """Returns how the claims of these sweeps are corrected for their number."""
    sweeps = list(sweeps)
    family, here = family_of(sweeps), sum(len(data["sweep"]["claims"]) for data in sweeps)
    others = f" The {family - here} that are planned and not here count as undecided." if family > here else ""
    return (
        f"The intervals are corrected for {plural(family, 'claim')}, by Holm's method: the "
        f"probability that any of them agrees or disagrees by chance is {100 * (1 - LEVEL):.0f} % at most. The same "
        f"holds for those that are equivalent.{others}"
    )


def report(data: dict) -> str:
    """Returns the Markdown report on one sweep."""
    analysis = analyse(data)
    parts = [f"# {heading(data)}", *_about(data)]
    for table in [*verdict_tables(data, analysis), *detail_tables(data, analysis)]:
        parts += [f"## {table.heading}", _markdown(table)]
    parts += ["## How to read this", *reading(data), "## Again", _block(command(data))]
    return "\n\n".join(parts) + "\n"


def terminal(data: dict) -> str:
    """Returns the report on one sweep for a terminal: results, verdicts, and the runs that are not counted."""
    analysis = analyse(data)
    lines = [heading(data)]
    for results in results_tables(data, analysis):
        names = ("variant", "learning rate", "runs", "top-1")
        kept = [i for i, name in enumerate(results.header) if name in names or name.startswith(("against", "steps to"))]
        rows = [[row[i].text.replace("`", "") for i in kept] for row in results.rows]
        header = [results.header[i].replace("`", "") for i in kept]
        title = [results.heading] if data["sweep"]["sets"] else []
        lines += ["", *title, text_table(header, rows, left=len(header))]
    if analysis.claims:
        lines += ["", tally(analysis.claims)]
        lines += [f"  {claim.verdict:<13} {claim.text} ({claim.words})".replace("`", "") for claim in analysis.claims]
    if analysis.absent:
        lines += ["", f"Not counted: {len(analysis.absent)}"]
        lines += [f"  {' '.join(cell.text for cell in row)}".replace("`", "") for row in absent_table(analysis).rows]
    return "\n".join(lines)


def write_document(file: AnyPath, sweeps: dict[str, dict]) -> AnyPath | None:
    """Writes the document over several sweeps, and beside it its figure; what stands above `MARK` stays.

    Returns:
      The file of the figure; None if the sweeps have no claim.
    """
    head = "# Sweeps\n\n"
    if file.exists():
        head = file.read_text(encoding="utf-8", errors="backslashreplace").partition(MARK)[0]
    drawing, picture = figure(sweeps), file.with_suffix(".svg")
    if drawing:
        with written(picture) as local:
            local.write_text(drawing, encoding="utf-8", errors="backslashreplace")
    with written(file) as local:
        text = f"{head}{MARK}\n\n{document(sweeps, picture.name)}"
        local.write_text(text, encoding="utf-8", errors="backslashreplace")
    return picture if drawing else None


def figure(sweeps: dict[str, dict]) -> str:
    """Returns the SVG of the document over several sweeps: the forest plot of all their claims."""
    return _figure(sweeps, analyse_together(sweeps))


def _figure(sweeps: dict[str, dict], analyses: dict[str, Analysis]) -> str:
    return forest({heading(sweeps[name]): analysis.claims for name, analysis in analyses.items()})


def document(sweeps: dict[str, dict], picture: str) -> str:
    """Returns the Markdown over several sweeps, by name; a function of their data alone.

    Args:
      sweeps: data by name.
      picture: name of the file that holds what `figure` returns.
    """
    analyses = analyse_together(sweeps)
    claims = [claim for analysis in analyses.values() for claim in analysis.claims]
    parts = [*_seeds(sweeps), "## Verdicts", f"{tally(claims)} {correction(sweeps.values())}"]
    if claims:
        overview = [
            [Cell(_linked(sweeps[name])), *_judged(claim)]
            for name, analysis in analyses.items()
            for claim in analysis.claims
        ]
        parts += [f"![Forest plot of the claims, with the numbers of the table below it. {tally(claims)}]({picture})"]
        parts += [_markdown(Table("", "", ["sweep", *_JUDGED], overview))]
        parts += [f"## {SEEN}", _markdown(seen_table(sweeps, analyses))]
    differences = [row.difference for analysis in analyses.values() for row in analysis.rows if row.difference]
    tested = [difference for difference in differences if difference.tested]
    excluding = sum(bool(difference.sign) for difference in tested)
    count = (
        f"The tables of results compare variants with their baseline {len(tested)} times, with plain "
        f"{interval_name(LEVEL)}s; {excluding} of them exclude 0, and about {(1 - LEVEL) * len(tested):.1f} would if "
        "nothing differed."
    )
    parts += ["## How to read this", *MEANING, SMALL, HOW, count]
    for name, data in sweeps.items():
        parts += [f"## {heading(data)}", *_about(data)]
        own = [claims_table(analyses[name])] if analyses[name].claims else []
        for one in [*own, *detail_tables(data, analyses[name])]:
            parts += [f"### {one.heading}", _markdown(one)]
        parts.append(_block(command(data)))
    return "\n\n".join(parts) + "\n"


def _seeds(sweeps: dict[str, dict]) -> list[str]:
    counts = Counter(run["state"] for data in sweeps.values() for run in mark_chance(data)["runs"])
    seeds = {len(data["sweep"]["seeds"]) for data in sweeps.values()}
    if not seeds:
        return []
    each = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
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
    states = Counter(run["state"] for run in mark_chance(data)["runs"])
    stuck = f", {states['at chance']} more at chance" if states["at chance"] else ""
    found = {
        "Base": base + (" with " if base and overrides else "") + ", ".join(overrides),
        "Baseline": code(sweep["baseline"]),
        "Data": ", ".join(sweep["sets"]),
        "Seeds": ", ".join(map(str, sweep["seeds"])),
        "Runs": f"{_of(states['finished'], len(runs))} finished{stuck}",
        "Training": _common(runs, "total_steps", "{:,}", " steps") + _common(runs, "batch", "{}", " images", " of "),
        "Test images": _common([*runs, *data["evaluations"]], "count", "{:,}"),
        "Device": _common(runs, "device", "{}"),
    }
    return {name: value for name, value in found.items() if value}


def reading(data: dict) -> list[str]:
    """Returns what must be known to read the tables of a sweep, in paragraphs."""
    small = [] if data["sweep"]["data"].startswith("imagenet2012") else [SMALL]
    return [*(MEANING if data["sweep"]["claims"] else ()), *small, HOW]


def command(data: dict) -> str:
    """Returns the command that runs the sweep again."""
    sweep = data["sweep"]
    words = f":{sweep['data']}" if sweep["data"] else ""
    settings = shlex.join(map(str, sweep["settings"]))
    return f"python -m experiments.sweep {sweep['file']}{words} --workdir=DIR {settings}".rstrip()


def tally(claims: Iterable[Claim]) -> str:
    """Returns 'Of 4 claims 1 agrees, 0 disagree, 1 is equivalent, 2 are inconclusive.'"""
    count = Counter(claim.verdict for claim in claims)
    agrees, disagrees, *others = ((count[verdict], verdict) for verdict in VERDICTS)
    parts = [f"{n} {verdict if n == 1 else verdict.removesuffix('s')}" for n, verdict in (agrees, disagrees)]
    parts += [f"{n} {'is' if n == 1 else 'are'} {verdict}" for n, verdict in others]
    return f"Of {plural(count.total(), 'claim')} {', '.join(parts)}."


def memory(size: float) -> str:
    """Formats bytes as '812 MB' or '1.25 GB'."""
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def _about(data: dict) -> list[str]:
    listed = "\n".join(f"- {name}: {value}" for name, value in facts(data).items())
    return [*paragraphs(data), listed]


def _common(runs: list[dict], key: str, form: str, unit: str = "", before: str = "") -> str:
    values = dict.fromkeys(run[key] for run in runs if run.get(key) is not None)
    return f"{before}{', '.join(map(form.format, values))}{unit}" if values else ""


def _linked(data: dict) -> str:
    return f"[{heading(data)}](#{_anchor(heading(data))})"


def _shared(sweep: dict, one: str) -> list[str]:
    """What all variants of a set change alike, so that it is not told of each."""
    if not one:
        return []
    changes = [list(map(setting, v, v.values())) for name, v in sweep["variants"].items() if set_of(sweep, name) == one]
    return [part for part in changes[0] if all(part in others for others in changes)] if len(changes) > 1 else []


def _observed(data: dict, analysis: Analysis) -> dict[str, float]:
    """The standard deviation of the baseline between seeds by set, in points, where two runs or more count."""
    bases = {baseline_of(data["sweep"], one): one for one in data["sweep"]["sets"] or [""]}
    return {
        bases[row.name]: 100 * statistics.stdev(row.top1.values())
        for row in analysis.rows
        if row.name in bases and len(row.top1) > 1
    }


def _by_set(sds: dict[str, float]) -> str:
    """Formats '2.1', or 'glyphs 2.1, textures 0.4'."""
    if len(sds) == 1:
        return f"{next(iter(sds.values())):.1f}"
    return ", ".join(f"{one} {sd:.1f}" for one, sd in sds.items()) or "–"


def _span(values: list[float]) -> str:
    if not values:
        return "–"
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def _either(values: Iterable[float]) -> str:
    return " or ".join(f"{value:g}" for value in values)


def _runs(row: Row) -> str:
    return _of(len(row.top1), row.wanted) + (f", {row.at_chance} at chance" if row.at_chance else "")


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

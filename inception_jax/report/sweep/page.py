"""The HTML page on a sweep: one file that loads nothing, with Plotly's curves and tables that can be sorted."""

import html
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from inception_jax.console import percent
from inception_jax.errors import needs_extra
from inception_jax.paths import AnyPath
from inception_jax.report.page import write_page
from inception_jax.report.sweep.analysis import (
    VERDICTS,
    Analysis,
    analyse,
    baseline_of,
    curves,
    mark_chance,
    set_of,
    short,
)
from inception_jax.report.sweep.document import (
    Cell,
    Table,
    command,
    detail_tables,
    facts,
    heading,
    paragraphs,
    reading,
    verdict_tables,
)
from inception_jax.report.sweep.forest import forest

_CSS = """
:root { --same: #1b7f4d; }
@media (prefers-color-scheme: dark) { :root { --same: #5fd39a; } }
body { max-width: 84rem; }
section p:last-of-type { margin-bottom: .75rem; }
a { color: var(--train); }
.about { margin-top: 1.75rem; }
.scroll { position: relative; max-width: 100%; }
.report { min-width: 100%; border-collapse: separate; border-spacing: 0; }
.report :is(th, td) { padding: .35rem .9rem .35rem 0; vertical-align: top; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
.report .number { text-align: right; }
.report .text { white-space: normal; min-width: 17rem; max-width: 26rem; overflow-wrap: break-word; }
.report thead th { vertical-align: bottom; }
.report td:first-child:not(.text) { position: sticky; left: 0; background: var(--page); }
.report .text code { overflow-wrap: anywhere; }
.report thead code { white-space: nowrap; }
.report button { all: unset; cursor: pointer; color: var(--quiet); white-space: nowrap; }
.report button::after { content: "\\2195"; opacity: .35; padding-left: .25em; }
.report [aria-sort] button { color: var(--ink); }
.report [aria-sort] button::after { opacity: 1; }
.report [aria-sort=ascending] button::after { content: "\\2191"; }
.report [aria-sort=descending] button::after { content: "\\2193"; }
:is(.report, .keys, .axes) :focus-visible { outline: 2px solid var(--train); outline-offset: 2px; border-radius: 2px; }
.verdict { font-weight: 600; }
.agrees::before { content: "\\2713\\a0"; color: var(--train); }
.disagrees::before { content: "\\2717\\a0"; color: var(--wrong); }
.equivalent::before { content: "\\2248\\a0"; color: var(--same); }
.inconclusive::before { content: "?\\a0"; color: var(--quiet); }
.forest { display: block; margin: .5rem 0 1rem; }
.axes { border: 0; margin: 0 0 .5rem; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem;
  font-size: .875rem; }
.axes legend { float: left; padding: 0; color: var(--quiet); }
.axes label { white-space: nowrap; cursor: pointer; }
.keys { display: flex; flex-wrap: wrap; gap: .25rem .5rem; margin: .75rem 0 1rem; padding: 0; list-style: none; }
.keys button { font: inherit; font-size: .875rem; color: var(--ink); background: none; border: 1px solid var(--rule);
  border-radius: .35rem; padding: .15rem .6rem; display: flex; align-items: center; gap: .5rem; cursor: pointer;
  text-align: left; }
.keys button[aria-pressed=false] { color: var(--quiet); text-decoration: line-through; }
.keys button[aria-pressed=false] svg { opacity: .25; }
.keys .plain { color: var(--quiet); border-color: transparent; text-decoration: underline; }
.keys svg { flex: none; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1.5rem 2rem; }
.plots + .axes { margin-top: 1.75rem; }
.plots figure { min-width: 0; }
.plots figcaption { font-weight: 600; }
.plot { height: 22rem; }
pre { overflow-x: auto; background: var(--card); padding: .75rem; }
pre code { overflow-wrap: normal; }
"""


def write(path: AnyPath, data: dict) -> None:
    """Writes the page on one sweep's data; the file appears whole or not at all.

    Raises:
      MissingExtraError: Plotly, which draws the curves, is not installed.
    """
    with needs_extra("report"):
        from plotly.offline import get_plotlyjs
    analysis = analyse(data)
    sections = [
        f'<section class="about">\n{_paragraphs(paragraphs(data))}\n</section>',
        _verdicts(data, analysis),
        *(_section(table.heading, table.note, _table(table)) for table in detail_tables(data, analysis)),
        _plots(data, analysis),
        _runs(data),
        f"<section>\n<h2>How to read this</h2>\n{_paragraphs(reading(data))}\n</section>",
        f"<section>\n<h2>Again</h2>\n<pre><code>{html.escape(command(data))}</code></pre>\n</section>",
    ]
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    sections, scripts = [section for section in sections if section], [get_plotlyjs(), script]
    write_page(path, heading(data), _facts(data, analysis), sections, style=_CSS, scripts=scripts)


def inline(text: str) -> str:
    """Converts text to HTML: `code` in backticks, *emphasis* in stars, and addresses as links."""
    shown = []
    for part in re.split(r"(`[^`\n]*`|https?://[^\s<>()`]+[^\s<>()`.,;:])", text):
        escaped = html.escape(part)
        if len(part) > 1 and part[0] == part[-1] == "`":
            shown.append(f"<code>{escaped[1:-1]}</code>")
        elif re.match("https?://", part):
            shown.append(f'<a href="{escaped}">{escaped}</a>')
        else:
            shown.append(re.sub(r"(?<!\w)\*(\w[^*\n]*)\*(?!\w)", r"<em>\1</em>", escaped))
    return "".join(shown)


def _facts(data: dict, analysis: Analysis) -> dict[str, str]:
    shown = {}
    if analysis.claims:
        count = Counter(claim.verdict for claim in analysis.claims)
        names = ("Claims that agree", "That disagree", "Equivalent", "Inconclusive")
        shown = {name: str(count[verdict]) for name, verdict in zip(names, VERDICTS, strict=True)}
    return shown | {name: value.replace("`", "") for name, value in facts(data).items()}


def _verdicts(data: dict, analysis: Analysis) -> str:
    """The forest plot with the table of claims, then what could have been seen; "" without a claim."""
    drawing, made = f"<figure>\n{forest({'': analysis.claims})}</figure>\n", []
    for table in verdict_tables(data, analysis):
        made.append(_section(table.heading, table.note, drawing + _table(table)))
        drawing = ""
    return "\n".join(made)


def _paragraphs(texts: list[str]) -> str:
    return "\n".join(f"<p>{inline(text)}</p>" for text in texts)


def _section(title: str, note: str, body: str) -> str:
    # As report.page.section, whose note is plain.
    return f"<section>\n<h2>{html.escape(title)}</h2>\n<p>{inline(note)}</p>\n{body}\n</section>"


def _table(table: Table) -> str:
    kinds = [_kind(table, column) for column in range(len(table.header))]
    head = "".join(
        f'<th scope="col" class="{kind}">{inline(name)}</th>' for name, kind in zip(table.header, kinds, strict=True)
    )
    rows = []
    for row in table.rows:
        cells = []
        for cell, name, kind in zip(row, table.header, kinds, strict=True):
            value = ""
            if name in table.numbers:
                value = f' data-value="{"" if cell.value is None else repr(float(cell.value))}"'
            shown = inline(cell.text)
            if name == "verdict":
                kind = f"verdict {html.escape(cell.text)}"
            cells.append(f'<td class="{kind}"{value}>{shown}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>\n")
    label = html.escape(table.heading)
    return (
        # Focusable, so that the keyboard can scroll it.
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">\n<table class="report">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody>\n</table>\n</div>"
    )


def _kind(table: Table, column: int) -> str:
    """The class of a column: long text is wrapped, numbers stand to the right."""
    if max(len(row[column].text) for row in table.rows) > 34:
        return "text"
    return "number" if table.header[column] in table.numbers else "short"


def _runs(data: dict) -> str:
    """Every run by itself."""
    rows = []
    marked = mark_chance(data)
    for run in [*marked["runs"], *marked["evaluations"]]:
        name = run.get("variant") or run["name"]
        step = run.get("step")
        rows.append(
            [
                Cell(f"`{name}`"),
                Cell(str(run["seed"]), run["seed"]),
                Cell(run["state"]),
                Cell("–" if step is None else f"{step:,}", step),
                *(Cell("–" if run[key] is None else percent(run[key]), run[key]) for key in ("top1", "top5")),
                Cell("–" if run["loss"] is None else f"{run['loss']:.4f}", run["loss"]),
            ]
        )
    header = ["variant", "seed", "state", "step", "top-1", "top-5", "loss"]
    table = Table("Runs", "Each by itself.", header, rows, frozenset(header) - {"variant", "state"})
    return _section(table.heading, table.note, _table(table)) if rows else ""


def _plots(data: dict, analysis: Analysis) -> str:
    """The places of the drawings and the data that page.js draws; "" if nothing was evaluated."""
    sweep, drawn = data["sweep"], curves(data)
    if not any(one["mean"]["step"] or one["alone"] for one in drawn.values()):
        return ""
    groups: dict[str, dict[str, Any]] = {}
    for one in sweep["sets"] or [""]:
        costs: list[dict[str, Any]] = [
            {
                "name": short(sweep, row.name),
                "top1": sum(row.top1.values()) / len(row.top1),
                "low": min(row.top1.values()),
                "high": max(row.top1.values()),
                "seeds": len(row.top1),
                "parameters": row.others["parameters"],
                "multiply_adds": row.others["multiply_adds"],
                "train_seconds": row.others["train_seconds"],
            }
            for row in analysis.rows
            if row.top1 and row.data == one
        ]
        groups[one] = {
            "baseline": short(sweep, baseline_of(sweep, one)),
            "curves": {short(sweep, name): curve for name, curve in drawn.items() if set_of(sweep, name) == one},
            "costs": costs,
            "threshold": analysis.thresholds.get(one),
        }
    note = (
        "On the test split: the mean over the finished runs at each evaluation, in a band from the lowest seed to the "
        "highest. Thin dotted lines are runs that are not finished, or at chance. The legend hides and shows a "
        "variant; a drag enlarges, a double click shows all again."
    )
    if analysis.thresholds:
        found = {one: percent(threshold) for one, threshold in analysis.thresholds.items()}
        listed = ", ".join(f"{value} on {one}" if one else value for one, value in found.items())
        note += f" The dashed line is the threshold, {listed}."
    choice = _radios("set", "images", {one: one for one in groups}) if sweep["sets"] else ""
    axes = _radios("x-axis", "over", {"step": "steps", "multiply_adds": "multiply-adds", "seconds": "training time"})
    figures = "".join(
        f'<figure><figcaption>{name}</figcaption><div class="plot" id="plot-{key}"></div></figure>\n'
        for key, name in (("top1", "Top-1"), ("loss", "Loss"))
    )
    measures = {"multiply_adds": "multiply-adds", "parameters": "parameters", "train_seconds": "training time"}
    measures = {
        key: name
        for key, name in measures.items()
        if any(_differ(point[key] for point in group["costs"]) for group in groups.values())
    }
    cost = f'{_radios("cost-axis", "Top-1 by cost:", measures)}\n<div class="plot" id="plot-cost"></div>\n'
    # "<" would end the element inside of a text.
    encoded = json.dumps(groups, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    body = (
        f"<noscript><p>The curves need JavaScript.</p></noscript>\n{choice}{axes}\n"
        '<ul class="keys" aria-label="Legend"></ul>\n'
        f'<div class="plots">\n{figures}</div>\n{cost if measures else ""}'
        f'<script type="application/json" id="data">{encoded}</script>'
    )
    return _section("Curves", note, body)


def _differ(values: Iterable[float | None]) -> bool:
    """Whether variants differ in a cost by more than a hundredth, so that a drawing over it shows something."""
    known = [value for value in values if value]
    return bool(known) and max(known) > 1.01 * min(known)


def _radios(name: str, legend: str, choices: dict[str, str]) -> str:
    labels = "".join(
        f'<label><input type="radio" name="{name}" value="{html.escape(value)}"{"" if index else " checked"}> '
        f"{html.escape(text)}</label>"
        for index, (value, text) in enumerate(choices.items())
    )
    return f'<fieldset class="axes"><legend>{legend}</legend>{labels}</fieldset>'

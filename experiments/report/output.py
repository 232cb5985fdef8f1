"""Writes what `python -m experiments.report` is asked for."""

import argparse
from collections.abc import Callable
from pathlib import Path

from experiments.report import page, runs
from experiments.report.analysis import Analysis, analyse
from experiments.report.document import absent_table, document, heading, report, results_table, tally
from inception_jax.errors import UserError


def run(arguments: argparse.Namespace) -> None:
    """Reads the sweeps, prints a table of each, writes the files.

    Raises:
      UserError: the options do not go together, a directory holds no sweep, a file cannot be read or written.
    """
    _check(arguments)
    if arguments.from_json:
        _write(arguments.document, document(runs.load(arguments.from_json)))
        print(f"Document  {arguments.document}")
        return
    sweeps = {}
    for directory in arguments.directories:
        data = runs.read(directory)
        if arguments.threshold is not None:
            data["threshold"] = arguments.threshold
        if (name := runs.key(data)) in sweeps:
            raise UserError(f"two of the directories hold the sweep {name}; name one of them")
        sweeps[name] = data
    every = sweeps
    if arguments.json and arguments.json.exists():
        every = runs.load(arguments.json) | sweeps
    for directory, data in zip(arguments.directories, sweeps.values(), strict=True):
        print(_terminal(data, analyse(data)))
        html = arguments.out or directory / "report.html"
        _guard(html, lambda file, data=data: page.write(file, data))
        _write(html.with_suffix(".md"), report(data))
        print(f"\nReport    {html}\nMarkdown  {html.with_suffix('.md')}")
    if arguments.json:
        _write(arguments.json, runs.dump(every))
        print(f"Data      {arguments.json} ({', '.join(sorted(every))})")
    if arguments.document:
        # Of the file as it was just written, so that it is the same when it is made again.
        _write(arguments.document, document(runs.load(arguments.json)))
        print(f"Document  {arguments.document}")


def _check(arguments: argparse.Namespace) -> None:
    if arguments.from_json:
        if not arguments.document:
            raise UserError("--from-json needs --document=FILE.md, the file to write")
        if arguments.directories or arguments.json or arguments.out or arguments.threshold is not None:
            raise UserError("--from-json goes with --document alone; for DIRs take --json")
    elif not arguments.directories:
        raise UserError("name the directory of a sweep, or --from-json=FILE --document=FILE.md")
    elif arguments.document and not arguments.json:
        raise UserError("--document needs --json=FILE, the data that it is made of")
    if arguments.out and len(arguments.directories) > 1:
        raise UserError("--out goes with a single DIR")
    if arguments.out and arguments.out.suffix != ".html":
        raise UserError(f"--out={arguments.out} does not end in .html")


def _terminal(data: dict, analysis: Analysis) -> str:
    """The table of the terminal: variants with their top-1, difference and steps; verdicts; what is not counted."""
    table = results_table(data, analysis)
    shown = [0, 2, 3, 4, 5]
    rows = [table.header, *([cell.text for cell in row] for row in table.rows)]
    lines = [f"{heading(data)}\n", _aligned([[row[column].replace("`", "") for column in shown] for row in rows])]
    if analysis.claims:
        lines += ["", tally(analysis.claims)]
        lines += [f"  {claim.verdict:<13} {claim.text} ({claim.words})".replace("`", "") for claim in analysis.claims]
    if analysis.absent:
        lines += ["", f"Not counted: {len(analysis.absent)}"]
        lines += [f"  {' '.join(cell.text for cell in row)}".replace("`", "") for row in absent_table(analysis).rows]
    return "\n".join(lines)


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _write(file: Path, text: str) -> None:
    _guard(file, lambda file: file.write_text(text, encoding="utf-8", errors="backslashreplace"))


def _guard(file: Path, write: Callable[[Path], object]) -> None:
    try:
        write(file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None

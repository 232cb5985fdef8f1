"""Writes the report on an ablation sweep, as a page and as Markdown; or a document over several sweeps.

python -m experiments.report runs/googlenet_aux
python -m experiments.report runs/sweeps/* --json=results/ablations.json --document=docs/ablations.md
python -m experiments.report --from-json=results/ablations.json --document=docs/ablations.md
"""

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from experiments import cli

if TYPE_CHECKING:
    from inception_jax.paths import AnyPath

_EPILOG = """
DIR is the directory of a sweep, at any time: runs that are not finished are listed and not averaged. DIR/report.html
and DIR/report.md judge what the paper claims, say what so many seeds could have shown, and compare the variants over
their seeds. Verdicts are corrected for the number of claims: that of DIR/plan.json if it is there, else the sweep's.

--json keeps the data of sweeps in one file. Sweeps that are already in it stay, so that a document can be put together
from sweeps run at different times. --document keeps what was written by hand at the top of the document, corrects the
verdicts for all its claims, and draws them into FILE.svg.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input."""
    parser = cli.Parser("-m experiments.report", __doc__, _EPILOG)
    add = parser.add_argument
    add("directories", nargs="*", type=cli.path, metavar="DIR", help="directory of a sweep")
    add("--out", type=cli.path, metavar="FILE.html", help="page to write, for a single DIR (default: DIR/report.html); "
        "the Markdown is written beside it")  # fmt: skip
    add("--threshold", type=_fraction, metavar="TOP1", help="top-1, a fraction, to count the steps to (default: the "
        "mean with which the baseline ends)")  # fmt: skip
    add("--json", type=cli.path, metavar="FILE", help="file to which the data of all DIRs are added")
    add("--document", type=cli.path, metavar="FILE.md", help="document to write, over all sweeps of the JSON file")
    add("--from-json", type=cli.path, metavar="FILE", help="JSON file of which the document is made, instead of DIRs")
    return cli.run(parser, _report, argv)


def _fraction(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text} is not a fraction, such as 0.9")


def _report(arguments: argparse.Namespace) -> None:
    from inception_jax.errors import UserError
    from inception_jax.paths import written
    from inception_jax.report.sweep.data import dump, load, read
    from inception_jax.report.sweep.document import write_document

    _check(arguments)
    sweeps: dict[str, dict[str, Any]] = {}
    for directory in arguments.directories:
        data = read(directory, arguments.threshold)
        name = data["sweep"]["name"]
        if name in sweeps:
            raise UserError(f"two of the directories hold the sweep {name}; name one of them")
        sweeps[name] = data
    file = arguments.from_json or arguments.json
    known = load(file) if arguments.from_json or (file and file.exists()) else {}
    for directory, data in zip(arguments.directories, sweeps.values(), strict=True):
        write(data, arguments.out or directory / "report.html")
    if arguments.json:
        with written(arguments.json) as local:
            local.write_text(dump(known | sweeps), encoding="utf-8")
        print(f"Data      {arguments.json} ({', '.join(sorted(known | sweeps))})")
    if arguments.document:
        figure = write_document(arguments.document, load(file))
        print(f"Document  {arguments.document}" + (f", with {figure}" if figure else ""))


def _check(arguments: argparse.Namespace) -> None:
    from inception_jax.errors import UserError

    if arguments.from_json:
        if not arguments.document:
            raise UserError("--from-json needs --document=FILE.md, the file to write")
        if arguments.directories or arguments.json or arguments.out or arguments.threshold is not None:
            raise UserError("--from-json takes no other option than --document; for DIRs use --json")
    elif not arguments.directories:
        raise UserError("name the directory of a sweep, or --from-json=FILE --document=FILE.md")
    elif arguments.document and not arguments.json:
        raise UserError("--document needs --json=FILE, the data of which it is made")
    if arguments.out and len(arguments.directories) > 1:
        raise UserError("--out needs a single DIR")
    if arguments.out and arguments.out.suffix != ".html":
        raise UserError(f"--out={arguments.out} does not end in .html")


def write(data: dict[str, Any], html: "AnyPath") -> None:
    """Prints the report on a sweep; writes it as a page, and beside it as Markdown.

    Args:
      data: what `inception_jax.report.sweep.data.read` returns.
      html: file of the page; without Plotly it is not written, which one line says.
    """
    from inception_jax.console import warn
    from inception_jax.errors import MissingExtraError
    from inception_jax.paths import written
    from inception_jax.report.sweep import document, page

    markdown = html.with_suffix(".md")
    print(document.terminal(data), end="\n\n")
    with written(markdown) as local:
        local.write_text(document.report(data), encoding="utf-8", errors="backslashreplace")
    try:
        page.write(html, data)
        print(f"Report    {html}")
    except MissingExtraError as error:
        warn(f"{html} is not written: {error}")
    print(f"Markdown  {markdown}")


if __name__ == "__main__":
    sys.exit(main())

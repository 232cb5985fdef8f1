"""The report on an ablation sweep, as a page and as Markdown; or the document over several sweeps.

python -m experiments.report runs/googlenet_aux
python -m experiments.report runs/sweeps/* --json=docs/ablations.json --document=docs/ablations.md
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

_EPILOG = """
DIR is what `python -m experiments.sweep` wrote, at any time: runs that are not finished are listed and not averaged.
DIR/report.html and DIR/report.md compare the variants over their seeds, and judge what the paper claims.

--json keeps the data of the sweeps in one file. Those of other sweeps in it stay, so that --document, which is made of
that file alone, can be put together from sweeps run at different times.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the reports that the command line asks for.

    Args:
      argv: the arguments; those of the process unless given.

    Returns:
      The exit status: 0, 2 for bad input.
    """
    arguments = _parser().parse_args(argv)
    # Imported here, so that --help answers at once.
    from experiments.report import output
    from inception_jax.errors import UserError

    try:
        output.run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report",
        description=__doc__.split("\n")[0],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("directories", nargs="*", type=Path, metavar="DIR", help="of a sweep")
    add("--out", type=Path, metavar="FILE.html", help="the page, of a single DIR (default: DIR/report.html); the "
        "Markdown is beside it")  # fmt: skip
    add("--threshold", type=_share, metavar="TOP1", help="top-1, a fraction, to count the steps to (default: the mean "
        "that the baseline ends with)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="put the data of all DIRs into this file")
    add("--document", type=Path, metavar="FILE.md", help="write the document over all sweeps of the JSON file")
    add("--from-json", type=Path, metavar="FILE", help="in place of DIRs and --json: only --document, from this file")
    return parser


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text} is not a fraction, such as 0.9")


if __name__ == "__main__":
    sys.exit(main())

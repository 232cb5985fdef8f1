"""Measures speed and memory beside PyTorch, Keras and tf.data; a peer that is not installed is skipped.

python -m experiments.benchmark [ops model memory crops loader startup scaling] [--json=FILE] [--markdown=FILE]
"""

import argparse
import json
import sys
from pathlib import Path

from experiments import cli
from experiments.benchmark import PARTS


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input, 130 for Ctrl-C; what was measured is in the --json file."""
    parser = cli.Parser("-m experiments.benchmark", __doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--models", type=_names, help="networks, separated by commas, or 'all' (default: one of each kind)"
    )
    parser.add_argument("--modes", type=_names, help="modes of part model (default: inference,train)")
    parser.add_argument("--peers", type=_names, help="peers of part model (default: PyTorch,Keras)")
    parser.add_argument("--dtype", help="float32 or bfloat16 (default: float32, on a GPU both)")
    parser.add_argument(
        "--batch", type=cli.positive, help="number of images (default: 32 for GoogLeNet, others at about its cost)"
    )
    parser.add_argument("--repeats", type=cli.positive, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument(
        "--json", type=Path, help="file of all rows, written after each; a new row replaces the old one about the same"
    )
    parser.add_argument("--markdown", type=Path, help="page to write from all rows, with its plot beside it")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page from the --json file")
    return cli.run(parser, _benchmark, argv)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _benchmark(arguments: argparse.Namespace) -> None:
    from experiments.benchmark import report
    from experiments.benchmark.measure import measurements
    from inception_jax.errors import UserError

    rows = report.read(arguments.json) if arguments.json and arguments.json.exists() else []
    if arguments.render and not rows:
        raise UserError("--render needs a --json file with rows")
    if not arguments.render:
        options = {name: getattr(arguments, name) for name in ("models", "modes", "peers", "dtype", "batch")}
        machine = report.machine()
        for part, measured in measurements(arguments.parts or PARTS, repeats=arguments.repeats, **options):
            print(f"\n{part}", file=sys.stderr, flush=True)
            new = []
            for row in measured:
                new.append({"part": part} | row | {"machine": machine})
                print(report.line(row), file=sys.stderr, flush=True)
                if arguments.json:  # after each row, so that nothing is lost if the command is stopped
                    text = json.dumps(report.merge(rows, new), indent=1)
                    arguments.json.write_text(text + "\n", encoding="utf-8")
            rows = report.merge(rows, new)
            print(report.text(part, new), flush=True)
    if arguments.markdown:
        picture = arguments.markdown.with_suffix(".png")
        report.plot(rows, picture)
        arguments.markdown.write_text(report.page(rows, picture.name), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

"""Writes the weights of a checkpoint to one file, from which another run can start (--config.init_from=FILE).

python -m experiments.export_weights --workdir=/data/googlenet --out=googlenet.npz [--checkpoint=best|last|STEP]
"""

import argparse
import sys
from pathlib import Path

from experiments import cli


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input."""
    parser = cli.Parser("-m experiments.export_weights", __doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="run, or one of its checkpoints")
    parser.add_argument("--checkpoint", default="best", help="best (default), last or a step")
    parser.add_argument("--out", type=Path, required=True, help=".npz file to write")
    return cli.run(parser, _export, argv)


def _export(arguments: argparse.Namespace) -> None:
    from inception_jax.console import warn
    from inception_jax.runs.classifier import load

    classifier = load(arguments.workdir, arguments.checkpoint, warn=warn)
    print(f"{classifier.save(arguments.out)} arrays of {classifier.source} written to {arguments.out}")


if __name__ == "__main__":
    sys.exit(main())

"""Writes the weights of a checkpoint to one file, from which another run may start (--config.init_from=FILE).

python -m experiments.export_weights --workdir=/data/googlenet --out=googlenet.npz [--checkpoint=best|last|STEP]
"""

import argparse
import sys
from pathlib import Path

from experiments.console import warn
from inception_jax.errors import UserError


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True, help="of the run, or one of its checkpoints")
    parser.add_argument("--checkpoint", default="best", help="best (default), last or a step")
    parser.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    arguments = parser.parse_args()
    from inception_jax.training.weights import export_weights  # JAX and Orbax, seconds

    try:
        count, checkpoint = export_weights(arguments.workdir, arguments.out, arguments.checkpoint, warn)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{count} arrays of {checkpoint} written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

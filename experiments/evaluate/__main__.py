"""Evaluates checkpoints by the papers' protocols, alone and as an ensemble.

python -m experiments.evaluate --workdir=/data/googlenet --protocol=single,10crop,144crop
python -m experiments.evaluate --workdir=/data/googlenet_0 --workdir=/data/googlenet_1 --protocol=single,144crop
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

_EPILOG = """
protocols:
  single       the network's own crop: resized, centre
  anisotropic  tf-slim's: the central 87.5 %% of both sides, resized to a square
  10crop       AlexNet's: corners and centre of the central square, mirrored
  12crop       corners and centre of the whole image, and all of it squeezed, mirrored
  144crop      GoogLeNet's: 4 scales x 3 squares x 6 x 2
  multicrop    VGG's: 3 scales x a grid of 5 x 5 x 2
  dense        VGG's: the network slides over the whole image at 3 scales, mirrored

What is computed is kept in WORKDIR/evaluation: the same command goes on where it was stopped, and another member or
aggregation costs no forward pass again. The results are OUT/evaluation.json, OUT/predictions.csv and a section of
OUT/report.html.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates as the command line says.

    Args:
      argv: the arguments; those of the process unless given.

    Returns:
      The exit status: 0, 2 for bad input, 130 if it was stopped.
    """
    arguments = _parser().parse_args(argv)
    arguments.command = ["python", "-m", "experiments.evaluate", *(sys.argv[1:] if argv is None else argv)]
    # Imported here, so that --help answers at once.
    from experiments.evaluate.evaluation import run
    from inception_jax.errors import UserError

    try:
        run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evaluate",
        description=__doc__.split("\n")[0],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    network = parser.add_argument_group("networks").add_argument
    network("--workdir", type=Path, action="append", required=True, help="of a run, one of its checkpoints, or a file "
            "of exported weights; given several times: an ensemble")  # fmt: skip
    network("--checkpoint", default="best", help="best (default), last, a step, or all: each by itself")
    network("--weights", default="", choices=("ema", "raw"), help="averaged (default where there are such) or latest")
    network("--follow", action="store_true", help="every checkpoint, and go on with new ones to the end of the run")
    network("--image-size", type=int, help="height and width that the network sees (default: that of its training)")
    network("--resize", type=int, help="shorter side before the single crop (default: that of its training)")
    how = parser.add_argument_group("protocol").add_argument
    how("--protocol", default="single", help="one or several, separated by commas (default: %(default)s)")
    how("--scales", default="", help="shorter sides in pixels, separated by commas, in place of the protocol's")
    how("--aggregate", default="probabilities", help="over windows and networks: probabilities (their mean, default), "
        "logits (their mean), max")  # fmt: skip
    images = parser.add_argument_group("images").add_argument
    images("--data", help="data set (default: that of the run)")
    images("--data-dir", help="its directory (default: that of the run)")
    images("--split", help="its split (default: the one that the run evaluates)")
    images("--subset", type=Path, help="file with the images that alone count, a name or number a line")
    images("--exclude", type=Path, help="file with the images that do not count (ILSVRC's blacklist)")
    images("--multilabels", type=Path, help="JSON with all right classes of each image (real.json of ImageNet-ReaL)")
    images("--label-map", default="", help="drop_first (for 1001 outputs), or a JSON list: the output of each class")
    machine = parser.add_argument_group("machine").add_argument
    machine("--batch-size", type=int, default=64, help="windows that the network sees at once (default: %(default)s)")
    machine("--threads", type=int, default=0, help="that decode (default: one for each core)")
    machine("--distributed", action="store_true", help="join the other processes of this job")
    results = parser.add_argument_group("results").add_argument
    results("--worst", type=int, default=16, help="images of the highest loss to show (default: %(default)s)")
    results("--cache", type=Path, help="directory of what is computed (default: WORKDIR/evaluation)")
    results("--out", type=Path, help="directory of the results (default: the first workdir)")
    results("--json", type=Path, help="the JSON file (default: OUT/evaluation.json)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Draws the first images that a recipe trains on, augmented as the network gets them.

python -m experiments.show_batch --config=configs/googlenet.py --out=batch.png [--count=32]
"""

import argparse
import sys
from pathlib import Path

from experiments import cli


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input."""
    parser = cli.Parser("-m experiments.show_batch", __doc__)
    parser.add_config()
    parser.add_argument(
        "--out", type=cli.path, default=Path("batch.png"), help="PNG file to write (default: %(default)s)"
    )
    parser.add_argument("--count", type=cli.positive, default=32, help="number of images, even (default: %(default)s)")
    return cli.run(parser, _show, argv)


def _show(arguments: argparse.Namespace) -> None:
    from inception_jax.console import warn
    from inception_jax.parallel import DataParallel
    from inception_jax.report.pictures import augmented_batch, contact_sheet
    from inception_jax.runtime import configure
    from inception_jax.training.experiment import Experiment

    config = arguments.config
    configure(config.model.dtype)
    experiment = Experiment(config, DataParallel(config.parallel))
    pictures = augmented_batch(experiment, experiment.fit_dataset_stats(warn), arguments.count)
    sheet = contact_sheet(pictures)
    sheet.save(arguments.out, format="PNG")
    print(f"{len(pictures)} images of {experiment.name} in {arguments.out}, {sheet.width} x {sheet.height}")


if __name__ == "__main__":
    sys.exit(main())

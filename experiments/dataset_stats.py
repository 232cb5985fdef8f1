"""Computes and prints the statistics of a recipe's training images, ahead of training.

python -m experiments.dataset_stats --config=configs/alexnet.py [--config.data.dir=DIR]

These are the mean colour (for config.data.mean) and the principal components of the colours (for
config.data.pca_noise); for recipes with whitening also the whitening. Cached statistics are printed without reading an
image.
"""

import argparse
import json
import sys

from experiments import cli


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input."""
    parser = cli.Parser("-m experiments.dataset_stats", __doc__)
    parser.add_config()
    parser.add_argument("--force", action="store_true", help="ignore cached statistics, as after replacing images")
    parser.add_argument("--json", type=cli.path, metavar="FILE", help="JSON file to write the numbers to")
    return cli.run(parser, _measure, argv)


def _measure(arguments: argparse.Namespace) -> None:
    from inception_jax.data import dataset_stats
    from inception_jax.data.sources import open_source
    from inception_jax.errors import section
    from inception_jax.training.experiment import crop_config_of

    data = arguments.config.data
    with section("config.data"):
        numbers = dataset_stats.measure(
            open_source(data.name, data.train_split, data.dir),
            name=data.name,
            split=data.train_split,
            directory=data.dir,
            crop_config=crop_config_of(data),
            channels=data.channels,
            whitening=data.whitening,
            threads=data.threads,
            say=lambda line: print(line, file=sys.stderr, flush=True),
            force=arguments.force,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    print(_text(numbers))


def _text(numbers: dict) -> str:
    colours = numbers["colours"]
    lines = [
        f"{numbers['name']}/{numbers['split']}: {numbers['images']:,} images",
        "",
        f"colours (red, green, blue; 0 to 255), images resized to {colours['shorter_side']}",
        "  mean        " + "".join(f"{value:10.3f}" for value in colours["mean"]),
    ]
    for number, (value, vector) in enumerate(zip(colours["values"], colours["vectors"], strict=True), start=1):
        lines.append(f"  component {number} " + "".join(f"{x:+10.4f}" for x in vector) + f"  variance {value:,.2f}")
    lines.append(f"  {colours['file']}")
    if whitening := numbers.get("whitening"):
        lines += [
            "",
            f"whitening of {whitening['dimensions']:,} values after global contrast normalisation",
            f"  variances of the principal components {whitening['smallest_value']:.4g} to "
            f"{whitening['largest_value']:.4g}",
            f"  multiplied by {whitening['least_gain']:.4g} to {whitening['largest_gain']:.4g} (condition number "
            f"{whitening['condition']:.4g})",
            f"  {whitening['file']}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

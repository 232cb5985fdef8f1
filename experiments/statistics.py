"""Statistics of a recipe's training images: what training would fit at its start, ahead of it, and their mean.

python -m experiments.statistics --config=configs/alexnet.py [--config.data.dir=DIR]

The colours' mean (for config.data.mean) and principal components (for config.data.pca_noise) are fitted for every
config, the whitening for those that whiten. What is there already is shown without reading an image.
"""

import json
import sys
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

from experiments.command_line import parse_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe, a file of configs/.", lock_config=True)
_FORCE = flags.DEFINE_bool("force", False, "Fit anew, as after images were exchanged for others in the same place.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to as JSON.")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure(config, force: bool) -> dict:
    """Fits what is not there; returns the numbers that are shown.

    Raises:
      UserError: the config or the data are wrong.
    """
    # Imported here, so that --help and a wrong flag answer at once.
    from inception_jax.data import statistics
    from inception_jax.data.loader import Geometry
    from inception_jax.data.sources import open_source
    from inception_jax.training.config import validate

    validate(config)
    data = config.data
    source = open_source(data.name, data.train_split, data.dir)
    geometry = Geometry(data.image_size, data.resize, tuple(data.area), tuple(data.aspect))  # of the evaluation crop
    common = {"name": data.name, "split": data.train_split, "directory": data.dir, "geometry": geometry}
    common |= {"channels": data.channels, "threads": data.threads, "say": _say, "force": force}
    whitening = {}
    if data.whitening == "gcn_zca":  # first, because it refuses images that are too large
        found, path = statistics.fitted("whitening", source, **common)
        values = found["whitening_values"].astype(np.float64)
        gains = 1 / np.sqrt(values + statistics.WHITENING_BIAS)
        whitening["whitening"] = {
            "dimensions": len(values),
            "largest_value": values[0],
            "smallest_value": values[-1],
            "least_gain": gains[0],
            "largest_gain": gains[-1],
            "condition": gains[-1] / gains[0],
            "file": str(path),
        }
    found, path = statistics.fitted("colour", source, **common)
    colours = {
        "shorter_side": data.resize,
        "mean": found["colour_mean"].tolist(),
        "values": found["colour_values"].tolist(),
        "vectors": found["colour_vectors"].T.tolist(),  # the first belongs to the first value
        "file": str(path),
    }
    summary = {"name": data.name, "split": data.train_split, "images": len(source), "colours": colours}
    return summary | whitening


def report(summary: dict) -> str:
    """The numbers as text."""
    colours = summary["colours"]
    lines = [
        f"{summary['name']}/{summary['split']}: {summary['images']:,} images",
        "",
        f"colours (red, green, blue; 0 to 255), images resized to {colours['shorter_side']}",
        "  mean        " + "".join(f"{value:10.3f}" for value in colours["mean"]),
    ]
    for number, (value, vector) in enumerate(zip(colours["values"], colours["vectors"], strict=True), start=1):
        lines.append(f"  component {number} " + "".join(f"{x:+10.4f}" for x in vector) + f"  variance {value:,.2f}")
    lines.append(f"  {colours['file']}")
    if "whitening" in summary:
        whitening = summary["whitening"]
        lines += [
            "",
            f"whitening of {whitening['dimensions']:,} numbers after global contrast normalisation",
            f"  variances of the principal components {whitening['smallest_value']:.4g} to "
            f"{whitening['largest_value']:.4g}",
            f"  multiplied by {whitening['least_gain']:.4g} to {whitening['largest_gain']:.4g} (condition number "
            f"{whitening['condition']:.4g})",
            f"  {whitening['file']}",
        ]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Returns the exit status: 0, 2 for bad input, 130 for Ctrl-C."""
    del argv
    from inception_jax.errors import UserError

    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TFDS tells at INFO what it opens
    try:
        summary = measure(_CONFIG.value, _FORCE.value)
        if _JSON.value:
            Path(_JSON.value).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    print(report(summary))
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "-m experiments.statistics", required=("config",)))

"""Evaluates checkpoints by the papers' protocols, alone and as an ensemble.

python -m experiments.evaluate --workdir=/data/googlenet --protocol=single,10crop,144crop
python -m experiments.evaluate --workdir=/data/googlenet_0 --workdir=/data/googlenet_1 --protocol=single,144crop
"""

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments import cli

if TYPE_CHECKING:
    from inception_jax.runs.classifier import Classifier

_EPILOG = """
protocols:
  single       the network's own crop: resized, centre
  anisotropic  tf-slim's: the central 87.5 % of both sides, resized to a square
  10crop       AlexNet's: corners and centre of the central square, mirrored
  12crop       corners and centre of the whole image, and all of it squeezed, mirrored
  144crop      GoogLeNet's: 4 scales x 3 squares x 6 x 2
  multicrop    VGG's: 3 scales x a grid of 5 x 5 x 2
  dense        VGG's: the network slides over the whole image at 3 scales, mirrored

Scores are cached in WORKDIR/evaluation: the same command resumes a stopped evaluation, and another ensemble or
aggregate needs no forward pass. The results are OUT/evaluation.json, OUT/predictions.csv and a section of
OUT/report.html.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input, 130 for Ctrl-C."""
    parser = cli.Parser("-m experiments.evaluate", __doc__, _EPILOG)
    add = parser.add_argument_group("networks").add_argument
    add("--workdir", type=cli.path, action="append", required=True, help="run, one of its checkpoints, or a file of "
        "exported weights; several make an ensemble")  # fmt: skip
    add("--checkpoint", default="best", help="best (default), last, a step, or all: each in turn")
    add("--weights", default="", choices=("ema", "raw"), help="moving averages (default if kept) or latest weights")
    add("--follow", action="store_true", help="every checkpoint, also those to come until the run has ended")
    add("--image-size", type=cli.positive, help="height and width of the input (default: as in training)")
    add("--resize", type=cli.positive, help="shorter side before the single crop (default: as in training)")
    add = parser.add_argument_group("protocol").add_argument
    add("--protocol", default="single", help="one or several, separated by commas (default: %(default)s)")
    add("--scales", type=_sizes, default=(), help="shorter sides in pixels, separated by commas, in place of the "
        "protocol's")  # fmt: skip
    add("--aggregate", default="probabilities", help="over windows and networks: probabilities (their mean, default), "
        "logits (their mean), max")  # fmt: skip
    add = parser.add_argument_group("images").add_argument
    add("--data", help="data set (default: as in the run)")
    add("--data-dir", help="its directory (default: as in the run)")
    add("--split", help="its split (default: the split that the run evaluates)")
    add("--subset", type=cli.path, help="file that lists the only images that count, a name or number per line")
    add("--exclude", type=cli.path, help="file that lists images that do not count (ILSVRC's blacklist)")
    add(
        "--multilabels",
        type=cli.path,
        help="JSON file with all right classes of each image (real.json of ImageNet-ReaL)",
    )
    add("--label-map", default="", help="drop_first (for 1001 outputs), or a JSON file: the output of each class")
    add = parser.add_argument_group("machine").add_argument
    add("--batch-size", type=cli.positive, default=64, help="windows in one forward pass (default: %(default)s)")
    add("--threads", type=int, default=0, help="number of decoding threads (default: one for each core)")
    parser.add_distributed()
    results = parser.add_argument_group("results")
    parser.add_raw_csv(results)
    add = results.add_argument
    add("--worst", type=int, default=16, help="number of images of the highest loss to show (default: %(default)s)")
    add("--cache", type=cli.path, help="directory of the scores (default: WORKDIR/evaluation)")
    add("--out", type=cli.path, help="directory of the results (default: the first workdir)")
    add("--json", type=cli.path, help="JSON file (default: OUT/evaluation.json)")
    command = shlex.join(["python", "-m", "experiments.evaluate", *(sys.argv[1:] if argv is None else argv)])
    return cli.run(parser, lambda arguments: _evaluate(arguments, command), argv)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(cli.positive, text.split(",")))


def _evaluate(arguments: argparse.Namespace, command: str) -> None:
    import jax

    from inception_jax.console import Progress
    from inception_jax.errors import UserError
    from inception_jax.evaluation.evaluate import evaluate, open_data
    from inception_jax.names import text_of
    from inception_jax.paths import to_path, write_whole
    from inception_jax.report.evaluation import put_evaluation
    from inception_jax.runs.classifier import workdir_of
    from inception_jax.runtime import configure

    if (arguments.checkpoint == "all" or arguments.follow) and len(arguments.workdir) > 1:
        raise UserError("--checkpoint=all and --follow are for one --workdir")
    configure("float32")
    cli.join(arguments)
    out = to_path(arguments.out or workdir_of(arguments.workdir[0]))
    numbers, predictions, report = (out / name for name in ("evaluation.json", "predictions.csv", "report.html"))
    numbers = arguments.json or numbers
    source, data = open_data(arguments.workdir, arguments.data, arguments.split, arguments.data_dir)
    rows = ()
    for classifiers in _ensembles(arguments):
        result = evaluate(
            classifiers,
            source,
            arguments.protocol.split(","),
            scales=arguments.scales,
            aggregate=arguments.aggregate,
            subset=arguments.subset,
            exclude=arguments.exclude,
            multilabels=arguments.multilabels,
            label_map=arguments.label_map,
            batch_size=arguments.batch_size,
            threads=arguments.threads,
            cache=arguments.cache,
            progress=Progress("image"),
        )
        if jax.process_index() != 0:
            continue
        for line in result.damaged:
            print(f"skipped damaged {line}", file=sys.stderr)
        print(result.table(), flush=True)
        rows += result.rows
        result = dataclasses.replace(result, rows=rows)
        record = {"command": text_of(command), "data": data} | result.to_json()
        write_whole(numbers, (json.dumps(record, indent=1) + "\n").encode())
        result.write_predictions(predictions, arguments.raw_csv)
        put_evaluation(report, result, source, data=data, command=text_of(command), worst=arguments.worst)
        print(f"written: {numbers}, {predictions}, {report}", file=sys.stderr)


def _ensembles(arguments: argparse.Namespace) -> Iterator[list["Classifier"]]:
    """The networks to evaluate together: those of all workdirs, or of every checkpoint of one workdir in turn."""
    from inception_jax.console import warn
    from inception_jax.runs.classifier import load, load_each

    if arguments.checkpoint == "all" or arguments.follow:
        groups = ([each] for each in load_each(arguments.workdir[0], arguments.weights, arguments.follow, warn))
    else:
        groups = [[load(path, arguments.checkpoint, arguments.weights, warn) for path in arguments.workdir]]
    for group in groups:
        resized = [classifier.resized(arguments.image_size, arguments.resize) for classifier in group]
        for new, old in zip(resized, group, strict=True):
            if new is not old:
                sizes = [(c.crop_config.size, c.crop_config.resize) for c in (new, old)]
                text = "images of {0[0]} pixels, resized to {0[1]}; its own are {1[0]} and {1[1]}".format(*sizes)
                print(f"{old.name}: {text}", file=sys.stderr)
        yield resized


if __name__ == "__main__":
    sys.exit(main())

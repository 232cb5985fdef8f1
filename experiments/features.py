"""Writes the features of very many images, in shards that any number of machines make; rerun it to resume.

python -m experiments.features photos/ --workdir=/data/v3 --end-point=pool --out=features/ --shard=3/16
python -m experiments.features --merge=features.npz --out=features/
"""

import argparse
import sys
from collections.abc import Iterable

from experiments import cli
from experiments.predict import all_images

_EPILOG = """\
A PATH is an image, a folder, a pattern in quotes, or -: see python -m experiments.predict --help. All machines must see
the same images by the same paths. The images are divided into files of --shard-size, of which machine I of N makes
every N-th. A finished file has a marker beside it, FILE.json; the same command makes the missing ones only.

--check says whether every image is in exactly one finished file; --merge also writes all of them into one file.
docs/features.md shows how to read the files, and how to run this with SLURM, Ray and Beam.

If an image cannot be read, it is named and left out, and the exit status is 1.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if an image could not be read, 2 for invalid input, 130 for Ctrl-C."""
    parser = cli.Parser("-m experiments.features", __doc__, _EPILOG)
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="image, folder, quoted pattern, or - (see below)")
    add("--out", required=True, metavar="DIR", help="directory for the features")
    add("--workdir", help="run, one of its checkpoints, a file of weights, or a name of docs/weights.md")
    add("--checkpoint", default="best", help="best (default), last or a step")
    add("--weights", default="", choices=("ema", "raw"), help="moving averages (default if kept) or latest weights")
    add("--end-point", help="layer that gives the features, such as pool")
    add("--format", default="npz", help="npz (default) or parquet")
    add("--check", action="store_true", help="only check that DIR is complete")
    add("--merge", type=cli.path, metavar="FILE.npz", help="only check DIR, and write all features to one file")
    add("--batch-size", type=cli.positive, default=32, metavar="N", help="images in one forward pass (default: "
        "%(default)s)")  # fmt: skip
    add("--threads", type=int, default=0, metavar="N", help="number of decoding threads (default: one for each core)")
    parser.add_share()
    return cli.run(parser, _features, argv)


def _features(arguments: argparse.Namespace) -> int:
    from inception_jax.console import Progress, warn
    from inception_jax.errors import UserError
    from inception_jax.evaluation.features import open_features, write_features
    from inception_jax.runs.classifier import load
    from inception_jax.runtime import configure

    cli.check_writable(arguments.merge)
    if arguments.check or arguments.merge:
        return _check(arguments)
    if not (arguments.paths and arguments.workdir and arguments.end_point):
        raise UserError("give PATH, --workdir and --end-point; or --check or --merge=FILE.npz")
    configure("float32")
    index, count = cli.own_share(arguments)
    images = all_images(arguments.paths)
    classifier = load(arguments.workdir, arguments.checkpoint, arguments.weights, warn)
    shards = open_features(
        classifier,
        images,
        arguments.end_point,
        arguments.out,
        form=arguments.format,
        shard_size=arguments.shard_size,
        batch_size=arguments.batch_size,
    )
    unread = write_features(
        classifier, images, shards, index=index, count=count, threads=arguments.threads, progress=Progress("image")
    )
    return _name(unread)


def _name(unread: Iterable[tuple[str, str]]) -> int:
    from inception_jax.console import plural

    count = 0
    for path, reason in unread:
        count += 1
        print(f"left out {path}: {reason}", file=sys.stderr)
    if count:
        print(f"{plural(count, 'image')} could not be read", file=sys.stderr)
    return 1 if count else 0


def _check(arguments: argparse.Namespace) -> int:
    from inception_jax.console import plural
    from inception_jax.evaluation.features import merge_features
    from inception_jax.evaluation.shards import read_shards

    if arguments.merge:
        count, unread = merge_features(arguments.out, arguments.merge)
        print(f"written: {arguments.merge}, {plural(count, 'image')}", file=sys.stderr)
    else:
        shards = read_shards(arguments.out)
        unread = shards.check()
        print(f"{arguments.out}: {plural(shards.count, 'shard')}, {plural(shards.manifest['images'], 'image')}")
    if unread:
        print(f"{plural(unread, 'image')} could not be read", file=sys.stderr)
    return 1 if unread else 0


if __name__ == "__main__":
    sys.exit(main())

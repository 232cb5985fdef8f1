"""Writes small copies of a dataset's images once, so that training reads small JPEG files.

python -m experiments.prepare --name=folder --dir=images --split=train --split=val --short-side=256 --out=DIR

The result is a TFDS dataset in ArrayRecord files, in the order of the source. Train on it with
--config.data.name=images_256 --config.data.dir=DIR. Rerun the same command to resume, and to try damaged images again.
"""

import argparse
import json
import sys

from experiments import cli


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input, 130 for Ctrl-C."""
    from inception_jax.data.decoding import MAX_PIXELS
    from inception_jax.runtime import available_cores

    parser = cli.Parser("-m experiments.prepare", __doc__)
    add = parser.add_argument
    add("--name", required=True, help="'folder' or a TFDS dataset, as --config.data.name")
    add("--dir", default="", help="the image folder or TFDS's directory, as --config.data.dir")
    add("--split", required=True, action="append", help="split to copy; may be repeated")
    add("--short-side", required=True, type=cli.positive, help="largest length of the shorter side in pixels")
    add("--out", required=True, help="directory to write to, --config.data.dir for training")
    add("--out-name", default="", help="--config.data.name for training (default: for instance images_256)")
    add("--quality", type=cli.positive, default=95, help="JPEG quality, 1 to 100 (default: %(default)s)")
    add("--shards", type=cli.positive, help="number of files per split (default: one per 5000 images, at least 8)")
    add("--processes", type=cli.positive, default=available_cores(), help="number of processes (default: one per core)")
    add(
        "--max-pixels",
        type=cli.positive,
        default=MAX_PIXELS,
        help="larger images count as damaged (default: %(default)s)",
    )
    add("--json", type=cli.path, metavar="FILE", help="JSON file to write the summary to")
    return cli.run(parser, _prepare, argv)


def _prepare(arguments: argparse.Namespace) -> None:
    from inception_jax.console import plural
    from inception_jax.data.prepare import prepare_dataset

    summary = prepare_dataset(
        arguments.name,
        arguments.split,
        arguments.dir,
        out=arguments.out,
        out_name=arguments.out_name,
        short_side=arguments.short_side,
        quality=arguments.quality,
        shards=arguments.shards,
        processes=arguments.processes,
        max_pixels=arguments.max_pixels,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for split, values in summary["splits"].items():
        before, after = (values[key] / 1e6 for key in ("bytes_before", "bytes_after"))
        print(
            f"{split}: {plural(values['images'], 'image')}, {before:,.1f} MB -> {after:,.1f} MB in "
            f"{plural(values['shards'], 'file')}; {values['unchanged']:,} unchanged, {len(values['damaged']):,} damaged"
        )
        for name, reason in values["damaged"].items():
            print(f"  left out {name}: {reason}")
    print(f"train on it with --config.data.name={summary['name']} --config.data.dir={summary['dir']}")


if __name__ == "__main__":
    sys.exit(main())

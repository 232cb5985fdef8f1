"""Measures how far generated images are from real ones: FID, KID, Inception score, precision and recall.

python -m experiments.fid real/ generated/ --protocol=tf --metrics=fid,kid,is,prc
python -m experiments.fid real/ --save=real.npz; python -m experiments.fid real.npz generated/
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import cli

if TYPE_CHECKING:
    from inception_jax.fid.measurement import Measurement

_EPILOG = """\
A SET is one of these:
  a folder: the images below it, without hidden ones
  a pattern in quotes with *, ?, [...] or ** (folders at any depth)
  an .npz or .npy file of images, uint8 [N, H, W, 3] (ADM's samples)
  an .npz file of statistics: --save's, pytorch-fid's, ADM's, clean-fid's, jax-fid's
  a workdir: the images that its run is evaluated on, or those of --split

protocols:
  tf           TensorFlow 1's bilinear resize, as the first FID and ADM's evaluator (default)
  pytorch_fid  PyTorch's bilinear resize, as pytorch-fid
  clean        Pillow's bicubic resize with antialiasing, as clean-fid

metrics:
  fid           Frechet distance (default)
  sfid          Frechet distance of spatial features
  kid           kernel distance, mean and deviation over subsets
  is            Inception score of GENERATED, mean and deviation over splits
  prc           precision and recall
  dc            density and coverage
  fid_infinity  FID extrapolated to infinitely many generated images
  interval      95 % interval of the FID, by resampling the generated images

If an image cannot be read, it is named and left out, and the exit status is 1. docs/fid.md says why two FIDs differ.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if an image could not be read, 2 for invalid input, 130 for Ctrl-C."""
    parser = cli.Parser("-m experiments.fid", __doc__, _EPILOG)
    add = parser.add_argument
    add("real", metavar="REAL", help="set of real images (see below)")
    add("generated", nargs="?", metavar="GENERATED", help="set of generated images; none with --save or --metrics=is")
    add("--protocol", default="tf", help="how images are resized (default: %(default)s)")
    add("--metrics", help="one or several, separated by commas (default: fid)")
    add("--split", default="", help="split of a workdir's data (default: the split that its run evaluates)")
    add("--save", type=cli.path, metavar="FILE.npz", help="file for the statistics of REAL, if it is the only set")
    add("--layout", default="pytorch_fid", help="names of its arrays: pytorch_fid (default; also of ADM and clean-fid) "
        "or jax_fid")  # fmt: skip
    add("--json", type=cli.path, metavar="FILE", help="file for the results")
    add = parser.add_argument_group("network").add_argument
    add("--weights", metavar="WEIGHTS", help="run, file of weights, or name of docs/weights.md (default: the network "
        "of FID, which is fetched once)")  # fmt: skip
    add("--end-point", default="", help="layer that gives the features (default: pool)")
    add = parser.add_argument_group("sampling").add_argument
    add("--seed", type=int, default=2020, help="of subsets, splits and resampling (default: %(default)s)")
    add("--splits", type=cli.positive, default=10, metavar="N", help="splits of the Inception score (default: "
        "%(default)s)")  # fmt: skip
    add("--subsets", type=cli.positive, default=100, metavar="N", help="subsets of KID (default: %(default)s)")
    add("--subset-size", type=cli.positive, default=1000, metavar="N", help="images in each (default: %(default)s)")
    add("--neighbours", type=cli.positive, default=3, metavar="K", help="of precision, recall (default: %(default)s)")
    add("--resamples", type=cli.positive, default=100, metavar="N", help="of the interval (default: %(default)s)")
    add = parser.add_argument_group("machine").add_argument
    add("--batch-size", type=cli.positive, metavar="N", help="images in one forward pass (default: 16 on a CPU, or 64 "
        "for each device)")  # fmt: skip
    add("--threads", type=int, default=0, metavar="N", help="number of decoding threads (default: one for each core)")
    parser.add_distributed()
    return cli.run(parser, _fid, argv)


def _fid(arguments: argparse.Namespace) -> int:
    from inception_jax.errors import UserError
    from inception_jax.fid.extractor import WEIGHTS, make_extractor
    from inception_jax.fid.sets import open_set
    from inception_jax.runtime import configure

    chosen = arguments.metrics.split(",") if arguments.metrics else ["fid"]
    alone = not arguments.generated
    if alone and not arguments.save and chosen != ["is"]:
        raise UserError("give REAL and GENERATED; one set alone needs --save=FILE.npz or --metrics=is")
    if arguments.save and not alone:
        raise UserError("--save is for one set")
    if arguments.save and (arguments.json or not {"fid", "sfid"}.issuperset(chosen)):
        raise UserError("--save writes statistics for fid and sfid; other metrics and --json need two sets")
    cli.check_writable(arguments.save, arguments.json)
    configure("float32")
    cli.join(arguments)
    paths = [path for path in (arguments.real, arguments.generated) if path]
    sets = [open_set(path, arguments.split if Path(path, "config.json").is_file() else "") for path in paths]
    extractor = make_extractor(arguments.protocol, arguments.weights or WEIGHTS, arguments.end_point)
    if arguments.save:
        return _save(arguments, sets[0], extractor, spatial="sfid" in chosen)
    return _measure(arguments, sets, extractor, chosen)


def _save(arguments: argparse.Namespace, images, extractor, *, spatial: bool) -> int:
    import jax

    from inception_jax.console import Progress, plural
    from inception_jax.fid.measurement import collect
    from inception_jax.fid.statistics import write

    found = collect(
        images,
        extractor,
        spatial=spatial,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        progress=Progress("image"),
    )
    _report_damage(found.damaged, found.damaged_count)
    if jax.process_index() == 0:
        write(arguments.save, found.statistics, arguments.layout)
        print(f"written: {arguments.save}, {plural(found.statistics.count or 0, 'image')}", file=sys.stderr)
    return 1 if found.damaged_count else 0


def _measure(arguments: argparse.Namespace, sets, extractor, chosen: list[str]) -> int:
    import jax

    from inception_jax.console import Progress, warn
    from inception_jax.fid.measurement import Sampling, measure

    real, generated = sets if len(sets) == 2 else (None, *sets)
    result = measure(
        real,
        generated,
        extractor,
        chosen,
        sampling=Sampling(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Sampling)}),
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        progress=Progress("image"),
        warn=warn if jax.process_index() == 0 else lambda line: None,  # noqa: ARG005
    )
    _report_damage(result.damaged, result.damaged_count)
    if jax.process_index() == 0:
        names = [each.name for each in sets]
        print(_table(result, names, extractor))
        if arguments.json:
            arguments.json.write_text(json.dumps(_record(result, names), indent=1) + "\n", encoding="utf-8")
    return 1 if result.damaged_count else 0


def _report_damage(damaged, count: int) -> None:
    from inception_jax.console import plural
    from inception_jax.names import printable

    for image in damaged:
        print(f"left out {printable(str(image))}", file=sys.stderr)
    if count:
        print(f"{plural(count, 'image')} could not be read", file=sys.stderr)


_ROWS = (  # name, value, deviation or error, format
    ("sFID", "sfid", "", ".4f"),
    ("KID", "kid", "kid_deviation", ".6f"),
    ("Inception score", "inception_score", "inception_score_deviation", ".4f"),
    ("precision", "precision", "", ".4f"),
    ("recall", "recall", "", ".4f"),
    ("density", "density", "", ".4f"),
    ("coverage", "coverage", "", ".4f"),
    ("FID, infinitely many images", "fid_infinity", "fid_infinity_error", ".4f"),
    ("FID, low end of 95 %", "fid_low", "", ".4f"),
    ("FID, high end of 95 %", "fid_high", "", ".4f"),
)


def _table(result: "Measurement", names: list[str], extractor) -> str:
    from inception_jax.console import plural, table

    rows = [
        [name, f"{result.values[key]:{form}}", f"± {result.values[error]:{form}}" if error else ""]
        for name, key, error, form in ((result.kind, "fid", "", ".4f"), *_ROWS)
        if key in result.values
    ]
    identity = result.identity
    lines = [
        *(name if n is None else f"{name}: {plural(n, 'image')}" for name, n in zip(names, result.counts, strict=True)),
        f"protocol {identity['protocol']}: {extractor.protocol.says}",
        f"network {identity['network']}, {identity['end_point']}, weights sha256 {identity['weights_sha256'][:12]}",
    ]
    return "\n".join([*lines, table(("metric", "value", ""), rows)])


def _record(result: "Measurement", names: list[str]) -> dict:
    from inception_jax.names import readable, text_of

    return {
        "kind": result.kind,
        "identity": dict(result.identity),
        "sets": [
            {"name": readable(text_of(name)), "count": count} for name, count in zip(names, result.counts, strict=True)
        ],
        "values": dict(result.values),
        "damaged": [str(image) for image in result.damaged],
    }


if __name__ == "__main__":
    sys.exit(main())

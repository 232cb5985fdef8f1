"""Finds objects by the heat maps of a trained classifier, and measures how well the boxes fit.

python -m experiments.localize --workdir=/data/googlenet_gap --method=cam --boxes=Annotations/CLS-LOC/val \
    --blacklist=ILSVRC2013_clsloc_validation_blacklist.txt
python -m experiments.localize --workdir=/data/vgg_d --boxes-from=/data/vgg_boxes --boxes=Annotations/CLS-LOC/val
python -m experiments.localize --workdir=runs/glyphs --limit=500 --out=boxes
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import cli

if TYPE_CHECKING:
    from inception_jax.data.sources import Source
    from inception_jax.localization import Localised, Summary
    from inception_jax.runs.classifier import Classifier

_PICTURES = 64
_IMAGENET_CLASSES = 1000
_EPILOG = f"""\
What is printed (docs/localisation.md says how):
  class. error   top-1 and top-5 error of the classes alone, over all images
  loc. error     of ILSVRC: no prediction has the right class and a box whose IoU with a true one is 0.5 or more
  GT-known       boxes for the true class with that much, by --threshold and by the threshold that is best here
  MaxBoxAccV2    of the WSOL benchmark: any contour, the best threshold for each IoU of 0.3, 0.5 and 0.7, and the mean
A threshold that was chosen on the images it is measured on flatters: choose it on others.

--boxes-from takes the boxes of a run that was trained with boxes (configs/vgg_localize.py), of its central crop.

Boxes: --boxes is a directory of PASCAL VOC's XML, or a CSV file with the columns image, xmin, ymin, xmax, ymax and
perhaps label. Without it the data set must have boxes, as the glyphs, CUB (caltech_birds2011) and cars196 of TFDS do.

--out gets NUMBER_NAME.png of the first {_PICTURES} images, and contact_sheet.png: true boxes are white, the box found
for the true class is green if it fits, else red. --npz adds NUMBER_NAME.npz of all images: 'heat' over the evaluation
crop, and 'found' and 'true' boxes in pixels of the image.

If an image cannot be read, it is named, and the exit status is 1.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if an image could not be read, 2 for invalid input, 130 for Ctrl-C."""
    parser = cli.Parser("-m experiments.localize", __doc__, _EPILOG)
    network = parser.add_argument_group("network")
    parser.add_network(network)
    add = network.add_argument
    add("--image-size", type=cli.positive, help="height and width of the input (default: as in training)")
    add("--resize", type=cli.positive, help="shorter side before the crop; as --image-size it shows most of the image")
    add = parser.add_argument_group("images").add_argument
    add("--data", help="data set (default: as in the run)")
    add("--data-dir", help="its directory (default: as in the run)")
    add("--split", help="its split (default: the split that the run evaluates)")
    add("--boxes", type=cli.path, metavar="FILE_OR_DIR", help="true boxes, see below (default: the data set's own)")
    add("--blacklist", type=cli.path, metavar="FILE", help="file that lists images which do not count for localisation")
    add("--limit", type=cli.positive, metavar="N", help="only N images, evenly spread over the split")
    add("--label-map", default="", help="drop_first (for 1001 outputs), or a JSON file: the output of each class")
    add = parser.add_argument_group("boxes").add_argument
    add("--method", default="gradcam", metavar="NAME", help="see experiments.explain --help (default: %(default)s)")
    add("--layer", default="", help="layer of class activation maps (default: the last one with a grid)")
    add("--threshold", type=float, default=0.2, metavar="F", help="part of the largest heat (default: %(default)s)")
    add("--boxes-from", type=cli.path, metavar="WORKDIR", help="run that predicts boxes, in place of heat maps")
    add("--batch-size", type=cli.positive, default=32, metavar="N", help="images at once (default: %(default)s)")
    add = parser.add_argument_group("results").add_argument
    add("--out", type=Path, metavar="DIR", help="directory for pictures")
    add("--npz", action="store_true", help="also write heat maps and boxes to --out")
    add("--json", type=cli.path, metavar="FILE", help="also write all numbers and boxes as JSON")
    return cli.run(parser, _localize, argv)


def _localize(arguments: argparse.Namespace) -> int:
    from inception_jax.console import Progress, plural, warn
    from inception_jax.data.loader import DamageReport
    from inception_jax.errors import UserError
    from inception_jax.localization import localise, localise_by_regression, summarise
    from inception_jax.paths import write_whole
    from inception_jax.runs.classifier import load, load_network
    from inception_jax.runtime import configure

    if arguments.npz and arguments.boxes_from:
        raise UserError("--npz is of heat maps, which --boxes-from does not have")
    if arguments.npz and not arguments.out:
        raise UserError("--npz needs --out, where the arrays are written")
    configure("float32")
    cli.check_writable(arguments.json)
    classifier = load(arguments.workdir, arguments.checkpoint, arguments.weights, warn)
    classifier = classifier.resized(arguments.image_size, arguments.resize)
    source, data = _data(arguments)
    blacklist = _blacklist(arguments, source)
    count = min(arguments.limit or len(source), len(source))
    positions = (np.arange(count) * len(source) // count).tolist()
    if blacklist is not None and blacklist[positions].all():
        raise UserError(f"all images are on {arguments.blacklist}")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    progress, damage = Progress("image"), DamageReport(source)
    rows: list[dict[str, Any]] = []
    judged, sheet = [], []
    progress.start(0, count)
    options: dict[str, Any] = {"positions": positions, "blacklist": blacklist, "label_map": arguments.label_map}
    options |= {"batch_size": arguments.batch_size, "damage": damage}
    if arguments.boxes_from:
        regressor = load_network(arguments.boxes_from, arguments.checkpoint, arguments.weights, warn)
        method, found = f"boxes of {regressor.title}", localise_by_regression(classifier, regressor, source, **options)
    else:
        heat = {"layer": arguments.layer, "threshold": arguments.threshold}
        method, found = arguments.method, localise(classifier, source, arguments.method, **heat, **options)
    try:
        for one in found:
            judged.append(one.judged)
            rows.append(_row(one, source))
            if arguments.out:
                sheet += _write(arguments, one, source, classifier, len(rows) - 1)
            progress.advance(len(rows))
    finally:
        progress.stop()
    if not any(one.counts for one in judged):
        raise UserError("no image could be read")
    summary = summarise(judged)
    if sheet:
        from inception_jax.report.pictures import contact_sheet

        contact_sheet(sheet).save(arguments.out / "contact_sheet.png")
    print(_table(summary, None if arguments.boxes_from else arguments.threshold))
    record: dict[str, Any] = {"workdir": classifier.title, "data": data, "method": method}
    record |= {"layer": arguments.layer, "threshold": arguments.threshold} | summary.to_json()
    if len(source.class_names) == _IMAGENET_CLASSES:
        from inception_jax.reference.printed_results import LOCALIZATION

        print("\n" + _printed())
        record["printed"] = [one._asdict() for one in LOCALIZATION]
    if arguments.json:
        write_whole(arguments.json, (json.dumps(record | {"localised": rows}, indent=1) + "\n").encode())
    if len(damage):
        print(damage.summary(), file=sys.stderr)
    where = f" in {arguments.out}" if arguments.out else ""
    print(f"{plural(len(rows), 'image')} localised{where}", file=sys.stderr)
    return 1 if len(damage) else 0


def _data(arguments: argparse.Namespace) -> tuple["Source", str]:
    """Returns the images with their boxes, and what to call them."""
    from inception_jax.data.boxes import BoxedSource
    from inception_jax.errors import UserError
    from inception_jax.evaluation.evaluate import open_data

    source, data = open_data([arguments.workdir], arguments.data, arguments.split, arguments.data_dir)
    if arguments.boxes:
        return BoxedSource(source, arguments.boxes), data
    try:
        source.boxes(0)
    except UserError as error:
        raise UserError(f"{error}; give --boxes") from None
    return source, data


def _blacklist(arguments: argparse.Namespace, source: "Source") -> np.ndarray | None:
    from inception_jax.evaluation.selection import read_subset

    if not arguments.blacklist:
        return None
    return read_subset(arguments.blacklist, [source.file_name(index) for index in range(len(source))])


def _row(one: "Localised", source: "Source") -> dict[str, Any]:
    judged, names = one.judged, source.class_names
    return {
        "name": one.name,
        "label": names[judged.label],
        "counts": judged.counts,
        "classes": [names[k] for k in judged.classes],
        "boxes": np.round(judged.boxes, 2).tolist(),
        "known": np.round(judged.known, 2).tolist(),
        "true": judged.truth.tolist(),
    }


def _write(
    arguments: argparse.Namespace, one: "Localised", source: "Source", classifier: "Classifier", number: int
) -> list[Any]:
    """Writes the files of an image; returns its picture for the contact sheet, if it gets one."""
    from PIL import Image

    from inception_jax.data.loader import whole_image
    from inception_jax.localization.metrics import FITS, overlap
    from inception_jax.report.boxes import RIGHT, TRUE, WRONG, boxed
    from inception_jax.report.pictures import Picture

    judged = one.judged
    stem = f"{number:04d}_{Path(source.file_name(one.position)).stem or 'image'}"
    if arguments.npz:
        heat = one.explanation.heat
        np.savez(arguments.out / f"{stem}.npz", heat=heat, found=judged.known, true=judged.truth)
    image = whole_image(source, one.position, classifier.crop_config.max_pixels) if number < _PICTURES else None
    if image is None:
        return []
    fit = float(overlap(judged.known, judged.truth)) if judged.counts else 0.0
    boxes = [*((box, TRUE) for box in judged.truth), (judged.known, RIGHT if fit >= FITS else WRONG)]
    picture = boxed(image, boxes)
    Image.fromarray(picture).save(arguments.out / f"{stem}.png")
    return [Picture(picture, f"{source.class_names[judged.label]}, IoU {fit:.2f}")]


def _table(summary: "Summary", threshold: float | None) -> str:
    """Formats the metrics; without a threshold those of boxes that were predicted."""
    from inception_jax.console import percent, table

    best = summary.max_box_acc
    each = zip((0.3, 0.5, 0.7), best.accuracies, best.thresholds, strict=True)
    used = "" if threshold is None else f"{threshold:g}"
    rows = [
        ("class. error, top-1", percent(summary.top1_class_error), f"{summary.images:,}", ""),
        ("class. error, top-5", percent(summary.top5_class_error), f"{summary.images:,}", ""),
        ("loc. error, top-1", percent(summary.top1_error), f"{summary.counted:,}", used),
        ("loc. error, top-5", percent(summary.top5_error), f"{summary.counted:,}", used),
        ("GT-known", percent(summary.known), f"{summary.counted:,}", used),
    ]
    if threshold is None:
        return table(("metric", "value", "images"), [row[:3] for row in rows])
    rows += [
        ("GT-known, best here", percent(summary.best_known), f"{summary.counted:,}", f"{summary.best_threshold:g}"),
        ("MaxBoxAccV2", percent(best.mean), f"{summary.counted:,}", ""),
        *((f"  IoU {level:g}", percent(value), "", f"{at:g}") for level, value, at in each),
    ]
    return table(("metric", "value", "images", "threshold"), rows)


def _printed() -> str:
    """Returns the table of what papers print, as errors in percent."""
    from inception_jax.console import table
    from inception_jax.reference.printed_results import LOCALIZATION

    def cell(value: float | None) -> str:
        return "" if value is None else f"{value} %"

    rows: Sequence[tuple[str, ...]] = [
        (one.network, one.boxes, one.images, cell(one.top1), cell(one.top5), cell(one.known), one.source)
        for one in LOCALIZATION
    ]
    header = ("papers' errors", "boxes", "images", "top-1", "top-5", "true class", "source")
    return table(header, rows, left=3)


if __name__ == "__main__":
    sys.exit(main())

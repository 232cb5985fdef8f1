"""Shows what a trained network sees in images: which pixels speak for a class, or what excites a channel.

python -m experiments.explain --workdir=/data/googlenet cat.jpg photos/ --method=gradcam,guided --out=explained
python -m experiments.explain --workdir=/data/googlenet cat.jpg --class=tabby --layer=inception_4e --out=explained
python -m experiments.explain --workdir=/data/zfnet cat.jpg --unit=conv5:27 --method=deconvnet --out=explained
"""

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import cli
from experiments.predict import all_images

if TYPE_CHECKING:
    from inception_jax.evaluation.predict import Prediction
    from inception_jax.explain import Explainer, Explanation
    from inception_jax.runs.classifier import Classifier

_METHODS = {
    "gradient": "derivative of the score by each pixel (Simonyan et al. 2013)",
    "deconvnet": "signal back through pooling switches and rectified filters (Zeiler and Fergus 2013)",
    "guided": "both rules of the ReLU at once (Springenberg et al. 2014)",
    "smoothgrad": "mean gradient of noisy copies (Smilkov et al. 2017)",
    "integrated": "integrated gradients (Sundararajan et al. 2017)",
    "occlusion": "loss of probability behind a grey square (Zeiler and Fergus 2013)",
    "cam": "class activation map, where a mean and one linear layer follow (Zhou et al. 2015)",
    "gradcam": "the same for any network (Selvaraju et al. 2016); the default",
    "gradcam++": "with weights for several objects (Chattopadhyay et al. 2017)",
    "hirescam": "gradients cell by cell (Draelos and Carin 2020)",
}
_ROWS, _CHECKED = 64, 8  # images on the contact sheet, and of the sanity check
_OPTIONS = ("steps", "baseline", "samples", "noise", "patch", "stride")
_EPILOG = """\
methods:
{methods}

A PATH is an image, a folder, a pattern in quotes, or -: see python -m experiments.predict --help. Images are explained
as the network gets them: by its evaluation crop. docs/explain.md says what the methods compute.

--out gets NUMBER_NAME.METHOD.png for each image and method, and contact_sheet.png with one image in each row (the first
{rows}), where a frame shows what the strongest unit of --unit sees. --npz adds NUMBER_NAME.METHOD.npz: 'values', what
the method computes, 'heat' and 'crop'. --sanity explains the first {checked} images again by networks that are random
from the last layer up to an earlier one: METHOD.sanity.png, and on standard output the rank correlation with the maps
of the trained network. A method that explains it goes to 0.

Images that excite a channel most are made by python -m experiments.visualize.

If an image cannot be read, it is named, and the exit status is 1.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if an image could not be read, 2 for invalid input, 130 for Ctrl-C."""
    methods = "\n".join(f"  {name:<11} {what}" for name, what in _METHODS.items())
    parser = cli.Parser(
        "-m experiments.explain", __doc__, _EPILOG.format(methods=methods, rows=_ROWS, checked=_CHECKED)
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="image, folder, quoted pattern, or - (see below)")
    parser.add_network()
    add("--method", default="gradcam", metavar="NAME[,NAME...]", help="see below (default: %(default)s)")
    add("--class", dest="class_name", metavar="NAME", help="class by name or index (default: the most probable)")
    add("--unit", metavar="LAYER:CHANNEL", help="in place of a class, the strongest unit of a channel")
    add("--layer", default="", help="layer of class activation maps (default: the last one with a grid)")
    add("--out", type=Path, required=True, metavar="DIR", help="directory for the pictures")
    add("--npz", action="store_true", help="also write the arrays")
    add("--json", type=cli.path, metavar="FILE", help="also write classes, scores and files as JSON")
    add("--sanity", action="store_true", help="also explain by networks with random layers (Adebayo et al. 2018)")
    add("--batch-size", type=cli.positive, default=8, metavar="N", help="images at once (default: %(default)s)")
    options = parser.add_argument_group("options of methods")
    add = options.add_argument
    add("--steps", type=cli.positive, metavar="N", help="of integrated: number of gradients (default: 64)")
    add("--baseline", choices=("mean", "black", "white"), help="of integrated (default: mean, the mean colour)")
    add("--samples", type=cli.positive, metavar="N", help="of smoothgrad: number of noisy copies (default: 25)")
    add("--noise", type=float, metavar="F", help="of smoothgrad: part of the image's range (default: 0.15)")
    add("--patch", type=cli.positive, metavar="PIXELS", help="of occlusion: side of the square (default: 1/8)")
    add("--stride", type=cli.positive, metavar="PIXELS", help="of occlusion: its step (default: half its side)")
    return cli.run(parser, _explain, argv)


def _explain(arguments: argparse.Namespace) -> int:
    from inception_jax.console import percent, plural, warn
    from inception_jax.evaluation.predict import predict_files
    from inception_jax.paths import write_whole
    from inception_jax.report.heatmaps import framed
    from inception_jax.report.pictures import Picture, contact_sheet
    from inception_jax.runs.classifier import load
    from inception_jax.runtime import configure

    configure("float32")
    cli.check_writable(arguments.json)
    classifier = load(arguments.workdir, arguments.checkpoint, arguments.weights, warn)
    explainers = _explainers(arguments, classifier)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    sheet: list[Picture] = []
    kept: dict[str, list[Explanation]] = {name: [] for name in explainers}
    unread: list[str] = []
    images = all_images(arguments.paths)
    size = max(1, min(arguments.batch_size, len(images)))
    readable = _readable(predict_files(classifier, images, batch_size=size, top_k=1), unread)
    while batch := list(itertools.islice(readable, size)):
        crops: list[Any] = [prediction.crop for prediction in batch]
        filled = np.stack(crops + crops[:1] * (size - len(crops)))
        found = {name: explainer(filled, [arguments.class_name] * size) for name, explainer in explainers.items()}
        for i, prediction in enumerate(batch):
            explanations = {name: each[i] for name, each in found.items()}
            stem = f"{len(rows):04d}_{Path(prediction.path).stem}"
            row, pictures = _written(arguments, stem, explainers, explanations)
            best, probability = prediction.names[0], prediction.probabilities[0]
            rows.append({"path": prediction.path, "predicted": best, "probability": probability, **row})
            about = f"{row['title']} {row['number']:.4g}, classified as {best} {percent(probability)}"
            print(f"{prediction.path}: {about}{_completeness(row)}")
            if len(rows) <= _ROWS:
                field = next(iter(explanations.values())).field
                shown = crops[i] if field is None else framed(crops[i], *field)
                sheet += [Picture(shown, row["title"]), *map(Picture, pictures, explanations)]
            for name, explanation in explanations.items():
                kept[name] += [explanation] if len(kept[name]) < _CHECKED else []
    if sheet:
        contact_sheet(sheet, columns=1 + len(explainers)).save(arguments.out / "contact_sheet.png")
    sanity = _sanity(arguments.out, explainers, kept) if arguments.sanity and rows else {}
    if arguments.json:
        write_whole(arguments.json, (json.dumps({"images": rows, "sanity": sanity}, indent=2) + "\n").encode())
    for line in unread:
        print(f"left out {line}", file=sys.stderr)
    print(f"{plural(len(rows), 'image')} explained in {arguments.out}", file=sys.stderr)
    return 1 if unread else 0


def _explainers(arguments: argparse.Namespace, classifier: "Classifier") -> dict[str, "Explainer"]:
    """Returns the methods by name, with the options that were given."""
    from inception_jax.errors import UserError, choose
    from inception_jax.explain import METHODS, Unit, make_explainer
    from inception_jax.explain.methods import ActivationMap

    unit = None
    if arguments.unit and arguments.class_name:
        raise UserError("--class and --unit are two things to explain: give one")
    if arguments.unit:
        layer, colon, channel = arguments.unit.rpartition(":")
        if not colon or not channel.isdecimal():
            raise UserError(f"unit={arguments.unit!r} must be LAYER:CHANNEL, such as {classifier.end_points[0]}:0")
        unit = Unit(layer, int(channel))
    methods = {name: choose("method", name, METHODS) for name in arguments.method.split(",")}
    if arguments.layer and not any(isinstance(method, ActivationMap) for method in methods.values()):
        raise UserError(f"layer={arguments.layer!r} is for class activation maps; for a channel give --unit")
    given = {name: value for name in _OPTIONS if (value := getattr(arguments, name)) is not None}
    known = {field.name for method in methods.values() for field in dataclasses.fields(method)}
    for name in given.keys() - known:
        raise UserError(f"{name}={given[name]} is no option of {arguments.method}")
    explainers = {}
    for name, method in methods.items():
        own = {field.name for field in dataclasses.fields(method)}
        method = dataclasses.replace(method, **{key: value for key, value in given.items() if key in own})
        layer = arguments.layer if isinstance(method, ActivationMap) else ""
        explainers[name] = make_explainer(classifier, method, unit=unit, layer=layer)
    return explainers


def _readable(predictions: Iterable["Prediction"], unread: list[str]) -> Iterator["Prediction"]:
    """Passes on the images that could be read; the others are added to `unread`."""
    from inception_jax.names import printable, text_of

    for prediction in predictions:
        prediction.path = printable(text_of(prediction.path))
        if prediction.error:
            unread.append(f"{prediction.path}: {prediction.error}")
        else:
            yield prediction


def _written(
    arguments: argparse.Namespace,
    stem: str,
    explainers: Mapping[str, "Explainer"],
    explanations: Mapping[str, "Explanation"],
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Writes the files of one image; returns its row of the JSON file, and its pictures."""
    from PIL import Image

    from inception_jax.report.heatmaps import picture

    row: dict[str, Any] = {"files": {}}
    pictures = []
    for name, one in explanations.items():
        row |= {"title": one.title, "index": one.index, "number": one.number}
        row |= {} if one.error is None else {"error": one.error}
        row["files"][name] = f"{stem}.{name}.png"
        pictures.append(picture(explainers[name].method, one))
        Image.fromarray(pictures[-1]).save(arguments.out / row["files"][name])
        if arguments.npz:
            np.savez(arguments.out / f"{stem}.{name}.npz", values=one.values, heat=one.heat, crop=one.crop)
    return row, pictures


def _completeness(row: Mapping[str, Any]) -> str:
    return f", integrated gradients incomplete by {row['error']:.2%}" if "error" in row else ""


def _sanity(
    out: Path, explainers: Mapping[str, "Explainer"], kept: Mapping[str, Sequence["Explanation"]]
) -> dict[str, dict[str, list[float]]]:
    """Explains by networks with random layers; returns the similarities by method, layer and image."""
    from inception_jax.console import table
    from inception_jax.explain.sanity import randomise
    from inception_jax.report.heatmaps import picture
    from inception_jax.report.pictures import Picture, contact_sheet

    similarities: dict[str, dict[str, list[float]]] = {}
    for name, explainer in explainers.items():
        columns = [[Picture(picture(explainer.method, one), f"{one.title}") for one in kept[name]]]
        similarities[name] = {}
        for random in randomise(explainer, kept[name]):
            similarities[name][random.layer] = random.similarity.tolist()
            columns.append([Picture(picture(explainer.method, one), random.layer) for one in random.explanations])
        rows = [picture for row in zip(*columns, strict=True) for picture in row]
        contact_sheet(rows, columns=len(columns)).save(out / f"{name}.sanity.png")
    layers = next(iter(similarities.values()))
    lines = [(layer, *(f"{np.mean(each[layer]):+.2f}" for each in similarities.values())) for layer in layers]
    print(table(("random from", *similarities), lines))
    return similarities


if __name__ == "__main__":
    sys.exit(main())

"""Makes the images that excite the channels of a layer most, and shows what these channels read.

python -m experiments.visualize --workdir=/data/googlenet --layer=inception_4a --channel=0-31 --examples=4 --out=seen
python -m experiments.visualize --workdir=/data/googlenet --layer=inception_4a --channel=27 --circuit --out=seen
python -m experiments.visualize --workdir=/data/googlenet --layer=inception_4c --dream=photo.jpg --out=seen
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
    from inception_jax.explain.visualize import Objective
    from inception_jax.report.pictures import Picture
    from inception_jax.runs.classifier import Classifier

_SOURCES = 8  # channels of the earlier layer that --circuit shows of each channel
_EPILOG = f"""
--out gets LAYER.CHANNEL.png for each channel and LAYER.png with all of them, each with its --copies and --examples.
--circuit adds LAYER.circuit.png: for each channel its weights to the {_SOURCES} channels of an earlier layer that it
reads most (red: it grows with them, blue: it shrinks). It also prints how strongly the branches read each other.

In place of channels, --dream changes a photograph so that it excites the whole layer more (DeepDream), --caricature
makes an image that the layer takes for the photograph, and more so, --style one with its textures. --caricature and
--style together paint one image in the style of another. For these --layer may name several, separated by commas.

docs/explain.md says how the images are made.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for invalid input, 130 for Ctrl-C."""
    parser = cli.Parser("-m experiments.visualize", __doc__, _EPILOG)
    parser.add_network()
    add = parser.add_argument
    add("--layer", required=True, help="layer by its name; the last one has a channel for each class")
    add("--out", type=Path, required=True, metavar="DIR", help="directory for the pictures")
    add("--json", type=cli.path, metavar="FILE", help="also write channels, files, examples and weights as JSON")
    group = parser.add_argument_group("channels")
    add = group.add_argument
    add("--channel", type=_numbers, metavar="N[,N-N...]", help="numbers of channels (default: all)")
    add("--copies", type=cli.positive, default=1, metavar="N", help="images of each channel (default: %(default)s)")
    add("--diversity", type=float, default=1.0, metavar="F", help="weight of the difference between the copies, beside "
        "the channel's mean (default: %(default)s)")  # fmt: skip
    add("--examples", type=cli.positive, metavar="N", help="beside them the N images of the data set that excite the "
        "channel most: what its strongest unit sees")  # fmt: skip
    add("--circuit", nargs="?", const="", metavar="LAYER", help="show the weights to an earlier layer (default: the "
        "one before)")  # fmt: skip
    add("--data", help="data set of the examples (default: as in the run)")
    add("--data-dir", help="its directory (default: as in the run)")
    add("--split", help="its split (default: the split that the run evaluates)")
    add = parser.add_argument_group("photographs").add_argument
    add("--dream", type=Path, metavar="IMAGE", help="image to dream on")
    add("--caricature", type=Path, metavar="IMAGE", help="image whose outputs are exaggerated")
    add("--style", type=Path, metavar="IMAGE", help="image whose textures are wanted")
    add("--style-weight", type=float, default=1.0, metavar="F", help="of --style beside --caricature (default: "
        "%(default)s)")  # fmt: skip
    add = parser.add_argument_group("optimisation").add_argument
    add("--steps", type=cli.positive, metavar="N", help="number of steps (default: 512; of --dream 10 for each size)")
    add("--size", type=cli.positive, metavar="PIXELS", help="side of what the network sees (default: as in training); "
        "of --dream the longer side (default: that of the image)")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of the random numbers (default: %(default)s)")
    add("--batch-size", type=cli.positive, default=16, metavar="N", help="channels at once (default: %(default)s)")
    return cli.run(parser, _visualize, argv)


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or not (last if dash else first).isdecimal():
            raise argparse.ArgumentTypeError(f"{text} does not name channels; write for instance 3,8-15")
        numbers += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(numbers))


def _visualize(arguments: argparse.Namespace) -> None:
    from inception_jax.console import warn
    from inception_jax.errors import UserError
    from inception_jax.paths import write_whole
    from inception_jax.runs.classifier import load
    from inception_jax.runtime import configure

    photos = [name for name in ("dream", "caricature", "style") if getattr(arguments, name)]
    if photos and (arguments.channel or arguments.examples or arguments.circuit is not None):
        raise UserError(f"--{photos[0]} shows a whole layer: leave out --channel, --examples and --circuit")
    if arguments.dream and len(photos) > 1:
        raise UserError("--dream changes an image, --caricature and --style make one: give only one of them")
    configure("float32")
    cli.check_writable(arguments.json)
    classifier = load(arguments.workdir, arguments.checkpoint, arguments.weights, warn)
    if arguments.size and not arguments.dream:
        classifier = classifier.resized(arguments.size)
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = _photograph(arguments, classifier) if photos else _channels(arguments, classifier)
    if arguments.json:
        write_whole(arguments.json, (json.dumps(record, indent=2) + "\n").encode())


def _channels(arguments: argparse.Namespace, classifier: "Classifier") -> dict[str, Any]:
    """Shows channels of a layer; returns what was written."""
    from PIL import Image

    from inception_jax.console import Progress
    from inception_jax.explain.network import check_channels
    from inception_jax.explain.visualize import channel, diversity, visualize
    from inception_jax.report.pictures import Picture, contact_sheet

    layer = arguments.layer
    check_channels(classifier, layer, arguments.channel or ())
    channels = arguments.channel or list(range(classifier.end_point_shape(layer)[-1]))
    source = _source(arguments, classifier)  # checked before the work begins
    is_last = layer == classifier.end_points[-1]
    captions = [classifier.class_names[k] if is_last else str(k) for k in channels]

    def objective(k) -> "Objective":
        several = [diversity(layer, arguments.diversity)] if arguments.copies > 1 else []
        return [channel(layer, k), *several]

    rows: list[list[Picture]] = []
    files: list[list[str]] = []
    steps, progress = arguments.steps or 512, Progress("step")
    done, total = 0, steps * -(-len(channels) // arguments.batch_size)
    progress.start(0, total)

    def advance():
        nonlocal done
        done += 1
        progress.advance(done)

    for start in range(0, len(channels), arguments.batch_size):
        some = channels[start : start + arguments.batch_size]
        options = {"copies": arguments.copies, "steps": steps, "seed": arguments.seed, "advance": advance}
        for k, images in zip(some, visualize(classifier, objective, some, **options), strict=True):
            ends = [f"_{copy}" if len(images) > 1 else "" for copy in range(len(images))]
            files.append([f"{layer}.{k:04d}{end}.png" for end in ends])
            for file, image in zip(files[-1], images, strict=True):
                Image.fromarray(image).save(arguments.out / file)
            rows.append([Picture(image, captions[len(rows)]) for image in images])
    progress.stop()
    record: dict[str, Any] = {
        "layer": layer,
        "channels": [{"channel": k, "files": own} for k, own in zip(channels, files, strict=True)],
    }
    if arguments.examples:
        _add_examples(arguments, classifier, channels, rows, record)
    columns = len(rows[0]) if len(rows[0]) > 1 else 8
    contact_sheet([picture for row in rows for picture in row], columns).save(arguments.out / f"{layer}.png")
    print(arguments.out / f"{layer}.png")
    if source:
        record["circuit"] = _circuit(arguments.out, classifier, source, layer, channels, [row[0] for row in rows])
    return record


def _source(arguments: argparse.Namespace, classifier: "Classifier") -> str:
    """Returns the layer that --circuit names, '' without it."""
    from inception_jax.errors import UserError
    from inception_jax.explain.network import check_channels

    names = classifier.end_points
    place = names.index(arguments.layer)
    if arguments.circuit is None:
        return ""
    if not place:
        raise UserError(f"--circuit: no layer comes before {arguments.layer}")
    source = arguments.circuit or names[place - 1]
    check_channels(classifier, source)
    if names.index(source) >= place:
        raise UserError(f"--circuit={source} does not come before {arguments.layer}")
    return source


def _add_examples(
    arguments: argparse.Namespace,
    classifier: "Classifier",
    channels: Sequence[int],
    rows: list[list["Picture"]],
    record: dict[str, Any],
) -> None:
    """Adds the images that excite each channel most to its pictures and its record."""
    import cv2

    from inception_jax.console import warn
    from inception_jax.data import loader
    from inception_jax.evaluation.evaluate import open_data
    from inception_jax.explain.examples import strongest
    from inception_jax.explain.network import receptive_field
    from inception_jax.report.heatmaps import framed
    from inception_jax.report.pictures import Picture

    data, _ = open_data([arguments.workdir], arguments.data, arguments.split, arguments.data_dir)
    damage = loader.DamageReport(data, stops=False)
    batches = loader.eval_batches(
        data, classifier.crop_config, damage, batch_size=64, shard=loader.ProcessShard(), threads=0
    )
    found = strongest(classifier, arguments.layer, channels, batches, arguments.examples)
    if damage:
        warn(damage.summary())
    field = receptive_field(classifier, arguments.layer)
    for row, own, examples in zip(rows, record["channels"], found, strict=True):
        own["examples"] = [{"image": data.name(one.position), "output": one.output} for one in examples]
        for one in examples:
            shown = framed(one.crop, *field.pixels(one.cell, one.crop.shape[:2]))
            shown = cv2.resize(shown, row[0].image.shape[1::-1], interpolation=cv2.INTER_AREA)
            name = data.name(one.position).rpartition("/")[2]
            row.append(Picture(shown, f"{one.output:.3g} {name}"))


def _circuit(
    out: Path, classifier: "Classifier", source: str, layer: str, channels: Sequence[int], firsts: list["Picture"]
) -> dict[str, Any]:
    """Writes the weights of channels as pictures, prints those of branches; returns both as numbers."""
    from inception_jax.console import table
    from inception_jax.explain.circuits import branch_strengths, branches, expanded_weights
    from inception_jax.report.heatmaps import weight_picture
    from inception_jax.report.pictures import Picture, contact_sheet

    weights = expanded_weights(classifier, source, layer, channels)
    origins = branches(classifier, source)
    names = [f"{branch.name} {k}" for branch in origins for k in branch.channels]
    strengths = np.sqrt((weights**2).sum(axis=(1, 2)))
    pictures, strongest = [], []
    for own, strength, first in zip(weights, strengths, firsts, strict=True):
        order = np.argsort(-strength, kind="stable")[:_SOURCES]
        scale, side = np.abs(own).max(), first.image.shape[0]
        tiles = []
        for k in order:
            caption = f"{names[k].removeprefix(f'{source}/')}: {own[:, :, k].sum():+.2g}"
            tiles.append(Picture(weight_picture(own[:, :, k], scale, side), caption))
        pictures += [first, *tiles]
        strongest.append({names[k]: float(strength[k]) for k in order})
    file = out / f"{layer}.circuit.png"
    contact_sheet(pictures, columns=1 + min(_SOURCES, weights.shape[-1])).save(file)
    print(file)
    matrix = branch_strengths(classifier, source, layer)
    targets = [branch.name for branch in branches(classifier, layer)]
    lines = [(branch.name, *map("{:.3g}".format, row)) for branch, row in zip(origins, matrix, strict=True)]
    print(table((f"root mean square of the weights from {source}", *targets), lines))
    by_branch = {b.name: dict(zip(targets, row, strict=True)) for b, row in zip(origins, matrix.tolist(), strict=True)}
    return {"source": source, "strongest": strongest, "branches": by_branch}


def _photograph(arguments: argparse.Namespace, classifier: "Classifier") -> dict[str, Any]:
    """Dreams on a photograph, or makes its caricature or an image in its style; returns what was written."""
    import cv2
    from PIL import Image

    from inception_jax.console import Progress
    from inception_jax.explain.network import check_channels
    from inception_jax.explain.visualize import Term, caricature, dream, everything, style, visualize

    layers = arguments.layer.split(",")
    for layer in layers:
        check_channels(classifier, layer)
    progress, done = Progress("step"), 0

    def advance():
        nonlocal done
        done += 1
        progress.advance(done)

    def outputs(photo: Path) -> list[np.ndarray]:
        return [output[0] for output in classifier.run(classifier.crop(_read(photo, classifier))[None], *layers)]

    stems = [getattr(arguments, name).stem for name in ("caricature", "style", "dream") if getattr(arguments, name)]
    file = arguments.out / f"{'_'.join(stems)}.{'_'.join(layers)}.png"
    if arguments.dream:
        steps = arguments.steps or 10
        image = _read(arguments.dream, classifier)
        if arguments.size:
            scale = arguments.size / max(image.shape[:2])
            height, width = (max(1, round(length * scale)) for length in image.shape[:2])
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        progress.start(0, 4 * steps)
        objective = [everything(layer) for layer in layers]
        made = dream(classifier, image, objective, steps=steps, seed=arguments.seed, advance=advance)
    else:
        terms: list[Term] = []
        if arguments.caricature:
            terms += map(caricature, layers, outputs(arguments.caricature))
        if arguments.style:
            terms += [
                style(layer, each, arguments.style_weight)
                for layer, each in zip(layers, outputs(arguments.style), strict=True)
            ]
        steps = arguments.steps or 512
        progress.start(0, steps)
        [[made]] = visualize(classifier, lambda _: terms, steps=steps, seed=arguments.seed, advance=advance)
    progress.stop()
    Image.fromarray(made).save(file)
    print(file)
    return {"layers": layers, "file": file.name}


def _read(photo: Path, classifier: "Classifier") -> np.ndarray:
    """Returns a whole photograph, uint8 [H, W, 3]."""
    from inception_jax.data.decoding import DamagedImage, PlainJpeg
    from inception_jax.errors import UserError
    from inception_jax.runs.classifier import read_picture

    try:
        image = read_picture(photo, classifier.crop_config.max_pixels, str(photo))
        return image.decode()[0] if isinstance(image, PlainJpeg) else image
    except DamagedImage as error:
        raise UserError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())

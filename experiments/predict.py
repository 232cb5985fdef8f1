"""Classifies images with a trained network, and keeps the output of one of its layers.

python -m experiments.predict --workdir=/data/googlenet cat.jpg photos 'scans/**/*.png'
find photos -name '*.jpg' | python -m experiments.predict --workdir=/data/googlenet --format=csv -
"""

import argparse
import contextlib
import functools
import io
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

import numpy as np

from experiments import cli

if TYPE_CHECKING:
    from inception_jax.evaluation.predict import ImageFile, Prediction
    from inception_jax.paths import AnyPath

_FORMATS = {".txt": "text", ".csv": "csv", ".json": "json", ".jsonl": "jsonl"}
_PICTURES = 256  # on a contact sheet

_EPILOG = """\
A PATH is one of these:
  an image
  a folder: the images below it, without hidden ones
  a pattern in quotes with *, ?, [...] or ** (folders at any depth): the images that match, and those below folders
    that match
  -: files and folders that standard input names, one per line, classified as they come

With --shard or --distributed, --out is a directory: machine I of N writes every N-th file of --shard-size predictions,
and rerunning the command makes the missing ones only (python -m experiments.features --check --out=DIR).

If an image cannot be read, the error takes the place of its prediction, and the exit status is 1. --features-out has
the arrays 'paths' and 'features' (float32 [N, ...]) of the images that were read. It and the contact sheet, which shows
images as the network gets them, are written at the end.
"""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if an image could not be read, 2 for invalid input, 130 for Ctrl-C."""
    parser = cli.Parser("-m experiments.predict", __doc__, _EPILOG)
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="image, folder, quoted pattern, or - (see below)")
    parser.add_network()
    add("--top-k", type=cli.positive, default=5, metavar="K", help="number of classes per image (default: %(default)s)")
    add("--out", type=cli.path, metavar="FILE", help="file for the predictions (default: standard output)")
    add("--format", choices=tuple(_FORMATS.values()), help="format of the predictions (default: by the suffix of "
        "--out, else text)")  # fmt: skip
    add("--features", default="", metavar="END_POINT", help="also keep the output of this layer, such as pool5")
    add("--features-out", type=cli.path, metavar="FILE.npz", help="file for these outputs (see below)")
    add("--contact-sheet", type=cli.path, metavar="FILE.png", help=f"the first {_PICTURES} images, each with its class")
    add("--batch-size", type=cli.positive, default=32, metavar="N", help="images in one forward pass (default: "
        "%(default)s)")  # fmt: skip
    add("--threads", type=int, default=0, metavar="N", help="number of decoding threads (default: one for each core)")
    parser.add_raw_csv()
    parser.add_share()
    return cli.run(parser, _predict, argv)


def _predict(arguments: argparse.Namespace) -> int:
    from inception_jax.console import plural, warn
    from inception_jax.evaluation.predict import predict_files
    from inception_jax.runs.classifier import load
    from inception_jax.runtime import configure

    configure("float32")
    if arguments.shard or cli.is_distributed(arguments):
        return _predict_shards(arguments)
    form = _format(arguments)
    _check_files(arguments)
    classifier = load(arguments.workdir, arguments.checkpoint, arguments.weights, warn)
    predictions = predict_files(
        classifier,
        _files(arguments.paths),
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        top_k=arguments.top_k,
        features=arguments.features,
    )
    kept = _Kept(arguments)
    columns = min(arguments.top_k, len(classifier.class_names))
    with _opened(arguments.out) as file:
        _write(map(kept.add, predictions), form, columns, file, arguments.raw_csv)
    kept.save()
    unread = f", {kept.unread} of them could not be read" if kept.unread else ""
    print(f"{plural(kept.count, 'image')}{unread}", file=sys.stderr)
    return 1 if kept.unread else 0


def _predict_shards(arguments: argparse.Namespace) -> int:
    from inception_jax.console import plural, warn
    from inception_jax.errors import UserError
    from inception_jax.evaluation.predict import predict_files
    from inception_jax.evaluation.shards import open_shards
    from inception_jax.runs.classifier import load
    from inception_jax.weights.files import sha256

    if not arguments.out or arguments.features or arguments.contact_sheet:
        raise UserError("--shard and --distributed need --out=DIR, and write predictions only (features: "
            "python -m experiments.features)")  # fmt: skip
    index, count = cli.own_share(arguments)
    form = arguments.format or "jsonl"
    classifier = load(arguments.workdir, arguments.checkpoint, arguments.weights, warn)
    images = all_images(arguments.paths)
    identity = {
        "network": classifier.name,
        "weights_sha256": sha256(classifier.variables),
        "preprocessing": classifier.metadata["preprocessing"],
        "top_k": arguments.top_k,
    }
    suffix = next(suffix for suffix, name in _FORMATS.items() if name == form)
    names = [image.path for image in images]
    shards = open_shards(arguments.out, names, arguments.shard_size, suffix, identity)
    options = {"batch_size": arguments.batch_size, "threads": arguments.threads, "top_k": arguments.top_k}
    columns, unread = min(arguments.top_k, len(classifier.class_names)), 0
    for number in shards.missing(index, count):
        members = [images[position] for position in shards.positions(number)]
        predictions = list(map(_without_crop, predict_files(classifier, members, **options)))
        errors = sum(bool(prediction.error) for prediction in predictions)
        text = io.StringIO()
        _write(predictions, form, columns, text, arguments.raw_csv)
        content = io.BytesIO(text.getvalue().encode("utf-8", "inception_jax"))
        shards.write(number, [image.path for image in members], errors, functools.partial(shutil.copyfileobj, content))
        unread += errors
        print(f"{shards.file(number)}: {plural(len(members), 'image')}", file=sys.stderr)
    if unread:
        print(f"{plural(unread, 'image')} could not be read", file=sys.stderr)
    return 1 if unread else 0


def _without_crop(prediction: "Prediction") -> "Prediction":
    prediction.crop = None  # a shard's crops would fill the memory
    return prediction


def _format(arguments: argparse.Namespace) -> str:
    suffix = arguments.out.suffix.lower() if arguments.out else ".txt"
    if not arguments.format and suffix not in _FORMATS:
        from inception_jax.errors import UserError

        raise UserError(f"--out={arguments.out} does not end in {', '.join(_FORMATS)}: give --format")
    return arguments.format or _FORMATS[suffix]


def _check_files(arguments: argparse.Namespace) -> None:
    """Raises UserError if a file cannot be written at the end."""
    from inception_jax.errors import UserError

    if bool(arguments.features) != bool(arguments.features_out):
        raise UserError("--features=END_POINT and --features-out=FILE.npz need each other")
    for file, suffix in ((arguments.features_out, ".npz"), (arguments.contact_sheet, ".png")):
        if file and file.suffix.lower() != suffix:
            raise UserError(f"{file} must end in {suffix}")
    cli.check_writable(arguments.out, arguments.features_out, arguments.contact_sheet)


def all_images(paths: Iterable[str]) -> list["ImageFile"]:
    """Returns all images that paths stand for, each once."""
    return list({image.path: image for image in _files(paths)}.values())


def _files(paths: Iterable[str]) -> Iterator["ImageFile"]:
    from inception_jax.evaluation.predict import find_images

    for path in paths:
        if path != "-":
            yield from find_images(path, pattern=True)
            continue
        # A file of its own: Python could not end while another thread reads sys.stdin.
        with open(0, "rb", closefd=False) as stdin:
            for line in filter(None, (line.rstrip(b"\r\n") for line in stdin)):
                yield from find_images(os.fsdecode(line))


class _Kept:
    """What is written at the end: features, contact sheet, and how many images were read."""

    def __init__(self, arguments: argparse.Namespace):
        self._features_out, self._contact_sheet = arguments.features_out, arguments.contact_sheet
        self.count = self.unread = 0
        self._paths: list[str] = []
        self._features: list[np.ndarray] = []
        self._pictures: list = []

    def add(self, prediction: "Prediction") -> "Prediction":
        from inception_jax.names import text_of
        from inception_jax.report.pictures import Picture

        self.count += 1
        if prediction.error:
            self.unread += 1
            return prediction
        if self._features_out:
            self._paths.append(text_of(prediction.path))
            self._features.append(prediction.features)
        if self._contact_sheet and len(self._pictures) < _PICTURES:
            caption = f"{prediction.names[0]} {prediction.probabilities[0]:.0%}"
            self._pictures.append(Picture(prediction.crop, caption))
        return prediction

    def save(self) -> None:
        from inception_jax.paths import written
        from inception_jax.report.pictures import contact_sheet

        if self._features_out:
            features = np.stack(self._features) if self._features else np.zeros((0,), np.float32)
            with written(self._features_out) as local, open(local, "wb") as file:
                np.savez(file, paths=np.array(self._paths, str), features=features)
        if self._pictures:
            with written(self._contact_sheet) as local:
                contact_sheet(self._pictures).save(local, format="PNG")
        elif self._contact_sheet:
            print(f"{self._contact_sheet} is not written: no image could be read", file=sys.stderr)


@contextlib.contextmanager
def _opened(file: "AnyPath | None") -> Iterator[TextIO]:
    """Gives the file for predictions, to which file names are written as the bytes that they are."""
    from inception_jax.paths import written

    if not file:
        yield sys.stdout
        return
    with written(file) as local, open(local, "w", newline="", encoding="utf-8", errors="inception_jax") as opened:
        yield opened


def _write(predictions: Iterable["Prediction"], form: str, columns: int, file: TextIO, raw_csv: bool = False) -> None:
    """Writes each prediction at once. In text, and on a terminal, control characters in names are escaped."""
    from inception_jax.names import printable, text_of
    from inception_jax.spreadsheet import row_writer

    as_bytes = file is sys.stdout and form in ("text", "csv")
    shown = printable if file.isatty() else str
    write_row = row_writer(file, raw_csv)
    if form == "csv":
        head = [f"{what}_{rank}" for rank in range(1, columns + 1) for what in ("class", "probability")]
        write_row(["path", *head, "error"])
    separator = "[\n"
    try:
        for prediction in predictions:
            path = prediction.path if as_bytes else text_of(prediction.path)
            if form == "csv":
                names = map(shown, prediction.names)
                best = list(itertools.chain(*zip(names, prediction.probabilities, strict=True)))
                write_row([shown(path), *(best or [""] * 2 * columns), shown(prediction.error)])
            elif form == "json":
                file.write(separator + json.dumps(_object(path, prediction)))
                separator = ",\n"
            elif form == "jsonl":
                file.write(json.dumps(_object(path, prediction)) + "\n")
            else:
                best = zip(prediction.names, prediction.probabilities, strict=True)
                text = ", ".join(f"{name} {probability:.2%}" for name, probability in best)
                file.write(printable(f"{path}: {f'error: {prediction.error}' if prediction.error else text}") + "\n")
            file.flush()
    finally:  # also if it was stopped
        if form == "json":
            file.write("[]\n" if separator == "[\n" else "\n]\n")


def _object(path: str, prediction: "Prediction") -> dict:
    if prediction.error:
        return {"path": path, "error": prediction.error}
    best = zip(prediction.names, prediction.classes, prediction.probabilities, strict=True)
    return {
        "path": path,
        "predictions": [{"class": name, "index": k, "probability": probability} for name, k, probability in best],
    }


if __name__ == "__main__":
    sys.exit(main())

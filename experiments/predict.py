"""Classifies images with a trained network, and keeps what a layer of it makes of them.

python -m experiments.predict --workdir=/data/googlenet cat.jpg photos 'scans/**/*.png'
find photos -name '*.jpg' | python -m experiments.predict --workdir=/data/googlenet --format=csv -
"""

import argparse
import concurrent.futures
import contextlib
import csv
import dataclasses
import glob
import json
import os
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

_FORMATS = {".txt": "text", ".csv": "csv", ".json": "json", ".jsonl": "jsonl"}
_KEYS = ("class", "index", "probability")
_PICTURES = 256  # on a contact sheet
_PATIENCE = 0.1  # seconds that a batch which is not full waits for another path

_EPILOG = """\
A PATH is an image; a folder, which stands for the images below it, but for hidden ones; a pattern in quotes with *, ?,
[...] or ** (folders at any depth), which stands for the images that match and those below folders that match; or -, for
files and folders that standard input names, one a line, which are classified as they come.

What is wrong with an image stands in its place among the predictions, and the exit status is 1. --features-out has the
arrays 'paths' and 'features' (float32 [N, ...]) of all others; it and the contact sheet, on which the images are as the
network gets them, are written at the end.
"""


@dataclasses.dataclass
class _Image:
    """An image on its way: `error` says why it has no crop, `best` is its classes as (name, index, probability)."""

    path: str
    error: str = ""
    crop: np.ndarray | None = None
    best: Sequence[tuple[str, int, float]] = ()


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 if an image could not be read, 2 for bad input, 130 for Ctrl-C, 141 for SIGPIPE."""
    arguments = _arguments(argv)
    try:
        from inception_jax.errors import UserError  # with it JAX, seconds

        try:
            return _run(arguments)
        except BrokenPipeError:  # nobody reads on, as after `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
            return 141
        except (UserError, OSError) as error:  # OSError: for instance a full disk
            print(f"error: {error}", file=sys.stderr)
            return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"error: {message} (--help says more)\n")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m experiments.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="image, folder, quoted pattern, or - (see below)")
    add("--workdir", type=Path, required=True, help="of a run, a checkpoint or a file of exported weights")
    add("--checkpoint", default="best", help="best (default), last or a step")
    add("--weights", default="", choices=("ema", "raw"), help="moving averages (default, if kept) or latest")
    add("--top-k", type=_positive, default=5, metavar="K", help="classes of each image (default: %(default)s)")
    add("--out", type=Path, metavar="FILE", help="for the predictions (default: standard output)")
    add("--format", choices=tuple(_FORMATS.values()), help="of them (default: by the suffix of --out, else text)")
    add("--features", metavar="END_POINT", help="also keep the output of this layer, such as pool5")
    add("--features-out", type=Path, metavar="FILE.npz", help="for it (see below)")
    add("--contact-sheet", type=Path, metavar="FILE.png", help=f"the first {_PICTURES} images, each with its class")
    add("--batch-size", type=_positive, default=32, metavar="N", help="images at once (default: %(default)s)")
    add("--threads", type=int, default=0, metavar="N", help="that decode (default: one for each core)")
    arguments = parser.parse_args(argv)
    if not arguments.paths:
        parser.error("no images: give files, folders, patterns, or - for paths on standard input")
    if bool(arguments.features) != bool(arguments.features_out):
        parser.error("--features=END_POINT and --features-out=FILE.npz need each other")
    for file, suffix in ((arguments.features_out, ".npz"), (arguments.contact_sheet, ".png")):
        if file and file.suffix.lower() != suffix:
            parser.error(f"{file} must end in {suffix}")
    suffix = arguments.out.suffix.lower() if arguments.out else ".txt"
    if not arguments.format and suffix not in _FORMATS:
        parser.error(f"--out={arguments.out} does not end in {', '.join(_FORMATS)}: give --format")
    arguments.format = arguments.format or _FORMATS[suffix]
    return arguments


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    from experiments.console import warn
    from inception_jax.errors import UserError, choose
    from inception_jax.evaluation.page import plural
    from inception_jax.runtime import configure
    from inception_jax.training.weights import load

    configure("float32")
    for file in filter(None, (arguments.out, arguments.features_out, arguments.contact_sheet)):
        if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
            raise UserError(f"{file} cannot be written")
    classifier = load(arguments.workdir, arguments.checkpoint, arguments.weights, warn)
    if arguments.features:
        choose("--features", arguments.features, dict.fromkeys(classifier.end_points))
    predictions = _Predictions(classifier, arguments)
    with _opened(arguments.out) as file:
        _write(predictions, arguments.format, min(arguments.top_k, len(classifier.class_names)), file)
    predictions.save()
    unread = f", {predictions.unread} of them could not be read" if predictions.unread else ""
    print(f"{plural(predictions.count, 'image')}{unread}", file=sys.stderr)
    return 1 if predictions.unread else 0


class _Predictions:
    """Images with their classes, in the order of their paths, as they come; keeps what is saved at the end."""

    def __init__(self, classifier, arguments: argparse.Namespace):
        self.count = self.unread = 0
        self._classifier, self._arguments = classifier, arguments
        self._paths: list[str] = []
        self._features: list[np.ndarray] = []
        self._pictures: list = []

    def __iter__(self) -> Iterator[_Image]:
        size = 0
        for images, is_last in _batches(self._classifier, self._arguments):
            readable = [image for image in images if not image.error]
            if readable:
                size = size or (len(readable) if is_last else self._arguments.batch_size)
                self._classify(readable, size)
            self.count += len(images)
            self.unread += len(images) - len(readable)
            yield from images

    def _classify(self, images: list[_Image], size: int) -> None:
        """Fills in the classes of up to `size` images, for which number the network is compiled."""
        from inception_jax.evaluation.analysis import ranking
        from inception_jax.evaluation.classifier import softmax
        from inception_jax.names import text_of
        from inception_jax.training.pictures import Picture

        classifier, arguments = self._classifier, self._arguments
        crops = [image.crop for image in images]
        end_points = filter(None, (classifier.end_points[-1], arguments.features))
        logits, *features = classifier.run(np.stack(crops + crops[:1] * (size - len(crops))), *end_points)
        probabilities = softmax(logits[: len(images)])
        for image, row, best in zip(images, probabilities, ranking(probabilities, arguments.top_k), strict=True):
            # By way of its text, the shortest that says which float32 it is: 0.1, not 0.10000000149011612.
            image.best = [(classifier.class_names[i], int(i), float(str(row[i]))) for i in best]
            if arguments.contact_sheet and len(self._pictures) < _PICTURES:
                self._pictures.append(Picture(image.crop, "{0} {2:.0%}".format(*image.best[0])))
        if features:
            self._paths += [text_of(image.path) for image in images]
            self._features.append(features[0][: len(images)])

    def save(self) -> None:
        """Writes the features and the contact sheet, if they are asked for."""
        from inception_jax.training.pictures import contact_sheet

        arguments = self._arguments
        if arguments.features:
            features = np.concatenate(self._features) if self._features else np.zeros((0,), np.float32)
            with open(arguments.features_out, "wb") as file:
                np.savez(file, paths=np.array(self._paths, str), features=features)
        if self._pictures:
            contact_sheet(self._pictures).save(arguments.contact_sheet, format="PNG")
        elif arguments.contact_sheet:
            print(f"{arguments.contact_sheet} is not written: no image could be read", file=sys.stderr)


def _batches(classifier, arguments: argparse.Namespace) -> Iterator[tuple[list[_Image], bool]]:
    """Batches of decoded images, and whether it is the last; one is not full where the next path is not there yet."""
    from inception_jax.runtime import available_cores

    size, done = arguments.batch_size, False
    pool = concurrent.futures.ThreadPoolExecutor(max(0, arguments.threads) or available_cores())
    coming: queue.Queue = queue.Queue(2 * size)

    def feed() -> None:
        try:
            for image in _images(arguments.paths):
                coming.put(pool.submit(_decoded, image, classifier))
            coming.put(None)
        except BaseException as error:
            coming.put(error)

    # A daemon, because it may be waiting for standard input when this process ends.
    threading.Thread(target=feed, daemon=True).start()
    try:
        while not done:
            batch = []
            with contextlib.suppress(queue.Empty):
                while len(batch) < size and not done:
                    item = coming.get(timeout=_PATIENCE if batch else None)
                    if isinstance(item, BaseException):
                        raise item
                    done = item is None
                    batch += [] if done else [item]
            yield [future.result() for future in batch], done
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _decoded(image: _Image, classifier) -> _Image:
    from inception_jax.data.decoding import DamagedImage
    from inception_jax.evaluation.classifier import read_picture

    if not image.error:
        try:
            image.crop = classifier.crop(read_picture(image.path, classifier.geometry.max_pixels, image.path))
        except DamagedImage as damaged:
            image.error = damaged.reason
    return image


def _images(paths: Iterable[str]) -> Iterator[_Image]:
    """The images that the arguments name, one with an error where there are none."""
    for path in paths:
        if path != "-":
            yield from _named(path, any(character in path for character in "*?["))
            continue
        # A file of its own: Python could not end while another thread reads sys.stdin.
        with open(0, "rb", closefd=False) as stdin:
            for line in filter(None, (line.rstrip(b"\r\n") for line in stdin)):
                yield from _named(os.fsdecode(line))


def _named(path: str, is_pattern: bool = False) -> list[_Image]:
    if os.path.isdir(path):
        return _below(path) or [_Image(path, "no images in this folder")]
    if os.path.exists(path):
        return [_Image(path)]
    if not is_pattern:
        return [_Image(path, "there is no such file or folder")]
    found = {}  # by path, because ** gives folders and what is in them
    for match in glob.glob(os.path.expanduser(path), recursive=True):
        images = _below(match) if os.path.isdir(match) else map(_Image, filter(_is_image, [match]))
        found |= {image.path: image for image in images}
    return [found[name] for name in sorted(found)] or [_Image(path, "no images match this pattern")]


def _below(folder: str) -> list[_Image]:
    from inception_jax.data.sources import image_files

    unread: list[_Image] = []
    paths = image_files(folder, lambda error: unread.append(_Image(error.filename, error.strerror)))
    return sorted([*unread, *map(_Image, paths)], key=lambda image: image.path)


def _is_image(path: str) -> bool:
    from inception_jax.data.decoding import IMAGE_SUFFIXES

    return path.lower().endswith(IMAGE_SUFFIXES) and not os.path.basename(path).startswith(".")


def _opened(file: Path | None):
    """A context with the file for predictions, to which file names are written as the bytes that they are."""
    if file:
        return open(file, "w", newline="", encoding="utf-8", errors="inception_jax")
    return contextlib.nullcontext(sys.stdout)


def _write(images: Iterable[_Image], kind: str, classes: int, file: TextIO) -> None:
    """Writes the images with their classes, each at once."""
    from inception_jax.names import text_of

    as_bytes = file is sys.stdout and kind in ("text", "csv")
    table = csv.writer(file, lineterminator="\n")
    columns = [column for i in range(1, classes + 1) for column in (f"class_{i}", f"probability_{i}")]
    if kind == "csv":
        table.writerow(["path", *columns, "error"])
    separator = "[\n"
    try:
        for image in images:
            image = image if as_bytes else dataclasses.replace(image, path=text_of(image.path))
            if kind == "csv":
                best = [value for name, _, probability in image.best for value in (name, probability)]
                table.writerow([image.path, *(best or [""] * len(columns)), image.error])
            elif kind == "json":
                file.write(separator + json.dumps(_object(image)))
                separator = ",\n"
            else:
                file.write((json.dumps(_object(image)) if kind == "jsonl" else _text(image)) + "\n")
            file.flush()
    finally:  # also of what was stopped
        if kind == "json":
            file.write("[]\n" if separator == "[\n" else "\n]\n")


def _text(image: _Image) -> str:
    best = (f"{name} {probability:.2%}" for name, _, probability in image.best)
    return f"{image.path}: {'error: ' + image.error if image.error else ', '.join(best)}"


def _object(image: _Image) -> dict:
    if image.error:
        return {"path": image.path, "error": image.error}
    return {"path": image.path, "predictions": [dict(zip(_KEYS, best, strict=True)) for best in image.best]}


if __name__ == "__main__":
    sys.exit(main())

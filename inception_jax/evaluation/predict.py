"""Classifies many image files: decodes ahead in threads, runs batches, reports damaged files in their place."""

import concurrent.futures
import contextlib
import dataclasses
import glob
import os
import queue
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from inception_jax.data.decoding import DamagedImage
from inception_jax.data.image_files import image_files, is_image
from inception_jax.errors import UserError, check_choice
from inception_jax.evaluation.analysis import ranking
from inception_jax.paths import check_bucket, is_bucket
from inception_jax.runs.classifier import Classifier, read_picture, softmax
from inception_jax.runtime import available_cores

_PATIENCE = 0.1  # seconds that an incomplete batch waits for another path


class ImageFile(NamedTuple):
    """A file to classify; `error` says why it cannot be, '' if nothing is known yet."""

    path: str
    error: str = ""


@dataclasses.dataclass
class Prediction:
    """The classes of one image file.

    Attributes:
      path: path of the file.
      error: why it could not be read; '' if it was, else the following have no values.
      classes: indices of the most probable classes, the best first.
      names: their names.
      probabilities: their probabilities.
      crop: uint8 [size, size, 3], the image as the network gets it.
      features: float32, output of the layer that was asked for.
    """

    path: str
    error: str = ""
    classes: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    crop: np.ndarray | None = None
    features: np.ndarray | None = None


def predict_files(
    classifier: Classifier,
    paths: Iterable[str | os.PathLike | ImageFile],
    *,
    batch_size: int = 32,
    threads: int = 0,
    top_k: int = 5,
    features: str = "",
) -> Iterator[Prediction]:
    """Classifies image files in the order of their paths.

    Paths are taken in a thread of their own as they come. A batch that is not full does not wait for the next path.

    Args:
      classifier: the network.
      paths: files, and folders, which stand for the images below them; see `find_images`.
      batch_size: number of images in one forward pass.
      threads: number of decoding threads; 0: one for each core.
      top_k: number of classes for each image.
      features: name of a layer whose outputs to return too, see `Classifier.end_points`.

    Yields:
      A prediction for each image; a file that cannot be read has an error in its place.

    Raises:
      UserError: an argument is invalid. It is raised at once, before the first prediction.
    """
    for name, value in (("batch_size", batch_size), ("top_k", top_k)):
        if value < 1:
            raise UserError(f"{name}={value} must be 1 or more")
    if features:
        check_choice("features", features, classifier.end_points)
    return _predictions(classifier, paths, batch_size, threads or available_cores(), top_k, features)


def _predictions(
    classifier: Classifier, paths: Iterable, batch_size: int, threads: int, top_k: int, features: str
) -> Iterator[Prediction]:
    compiled = 0  # number of images that the network is compiled for
    for batch, is_last in _batches(classifier, paths, batch_size, threads):
        readable = [prediction for prediction in batch if not prediction.error]
        if readable:
            compiled = compiled or (len(readable) if is_last else batch_size)
            crops: list[Any] = [prediction.crop for prediction in readable]
            end_points = [classifier.end_points[-1], *([features] if features else [])]
            logits, *outputs = classifier.run(np.stack(crops + crops[:1] * (compiled - len(crops))), *end_points)
            probabilities = softmax(logits[: len(crops)])
            for place, best in enumerate(ranking(probabilities, top_k).tolist()):
                prediction = readable[place]
                prediction.classes = tuple(best)
                prediction.names = tuple(classifier.class_names[k] for k in best)
                # By way of its shortest text: 0.1, not 0.10000000149011612.
                prediction.probabilities = tuple(float(str(probabilities[place, k])) for k in best)
                prediction.features = outputs[0][place] if features else None
        yield from batch


def _batches(
    classifier: Classifier, paths: Iterable, size: int, threads: int
) -> Iterator[tuple[list[Prediction], bool]]:
    """Batches of decoded images, and whether it is the last; a batch is not full if the next path is not known yet."""
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    coming: queue.Queue = queue.Queue(2 * size)

    def feed() -> None:
        try:
            for path in paths:
                for file in [path] if isinstance(path, ImageFile) else find_images(os.fspath(path)):
                    coming.put(pool.submit(_decoded, file, classifier))
            coming.put(None)
        except BaseException as error:
            coming.put(error)

    # A daemon, because it may be waiting for standard input when this process ends.
    threading.Thread(target=feed, daemon=True).start()
    done = False
    try:
        while not done:
            batch: list[concurrent.futures.Future] = []
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


def _decoded(file: ImageFile, classifier: Classifier) -> Prediction:
    if file.error:
        return Prediction(*file)
    try:
        image = read_picture(file.path, classifier.crop_config.max_pixels, file.path)
        return Prediction(file.path, crop=classifier.crop(image))
    except DamagedImage as damaged:
        return Prediction(file.path, damaged.reason)


def find_images(path: str, pattern: bool = False) -> Sequence[ImageFile]:
    """Returns the image files that a path stands for, sorted; one with an error if there are none.

    A folder stands for the images below it, at any depth, without hidden ones.

    Args:
      path: a file or a folder, also in a bucket; a file there is not looked at yet.
      pattern: whether *, ?, [...] and ** (folders at any depth) stand for other characters, if no such file exists. A
        pattern stands for the images that match it, and for those below folders that match it. In a bucket it stands
        for nothing.

    Raises:
      UserError: the bucket cannot be read.
    """
    special = any(character in path for character in "*?[")
    if is_bucket(path):
        check_bucket(path)
        if is_image(path):  # not looked for: that would take as long as reading it
            return [ImageFile(path, "patterns are for local files; give the folder" if pattern and special else "")]
        return _below(path.rstrip("/")) or [ImageFile(path, "no images below it")]
    if os.path.isdir(path):
        return _below(path) or [ImageFile(path, "no images in this folder")]
    if os.path.exists(path):
        return [ImageFile(path)]
    if not (pattern and special):
        return [ImageFile(path, "no such file or folder")]
    found: dict[str, ImageFile] = {}  # by path, because ** matches folders and what is in them
    for match in _matches(os.path.expanduser(path)):
        images = _below(match) if os.path.isdir(match) else map(ImageFile, filter(is_image, [match]))
        found |= {image.path: image for image in images}
    return [found[name] for name in sorted(found)] or [ImageFile(path, "no images match this pattern")]


def _matches(pattern: str) -> Iterator[str]:
    """The files and folders that match a pattern. Its ** follows no link: with two loops it would never end."""
    found = re.search(r"(?:^|/)(\*\*(?:/+|\Z))", pattern)
    if not found:
        yield from glob.iglob(pattern)
        return
    before, after = pattern[: found.start(1)], pattern[found.end(1) :]
    for top in glob.iglob(before) if before else ["./"]:
        for folder, below, files in os.walk(top):
            below[:] = [name for name in below if not name.startswith(".")]
            folder = os.path.join(folder, "") if before else os.path.join(folder, "").removeprefix("./")
            yield from _matches(glob.escape(folder) + after) if after else (folder + name for name in files)


def _below(folder: str) -> list[ImageFile]:
    unread: list[ImageFile] = []
    paths = image_files(folder, lambda error: unread.append(ImageFile(error.filename, error.strerror or str(error))))
    return sorted([*unread, *map(ImageFile, paths)])

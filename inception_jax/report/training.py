"""The report of a training: one HTML page with numbers, curves, confusion, images, filters, made from its workdir."""

import functools
import html
import math
import os
import shlex
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from inception_jax.console import percent, plural, warn
from inception_jax.data import loader
from inception_jax.data.sources import Source
from inception_jax.errors import UserError
from inception_jax.names import native_path
from inception_jax.parallel import DataParallel
from inception_jax.paths import AnyPath
from inception_jax.report.curves import curves_section
from inception_jax.report.page import (
    Sample,
    confusion_section,
    data_uri,
    picture,
    samples_section,
    section,
    write_page,
)
from inception_jax.report.pictures import Picture, augmented_batch
from inception_jax.runs.classifier import Classifier, load_network
from inception_jax.runs.run import SCORES, Run, score_key
from inception_jax.training.experiment import Experiment

_SAMPLES = 32
_BATCH = 16


def write_report(workdir: str | os.PathLike) -> AnyPath:
    """Writes WORKDIR/report.html about a training that is finished or still running.

    A section whose data are missing (no evaluation yet, no checkpoint, no data set) is left out, with a line that says
    why. A section that `page.put_section` added to an earlier report is kept.

    Args:
      workdir: of the training.

    Returns:
      The path of the page.

    Raises:
      UserError: the directory holds no training, or the page cannot be written.
    """
    run = _read(workdir)
    inputs = _Inputs(run)
    sections = [
        curves_section(run.metrics),
        _unless_missing("Confusion", lambda: _confusion(inputs)),
        _unless_missing("Test images", lambda: _test_images(inputs)),
        _unless_missing("A training batch", lambda: batch_section(inputs.batch())),
        _unless_missing("First convolution", lambda: filters_section(inputs.filters())),
    ]
    path = run.path / "report.html"
    write_page(path, _title(run), _facts(run) | _more_facts(run), sections)
    return path


def facts(workdir: str | os.PathLike) -> dict[str, str]:
    """Returns the main results of a training for people, by name: accuracy, loss, length, devices, speed.

    What is not known yet is left out.

    Raises:
      UserError: the directory holds no training.
    """
    return _facts(_read(workdir))


def _read(workdir: str | os.PathLike) -> Run:
    run = Run.read(workdir)
    if run.config is None:
        raise UserError(f"{workdir} holds no training: it has no config.json that can be read")
    return run


def _title(run: Run) -> str:
    return f"{run.config['model']['name']} on {run.config['data']['name']}"


def _facts(run: Run) -> dict[str, str]:
    shown: dict[str, str] = {}
    if run.results:
        last, best = run.results["last"], run.results["best"]
        score = score_key(last)
        shown[SCORES[score].capitalize()] = percent(last[score])
        if "top5" in last:
            shown["Top-5"] = percent(last["top5"])
        shown |= {
            "Images counted": f"{last['count']:,}",
            "Split": run.config["data"]["eval_split"],
            "Loss": f"{last['loss']:.4f}",
            f"Best {SCORES[score]}": f"{percent(best[score])} at step {best['step']:,}",
        }
    network, step = run.network or {}, run.step or 0
    total, images = network.get("total_steps"), network.get("train_images")
    shown["Trained"] = f"{step:,} of {total:,} steps" if total and step < total else f"{step:,} steps"
    if images:
        shown["Trained"] += f", {step * run.config['train']['batch_size'] / images:.1f} epochs"
    if "device" in network:
        shown["Devices"] = network["device"]
    if speed := _images_per_second(run.metrics):
        shown["Training speed"] = f"{speed:.0f} img/s"
    return shown


def _images_per_second(metrics: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the mean speed of training, None if none was logged."""
    steps, seconds, before = 0, 0.0, 0
    for step, row in sorted({row["step"]: row for row in metrics if row["split"] == "train"}.items()):
        if speed := row.get("images_per_second"):  # of the steps since the row before; the first step is not timed
            steps += step - before
            seconds += (step - before) / speed  # for each image of a batch
        before = step
    return steps / seconds if seconds else None


def _more_facts(run: Run) -> dict[str, str]:
    """Returns the facts that only the page shows."""
    shown, network = {}, run.network or {}
    for name, key in {"Parameters": "parameters", "Multiply-adds": "multiply_adds"}.items():
        if key in network:
            shown[name] = f"{network[key]:,}"
    if run.commands:
        shown["Command"] = shlex.join(["python", *run.commands[-1]])
    if run.versions:
        shown["Versions"] = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return shown


class _Inputs:
    """What sections are made from, read when it is asked for. Raises UserError or OSError for what is missing."""

    def __init__(self, run: Run):
        self._run = run

    @functools.cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """The last evaluation: step, labels, classes, probabilities, confusion."""
        file = self._run.path / "predictions.npz"
        try:
            with file.open("rb") as content, np.load(content) as arrays:
                return {name: arrays[name] for name in ("step", "labels", "classes", "probabilities", "confusion")}
        except FileNotFoundError:
            raise UserError(f"{file.name} is missing; training writes it at its end") from None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{file} is damaged: {error}") from None

    @functools.cached_property
    def classifier(self) -> Classifier:
        """The network of the last checkpoint."""
        return load_network(self._run.path, "last", warn=warn)

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The experiment that the config describes, with its data."""
        config = ConfigDict(self._run.config)
        config.data.dir = native_path(config.data.dir)
        return Experiment(config, DataParallel())

    def batch(self) -> list[Picture]:
        """The first images of training, augmented."""
        return augmented_batch(self.experiment, self.classifier.variables["dataset_stats"], _BATCH)

    def filters(self) -> np.ndarray:
        """The kernels of the first convolution, the one that reads colours or grey: [kh, kw, 1 or 3, cout]."""
        kernels = map(np.asarray, jax.tree.leaves(self.classifier.variables["params"]))
        for kernel in kernels:
            if kernel.ndim == 4 and kernel.shape[2] in (1, 3):
                return kernel
        raise UserError("the network has no convolution of colours or grey")


def _unless_missing(heading: str, make: Callable[[], str]) -> str:
    """Returns the section, or one of the same heading that says why it is left out."""
    try:
        return make()
    except (UserError, OSError) as error:
        return section(heading, f"Left out: {error}")


def _confusion(inputs: _Inputs) -> str:
    predictions = inputs.predictions
    heading = f"Confusion after step {int(predictions['step']):,}"
    return confusion_section(predictions["confusion"], inputs.classifier.class_names, heading)


def _test_images(inputs: _Inputs) -> str:
    predictions, experiment = inputs.predictions, inputs.experiment
    samples = choose_samples(experiment.eval_source, predictions, experiment.crop_config.max_pixels, _SAMPLES)
    return samples_section("Test images", samples, experiment.class_names)


def choose_samples(source: Source, predictions: Mapping[str, np.ndarray], max_pixels: int, count: int) -> list[Sample]:
    """Chooses images to show: the most confident mistakes, then right ones, spread over the split.

    Args:
      source: the split that was evaluated.
      predictions: 'labels' int32 [n] by position in the split, -1 for an image that was not seen; 'classes' int32
        [n, k] and 'probabilities' float32 [n, k] of the most probable classes, best first.
      max_pixels: a larger image is not decoded.
      count: number of images; at most half of them are mistakes.

    Raises:
      UserError: the split has fewer images than were evaluated.
    """
    labels, classes, probabilities = (predictions[name] for name in ("labels", "classes", "probabilities"))
    if len(labels) > len(source):
        raise UserError(f"the data set has changed: {len(labels):,} images were evaluated, now it has {len(source):,}")
    seen, right = labels >= 0, classes[:, 0] == labels
    wrong = np.flatnonzero(seen & ~right)
    wrong = wrong[np.argsort(-probabilities[wrong, 0])][: count // 2]
    rest = np.flatnonzero(seen & right)
    rest = rest[np.linspace(0, len(rest) - 1, min(count - len(wrong), len(rest))).astype(int)]
    return [
        Sample(
            image=loader.whole_image(source, i, max_pixels),
            label=int(labels[i]),
            predicted=tuple(classes[i].tolist()),
            probabilities=tuple(probabilities[i].tolist()),
            name=source.name(i),
        )
        for i in map(int, [*wrong, *rest])
    ]


def batch_section(batch: Sequence[Picture]) -> str:
    """Shows images as the network gets them in training."""
    figures = []
    for shown in batch:
        caption = html.escape(shown.caption)
        figures.append(picture("sample", shown.image, f"Training image of {caption}", f"<span>{caption}</span>"))
    note = "The first images of training, cropped and augmented as the network got them."
    return section("A training batch", note, f'<div class="samples">\n{"".join(figures)}</div>')


def filters_section(filters: np.ndarray) -> str:
    """Shows the kernels of a convolution of colours or grey, float [kh, kw, 3 or 1, cout], as small images."""
    height, width, _, count = filters.shape
    tiles = _tiles(filters)
    note = f"{plural(count, 'filter')} of {height} × {width}, each scaled from its smallest to its largest weight."
    body = (
        f'<img class="filters crisp" style="width: {8 * tiles.shape[1]}px" src="{data_uri(tiles)}" '
        f'alt="{plural(count, "filter")} as small images">'
    )
    return section("First convolution", note, body)


def _tiles(filters: np.ndarray) -> np.ndarray:
    """Kernels [kh, kw, 3 or 1, cout] -> uint8 [H, W, 4]: tiles in rows with a transparent pixel between them.

    Each tile is scaled from its smallest to its largest weight; a constant one is mid-grey.
    """
    height, width, _, count = filters.shape
    tiles = np.moveaxis(np.nan_to_num(filters.astype(np.float64), posinf=0, neginf=0), -1, 0)
    low = tiles.min(axis=(1, 2, 3), keepdims=True)
    span = tiles.max(axis=(1, 2, 3), keepdims=True) - low
    tiles = np.where(span > 0, (tiles - low) / np.where(span > 0, span, 1), 0.5)
    columns = min(count, 8 if count <= 32 else 16)
    rows = math.ceil(count / columns)
    image = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 4), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        image[top : top + height, left : left + width, :3] = np.round(255 * tile)
        image[top : top + height, left : left + width, 3] = 255
    return image

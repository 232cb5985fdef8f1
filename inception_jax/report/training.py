"""The report of a training: one HTML page with numbers, curves, confusion, images, filters, made from its workdir."""

import functools
import html
import os
import shlex
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from inception_jax.console import percent, plural, warn
from inception_jax.data import loader
from inception_jax.data.boxes import FITS
from inception_jax.data.sources import Source
from inception_jax.errors import UserError
from inception_jax.localization.metrics import overlap
from inception_jax.names import native_path
from inception_jax.parallel import DataParallel
from inception_jax.paths import AnyPath
from inception_jax.report import timeline
from inception_jax.report.boxes import RIGHT, TRUE, WRONG, boxed
from inception_jax.report.curves import curves_section
from inception_jax.report.page import (
    Sample,
    confusion_section,
    data_uri,
    picture,
    samples_section,
    section,
    thumbnail,
    write_page,
)
from inception_jax.report.pictures import Picture, augmented_batch, filters_picture
from inception_jax.runs import snapshots
from inception_jax.runs.classifier import Classifier, load_network
from inception_jax.runs.run import SCORES, Run, field, score_key
from inception_jax.training.experiment import Experiment

_SAMPLES = 32
_BATCH = 16
_THUMBNAILS = 256  # test images that are kept in memory
_REFRESH = 15  # seconds


class Report:
    """The report of a training, WORKDIR/report.html; while the training runs, it is written again and again.

    What is costly to read and does not change is kept between the calls of `write`.
    """

    def __init__(self, workdir: str | os.PathLike):
        """Prepares; nothing is read yet."""
        self._workdir = workdir
        self._kept: _Kept | None = None

    def write(self) -> AnyPath:
        """Writes the page about the training as it is now.

        A section whose data are missing (no evaluation yet, no checkpoint, no data set) is left out, with a line that
        says why; those over time, if no snapshot was recorded, without. A section that `page.put_section` added to an
        earlier report is kept. Until the training is finished, a browser reads the page again from time to time.

        Returns:
          The path of the page.

        Raises:
          UserError: the directory holds no training, or the page cannot be written.
        """
        run = _read(self._workdir)
        self._kept = self._kept or _Kept(run)
        inputs = _Inputs(run, self._kept)
        sections = [
            curves_section(run.metrics),
            *(_of_boxes(inputs) if field(run.config, "train.loss") == "euclidean" else _of_classes(inputs)),
            _unless_missing("A training batch", lambda: batch_section(inputs.kept.batch)),
            _unless_missing("First convolution", lambda: filters_section(inputs.filters())),
        ]
        path = run.path / "report.html"
        is_finished = field(run.results, "last.step") == run.total_steps is not None
        refresh = None if is_finished else _REFRESH
        write_page(path, _title(run), _facts(run) | _more_facts(run), sections, style=timeline.STYLE, refresh=refresh)
        return path


def write_report(workdir: str | os.PathLike) -> AnyPath:
    """Writes the report of a training once, see `Report.write`."""
    return Report(workdir).write()


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


class _Kept:
    """What stays the same while a training runs, read when it is asked for. Raises UserError or OSError if missing."""

    def __init__(self, run: Run):
        self._run = run
        self._snapshots: dict[int, snapshots.Snapshot] = {}
        self.thumbnail = functools.lru_cache(_THUMBNAILS)(self._thumbnail)

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The experiment that the config describes, with its data."""
        config = ConfigDict(self._run.config)
        config.data.dir = native_path(config.data.dir)
        try:
            return Experiment(config, DataParallel())
        except AttributeError as error:  # a key that came later
            key = str(error).strip('"')
            raise UserError(f"the run's config is of an older version: it lacks {key}") from None

    @functools.cached_property
    def batch(self) -> list[Picture]:
        """The first images of training, augmented."""
        stats: Mapping[str, np.ndarray] = {}
        if self.experiment.needs_dataset_stats:
            stats = load_network(self._run.path, "last", warn=warn).variables["dataset_stats"]
        return augmented_batch(self.experiment, stats, _BATCH)

    def _thumbnail(self, place: int) -> np.ndarray | None:
        """A test image as the page shows it, uint8 [h, w, 3]; None if it cannot be decoded."""
        experiment = self.experiment
        image = loader.whole_image(experiment.eval_source, place, experiment.crop_config.max_pixels)
        return None if image is None else thumbnail(image)

    def snapshots(self, last_step: int) -> list[snapshots.Snapshot]:
        """The snapshots up to a step; later ones are of an earlier start. Damaged ones are left out."""
        steps = [step for step in snapshots.steps_in(self._run.path) if step <= last_step]
        for step in set(steps).difference(self._snapshots):
            try:
                self._snapshots[step] = snapshots.read(self._run.path, step)
            except UserError as error:
                warn(str(error))
            except FileNotFoundError:  # training has removed it meanwhile
                continue
        return [self._snapshots[step] for step in steps if step in self._snapshots]


class _Inputs:
    """What sections are made from, read when it is asked for. Raises UserError or OSError for what is missing."""

    def __init__(self, run: Run, kept: _Kept):
        self._run, self.kept = run, kept

    @functools.cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """The last evaluation: step, labels, classes, probabilities, confusion."""
        return self._arrays("step", "labels", "classes", "probabilities", "confusion")

    @functools.cached_property
    def boxes(self) -> dict[str, np.ndarray]:
        """The last evaluation of a network that predicts boxes: labels, boxes."""
        return self._arrays("labels", "boxes")

    def _arrays(self, *names: str) -> dict[str, np.ndarray]:
        file = self._run.path / "predictions.npz"
        try:
            with file.open("rb") as content, np.load(content) as arrays:
                return {name: arrays[name] for name in names}
        except FileNotFoundError:
            raise UserError(f"{file.name} is missing; training writes it at each evaluation") from None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{file} is damaged: {error}") from None

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index, from the data, else from the last checkpoint."""
        try:
            return tuple(self.kept.experiment.class_names)
        except (UserError, OSError):
            return self._classifier.class_names

    @functools.cached_property
    def _classifier(self) -> Classifier:
        """The network of the last checkpoint."""
        return load_network(self._run.path, "last", warn=warn)

    @functools.cached_property
    def snapshots(self) -> list[snapshots.Snapshot]:
        """Those that were recorded, by step."""
        return self.kept.snapshots(self._run.step or 0)

    def filters(self) -> np.ndarray:
        """The kernels of the first convolution, uint8 or float [kh, kw, 1 or 3, cout]: of the last snapshot, if any."""
        if self.snapshots:
            kernel = self.snapshots[-1].filters
        else:
            kernel = snapshots.first_filters(self._classifier.variables["params"])
        if kernel is None or not kernel.size:
            raise UserError("the network has no convolution of colours or grey")
        return kernel


def _unless_missing(heading: str, make: Callable[[], str]) -> str:
    """Returns the section, or one of the same heading that says why it is left out."""
    try:
        return make()
    except (UserError, OSError) as error:
        return section(heading, f"Left out: {error}")


def _of_classes(inputs: _Inputs) -> list[str]:
    return [
        _unless_missing("Confusion", lambda: _confusion(inputs)),
        _unless_missing("Test images", lambda: _test_images(inputs)),
        *_over_time(inputs),
    ]


def _of_boxes(inputs: _Inputs) -> list[str]:
    return [_unless_missing("Test images", lambda: _boxed_images(inputs))]


def _boxed_images(inputs: _Inputs) -> str:
    """Shows test images, spread over the split, with their true and predicted boxes."""
    labels, edges = inputs.boxes["labels"], inputs.boxes["boxes"]
    experiment = inputs.kept.experiment
    source, crops = experiment.eval_source, experiment.crop_config
    _check_length(len(labels), source)
    seen = np.flatnonzero(labels >= 0)
    figures, fitting = [], 0
    for place in seen[np.linspace(0, len(seen) - 1, min(len(seen), _SAMPLES)).astype(int)].tolist():
        image = loader.whole_image(source, place, crops.max_pixels)
        if image is None:
            continue
        found = crops.boxes_in_image(edges[place] * crops.size - (0, 0, 1, 1), image.shape)
        truth = source.boxes(place)
        fit = float(overlap(found, truth))
        fitting += fit >= FITS
        shown = boxed(image, [*((box, TRUE) for box in truth), (found, RIGHT if fit >= FITS else WRONG)])
        name = html.escape(inputs.class_names[labels[place]])
        caption = f"<b>{'' if fit >= FITS else '✗ '}{name}</b> <span>IoU {fit:.2f}</span>"
        figures.append(
            picture("sample" if fit >= FITS else "sample wrong", shown, f"Image of {name} with boxes", caption)
        )
    note = (
        f"{plural(len(figures), 'image')}, spread over the split. True boxes are white. The predicted box of the true "
        f"class is green if it fits, with an intersection over union (IoU) of {FITS:g} or more; else it is red (✗). "
        f"{fitting} fit."
    )
    return section("Test images", note, f'<div class="samples">\n{"".join(figures)}</div>')


def _check_length(evaluated: int, source: Source) -> None:
    if evaluated > len(source):
        raise UserError(f"the data set has changed: {evaluated:,} images were evaluated, now it has {len(source):,}")


def _confusion(inputs: _Inputs) -> str:
    predictions = inputs.predictions
    heading = f"Confusion after step {int(predictions['step']):,}"
    return confusion_section(predictions["confusion"], inputs.class_names, heading)


def _test_images(inputs: _Inputs) -> str:
    predictions, source = inputs.predictions, inputs.kept.experiment.eval_source
    _check_length(len(predictions["labels"]), source)
    samples = [
        Sample(
            image=inputs.kept.thumbnail(place),
            label=int(predictions["labels"][place]),
            predicted=tuple(predictions["classes"][place].tolist()),
            probabilities=tuple(predictions["probabilities"][place].tolist()),
            name=source.name(place),
        )
        for place in choose_places(predictions, _SAMPLES)
    ]
    return samples_section("Test images", samples, inputs.class_names)


def choose_places(predictions: Mapping[str, np.ndarray], count: int) -> list[int]:
    """Chooses images to show: the most confident mistakes, then right ones, spread over the split.

    Args:
      predictions: 'labels' int32 [n] by position in the split, -1 for an image that was not seen; 'classes' int32
        [n, k] and 'probabilities' float32 [n, k] of the most probable classes, best first.
      count: number of images; at most half of them are mistakes.

    Returns:
      Their positions.
    """
    labels, classes, probabilities = (predictions[name] for name in ("labels", "classes", "probabilities"))
    seen, right = labels >= 0, classes[:, 0] == labels
    wrong = np.flatnonzero(seen & ~right)
    wrong = wrong[np.argsort(-probabilities[wrong, 0])][: count // 2]
    rest = np.flatnonzero(seen & right)
    rest = rest[np.linspace(0, len(rest) - 1, min(count - len(wrong), len(rest))).astype(int)]
    return [*wrong.tolist(), *rest.tolist()]


def _over_time(inputs: _Inputs) -> list[str]:
    """The sections made from snapshots; none if there are none."""
    try:
        recorded = inputs.snapshots
    except (UserError, OSError) as error:
        return [section("Over time", f"Left out: {error}")]
    if not recorded:
        return []

    def predictions() -> str:
        return timeline.predictions_section(recorded, inputs.kept.thumbnail, inputs.class_names)

    return [
        _unless_missing(timeline.PREDICTIONS, predictions),
        timeline.activations_section(recorded),
        timeline.filters_section(recorded),
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
    """Shows the kernels of a convolution of colours or grey, [kh, kw, 3 or 1, cout], as small images."""
    height, width, _, count = filters.shape
    image = filters_picture(filters, 8 if count <= 32 else 16)
    note = f"{plural(count, 'filter')} of {height} × {width}, each scaled from its smallest to its largest weight."
    body = (
        f'<img class="filters crisp" style="width: {8 * image.shape[1]}px" src="{data_uri(image)}" '
        f'alt="{plural(count, "filter")} as small images">'
    )
    return section("First convolution", note, body)

"""What `python -m experiments.evaluate` does."""

import argparse
import contextlib
import dataclasses
import functools
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.console import warn
from inception_jax.data.loader import DamageReport, ProcessShare, whole_image
from inception_jax.data.sources import open_source
from inception_jax.errors import UserError, choose
from inception_jax.evaluation.analysis import Analysis, analyse, log_loss, ranking, right_probability
from inception_jax.evaluation.classifier import Classifier
from inception_jax.evaluation.page import Sample, put_section
from inception_jax.evaluation.protocols import NAMES, Protocol, make_protocol
from inception_jax.evaluation.results import Row, evaluation_section, table, write_predictions
from inception_jax.evaluation.scoring import AGGREGATES, Scorer, Store, combine, score
from inception_jax.evaluation.selection import output_of_classes, read_multilabels, read_subset
from inception_jax.names import native_path, readable, text_of
from inception_jax.reference.results import printed_result
from inception_jax.runtime import configure
from inception_jax.training.checkpoints import DamagedCheckpoint, read_facts, steps_in
from inception_jax.training.parallelism import DataParallel
from inception_jax.training.progress import Progress, duration
from inception_jax.training.weights import load

_POLL_SECONDS = 10.0
_IMAGENET_CLASSES = 1000  # of which alone the papers print results


def run(arguments: argparse.Namespace) -> None:
    """Evaluates as `arguments` say; raises UserError."""
    protocols = arguments.protocol.split(",")
    for name in protocols:
        choose("--protocol", name, dict.fromkeys(NAMES))
    choose("--aggregate", arguments.aggregate, AGGREGATES)
    if arguments.batch_size < 1:
        raise UserError(f"--batch-size={arguments.batch_size} must be 1 or more")
    one_by_one = arguments.checkpoint == "all" or arguments.follow
    if one_by_one and len(arguments.workdir) > 1:
        raise UserError("--checkpoint=all and --follow are for one --workdir")
    configure("float32")
    if arguments.distributed:
        jax.distributed.initialize()
    results = _Results(arguments, protocols)
    if not one_by_one:
        results.add([_Member(path, arguments.checkpoint, arguments) for path in arguments.workdir])
        return
    left_out = None
    for step in _steps(arguments.workdir[0], arguments.follow):
        try:
            member = _Member(arguments.workdir[0], str(step), arguments)
        except UserError as error:
            if not (arguments.follow or isinstance(error, DamagedCheckpoint)):
                raise
            left_out = error  # with --follow it may be gone: training keeps the last few
            warn(f"checkpoint {step} is left out: {error}")
            continue
        results.add([member])
    if left_out and not results.rows:
        raise left_out


def _steps(workdir: Path, follow: bool) -> Iterator[int]:
    """Steps of the checkpoints, from the first to the last; with `follow` those that training adds, up to its end."""
    seen: set[int] = set()
    while True:
        steps = steps_in(workdir)
        new = [step for step in steps if step not in seen]
        seen.update(new)
        yield from new
        if not follow:
            if not seen:
                raise UserError(f"{workdir} has no checkpoints")
            return
        if steps and steps[-1] >= _total_steps(workdir, steps):
            return
        time.sleep(_POLL_SECONDS)


def _total_steps(workdir: Path, steps: list[int]) -> int:
    """The length of training, which every checkpoint tells that is not damaged; 0 if none does."""
    for step in reversed(steps):
        with contextlib.suppress(DamagedCheckpoint):
            return read_facts(workdir / "checkpoints" / str(step))["inference"].get("total_steps", 0)
    return 0


class _Member:
    """A network, the images it is evaluated on, and its scores."""

    def __init__(self, path: Path, checkpoint: str, arguments: argparse.Namespace):
        self._arguments = arguments
        classifier = load(path, checkpoint, arguments.weights, warn)
        self.directory = _workdir_of(path)
        record = self.directory / "config.json"
        config = json.loads(record.read_text(encoding="utf-8"))["config"]["data"] if record.exists() else {}
        name, split, directory = (
            given if given is not None else native_path(config[key]) if key in config else None
            for given, key in ((arguments.data, "name"), (arguments.split, "eval_split"), (arguments.data_dir, "dir"))
        )
        if name is None or split is None:
            raise UserError(f"{path} does not say which data it was trained on; give --data and --split")
        self.data = f"{name}, {split}"
        self.source = open_source(name, split, directory or "")
        self.outputs = output_of_classes(classifier.class_names, self.source.class_names, arguments.label_map)
        self.classifier = _resized(classifier, arguments.image_size, arguments.resize)
        self.title = readable(text_of(f"{self.directory.name}/{classifier.source.name}"))

    def protocol(self, name: str) -> Protocol:
        """The protocol for this network."""
        try:
            scales = tuple(map(int, filter(None, self._arguments.scales.split(","))))
        except ValueError:
            raise UserError(f"--scales={self._arguments.scales} are not whole numbers between commas") from None
        return make_protocol(name, self.classifier.geometry, scales)

    @functools.cached_property
    def _scorer(self) -> Scorer:
        parallel = DataParallel(devices=jax.local_devices())
        return Scorer(self.classifier, parallel, self._arguments.batch_size, self.outputs)

    def scores(self, protocol: Protocol) -> Store:
        """`Scores` of the whole split, computed where they are not kept."""
        arguments, classifier = self._arguments, self.classifier
        identity = {
            "name": f"{classifier.source.name}-{protocol.name}",
            "weights": classifier.fingerprint,
            "network": dict(classifier.options),
            "preprocessing": dataclasses.asdict(classifier.preprocessing),
            "protocol": dataclasses.asdict(protocol),
            "data": self.source.fingerprint,
            "outputs": self.outputs.tolist(),
        }
        cache = arguments.cache or self.directory / "evaluation"
        store = Store(cache, identity, len(self.source), protocol.windows)
        left = sum(map(len, store.missing()))
        if left:
            progress = _EvaluationProgress(len(self.source), left)
            progress.say(
                f"{self.title}: {protocol.describe()}, {left:,} images, forward passes of each: {protocol.windows}"
            )
            damage = DamageReport(self.source)
            share = ProcessShare(jax.process_index(), jax.process_count())
            progress.start()
            try:
                score(self.source, self._scorer, protocol, store, damage, share, arguments.threads, progress.advance)
            finally:
                progress.stop()
        multihost_utils.sync_global_devices(f"scores of {store.path}")
        return store


class _EvaluationProgress:
    """How far the scores of a split have come."""

    def __init__(self, total: int, left: int):
        self._bar, self._total, self._done, self._before = Progress("image"), total, total - left, total - left
        self.say, self.stop = self._bar.say, self._bar.stop

    def start(self) -> None:
        self._started = time.perf_counter()
        self._bar.start(self._done, self._total)

    def advance(self, images: int) -> None:
        self._done = min(self._total, self._done + images * jax.process_count())
        rate = (self._done - self._before) / (time.perf_counter() - self._started)
        self._bar.advance(self._done)
        left = duration((self._total - self._done) / rate)
        self._bar.report(self._done, self._total, {"img/s": f"{rate:.1f}", "left": left})


class _Results:
    """The rows so far, and the files they are in."""

    def __init__(self, arguments: argparse.Namespace, protocols: Sequence[str]):
        self._arguments, self._protocols = arguments, protocols
        self._out = arguments.out or _workdir_of(arguments.workdir[0])
        self.rows: list[Row] = []

    def add(self, members: Sequence[_Member]) -> None:
        """Scores the members, each and, if they are several, all together; prints and writes the rows."""
        first = members[0]
        for member in members[1:]:
            ours, theirs = ((m.source.fingerprint, m.source.class_names) for m in (first, member))
            if ours != theirs:
                raise UserError(f"{member.title} and {first.title} are of different data; give --data and --split")
        stores = {(m, name): m.scores(m.protocol(name)) for m in members for name in self._protocols}
        if jax.process_index() != 0:
            return
        images = _Images(first, next(iter(stores.values())), self._arguments)
        groups = [[member] for member in members] + ([list(members)] if len(members) > 1 else [])
        rows: list[Row] = []
        for group in groups:
            for name in self._protocols:
                base = rows[0].analysis if rows else None
                rows.append(self._row(group, name, [stores[member, name] for member in group], images, base))
        self.rows += rows
        print(table(rows), flush=True)
        self._write(first, images)

    def _row(
        self, group: Sequence[_Member], name: str, stores: Sequence[Store], images: "_Images", base: Analysis | None
    ) -> Row:
        aggregate = self._arguments.aggregate
        probabilities = combine((store.read(AGGREGATES[aggregate]) for store in stores), aggregate)[images.positions]
        if not np.isfinite(probabilities).all():
            raise UserError(f"{' + '.join(m.title for m in group)}: the network's outputs are not finite numbers")
        best = ranking(probabilities)
        networks = [member.classifier.name for member in group]
        printed = printed_result(networks, name) if probabilities.shape[1] == _IMAGENET_CLASSES else None
        return Row(
            members=tuple(member.title for member in group),
            protocols=tuple(member.protocol(name) for member in group),
            analysis=analyse(probabilities, images.labels),
            base=base,
            printed=printed,
            classes=best,
            probabilities=np.take_along_axis(probabilities, best, axis=1),
            losses=log_loss(right_probability(probabilities, images.labels)),
        )

    def _write(self, member: _Member, images: "_Images") -> None:
        arguments, source, rows = self._arguments, member.source, self.rows
        class_names = source.class_names
        command = shlex.join(map(text_of, arguments.command))
        record = {
            "command": command,
            "data": member.data,
            "aggregate": arguments.aggregate,
            "images": len(source),
            "count": len(images.positions),
            "damaged": images.damaged,
            "rows": [row.as_json(class_names) for row in rows],
        }
        last = rows[-1]
        worst = [
            Sample(
                image=whole_image(source, int(images.positions[place]), member.classifier.geometry.max_pixels),
                label=min(images.right[place]),
                predicted=tuple(last.classes[place].tolist()),
                probabilities=tuple(last.probabilities[place].tolist()),
                name=source.name(int(images.positions[place])),
            )
            for place in np.argsort(-last.losses, kind="stable")[: max(0, arguments.worst)]
        ]
        about = f"{member.data}: {images.about}. Windows and networks are combined by {_SAID[arguments.aggregate]}."
        section = evaluation_section(rows, about, command, class_names, worst)
        titles = [source.name(int(position)) for position in images.positions]
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            file = arguments.json or self._out / "evaluation.json"
            file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            predictions, report = self._out / "predictions.csv", self._out / "report.html"
            write_predictions(predictions, rows, titles, images.right, class_names)
            put_section(report, section, f"Evaluation on {member.data}")
        except OSError as error:
            raise UserError(f"{error.filename} cannot be written: {error.strerror}") from None
        print(f"written: {file}, {predictions}, {report}", file=sys.stderr)


_SAID = {
    "probabilities": "the mean of their probabilities",
    "logits": "the mean of their logits",
    "max": "the largest probability of each class",
}


class _Images:
    """Those that count.

    Attributes:
      positions: int64 [n], in the split.
      right: the right classes of each.
      labels: for `analyse`, one each or all right ones.
      damaged: what is wrong with those that could not be decoded.
      about: for a person.
    """

    def __init__(self, member: _Member, store: Store, arguments: argparse.Namespace):
        labels, names = store.read("labels"), store.read("names").tolist()
        self.damaged = [line for line in store.read("damaged").tolist() if line]
        whole = labels >= 0
        if len(labels) != len(member.source) or whole.sum() + len(self.damaged) != len(labels):
            raise RuntimeError(f"{whole.sum()} of {len(member.source)} images were counted")
        for line in self.damaged:
            print(f"skipped damaged {line}", file=sys.stderr)
        counts = whole.copy()
        if arguments.subset:
            counts &= read_subset(arguments.subset, names)
        if arguments.exclude:
            counts &= ~read_subset(arguments.exclude, names)
        several = None
        if arguments.multilabels:
            several = read_multilabels(arguments.multilabels, names, len(member.source.class_names))
            counts &= np.array([bool(right) for right in several])
        self.positions = np.flatnonzero(counts)
        if not len(self.positions):
            raise UserError("no image is left to count; see --subset, --exclude and --multilabels")
        if several is None:
            self.labels = labels[self.positions]
            self.right = [frozenset((label,)) for label in self.labels.tolist()]
        else:
            self.labels = self.right = [several[position] for position in self.positions]
        self.about = f"{len(self.positions):,} of {len(labels):,} images count, each once"
        if self.damaged:
            self.about += f"; {len(self.damaged)} are damaged"


def _workdir_of(path: Path) -> Path:
    """The workdir that `path`, itself, a checkpoint in it or a file beside it, belongs to."""
    path = Path(os.path.expanduser(path)).absolute()
    if path.parent.name == "checkpoints":
        return path.parent.parent
    return path if path.is_dir() else path.parent


def _resized(classifier: Classifier, size: int | None, resize: int | None) -> Classifier:
    """The classifier with another size of images, said aloud; all other lengths in proportion."""
    ours = classifier.geometry
    size = size or ours.size
    resize = resize or math.floor(ours.resize * size / ours.size)
    if (size, resize) == (ours.size, ours.resize):
        return classifier
    print(
        f"{classifier.name}: images of {size} pixels, resized to {resize}; its own are {ours.size} and {ours.resize}",
        file=sys.stderr,
    )
    scale = tuple(math.ceil(side * size / ours.size) for side in ours.scale)
    return dataclasses.replace(classifier, geometry=dataclasses.replace(ours, size=size, resize=resize, scale=scale))

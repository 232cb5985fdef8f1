"""Evaluates trained networks by the papers' protocols, each and as an ensemble."""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from inception_jax import processes
from inception_jax.console import Progress, duration
from inception_jax.data.loader import ProcessShard
from inception_jax.data.sources import Source, open_source
from inception_jax.errors import UserError, check_choice
from inception_jax.evaluation.analysis import Analysis, analyse, log_loss, ranking, right_probability
from inception_jax.evaluation.protocols import Protocol, make_protocol
from inception_jax.evaluation.results import EvaluationResult, ProtocolResult
from inception_jax.evaluation.scoring import AGGREGATES, Scorer, Store, combine, score
from inception_jax.evaluation.selection import output_of_classes, read_multilabels, read_subset
from inception_jax.names import native_path
from inception_jax.parallel import DataParallel
from inception_jax.paths import AnyPath, to_path
from inception_jax.reference.printed_results import printed_result
from inception_jax.runs.classifier import Classifier, workdir_of
from inception_jax.runs.run import Run, field

_IMAGENET_CLASSES = 1000  # the papers print results for these only


def evaluate(
    classifiers: Classifier | Sequence[Classifier],
    source: Source | tuple[str, str, str] | None = None,
    protocols: str | Sequence[str] = ("single",),
    *,
    scales: Sequence[int] = (),
    aggregate: str = "probabilities",
    subset: str | os.PathLike | None = None,
    exclude: str | os.PathLike | None = None,
    multilabels: str | os.PathLike | None = None,
    label_map: str = "",
    batch_size: int = 64,
    threads: int = 0,
    cache: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Evaluates networks over a split; every image counts exactly once.

    Scores are cached, so a stopped evaluation continues, and another ensemble or aggregate needs no forward pass. With
    several processes (`jax.distributed`) each does a share of the images, and all return the same result.

    Args:
      classifiers: one network or several, see `inception_jax.load`; several are also evaluated as an ensemble.
      source: the images: a source of `data.sources.open_source`, or its arguments (name, split, directory). None: the
        images that the networks' runs evaluate.
      protocols: one or several of 'single', 'anisotropic', '10crop', '12crop', '144crop', 'multicrop' and 'dense', see
        `protocols.make_protocol`.
      scales: shorter sides in pixels, in place of the protocols' own.
      aggregate: how windows and networks are combined: 'probabilities', 'logits' or 'max', see `scoring.combine`.
      subset: file that lists the images that count, see `selection.read_subset`.
      exclude: file that lists images that do not count.
      multilabels: file with all right classes of each image, see `selection.read_multilabels`.
      label_map: which output of the networks is which class, see `selection.output_of_classes`.
      batch_size: approximate number of windows in one forward pass.
      threads: number of decoding threads; 0: one for each core.
      cache: directory of the scores; None: 'evaluation' in the workdir of each network.
      progress: shows the progress; None shows nothing.

    Raises:
      UserError: an argument is invalid, the classes do not match, more than 1 % of the images are damaged, or an output
        of a network is not finite.
    """
    check_choice("aggregate", aggregate, AGGREGATES)
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} must be 1 or more")
    networks = [classifiers] if isinstance(classifiers, Classifier) else list(classifiers)
    names = [protocols] if isinstance(protocols, str) else list(protocols)
    if not networks or not names:
        raise UserError(f"{'protocols' if networks else 'classifiers'}=[] must have one entry or more")
    looks = [[make_protocol(name, network.crop_config, tuple(scales)) for name in names] for network in networks]
    if source is None:
        source, _ = open_data([network.source for network in networks])
    elif isinstance(source, tuple):
        source = open_source(*source)
    outputs = [output_of_classes(network.class_names, source.class_names, label_map) for network in networks]
    stores = [
        _scores(network, source, own, look, batch_size=batch_size, threads=threads, cache=cache, progress=progress)
        for network, own, look in zip(networks, outputs, looks, strict=True)
    ]

    labels, damaged = _labels(stores[0][0], len(source))
    positions, right = _images_that_count(stores[0][0], labels, len(source.class_names), subset, exclude, multilabels)
    rows: list[ProtocolResult] = []
    groups = [[place] for place in range(len(networks))] + ([list(range(len(networks)))] if len(networks) > 1 else [])
    for group in groups:
        for which in range(len(names)):
            row = _row(
                [networks[place] for place in group],
                [looks[place][which] for place in group],
                [stores[place][which] for place in group],
                aggregate=aggregate,
                positions=positions,
                labels=right,
                base=rows[0].analysis if rows else None,
            )
            rows.append(row)
    return EvaluationResult(
        rows=tuple(rows),
        aggregate=aggregate,
        class_names=tuple(source.class_names),
        positions=positions,
        names=tuple(source.name(position) for position in positions.tolist()),
        labels=tuple(own if isinstance(own, frozenset) else frozenset((int(own),)) for own in right),
        images=len(source),
        damaged=tuple(damaged),
    )


def open_data(
    runs: Sequence[str | os.PathLike],
    name: str | None = None,
    split: str | None = None,
    data_dir: str | None = None,
) -> tuple[Source, str]:
    """Opens the images that runs are evaluated on.

    Args:
      runs: workdirs, their checkpoints, or files of weights in a workdir.
      name: data set, in place of the runs' own; see `data.sources.open_source`, as the next two.
      split: its split, in place of the runs' own.
      data_dir: its directory, in place of the runs' own.

    Returns:
      The source, and what to call it: 'digits, test'.

    Raises:
      UserError: a run does not say which data it evaluates, the data cannot be opened, or the runs have different data.
    """
    given = {"name": name, "eval_split": split, "dir": data_dir}
    given = {key: value for key, value in given.items() if value is not None}
    opened: dict[tuple[str, str, str], Source] = {}
    for run in runs:
        data = {"dir": ""} | _data_of(workdir_of(run)) | given
        if not data.keys() >= {"name", "eval_split"}:
            raise UserError(f"{run} does not say which data it is evaluated on: name the data and the split")
        place = data["name"], data["eval_split"], data["dir"]
        if place not in opened:
            opened[place] = open_source(*place)
    (place, source), *others = opened.items()
    for _, other in others:
        if (other.fingerprint, other.class_names) != (source.fingerprint, source.class_names):
            raise UserError(f"{', '.join(map(str, runs))} are evaluated on different data: name the data and the split")
    return source, f"{place[0]}, {place[1]}"


def _data_of(workdir: AnyPath) -> dict[str, Any]:
    """The section 'data' of a run's config; {} if the workdir has none."""
    data = field(Run.read(workdir, metrics_bytes=0).config, "data") or {}
    return {key: native_path(data[key]) for key in ("name", "eval_split", "dir") if key in data}


def _scores(
    classifier: Classifier,
    source: Source,
    outputs: np.ndarray,
    protocols: Sequence[Protocol],
    *,
    batch_size: int,
    threads: int,
    cache: str | os.PathLike | None,
    progress: Progress | None,
) -> list[Store]:
    """The scores of the whole split by each protocol; computes those that are not cached."""
    scorer, stores = None, []
    for protocol in protocols:
        identity = {
            "name": f"{classifier.source.name}-{protocol.name}",
            "weights": classifier.fingerprint,
            "network": dict(classifier.options),
            "preprocessing": dataclasses.asdict(classifier.preprocessing),
            "protocol": dataclasses.asdict(protocol),
            "data": source.fingerprint,
            "outputs": outputs.tolist(),
        }
        directory = classifier.workdir / "evaluation" if cache is None else to_path(cache)
        store = Store(directory, identity, len(source), protocol.windows)
        missing = sum(map(len, store.missing()))
        with processes.together():  # each reads the scores of all
            if missing:
                if scorer is None:
                    scorer = Scorer(classifier, DataParallel(devices=jax.local_devices()), batch_size, outputs)
                shard = ProcessShard(jax.process_index(), jax.process_count())
                text = f"{protocol.describe()}, {missing:,} images x {protocol.windows} forward passes"
                meter = _Meter(progress, f"{classifier.title}: {text}", len(source), missing)
                try:
                    score(source, scorer, protocol, store, shard=shard, threads=threads, advance=meter.advance)
                finally:
                    meter.stop()
        stores.append(store)
    return stores


class _Meter:
    """Shows how many images of a split have scores, and how long the others will take."""

    def __init__(self, progress: Progress | None, text: str, total: int, missing: int):
        self._progress, self._total, self._done, self._before = progress, total, total - missing, total - missing
        self._started = time.perf_counter()
        if progress:
            progress.say(text)
            progress.start(self._done, total)

    def advance(self, images: int) -> None:
        self._done = min(self._total, self._done + images * jax.process_count())
        if self._progress:
            rate = (self._done - self._before) / (time.perf_counter() - self._started)
            values = {"img/s": f"{rate:.1f}", "left": duration((self._total - self._done) / rate)}
            self._progress.advance(self._done)
            self._progress.report(self._done, self._total, values)

    def stop(self) -> None:
        if self._progress:
            self._progress.stop()


def _labels(store: Store, count: int) -> tuple[np.ndarray, list[str]]:
    """The labels of all images, int32 [count], -1 if damaged; and what is wrong with the damaged ones."""
    labels, damaged = store.read("labels"), [line for line in store.read("damaged").tolist() if line]
    decoded = int((labels >= 0).sum())
    if len(labels) != count or decoded + len(damaged) != count:
        raise RuntimeError(f"{decoded} of {count} images were counted")
    return labels, damaged


def _images_that_count(
    store: Store,
    labels: np.ndarray,
    classes: int,
    subset: str | os.PathLike | None,
    exclude: str | os.PathLike | None,
    multilabels: str | os.PathLike | None,
) -> tuple[np.ndarray, np.ndarray | list[frozenset[int]]]:
    """Their positions, int64 [n], and their labels, int32 [n], or sets of right classes if a file has these."""
    names, counts, several = store.read("names").tolist(), labels >= 0, None
    if subset:
        counts &= read_subset(Path(subset), names)
    if exclude:
        counts &= ~read_subset(Path(exclude), names)
    if multilabels:
        several = read_multilabels(Path(multilabels), names, classes)
        counts &= np.array([bool(right) for right in several])
    if not counts.any():
        raise UserError("no image counts: check subset, exclude and multilabels")
    positions = np.flatnonzero(counts)
    return positions, labels[positions] if several is None else [several[position] for position in positions]


def _row(
    networks: Sequence[Classifier],
    protocols: Sequence[Protocol],
    stores: Sequence[Store],
    *,
    aggregate: str,
    positions: np.ndarray,
    labels: np.ndarray | list[frozenset[int]],
    base: Analysis | None,
) -> ProtocolResult:
    """The result of one network, or of several together, by one protocol."""
    members = tuple(network.title for network in networks)
    probabilities = combine((store.read(AGGREGATES[aggregate]) for store in stores), aggregate)[positions]
    if not np.isfinite(probabilities).all():
        raise UserError(f"{' + '.join(members)}: the outputs of the network are not finite")
    best = ranking(probabilities)
    names = [network.name for network in networks]
    return ProtocolResult(
        members=members,
        protocols=tuple(protocols),
        analysis=analyse(probabilities, labels),
        base=base,
        printed=printed_result(names, protocols[0].name) if probabilities.shape[1] == _IMAGENET_CLASSES else None,
        classes=best,
        probabilities=np.take_along_axis(probabilities, best, axis=1),
        losses=log_loss(right_probability(probabilities, labels)),
    )

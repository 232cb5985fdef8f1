"""Evaluates checkpoints by the papers' protocols, alone and as an ensemble.

python -m experiments.evaluate --workdir=/data/googlenet --protocol=single,10crop,144crop
python -m experiments.evaluate --workdir=/data/googlenet_0 --workdir=/data/googlenet_1 --protocol=single,144crop
"""

import argparse
import csv
import dataclasses
import itertools
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

_POLL_SECONDS = 10.0


def main() -> int:
    """Returns the exit status: 0, 2 for bad input, 130 if it was stopped."""
    arguments = _arguments()
    import jax

    from inception_jax.errors import UserError
    from inception_jax.runtime import configure

    try:
        configure("float32")
        if arguments.distributed:
            jax.distributed.initialize()
        _run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evaluate",
        description=__doc__.split("\n")[0],
        epilog="Protocols: single, anisotropic, 10crop, 12crop, 144crop, multicrop, dense (README.md says what they are). "
        "What is computed is kept in WORKDIR/evaluation, and the same command goes on where it was stopped.",
    )
    add = parser.add_argument
    add("--workdir", type=Path, action="append", required=True, help="of a run, a checkpoint or a file of exported "
        "weights; several are an ensemble")
    add("--checkpoint", default="best", help="best (default), last, a step, or all: each by itself")
    add("--weights", default="", choices=("ema", "raw"), help="moving averages (default where there are such) or latest")
    add("--protocol", default="single", help="one or several, separated by commas (default: %(default)s)")
    add("--scales", default="", help="shorter sides in pixels, separated by commas, in place of the protocol's")
    add("--aggregate", default="probabilities", help="over windows and networks: mean of probabilities (default), mean of "
        "logits, max")
    add("--follow", action="store_true", help="go on with new checkpoints until the run's last")
    add("--data", help="data set (default: that of the run)")
    add("--data-dir", help="its directory (default: that of the run)")
    add("--split", help="its split (default: that which the run evaluates)")
    add("--image-size", type=int, help="height and width that the network sees (default: that of its training)")
    add("--resize", type=int, help="shorter side before the single crop (default: that of its training)")
    add("--subset", type=Path, help="file with the images that count alone, names or numbers, a line each")
    add("--exclude", type=Path, help="file with images that do not count (the blacklist of ILSVRC)")
    add("--multilabels", type=Path, help="JSON with the right classes of each image (real.json of ImageNet-ReaL)")
    add("--label-map", default="", help="drop_first (1001 outputs), or a JSON file with the output of each class")
    add("--batch-size", type=int, default=64, help="windows that the network sees at once (default: %(default)s)")
    add("--threads", type=int, default=0, help="that decode (default: one for each core)")
    add("--worst", type=int, default=16, help="images with the highest loss in the report (default: %(default)s)")
    add("--cache", type=Path, help="directory of what is computed (default: WORKDIR/evaluation)")
    add("--out", type=Path, help="directory of the results (default: the first workdir)")
    add("--distributed", action="store_true", help="join the other processes of this job")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> None:
    from inception_jax.errors import UserError, choose
    from inception_jax.evaluation.protocols import NAMES
    from inception_jax.evaluation.scoring import AGGREGATES

    protocols = arguments.protocol.split(",")
    for name in protocols:
        choose("--protocol", name, dict.fromkeys(NAMES))
    choose("--aggregate", arguments.aggregate, dict.fromkeys(AGGREGATES))
    if arguments.batch_size < 1:
        raise UserError(f"--batch-size={arguments.batch_size} must be 1 or more")
    each = arguments.checkpoint == "all" or arguments.follow
    if each and len(arguments.workdir) > 1:
        raise UserError("--checkpoint=all and --follow are for one --workdir")
    out = arguments.out or _directory(arguments.workdir[0])
    if not each:
        _report([[_Member(path, arguments.checkpoint, arguments)] for path in arguments.workdir], protocols, out, arguments)
        return
    done: list[list[_Member]] = []
    for step in _steps(arguments.workdir[0], arguments.follow):
        try:
            member = _Member(arguments.workdir[0], str(step), arguments)
        except UserError as error:
            if not arguments.follow:
                raise
            print(f"checkpoint {step} is gone: {error}", file=sys.stderr)  # training keeps the last few
            continue
        done.append([member])
        _report(done, protocols, out, arguments)


def _steps(workdir: Path, follow: bool) -> Iterator[int]:
    """Steps of the checkpoints, from the first to the last; with `follow` those that training adds, up to its end."""
    from inception_jax.errors import UserError
    from inception_jax.training.checkpoints import read_facts

    seen: set[int] = set()
    while True:
        steps = sorted(int(entry.name) for entry in (workdir / "checkpoints").glob("*") if entry.name.isdigit())
        for step in steps:
            if step not in seen:
                seen.add(step)
                yield step
        if not follow:
            if not seen:
                raise UserError(f"{workdir} has no checkpoints")
            return
        ends = [read_facts(workdir / "checkpoints" / str(step))["inference"]["total_steps"] for step in steps[-1:]]
        if seen and max(seen) >= ends[0]:
            return
        time.sleep(_POLL_SECONDS)


class _Member:
    """A network, and its scores by each protocol."""

    def __init__(self, path: Path, checkpoint: str, arguments: argparse.Namespace):
        from inception_jax.data.sources import open_source
        from inception_jax.errors import UserError
        from inception_jax.evaluation.selection import output_of_classes
        from inception_jax.inference import load

        self._arguments = arguments
        classifier = load(path, checkpoint, arguments.weights)
        self.directory = _directory(path)
        record = self.directory / "config.json"
        config = json.loads(record.read_text())["config"]["data"] if record.exists() else {}
        name, split, directory = (
            given if given is not None else config.get(key)
            for given, key in ((arguments.data, "name"), (arguments.split, "eval_split"), (arguments.data_dir, "dir"))
        )
        if name is None or split is None:
            raise UserError(f"{path} does not say which data it was trained on; give --data and --split")
        self.source = open_source(name, split, directory or "")
        self.outputs = output_of_classes(classifier.class_names, self.source.class_names, arguments.label_map)
        self.classifier = _resized(classifier, arguments.image_size, arguments.resize)
        self.title = f"{self.directory.name}/{classifier.source.name}"

    def scores(self, protocol_name: str):
        """`Scores` of the whole split, computed where they are not kept."""
        import jax
        from jax.experimental import multihost_utils

        from inception_jax.data.loader import DamageReport, ProcessShare
        from inception_jax.evaluation.scoring import Scorer, Store, score
        from inception_jax.training.progress import Progress, duration

        arguments, classifier = self._arguments, self.classifier
        protocol = self.protocol(protocol_name)
        step = classifier.source.name
        identity = {
            "name": f"{step}-{protocol.name}",
            "weights": classifier.fingerprint,
            "network": dict(classifier.options),
            "preprocessing": dataclasses.asdict(classifier.preprocessing),
            "protocol": dataclasses.asdict(protocol),
            "data": self.source.fingerprint,
            "outputs": None if self.outputs is None else self.outputs.tolist(),
        }
        cache = arguments.cache or self.directory / "evaluation"
        store = Store(cache, identity, len(self.source), protocol.windows)
        missing = store.missing()
        if missing:
            progress, total = Progress("image"), len(self.source)
            before = done = total - sum(map(len, missing))
            progress.say(f"{self.title}: {protocol.describe()}, {protocol.windows} windows, {total - done:,} images")
            started = time.perf_counter()
            progress.start(done, total)

            def advance(images: int) -> None:
                nonlocal done
                done += images * jax.process_count()
                rate = (done - before) / (time.perf_counter() - started)
                progress.advance(min(done, total))
                left = duration(max(0, total - done) / rate)
                progress.report(min(done, total), total, {"img/s": f"{rate:.1f}", "left": left})

            scorer = Scorer(classifier, protocol, arguments.batch_size, self.outputs)
            share = ProcessShare(jax.process_index(), jax.process_count())
            score(self.source, scorer, store, DamageReport(self.source), share, arguments.threads, advance)
            progress.stop()
            multihost_utils.sync_global_devices(f"scores of {store.path}")
        return store.read()

    def protocol(self, name: str):
        """The protocol for this network."""
        from inception_jax.errors import UserError
        from inception_jax.evaluation.protocols import make_protocol

        try:
            scales = tuple(map(int, filter(None, self._arguments.scales.split(","))))
        except ValueError:
            raise UserError(f"--scales={self._arguments.scales} are not whole numbers between commas") from None
        return make_protocol(name, self.classifier.geometry, scales)


def _directory(path: Path) -> Path:
    """The workdir that `path`, itself, a checkpoint in it or a file beside it, belongs to."""
    if path.parent.name == "checkpoints":
        return path.parent.parent
    return path if path.is_dir() else path.parent


def _resized(classifier, image_size: int | None, resize: int | None):
    """The classifier with another size of images, said aloud; all other lengths in proportion."""
    ours = classifier.geometry
    size = image_size or ours.size
    resize = resize or round(ours.resize * size / ours.size)
    if (size, resize) == (ours.size, ours.resize):
        return classifier
    print(
        f"{classifier.name}: images of {size} pixels, resized to {resize}; its own are {ours.size}, {ours.resize}",
        file=sys.stderr,
    )
    scale = tuple(round(side * size / ours.size) for side in ours.scale)
    geometry = dataclasses.replace(ours, size=size, resize=resize, scale=scale)
    return dataclasses.replace(classifier, geometry=geometry)


def _report(
    entries: Sequence[Sequence[_Member]], protocols: Sequence[str], out: Path, arguments: argparse.Namespace
) -> None:
    """Scores `entries`, and their ensemble unless they are checkpoints of one run; prints and writes the results."""
    import jax

    members = [member for [member] in entries]
    first = members[0].source
    for member in members[1:]:
        if (member.source.fingerprint, member.source.class_names) != (first.fingerprint, first.class_names):
            raise UserError(f"{member.title} and {members[0].title} are of different data; give --data and --split")
    ...

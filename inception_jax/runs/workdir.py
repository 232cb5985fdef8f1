"""Writes the files of a run, except for its checkpoints."""

import contextlib
import importlib.metadata
import io
import json
import math
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from inception_jax.errors import MissingExtraError, UserError, needs_extra
from inception_jax.names import text_of
from inception_jax.paths import AnyPath, make_directory, names_in, storage, to_path, upload, write_whole
from inception_jax.runs.lock import Lock
from inception_jax.runs.renamed import current_config
from inception_jax.runs.run import flat, is_free, metrics_rows, refuse_pipe

_UPLOAD_SECONDS = 30.0  # a bucket gets new lines of metrics this often, and before each checkpoint
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy", "pillow")


class Workdir:
    """Writes the directory of one run, in the first process only. `runs.run.Run` reads it.

    In a bucket, where nothing can be appended, metrics.jsonl is written again and again, and TensorBoard's events are
    copied from a temporary directory: every half minute, and by `flush`.

    Its files are:
    - config.json: resolved config, versions, command lines.
    - metrics.jsonl: one object a line, with step, split and values.
    - results.json, and predictions.npz of the last evaluation.
    - nonfinite.json: what is known of a step that was not finite, see `training.nonfinite`.
    - parameters.txt, TensorBoard events, report.html.
    - checkpoints/: see `checkpoints`.

    Attributes:
      path: of the directory, absolute or in a bucket.
    """

    def __init__(self, path: str | os.PathLike, config: ConfigDict, say: Callable[[str], None] = lambda _: None):
        """Creates the directory, or opens an existing directory of the same experiment, and locks it until `close`.

        Args:
          path: the directory, which may be in a bucket.
          config: of the experiment.
          say: called with one line if the last process in this directory ended without notice.

        Raises:
          UserError: it cannot be written, it holds another experiment, its path is not UTF-8, or another process
            writes it.
        """
        self.path = to_path(path)
        self._writes = jax.process_index() == 0
        self._tensorboard = None
        self._lines: list[str] = []  # of metrics.jsonl, in a bucket
        # Number of lines of metrics.jsonl and their checksum: so far, and before the last step that has one.
        self._written = self._before = {"lines": 0, "checksum": 0}
        self._last_step = -1
        self._events: Path | None = None  # TensorBoard's local directory
        self._uploaded = time.monotonic()
        self._lock: Lock | None = None
        if not self._writes:
            return
        make_directory(self.path)
        self._lock = Lock(self.path, say)
        try:
            self._open(config)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, config: ConfigDict) -> None:
        self._record = record = {"commands": []} | (self._read_json("config.json") or {})
        new = json.loads(json.dumps(_with_texts(config.to_dict())))  # lists in place of tuples, as in the file
        begun = any(name.isdigit() for name in names_in(self.checkpoints))  # else there is nothing to lose
        if begun and (different := differences(current_config(record.get("config", new)), new)):
            listed = "\n".join(f"  {line}" for line in different)
            raise UserError(
                f"{self.path} holds another experiment; choose another workdir, or the same config. "
                f"It differs in:\n{listed}"
            )
        record.update(config=new, versions=_versions())
        record["commands"].append(_with_texts(sys.argv))
        self._write_json("config.json", record)

    @property
    def checkpoints(self) -> AnyPath:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    def describe(self, **network: int | str) -> None:
        """Adds facts about the network and the data to config.json, as 'network'."""
        if not self._writes:
            return
        self._record["network"] = network
        self._write_json("config.json", self._record)

    def write(self, name: str, content: str | bytes) -> None:
        """Writes a file completely or not at all; raises UserError if it cannot be written."""
        if not self._writes:
            return
        write_whole(self.path / name, content.encode() if isinstance(content, str) else content)

    def _write_json(self, name: str, value: dict) -> None:
        self.write(name, json.dumps(value, indent=2) + "\n")

    def write_evaluation(self, results: dict, step: int, **arrays: np.ndarray) -> None:
        """Writes results.json, and the arrays of the last evaluation (after `step`) to predictions.npz."""
        file = io.BytesIO()
        np.savez_compressed(file, step=step, **arrays)  # type: ignore[arg-type]  # the stubs match ** with allow_pickle too
        self.write("predictions.npz", file.getvalue())
        self._write_json("results.json", results)

    def has_evaluation(self, results: dict, step: int) -> bool:
        """Whether `write_evaluation` has written its files with these results, and they are whole."""
        return self.results() == results and self._predicted_step() == step

    def _predicted_step(self) -> int | None:
        """Returns the step of predictions.npz; None if it is missing or damaged."""
        content = self._read("predictions.npz") or b""
        try:
            with np.load(io.BytesIO(content)) as archive:
                return int({name: archive[name] for name in archive.files}["step"])  # all, to check their checksums
        except Exception:  # zipfile, zlib and NumPy raise many types
            return None

    def open_metrics(
        self,
        step: int,
        evaluated: bool,
        tensorboard: bool,
        warn: Callable[[str], None],
        expected: Mapping[str, int] | None = None,
    ) -> None:
        """Opens metrics.jsonl after `step`; removes the lines of later steps, which an earlier start wrote.

        Args:
          step: number of finished steps.
          evaluated: whether `step` was evaluated; if not, a line of its evaluation is removed too.
          tensorboard: whether to write TensorBoard events too, which needs TensorFlow.
          warn: function that is called with a line if TensorFlow is missing or metrics.jsonl is damaged.
          expected: what `lines_before` returned when the checkpoint of `step` was saved; None if that is unknown.
        """
        if not self._writes:
            return
        rows, lines = self.history(), (self._read("metrics.jsonl") or b"").count(b"\n")
        if lines != len(rows):  # the process may have ended within the last line
            self.write("metrics.jsonl.damaged", self._read("metrics.jsonl") or b"")
            warn("metrics.jsonl has damaged lines; it is kept as metrics.jsonl.damaged, and continued without them")
        last = [row for row in rows if row["step"] == step and (evaluated or row["split"] == "train")]
        kept = [row for row in rows if row["step"] < step] + last
        self._lines = [f"{json.dumps(row)}\n" for row in kept]
        for row, line in zip(kept, self._lines, strict=True):
            self._count(row["step"], line)
        if expected and lines == len(rows) and self.lines_before(step) != expected:
            warn(f"metrics.jsonl has lost lines, or they are changed, since step {step}; it is continued as it is")
        self.write("metrics.jsonl", "".join(self._lines))
        if tensorboard:
            # Otherwise TensorFlow, which computes nothing here, prints two messages about oneDNN on stderr.
            os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
            try:
                with needs_extra("tensorboard"):
                    from clu import metric_writers
            except MissingExtraError as error:
                warn(f"no TensorBoard events are written: {error}")
            else:
                self._events = self.path if isinstance(self.path, Path) else Path(tempfile.mkdtemp())
                self._tensorboard = metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(self._events)))

    def _count(self, step: int, line: str) -> None:
        if step != self._last_step:
            self._before, self._last_step = self._written, step
        checksum = zlib.crc32(line.encode(), self._written["checksum"])
        self._written = {"lines": self._written["lines"] + 1, "checksum": checksum}

    def lines_before(self, step: int) -> Mapping[str, int]:
        """Returns the number of metrics.jsonl's lines of earlier steps and their checksum; none is of a later step."""
        return self._before if self._last_step == step else self._written

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        """Writes a line of metrics.jsonl, where values that are not finite become null, and TensorBoard's scalars."""
        if not self._writes:
            return
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        line = json.dumps({"step": step, "split": split} | finite) + "\n"
        self._count(step, line)
        if self._tensorboard:
            self._tensorboard.write_scalars(step, {f"{split}/{key}": value for key, value in values.items()})
        if isinstance(self.path, Path):
            with (
                storage(self.path / "metrics.jsonl", "cannot be written"),
                open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file,
            ):
                file.write(line)
            return
        self._lines.append(line)
        if time.monotonic() - self._uploaded > _UPLOAD_SECONDS:
            with contextlib.suppress(UserError):  # the next time includes these lines
                self.flush()

    def flush(self) -> None:
        """Brings the metrics so far into a bucket; a local file has them already.

        Raises:
          UserError: the bucket cannot be written, or another process has taken over the directory.
        """
        if self._lock:
            self._lock.check()
        if not self._writes or isinstance(self.path, Path):
            return
        self._uploaded = time.monotonic()
        self.write("metrics.jsonl", "".join(self._lines))
        if self._tensorboard and self._events:
            self._tensorboard.flush()
            for file in self._events.iterdir():
                upload(file, self.path / file.name)

    def history(self) -> list[dict]:
        """Returns the objects of metrics.jsonl, see `metrics_rows`; raises UserError if it cannot be read."""
        return metrics_rows(self._read("metrics.jsonl") or b"")

    def results(self) -> dict | None:
        """Returns the object of results.json; None before the first evaluation."""
        return self._read_json("results.json")

    def close(self) -> None:
        """Writes what is still to be written, and unlocks the directory."""
        try:
            self.flush()
        finally:
            if self._lock:
                self._lock.release()
                self._lock = None
            if self._tensorboard:
                self._tensorboard.close()
                self._tensorboard = None
            if self._events and self._events != self.path:
                shutil.rmtree(self._events, ignore_errors=True)

    def _read(self, name: str) -> bytes | None:
        """Returns the content of a file; None if it is missing."""
        try:
            with storage(self.path / name, "cannot be read", "; move it away, or make it readable"):
                refuse_pipe(self.path / name)
                return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def _read_json(self, name: str) -> dict | None:
        data = self._read(name)
        if data is None:
            return None
        try:
            content = json.loads(data)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise UserError(f"{self.path / name} is damaged; move it away")
        return content


def _with_texts(value):
    """Returns `value` with the `text_of` of all its strings, because some are paths."""
    if isinstance(value, dict):
        return {key: _with_texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_with_texts, value))
    return text_of(value) if isinstance(value, str) else value


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns a line 'key: old -> new' for each key that changes what a run computes."""
    old, new = flat(old), flat(new)
    absent = object()
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, absent), new.get(key, absent)
        if key == "data.cache" and _crops_on_device(old) == _crops_on_device(new):
            continue
        if before != after and not is_free(key):
            shown = ("absent" if value is absent else repr(value) for value in (before, after))
            lines.append(f"config.{key}: {' -> '.join(shown)}")
    return lines


def _crops_on_device(config: Mapping[str, Any]) -> bool:
    """Whether the random crops are those of `resident.random_crops`; all others do not depend on the cache."""
    return config.get("data.cache") == "device" and config.get("data.crop") != "central"

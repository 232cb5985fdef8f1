"""What a run leaves on disk, besides its checkpoints."""

import contextlib
import importlib.metadata
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax
from ml_collections import ConfigDict

from inception_jax.errors import UserError
from inception_jax.names import check_utf8, text_of
from inception_jax.training.config import differences

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy", "pillow")


class Workdir:
    """The directory of one run.

    config.json (the resolved config, versions, command lines), metrics.jsonl (one object a line: step, split, values),
    TensorBoard events, parameters.txt, results.json, report.html; and checkpoints/, see `checkpoints`.

    Attributes:
      path: of the directory, absolute.
      record: the object of config.json: "config", "versions", "commands" and, once training has begun, "network":
        parameters, multiply_adds (of one image), total_steps, device.
    """

    def __init__(self, path: str | os.PathLike, config: ConfigDict):
        """Makes the directory, or opens that of the same experiment.

        Raises:
          UserError: it cannot be written, it holds another experiment, or its path is not UTF-8.
        """
        self.path = Path(path).absolute()
        check_utf8(self.path)
        self._writes = jax.process_index() == 0
        self._tensorboard = None
        self.record = record = {"commands": []} | (self._read_json("config.json") or {})
        new = _with_texts(config.to_dict())
        begun = any(self.checkpoints.glob("[0-9]*"))  # before the first checkpoint there is nothing to lose
        if begun and (different := differences(record.get("config", new), _as_json(new))):
            listed = "\n".join(f"  {line}" for line in different)
            raise UserError(
                f"{self.path} holds another experiment; choose another --workdir, or the same config. "
                f"It differs in:\n{listed}"
            )
        record.update(config=new, versions=_versions())
        record["commands"].append(_with_texts(sys.argv))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the workdir {self.path} cannot be written: {error.strerror}") from None
        self.write("config.json", json.dumps(record, indent=2) + "\n")

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    def describe(self, **facts: int | str) -> None:
        """Adds to config.json what is known once the network and the data are there: 'network' of `record`."""
        self.record["network"] = facts
        self.write("config.json", json.dumps(self.record, indent=2) + "\n")

    def write(self, name: str, text: str) -> None:
        """Writes a file at once or not at all; raises UserError if it cannot be written."""
        if not self._writes:
            return
        temporary = self.path / f".{name}.tmp"
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.path / name)
        except OSError as error:
            raise UserError(f"{self.path / name} cannot be written: {error.strerror}") from None

    def open_metrics(self, step: int, tensorboard: bool, warn: Callable[[str], None]) -> None:
        """Begins to write metrics after `step`; what an earlier start wrote of later steps is taken out.

        Args:
          step: number of finished steps.
          tensorboard: whether events are written too, which needs TensorFlow.
          warn: called with a line if it is not there.
        """
        rows = self.history()
        if self._writes and self._lines() != len(rows):
            os.replace(self.path / "metrics.jsonl", self.path / "metrics.jsonl.damaged")
            warn("metrics.jsonl has damaged lines; it is kept as metrics.jsonl.damaged, and goes on without them")
        self.write("metrics.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows if row["step"] <= step))
        if tensorboard and self._writes:
            # Else TensorFlow, which computes nothing here, says twice on stderr how it would.
            os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
            try:
                from clu import metric_writers
            except ImportError as error:
                missing = f"{error.name} is missing (pip install tensorflow-cpu tensorboard)"
                warn(f"no TensorBoard events are written: {missing}")
            else:
                self._tensorboard = metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(self.path)))

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        """Writes one line of metrics.jsonl, and TensorBoard's scalars. A value that is not finite becomes null."""
        if not self._writes:
            return
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "split": split} | finite) + "\n")
        if self._tensorboard:
            self._tensorboard.write_scalars(step, {f"{split}/{key}": value for key, value in values.items()})

    def history(self) -> list[dict]:
        """The objects of metrics.jsonl, see `metrics_rows`; raises UserError if the file cannot be read."""
        return metrics_rows(self._read("metrics.jsonl") or b"")

    def _lines(self) -> int:
        """Number of whole lines of metrics.jsonl; the last one may have been cut off by the end of the process."""
        return (self._read("metrics.jsonl") or b"").count(b"\n")

    def results(self) -> dict | None:
        """The object of results.json, None before the first evaluation."""
        return self._read_json("results.json")

    def close(self) -> None:
        """Flushes TensorBoard's events."""
        if self._tensorboard:
            self._tensorboard.close()
            self._tensorboard = None

    def _read(self, name: str) -> bytes | None:
        """The content of a file; None if it is not there."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UserError(
                f"{self.path / name} cannot be read: {error.strerror}; move it away, or make it readable"
            ) from None

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


def metrics_rows(content: bytes) -> list[dict]:
    """The objects of metrics.jsonl, or of a part of it; a line that was cut off or damaged is left out."""
    rows = []
    for line in content.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and type(row.get("step")) is int and isinstance(row.get("split"), str):
                rows.append(row)
    return rows


def _with_texts(value):
    """`value` with the `text_of` all its strings, because some are paths."""
    if isinstance(value, dict):
        return {key: _with_texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_with_texts, value))
    return text_of(value) if isinstance(value, str) else value


def _as_json(value):
    return json.loads(json.dumps(value))


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions

"""Reads a run: all that its directory says of it. Writes nothing, and imports neither JAX nor Orbax."""

import contextlib
import dataclasses
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inception_jax.paths import AnyPath, bucket_errors, is_bucket, read_whole, to_path
from inception_jax.runs import lock
from inception_jax.runs.renamed import current_config
from inception_jax.runtime import cache_directory

LAUNCH, LOCK = "run.json", ".lock"  # what a sweep's job writes, and what it locks as long as the run's process lives

# The states of a run. Tables, reports and the launcher of sweeps know these and no others.
STATES = {
    "waiting": "Nothing has been started.",
    "queued": "Its job waits in the queue of a cluster.",
    "running": "A process works on it.",
    "interrupted": "It was stopped before its last step. The same command resumes it.",
    "unfinished": "It has not reached its last step. No sweep started it, and no process is known to work on it.",
    "finished": "Its last step was evaluated; of an evaluation: its results are written.",
    "failed": "Its process ended with an error, or without a result.",
    "damaged": "One of its files cannot be read. What the others say is there.",
}

# What tells how good a network is, by its key in results and metrics, and its name for people. A run has one of them:
# that of classes, or that of boxes.
SCORES = {"top1": "top-1", "box_accuracy": "box accuracy"}

# The type of what is used of each file. A value may be missing or null.
_TYPES: dict[str, dict[str, Any]] = {
    "config.json": {
        "config": dict,
        "config.seed": int,
        "config.model.name": str,
        "config.data.name": str,
        "config.data.eval_split": str,
        "config.train.batch_size": int,
        "config.train.steps": int,
        "versions": dict,
        "commands": list,
        "network.total_steps": int,
        "network.parameters": int,
        "network.multiply_adds": int,
        "network.device": str,
    },
    "results.json": {
        f"{which}.{key}": kind
        for which in ("last", "best")
        for key, kind in {
            **{"step": int, "loss": float, "count": int},
            **dict.fromkeys(("top1", "top5", "box_accuracy"), float),
        }.items()
    },
    "evaluation.json": {"rows": list},
    LAUNCH: {"state": str, "error": str, "seconds": float, "command": list, "job": str},
}
# Two keys of train say what happens after a step that is not finite: a run that stopped there may go on by skipping it.
# With train.recompute it may go on where there is less memory.
_FREE = (
    *(
        "parallel",
        "data.dir",
        "data.boxes",
        "data.max_pixels",
        "data.threads",
        "data.processes",
        "eval",
        "checkpoint",
        "log",
    ),
    *("train.on_nonfinite", "train.max_skips", "train.recompute"),
)
_FRACTIONS = ("top1", "top5", "box_accuracy")
_WORDS = {dict: "an object", list: "a list", str: "text", int: "a whole number", float: "a number"}


@dataclasses.dataclass(frozen=True)
class Run:
    """A training, or an evaluation of trained networks, as its directory tells of it.

    Attributes:
      path: of the directory.
      state: a key of `STATES`.
      error: why it failed or what is damaged, one line; else ''.
      config: the resolved config by its present key names; None if it is missing, as all that follows.
      network: "parameters", "multiply_adds" (of one image), "total_steps" and "device".
      versions: of Python and of the packages, by name.
      commands: argument lists, one for each start.
      metrics: the rows of metrics.jsonl, see `metrics_rows`; empty if there are none.
      results: "last" and "best", each with "step", "top1", "top5", "loss", "count"; accuracies are fractions. A network
        that predicts boxes has "box_accuracy" in place of "top1" and "top5".
      evaluation: the object of evaluation.json, which `python -m experiments.evaluate` writes.
      launch: the object of run.json, which a sweep writes: "command", "state", "seconds", "status", "error", "job".
    """

    path: AnyPath
    state: str = "waiting"
    error: str = ""
    config: dict[str, Any] | None = None
    network: dict[str, Any] | None = None
    versions: dict[str, str] | None = None
    commands: list[list[str]] | None = None
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    results: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    launch: dict[str, Any] | None = None

    @classmethod
    def read(cls, path: str | os.PathLike, metrics_bytes: int | None = None) -> "Run":
        """Reads the run in a directory, whatever is missing or damaged.

        Args:
          path: of the directory.
          metrics_bytes: most bytes that are read of metrics.jsonl, its last ones; None reads all.
        """
        directory = to_path(path) if is_bucket(path) else Path(path)
        damage: list[str] = []
        record = _read_object(directory, "config.json", damage) or {}
        config = record.get("config")
        rows: list[dict[str, Any]] = []
        broken_lines = 0
        if record and config is None and not damage:
            damage.append("config.json is damaged: it has no config")
        try:
            with bucket_errors(directory):
                rows, broken_lines = _read_metrics(directory / "metrics.jsonl", metrics_bytes)
        except OSError as unreadable:
            damage.append(f"metrics.jsonl cannot be read: {unreadable.strerror}")
        run = cls(
            directory,
            config=None if config is None else current_config(config),
            network=record.get("network"),
            versions=record.get("versions"),
            commands=record.get("commands"),
            metrics=rows,
            results=_read_object(directory, "results.json", damage),
            evaluation=_read_object(directory, "evaluation.json", damage),
            launch=_read_object(directory, LAUNCH, damage),
        )
        state, error = _state_of(run)
        broken = f"metrics.jsonl has {broken_lines} damaged line{'s' * (broken_lines > 1)}" if broken_lines else ""
        if damage or (broken and state == "finished"):
            state, error = "damaged", "; ".join(damage) or broken
        return dataclasses.replace(run, state=state, error=error or broken)

    @property
    def total_steps(self) -> int | None:
        """Number of steps of the whole training, None while it is unknown."""
        return field(self.network, "total_steps") or field(self.config, "train.steps") or None

    @property
    def step(self) -> int | None:
        """The last step that its metrics or results tell of."""
        steps = [row["step"] for row in self.metrics]
        return max([*steps, *filter(None, [field(self.results, "last.step")])], default=None)

    def last(self, split: str, key: str) -> Any:
        """The last value of a metric, such as 'loss' of the split 'train'; None if there is none."""
        rows = [row for row in self.metrics if row["split"] == split and key in row]
        return max(rows, key=lambda row: row["step"])[key] if rows else None


def score_key(metrics: Mapping[str, Any]) -> str:
    """Returns the key of `SCORES` that an evaluation has; KeyError if it has none."""
    for key in SCORES:
        if metrics.get(key) is not None:
            return key
    raise KeyError("/".join(SCORES))


def field(tree: Any, key: str) -> Any:
    """The value at 'train.batch_size' of nested dicts, None if it is missing."""
    for part in key.split("."):
        if not isinstance(tree, dict):
            return None
        tree = tree.get(part)
    return tree


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested dicts by keys such as 'train.batch_size'."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return values


def is_free(key: str) -> bool:
    """Whether a key of the config says where and how a run computes, not what; a run may resume with other values."""
    return key in _FREE or key.partition(".")[0] in _FREE


def metrics_rows(content: bytes) -> list[dict[str, Any]]:
    """Reads metrics.jsonl, or a part of it: objects with at least "step" and "split".

    Lines that are damaged or cut off are left out. A value that is not finite is None.
    """
    lines = content.splitlines()
    try:
        values = _parse(b"[" + b",".join(lines) + b"]")  # half the time of line by line
    except (ValueError, RecursionError):
        values = []
    if len(values) != len(lines):
        values = []
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                values.append(_parse(line))
    return [
        row
        for row in values
        if isinstance(row, dict) and type(row.get("step")) is int and isinstance(row.get("split"), str)
    ]


def read_launch(path: AnyPath) -> dict[str, Any]:
    """Reads what a sweep wrote about the launch of a run, `Run.launch`; {} if it is missing or damaged."""
    return _read_object(path, LAUNCH, []) or {}


def bookkeeping(path: AnyPath) -> Path:
    """Returns the local directory for what a sweep keeps of itself or of a run and a bucket cannot hold.

    These are locks, logs while they grow, and the files of submitit. For a local path it is the path itself; for
    's3://bucket/sweep' it is 'sweeps/s3/bucket/sweep' below `runtime.cache_directory`.
    """
    if isinstance(path, Path):
        return path
    return cache_directory() / "sweeps" / os.fspath(path).replace("://", "/").replace("..", "%2E%2E")


def is_locked(path: AnyPath) -> bool:
    """Tells whether a process works on the run in this directory, see `lock.is_held`; a sweep's jobs lock it too."""
    return lock.is_locked(bookkeeping(path) / LOCK) or lock.is_held(path)


def _state_of(run: Run) -> tuple[str, str]:
    """The state and the error of a run whose files could all be read."""
    launch = run.launch or {}
    recorded, total = launch.get("state"), run.total_steps
    of_cluster = recorded in ("queued", "running") and bool(launch.get("job"))  # which alone knows more
    if recorded in ("queued", "running") and not of_cluster:
        if is_locked(run.path):
            return "running", ""
        recorded = "interrupted"
    has_last_step = total is not None and field(run.results, "last.step") == total
    if has_last_step or (run.config is None and run.evaluation is not None):
        return "finished", ""
    if not of_cluster and lock.is_held(run.path):  # started or resumed by hand
        return "running", ""
    if recorded == "failed":
        return "failed", " ".join((launch.get("error") or "no message").split())
    if recorded == "finished" and total is not None:
        return "failed", f"ended at step {run.step or 0:,} of {total:,}"
    if recorded:
        return recorded, ""
    return ("waiting" if run.config is None else "unfinished"), ""


def _read_object(path: AnyPath, name: str, damage: list[str]) -> dict[str, Any] | None:
    """Reads a file of a run, None if it is missing or damaged; a line of `damage` then says what is wrong."""
    try:
        refuse_pipe(path / name)
        with bucket_errors(path):
            content = _parse(read_whole(path / name))
        _check(name, content)
    except (FileNotFoundError, NotADirectoryError):
        if isinstance(path, Path) and (path / name).is_symlink():
            damage.append(f"{name} cannot be read: it links to nothing")
    except OSError as error:
        damage.append(f"{name} cannot be read: {error.strerror}")
    except (ValueError, RecursionError) as error:
        damage.append(f"{name} is damaged: {error}")
    else:
        return content
    return None


def refuse_pipe(file: Any) -> None:
    """Raises OSError for a pipe, a socket or a device, whose reader may wait for ever."""
    if isinstance(file, Path) and not (file.is_file() or file.is_dir()) and file.exists():
        raise OSError(errno.EINVAL, "not a regular file", str(file))


def _check(name: str, content: Any) -> None:
    """Raises ValueError if something that is used has another type."""
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    for key, kind in _TYPES[name].items():
        value: Any = content
        for part in key.split("."):
            if not isinstance(value, dict):
                raise ValueError(f"it has no {key}")
            value = value.get(part)
            if value is None:
                break
        is_bool = isinstance(value, bool)
        if value is not None and (is_bool or not isinstance(value, (int, float) if kind is float else kind)):
            raise ValueError(f"{key}={json.dumps(value)[:80]} is not {_WORDS[kind]}")
        if key.rpartition(".")[2] in _FRACTIONS and value is not None and not 0 <= value <= 1:
            raise ValueError(f"{key}={value} is no fraction")
    if name == LAUNCH and content.get("state") not in (None, *STATES):
        raise ValueError(f"state={content['state']!r} is not one of {', '.join(STATES)}")
    if name == "results.json" and field(content, "last.step") is not None:
        try:
            score_key(content["last"])
        except KeyError:
            raise ValueError("it has no last.top1") from None


def _read_metrics(file: AnyPath, last_bytes: int | None) -> tuple[list[dict[str, Any]], int]:
    """The rows of metrics.jsonl, and the number of damaged lines; 0 where only its end is read."""
    try:
        refuse_pipe(file)
        if last_bytes is None or not isinstance(file, Path):
            content = read_whole(file) if last_bytes != 0 else b""
        else:
            with file.open("rb") as opened:
                opened.seek(max(0, opened.seek(0, os.SEEK_END) - last_bytes))
                content = opened.read()
    except (FileNotFoundError, NotADirectoryError):
        return [], 0
    if last_bytes is not None:
        return metrics_rows(content[-last_bytes:] if last_bytes else b""), 0
    whole, _, rest = content.rpartition(b"\n")  # the last line may be cut off, or is being written
    rows = metrics_rows(whole)
    return rows + metrics_rows(rest), whole.count(b"\n") + bool(whole) - len(rows)


def _parse(text: bytes) -> Any:
    return json.loads(text, parse_constant=lambda _: None)  # NaN, Infinity

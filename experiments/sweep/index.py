"""The index of all training runs under a directory: an SQLite file, in which a thousand of them can be searched.

DIR/index.sqlite holds nothing that the runs' own files do not say: it may be deleted at any time, and any program may
read it, for instance `sqlite3 DIR/index.sqlite "SELECT path, top1 FROM runs ORDER BY top1 DESC"`. Its tables:

  runs     one row a run; its columns are those of `COLUMNS`.
  config   path, key, value: the resolved config, keys such as 'model.width', values as JSON.
  metrics  path, split, key, step, value: the numbers of metrics.jsonl; NULL where one was not finite.
  files    path, fingerprint, recorded: the index's own, from which it knows what may have changed.

`path` is the run's directory relative to DIR, '.' for DIR itself.
"""

import ast
import contextlib
import csv
import dataclasses
import datetime
import difflib
import json
import operator
import os
import re
import sqlite3
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from inception_jax.errors import UserError

FILE = "index.sqlite"
_VERSION = 2  # of the tables; a file of another one is built again
_PATIENCE = 60.0  # seconds to wait for another process that refreshes the same index

# Of the table `runs`. All but the first are NULL where the run does not say, sweep and variant of single runs ''.
COLUMNS = {
    "path": "TEXT",
    "sweep": "TEXT",  # name in its sweep.json
    "variant": "TEXT",
    "seed": "INTEGER",
    "state": "TEXT",  # 'queued', 'running', 'interrupted', 'finished', 'failed', 'unfinished' or 'damaged'
    "error": "TEXT",  # why it failed, or what is damaged
    "network": "TEXT",  # model.name
    "data": "TEXT",  # data.name
    "step": "INTEGER",  # the last one that metrics.jsonl or results.json tells of
    "total_steps": "INTEGER",
    "evaluated_step": "INTEGER",  # of the last evaluation, whose numbers the next ones are; accuracies are shares of 1
    "top1": "REAL",
    "top5": "REAL",
    "loss": "REAL",
    "images": "INTEGER",  # counted
    "best_step": "INTEGER",
    "best_top1": "REAL",
    "seconds": "REAL",  # in run.json
    "images_per_second": "REAL",  # median of the training log's lines
    "peak_memory": "REAL",  # bytes, the most of the training log's lines
    "parameters": "INTEGER",
    "multiply_adds": "INTEGER",
    "device": "TEXT",
    "modified": "REAL",  # when the newest of its files was written, seconds since 1970
}

_TABLES = {
    "runs": f"{', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())}, PRIMARY KEY (path)",
    "config": "path TEXT, key TEXT, value TEXT, PRIMARY KEY (path, key)",
    "metrics": "path TEXT, split TEXT, key TEXT, step INTEGER, value REAL, PRIMARY KEY (path, split, key, step)",
    "files": "path TEXT, fingerprint TEXT, recorded TEXT, PRIMARY KEY (path)",
}

# Where in a run's files a column of `runs` comes from.
_FIELDS = {
    "config.json": {
        "seed": "config.seed",
        "network": "config.model.name",
        "data": "config.data.name",
        "total_steps": "network.total_steps",
        "parameters": "network.parameters",
        "multiply_adds": "network.multiply_adds",
        "device": "network.device",
    },
    "results.json": {
        "evaluated_step": "last.step",
        "top1": "last.top1",
        "top5": "last.top5",
        "loss": "last.loss",
        "images": "last.count",
        "best_step": "best.step",
        "best_top1": "best.top1",
    },
    "run.json": {"state": "state", "seconds": "seconds", "error": "error"},
}
_FILES = (*_FIELDS, "metrics.jsonl")

# Damage of the index itself. All else (a directory that cannot be written, a full disk, locks that the file system does
# not have) building it anew would not mend.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LACK = sqlite3.SQLITE_ERROR  # a table or column is not there


def refresh(directory: str | os.PathLike, state_in: Callable[[Path], str] | None = None) -> sqlite3.Connection:
    """Brings the index of `directory` up to date and opens it.

    A run is a directory with a config.json, or with a run.json, as one has that failed before it wrote its config. What
    is below it is not searched, nor are hidden directories and those that may not be read. Links are followed, but each
    directory is searched once. Only runs are read whose files changed. Any number of processes may do this at once;
    they take turns.

    Args:
      directory: of the runs. Where it cannot be written, the index is built in memory.
      state_in: tells the state of the run in a directory; asked of those that by their run.json are 'queued' or
        'running', which may have been killed since. Without it run.json is believed.

    Raises:
      UserError: the directory is not there, or cannot be read.
    """
    root = os.path.abspath(directory)
    if not os.path.isdir(root):
        raise UserError(f"there is no directory {root}")
    file = os.path.join(root, FILE)
    for _ in range(2):
        try:
            return _refreshed(file, root, state_in)
        except sqlite3.DatabaseError as error:
            if _code(error) not in (*_DAMAGE, _LACK) or not _removed(file):
                break
    return _refreshed(":memory:", root, state_in)


def _refreshed(file: str, root: str, state_in: Callable[[Path], str] | None) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")  # before the walk, so that none puts what it saw over newer things
        _make_tables(connection)
        _update(connection, {run.path: run for run in _walk(root)}, state_in)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()  # and rolls back
        raise
    return connection


def _code(error: sqlite3.DatabaseError) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _removed(file: str) -> bool:
    with contextlib.suppress(OSError):
        os.remove(file)
        return True
    return False


def _make_tables(connection: sqlite3.Connection) -> None:
    [(version,)] = connection.execute("PRAGMA user_version")
    if version == _VERSION:
        return
    for name, columns in _TABLES.items():
        connection.execute(f"DROP TABLE IF EXISTS {name}")
        connection.execute(f"CREATE TABLE {name} ({columns}) WITHOUT ROWID")
    connection.execute("CREATE INDEX config_by_key ON config (key, value)")
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _update(connection: sqlite3.Connection, runs: dict[str, "_Run"], state_in: Callable[[Path], str] | None) -> None:
    known = dict(connection.execute("SELECT path, fingerprint FROM files"))
    changed = [path for path, run in runs.items() if known.get(path) != run.fingerprint]
    for path in (*changed, *(known.keys() - runs.keys())):
        for table in _TABLES:
            connection.execute(f"DELETE FROM {table} WHERE path = ?", (path,))
    for path in sorted(changed):
        _insert(connection, runs[path])
    for path, recorded in connection.execute("SELECT path, recorded FROM files WHERE recorded NOT NULL").fetchall():
        state = recorded if state_in is None else state_in(Path(runs[path].directory))
        connection.execute("UPDATE runs SET state = ? WHERE path = ?", (state, path))


def _insert(connection: sqlite3.Connection, run: "_Run") -> None:
    content, path = _read(run), run.path
    metrics = (
        (path, split, text, step, value)
        for (split, key), series in sorted(content.metrics.items())  # the table's order: its file is smaller
        for text in [_text(key)]
        for step, value in series.items()
    )
    # A file that could not be read just now is tried again, though it be the same.
    fingerprint = run.fingerprint if content.is_whole else ""
    insert = connection.executemany
    insert(f"INSERT INTO runs VALUES ({', '.join('?' * len(COLUMNS))})", [[content.row[name] for name in COLUMNS]])
    insert("INSERT INTO config VALUES (?, ?, ?)", ((path, key, value) for key, value in content.config.items()))
    insert("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?)", metrics)
    recorded = content.row["state"] if content.row["state"] in ("queued", "running") else None
    insert("INSERT INTO files VALUES (?, ?, ?)", [(path, fingerprint, recorded)])


@dataclasses.dataclass
class _Run:
    """A run before its files are read.

    Attributes:
      path: relative to the index, as text.
      directory: of the run, absolute.
      sweep, variant: '' for a single run.
      files: names of those of `_FILES` that are there.
      fingerprint: changes whenever one of them does.
      modified: time of the newest, seconds since 1970.
    """

    path: str
    directory: str
    sweep: str
    variant: str
    files: list[str]
    fingerprint: str
    modified: float


def _walk(root: str) -> Iterator[_Run]:
    """The runs below `root`; raises UserError if that cannot be read."""
    sweeps: dict[str, tuple[str, str]] = {}
    directories, links, seen = [root], [], set()
    while directories or links:  # links last: what can be reached without them is called by its own path
        directory = (directories or links).pop()
        try:
            status = os.stat(directory)
            with os.scandir(directory) as found:
                entries = {entry.name: entry for entry in found}
        except OSError as error:
            if directory == root:
                raise UserError(f"{root} cannot be read: {error.strerror}") from None
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        if any(name in entries and not _is_directory(entries[name]) for name in ("config.json", "run.json")):
            yield _run(root, directory, entries, sweeps)
            continue
        for name in sorted(entries, reverse=True):
            if not name.startswith(".") and _is_directory(entries[name]):
                (links if entries[name].is_symlink() else directories).append(entries[name].path)


def _is_directory(entry: os.DirEntry) -> bool:
    with contextlib.suppress(OSError):  # a link to itself, or to where nobody may look
        return entry.is_dir()
    return False


def _run(root: str, directory: str, entries: dict[str, os.DirEntry], sweeps: dict[str, tuple[str, str]]) -> _Run:
    files: dict[str, os.stat_result] = {}
    for name in _FILES:
        with contextlib.suppress(KeyError, OSError):  # not there, or no longer
            files[name] = entries[name].stat()
    variant = os.path.dirname(directory)
    above = os.path.dirname(variant)
    if above not in sweeps:
        sweeps[above] = _sweep(above)
    sweep, mark = sweeps[above]
    return _Run(
        path=_text(os.path.relpath(directory, root)),
        directory=directory,
        sweep=sweep,
        variant=_text(os.path.basename(variant)) if sweep else "",
        # One that is a link to nothing is read all the same, which says so.
        files=[name for name in _FILES if name in files or (name == "config.json" and "run.json" not in files)],
        fingerprint=" ".join([*(_mark(name, status) for name, status in files.items()), mark]),
        modified=max((one.st_mtime for one in files.values()), default=0.0),
    )


def _sweep(directory: str) -> tuple[str, str]:
    """The name of the sweep, '' if it is none, and what changes with it; that of its directory if it is damaged."""
    file, name = os.path.join(directory, "sweep.json"), None
    try:
        mark = _mark("sweep.json", os.stat(file))
        with contextlib.suppress(OSError, ValueError, RecursionError):
            name = _field(_json(file), "name", "TEXT")
    except OSError:
        return "", ""
    return name or _text(os.path.basename(directory)), mark


def _mark(name: str, status: os.stat_result) -> str:
    # The inode too: files are replaced as a whole, perhaps twice within what the clock of a file system can tell apart.
    return f"{name}:{status.st_mtime_ns}:{status.st_size}:{status.st_ino}"


@dataclasses.dataclass
class _Content:
    """What the files of a run say.

    Attributes:
      row: of the table `runs`.
      config: JSON by key.
      metrics: by split and key, then by step.
      is_whole: whether all files could be read, damaged or not.
    """

    row: dict[str, Any]
    config: dict[str, str] = dataclasses.field(default_factory=dict)
    metrics: dict[tuple[str, str], dict[int, float | None]] = dataclasses.field(default_factory=dict)
    is_whole: bool = True


def _read(run: _Run) -> _Content:
    """Reads the files of a run; what is wrong with them is in its row."""
    row = dict.fromkeys(COLUMNS)
    row |= {"path": run.path, "sweep": run.sweep, "variant": run.variant, "modified": run.modified}
    content, damage = _Content(row), []
    for name in run.files:
        file = os.path.join(run.directory, name)
        try:
            if name == "metrics.jsonl":
                _read_metrics(file, content)
                continue
            object_ = _json(file)
            if name == "config.json":
                content.config = _flat(object_.get("config"))
            row |= {column: _field(object_, key, COLUMNS[column]) for column, key in _FIELDS[name].items()}
            if name == "config.json" and row["total_steps"] is None:  # not every run wrote it down
                row["total_steps"] = _field(object_, "config.train.steps", "INTEGER") or None
        except OSError as error:
            content.is_whole = False
            damage.append(f"{name} cannot be read: {error.strerror}")
        except (ValueError, RecursionError) as error:
            damage.append(f"{name} is damaged: {error}")
    row["error"] = row["error"] or None
    row["step"] = max((step for step in (row["step"], row["evaluated_step"]) if step is not None), default=None)
    if damage:
        row.update(state="damaged", error="; ".join(damage))
    elif row["state"] is None:
        is_finished = row["total_steps"] is not None and row["evaluated_step"] == row["total_steps"]
        row["state"] = "finished" if is_finished else "unfinished"
    return content


def _read_metrics(file: str, content: _Content) -> None:
    """Reads metrics.jsonl; damaged lines are left out, as by a run that goes on, but 'error' tells of them."""
    with open(file, "rb") as opened:
        *lines, last = opened.read().split(b"\n")
    row, damaged = content.row, 0
    for entry in (*_entries(lines), *filter(None, _entries([last]))):  # the last one may be cut off
        try:
            step, split = _field(entry, "step", "INTEGER"), _field(entry, "split", "TEXT")
            if step is None or split is None:
                raise ValueError("it is not said what they are of")
        except ValueError:
            damaged += 1
            continue
        row["step"] = max(step, row["step"] or 0)
        del entry["step"], entry["split"]
        for key, value in entry.items():
            if value is None or type(value) in (float, int):
                series = content.metrics.setdefault((split, key), {})
                series[step] = float(value) if value is not None and _is_finite(value) else None
    speeds, memory = (
        [value for value in content.metrics.get(("train", key), {}).values() if value is not None]
        for key in ("images_per_second", "peak_memory")
    )
    row["images_per_second"] = statistics.median(speeds) if speeds else None
    row["peak_memory"] = max(memory, default=None)
    if damaged and not row["error"]:
        row["error"] = f"metrics.jsonl has {damaged} damaged line{'s' * (damaged > 1)}"


def _entries(lines: list[bytes]) -> list:
    """The values of lines of JSON, None for those that are damaged."""
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(b"[" + b",".join(lines) + b"]")  # half the time of one by one
        if len(values) == len(lines):
            return values
    values = []
    for line in lines:
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            values.append(None)
    return values


def _json(file: str) -> dict:
    with open(file, "rb") as opened:
        content = json.loads(opened.read())
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    return content


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """{'model': {'width': 0.5}} to {'model.width': '0.5'}."""
    if not isinstance(tree, dict):
        raise ValueError("it has no 'config'")
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[_text(prefix + key)] = _text(json.dumps(value, ensure_ascii=False))
    return flat


def _field(content: Any, key: str, kind: str) -> Any:
    """What `content` has at 'last.step', None if nothing.

    Raises:
      ValueError: it is not of the kind, which is an SQLite type.
    """
    value = content
    for part in key.split("."):
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ValueError(f"there is no {key}")
        value = value.get(part)
    if value is None:
        return None
    if kind == "TEXT" and isinstance(value, str):
        return _text(value)
    if kind == "REAL" and _is_number(value):
        return float(value) if _is_finite(value) else None
    if kind == "INTEGER" and _is_number(value) and _is_finite(value) and int(value) == value and abs(value) < 2**63:
        return int(value)
    raise ValueError(f"{key} is {json.dumps(value)[:80]}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    return abs(value) <= sys.float_info.max  # False for NaN, and for integers that no float can hold


def _text(text: str) -> str:
    """Text that SQLite takes: bytes of a file name, or JSON's escapes, that are no character are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def select(
    connection: sqlite3.Connection, where: Sequence[str] = (), sort: str = "", columns: Sequence[str] = ()
) -> tuple[list[str], list[tuple]]:
    """The runs for which all of `where` hold, as a table.

    A KEY is a column of `COLUMNS`; else a config key such as 'model.width', of which the end is enough ('width') where
    no other key has the same; else 'split/metric' ('train/loss'), which is the last value of that metric.

    Args:
      connection: what `refresh` returned.
      where: conditions KEY OP VALUE. OP is one of = != < <= > >= and ~, which holds where the value's text contains
        VALUE. VALUE is read as JSON or Python (0.25, true, None, '500 steps', [1, 2]), else it is a word. A number is
        equal to a number, a boolean to a boolean, a list to a list, None to a value that is not there, and a text also
        to VALUE as it stands. != is the opposite of =; < and > hold of two numbers or two texts only.
      sort: KEY, or -KEY for the largest first; several between commas. Runs without a value come last; what is then
        still equal, and all without it, is in the order of the paths, 'a/9' before 'a/10'.
      columns: KEYs; 'default' stands for those that are shown without it: path, state, step, top1, loss; up to 6 config
        keys in which the runs differ, see `_differing`; and error, where a run has one.

    Returns:
      The columns' full names, and the rows. Lists are JSON text.

    Raises:
      UserError: a condition cannot be read or compares what cannot be compared, a key is unknown or ambiguous.
    """
    connection.execute("BEGIN")  # all that follows is of one moment
    try:
        return _Selection(connection).table(where, sort, columns)
    except sqlite3.DatabaseError as error:  # damage within a table, which `refresh` did not come across
        [(_, _, file)] = connection.execute("PRAGMA database_list")
        if _code(error) not in _DAMAGE or not _removed(file):
            raise
        raise UserError(f"{file} was damaged, and is removed; the same command builds it again") from None
    finally:
        connection.rollback()


_CONDITION = re.compile(r"\s*([^=!<>~]+?)\s*(==|<=|>=|!=|=|<|>|~)\s*+(?![=!<>~])(.*?)\s*", re.DOTALL)
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_DEFAULT_COLUMNS = ("path", "state", "step", "top1", "loss")
_MOST_KEYS = 6  # that differ, among the default columns
# Keys that say where and how a run computes rather than what, and the seed, which sweeps repeat each variant with.
_NOISE = ("seed", "parallel", "hasty", "data.dir", "data.threads", "data.processes", "eval", "checkpoint", "log")
_SECTIONS = ("model", "optimizer", "schedule", "train", "data")  # in the order in which they are shown


class _Selection:
    """Reads the index."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection
        rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM runs")
        self._runs = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows}
        self._keys = [key for (key,) in connection.execute("SELECT DISTINCT key FROM config ORDER BY key")]

    def table(self, where: Sequence[str], sort: str, columns: Sequence[str]) -> tuple[list[str], list[tuple]]:
        paths = sorted(self._runs, key=_natural)
        for condition in where:
            paths = self._matching(paths, condition)
        for key in reversed([key.strip() for key in sort.split(",") if key.strip()]):
            paths = self._sorted(paths, key)
        names = []
        for column in columns or ["default"]:
            names += self._default(paths) if column == "default" else [column]
        shown = dict(self._column(name, f"--columns={name}") for name in names)
        return list(shown), [tuple(_cell(values.get(path)) for values in shown.values()) for path in paths]

    def _matching(self, paths: list[str], condition: str) -> list[str]:
        flag = f"--where={condition!r}"
        parts = _CONDITION.fullmatch(condition)
        if not parts:
            raise UserError(
                f"{flag} is not KEY OP VALUE with one of = != < <= > >= ~ (VALUE in quotes if it begins so)"
            )
        key, sign, text = parts.groups()
        wanted = _literal(text)
        name, values = self._column(key, flag)
        if sign == "~":
            part = wanted if isinstance(wanted, str) else text
            return [path for path in paths if part in _shown(values.get(path))]
        if sign not in _ORDERS:
            return [path for path in paths if _is_same(values.get(path), wanted, text) != (sign == "!=")]
        present = [value for value in values.values() if value is not None]
        if present and not any(_are_ordered(value, wanted) for value in present):
            example = _shown(present[0])[:_WIDEST]
            raise UserError(f"{flag}: {text!r} is neither less nor more than what {name} is, such as {example!r}")
        holds = _ORDERS[sign]
        return [path for path in paths if _are_ordered(values.get(path), wanted) and holds(values[path], wanted)]

    def _sorted(self, paths: list[str], key: str) -> list[str]:
        _, values = self._column(key.removeprefix("-"), f"--sort={key}")
        there = [path for path in paths if values.get(path) is not None]
        there.sort(key=lambda path: _rank(values[path]), reverse=key.startswith("-"))
        return there + [path for path in paths if values.get(path) is None]

    def _column(self, key: str, flag: str) -> tuple[str, dict[str, Any]]:
        """The full name of `key`, and its values by path; raises UserError, which begins with `flag`."""
        key = key.strip()
        if key in COLUMNS:
            return key, {path: row[key] for path, row in self._runs.items()}
        name = key.removeprefix("config.")  # as on the command line of a run
        names = [name] if name in self._keys else [one for one in self._keys if one.endswith(f".{name}")]
        if len(names) > 1:
            raise UserError(f"{flag}: {key!r} may be any of {', '.join(names)}; say which")
        if names:
            rows = self._connection.execute("SELECT path, value FROM config WHERE key = ?", names)
            return names[0], {path: json.loads(value) for path, value in rows}
        values = self._metric(key)
        if values or not self._runs:
            return key, values
        raise UserError(f"{flag}: there is no {key!r}; the nearest is {self._nearest(key)}")

    def _metric(self, key: str) -> dict[str, float | None]:
        split, _, name = key.rpartition("/")
        values = {}
        for path in self._runs:  # for each its last line, which the primary key finds at once
            values |= self._connection.execute(
                "SELECT path, value FROM metrics WHERE path = ? AND split = ? AND key = ? ORDER BY step DESC LIMIT 1",
                (path, split, name),
            )
        return values

    def _nearest(self, key: str) -> str:
        names = {name: [name] for name in COLUMNS}
        for full in self._keys:
            for name in (full, full.rpartition(".")[2]):
                names.setdefault(name, []).append(full)
        for split, name in self._connection.execute("SELECT DISTINCT split, key FROM metrics"):
            names.setdefault(f"{split}/{name}", []).append(f"{split}/{name}")
        [nearest] = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
        return " or ".join(dict.fromkeys(names[nearest]))

    def _default(self, paths: list[str]) -> list[str]:
        has_error = any(self._runs[path]["error"] for path in paths)
        return [*_DEFAULT_COLUMNS, *self._differing(paths), *["error"] * has_error]

    def _differing(self, paths: list[str]) -> list[str]:
        """The config keys in which runs differ or that only some have, but for `_NOISE`, in the order of `_SECTIONS`.

        Of more than `_MOST_KEYS`, those are left out that part the runs in the same way as one before them, as all that
        belongs to a network does beside its name; then the last ones.
        """
        texts: dict[str, dict[str, str]] = {}
        count = 0
        for path in paths:
            rows = self._connection.execute("SELECT key, value FROM config WHERE path = ?", (path,)).fetchall()
            count += bool(rows)  # damaged runs have none
            for key, value in rows:
                texts.setdefault(key, {})[path] = value
        keys = [
            key
            for key, values in texts.items()
            if (len(set(values.values())) > 1 or len(values) < count)
            and key not in _NOISE
            and key.partition(".")[0] not in _NOISE
        ]
        sections = {section: i for i, section in enumerate(_SECTIONS)}
        keys.sort(key=lambda key: (sections.get(key.partition(".")[0], len(sections)), not key.endswith(".name"), key))
        first: dict[tuple, str] = {}
        for key in keys:
            groups: dict[str | None, int] = {}  # numbered as they come, so that only the partition counts
            partition = tuple(groups.setdefault(texts[key].get(path), len(groups)) for path in paths)
            first.setdefault(partition, key)
        chosen = [*first.values(), *(key for key in keys if key not in first.values())][:_MOST_KEYS]
        return [key for key in keys if key in chosen]


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return json.loads(json.dumps(read(text)))  # tuples are lists in the index too
    return text


def _is_same(value: Any, wanted: Any, text: str) -> bool:
    if isinstance(value, str):
        return value in (wanted, text)
    if value is None or isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return value == wanted


def _are_ordered(value: Any, wanted: Any) -> bool:
    return all(map(_is_number, (value, wanted))) or all(isinstance(one, str) for one in (value, wanted))


def _rank(value: Any) -> tuple:
    return (0, value, "") if isinstance(value, (bool, int, float)) else (1, 0, _natural(_shown(value)))


def _natural(text: str) -> str:
    """A text that sorts as `text`, but its numbers as numbers, 9 before 10 and 0.25 before 0.5."""
    return re.sub(r"([0-9]+)(\.[0-9]+)?", lambda number: number[1].zfill(20) + (number[2] or ""), text)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cell(value: Any) -> Any:
    return _shown(value) if isinstance(value, (list, dict)) else value


_SHARES = ("top1", "top5", "best_top1")
_WIDEST = 60  # characters of a text but a path


def table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """The table for a terminal, in which measured numbers are rounded; values of a config are exact."""
    columns = list(zip(header, *rows, strict=True))
    for i, (name, *values) in enumerate(columns):
        cells = [name, *(_formatted(name, value) for value in values)]
        width = max(map(len, cells))
        is_numeric = all(value is None or _is_number(value) for value in values)
        columns[i] = [cell.rjust(width) if is_numeric else cell.ljust(width) for cell in cells]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _formatted(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not _is_number(value):
        line = "".join(c if c.isprintable() else " " for c in _shown(value))
        return line if name == "path" or len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"
    if name.rpartition("/")[2] in _SHARES:
        return f"{100 * value:.2f} %"
    if name == "modified":
        return f"{datetime.datetime.fromtimestamp(value):%Y-%m-%d %H:%M:%S}"
    if name == "seed" or (name not in COLUMNS and "/" not in name):
        return str(value)
    return f"{value:,.4g}" if abs(value) < 1000 and isinstance(value, float) else f"{value:,.0f}"


def write_csv(path: str | os.PathLike, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Writes the table with its numbers as they are, and nothing where there is no value.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None

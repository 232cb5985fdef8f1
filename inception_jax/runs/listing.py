"""Lists runs: finds them below a directory, selects and sorts them by config and results."""

import ast
import contextlib
import difflib
import json
import operator
import os
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from inception_jax.console import percent
from inception_jax.console import table as text_table
from inception_jax.errors import UserError
from inception_jax.paths import AnyPath, files_below, is_bucket, to_path, written
from inception_jax.runs.run import LAUNCH, Run, field, flat, is_free
from inception_jax.spreadsheet import row_writer


def _of_training(run: Run, key: str) -> list[float]:
    return [row[key] for row in run.metrics if row["split"] == "train" and isinstance(row.get(key), (int, float))]


# Columns beside 'path', the keys of the config ('model.width') and the metrics ('train/loss').
COLUMNS: dict[str, Callable[[Run], Any]] = {
    "state": lambda run: run.state,
    "error": lambda run: run.error or None,
    "network": lambda run: field(run.config, "model.name"),
    "data": lambda run: field(run.config, "data.name"),
    "step": lambda run: run.step,
    "total_steps": lambda run: run.total_steps,
    "evaluated_step": lambda run: field(run.results, "last.step"),
    "top1": lambda run: field(run.results, "last.top1"),
    "top5": lambda run: field(run.results, "last.top5"),
    "box_accuracy": lambda run: field(run.results, "last.box_accuracy"),
    "loss": lambda run: field(run.results, "last.loss"),
    "images": lambda run: field(run.results, "last.count"),
    "best_step": lambda run: field(run.results, "best.step"),
    "best_top1": lambda run: field(run.results, "best.top1"),
    "seconds": lambda run: field(run.launch, "seconds"),
    "images_per_second": lambda run: statistics.median(_of_training(run, "images_per_second") or [0]) or None,
    "peak_memory": lambda run: max(_of_training(run, "peak_memory"), default=None),
    "parameters": lambda run: field(run.network, "parameters"),
    "multiply_adds": lambda run: field(run.network, "multiply_adds"),
    "device": lambda run: field(run.network, "device"),
}
_DEFAULT = ("path", "state", "step", "top1", "loss")
_MOST_KEYS = 6  # of the config, among the default columns
_NOISE = ("seed", "fast_compile")  # sweeps repeat each variant with several seeds


def find(directory: str | os.PathLike) -> dict[str, Run]:
    """Reads all runs below a directory: those with a config.json, and those that a sweep started.

    Directories below a run, hidden ones and unreadable ones are left out. Links are followed; each directory is read
    once.

    Returns:
      The runs by their path relative to `directory`, '.' for itself, in natural order: 'a/9' before 'a/10'.

    Raises:
      UserError: `directory` cannot be read.
    """
    if is_bucket(directory):
        return _find_in_bucket(to_path(directory))
    root, runs, seen = os.path.abspath(directory), {}, set()

    def check(error: OSError) -> None:
        if error.filename == root:
            raise UserError(f"{root} cannot be read: {error.strerror}") from None

    for here, directories, files in os.walk(root, onerror=check, followlinks=True):
        is_run, real = not {"config.json", LAUNCH}.isdisjoint(files), os.path.realpath(here)
        if is_run and real not in seen:
            runs[os.path.relpath(here, root)] = Run.read(here)
        below = [] if is_run or real in seen else [name for name in directories if not name.startswith(".")]
        # Links last: what can be reached without them is named by its own path.
        directories[:] = sorted(below, key=lambda name: (os.path.islink(os.path.join(here, name)), name))
        seen.add(real)
    return {path: runs[path] for path in sorted(runs, key=_natural)}


def _find_in_bucket(root: AnyPath) -> dict[str, Run]:
    found: set[str] = set()
    for file in files_below(root):
        parent, _, name = file.rpartition("/")
        if name in ("config.json", LAUNCH):
            found.add(parent)
    # Not those below another run, such as its exported weights with a config.json.
    paths = [
        path for path in found if not any(f"{path}/".startswith(f"{one}/" if one else "") for one in found - {path})
    ]
    return {path or ".": Run.read(root / path if path else root) for path in sorted(paths, key=_natural)}


def select(
    runs: Mapping[str, Run], where: Sequence[str] = (), sort: str = "", columns: Sequence[str] = ()
) -> tuple[list[str], list[list[Any]]]:
    """Makes a table of the runs for which all conditions hold.

    A KEY is 'path' or one of `COLUMNS`; else a key of the config, such as 'model.width', of which the end is enough
    ('width') where no other key has the same; else 'SPLIT/METRIC', such as 'train/loss': the last value of a metric.

    Args:
      runs: what `find` returns.
      where: conditions KEY OP VALUE. OP is one of = != < <= > >= and ~, which holds if the value's text contains VALUE.
        VALUE is read as JSON or Python (0.25, true, None, [1, 2]), else it is a word. Text is also equal to VALUE as it
        is written. < and > compare two numbers or two texts.
      sort: KEY, or -KEY for the largest first; several between commas. Runs without a value come last.
      columns: KEYs; 'default' stands for path, state, step, top1, loss, up to six keys of the config in which the runs
        differ, and error where a run has one.

    Returns:
      The full names of the columns, and the rows.

    Raises:
      UserError: a condition cannot be read, or a key is unknown or ambiguous.
    """
    table = _Table(runs)
    paths = list(runs)
    for condition in where:
        paths = table.matching(paths, condition)
    for key in reversed([key.strip() for key in sort.split(",") if key.strip()]):
        _, values = table.column(key.removeprefix("-"), f"sort={key}")
        with_value = [path for path in paths if values[path] is not None]
        with_value.sort(key=lambda path: _rank(values[path]), reverse=key.startswith("-"))
        paths = with_value + [path for path in paths if values[path] is None]
    names = []
    for column in columns or ["default"]:
        names += table.default(paths) if column == "default" else [column]
    shown = dict(table.column(name, f"columns={name}") for name in names)
    return list(shown), [[values[path] for values in shown.values()] for path in paths]


_CONDITION = re.compile(r"\s*([^=!<>~]+?)\s*(==|<=|>=|!=|=|<|>|~)\s*+(?![=!<>~])(.*?)\s*", re.DOTALL)
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class _Table:
    def __init__(self, runs: Mapping[str, Run]):
        self._runs = runs
        self._configs = {path: flat(run.config or {}) for path, run in runs.items()}
        self._keys = sorted(set().union(*self._configs.values()))

    def column(self, key: str, argument: str) -> tuple[str, dict[str, Any]]:
        """The full name of a key, and its values by path; errors begin with `argument`."""
        key = key.strip()
        if key == "path":
            return key, {path: path for path in self._runs}
        if key in COLUMNS:
            return key, {path: COLUMNS[key](run) for path, run in self._runs.items()}
        name = key.removeprefix("config.")  # as on the command line of a run
        names = [name] if name in self._keys else [one for one in self._keys if one.endswith(f".{name}")]
        if len(names) > 1:
            raise UserError(f"{argument}: {key!r} may be any of {', '.join(names)}; say which")
        if names:
            return names[0], {path: config.get(names[0]) for path, config in self._configs.items()}
        split, _, metric = key.rpartition("/")
        values = {path: run.last(split, metric) for path, run in self._runs.items()}
        if self._runs and not any(value is not None for value in values.values()):
            raise UserError(f"{argument}: there is no {key!r}; the nearest is {self._nearest(key)}")
        return key, values

    def _nearest(self, key: str) -> str:
        metrics = {f"{row['split']}/{name}" for run in self._runs.values() for row in run.metrics for name in row}

        def likeness(name: str) -> float:
            return max(difflib.SequenceMatcher(None, key, one).ratio() for one in (name, name.rpartition(".")[2]))

        return max(("path", *COLUMNS, *self._keys, *sorted(metrics)), key=likeness)

    def matching(self, paths: list[str], condition: str) -> list[str]:
        """Those of `paths` for which a condition holds."""
        argument = f"where={condition!r}"
        parts = _CONDITION.fullmatch(condition)
        if not parts:
            raise UserError(f"{argument} must be KEY OP VALUE, with OP one of = != < <= > >= ~")
        key, sign, text = parts.groups()
        wanted = _literal(text)
        name, values = self.column(key, argument)
        if sign == "~":
            part = wanted if isinstance(wanted, str) else text
            return [path for path in paths if part in _text(values[path])]
        if sign not in _ORDERS:
            return [path for path in paths if _is_same(values[path], wanted, text) != (sign == "!=")]
        present = [value for value in values.values() if value is not None]
        if present and not any(_are_ordered(value, wanted) for value in present):
            raise UserError(f"{argument}: {name} is such as {_text(present[0])!r}, which has no order with {text!r}")
        return [p for p in paths if _are_ordered(values[p], wanted) and _ORDERS[sign](values[p], wanted)]

    def default(self, paths: list[str]) -> list[str]:
        """The columns that are shown unless others are asked for."""
        known = [path for path in paths if self._configs[path]]
        partitions: dict[tuple, str] = {}  # of keys that part the runs alike, such as all options of a network, one
        for key in sorted(self._keys, key=lambda key: (not key.endswith(".name"), key)):
            values = [_text(self._configs[path].get(key)) for path in known]
            if len(set(values)) > 1 and key not in _NOISE and not is_free(key):
                partitions.setdefault(tuple(map(values.index, values)), key)
        has_error = any(self._runs[path].error for path in paths)
        return [*_DEFAULT, *list(partitions.values())[:_MOST_KEYS], *["error"] * has_error]


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return json.loads(json.dumps(read(text)))  # tuples become lists, as in the runs
    return text


def _is_same(value: Any, wanted: Any, text: str) -> bool:
    if isinstance(value, str):
        return value in (wanted, text)
    if value is None or isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return value == wanted


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_ordered(value: Any, wanted: Any) -> bool:
    return all(map(_is_number, (value, wanted))) or all(isinstance(one, str) for one in (value, wanted))


def _rank(value: Any) -> tuple:
    return (0, value, "") if isinstance(value, (bool, int, float)) else (1, 0, _natural(_text(value)))


def _natural(text: str) -> str:
    """Text that sorts as `text`, but with its numbers as numbers: 9 before 10, 0.25 before 0.5."""
    return re.sub(r"([0-9]+)(\.[0-9]+)?", lambda number: number[1].zfill(20) + (number[2] or ""), text)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_WIDEST = 60  # characters of a cell, except for a path


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Formats what `select` returns for a terminal; measured numbers are rounded, those of a config are exact."""
    cells = [[_formatted(name, value) for name, value in zip(header, row, strict=True)] for row in rows]
    return text_table(header, cells, left=2 if list(header[:2]) == ["path", "state"] else 1)


def _formatted(name: str, value: Any) -> str:
    if _is_number(value) and (name in COLUMNS or "/" in name):
        if name.rpartition("/")[2] in ("top1", "top5", "best_top1", "box_accuracy"):
            return percent(value)
        return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    line = "".join(c if c.isprintable() else " " for c in _text(value))
    return line if name == "path" or len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"


def write_csv(path: AnyPath, header: Sequence[str], rows: Iterable[Sequence[Any]], raw_csv: bool = False) -> None:
    """Writes what `select` returns, with all digits; cells without a value are empty, lists are JSON.

    Args:
      path: file to write.
      header: names of the columns.
      rows: their values.
      raw_csv: see `spreadsheet.row_writer`.

    Raises:
      UserError: the file cannot be written.
    """
    cells = [[_text(value) if isinstance(value, list) else value for value in row] for row in rows]
    try:
        with written(path) as local, local.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            write = row_writer(file, raw_csv)
            for row in [header, *cells]:
                write(row)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None

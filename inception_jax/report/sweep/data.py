"""The data of sweeps: read from their directories, kept in one JSON file.

The data of one sweep is an object of
  sweep: the object of sweep.json, with every key of `_SWEEP`.
  threshold: top-1, a fraction; only where one was given.
  runs: objects of `_RUN`, one for each variant and seed of the sweep, whatever its state.
  evaluations: objects of `_EVALUATION`, one for each evaluation and seed.
States are those of `inception_jax.runs.run.STATES`; only finished runs are averaged.
"""

import json
import re
import statistics
from bisect import bisect_left
from typing import Any

from inception_jax.errors import UserError
from inception_jax.paths import AnyPath, bucket_errors, names_in
from inception_jax.runs.run import Run, field

_SWEEP = {
    "name": str,
    "file": str,
    "data": str,
    "title": str,
    "text": str,
    "base": dict,
    "baseline": str,
    "variants": dict,
    "printed": dict,
    "printed_what": str,
    "claims": list,
    "seeds": list,
    "evaluations": dict,
    "settings": list,
}
_NEEDED = ("name", "file", "baseline", "variants", "seeds")
_RUN = (
    "variant",
    "seed",
    "state",
    "error",  # why it is not finished
    "top1",  # of the last step, as top5 and loss; fractions
    "top5",
    "loss",
    "count",  # number of test images
    "step",
    "total_steps",
    "batch",
    "parameters",
    "multiply_adds",  # of the forward pass of one image
    "images_per_second",  # median of the log's lines
    "train_seconds",  # without evaluation and compilation
    "peak_memory",  # bytes
    "device",
    "evaluations",  # [step, top1, loss, seconds of training until then], by step
)
_EVALUATION = ("name", "seed", "state", "error", "top1", "top5", "loss", "count", "passes", "multiply_adds")


def read(directory: AnyPath, threshold: float | None = None) -> dict[str, Any]:
    """Reads the data of one sweep.

    Args:
      directory: what `python -m experiments.sweep` wrote, at any time.
      threshold: top-1, a fraction, to which steps are counted; None: the mean that the baseline ends with.

    Raises:
      UserError: the directory holds no sweep.
    """
    sweep = _sweep(directory)
    runs = []
    for variant in sweep["variants"]:
        for seed in sorted({*sweep["seeds"], *_seeds(directory / variant)}):
            found = _training(Run.read(directory / variant / str(seed)))
            runs.append(_complete(_RUN, {"variant": variant, "seed": seed, "evaluations": []} | found))
    costs = {(run["variant"], run["seed"]): run["multiply_adds"] for run in runs}
    evaluations = []
    for name, evaluation in sweep["evaluations"].items():
        for seed in sweep["seeds"]:
            members = [costs.get((member, seed)) for member in evaluation["members"]]
            found = _evaluation(Run.read(directory / "evaluations" / name / str(seed)), members)
            evaluations.append(_complete(_EVALUATION, {"name": name, "seed": seed} | found))
    given = {} if threshold is None else {"threshold": threshold}
    return {"sweep": sweep} | given | {"runs": runs, "evaluations": evaluations}


def load(file: AnyPath) -> dict[str, dict[str, Any]]:
    """Reads what `dump` wrote: the data of sweeps by name.

    Raises:
      UserError: the file cannot be read, or holds something else.
    """
    try:
        with bucket_errors(file):
            sweeps = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except ValueError:
        sweeps = None
    keys = {"sweep", "runs", "evaluations"}
    if not isinstance(sweeps, dict) or not all(isinstance(d, dict) and keys <= d.keys() for d in sweeps.values()):
        raise UserError(f"{file} does not hold the data of sweeps; name a file of such data, or a new one")
    return {name: data | {"sweep": _checked(data["sweep"], file)} for name, data in sweeps.items()}


def dump(sweeps: dict[str, dict[str, Any]]) -> str:
    """Returns JSON, sweeps by name, with a line for each run, so that two versions can be compared."""
    blocks = []
    for name, data in sorted(sweeps.items()):
        members = []
        for key, value in data.items():
            text = _compact(value)
            if isinstance(value, list) and value:
                text = "[\n" + ",\n".join(_compact(one) for one in value) + "\n]"
            elif key == "sweep":
                text = "{\n" + ",\n".join(f"{_compact(k)}: {_compact(v)}" for k, v in value.items()) + "\n}"
            members.append(f"{_compact(key)}: {text}")
        blocks.append(f"{_compact(name)}: {{\n" + ",\n".join(members) + "\n}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _sweep(directory: AnyPath) -> dict[str, Any]:
    file = directory / "sweep.json"
    try:
        with bucket_errors(file):
            content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{directory} holds no sweep.json; name the directory of a sweep") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{file} is damaged; start the sweep again, which writes it")
    return _checked(content, file)


def _checked(sweep: dict[str, Any], file: AnyPath) -> dict[str, Any]:
    """Returns the object of sweep.json with every key of `_SWEEP`; raises UserError if one is wrong."""
    lacking = [name for name in _NEEDED if name not in sweep]
    wrong = [name for name, kind in _SWEEP.items() if not isinstance(sweep.get(name, kind()), kind)]
    if lacking or wrong:
        what = f"has no {', '.join(lacking)}" if lacking else f"has a damaged {', '.join(wrong)}"
        raise UserError(f"{file} {what}; start the sweep again, which writes it")
    complete = {name: sweep.get(name, kind()) for name, kind in _SWEEP.items()}
    return complete | {"title": complete["title"] or complete["name"]}


def _seeds(directory: AnyPath) -> list[int]:
    names = [name for name in names_in(directory) if re.fullmatch(r"\d+", name)]
    return [int(name) for name in names if (directory / name).is_dir()]


def _complete(keys: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    return {key: values.get(key) for key in keys}


def _training(run: Run) -> dict[str, Any]:
    """The values of `_RUN` that a run tells of."""
    step, total, batch = run.step or 0, run.total_steps, field(run.config, "train.batch_size")
    state, finished = run.state, run.state == "finished"
    if finished and run.results is None:
        state, finished = "failed", False
    if finished:
        step = total
    split = field(run.config, "data.eval_split")
    train, test = ({row["step"]: row for row in run.metrics if row["split"] == name} for name in ("train", split))
    clock = _Clock(train, batch)
    memory = [value for row in train.values() if (value := _number(row, "peak_memory"))]
    found = {
        "state": state,
        "error": "" if finished else run.error or _progress(state, step, total),
        "step": step if run.config else None,
        "total_steps": total,
        "batch": batch,
        "images_per_second": clock.rate and _significant(clock.rate, 4),
        "train_seconds": clock.at(step),
        "peak_memory": max(map(int, memory), default=None),
        "evaluations": [
            [at, round(top1, 6), _loss(row), clock.at(at)]
            for at, row in sorted(test.items())
            if (top1 := _number(row, "top1")) is not None
        ],
    }
    if finished:  # an earlier evaluation is no result of the run
        found |= _accuracies(run.results["last"])
    return found | {key: field(run.network, key) for key in ("parameters", "multiply_adds", "device")}


def _progress(state: str, step: int, total: int | None) -> str:
    if state in ("waiting", "failed"):
        return "not started" if state == "waiting" else "no result"
    return f"at step {step:,} of {total:,}" if total else f"at step {step:,}"


class _Clock:
    """Seconds of training until a step, from the log's speeds."""

    def __init__(self, rows: dict[int, dict[str, Any]], batch: int | None):
        """Takes the log's lines by step. A line without a speed, such as the first step's, gets the median."""
        speeds = {step: _number(row, "images_per_second") for step, row in rows.items() if batch}
        self.rate = statistics.median(known) if (known := [speed for speed in speeds.values() if speed]) else None
        self._batch, self._steps, self._seconds = batch, [0], [0.0]
        for step in sorted(speeds) if self.rate else []:
            length = (step - self._steps[-1]) * batch / (speeds[step] or self.rate)
            self._steps.append(step)
            self._seconds.append(self._seconds[-1] + length)

    def at(self, step: int) -> float | None:
        """Seconds; None if no speed is known. Between two lines linear, after the last one at the median speed."""
        if self.rate is None:
            return None
        right = bisect_left(self._steps, step)
        if right == len(self._steps):
            return round(self._seconds[-1] + (step - self._steps[-1]) * self._batch / self.rate, 1)
        if self._steps[right] == step:
            return round(self._seconds[right], 1)
        (begin, end), (early, late) = self._steps[right - 1 : right + 1], self._seconds[right - 1 : right + 1]
        return round(early + (late - early) * (step - begin) / (end - begin), 1)


def _evaluation(run: Run, costs: list[int | None]) -> dict[str, Any]:
    """The values of `_EVALUATION`; `costs` are the multiply-adds of the members' forward passes."""
    if run.state == "damaged":
        return {"state": "damaged", "error": run.error}
    if run.evaluation is not None:
        try:
            last = run.evaluation["rows"][-1]  # the row of all members
            float(last["top1"])
            found = _accuracies(last) | {"passes": last["passes"], "multiply_adds": _cost(last["protocols"], costs)}
        except (LookupError, TypeError, ValueError) as error:
            return {"state": "damaged", "error": f"evaluation.json is damaged ({type(error).__name__}: {error})"}
        return {"state": "finished", "error": ""} | found
    state = "failed" if run.state == "finished" else run.state
    return {"state": state, "error": run.error or ("not started" if state == "waiting" else "no result")}


def _cost(protocols: list[dict[str, Any]], costs: list[int | None]) -> int | None:
    """Multiply-adds for an image, of all windows and members; None where windows are not of the network's own size."""
    windows = [None if protocol["name"] == "dense" else protocol["windows"] for protocol in protocols]
    if None in windows or None in costs:
        return None
    return sum(count * cost for count, cost in zip(windows, costs, strict=True))


def _accuracies(row: dict[str, Any]) -> dict[str, Any]:
    fractions = {key: row.get(key) if row.get(key) is None else round(row[key], 6) for key in ("top1", "top5")}
    return fractions | {"loss": _loss(row), "count": row.get("count")}


def _loss(row: dict[str, Any]) -> float | None:
    value = _number(row, "loss")
    return None if value is None else _significant(value, 5)


def _number(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _significant(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")

"""The data of sweeps: read from their directories, kept in one JSON file.

The data of one sweep is an object of
  sweep: the object of sweep.json, with every key of `_SWEEP`.
  threshold: top-1, a fraction; only where one was given.
  plan: the object of plan.json, with every key of `_PLAN`; only where there is one.
  runs: objects of `_RUN`, one for each variant and seed of the sweep, whatever its state.
  evaluations: objects of `_EVALUATION`, one for each evaluation and seed.
States are those of `inception_jax.runs.run.STATES`; only finished runs are averaged.

A sweep over several sets of images names them in "sets". Its variants and evaluations are named "SET/NAME", and its
baseline is a NAME, which each set has.
"""

import json
import math
import re
import statistics
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from inception_jax.errors import UserError
from inception_jax.paths import AnyPath, bucket_errors, names_in
from inception_jax.report.sweep.analysis import MARGINS
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
    "sets": list,
    "chance": dict,  # accuracy of guessing by set, fractions
}
_NEEDED = ("name", "file", "baseline", "variants", "seeds")
_PLAN: dict[str, type] = {
    "effect": float,  # points; the smallest effect that the sweep is to show
    "power": float,  # with which it shows it
    "level": float,  # 1 minus the error of all claims together
    "claims": int,  # number of claims that are tested together, of all sweeps of the document
    "seeds": int,
    "visible": float,  # points; the effect that so many seeds show with that power
    "pilot": dict,  # by set: "variant", "top1" by seed on the validation split, "sd" in points
    "rates": dict,  # by variant: worst top-1 on the validation split by learning rate
    "chosen": dict,  # by variant: the learning rate
}
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
      UserError: the directory holds no sweep, or its sweep.json or plan.json is damaged.
    """
    file = directory / "sweep.json"
    content = _object(file)
    if content is None:
        raise UserError(f"{directory} holds no sweep.json; name the directory of a sweep")
    sweep = complete(content, file)
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
    file = directory / "plan.json"
    content = _object(file)
    plan = {} if content is None else {"plan": _checked_plan(content, file)}
    return {"sweep": sweep} | given | plan | {"runs": runs, "evaluations": evaluations}


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
    if not isinstance(sweeps, dict) or not all(map(_is_data, sweeps.values())):
        raise UserError(f"{file} does not hold the data of sweeps; name a file of such data, or a new one")
    checked = {}
    for name, data in sweeps.items():
        plan = {"plan": _checked_plan(data["plan"], file)} if "plan" in data else {}
        checked[name] = data | {"sweep": complete(data["sweep"], file)} | plan
    return checked


def _is_data(data: Any) -> bool:
    """Whether an object holds a sweep's data, in which runs and evaluations have every key of theirs."""
    if not isinstance(data, dict) or not isinstance(data.get("sweep"), dict):
        return False
    return all(
        isinstance(data.get(kind), list) and all(_is_run(run, keys) for run in data[kind])
        for kind, keys in (("runs", _RUN), ("evaluations", _EVALUATION))
    ) and ("threshold" not in data or _is_fraction(data["threshold"]))


def _is_run(run: Any, keys: tuple[str, ...]) -> bool:
    if not isinstance(run, dict) or not run.keys() >= set(keys):
        return False
    texts = {"name", "variant", "state", "error", "device"}.intersection(keys)
    numbers = set(keys) - texts - {"loss", "evaluations"}
    return (
        _texts([run[key] for key in texts - {"device"}])
        and isinstance(run.get("device", ""), (str, type(None)))
        and isinstance(run["seed"], int)
        and all(run[key] is None or (_is_number(run[key]) and run[key] >= 0) for key in numbers)
        and (_is_fraction(run["top1"]) or (run["top1"] is None and run["state"] != "finished"))
        and (run["loss"] is None or _is_number(run["loss"]))
        and (
            "evaluations" not in keys
            or (isinstance(run["evaluations"], list) and all(map(_is_point, run["evaluations"])))
        )
    )


def _is_point(point: Any) -> bool:
    """Whether it is [step, top1, loss, seconds]."""
    if not isinstance(point, list) or len(point) != 4:
        return False
    return isinstance(point[0], int) and _is_fraction(point[1]) and all(n is None or _is_number(n) for n in point[2:])


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def dump(sweeps: dict[str, dict[str, Any]]) -> str:
    """Returns JSON, sweeps by name, with a line for each run, so that two versions can be compared."""
    blocks = []
    for name, data in sorted(sweeps.items()):
        members = []
        for key, value in data.items():
            text = _compact(value)
            if isinstance(value, list) and value:
                text = "[\n" + ",\n".join(_compact(one) for one in value) + "\n]"
            elif key in ("sweep", "plan"):
                text = "{\n" + ",\n".join(f"{_compact(k)}: {_compact(v)}" for k, v in value.items()) + "\n}"
            members.append(f"{_compact(key)}: {text}")
        blocks.append(f"{_compact(name)}: {{\n" + ",\n".join(members) + "\n}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _object(file: AnyPath) -> Any:
    """Returns what a JSON file of a sweep's directory holds, None if there is no such file."""
    try:
        with bucket_errors(file):
            return json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        return []  # as what is not an object, it is damaged


def complete(sweep: Any, file: AnyPath) -> dict[str, Any]:
    """Returns the object of sweep.json with every key of `_SWEEP`.

    Args:
      sweep: what the file holds.
      file: its name, for errors.

    Raises:
      UserError: a key is missing, or a value is of the wrong kind.
    """
    if not isinstance(sweep, dict):
        raise UserError(f"{file} is damaged; start the sweep again, which writes it")
    lacking = [name for name in _NEEDED if name not in sweep]
    if lacking:
        raise UserError(f"{file} has no {', '.join(lacking)}; start the sweep again, which writes it")
    made = {name: sweep.get(name, kind()) for name, kind in _SWEEP.items()}
    wrong = [name for name, kind in _SWEEP.items() if not isinstance(made[name], kind)]
    wrong = wrong or [name for name, holds in _HOLDS.items() if not holds(made)]
    if wrong:
        raise UserError(f"{file} has a damaged {', '.join(wrong)}; start the sweep again, which writes it")
    claims = [{"margin": MARGINS[claim["measure"]]} | claim for claim in made["claims"]]
    return made | {"title": made["title"] or made["name"], "claims": claims}


def _is_claim(claim: Any) -> bool:
    if not isinstance(claim, dict) or claim.get("measure") not in MARGINS:
        return False
    better, than = claim.get("better"), claim.get("than")
    listed = _texts(better) and _texts(than) and len(better) == len(than) > 0
    if not listed and not _texts([better, than]):
        return False
    least = 1 if claim["measure"] == "steps" else 0
    margin = claim.get("margin", MARGINS[claim["measure"]])
    return _texts([claim.get("text"), claim.get("source")]) and _is_number(margin) and margin > least


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _in_sets(made: dict[str, Any]) -> bool:
    names = [*made["variants"], *made["evaluations"]]
    return _texts(made["sets"]) and (
        not made["sets"] or all("/" in name and name.partition("/")[0] in made["sets"] for name in names)
    )


# What a value of sweep.json must hold, beyond its kind.
_HOLDS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "base": lambda made: isinstance(made["base"].get("overrides", {}), dict),
    "variants": lambda made: all(isinstance(changes, dict) for changes in made["variants"].values()),
    "evaluations": lambda made: all(
        isinstance(one, dict) and _texts(one.get("members")) for one in made["evaluations"].values()
    ),
    "seeds": lambda made: all(isinstance(seed, int) for seed in made["seeds"]),
    "claims": lambda made: all(map(_is_claim, made["claims"])),
    "sets": _in_sets,
    "chance": lambda made: all(_is_number(value) and 0 <= value < 1 for value in made["chance"].values()),
}


def _checked_plan(plan: Any, file: AnyPath) -> dict[str, Any]:
    """Returns the object of plan.json with every key of `_PLAN`; raises UserError if one is wrong."""
    if not isinstance(plan, dict):
        raise UserError(f"{file} is damaged; plan the sweep again, which writes it")
    made: dict[str, Any] = {"pilot": {}, "rates": {}, "chosen": {}} | plan
    lacking = [name for name in _PLAN if name not in made]
    if lacking:
        raise UserError(f"{file} lacks the plan's {', '.join(lacking)}; plan the sweep again, which writes it")
    wrong = [name for name, kind in _PLAN.items() if not _planned(kind, made[name])]
    if not wrong:
        wrong += [] if all(map(_is_pilot, made["pilot"].values())) else ["pilot"]
        wrong += [] if all(isinstance(rates, dict) for rates in made["rates"].values()) else ["rates"]
        wrong += [] if all(isinstance(rate, (str, int, float)) for rate in made["chosen"].values()) else ["chosen"]
    if wrong:
        raise UserError(f"{file} has a plan with a damaged {', '.join(wrong)}; plan the sweep again, which writes it")
    return made


def _planned(kind: type, value: Any) -> bool:
    if kind is dict:
        return isinstance(value, dict)
    # No effect is visible only if the pilot has a spread of 0: then any is.
    return _is_number(value) and value >= 0 and (kind is float or (isinstance(value, int) and value > 0))


def _is_pilot(pilot: Any) -> bool:
    return isinstance(pilot, dict) and _is_number(pilot.get("sd")) and pilot["sd"] >= 0


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

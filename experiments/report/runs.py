"""Reads the directory of a sweep into plain data, and keeps that of several sweeps in one JSON file.

The data of one sweep is an object of
  sweep: the object of sweep.json, every key of `_SWEEP` in it.
  threshold: top-1, a fraction; only where the command named one.
  runs: objects of `_RUN`, one for every variant and seed that the sweep wants, whatever became of it.
  evaluations: objects of `_EVALUATION`, one for every evaluation and seed.
"""

import contextlib
import json
import math
import re
import statistics
from bisect import bisect_left
from pathlib import Path

from inception_jax.errors import UserError

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
    "state",  # finished; or running, unfinished, failed, missing, stray (of no variant of the sweep): not averaged
    "error",  # why it is not finished
    "top1",  # of the last step, as top5 and loss; fractions
    "top5",
    "loss",
    "count",  # test images
    "step",
    "total_steps",
    "batch",
    "parameters",
    "multiply_adds",  # of one image's forward pass
    "images_per_second",  # median of the log's lines
    "train_seconds",  # without evaluation and compilation
    "peak_memory",  # bytes
    "device",
    "evaluations",  # [step, top1, loss, seconds of training until then], by step
)
_EVALUATION = ("name", "seed", "state", "error", "top1", "top5", "loss", "count", "passes", "multiply_adds")


class _DamagedError(Exception):
    """A file does not hold what it should; the message names it."""


def read(directory: Path) -> dict:
    """The data of one sweep, see above. What is damaged in a run makes that run a failed one.

    Raises:
      UserError: the directory holds no sweep.
    """
    sweep = _sweep(directory)
    runs = []
    for variant in sweep["variants"]:
        seeds = {*sweep["seeds"], *_seeds(directory / variant)}
        runs += [_run(directory / variant / str(seed), variant, seed) for seed in sorted(seeds)]
    for config in sorted(directory.glob("[!.]*/*/config.json")):  # what else is there, such as logs, is no run
        variant, seed = config.parts[-3:-1]
        if variant not in [*sweep["variants"], "evaluations"] and seed.isdecimal():
            stray = {"variant": variant, "seed": int(seed), "state": "stray", "error": "no variant of the sweep"}
            runs.append(_blank(_RUN, **stray))
    return {"sweep": sweep, "runs": runs, "evaluations": _evaluations(directory / "evaluations", sweep, runs)}


def load(file: Path) -> dict[str, dict]:
    """What `dump` wrote.

    Raises:
      UserError: the file cannot be read, or holds something else.
    """
    try:
        sweeps = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except ValueError:
        sweeps = None
    keys = {"sweep", "runs", "evaluations"}
    if not isinstance(sweeps, dict) or not all(isinstance(d, dict) and keys <= d.keys() for d in sweeps.values()):
        raise UserError(f"{file} does not hold the data of sweeps; name a file that --json wrote, or a new one")
    return {name: data | {"sweep": _checked(data["sweep"], file)} for name, data in sweeps.items()}


def dump(sweeps: dict[str, dict]) -> str:
    """JSON text, sweeps by name, a line for each run, so that a difference of two versions can be read."""
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


def key(data: dict) -> str:
    """What a sweep's data goes by in the JSON file."""
    return data["sweep"]["name"]


def _compact(value) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _sweep(directory: Path) -> dict:
    file = directory / "sweep.json"
    try:
        sweep = _read_json(file)
    except _DamagedError as error:
        raise UserError(f"{directory}: {error}; `python -m experiments.sweep` writes it anew") from None
    if sweep is None:
        raise UserError(
            f"{directory} holds no sweep.json; name the directory that "
            "`python -m experiments.sweep FILE --workdir=DIR` wrote"
        )
    return _checked(sweep, file)


def _checked(sweep: dict, file: Path) -> dict:
    """The object of sweep.json with every key of `_SWEEP`.

    Raises:
      UserError: a key that is needed is not there, or its value is of another kind.
    """
    lacking = [name for name in _NEEDED if name not in sweep]
    wrong = [name for name, kind in _SWEEP.items() if not isinstance(sweep.get(name, kind()), kind)]
    if lacking or wrong:
        what = f"lacks {', '.join(lacking)}" if lacking else f"has a strange {', '.join(wrong)}"
        raise UserError(f"{file} {what}; `python -m experiments.sweep` writes it anew")
    complete = {name: sweep.get(name, kind()) for name, kind in _SWEEP.items()}
    return complete | {"title": complete["title"] or complete["name"]}


def _seeds(directory: Path) -> list[int]:
    names = [path.name for path in directory.iterdir() if path.is_dir()] if directory.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch(r"\d+", name))


def _blank(keys: tuple[str, ...], **values) -> dict:
    return dict.fromkeys(keys) | {"error": ""} | values


def _run(path: Path, variant: str, seed: int) -> dict:
    blank = _blank(_RUN, variant=variant, seed=seed, evaluations=[])
    if not path.is_dir():
        return blank | {"state": "missing", "error": "not started"}
    try:
        return blank | _progress(path)
    except _DamagedError as error:
        return blank | {"state": "failed", "error": str(error)}


def _progress(path: Path) -> dict:
    """What is known of a run.

    Raises:
      _DamagedError: a file is damaged.
    """
    launch = _read_json(path / "run.json") or {}
    facts = _facts(path)
    step, total = facts.get("step") or 0, facts.get("total_steps")
    reached = f"step {step:,} of {total:,}" if total else f"step {step:,}"
    finished = "top1" in facts and step == total
    if finished:
        state, error = "finished", ""
    elif launch.get("state") == "failed":
        state, error = "failed", str(launch.get("error") or "no message")
    elif launch.get("state") == "finished":
        state, error = "failed", f"ended at {reached}"
    elif launch.get("state") == "running":
        state, error = "running", f"at {reached}, or it was killed there"
    else:
        state, error = "unfinished", f"at {reached}"
    if not finished:  # what an earlier evaluation gave is no result of the run
        facts |= dict.fromkeys(("top1", "top5", "loss", "count"))
    return facts | {"state": state, "error": error}


def _facts(path: Path) -> dict:
    record = _read_json(path / "config.json")
    if record is None or "network" not in record:  # which is added when the training begins
        return {}
    with _reading(path / "config.json"):
        network, config = record["network"], record["config"]
        facts = {name: network[name] for name in ("total_steps", "parameters", "multiply_adds", "device")}
        facts["batch"] = batch = config["train"]["batch_size"]
        split = config["data"]["eval_split"]
        int(batch), int(facts["total_steps"]), int(facts["parameters"]), int(facts["multiply_adds"])
    results = _read_json(path / "results.json")
    if results is not None:
        with _reading(path / "results.json"):
            last = results["last"]
            facts |= {"step": int(last["step"]), "count": int(last["count"]), "loss": _loss(last["loss"])}
            facts |= {name: _share(last[name]) for name in ("top1", "top5")}
    ended = facts.get("step") == facts["total_steps"]
    rows = _metrics(path / "metrics.jsonl", every=ended)
    with _reading(path / "metrics.jsonl"):
        train, test = ({row["step"]: row for row in rows if row["split"] == s} for s in ("train", split))
        clock = _Clock(train, batch)
        if not ended:
            facts["step"] = max([*train, *test, facts.get("step", 0)])
        memory = [row["peak_memory"] for row in train.values() if row.get("peak_memory")]
        facts |= {
            "images_per_second": clock.rate and _significant(clock.rate, 4),
            "train_seconds": clock.at(facts["step"]),
            "peak_memory": max(map(int, memory), default=None),
            "evaluations": [
                [step, _share(row["top1"]), _loss(row["loss"]), clock.at(step)] for step, row in sorted(test.items())
            ],
        }
    return facts


class _Clock:
    """Seconds of training until a step, from the log's speeds."""

    def __init__(self, rows: dict[int, dict], batch: int):
        """Takes the log's lines by step. A line without a speed, such as the first step's, gets the median."""
        speeds = {step: row.get("images_per_second") for step, row in rows.items()}
        self.rate = statistics.median(known) if (known := [speed for speed in speeds.values() if speed]) else None
        self._batch, self._steps, self._seconds = batch, [0], [0.0]
        for step in sorted(speeds) if self.rate else []:
            length = (step - self._steps[-1]) * batch / (speeds[step] or self.rate)
            self._steps.append(step)
            self._seconds.append(self._seconds[-1] + length)

    def at(self, step: int) -> float | None:
        """Seconds, None if no speed is known; linear between two lines, the median's speed behind the last one."""
        if self.rate is None:
            return None
        right = bisect_left(self._steps, step)
        if right == len(self._steps):
            return round(self._seconds[-1] + (step - self._steps[-1]) * self._batch / self.rate, 1)
        if self._steps[right] == step:
            return round(self._seconds[right], 1)
        (begin, end), (early, late) = self._steps[right - 1 : right + 1], self._seconds[right - 1 : right + 1]
        return round(early + (late - early) * (step - begin) / (end - begin), 1)


def _metrics(file: Path, every: bool) -> list[dict]:
    """The objects of metrics.jsonl. Unless `every` line must be whole, those that are not are left out.

    Raises:
      _DamagedError: a line that must be whole is not.
    """
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise _DamagedError(f"{file.name} cannot be read: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row["split"], str) or not isinstance(row["step"], int):
                raise TypeError
            rows.append(row)
        except (ValueError, TypeError, KeyError):
            if every:
                raise _DamagedError(f"{file.name} is damaged in line {number}") from None
    return rows


def _evaluations(directory: Path, sweep: dict, runs: list[dict]) -> list[dict]:
    """One for every evaluation of the sweep and seed, whatever became of it."""
    costs = {(run["variant"], run["seed"]): run["multiply_adds"] for run in runs}
    rows = []
    for name, evaluation in sweep["evaluations"].items():
        for seed in sweep["seeds"]:
            members = [costs.get((member, seed)) for member in evaluation["members"]]
            rows.append(_blank(_EVALUATION, name=name, seed=seed) | _evaluation(directory / name / str(seed), members))
    return rows


def _evaluation(path: Path, costs: list[int | None]) -> dict:
    """What is known of one evaluation; `costs` are the multiply-adds of its members' forward passes."""
    file = path / "evaluation.json"
    try:
        found = _read_json(file)
        if found is None:
            if not path.is_dir():
                return {"state": "missing", "error": "not started"}
            launch = _read_json(path / "run.json") or {}
            state = {"finished": "failed", "interrupted": "unfinished"}.get(launch.get("state"), launch.get("state"))
            return {"state": state or "unfinished", "error": str(launch.get("error") or "no result")}
        with _reading(file):
            last = found["rows"][-1]  # of all members
            row = {"passes": last["passes"], "multiply_adds": _cost(last["protocols"], costs)}
            row |= {"count": int(last["count"]), "loss": _loss(last["loss"])}
            row |= {key: _share(last[key]) for key in ("top1", "top5")}
        return row | {"state": "finished"}
    except _DamagedError as error:
        return {"state": "failed", "error": str(error)}


def _cost(protocols: list[dict], costs: list[int | None]) -> int | None:
    """Multiply-adds for an image of all windows and members; None where windows are not of the network's own size."""
    windows = [None if protocol["name"] == "dense" else protocol["windows"] for protocol in protocols]
    if None in windows or None in costs:
        return None
    return sum(count * cost for count, cost in zip(windows, costs, strict=True))


@contextlib.contextmanager
def _reading(file: Path):
    """Turns what goes wrong while the content of a file is used into an error that names the file."""
    try:
        yield
    except KeyError as error:
        raise _DamagedError(f"{file.name} lacks {error}") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError, IndexError) as error:
        raise _DamagedError(f"{file.name} is damaged ({error})") from None


def _read_json(file: Path) -> dict | None:
    """The object of a file, None if there is no such file.

    Raises:
      _DamagedError: it holds something else.
    """
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _DamagedError(f"{file.name} cannot be read: {error.strerror}") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _DamagedError(f"{file.name} is damaged")
    return content


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{value} is no fraction")
    return round(value, 6)


def _loss(value: float | None) -> float | None:
    """None where it is not finite."""
    return _significant(value, 5) if value is not None and math.isfinite(value) else None


def _significant(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")

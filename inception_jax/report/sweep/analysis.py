"""The statistics of a sweep: means over seeds, differences to the baseline, verdicts on what a paper claims.

Accuracies are fractions, as in the data; their differences are in points, that is hundredths.
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from inception_jax.console import plural

LEVEL = 0.95  # of the intervals
INTERVAL = f"{100 * LEVEL:g} % interval"
MARGIN = 1.0  # points up to which a variant counts as no worse: our choice, no paper's
# A training step costs a forward pass, and a backward pass of about twice as much: the gradients of the weights and
# those of the inputs each take a product of the size of the forward one.
TRAINING_COST = 3
VERDICTS = ("agrees", "disagrees", "inconclusive")


@dataclasses.dataclass(frozen=True)
class Interval:
    """The mean of paired differences, with Student's interval around it.

    Attributes:
      mean: of the differences; None without a pair.
      low, high: ends of the interval; None with fewer than two pairs.
      pairs: number of differences.
      flat: whether all are the same, so that the interval has no length and is no test.
    """

    mean: float | None
    low: float | None
    high: float | None
    pairs: int
    flat: bool = False

    @property
    def sign(self) -> int:
        """Returns 1 or -1 if the interval lies above or below 0, else 0."""
        if self.low is None or self.flat:
            return 0
        return (self.low > 0) - (self.high < 0)


def paired(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Returns the differences first - second, pair by pair."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if not differences:
        return Interval(None, None, None, 0)
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return Interval(mean, None, None, 1)
    if max(differences) - min(differences) < 1e-9:  # the rounding of floats, not a spread
        mean = 0.0 if abs(mean) < 1e-9 else mean
        return Interval(mean, mean, mean, len(differences), flat=True)
    from scipy import stats  # takes seconds to import

    low, high = stats.ttest_rel(first, second).confidence_interval(LEVEL)
    return Interval(mean, float(low), float(high), len(differences))


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant, or an evaluation, over its seeds; None is what was not measured.

    Attributes:
      name: of the variant or evaluation.
      changes: what it changes, in code spans.
      wanted: number of runs that the sweep wants.
      top1: fractions of the finished runs, by seed.
      steps: first evaluated step at which a finished run reaches the threshold, by seed; None: never.
      difference: to the baseline, in points; None for the baseline itself.
      others: means of `_MEANS` over the finished runs.
      printed: what the paper prints.
    """

    name: str
    changes: str
    wanted: int
    top1: dict[int, float]
    steps: dict[int, int | None]
    difference: Interval | None
    others: dict[str, float | None]
    printed: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of a paper, and what the runs say: one of `VERDICTS`, and the reason in words."""

    text: str
    source: str
    verdict: str
    words: str


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The statistics of one sweep.

    Attributes:
      threshold: top-1, a fraction, or None without a finished run of the baseline.
      given: whether the threshold was given; else it is the baseline's mean.
      rows: variants in the sweep's order, then evaluations.
      claims: in the sweep's order.
      absent: "name", "seed", "state", "error" of the runs and evaluations that are not averaged.
    """

    threshold: float | None
    given: bool
    rows: list[Row]
    claims: list[Claim]
    absent: list[dict]


_MEANS = ("parameters", "multiply_adds", "images_per_second", "train_seconds", "peak_memory", "total_steps", "batch")


def analyse(data: dict) -> Analysis:
    """Returns the statistics of a sweep's data, as `data.read` returns it."""
    sweep = data["sweep"]
    finished = _finished(data)
    top1 = {name: {seed: run["top1"] for seed, run in runs.items()} for name, runs in finished.items()}
    base = top1.get(sweep["baseline"], {})
    given = data.get("threshold")
    threshold = given if given is not None else statistics.fmean(base.values()) if base else None
    rows = []
    for name in [*sweep["variants"], *sweep["evaluations"]]:
        runs = finished.get(name, {})
        steps = {
            seed: first_step(run["evaluations"], threshold) for seed, run in runs.items() if run.get("evaluations")
        }
        rows.append(
            Row(
                name=name,
                changes=_changes(sweep, name),
                wanted=max(len(sweep["seeds"]), len(runs)),
                top1=top1.get(name, {}),
                steps={} if threshold is None else steps,
                difference=None if name == sweep["baseline"] else points(top1, [name], [sweep["baseline"]]),
                others={key: _mean(run.get(key) for run in runs.values()) for key in _MEANS},
                printed=str(sweep["printed"].get(name, "")),
            )
        )
    absent = [
        {"name": run.get("variant") or run.get("name")} | {key: run[key] for key in ("seed", "state", "error")}
        for run in [*data["runs"], *data["evaluations"]]
        if run["state"] != "finished"
    ]
    claims = [_judge(claim, finished, top1, len(sweep["seeds"])) for claim in sweep["claims"]]
    return Analysis(threshold, given is not None, rows, claims, absent)


def points(top1: dict[str, dict[int, float]], names: Sequence[str], others: Sequence[str]) -> Interval:
    """Returns the differences of each variant's top-1 to its counterpart's, over the seeds of both, in points."""
    pairs = [(100 * a, 100 * b) for a, b in _pairs(top1, names, others)]
    return paired([a for a, _ in pairs], [b for _, b in pairs])


def _pairs(of: dict[str, dict[int, Any]], names: Sequence[str], others: Sequence[str]) -> list[tuple[Any, Any]]:
    """The values of each variant and of its counterpart, over the seeds of both."""
    pairs = []
    for name, other in zip(names, others, strict=True):
        first, second = of.get(name, {}), of.get(other, {})
        pairs += [(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())]
    return pairs


def first_step(evaluations: Iterable[Sequence], target: float | None) -> int | None:
    """Returns the first trained step whose evaluation has at least the target's top-1, None if none has."""
    if target is None:
        return None
    return next((step for step, top1, *_ in evaluations if step > 0 and top1 >= target), None)


def curves(data: dict) -> dict[str, dict]:
    """Returns what is drawn of each variant, by its name.

    Returns:
      "mean": lists "step", "multiply_adds" (of training until then), "seconds", "top1", "top1_low", "top1_high",
      "loss", "loss_low", "loss_high", "seeds" over the steps that all finished runs evaluated; low and high are of
      the lowest and highest seed. "alone": the same lists of each run that is not finished.
    """
    drawn = {}
    for variant in data["sweep"]["variants"]:
        runs = [run for run in data["runs"] if run["variant"] == variant and run["evaluations"]]
        done = [run for run in runs if run["state"] == "finished"]
        alone = [_curve([run]) for run in runs if run["state"] != "finished"]
        drawn[variant] = {"mean": _curve(done), "alone": alone}
    return drawn


def _curve(runs: list[dict]) -> dict[str, list]:
    curve: dict[str, list] = {name: [] for name in ("step", "multiply_adds", "seconds", "seeds")}
    curve |= {f"{name}{end}": [] for name in ("top1", "loss") for end in ("", "_low", "_high")}
    by_step = [{step: rest for step, *rest in run["evaluations"]} for run in runs]
    for step in sorted(set.intersection(*map(set, by_step)) if by_step else ()):
        top1, loss, seconds = zip(*(run[step] for run in by_step), strict=True)
        curve["step"].append(step)
        curve["seeds"].append(len(runs))
        curve["multiply_adds"].append(_training_cost(runs[0], step))
        curve["seconds"].append(_mean(seconds))
        for name, values in (("top1", top1), ("loss", loss)):
            known = None not in values  # a mean over fewer seeds would jump
            curve[name].append(_mean(values) if known else None)
            curve[f"{name}_low"].append(min(values) if known else None)
            curve[f"{name}_high"].append(max(values) if known else None)
    return curve


def _training_cost(run: dict, step: int) -> int | None:
    """Multiply-adds of training until a step."""
    if run["multiply_adds"] is None or run["batch"] is None:
        return None
    return TRAINING_COST * step * run["batch"] * run["multiply_adds"]


def _finished(data: dict) -> dict[str, dict[int, dict]]:
    """Finished runs and evaluations by name and seed."""
    finished: dict[str, dict[int, dict]] = {}
    for run in [*data["runs"], *data["evaluations"]]:
        if run["state"] == "finished":
            finished.setdefault(run.get("variant") or run["name"], {})[run["seed"]] = run
    return finished


def _mean(values: Iterable[float | None]) -> float | None:
    values = list(values)
    return None if not values or None in values else statistics.fmean(values)


def _changes(sweep: dict, name: str) -> str:
    if name in sweep["evaluations"]:
        about = sweep["evaluations"][name]
        return f"{' + '.join(map(code, about.get('members', [])))} by {code(about.get('protocol', '?'))}"
    return ", ".join(setting(key, value) for key, value in sweep["variants"][name].items()) or "nothing"


def setting(key: str, value) -> str:
    """Returns a key of the config with its value, as code."""
    return code(f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def code(text: str) -> str:
    """Returns a code span of Markdown, which the page understands too."""
    return f"`{' '.join(str(text).replace('`', chr(39)).split())}`"


def signed(value: float, digits: int = 1) -> str:
    """Formats '+1.3', '-0.4' or '0.0'; with one digit more where rounding would hide that it is not 0."""
    text = f"{value:+.{digits}f}"
    if float(text) == 0 and abs(value) >= 0.005:
        text = f"{value:+.2f}"
    return text if float(text) else f"{0:.{digits}f}"


def in_points(difference: Interval, wanted: int) -> str:
    """Formats '+1.3 points, 95 % interval -0.4 to +3.0 from 3 pairs', or as much of it as is known."""
    if difference.mean is None:
        return "no pair of finished runs"
    pairs = _count(difference.pairs, wanted)
    mean = f"{signed(difference.mean)} points"
    if difference.low is None:
        return f"{mean} from {pairs}"
    if difference.flat:
        return f"{mean} in each of {pairs}" if difference.mean else f"the same in each of {pairs}"
    return f"{mean}, {INTERVAL} {signed(difference.low)} to {signed(difference.high)} from {pairs}"


def outcome(difference: Interval) -> str:
    """Returns 'clearly better', 'clearly worse' or 'undecided', or why it is none of them."""
    if difference.pairs < 2:
        return "too few runs"
    if difference.flat:
        return "undecided: without a spread there is no test" if difference.mean else "no difference"
    return {1: "clearly better", -1: "clearly worse", 0: "undecided"}[difference.sign]


def _count(pairs: int, wanted: int) -> str:
    return f"{pairs} of {wanted} pairs" if pairs < wanted else plural(pairs, "pair")


def _judge(claim: dict, finished: dict, top1: dict, wanted: int) -> Claim:
    better, than = ([one] if isinstance(one, str) else list(one) for one in (claim["better"], claim["than"]))
    rules = {"top1": _higher, "no_worse": _no_worse, "steps": _faster}
    measure = str(claim.get("measure", ""))
    if measure not in rules:
        verdict, words = "inconclusive", f"no such measure: {code(measure)}"
    else:
        of = finished if measure == "steps" else top1  # steps need the curves
        verdict, words = rules[measure](better, than, of, wanted * len(better))
    return Claim(str(claim.get("text", "")), str(claim.get("source", "")), verdict, words)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(code, names))


def _higher(better: Sequence[str], than: Sequence[str], top1: dict, wanted: int) -> tuple[str, str]:
    difference = points(top1, better, than)
    words = f"{_listed(better)} against {_listed(than)}: {in_points(difference, wanted)}"
    if difference.pairs < 2:
        return "inconclusive", f"{words}; too few runs"
    if difference.sign:
        return ("agrees" if difference.sign > 0 else "disagrees"), words
    return "inconclusive", f"{words}; the mean leans {_leaning(difference.mean)}"


def _leaning(mean: float) -> str:
    mean = round(mean, 9)  # the rounding of floats leans no way
    return "the claim's way" if mean > 0 else "against the claim" if mean < 0 else "neither way"


def _no_worse(better: Sequence[str], than: Sequence[str], top1: dict, wanted: int) -> tuple[str, str]:
    difference = points(top1, better, than)
    words = f"{_listed(better)} against {_listed(than)}: {in_points(difference, wanted)}"
    if difference.pairs < 2:
        return "inconclusive", f"{words}; too few runs"
    if difference.low >= -MARGIN:
        return "agrees", f"{words}; not {MARGIN:g} point worse"
    if difference.sign < 0 and difference.mean < -MARGIN:
        return "disagrees", words
    return "inconclusive", f"{words}; {MARGIN:g} point worse is not excluded"


def _faster(better: Sequence[str], than: Sequence[str], finished: dict, wanted: int) -> tuple[str, str]:
    fast, slow = [], []
    for first, second in _pairs(finished, better, than):
        if first.get("evaluations") and second.get("evaluations"):
            fast.append(first_step(first["evaluations"], second["top1"]))
            slow.append(first_step(second["evaluations"], second["top1"]))
    count = len(fast)
    better, than = _listed(better), _listed(than)
    goal = f"the top-1 that {than} ends with"
    if count < 2:
        return (
            "inconclusive",
            f"{better} to {goal}: {_count(count, wanted) if count else 'no pair'}; too few runs",
        )
    never = fast.count(None)
    if never == count:
        return "disagrees", f"{better} never reaches {goal}, in {_count(count, wanted)}"
    if never or None in slow:
        return "inconclusive", f"{better} reaches {goal} in {count - never} of {count} pairs only"
    ratio = paired([math.log(step) for step in fast], [math.log(step) for step in slow])
    times = f"{_ratio(math.exp(ratio.mean))} times the steps of {than}"
    words = f"{better} needs {times} to {goal}"
    if ratio.flat:
        words += f", in each of {_count(count, wanted)}; without a spread there is no test, the mean leans "
        return "inconclusive", words + _leaning(-ratio.mean)
    low, high = math.exp(ratio.low), math.exp(ratio.high)
    words += f", {INTERVAL} {_ratio(low)} to {_ratio(high)} from {_count(count, wanted)}"
    if ratio.sign:
        return ("agrees" if ratio.sign < 0 else "disagrees"), words
    return "inconclusive", f"{words}; the mean leans {_leaning(-ratio.mean)}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.1e}"

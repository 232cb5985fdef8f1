"""The statistics of a sweep: means over seeds, differences to the baseline, verdicts on what a paper claims.

Accuracies are fractions, as in the data; their differences are in points, that is hundredths.

Verdicts come from two families of hypotheses over all claims that are judged together, each corrected by Holm's
procedure (Holm 1979, "A simple sequentially rejective multiple test procedure"):
  differs: two-sided t tests of no difference; for "no_worse" one-sided ones against minus the margin and against 0.
  equivalent: two one-sided tests (TOST; Schuirmann 1987) against minus the margin and the margin, not for "no_worse".
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from inception_jax.console import percent, plural

LEVEL = 0.95  # of plain intervals, and of all verdicts of a family together
# Differences that do not matter, by measure: points, or for steps a ratio. Our choice, no paper's.
MARGINS = {"top1": 1.0, "no_worse": 1.0, "steps": 1.2}
AT_CHANCE = 3  # standard errors of guessing; a run below guessing plus so many has not learnt
# A training step costs a forward pass, and a backward pass of about twice as much: the gradients of the weights and
# those of the inputs each take a product of the size of the forward one.
TRAINING_COST = 3
VERDICTS = ("agrees", "disagrees", "equivalent", "inconclusive")


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The mean of paired differences over strata, each of which weighs the same.

    Attributes:
      mean: mean of the strata's means; None if a stratum has no pair.
      error: its standard error; None if a stratum has fewer than two pairs.
      degrees: degrees of freedom of the error, by Welch and Satterthwaite.
      pairs: number of differences.
      parts: means of the strata, None for one without a pair.
    """

    mean: float | None
    error: float | None
    degrees: float
    pairs: int
    parts: tuple[float | None, ...]

    @property
    def flat(self) -> bool:
        """Whether the differences of each stratum are all the same, so that there is no test."""
        return self.error == 0

    @property
    def tested(self) -> bool:
        """Whether there is a test: two pairs or more in each stratum, and a spread."""
        return bool(self.error)

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Returns the ends of Student's interval; None without a test."""
        if not self.tested:
            return None
        from scipy import stats  # takes seconds to import

        half = float(stats.t.isf((1 - level) / 2, self.degrees)) * self.error
        return self.mean - half, self.mean + half

    def above(self, value: float) -> float:
        """Returns the p value of the one-sided test that shows a mean above `value`; 1 without a test."""
        return self._tail(value, 1)

    def below(self, value: float) -> float:
        """Returns the p value of the one-sided test that shows a mean below `value`; 1 without a test."""
        return self._tail(value, -1)

    def _tail(self, value: float, sign: int) -> float:
        if not self.tested:
            return 1.0
        from scipy import stats

        return float(stats.t.sf(sign * (self.mean - value) / self.error, self.degrees))

    @property
    def sign(self) -> int:
        """Returns 1 or -1 if the plain interval lies above or below 0, else 0."""
        low, high = self.interval() or (0, 0)
        return (low > 0) - (high < 0)


def estimate(strata: Sequence[Sequence[float]]) -> Estimate:
    """Returns the mean of the strata's mean differences; the variance is the sum of s^2 / n over the strata, by K^2."""
    parts = tuple(statistics.fmean(values) if values else None for values in strata)
    pairs = sum(map(len, strata))
    if not parts or None in parts:
        return Estimate(None, None, 0, pairs, parts)
    mean = statistics.fmean(parts)
    mean = 0.0 if abs(mean) < 1e-9 else mean  # the rounding of floats
    if min(map(len, strata)) < 2:
        return Estimate(mean, None, 0, pairs, parts)
    spreads = [statistics.stdev(values) if max(values) - min(values) > 1e-9 else 0.0 for values in strata]
    variances = [spread**2 / len(values) for spread, values in zip(spreads, strata, strict=True)]
    error = math.sqrt(sum(variances)) / len(strata)
    if not error:
        return Estimate(mean, 0.0, 0, pairs, parts)
    terms = (variance**2 / (len(values) - 1) for variance, values in zip(variances, strata, strict=True))
    return Estimate(mean, error, sum(variances) ** 2 / sum(terms), pairs, parts)


def holm(p_values: Sequence[float], others: int = 0, error: float = 1 - LEVEL) -> list[float]:
    """Returns the level at which Holm's procedure tests each hypothesis: it is rejected if p is not above it.

    The smallest p is tested at error / m, the next at error / (m - 1), and so on until one is not rejected. All after
    it stay undecided, and are given the same level as it.

    Args:
      p_values: of the hypotheses that are known.
      others: number of hypotheses of the family that are not known yet. What is rejected without them would also be
        rejected with them, whatever their p.
      error: probability that any hypothesis is rejected by chance.
    """
    levels, left = [0.0] * len(p_values), len(p_values) + others
    for index in sorted(range(len(p_values)), key=p_values.__getitem__):
        levels[index] = error / left
        left -= p_values[index] <= levels[index]
    return levels


@dataclasses.dataclass(frozen=True)
class Row:
    """A variant, or an evaluation, over its seeds; None is what was not measured.

    Attributes:
      name: of the variant or evaluation, with its set.
      data: its set; "" in a sweep without sets.
      changes: what it changes, each a code span or several.
      wanted: number of runs that the sweep wants.
      at_chance: number of finished runs that are no better than guessing, which nothing else counts.
      top1: fractions of the finished runs, by seed.
      steps: first evaluated step at which a finished run reaches the threshold, by seed; None: never.
      difference: to the baseline of its set, in points; None for the baseline itself.
      others: means of `_MEANS` over the finished runs.
      rate: learning rate that the plan chose, or "".
      printed: what the paper prints.
    """

    name: str
    data: str
    changes: list[str]
    wanted: int
    at_chance: int
    top1: dict[int, float]
    steps: dict[int, int | None]
    difference: Estimate | None
    others: dict[str, float | None]
    rate: str
    printed: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of a paper, and what the runs say.

    Attributes:
      text, source: as the sweep states them.
      measure: one of `MARGINS`.
      margin: difference that does not matter, in points; of steps, a ratio.
      verdict: one of `VERDICTS`.
      words: the reason.
      mean: of the difference in points; of steps, the ratio of `better` to `than`. None without an estimate.
      interval: its ends, at `level`; None without a test.
      level: that at which the test was made, after the correction for the number of claims.
      ceiling: whether the errors themselves are below the margin, so that no larger difference was possible.
    """

    text: str
    source: str
    measure: str
    margin: float
    verdict: str
    words: str
    mean: float | None = None
    interval: tuple[float, float] | None = None
    level: float | None = None
    ceiling: bool = False


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The statistics of one sweep.

    Attributes:
      thresholds: by set, top-1 as a fraction, to which steps are counted; none for a set without a finished run of the
        baseline, nor in a planned sweep that claims nothing about steps.
      given: whether the threshold was given; else it is the baseline's mean.
      rows: variants in the sweep's order, then evaluations.
      claims: in the sweep's order.
      absent: "name", "seed", "state", "error" of the runs and evaluations that are not averaged.
    """

    thresholds: dict[str, float]
    given: bool
    rows: list[Row]
    claims: list[Claim]
    absent: list[dict]


_MEANS = ("parameters", "multiply_adds", "images_per_second", "train_seconds", "peak_memory", "total_steps", "batch")


def analyse(data: dict) -> Analysis:
    """Returns the statistics of one sweep's data, as `data.read` returns it.

    Its claims are one family with the others of its plan, see `family_of`.
    """
    return analyse_together({"": data})[""]


def analyse_together(sweeps: Mapping[str, dict]) -> dict[str, Analysis]:
    """Returns the statistics of several sweeps by name. All their claims are one family, see `family_of`."""
    questions = {name: _questions(data) for name, data in sweeps.items()}
    others = family_of(sweeps.values()) - sum(map(len, questions.values()))
    claims = iter(_judged([question for one in questions.values() for question in one], others))
    return {name: _analysed(data, [next(claims) for _ in questions[name]]) for name, data in sweeps.items()}


def family_of(sweeps: Iterable[dict]) -> int:
    """Returns the number of claims that are corrected together: of these sweeps, or of their plans if that is more."""
    sweeps = list(sweeps)
    planned = (data["plan"]["claims"] for data in sweeps if "plan" in data)
    return max([sum(len(data["sweep"]["claims"]) for data in sweeps), *planned])


def set_of(sweep: dict, name: str) -> str:
    """Returns the set of a variant or evaluation; "" in a sweep without sets."""
    return name.partition("/")[0] if sweep["sets"] else ""


def short(sweep: dict, name: str) -> str:
    """Returns the name of a variant or evaluation without its set."""
    return name.partition("/")[2] if sweep["sets"] else name


def baseline_of(sweep: dict, data: str) -> str:
    """Returns the full name of the baseline of a set."""
    return f"{data}/{sweep['baseline']}" if data else sweep["baseline"]


def mark_chance(data: dict) -> dict:
    """Returns the data, in which finished runs that are no better than guessing have the state "at chance"."""
    chance = data["sweep"]["chance"]

    def marked(run: dict) -> dict:
        guessing = chance.get(set_of(data["sweep"], _name(run)))
        if run["state"] != "finished" or guessing is None or not run["count"]:
            return run
        if run["top1"] >= guessing + AT_CHANCE * math.sqrt(guessing * (1 - guessing) / run["count"]):
            return run
        return run | {"state": "at chance", "error": f"top-1 is {percent(run['top1'])}, guessing {percent(guessing)}"}

    return data | {kind: list(map(marked, data[kind])) for kind in ("runs", "evaluations")}


def _analysed(data: dict, claims: list[Claim]) -> Analysis:
    data = mark_chance(data)
    sweep, chosen = data["sweep"], data.get("plan", {}).get("chosen", {})
    finished = _in_state(data, "finished")
    stuck = _in_state(data, "at chance")
    top1 = _values(finished, "top1")
    given = data.get("threshold")
    thresholds = {}
    # A planned sweep evaluates often only if it claims something about steps.
    counts_steps = not sweep["sets"] or any(claim["measure"] == "steps" for claim in sweep["claims"])
    for one in sweep["sets"] or [""]:
        ends = top1.get(baseline_of(sweep, one), {}).values()
        if given is not None or (ends and counts_steps):
            thresholds[one] = given if given is not None else statistics.fmean(ends)
    rows = []
    for name in [*sweep["variants"], *sweep["evaluations"]]:
        runs, one = finished.get(name, {}), set_of(sweep, name)
        base, threshold = baseline_of(sweep, one), thresholds.get(one)
        steps = {
            seed: first_step(run["evaluations"], threshold) for seed, run in runs.items() if run.get("evaluations")
        }
        rows.append(
            Row(
                name=name,
                data=one,
                changes=_changes(sweep, name),
                wanted=max(len(sweep["seeds"]), len(runs)),
                at_chance=len(stuck.get(name, {})),
                top1=top1.get(name, {}),
                steps={} if threshold is None else steps,
                difference=None if name == base else estimate(_differences(top1, [name], [base])),
                others={key: _mean(run.get(key) for run in runs.values()) for key in _MEANS},
                rate=str(chosen.get(name, "")),
                printed=str(sweep["printed"].get(short(sweep, name), "")),
            )
        )
    absent = [
        {"name": _name(run)} | {key: run[key] for key in ("seed", "state", "error")}
        for run in [*data["runs"], *data["evaluations"]]
        if run["state"] != "finished"
    ]
    return Analysis(thresholds, given is not None, rows, claims, absent)


def _differences(top1: dict[str, dict[int, float]], names: Sequence[str], others: Sequence[str]) -> list[list[float]]:
    """The differences of each variant's top-1 to its counterpart's, in points: a stratum each."""
    return [[100 * a - 100 * b for a, b in pairs] for pairs in _pairs(top1, names, others)]


def _pairs(of: dict[str, dict[int, Any]], names: Sequence[str], others: Sequence[str]) -> list[list[tuple[Any, Any]]]:
    """The values of each variant and of its counterpart, over the seeds of both."""
    strata = []
    for name, other in zip(names, others, strict=True):
        first, second = of.get(name, {}), of.get(other, {})
        strata.append([(first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())])
    return strata


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
    data, drawn = mark_chance(data), {}
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


def _in_state(data: dict, state: str) -> dict[str, dict[int, dict]]:
    """Runs and evaluations in a state, by name and seed."""
    found: dict[str, dict[int, dict]] = {}
    for run in [*data["runs"], *data["evaluations"]]:
        if run["state"] == state:
            found.setdefault(_name(run), {})[run["seed"]] = run
    return found


def _name(run: dict) -> str:
    return run.get("variant") or run["name"]


def _mean(values: Iterable[float | None]) -> float | None:
    values = list(values)
    return None if not values or None in values else statistics.fmean(values)


def _changes(sweep: dict, name: str) -> list[str]:
    if name in sweep["evaluations"]:
        about = sweep["evaluations"][name]
        members = " + ".join(code(short(sweep, member)) for member in about["members"])
        return [f"{members} by {code(about.get('protocol', '?'))}"]
    return list(map(setting, sweep["variants"][name], sweep["variants"][name].values()))


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


def in_points(difference: Estimate, wanted: int) -> str:
    """Formats '+1.3 points, 95 % interval -0.4 to +3.0 from 3 pairs', or as much of it as is known."""
    start, end = _around(difference, _count(difference.pairs, wanted))
    return f"{start}{_interval(difference.interval(), LEVEL, signed)}{end}"


def _around(difference: Estimate, pairs: str) -> tuple[str, str]:
    """What stands before and behind an interval in points."""
    if difference.mean is None:
        return "", pairs
    mean = f"{signed(difference.mean)} points"
    if difference.flat and len(difference.parts) == 1:
        return (mean if difference.mean else "the same"), f" in each of {pairs}"
    return mean, f" from {pairs}"


def _interval(ends: tuple[float, float] | None, level: float, form: Callable[[float], str]) -> str:
    return f", {interval_name(level)} {form(ends[0])} to {form(ends[1])}" if ends else ""


def ratio(value: float) -> str:
    """Formats a ratio: '0.41' or '1.2e+03'."""
    return f"{value:.2f}" if value < 100 else f"{value:.1e}"


def interval_name(level: float) -> str:
    """Returns '95 % interval'."""
    return f"{100 * level:.4g} % interval"


def outcome(difference: Estimate) -> str:
    """Returns 'clearly better', 'clearly worse' or 'undecided', or why it is none of them."""
    if difference.error is None:
        return "too few runs"
    if difference.flat:
        return "undecided: without a spread there is no test" if difference.mean else "no difference"
    return {1: "clearly better", -1: "clearly worse", 0: "undecided"}[difference.sign]


def _count(pairs: int, wanted: int, lost: int = 0) -> str:
    """Formats '3 pairs' or '2 of 3 pairs, 1 lost to a run at chance'."""
    count = "no pair of finished runs" if not pairs else plural(pairs, "pair")
    count = f"{pairs} of {wanted} pairs" if 0 < pairs < wanted else count
    return f"{count}, {lost} lost to {'a run' if lost == 1 else 'runs'} at chance" if lost else count


# ---- Claims


@dataclasses.dataclass(frozen=True)
class _Question:
    """A claim, and the estimate that its verdict is made of.

    Attributes:
      claim: of the sweep.
      gain: how far the runs are on the claim's side: points, or the logarithm of the ratio of steps; None: nothing to
        test.
      start, end: what stands before and behind the interval.
      reason: why there is no test, if that must be said.
      at_most: whether the true gain may be smaller; then it can only tell against the claim.
      ceiling: whether no difference above the margin was possible, because both sides have smaller errors.
    """

    claim: dict
    gain: Estimate | None
    start: str
    end: str = ""
    reason: str = ""
    at_most: bool = False
    ceiling: bool = False

    @property
    def measure(self) -> str:
        return self.claim["measure"]

    @property
    def margin(self) -> float:
        """In the unit of the gain."""
        margin = float(self.claim["margin"])
        return math.log(margin) if self.measure == "steps" else margin

    def better(self) -> float:
        """The p value that shows the claim."""
        if self.gain is None or self.at_most:
            return 1.0
        return 2 * self.gain.above(-self.margin if self.measure == "no_worse" else 0)

    def worse(self) -> float:
        """The p value that shows a difference against the claim."""
        return 1.0 if self.gain is None else 2 * self.gain.below(0)

    def equivalent(self) -> float:
        """The p value that shows a difference below the margin, whatever its sign."""
        if self.gain is None or self.at_most:
            return 1.0
        return max(self.gain.above(-self.margin), self.gain.below(self.margin))


def _judged(questions: Sequence[_Question], others: int) -> list[Claim]:
    """Returns the claims with their verdicts, which are corrected together, and for `others` of their family."""
    differs = holm([min(question.better(), question.worse()) for question in questions], others)
    two_sided = [index for index, question in enumerate(questions) if question.measure != "no_worse"]
    equivalent = holm([questions[index].equivalent() for index in two_sided], others)
    equivalents = dict(zip(two_sided, equivalent, strict=True))
    return [
        _answer(question, level, equivalents.get(index))
        for index, (question, level) in enumerate(zip(questions, differs, strict=True))
    ]


def _answer(question: _Question, differs: float, equivalent: float | None) -> Claim:
    """The verdict on a claim by tests at these levels; the interval has the level of the test that decided."""
    claim, gain = question.claim, question.gain
    in_steps, one_sided = question.measure == "steps", question.measure == "no_worse"
    mean = None if gain is None or gain.mean is None else _steps_ratio(gain.mean) if in_steps else gain.mean
    words = question.start + question.end + (f"; {question.reason}" if question.reason else "")
    told = Claim(claim["text"], claim["source"], question.measure, float(claim["margin"]), "inconclusive", words, mean)
    if gain is None or not gain.tested:
        return told
    small = equivalent is not None and question.equivalent() <= equivalent
    if question.better() <= differs:
        verdict = "agrees"
    elif question.worse() <= differs and not (one_sided and gain.mean >= -question.margin):
        verdict = "disagrees"
    else:
        verdict = "equivalent" if small else "inconclusive"
    level = 1 - differs
    if verdict == "equivalent":
        level = 1 - 2 * equivalent  # two tests of one side each
    elif verdict == "inconclusive" and equivalent is not None:
        level = 1 - min(differs, 2 * equivalent)  # the wider interval: it holds 0, and ends outside of the margin
    low, high = gain.interval(level)
    ends = (_steps_ratio(high), _steps_ratio(low)) if in_steps else (low, high)
    reason = _reason(question, verdict, small)
    words = f"{question.start}{_interval(ends, level, ratio if in_steps else signed)}{question.end}"
    words += f"; {reason}" if reason else ""
    return dataclasses.replace(told, verdict=verdict, words=words, interval=ends, level=level, ceiling=question.ceiling)


def _steps_ratio(gain: float) -> float:
    """The ratio of steps of a gain; within the range of floats, which the interval of two pairs may leave."""
    return math.exp(min(max(-gain, -600), 600))


def _reason(question: _Question, verdict: str, small: bool) -> str:
    margin = question.claim["margin"]
    if question.measure == "no_worse":
        size = in_words(margin)
        errors = f"; the errors are below {size}" if question.ceiling else ""
        return {"agrees": f"not {size} worse{errors}", "inconclusive": f"{size} worse is not excluded"}.get(verdict, "")
    if small:
        if question.measure == "steps":
            return f"the ratio is within 1/{margin:g} and {margin:g}"
        return f"the difference is below {in_words(margin)}{', as are the errors' if question.ceiling else ''}"
    return f"the mean leans {_leaning(question.gain.mean)}" if verdict == "inconclusive" else ""


def in_words(points: float) -> str:
    """Formats '1 point' or '2.5 points'."""
    return f"{points:g} point{'' if points == 1 else 's'}"


def _leaning(gain: float) -> str:
    return "the claim's way" if gain > 0 else "against the claim" if gain < 0 else "neither way"


def _questions(data: dict) -> list[_Question]:
    data = mark_chance(data)
    finished, stuck = _in_state(data, "finished"), _in_state(data, "at chance")
    return [_question(claim, data["sweep"], finished, stuck) for claim in data["sweep"]["claims"]]


def _question(claim: dict, sweep: dict, finished: dict, stuck: dict) -> _Question:
    better, than = ([one] if isinstance(one, str) else list(one) for one in (claim["better"], claim["than"]))
    subject, other = (", ".join(dict.fromkeys(code(short(sweep, name)) for name in names)) for names in (better, than))
    goal = f"the last top-1 of {other} minus {in_words(MARGINS['top1'])}"
    if claim["measure"] == "steps":
        steps = _step_pairs(finished, better, than)
        sizes = list(map(len, steps))
    else:
        top1 = _values(finished, "top1")
        strata = _differences(top1, better, than)
        sizes = list(map(len, strata))
    pairs = _count(sum(sizes), len(sweep["seeds"]) * len(better), _lost(finished, stuck, better, than))
    few = [names for *names, size in zip(better, than, sizes, strict=True) if size < 2]
    reason = ""
    if few:
        reason = "too few runs" + (f" of {' and '.join(map(code, few[0]))}" if len(better) > 1 else "")
    sets = [set_of(sweep, name) for name in better]
    margin = "" if claim["margin"] == MARGINS[claim["measure"]] else f", margin {claim['margin']:g}"
    if claim["measure"] != "steps":
        gain = estimate(strata)
        start, end = _around(gain, pairs)
        end += _by_set(gain, sets, signed) + margin
        start, reason = f"{subject} against {other}: {start}", reason or _without_spread(gain)
        ceiling = max(_error(top1, better), _error(top1, than)) < claim["margin"]
        return _Question(claim, gain, start, end, reason, ceiling=ceiling)
    if few:
        return _Question(claim, None, f"{subject} to {goal}: {pairs}", reason=reason)
    gain = estimate([[math.log(slow) - math.log(fast) for fast, slow, _ in values] for values in steps])
    never = sum(not arrived for values in steps for *_, arrived in values)
    least = "at least " if never else ""
    start = f"{subject} needs {least}{ratio(_steps_ratio(gain.mean))} times the steps of {other} to {goal}"
    means = _by_set(gain, sets, lambda gain: ratio(_steps_ratio(gain)))
    end = f"{', in each of' if gain.flat else ' from'} {pairs}{means}{margin}"
    end += f"; in {plural(never, 'pair')} it never gets there, and all its steps count" if never else ""
    return _Question(claim, gain, start, end, _without_spread(gain), at_most=never > 0)


def _error(top1: dict[str, dict[int, float]], names: Sequence[str]) -> float:
    """The mean error of variants in points, each with the same weight; 100 if one has no run."""
    means = [_mean(top1.get(name, {}).values()) for name in names]
    return 100.0 if None in means else 100 - 100 * statistics.fmean(means)


def _without_spread(gain: Estimate) -> str:
    return f"without a spread there is no test, the mean leans {_leaning(gain.mean)}" if gain.flat else ""


def _values(runs: dict[str, dict[int, dict]], key: str) -> dict[str, dict[int, Any]]:
    return {name: {seed: run[key] for seed, run in by_seed.items()} for name, by_seed in runs.items()}


def _step_pairs(finished: dict, better: Sequence[str], than: Sequence[str]) -> list[list[tuple[int, int, bool]]]:
    """The steps of each pair of runs to the last top-1 of the second, minus the margin, and whether the first arrives.

    A first run that never does counts with all its steps, which are fewer than it needs. At the end a curve is flat:
    without the margin, noise would decide when and whether a run arrives.
    """
    found: list[list[tuple[int, int, bool]]] = []
    for pairs in _pairs(finished, better, than):
        found.append([])
        for first, second in pairs:
            goal = second["top1"] - MARGINS["top1"] / 100
            slow = first_step(second.get("evaluations") or (), goal)
            if slow and first.get("evaluations"):
                fast = first_step(first["evaluations"], goal)
                found[-1].append((fast or first["evaluations"][-1][0], slow, fast is not None))
    return found


def _lost(finished: dict, stuck: dict, better: Sequence[str], than: Sequence[str]) -> int:
    """Number of pairs that have a run at chance, and otherwise finished ones."""
    every = {name: finished.get(name, {}) | stuck.get(name, {}) for name in (*better, *than)}
    return sum(
        len(a) - len(b) for a, b in zip(_pairs(every, better, than), _pairs(finished, better, than), strict=True)
    )


def _by_set(gain: Estimate, sets: Sequence[str], form: Callable[[float], str]) -> str:
    """' (glyphs +3.1, textures -0.4; the signs differ)', the means of each set where there are several."""
    parts: dict[str, list] = {}
    for name, part in zip(sets, gain.parts, strict=True):
        parts.setdefault(name, []).append(part)
    means = {name: mean for name, values in parts.items() if (mean := _mean(values)) is not None}
    if len(parts) < 2 or not means:
        return ""
    listed = ", ".join(f"{name} {form(mean)}" for name, mean in means.items())
    return f" ({listed}{'; the signs differ' if min(means.values()) < 0 < max(means.values()) else ''})"

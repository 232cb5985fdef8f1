"""Planned sweeps: tune, plan, train.

1. Tuning: each variant is trained on each set of images with three learning rates, those that may be the best with two
   seeds, and evaluated on the validation split. The baseline is trained with more seeds at its best rate: the pilot.
2. The plan, DIR/plan.json: the learning rates, and the number of seeds with which the smallest effect of interest is
   seen, from the pilot's spread between seeds. It is written once, before any result is known.
3. Training: each variant is trained with its rates and all seeds, and evaluated on the test split.

Each variant is a task of 1. and a task of 3.: a process that trains it on all sets, by one program, see
`inception_jax.training.seeds`.
"""

import fnmatch
import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import sweeps
from experiments.sweep import plan
from experiments.sweep.plan import EVALUATIONS, Task
from experiments.sweeps import Sweep
from inception_jax.errors import UserError
from inception_jax.paths import AnyPath, bucket_errors, read_whole, write_whole
from inception_jax.report.sweep import power
from inception_jax.runs.run import Run

EFFECT = 1.0  # points; a smaller difference does not matter, see `analysis.MARGINS`
POWER, LEVEL = 0.8, 0.95
LEAST_SEEDS, MOST_SEEDS = 3, 8
TUNING_SEEDS = 2  # of the learning rate that is chosen: with one, a rate is chosen that fails with the next
PILOT_SEEDS = 4
PLAN = "plan.json"
TUNING, TRAINING = "tuning", "training"  # directories of the tasks


def tasks_of(
    sweep: Sweep, file: str, directory: AnyPath, phase: str, patterns: Sequence[str], settings: Sequence[str]
) -> list[Task]:
    """Returns the tasks of a phase, one for each variant.

    Args:
      sweep: what `plan.load` returns.
      file: FILE or FILE:DATA, as `plan.load` takes it.
      directory: directory of the sweep, absolute.
      phase: `TUNING` or `TRAINING`.
      patterns: names such as 'x5*'; variants that match one are taken. None given: all.
      settings: flags for all trainings, '--config.KEY=VALUE'.

    Raises:
      UserError: a pattern matches no variant.
    """
    path, colon, data = file.partition(":")
    found = Path(path).resolve()  # tasks run in the project's directory
    file = f"{found.relative_to(plan.ROOT) if found.is_relative_to(plan.ROOT) else found}{colon}{data}"
    for pattern in patterns:
        if not fnmatch.filter(sweep.variants, pattern):
            raise UserError(f"filter={pattern} matches none of {', '.join(sweep.variants)}")
    return [
        Task(
            f"{phase}/{variant}",
            0,
            ("-m", "experiments.sweep.worker", phase, file, variant, f"--workdir={directory}", *settings),
        )
        for variant in sweep.variants
        if not patterns or any(fnmatch.fnmatchcase(variant, pattern) for pattern in patterns)
    ]


def evaluation_tasks(sweep: Sweep, directory: AnyPath, seeds: int) -> list[Task]:
    """Returns the evaluations of all sets and seeds; they need the trainings of their members."""
    tasks = []
    for seed in range(seeds):
        for one in sweep.base.sets:
            for key, evaluation in sweep.evaluations.items():
                name = f"{EVALUATIONS}/{one}/{key}/{seed}"
                members = [f"--workdir={directory / one / member / str(seed)}" for member in evaluation.members]
                command = ("-m", "experiments.evaluate", *members)
                command += (f"--protocol={evaluation.protocol}", "--checkpoint=last", f"--out={directory / name}")
                tasks.append(Task(name, seed, command, tuple(f"{TRAINING}/{member}" for member in evaluation.members)))
    return tasks


def check(sweep: Sweep, settings: Sequence[str]) -> None:
    """Resolves every config as the tasks will, and draws the images that are missing; raises UserError."""
    from inception_jax.data.sources import open_source

    for variant in sweep.variants:
        for name, one in sweep.base.sets.items():
            config = plan.check_flags(f"{name}/{variant}", plan.flags_of(sweep, variant, 0, settings, one.overrides))
            for split in (config.data.train_split, one.validation, config.data.eval_split):
                open_source(config.data.name, split, config.data.dir)


def pilot_of(sweep: Sweep) -> str:
    """Returns the variant whose spread between seeds is measured: the baseline, or its first member."""
    baseline = sweep.baseline or next(iter(sweep.variants))
    return baseline if baseline in sweep.variants else sweep.evaluations[baseline].members[0]


def claims_of_all_sweeps() -> int:
    """Returns the number of claims of all sweeps of this directory, which are judged together."""
    files = sorted(Path(sweeps.__file__).parent.glob("[!_]*.py"))
    loaded = [plan.load(str(file))[0] for file in files]
    return sum(len(sweep.claims) for sweep in loaded if sweep.base.sets)


def make_plan(sweep: Sweep, rows: Sequence[Mapping[str, Any]], claims: int, seeds: int = 0) -> dict[str, Any]:
    """Returns the object of plan.json, see `inception_jax.report.sweep.data`.

    Args:
      sweep: what `plan.load` returns.
      rows: results of the tuning: "set", "variant", "rate", "seed", "top1", a fraction.
      claims: number of claims that are judged together.
      seeds: number of seeds; 0: as many as `EFFECT` needs.
    """
    places = dict.fromkeys((row["set"], row["variant"]) for row in rows)
    tuned = {place: worst_by_rate([row for row in rows if (row["set"], row["variant"]) == place]) for place in places}
    pilot: dict[str, dict[str, Any]] = {}
    for name in sweep.base.sets:
        place = (name, pilot_of(sweep))
        rate = best_rate(tuned[place])
        found = [row for row in rows if (row["set"], row["variant"], row["rate"]) == (*place, rate)]
        top1 = {str(row["seed"]): row["top1"] for row in found}
        sd = round(100 * statistics.stdev(top1.values()), 3)
        pilot[name] = {"variant": pilot_of(sweep), "top1": top1, "sd": sd}
    # A claim over several variants has as many strata of each set.
    variants = min((1 if isinstance(claim.better, str) else len(claim.better) for claim in sweep.claims), default=1)
    sds = [power.sd_of_difference(one["sd"]) for one in pilot.values()] * variants
    options: dict[str, Any] = {"power": POWER, "level": LEVEL, "tests": max(claims, 1)}
    if not seeds:
        needed = power.pairs_needed(sds, EFFECT, **options)
        seeds = min(max(needed, LEAST_SEEDS), MOST_SEEDS)
    return {
        "effect": EFFECT,
        "power": POWER,
        "level": LEVEL,
        "claims": max(claims, 1),
        "seeds": seeds,
        "visible": round(power.visible_effect(sds, seeds, **options), 2),
        "pilot": pilot,
        "rates": {
            "/".join(place): {f"{rate:g}": top1 for rate, top1 in tried.items()} for place, tried in tuned.items()
        },
        "chosen": {"/".join(place): f"{best_rate(tried):g}" for place, tried in tuned.items()},
    }


def worst_by_rate(rows: Sequence[Mapping[str, Any]]) -> dict[float, float]:
    """Returns the top-1 of each learning rate's worse seed of the tuning; `rows` are of one variant and set.

    The mean would choose rates with which most seeds learn a little more, and some fail.
    """
    found: dict[float, list[float]] = {}
    for row in rows:
        if row["seed"] < TUNING_SEEDS:
            found.setdefault(row["rate"], []).append(row["top1"])
    return {rate: min(top1) for rate, top1 in found.items()}


def untried(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Returns the seeds and learning rates to try next: the next seed of each rate that may still be the best.

    Args:
      rows: of one variant and set: the first seed of each rate at least. A rate that is worse with it than another one
        with all its seeds cannot be the best.
    """
    worst, tried = worst_by_rate(rows), Counter(row["rate"] for row in rows)
    highest = max(worst.values())
    return [(tried[rate], rate) for rate, top1 in worst.items() if top1 == highest and tried[rate] < TUNING_SEEDS]


def best_rate(top1: Mapping[float, float]) -> float:
    """Returns the learning rate with the highest top-1; of equal ones that nearest to the middle one."""
    middle = sorted(top1)[len(top1) // 2]
    return min(top1, key=lambda rate: (-top1[rate], abs(math.log(rate / middle))))


def read_rows(sweep: Sweep, directory: AnyPath) -> list[dict[str, Any]] | None:
    """Returns the results of the tuning; None if a variant lacks them."""
    rows = []
    for variant in sweep.variants:
        found = Run.read(directory / TUNING / variant).evaluation
        if found is None:
            return None
        rows += [row | {"variant": variant} for row in found["rows"]]
    return rows


def read_plan(directory: AnyPath) -> dict[str, Any] | None:
    """Returns the object of plan.json; None if there is none.

    Raises:
      UserError: it is damaged.
    """
    file = directory / PLAN
    try:
        with bucket_errors(file):
            content = json.loads(read_whole(file))
        return {**content, "seeds": int(content["seeds"]), "chosen": dict(content["chosen"])}
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{file} is damaged; remove it, and the sweep plans again") from None


def write_plan(sweep: Sweep, directory: AnyPath, seeds: int = 0) -> dict[str, Any]:
    """Writes plan.json from the results of the tuning, says what it is, and returns its object.

    Args:
      sweep: what `plan.load` returns.
      directory: directory of the sweep.
      seeds: see `make_plan`.

    Raises:
      UserError: a variant was not tuned yet.
    """
    rows = read_rows(sweep, directory)
    if rows is None:
        raise UserError("the other variants are not tuned yet, and the plan is made of all; leave the filter out")
    planned = make_plan(sweep, rows, claims_of_all_sweeps(), seeds)
    write_whole(directory / PLAN, (json.dumps(planned, indent=1) + "\n").encode())
    spread = ", ".join(f"{one['sd']:.2f} on {name}" for name, one in planned["pilot"].items())
    print(
        f"Plan      standard deviation between seeds in points: {spread}; {planned['seeds']} seeds show a difference "
        f"of {planned['visible']:g} points with a power of {POWER:.0%}, corrected for {planned['claims']} claims"
    )
    return planned

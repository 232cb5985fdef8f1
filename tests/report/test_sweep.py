"""Reports on sweeps: data of their runs, statistics and verdicts, tables, Markdown, page, the document."""

import copy
import html.parser
import json
import math
import re
import shutil
import sys

import pytest

from configs.digits import NETWORKS
from experiments import report as command
from experiments.sweep import plan
from inception_jax.errors import UserError
from inception_jax.report.sweep import analysis, document, page
from inception_jax.report.sweep import data as sweep_data

# Student's t at 97.5 %, from a printed table: 1 and 2 degrees of freedom.
T1, T2 = 12.706, 4.303

SWEEP = {
    "name": "heads",
    "file": "experiments/sweeps/heads.py",
    "data": "glyphs",
    "title": "Heads",
    "text": "The first paragraph,\nwith `code`.\n\nThe second one.",
    "base": {"config": "configs/glyphs.py:googlenet", "overrides": {"data.image_size": 48, "log.every": "25 steps"}},
    "baseline": "both",
    "variants": {"both": {}, "none": {"model.aux": False, "schedule.name": "poly"}, "late": {"a.b": 0.0}},
    "printed": {"both": "26.8", "none": "27.3"},
    "printed_what": "top-1 error in % (Table 3)",
    "claims": [
        {"text": "heads help", "source": "section 5", "better": "both", "than": "none", "measure": "top1"},
        {"text": "late is as good", "source": "section 6", "better": "late", "than": "both", "measure": "no_worse"},
    ],
    "seeds": [0, 1, 2],
    "evaluations": {},
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def write_run(directory, curve, *, ended=True, network=(), speeds=((1, None), (5, 20.0), (10, 40.0)), launch=None):
    """A training of ten steps of ten images; `curve` holds the top-1 by step."""
    facts = {"parameters": 9_000, "multiply_adds": 2_000_000, "total_steps": 10, "device": "1 x cpu"} | dict(network)
    settings = {"train": {"batch_size": 10}, "data": {"eval_split": "val"}}
    write(directory / "config.json", {"config": settings, "versions": {}, "commands": [], "network": facts})
    rows = [{"step": step, "split": "train", "loss": 1.0, "peak_memory": 5_000_000 + step} for step, _ in speeds]
    for row, (_, speed) in zip(rows, speeds, strict=True):
        row |= {} if speed is None else {"images_per_second": speed, "data_wait": 0.1}
    test = [{"step": s, "split": "val", "top1": v, "top5": 1.0, "loss": 2 - v, "count": 200} for s, v in curve.items()]
    write(directory / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, *test]))
    if ended:
        last = {key: test[-1][key] for key in ("step", "top1", "top5", "loss", "count")}
        write(directory / "results.json", {"last": last, "best": last})
    if launch:
        write(directory / "run.json", launch)


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path)


def write_sweep(directory):
    """Three variants of three seeds, all finished."""
    write(directory / "sweep.json", SWEEP)
    for seed in range(3):
        write_run(directory / "both" / str(seed), {5: 0.5, 10: 0.80 + 0.01 * seed})
        write_run(directory / "none" / str(seed), {5: 0.4, 10: 0.79 - 0.01 * seed}, network={"parameters": 10_000})
        write_run(directory / "late" / str(seed), {5: 0.81, 10: 0.80 + 0.01 * seed}, network={"parameters": 900})
    return directory


def run_of(data, variant, seed):
    [run] = [run for run in data["runs"] if (run["variant"], run["seed"]) == (variant, seed)]
    return run


# ---- Reading


def test_a_run_is_read(sweep):
    speeds = ((1, None), (4, 20.0), (8, 30.0), (10, 70.0))
    write_run(sweep / "both" / "0", {5: 0.5, 8: 0.6, 10: 0.8}, speeds=speeds)
    # A line without a speed has the median's, 30: 1 * 10 / 30 s; then 3 * 10 / 20 s, 4 * 10 / 30 s, 2 * 10 / 70 s.
    assert run_of(sweep_data.read(sweep), "both", 0) == {
        "variant": "both",
        "seed": 0,
        "state": "finished",
        "error": "",
        "top1": 0.8,
        "top5": 1.0,
        "loss": 1.2,
        "count": 200,
        "step": 10,
        "total_steps": 10,
        "batch": 10,
        "parameters": 9_000,
        "multiply_adds": 2_000_000,
        "images_per_second": 30.0,
        "train_seconds": 3.5,
        "peak_memory": 5_000_010,
        "device": "1 x cpu",
        "evaluations": [[5, 0.5, 1.5, 2.2], [8, 0.6, 1.4, 3.2], [10, 0.8, 1.2, 3.5]],
    }


def test_behind_the_last_line_time_goes_on_at_the_median_speed(sweep):
    write_run(sweep / "both" / "0", {10: 0.8}, speeds=((4, 10.0), (8, 30.0)))
    assert run_of(sweep_data.read(sweep), "both", 0)["train_seconds"] == round(4 + 40 / 30 + 20 / 20, 1)


def test_without_a_speed_there_is_no_time(sweep):
    write_run(sweep / "both" / "0", {10: 0.8}, speeds=((10, None),))
    run = run_of(sweep_data.read(sweep), "both", 0)
    assert (run["state"], run["train_seconds"], run["images_per_second"]) == ("finished", None, None)
    assert run["evaluations"] == [[10, 0.8, 1.2, None]]


def test_a_loss_that_is_not_finite_is_null(sweep):
    write_run(sweep / "both" / "0", {5: 0.5, 10: 0.8})
    for name in ("metrics.jsonl", "results.json"):
        file = sweep / "both" / "0" / name
        file.write_text(file.read_text().replace('"loss": 1.2', '"loss": NaN').replace('"loss": 1.5', '"loss": null'))
    data = sweep_data.read(sweep)
    assert run_of(data, "both", 0)["loss"] is None
    assert [loss for _, _, loss, _ in run_of(data, "both", 0)["evaluations"]] == [None, None]
    assert analysis.curves(data)["both"]["mean"]["loss"] == [None, None]  # no mean over the others alone
    assert "NaN" not in sweep_data.dump({"heads": data})


def test_two_lines_of_a_step_count_once(sweep):
    with open(sweep / "both" / "0" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 5, "split": "val", "top1": 0.25, "loss": 1.0}\n')
    assert [e[:2] for e in run_of(sweep_data.read(sweep), "both", 0)["evaluations"]] == [[5, 0.25], [10, 0.8]]


STATES = [
    (None, "unfinished", "at step 5 of 10"),
    ({"state": "interrupted", "error": ""}, "interrupted", "at step 5 of 10"),
    ({"state": "running", "job": "7", "error": ""}, "running", "at step 5 of 10"),
    ({"state": "failed", "error": "error: loss is nan"}, "failed", "error: loss is nan"),
    ({"state": "finished", "error": ""}, "failed", "ended at step 5 of 10"),
]


def test_a_run_that_is_not_finished_is_listed_and_not_averaged(sweep):
    shutil.rmtree(sweep / "both" / "1")
    # It has been evaluated, at step 5: that is no result.
    write_run(sweep / "both" / "1", {5: 0.1}, speeds=((5, 20.0),))
    for launch, state, error in STATES:
        if launch:
            write(sweep / "both" / "1" / "run.json", launch)
        data = sweep_data.read(sweep)
        run = run_of(data, "both", 1)
        assert (run["state"], run["error"], run["top1"], run["step"]) == (state, error, None, 5)
        assert run["evaluations"] == [[5, 0.1, 1.9, 2.5]]  # its curve is drawn all the same
        found = analysis.analyse(data)
        assert found.absent == [{"name": "both", "seed": 1, "state": state, "error": error}]
    assert found.rows[0].top1 == {0: 0.8, 2: 0.82}
    assert found.rows[1].difference.pairs == 2
    table = document.results_table(data, found)
    assert table.rows[0][2].text == "2 of 3"
    assert re.match("-3.0 points, 95 % interval .* from 2 of 3 pairs", table.rows[1][5].text)


def test_missing_runs_other_seeds_and_strange_directories(sweep):
    shutil.rmtree(sweep / "none")
    write_run(sweep / "both" / "7", {10: 0.9})
    write_run(sweep / "old" / "0", {10: 0.1})  # no variant of the sweep
    (sweep / "jobs" / "123").mkdir(parents=True)
    data = sweep_data.read(sweep)
    found = [(run["variant"], run["seed"], run["state"]) for run in data["runs"]]
    assert found == [
        *(("both", seed, "finished") for seed in (0, 1, 2, 7)),
        *(("none", seed, "waiting") for seed in range(3)),
        *(("late", seed, "finished") for seed in range(3)),
    ]
    assert run_of(data, "none", 0)["error"] == "not started"
    rows = {row.name: row for row in analysis.analyse(data).rows}
    assert list(rows) == ["both", "none", "late"]
    assert rows["both"].top1[7] == 0.9
    assert rows["none"].difference.mean is None
    assert [run["name"] for run in analysis.analyse(data).absent] == ["none"] * 3


def test_a_damaged_run_is_not_averaged(sweep):
    (sweep / "both" / "1" / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n{"step": 2, "spl\n')
    (sweep / "both" / "2" / "results.json").write_text('{"last": {"step": 10, "top1": 80}}')
    data = sweep_data.read(sweep)
    reasons = [(run["state"], run["error"]) for run in data["runs"] if run["variant"] == "both"]
    assert reasons[1:] == [
        ("damaged", "metrics.jsonl has 1 damaged line"),
        ("damaged", "results.json is damaged: last.top1=80 is no fraction"),
    ]
    assert analysis.analyse(data).rows[0].top1 == {0: 0.8}
    page.write(sweep / "report.html", data)


def test_the_cut_line_of_a_run_at_work_is_no_damage(sweep):
    write_run(sweep / "both" / "1", {5: 0.5}, ended=False, launch={"state": "running", "job": "7"})
    (sweep / "both" / "1" / "results.json").unlink()
    with open(sweep / "both" / "1" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 10, "spl')
    run = run_of(sweep_data.read(sweep), "both", 1)
    assert (run["state"], run["evaluations"]) == ("running", [[5, 0.5, 1.5, 2.3]])


def with_evaluations(sweep):
    ensemble = {"members": ["both", "none"], "protocol": "144crop"}
    write(sweep / "sweep.json", SWEEP | {"evaluations": {"2x144crop": ensemble}})
    row = {"top1": 0.9, "top5": 1.0, "loss": 0.5, "count": 200, "passes": 288}
    row["protocols"] = [{"name": "144crop", "windows": 144}] * 2
    for seed in (0, 1):
        write(sweep / "evaluations" / "2x144crop" / str(seed) / "evaluation.json", {"rows": [row]})
    return sweep_data.read(sweep)


def test_evaluations_are_further_variants_without_curves(sweep):
    data = with_evaluations(sweep)
    done, _, missing = data["evaluations"]
    assert done == {
        "name": "2x144crop",
        "seed": 0,
        "state": "finished",
        "error": "",
        "top1": 0.9,
        "top5": 1.0,
        "loss": 0.5,
        "count": 200,
        "passes": 288,
        "multiply_adds": 576_000_000,
    }
    assert (missing["seed"], missing["state"]) == (2, "waiting")
    table = document.results_table(data, analysis.analyse(data))
    assert [cell.text for cell in table.rows[3]] == [
        "`2x144crop`",
        "`both` + `none` by `144crop`",
        "2 of 3",
        "90.00 ± 0.00 %",
        "90.00 %",
        # +10 and +9: 9.5 with a standard deviation of 1 / sqrt(2), of whose mean the error is 0.5; t is 12.706.
        "+9.5 points, 95 % interval +3.1 to +15.9 from 2 of 3 pairs: clearly better",
        "–",
        "–",
        "576,000,000",
        "–",
        "–",
        "–",
        "–",
    ]
    [_, _, mean] = [point for point in page_data(sweep, data)["costs"] if point["name"] != "late"]
    assert (mean["name"], mean["multiply_adds"], mean["parameters"]) == ("2x144crop", 576_000_000, None)


def test_evaluations_as_the_command_writes_them(sweep):
    ensemble = {"members": ["both", "none"], "protocol": "10crop"}
    names = {"2x10crop": ensemble, "2xdense": ensemble | {"protocol": "dense"}}
    write(sweep / "sweep.json", SWEEP | {"evaluations": names})
    write_run(sweep / "none" / "0", {10: 0.79}, network={"multiply_adds": 3_000_000})
    numbers = {"top1": 0.9, "top5": 1.0, "loss": None, "count": 200, "passes": 20}
    for name in names:
        windows = [{"name": name[2:], "windows": 10}] * 2
        rows = [{"top1": 0.1}, numbers | {"protocols": windows}]
        write(sweep / "evaluations" / name / "0" / "evaluation.json", {"rows": rows})
        write(sweep / "evaluations" / name / "0" / "run.json", {"state": "finished"})
    write(sweep / "evaluations" / "2x10crop" / "1" / "run.json", {"state": "failed", "error": "error: no memory"})
    write(sweep / "evaluations" / "2x10crop" / "2" / "run.json", {"state": "interrupted", "error": ""})
    write(sweep / "evaluations" / "2xdense" / "1" / "evaluation.json", {"rows": [{"top1": 0.5}]})
    write(sweep / "evaluations" / "2xdense" / "2" / "evaluation.json", "{")
    found = sweep_data.read(sweep)["evaluations"]
    assert [(e["name"], e["seed"], e["state"], e["error"]) for e in found] == [
        ("2x10crop", 0, "finished", ""),
        ("2x10crop", 1, "failed", "error: no memory"),
        ("2x10crop", 2, "interrupted", "no result"),
        ("2xdense", 0, "finished", ""),
        ("2xdense", 1, "damaged", "evaluation.json is damaged (KeyError: 'passes')"),
        ("2xdense", 2, "damaged", found[5]["error"]),
    ]
    assert found[5]["error"].startswith("evaluation.json is damaged: Expecting property name")
    assert (found[0]["top1"], found[0]["loss"], found[0]["passes"]) == (0.9, None, 20)
    assert found[0]["multiply_adds"] == 10 * 2_000_000 + 10 * 3_000_000
    assert found[3]["multiply_adds"] is None  # it sees larger images


def test_a_directory_without_a_sweep_and_a_damaged_one(tmp_path):
    with pytest.raises(UserError, match="holds no sweep.json; name the directory of a sweep"):
        sweep_data.read(tmp_path)
    cases = {
        "sweep.json is damaged": "{",
        "has a damaged variants": SWEEP | {"variants": []},
        "has no seeds": {key: value for key, value in SWEEP.items() if key != "seeds"},
    }
    for message, content in cases.items():
        write(tmp_path / "sweep.json", content)
        with pytest.raises(UserError, match=message):
            sweep_data.read(tmp_path)


# ---- Statistics


def test_the_interval_of_three_pairs_by_hand():
    # Differences 1, 2, 3: mean 2, standard deviation 1, error of the mean 1 / sqrt(3).
    found = analysis.paired([11, 22, 33], [10, 20, 30])
    half = T2 / math.sqrt(3)
    assert found.mean == 2
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), abs=1e-3)
    assert (found.pairs, found.flat, found.sign) == (3, False, 0)


def test_the_interval_of_two_pairs_and_its_sign():
    found = analysis.paired([1.0, 3.0], [0.0, 0.0])  # the error of the mean is sqrt(2) / sqrt(2)
    assert (found.low, found.high) == pytest.approx((2 - T1, 2 + T1), abs=1e-3)
    signs = {(5, 6, 7): 1, (-5, -6, -7): -1, (1, 2, 3): 0}
    assert {differences: analysis.paired(differences, [0, 0, 0]).sign for differences in signs} == signs


def test_few_pairs_and_pairs_without_a_spread_have_no_test():
    assert analysis.paired([], []) == analysis.Interval(None, None, None, 0)
    assert analysis.paired([3.0], [1.0]) == analysis.Interval(2.0, None, None, 1)
    # 0.3 - 0.2 and 0.2 - 0.1 differ by the rounding of floats only.
    flat = analysis.paired([0.3, 0.2], [0.2, 0.1])
    assert flat.flat
    assert flat.sign == 0
    assert (flat.low, flat.high) == pytest.approx((0.1, 0.1))
    assert analysis.paired([0.3, 0.1 + 0.2], [0.3, 0.3]) == analysis.Interval(0.0, 0.0, 0.0, 2, flat=True)


WORDS = [
    ((1.3, -0.4, 3.0, 3), "+1.3 points, 95 % interval -0.4 to +3.0 from 3 pairs", "undecided"),
    ((1.3, 0.02, 2.58, 3), "+1.3 points, 95 % interval +0.02 to +2.6 from 3 pairs", "clearly better"),
    ((-1.3, -2.0, -0.6, 2), "-1.3 points, 95 % interval -2.0 to -0.6 from 2 of 3 pairs", "clearly worse"),
    ((0.001, -1.0, 1.0, 3), "0.0 points, 95 % interval -1.0 to +1.0 from 3 pairs", "undecided"),
    ((2.0, None, None, 1), "+2.0 points from 1 of 3 pairs", "too few runs"),
    ((None, None, None, 0), "no pair of finished runs", "too few runs"),
    ((2.0, 2.0, 2.0, 3, True), "+2.0 points in each of 3 pairs", "undecided: without a spread there is no test"),
    ((0.0, 0.0, 0.0, 3, True), "the same in each of 3 pairs", "no difference"),
]


def test_differences_in_words():
    for interval, words, outcome in WORDS:
        assert analysis.in_points(analysis.Interval(*interval), 3) == words
        assert analysis.outcome(analysis.Interval(*interval)) == outcome


def test_the_first_step_at_or_above_a_threshold():
    curve = [[0, 0.95, 1.0, 0.0], [5, 0.5, 1.0, 1.0], [10, 0.7, 1.0, 2.0], [15, 0.6, 1.0, 3.0]]
    assert analysis.first_step(curve, 0.7) == 10
    assert analysis.first_step(curve, 0.5) == 5
    assert analysis.first_step(curve, 0.9) is None  # the untrained network does not count


# ---- Verdicts


def data_of(finals, claim, curves=None, seeds=3):
    """Data of variants a and b with these final top-1, in percent, and curves {step: percent} that end with them."""
    listed = []
    for variant, values in finals.items():
        for seed, value in enumerate(values):
            curve = (curves or {}).get(variant, [{}] * len(values))[seed]
            evaluations = [[step, percent / 100, 1.0, 1.0] for step, percent in (curve or {10: value}).items()]
            listed.append(
                {"variant": variant, "seed": seed, "state": "finished", "error": "", "top1": value / 100, "step": 10}
                | {"evaluations": evaluations, "batch": 1, "multiply_adds": 1}
            )
    variants = {"a": {}, "b": {"model.aux": False}}
    claim = {"text": "t", "source": "s", "better": "a", "than": "b", **claim}
    own = {"variants": variants, "baseline": "b", "claims": [claim], "seeds": list(range(seeds)), "printed": {}}
    return {"sweep": SWEEP | own | {"settings": []}, "runs": listed, "evaluations": []}


def verdict(*arguments, **keywords):
    [claim] = analysis.analyse(data_of(*arguments, **keywords)).claims
    return claim.verdict, claim.words


ZERO = [50, 50, 50]


ACCURACY = [
    ("top1", [55, 56, 57], "agrees", "`a` against `b`: +6.0 points, 95 % interval +3.5 to +8.5 from 3 pairs"),
    ("top1", [45, 44, 43], "disagrees", "-6.0 points, 95 % interval -8.5 to -3.5 from 3 pairs"),
    ("top1", [51, 52, 53], "inconclusive", "the mean leans the claim's way"),
    ("top1", [49, 48, 47], "inconclusive", "the mean leans against the claim"),
    ("top1", [49, 50, 51], "inconclusive", "the mean leans neither way"),
    ("top1", [50.1, 50.2, 49.7], "inconclusive", "the mean leans neither way"),  # 2e-15 in floats
    ("top1", [55, 55, 55], "inconclusive", "+5.0 points in each of 3 pairs"),
    ("top1", [55], "inconclusive", "+5.0 points from 1 of 3 pairs; too few runs"),
    ("top1", [], "inconclusive", "no pair of finished runs; too few runs"),
    # Standard deviation 0.1: half the interval is 0.25.
    ("no_worse", [50.4, 50.5, 50.6], "agrees", "+0.5 points, 95 % interval +0.3 to +0.7 from 3 pairs; not 1 point"),
    ("no_worse", [55, 56, 57], "agrees", "not 1 point worse"),
    ("no_worse", [49.3, 49.2, 49.4], "agrees", "not 1 point worse"),
    ("no_worse", [49.2, 49.1, 49.0], "inconclusive", "1 point worse is not excluded"),
    ("no_worse", [49.1, 49.0, 48.8], "disagrees", "-1.0 points"),
    ("no_worse", [48.4, 48.5, 48.6], "disagrees", "-1.5 points"),
    ("no_worse", [51, 50, 49], "inconclusive", "1 point worse is not excluded"),
    ("no_worse", [50, 50, 50], "agrees", "the same in each of 3 pairs"),
    ("no_worse", [50.5, 50.5, 50.5], "agrees", "+0.5 points in each of 3 pairs"),
    ("no_worse", [48, 48, 48], "inconclusive", "not excluded"),
    ("no_worse", [50], "inconclusive", "too few runs"),
    ("speed", [55, 56, 57], "inconclusive", "no such measure: `speed`"),
]


def test_verdicts_on_accuracy():
    for measure, a, expected, words in ACCURACY:
        found = verdict({"a": a, "b": ZERO}, {"measure": measure})
        assert (found[0], words in found[1]) == (expected, True), (measure, a, found)


def reaching(*steps):
    """Curves that have 50 % at these steps, and not before."""
    return [{5: 10, step: 50, 1000: 50} if step else {5: 10, 1000: 40} for step in steps]


SPEED = [
    # Logarithms to base 2 of the ratios: -1, -2, -3. Mean -2, half the interval 4.303 / sqrt(3) = 2.484.
    ((400, 200, 100), (800, 800, 800), "inconclusive", "0.25 times the steps of `b`"),
    ((400, 200, 100), (800, 800, 800), "inconclusive", "95 % interval 0.04 to 1.40 from 3 pairs"),
    ((400, 200, 100), (800, 800, 800), "inconclusive", "the mean leans the claim's way"),
    ((800, 800, 800), (400, 200, 100), "inconclusive", "the mean leans against the claim"),
    ((90, 100, 110), (800, 800, 800), "agrees", "`a` needs 0.12 times the steps of `b` to the top-1"),
    ((800, 800, 800), (90, 100, 110), "disagrees", "8.03 times"),
    ((100, 100, 100), (800, 800, 800), "inconclusive", "in each of 3 pairs; without a spread there is no test"),
    (
        (100, None, 100),
        (800, 800, 800),
        "inconclusive",
        "reaches the top-1 that `b` ends with in 2 of 3 pairs only",
    ),
    (
        (None, None, None),
        (800, 800, 800),
        "disagrees",
        "`a` never reaches the top-1 that `b` ends with, in 3 pairs",
    ),
    ((None,), (800, 800, 800), "inconclusive", "1 of 3 pairs; too few runs"),
    ((), (800, 800, 800), "inconclusive", "no pair; too few runs"),
]


def test_verdicts_on_speed():
    for a, b, expected, words in SPEED:
        finals = {"a": [50 if step else 40 for step in a], "b": ZERO}
        found = verdict(finals, {"measure": "steps"}, {"a": reaching(*a), "b": reaching(*b)})
        assert (found[0], words in found[1]) == (expected, True), (a, b, found)


def test_a_claim_on_several_variants_counts_all_their_pairs():
    top1 = {"a": [51, 52], "b": [50, 50], "c": [63, 64], "d": [60, 60]}
    claim = {"better": ["a", "c"], "than": ["b", "d"]}
    # Differences 1, 2, 3, 4: 2.5 with a standard deviation of 1.291, of whose mean the error is 0.6455; t is 3.182.
    assert verdict(top1, claim | {"measure": "top1"}, seeds=2) == (
        "agrees",
        "`a`, `c` against `b`, `d`: +2.5 points, 95 % interval +0.4 to +4.6 from 4 pairs",
    )
    curves = {name: [{100: 40, 900: value} for value in values] for name, values in top1.items()}
    curves["a"] = [{300: 50, 900: 51}, {300: 50, 900: 52}]
    curves["c"] = [{450: 60, 900: 63}, {450: 60, 900: 64}]
    # A third of the steps twice and half of them twice: the mean of the ratio is sqrt(1 / 6).
    assert verdict(top1, claim | {"measure": "steps"}, curves, seeds=2)[1].startswith(
        "`a`, `c` needs 0.41 times the steps of `b`, `d` to the top-1 that `b`, `d` ends with"
    )


def test_speed_is_to_the_final_accuracy_of_the_same_seed():
    curves = {"a": [{100: 60, 900: 90}, {100: 60, 900: 90}], "b": [{500: 60, 900: 55}, {500: 70, 900: 85}]}
    found = verdict({"a": [90, 90], "b": [55, 85]}, {"measure": "steps"}, curves, seeds=2)
    # Seed 0: 100 steps against 500; seed 1: 900 against 900. The mean of the ratio is sqrt(1 / 5).
    assert found[1].startswith("`a` needs 0.45 times the steps of `b`")


def test_an_evaluation_has_no_speed(sweep):
    data = with_evaluations(sweep)
    claim = {"text": "", "source": "", "better": "2x144crop", "than": "both", "measure": "steps"}
    data["sweep"]["claims"] = [claim, claim | {"measure": "top1"}]
    speed, accuracy = analysis.analyse(data).claims
    assert (speed.verdict, accuracy.verdict) == ("inconclusive", "agrees")
    assert "no pair" in speed.words


# ---- Tables


def test_the_table_of_results(sweep):
    data = sweep_data.read(sweep)
    table = document.results_table(data, analysis.analyse(data))
    assert table.header == [
        "variant",
        "changes",
        "runs",
        "top-1",
        "lowest",
        "against `both`",
        "steps to 81.00 %",
        "parameters",
        "multiply-adds",
        "img/s",
        "training",
        "memory",
        "paper",
    ]
    # Seeds 80, 81, 82 against 79, 78, 77: differences -1, -3, -5, deviation 2, half the interval 4.303 * 2 / sqrt(3).
    changes = "`model.aux=false`, `schedule.name=poly`"
    worse = "-3.0 points, 95 % interval -8.0 to +2.0 from 3 pairs: undecided"
    same = "the same in each of 3 pairs: no difference"
    cost = ("2,000,000", "30", "4 s", "5 MB")
    assert [tuple(cell.text for cell in row) for row in table.rows] == [
        (
            "`both`",
            "nothing",
            "3",
            "81.00 ± 1.00 %",
            "80.00 %",
            "baseline",
            "never, 10, 10: 1 of 3 never",
            "9,000",
            *cost,
            "26.8",
        ),
        ("`none`", changes, "3", "78.00 ± 1.00 %", "77.00 %", worse, "never in 3 runs", "10,000", *cost, "27.3"),
        ("`late`", "`a.b=0.0`", "3", "81.00 ± 1.00 %", "80.00 %", same, "5 (5, 5, 5)", "900", *cost, "–"),
    ]
    assert "with a top-1 of 81.00 % or more, the mean that `both` ends with" in table.note
    assert "Paper: top-1 error in % (Table 3)." in table.note


def test_a_threshold_that_was_named(sweep):
    data = sweep_data.read(sweep, threshold=0.5)
    table = document.results_table(data, analysis.analyse(data))
    assert [row[6].text for row in table.rows] == ["5 (5, 5, 5)", "10 (10, 10, 10)", "5 (5, 5, 5)"]
    assert table.header[6] == "steps to 50.00 %"
    assert "which was given" in table.note


def test_without_the_baseline_there_is_no_threshold(sweep):
    shutil.rmtree(sweep / "both")
    data = sweep_data.read(sweep)
    table = document.results_table(data, analysis.analyse(data))
    assert not any(name.startswith("steps to") for name in table.header)
    assert [row[5].text for row in table.rows] == ["baseline", "–", "–"]
    page.write(sweep / "report.html", data)


def test_columns_that_say_nothing_are_left_out_and_lengths_that_differ_are_told(sweep):
    data = sweep_data.read(sweep)
    data["sweep"]["printed"] = {}
    header = document.results_table(data, analysis.analyse(data)).header
    assert header[-1] == "memory"
    assert "steps x batch" not in header
    for run in data["runs"]:
        run["peak_memory"] = None
        run["total_steps"] += 1990 * (run["variant"] == "late")
    table = document.results_table(data, analysis.analyse(data))
    assert table.header[-1] == "training"
    assert [row[table.header.index("steps x batch")].text for row in table.rows] == ["10 x 10", "10 x 10", "2,000 x 10"]


def test_memory():
    assert [document.memory(size) for size in (812_400_000, 1_250_000_000)] == ["812 MB", "1.25 GB"]


def test_curves_are_means_over_the_steps_that_all_finished_runs_have(sweep):
    write_run(sweep / "both" / "2", {5: 0.6, 7: 0.7, 10: 0.83})
    write_run(sweep / "none" / "2", {5: 0.6}, speeds=((5, 20.0),), ended=False)
    (sweep / "none" / "2" / "results.json").unlink()
    drawn = analysis.curves(sweep_data.read(sweep))
    both = drawn["both"]["mean"]
    assert both["step"] == [5, 10]
    assert both["top1"] == pytest.approx([(0.5 + 0.5 + 0.6) / 3, (0.8 + 0.81 + 0.83) / 3])
    assert (both["top1_low"], both["top1_high"]) == ([0.5, 0.8], [0.6, 0.83])
    assert both["loss"] == pytest.approx([(1.5 + 1.5 + 1.4) / 3, (1.2 + 1.19 + 1.17) / 3])
    assert both["seconds"] == pytest.approx([2.3, 3.6])
    # Steps x 10 images x 2 million x 3, for forward and backward.
    assert both["multiply_adds"] == [5 * 10 * 2_000_000 * 3, 10 * 10 * 2_000_000 * 3]
    assert both["seeds"] == [3, 3]
    assert drawn["none"]["mean"]["seeds"] == [2, 2]
    [alone] = drawn["none"]["alone"]
    assert (alone["step"], alone["top1"]) == ([5], [0.6])


# ---- Markdown


def test_the_markdown_report(sweep):
    write_run(sweep / "late" / "1", {5: 0.1}, ended=False, launch={"state": "failed", "error": "a | `b`\n"})
    (sweep / "late" / "1" / "results.json").unlink()
    lines = document.report(sweep_data.read(sweep)).splitlines()
    assert lines[:6] == ["# Heads (glyphs)", "", "The first paragraph,", "with `code`.", "", "The second one."]
    assert "- Base: `configs/glyphs.py:googlenet` with `data.image_size=48`" in lines
    assert "- Runs: 8 of 9 finished" in lines
    assert "- Training: 10 steps of 10 images" in lines
    assert "- Test images: 200" in lines
    assert "Of 2 claims 1 agrees, 0 disagree, 1 is inconclusive." in lines
    assert (
        "| heads help | section 5 | `both` against `none`: +3.0 points, 95 % interval -2.0 to +8.0 from 3 pairs; the "
        "mean leans the claim's way | inconclusive |" in lines
    )
    assert "| `late` | 1 | failed | `a \\| 'b'` |" in lines
    assert "python -m experiments.sweep experiments/sweeps/heads.py:glyphs --workdir=DIR" in lines
    text = " ".join(lines)
    for said in ("of 20 comparisons", "a margin of our choice", "small networks on small data", "3 times as many",
                 "without evaluation and compilation"):  # fmt: skip
        assert said.lower() in text.lower()


def test_settings_of_the_command_line_are_part_of_the_command_and_imagenet_is_not_small(sweep):
    data = sweep_data.read(sweep)
    data["sweep"] |= {"settings": ["--config.train.steps=5", "--config.data.dir=a b"], "data": "imagenet2012"}
    expected = "heads.py:imagenet2012 --workdir=DIR --config.train.steps=5 '--config.data.dir=a b'"
    assert document.command(data).endswith(expected)
    assert "small networks" not in document.report(data)


def test_the_document_is_a_function_of_the_data_alone(sweep, tmp_path, monkeypatch):
    data = sweep_data.read(sweep)
    other = copy.deepcopy(data)
    other["sweep"] |= {"name": "tails", "title": "Tails, & more", "data": "", "seeds": [0, 1]}
    sweeps = {"heads": data, "tails": other}
    for run in other["runs"]:
        run["top1"] = {"none": 0.9, "late": 0.5}.get(run["variant"], run["top1"])  # an interval above 0, one below
    text = document.document(sweeps)
    shutil.rmtree(sweep / "both")
    monkeypatch.chdir(tmp_path)
    assert document.document(json.loads(sweep_data.dump(sweeps))) == text
    lines = text.splitlines()
    assert "2 sweeps of 18 runs, 18 of them finished, 2 or 3 seeds of each variant." in text
    assert [line for line in lines if line.startswith("## ")] == [
        "## Overview",
        "## Heads (glyphs)",
        "## Tails, & more",
    ]
    assert any(line.startswith("| [Tails, & more](#tails--more) | heads help | section 5 | ") for line in lines)
    # late - both is the same in all pairs, which is no test.
    assert "compare variants with their baseline 3 times; 2 of the intervals exclude 0, and about 0.1 would" in text
    assert "Of 4 claims 1 agrees, 2 disagree, 1 is inconclusive." in text
    assert text.count("### Results") == 2
    assert "### Not counted" not in text


def test_a_document_of_nothing():
    assert "0 claims" in document.document({})


def test_the_document_keeps_what_is_written_by_hand(sweep, tmp_path):
    file, sweeps = tmp_path / "new.md", {"heads": sweep_data.read(sweep)}
    document.write_document(file, sweeps)
    assert file.read_text().startswith(f"# Sweeps\n\n{document.MARK}\n\n1 sweep of 9 runs")
    file.write_text(f"# Mine\n\nBy hand.\n\n{document.MARK}\nold\n")
    for _ in range(2):
        document.write_document(file, sweeps)
        assert file.read_text() == f"# Mine\n\nBy hand.\n\n{document.MARK}\n\n{document.document(sweeps)}"


def test_the_json_keeps_what_it_was_given_with_a_line_a_run(sweep):
    data = sweep_data.read(sweep)
    text = sweep_data.dump({"b": data, "a": data | {"threshold": 0.5}})
    assert json.loads(text) == {"a": data | {"threshold": 0.5}, "b": data}
    assert list(json.loads(text)) == ["a", "b"]
    assert len([line for line in text.splitlines() if line.startswith('{"variant"')]) == 18


# ---- The command


def test_the_command_writes_the_reports_and_prints_a_table(sweep, capsys):
    assert command.main([str(sweep)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^none +3 +78.00 ± 1.00 % +-3.0 points, .*: undecided +never in 3 runs$", printed, re.MULTILINE)
    assert "  inconclusive  heads help (both against none: +3.0" in printed
    assert f"Report    {sweep / 'report.html'}" in printed
    assert (sweep / "report.md").read_text() == document.report(sweep_data.read(sweep))
    assert "Heads (glyphs)" in (sweep / "report.html").read_text(encoding="utf-8")


def test_out_and_threshold(sweep, tmp_path):
    out = tmp_path / "elsewhere.html"
    assert command.main([str(sweep), f"--out={out}", "--threshold=0.5"]) == 0
    assert "steps to 50.00 %" in out.with_suffix(".md").read_text()
    assert out.exists()
    assert not (sweep / "report.html").exists()


def test_a_document_is_put_together_from_sweeps_run_at_different_times(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "write", lambda path, data: None)  # megabytes of plotly
    file, text = tmp_path / "data.json", tmp_path / "ablations.md"
    second = tmp_path / "second"
    for seed in range(3):
        write_run(second / "both" / str(seed), {10: 0.9})
    write(second / "sweep.json", SWEEP | {"name": "aa", "title": "Second", "claims": []})
    assert command.main([str(sweep), f"--json={file}", "--threshold=0.5"]) == 0
    assert command.main([str(second), f"--json={file}", f"--document={text}"]) == 0
    assert list(json.loads(file.read_text())) == ["aa", "heads"]
    assert json.loads(file.read_text())["heads"] == sweep_data.read(sweep) | {"threshold": 0.5}
    assert "## Second (glyphs)" in text.read_text()
    assert "steps to 50.00 %" in text.read_text()
    before = text.read_text()
    text.unlink()
    assert command.main([f"--from-json={file}", f"--document={text}"]) == 0
    assert text.read_text() == before
    # Run again, a sweep takes the place of its older data.
    write_run(sweep / "both" / "0", {10: 0.99})
    assert command.main([str(sweep), f"--json={file}"]) == 0
    assert run_of(json.loads(file.read_text())["heads"], "both", 0)["top1"] == 0.99
    assert len(json.loads(file.read_text())) == 2


WRONG = [
    ([], "name the directory of a sweep, or --from-json"),
    (["{empty}"], "holds no sweep.json"),
    (["{sweep}", "--document=x.md"], "--document needs --json=FILE"),
    (["--from-json=x.json"], "--from-json needs --document"),
    (["{sweep}", "--from-json=x.json", "--document=x.md"], "--from-json takes no other option than --document"),
    (["--from-json={empty}/x.json", "--document=x.md"], "x.json cannot be read: No such file or directory"),
    (["{sweep}", "{sweep}", "--out=x.html"], "--out needs a single DIR"),
    (["{sweep}", "{sweep}"], "two of the directories hold the sweep heads"),
    (["{sweep}", "--out=x.md"], "--out=x.md does not end in .html"),
    (["{sweep}", "--out={empty}/no/x.html"], "/no/x.md: No such file or directory"),
    (["{sweep}", "--json={sweep}/sweep.json"], "sweep.json does not hold the data of sweeps"),
    (["{sweep}", "--json={sweep}"], "cannot be read: Is a directory"),
    (["{sweep}", "--threshold=90"], "90 is not a fraction, such as 0.9"),
    (["{sweep}", "--threshold=nan"], "nan is not a fraction, such as 0.9"),
]


def test_invalid_input_is_one_line(sweep, tmp_path_factory, capsys):
    empty = tmp_path_factory.mktemp("empty")
    for arguments, message in WRONG:
        try:
            status = command.main([argument.format(sweep=sweep, empty=empty) for argument in arguments])
        except SystemExit as exit:
            status = exit.code
        first, *more = capsys.readouterr().err.splitlines()
        assert status == 2
        assert first.startswith("error: ")
        assert message in first
        assert not more or more == ["See python -m experiments.report --help"]


def test_without_plotly_one_line_says_so_and_the_markdown_is_written(sweep, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert command.main([str(sweep)]) == 0
    told = capsys.readouterr().err
    assert told == (
        f"warning: {sweep}/report.html is not written: plotly is not installed: pip install 'inception_jax[report]'\n"
    )
    assert (sweep / "report.md").exists()
    assert not (sweep / "report.html").exists()


# ---- The page

NASTY = "<img src=x onerror=alert(1)> & </script><script>alert(2)</script> \"q\" 'q'"


class Text(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its text without scripts."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text, self._skip = [], [], False
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._skip = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._skip = False

    def handle_data(self, data):
        if not self._skip:
            self.text.append(data)


def page_data(directory, data):
    """What the page gives its script to draw."""
    page.write(directory / "page.html", data)
    text = (directory / "page.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*)</script>', text)[1])


def nasty(data):
    """The data with markup in every text."""
    name = "</script><b>bold</b>"
    data = copy.deepcopy(data)
    own = {"title": NASTY, "text": NASTY, "data": NASTY, "printed": {name: NASTY}, "printed_what": NASTY, "file": NASTY}
    claim = {"text": NASTY, "source": NASTY, "better": name, "than": "both", "measure": NASTY}
    variants = {"both": {}, name: {NASTY: NASTY}, "late": {}}
    data["sweep"] |= own | {"variants": variants, "claims": [claim], "base": {"config": NASTY, "overrides": {NASTY: 1}}}
    for run in data["runs"]:
        run["variant"] = name if run["variant"] == "none" else run["variant"]
    data["runs"][-1] |= {"state": "failed", "error": NASTY, "device": NASTY}
    return data


def test_all_text_is_escaped(sweep):
    data = nasty(sweep_data.read(sweep))
    assert "</script><b>bold</b>" in page_data(sweep, data)["curves"]
    read = Text((sweep / "page.html").read_text(encoding="utf-8"))
    tags = [tag for tag, _ in read.tags]
    assert not {"img", "b"} & set(tags)
    assert tags.count("script") == 3  # the data, plotly, ours
    shown = " ".join("".join(read.text).split())
    # Title and heading; text; base, file; printed, what; claim, source, measure; changes; device, error.
    assert shown.count(" ".join(NASTY.split())) >= 12


def test_addresses_are_links_and_backticks_code():
    assert page.inline("see https://a.org/x?a=1&b=2, or `<b>`.") == (
        'see <a href="https://a.org/x?a=1&amp;b=2">https://a.org/x?a=1&amp;b=2</a>, or <code>&lt;b&gt;</code>.'
    )
    assert page.inline("*agrees* at 3 * 4 * 5") == "<em>agrees</em> at 3 * 4 * 5"


def test_the_page_has_every_table_of_the_markdown(sweep):
    shutil.rmtree(sweep / "late" / "1")
    data = sweep_data.read(sweep)
    page.write(sweep / "report.html", data)
    shown = "".join(Text((sweep / "report.html").read_text(encoding="utf-8")).text)
    for line in document.report(data).splitlines():
        if line.startswith("| ") and "---" not in line:
            for cell in line.strip("| ").split(" | "):
                assert cell.replace("`", "") in shown


def test_a_sweep_of_which_nothing_is_finished_has_a_page(tmp_path):
    write(tmp_path / "sweep.json", SWEEP)
    assert command.main([str(tmp_path)]) == 0
    shown = "".join(Text((tmp_path / "report.html").read_text(encoding="utf-8")).text)
    assert "not started" in shown
    assert "Curves" not in shown


# ---- The documents of this repository

DOCUMENTS = {"ablations": "ablations", "recipes": "results"}


def test_the_documents_are_of_their_data():
    """Else: python -m experiments.report --from-json=results/NAME.json --document=docs/NAME.md."""
    for name, file in DOCUMENTS.items():
        text = (plan.ROOT / "docs" / f"{file}.md").read_text()
        generated = document.document(sweep_data.load(plan.ROOT / "results" / f"{name}.json"))
        assert text.partition(f"{document.MARK}\n\n")[2] == generated, name


def test_the_data_are_of_the_sweeps_as_they_are():
    """If a sweep file was changed since, the sweep must be run again."""
    for file in DOCUMENTS:
        for name, data in sweep_data.load(plan.ROOT / "results" / f"{file}.json").items():
            stem, _, on = name.partition(":")
            sweep, described = plan.load(f"{plan.ROOT}/experiments/sweeps/{stem}.py:{on}")
            assert data["sweep"] == described, name
            assert [run["state"] for run in data["runs"]] == ["finished"] * len(sweep.variants) * sweep.seeds
            assert [row["state"] for row in data["evaluations"]] == ["finished"] * len(sweep.evaluations) * sweep.seeds
            assert all(0 <= run["top1"] <= 1 for run in data["runs"])


def test_every_small_recipe_learns_the_digits():
    data = sweep_data.load(plan.ROOT / "results" / "recipes.json")["recipes"]
    rows = {row.name: row for row in analysis.analyse(data).rows}
    assert list(rows) == list(NETWORKS)
    assert all(sum(row.top1.values()) / 3 >= 0.98 for row in rows.values())

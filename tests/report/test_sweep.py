"""Reports on sweeps: data of their runs, statistics and verdicts, tables, Markdown, page, the document."""

import copy
import html.parser
import json
import re
import shutil
import sys
from xml.etree import ElementTree

import pytest

from configs.digits import NETWORKS
from experiments import report as command
from experiments.sweep import plan
from experiments.sweeps import Claim
from inception_jax.errors import UserError
from inception_jax.report.sweep import analysis, document, page
from inception_jax.report.sweep import data as sweep_data
from inception_jax.report.sweep.forest import forest

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
PLAN = {
    "effect": 2.0,
    "power": 0.8,
    "level": 0.95,
    "claims": 41,
    "seeds": 3,
    "visible": 1.84,
    "pilot": {"glyphs": {"variant": "glyphs/both", "top1": [0.8, 0.81], "sd": 0.71}},
    "rates": {"both": {"0.001": 0.7, "0.003": 0.8}},
    "chosen": {"both": "0.003", "none": "0.001"},
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
    [_, _, mean] = [point for point in page_data(sweep, data)[""]["costs"] if point["name"] != "late"]
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
    claim = SWEEP["claims"][0]
    cases = [
        ("sweep.json is damaged", "{"),
        ("sweep.json is damaged", []),
        ("has a damaged variants", SWEEP | {"variants": []}),
        ("has no seeds", {key: value for key, value in SWEEP.items() if key != "seeds"}),
        ("has a damaged sets", SWEEP | {"sets": ["glyphs"]}),  # no variant is of it
        ("has a damaged chance", SWEEP | {"chance": {"": 1.5}}),
        ("has a damaged evaluations", SWEEP | {"evaluations": {"x": {"protocol": "single"}}}),
        ("has a damaged claims", SWEEP | {"claims": [claim | {"measure": "speed"}]}),
        ("has a damaged claims", SWEEP | {"claims": [claim | {"than": ["none"]}]}),
        ("has a damaged claims", SWEEP | {"claims": [claim | {"text": None}]}),
        ("has a damaged claims", SWEEP | {"claims": [claim | {"measure": "steps", "margin": 1.0}]}),
    ]
    for message, content in cases:
        write(tmp_path / "sweep.json", content)
        with pytest.raises(UserError, match=message):
            sweep_data.read(tmp_path)


def test_a_claim_has_the_margin_of_its_measure_unless_it_states_another(sweep):
    claim = {"text": "t", "source": "s", "better": "both", "than": "none"}
    claims = [claim | more for more in ({"measure": "top1"}, {"measure": "steps"}, {"measure": "top1", "margin": 3})]
    write(sweep / "sweep.json", SWEEP | {"claims": claims})
    own = [analysis.MARGINS["top1"], analysis.MARGINS["steps"]]
    assert [claim["margin"] for claim in sweep_data.read(sweep)["sweep"]["claims"]] == [*own, 3]
    assert [Claim("t", "s", "a", "b", measure).margin for measure in ("top1", "steps")] == own
    with pytest.raises(UserError, match="the claim 't' has a margin of 1; it must be above 1"):
        Claim("t", "s", "a", "b", "steps", margin=1.0)


def test_the_plan_is_kept_with_the_data_and_a_damaged_one_is_one_line(sweep, tmp_path):
    assert "plan" not in sweep_data.read(sweep)
    write(sweep / "plan.json", PLAN)
    data = sweep_data.read(sweep)
    assert data["plan"] == PLAN
    file = tmp_path / "kept.json"
    write(file, sweep_data.dump({"heads": data}))
    assert sweep_data.load(file) == {"heads": data}
    cases = [
        ("{", "plan.json is damaged; plan the sweep again"),
        ([PLAN], "plan.json is damaged; plan the sweep again"),
        ({**PLAN, "claims": 1.5}, "plan.json has a plan with a damaged claims"),
        ({**PLAN, "power": "high"}, "plan.json has a plan with a damaged power"),
        ({**PLAN, "pilot": {"glyphs": {"sd": None}}}, "plan.json has a plan with a damaged pilot"),
        ({**PLAN, "chosen": {"both": []}}, "plan.json has a plan with a damaged chosen"),
        ({"power": 0.8}, "plan.json lacks the plan's effect, level, claims, seeds, visible"),
    ]
    for content, message in cases:
        write(sweep / "plan.json", content)
        with pytest.raises(UserError, match=message):
            sweep_data.read(sweep)


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
    assert "plain 95 % interval, not corrected" in table.note


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
    assert any(line.startswith("Of 2 claims 0 agree, 0 disagree, 0 are equivalent, 2 are inc") for line in lines)
    # The smaller of two p values is tested at 5 % / 2: t is 6.205 instead of 4.303.
    assert (
        "| heads help | section 5 | `both` against `none`: +3.0 points, 97.5 % interval -4.2 to +10.2 from 3 pairs; "
        "the mean leans the claim's way | inconclusive |" in lines
    )
    assert "| `late` | 1 | failed | `a \\| 'b'` |" in lines
    assert "python -m experiments.sweep experiments/sweeps/heads.py:glyphs --workdir=DIR" in lines
    text = " ".join(lines)
    said = ["corrected for 2 claims, by Holm", "margin is our choice", "small networks on small data"]
    for one in [*said, "3 times as many", "without evaluation and compilation"]:
        assert one in text


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
    for run in other["runs"]:  # an interval far above 0, and one far below
        run["top1"] = {"none": 0.9, "late": 0.5}.get(run["variant"], 0.7 + 0.001 * run["seed"])
    text, picture = document.document(sweeps, "x.svg"), document.figure(sweeps)
    shutil.rmtree(sweep / "both")
    monkeypatch.chdir(tmp_path)
    again = json.loads(sweep_data.dump(sweeps))
    assert (document.document(again, "x.svg"), document.figure(again)) == (text, picture)
    lines = text.splitlines()
    assert "2 sweeps of 18 runs, 18 of them finished, 2 to 3 seeds of each variant." in text
    assert [line for line in lines if line.startswith("## ")] == [
        "## Verdicts",
        "## What could have been seen",
        "## How to read this",
        "## Heads (glyphs)",
        "## Tails, & more",
    ]
    assert any(line.startswith("| [Tails, & more](#tails--more) | heads help | section 5 | ") for line in lines)
    # late - both is the same in all pairs, which is no test.
    assert "compare variants with their baseline 3 times, with plain 95 % intervals; 2 of them exclude 0" in text
    assert "Of 4 claims 0 agree, 2 disagree, 0 are equivalent, 2 are inconclusive." in text
    assert "The intervals are corrected for 4 claims, by Holm" in text
    assert "inconclusive.](x.svg)" in text
    assert text.count("### Results") == 2
    assert "### Not counted" not in text


def test_a_document_of_nothing():
    assert "0 claims" in document.document({}, "x.svg")
    assert "x.svg" not in document.document({}, "x.svg")


def test_the_document_keeps_what_is_written_by_hand_and_has_its_figure_beside_it(sweep, tmp_path):
    file, sweeps = tmp_path / "new.md", {"heads": sweep_data.read(sweep)}
    assert document.write_document(file, sweeps) == tmp_path / "new.svg"
    assert file.read_text().startswith(f"# Sweeps\n\n{document.MARK}\n\n1 sweep of 9 runs")
    assert (tmp_path / "new.svg").read_text() == document.figure(sweeps)
    file.write_text(f"# Mine\n\nBy hand.\n\n{document.MARK}\nold\n")
    for _ in range(2):
        document.write_document(file, sweeps)
        expected = f"# Mine\n\nBy hand.\n\n{document.MARK}\n\n{document.document(sweeps, 'new.svg')}"
        assert file.read_text() == expected
    sweeps["heads"]["sweep"]["claims"] = []
    assert document.write_document(tmp_path / "none.md", sweeps) is None
    assert not (tmp_path / "none.svg").exists()


def test_the_figure_has_every_claim_once():
    def claim(text, verdict, *numbers, measure="top1"):
        return analysis.Claim(text, "s", measure, 1.2 if measure == "steps" else 1.0, verdict, "words", *numbers)

    groups = {
        "One": [
            claim("up", "agrees", 3.0, (1.0, 5.0)),
            claim("no <test> & `x`", "inconclusive"),
            claim("wide", "inconclusive", -1.0, (-120.0, 118.0), measure="no_worse"),
            claim("fast", "agrees", 0.5, (0.25, 1.0), measure="steps"),
        ],
        "Two": [
            claim("same", "equivalent", 0.1, (-0.5, 0.7)),
            claim("few", "inconclusive", 0.0),
            claim("never", "disagrees", measure="steps"),
        ],
        "None": [],
    }
    space = {"": "http://www.w3.org/2000/svg"}
    drawing = ElementTree.fromstring(forest(groups))
    rows = drawing.findall("g[@class='f-claim']", space)
    texts = [" ".join(text.text for text in row.findall("text", space)) for row in rows]
    # First all claims about accuracy, then those about steps.
    assert texts == [
        "up +3.0 (+1.0 to +5.0)",
        "no <test> & x no test",
        "wide -1.0 (-120 to +118)",
        "same +0.1 (-0.5 to +0.7)",
        "few 0.0 (no test)",
        "fast 0.50 (0.25 to 1.00)",
        "never never",
    ]
    # The axis of points reaches to 5, 28.4 units each around 154; that of ratios to 1 / 2 on the right.
    drawn = [[(path.get("class"), path.get("transform"), path.get("d")) for path in row] for row in rows]
    lines = [next((d for _, at, d in paths if d and not at and "v14" not in d), None) for paths in drawn]
    assert [re.match(r"M([\d.]+) [\d.]+H([\d.]+)", line).groups() for line in lines if line] == [
        ("182.4", "296.0"),
        ("12.0", "296.0"),
        ("139.8", "173.9"),
        ("154.0", "296.0"),
    ]
    # A wide interval has an arrow at both ends, 'fast' at its right end.
    assert [line.count("M") for line in lines if line] == [1, 3, 1, 2]
    markers = [(kind, at.split()[0]) for paths in drawn for kind, at, _ in paths if at]
    assert markers == [
        ("f-agrees", "translate(239.2"),
        ("f-inconclusive", "translate(125.6"),
        ("f-equivalent", "translate(156.8"),
        ("f-inconclusive", "translate(154.0"),
        ("f-agrees", "translate(296.0"),
        ("f-disagrees", "translate(12.0"),
    ]
    assert [text.text for text in drawing.iterfind("text[@class='f-head']", space)] == [
        "Top-1, in points", "One", "Two", "Steps, as a ratio", "One", "Two",
    ]  # fmt: skip
    assert forest({"None": []}) == ""


def test_the_json_keeps_what_it_was_given_with_a_line_a_run(sweep):
    data = sweep_data.read(sweep)
    text = sweep_data.dump({"b": data, "a": data | {"threshold": 0.5}})
    assert json.loads(text) == {"a": data | {"threshold": 0.5}, "b": data}
    assert list(json.loads(text)) == ["a", "b"]
    assert len([line for line in text.splitlines() if line.startswith('{"variant"')]) == 18


def test_damaged_data_are_one_line(sweep, tmp_path):
    data, file = sweep_data.read(sweep), tmp_path / "kept.json"
    wrong = [
        ("top1", None),
        ("top1", 80),
        ("state", 3),
        ("count", -5),
        ("device", ["cpu"]),
        ("evaluations", [[1, 0.5]]),
    ]
    for key, value in [*wrong, ("variant", None), ("seed", "0"), ("loss", "x")]:
        damaged = [data["runs"][0] | {key: value}, *data["runs"][1:]]
        write(file, {"heads": data | {"runs": damaged}})
        with pytest.raises(UserError, match="kept.json does not hold the data of sweeps"):
            sweep_data.load(file)


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
    claim = {"text": NASTY, "source": NASTY, "better": name, "than": "both", "measure": "top1", "margin": 1.0}
    variants = {"both": {}, name: {NASTY: NASTY}, "late": {}}
    data["sweep"] |= own | {"variants": variants, "claims": [claim], "base": {"config": NASTY, "overrides": {NASTY: 1}}}
    for run in data["runs"]:
        run["variant"] = name if run["variant"] == "none" else run["variant"]
    data["runs"][-1] |= {"state": "failed", "error": NASTY, "device": NASTY}
    return data


def test_all_text_is_escaped(sweep):
    data = nasty(sweep_data.read(sweep))
    assert "</script><b>bold</b>" in page_data(sweep, data)[""]["curves"]
    read = Text((sweep / "page.html").read_text(encoding="utf-8"))
    tags = [tag for tag, _ in read.tags]
    assert not {"img", "b"} & set(tags)
    assert tags.count("script") == 3  # the data, plotly, ours
    shown = " ".join("".join(read.text).split())
    # Title and heading; text; base, file; printed, what; claim (in the figure too), source; changes; device, error.
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
        sweeps = sweep_data.load(plan.ROOT / "results" / f"{name}.json")
        assert text.partition(f"{document.MARK}\n\n")[2] == document.document(sweeps, f"{file}.svg"), name
        picture = (plan.ROOT / "docs" / f"{file}.svg").read_text(encoding="utf-8")
        assert picture == document.figure(sweeps), name


def test_the_data_are_of_the_sweeps_as_they_are():
    """If a sweep file was changed since, the sweep must be run again."""
    for file in DOCUMENTS:
        for name, data in sweep_data.load(plan.ROOT / "results" / f"{file}.json").items():
            stem, _, on = name.partition(":")
            _, described = plan.load(f"{plan.ROOT}/experiments/sweeps/{stem}.py:{on}")
            if "plan" in data:
                described["seeds"] = list(range(data["plan"]["seeds"]))
            assert data["sweep"] == sweep_data.complete(described, plan.ROOT / "sweep.json"), name
            for rows, names in (("runs", "variants"), ("evaluations", "evaluations")):
                wanted = len(described[names]) * len(described["seeds"])
                assert [row["state"] for row in data[rows]] == ["finished"] * wanted, name
            assert all(0 <= run["top1"] <= 1 for run in data["runs"])


def test_every_small_recipe_learns_the_digits():
    data = sweep_data.load(plan.ROOT / "results" / "recipes.json")["recipes"]
    rows = {row.name: row for row in analysis.analyse(data).rows}
    assert list(rows) == list(NETWORKS)
    assert all(sum(row.top1.values()) / 3 >= 0.98 for row in rows.values())

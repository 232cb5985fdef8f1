"""Planned sweeps: tuning, plan, training, each as its commands do it, in this process."""

import json

import pytest

from experiments.sweep import __main__ as command
from experiments.sweep import bench, launcher, plan, worker
from inception_jax import runtime
from inception_jax.report.sweep import data as sweep_data
from inception_jax.report.sweep.analysis import analyse
from inception_jax.report.sweep.power import sd_of_difference, visible_effect
from inception_jax.runs.run import Run
from inception_jax.training import seeds

FILE = """
from experiments.sweeps import Base, Claim, Evaluation, ImageSet, Sweep

SPLIT = {"data.name": "folder", "data.dir": FOLDER, "data.train_split": "train"}
SETS = {
    "one": ImageSet(SPLIT | {"data.eval_split": "val"}, "train", 0.1),
    "two": ImageSet(SPLIT | {"data.eval_split": "val", "data.flip": True}, "train", 0.1),
}
RECIPE = {"data.resize": 32, "data.crop": "central", "train.epochs": 0.0, "train.steps": 4, "train.batch_size": 8}

def get_sweep(data):
    return Sweep(
        title="Title",
        text="Text",
        base=Base("configs/digits.py:lenet5_modern", RECIPE | {"schedule.warmup": "1 step"}, SETS),
        variants={"a": {}, "b": {"train.label_smoothing": 0.0, "seed": 100}},
        claims=(Claim("b is better", "section 1", "b", "a"),),
        evaluations={"both": Evaluation(("a", "b"), "single")},
    )
"""


@pytest.fixture
def file(tmp_path, image_folder, monkeypatch):
    monkeypatch.setattr(runtime, "configure", lambda _: None)
    (tmp_path / "mine.py").write_text(FILE.replace("FOLDER", repr(str(image_folder))))
    return tmp_path / "mine.py"


class _InThisProcess(launcher.Launcher):
    """Runs trainings one after another, and no evaluations."""

    def launch(self, retry, board):
        board.show({task.name: self.state(task) for task in self.tasks})
        for task in self.tasks:
            if task.command[1] == "experiments.sweep.worker":
                worker.main(list(task.command[2:]))

    def state(self, task):
        return "finished" if (self.directory / task.name / "evaluation.json").exists() else "waiting"


def test_a_planned_sweep(file, tmp_path, monkeypatch, capsys):
    """Tuned on validation images, planned once, trained with what the plan says, and reported; then nothing is left."""
    monkeypatch.setattr(launcher, "Launcher", _InThisProcess)
    directory = tmp_path / "sweep"
    arguments = [str(file), f"--workdir={directory}", "--seeds=2"]
    assert command.main(arguments) == 1  # the evaluations were not run
    out = capsys.readouterr().out
    assert "one: seed 0, learning rate 0.0015: train top-1" in out
    assert "two: seed 100, learning rate 0.006: train top-1" in out

    rows = json.loads((directory / "tuning/a/evaluation.json").read_text())["rows"]
    tried = [(row["set"], row["seed"], row["rate"]) for row in rows]
    rates = [(seed, rate) for one, seed, rate in tried if one == "one"]
    assert rates[:3] == [(0, 0.0015), (0, 0.003), (0, 0.006)]
    best = float(json.loads((directory / "plan.json").read_text())["chosen"]["one/a"])
    assert {(1, best), (2, best), (3, best)} <= set(rates[3:])  # the second try of the best rate, and the pilot's

    planned = json.loads((directory / "plan.json").read_text())
    data = sweep_data.read(directory)
    assert data["plan"] == planned
    assert data["sweep"]["seeds"] == [0, 1]
    assert data["sweep"]["claims"][0]["better"] == ["one/b", "two/b"]
    assert data["sweep"]["variants"]["two/b"]["data.flip"] is True
    assert [(run["variant"], run["seed"], run["state"]) for run in data["runs"]] == [
        (f"{one}/{variant}", seed, "finished") for one in ("one", "two") for variant in "ab" for seed in (0, 1)
    ]
    for run in data["runs"]:
        config = Run.read(directory / run["variant"] / str(run["seed"])).config
        assert config["seed"] == run["seed"] + 100 * run["variant"].endswith("b")
        assert config["schedule"]["base_lr"] == float(planned["chosen"][run["variant"]])
        assert config["data"]["eval_split"] == "val"
        assert run["count"] == 21
        assert run["total_steps"] == run["step"] == 4
    assert analyse(data).claims[0].words
    assert (directory / "one/a/0/checkpoints/4").is_dir()  # a member of an ensemble

    monkeypatch.setattr(seeds.SeedTrainer, "train", None)
    assert command.main(arguments) == 1
    assert json.loads((directory / "plan.json").read_text()) == planned
    assert command.main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert f"python -m experiments.sweep.worker training {file} b --workdir={directory}" in shown
    assert f"--workdir={directory}/one/a/1 --workdir={directory}/one/b/1 --protocol=single" in shown


def test_a_run_that_is_not_finite_has_failed(file, tmp_path, monkeypatch, capsys):
    directory = tmp_path / "sweep"
    sweep, _ = plan.load(str(file))
    chosen = {f"{one}/{variant}": "1e30" if one == "two" else "0.001" for one in ("one", "two") for variant in "ab"}
    monkeypatch.setattr(bench, "read_plan", lambda _: {"seeds": 1, "chosen": chosen})
    assert worker.main(["training", str(file), "a", f"--workdir={directory}"]) == 1
    assert "error: the loss was not finite in two/a/0" in capsys.readouterr().err
    states = {one: Run.read(directory / one / "a/0") for one in sweep.base.sets}
    assert (states["one"].state, states["two"].state) == ("finished", "failed")
    assert "was not finite" in states["two"].error
    assert not (directory / "training/a/evaluation.json").exists()


def test_the_plan(file):
    """Rates whose worse seed is best, the middle one of equals; the number of seeds by hand."""
    sweep, _ = plan.load(str(file))

    def rows(variant, one, first, second=(), pilot=()):
        tried = [(seed, zip((0.1, 0.3, 0.9), top1, strict=True)) for seed, top1 in enumerate((first, second or first))]
        tried += [(seed, [(0.3, top1)]) for seed, top1 in enumerate(pilot, 2)]
        return [
            {"set": one, "variant": variant, "rate": rate, "seed": seed, "top1": top1}
            for seed, found in tried
            for rate, top1 in found
        ]

    # The largest rate is the best on average, and worse with one seed.
    tuned = rows("a", "one", (0.8, 0.9, 0.95), (0.8, 0.904, 0.87), (0.908,))
    tuned += rows("a", "two", (0.8, 0.9, 0.7), pilot=(0.9,))
    tuned += rows("b", "one", (0.9, 0.8, 0.9)) + rows("b", "two", (0.1, 0.2, 0.3))
    planned = bench.make_plan(sweep, tuned, 43)
    assert planned["chosen"] == {"one/a": "0.3", "two/a": "0.3", "one/b": "0.1", "two/b": "0.9"}
    assert planned["rates"]["two/b"] == {"0.1": 0.1, "0.3": 0.2, "0.9": 0.3}
    assert planned["pilot"]["one"] == {"variant": "a", "top1": {"0": 0.9, "1": 0.904, "2": 0.908}, "sd": 0.4}
    assert planned["pilot"]["two"]["sd"] == 0
    sds = [sd_of_difference(0.4), 0.0]
    seen = {n: visible_effect(sds, n, power=0.8, level=0.95, tests=43) for n in range(3, 9)}
    assert planned["seeds"] == min(n for n in seen if seen[n] <= 1.0) < bench.MOST_SEEDS
    assert planned["visible"] == pytest.approx(seen[planned["seeds"]], abs=0.005)
    assert bench.make_plan(sweep, rows("a", "one", (0.8, 0.9, 0.9), (0.8, 0.8, 0.8)) + tuned[7:], 43)["seeds"] == 8
    assert bench.make_plan(sweep, tuned, 43, seeds=4)["seeds"] == 4
    assert sweep_data._checked_plan(planned, file) == planned


def test_a_rate_is_tried_again_while_it_may_be_the_best():
    rows = [{"rate": rate, "seed": 0, "top1": top1} for rate, top1 in ((0.1, 0.7), (0.2, 0.9), (0.4, 0.8))]
    assert bench.untried(rows) == [(1, 0.2)]
    assert bench.untried([*rows, {"rate": 0.2, "seed": 1, "top1": 0.85}]) == []
    rows.append({"rate": 0.2, "seed": 1, "top1": 0.8})  # as good as the other's first seed
    assert bench.untried(rows) == [(1, 0.4)]
    rows.append({"rate": 0.4, "seed": 1, "top1": 0.9})
    assert bench.untried(rows) == []
    assert bench.worst_by_rate(rows) == {0.1: 0.7, 0.2: 0.8, 0.4: 0.8}


def test_what_is_wrong_is_one_line(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(launcher.Launcher, "launch", None)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/plan.json").write_text("{}")
    for arguments, message in {
        ("--filter=x*",): "--filter=x* matches none of a, b",
        (): "plan.json is damaged; remove it, and the sweep plans again",
        ("--config.seed=1",): "the seed cannot be set for all runs",
        ("--config.data.image_size=4",): "one/a: images of 4x4 are too small for this network",
    }.items():
        where = "other" if arguments else "sweep"
        assert command.main([str(file), f"--workdir={tmp_path / where}", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert worker.main(["training", str(file), "a", f"--workdir={tmp_path / 'none'}"]) == 2
    assert "has no plan.json; the tuning comes first" in capsys.readouterr().err

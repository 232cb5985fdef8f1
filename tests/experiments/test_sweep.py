"""Sweeps: from a file to its runs, what one sees of them, the command; one is trained, at the end."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from experiments.report import runs as report_runs
from experiments.sweep import __main__ as command
from experiments.sweep import board, job, launcher, plan
from experiments.sweep.board import Board, Progress, progress
from experiments.sweep.plan import ROOT, Run
from experiments.sweeps import Base, Sweep, product
from inception_jax.errors import UserError

FILE = """
from experiments.sweeps import Base, Claim, Evaluation, Sweep

def get_sweep(data):
    return Sweep(
        title="Title",
        text="Text on " + data,
        base=Base("configs/digits.py:lenet5_modern", {"train.batch_size": 16, "data.area": (0.5, 1.0), "seed": 7}),
        variants={"a": {}, "b.x5": {"train.batch_size": 32, "schedule.base_lr": 5e-3}, "c": {"seed": 100}},
        claims=(
            Claim("b is better", "section 1", "b.x5", "a", "steps"),
            Claim("so are e", "section 2", ("e1", "c"), ("a", "a")),
        ),
        printed={"a": "12.5", "e2": "11.0"},
        printed_what="error in %",
        evaluations={"e1": Evaluation(("a",), "single"), "e2": Evaluation(("a", "c"), "single,10crop")},
        seeds=2,
    )
"""
BASE = ("main.py", "--config=configs/digits.py:lenet5_modern")
AREA = "--config.data.area=(0.5, 1.0)"


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    """Nothing of what a launcher does to its process is left."""
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(launcher, "_POLL_SECONDS", 0.05)


@pytest.fixture
def load(tmp_path):
    """The sweep of a text."""

    def load(text=FILE, data=""):
        (tmp_path / "mine.py").write_text(text)
        return plan.load(f"{tmp_path / 'mine.py'}{data}")

    return load


def runs_of(sweep, *arguments, **options):
    return plan.runs_of(sweep, ROOT / "w", *arguments, **options)


# ---- From a file to its runs


def test_the_runs_come_seed_by_seed_and_evaluations_last(load):
    sweep, file, data = load()
    assert (file.name, data, sweep.text) == ("mine.py", "embedded", "Text on embedded")
    runs = runs_of(sweep)
    assert [(run.name, run.seed, run.needs) for run in runs] == [
        ("a/0", 0, ()),
        ("b.x5/0", 0, ()),
        ("c/0", 0, ()),
        ("a/1", 1, ()),
        ("b.x5/1", 1, ()),
        ("c/1", 1, ()),
        ("evaluations/e1/0", 0, ("a/0",)),
        ("evaluations/e2/0", 0, ("a/0", "c/0")),
        ("evaluations/e1/1", 1, ("a/1",)),
        ("evaluations/e2/1", 1, ("a/1", "c/1")),
    ]
    w = ROOT / "w"
    by_name = {run.name: run.command for run in runs}
    assert by_name["a/1"] == (
        *BASE, "--config.train.batch_size=16", AREA, "--config.seed=1", f"--workdir={w}/a/1"
    )  # fmt: skip
    assert by_name["b.x5/0"] == (
        *BASE, "--config.train.batch_size=32", AREA, "--config.seed=0", "--config.schedule.base_lr=0.005",
        f"--workdir={w}/b.x5/0",
    )  # fmt: skip
    assert by_name["c/1"] == (
        *BASE, "--config.train.batch_size=16", AREA, "--config.seed=101", f"--workdir={w}/c/1"
    )  # fmt: skip
    assert by_name["evaluations/e2/1"] == (
        "-m", "experiments.evaluate", f"--workdir={w}/a/1", f"--workdir={w}/c/1", "--protocol=single,10crop",
        "--checkpoint=last", f"--out={w}/evaluations/e2/1",
    )  # fmt: skip
    assert shlex.split(plan.shown(runs[1])) == list(runs[1].command)
    config = plan.resolve(runs[1])
    assert (config.train.batch_size, config.data.area, config.schedule.base_lr) == (32, (0.5, 1.0), 5e-3)


def test_data_behind_the_colon(load):
    sweep, _, data = load(data=":imagenette/320px-v2")
    assert (data, sweep.text) == ("imagenette/320px-v2", "Text on imagenette/320px-v2")


def test_the_number_of_seeds(load):
    sweep, *_ = load()
    assert [run.name for run in runs_of(sweep, 1)] == ["a/0", "b.x5/0", "c/0", "evaluations/e1/0", "evaluations/e2/0"]
    assert [run.seed for run in runs_of(sweep, 5)][-1] == 4


def test_settings_go_over_the_base_and_under_the_variants(load):
    """In the command, and so in the config."""
    sweep, *_ = load()
    settings = ["--config.train.batch_size=8", "--noconfig.data.flip", "--config.schedule.base_lr=0.5"]
    a, b, *_ = runs_of(sweep, settings=settings)
    assert a.command == (*BASE, AREA, "--config.seed=0", *settings, f"--workdir={ROOT}/w/a/0")
    assert b.command == (
        *BASE, "--config.train.batch_size=32", AREA, "--config.seed=0", "--noconfig.data.flip",
        "--config.schedule.base_lr=0.005", f"--workdir={ROOT}/w/b.x5/0",
    )  # fmt: skip
    configs = [plan.resolve(run) for run in (a, b)]
    assert [config.train.batch_size for config in configs] == [8, 32]
    assert [config.schedule.base_lr for config in configs] == [0.5, 5e-3]
    assert [config.data.flip for config in configs] == [False, False]
    variant = Sweep("", "", Base(BASE[1][9:]), {"v": {"data.flip": True, "train.aux_weights.aux1": 0.0}})
    [run] = runs_of(variant, 1, settings=["--noconfig.data.flip", "--config.train.aux_weights.aux1=1.0"])
    assert run.command[2:-1] == ("--config.data.flip=True", "--config.train.aux_weights.aux1=0.0", "--config.seed=0")
    with pytest.raises(UserError, match=r"^--config.seed: every run has a seed of its own; --seeds=K says how many"):
        runs_of(sweep, settings=["--config.seed=3"])


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["a"], ["a/0", "a/1"]),
        (["b*"], ["b.x5/0", "b.x5/1"]),
        (["*/1"], ["a/0", "b.x5/0", "c/0"]),
        (["c/1", "a/0"], ["a/0", "c/1"]),
        (["[ab]*/0"], ["a/0", "b.x5/0"]),
        (["e1/0"], ["a/0", "evaluations/e1/0"]),
        (["e2/1", "b.x5/0"], ["b.x5/0", "a/1", "c/1", "evaluations/e2/1"]),
        (["evaluations/e1/1"], ["a/1", "evaluations/e1/1"]),
        (["evaluations/*"], ["a/0", "c/0", "a/1", "c/1", *(f"evaluations/e{e}/{s}" for s in (0, 1) for e in (1, 2))]),
    ],
)
def test_filter(patterns, names, load):
    """What an evaluation needs comes along."""
    sweep, *_ = load()
    if patterns == ["*/1"]:
        names = [f"{name[:-1]}1" for name in (*names, "evaluations/e1/_", "evaluations/e2/_")]
    assert [run.name for run in runs_of(sweep, patterns=patterns)] == names


@pytest.mark.parametrize("patterns", [["d"], ["a", "A"], ["a/2"], ["0"]])
def test_a_filter_that_fits_none(patterns, load):
    sweep, *_ = load()
    with pytest.raises(UserError) as error:
        runs_of(sweep, patterns=patterns)
    assert str(error.value) == f"--filter={patterns[-1]} fits none of a, b.x5, c, e1, e2"


def test_product():
    first, second = {"x": {"k": 1, "l": 1}, "y": {"k": 2}}, {"": {}, "z": {"l": 3}}
    combined = {"x": {"k": 1, "l": 1}, "x-z": {"k": 1, "l": 3}, "y": {"k": 2}, "y-z": {"k": 2, "l": 3}}
    assert product(first, second) == combined
    assert list(product(first, second)) == list(combined)
    assert list(product(first)) == ["x", "y"]


def test_what_the_report_is_told(load, tmp_path):
    """Everything that it reads, as it is; a second file of that name is a sweep of its own by its data."""
    sweep, file, data = load()
    described = plan.described(sweep, file, data, 0, ["--config.hasty=True"])
    (tmp_path / "sweep.json").write_text(json.dumps(described))
    assert report_runs.read(tmp_path)["sweep"] == described
    assert described == {
        "name": "mine",
        "file": str(tmp_path / "mine.py"),
        "data": "embedded",
        "settings": ["--config.hasty=True"],
        "seeds": [0, 1],
        "title": "Title",
        "text": "Text on embedded",
        "base": {
            "config": "configs/digits.py:lenet5_modern",
            "overrides": {"train.batch_size": 16, "data.area": [0.5, 1.0], "seed": 7},
        },
        "variants": {"a": {}, "b.x5": {"train.batch_size": 32, "schedule.base_lr": 5e-3}, "c": {"seed": 100}},
        "baseline": "a",
        "claims": [
            {"text": "b is better", "source": "section 1", "better": "b.x5", "than": "a", "measure": "steps"},
            {"text": "so are e", "source": "section 2", "better": ["e1", "c"], "than": ["a", "a"], "measure": "top1"},
        ],
        "printed": {"a": "12.5", "e2": "11.0"},
        "printed_what": "error in %",
        "evaluations": {
            "e1": {"members": ["a"], "protocol": "single"},
            "e2": {"members": ["a", "c"], "protocol": "single,10crop"},
        },
    }
    assert plan.described(sweep, file, "cifar10", 4, ())["name"] == "mine:cifar10"
    assert plan.described(sweep, file, "cifar10", 4, ())["seeds"] == [0, 1, 2, 3]
    ours = ROOT / "experiments" / "sweeps" / "vgg.py"
    assert plan.described(sweep, ours, data, 0, ())["file"] == "experiments/sweeps/vgg.py"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def get_sweep", "1 / 0\ndef get_sweep", " cannot be read: ZeroDivisionError: division by zero"),
        ("def get_sweep", "def sweep", " cannot be read: AttributeError: module 'sweep_mine' has no"),
        ("    return Sweep(", "    return Sweep((", " cannot be read: '(' was never closed (mine.py, line 5)"),
        ("title=", "titel=", " cannot be read: TypeError: Sweep.__init__() got an unexpected keyword argument 'titel'"),
        ("    return ", "    ", ": get_sweep(data) must return a Sweep with variants"),
        ('{"a": {}, "b.x5":', '{} and {"a":', ": get_sweep(data) must return a Sweep with variants"),
        ('"c": {"seed"', '"c/d": {"seed"', ": 'c/d' is no name of a variant; it names a directory, of letters, "),
        ('"c": {"seed"', '".c": {"seed"', ": '.c' is no name of a variant"),
        ('"c": {"seed"', '"": {"seed"', ": '' is no name of a variant"),
        ('"c": {"seed"', '"evaluations": {"seed"', ": 'evaluations' is no name of a variant"),
        ('"c": {"seed"', '"sweep.json": {"seed"', ": 'sweep.json' is no name of a variant"),
        ('{"e1": Eval', '{"a": Eval', ": 'a' is no name of a variant"),
        ('"b.x5", "a", "steps"', '"b", "a", "steps"', ": a claim is of 'b', which is no variant"),
        ('("e1", "c")', '("f", "c")', ": a claim is of 'f', which is no variant"),
        ('"b.x5", "a", "steps"', '("b.x5", "c"), "a", "steps"', ": the claim 'b is better' compares 2 variants with 1"),
        ('"b.x5", "a", "steps"', '("b.x5", "c"), ("a", "d"), "steps"', ": a claim is of 'd', which is no variant"),
        ('"a", "steps"', '"a", "epochs"', ": a claim's measure: 'epochs' is not one of top1, no_worse, steps"),
        ('"a": "12.5"', '"d": "12.5"', ": printed is of 'd', which is no variant"),
        ("seeds=2", "baseline='d'", ": the baseline is of 'd', which is no variant"),
        ('("a",), "single"', '("d",), "single"', ": evaluation 'e1' is of 'd', which is no variant"),
        ('("a",), "single"', '("e2",), "single"', ": evaluation 'e1' is of 'e2', which is no variant"),
        ("single,10crop", "single,11crop", ": evaluation 'e2': '11crop' is not one of single, anisotropic, 10crop"),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself(old, new, message, load, tmp_path):
    assert FILE.count(old) == 1
    with pytest.raises(UserError) as error:
        load(FILE.replace(old, new))
    assert str(error.value).startswith(f"{tmp_path / 'mine.py'}{message}")
    assert "\n" not in str(error.value)


def test_a_baseline_that_is_an_evaluation(load):
    sweep, file, data = load(FILE.replace("seeds=2", "baseline='e2'"))
    assert plan.described(sweep, file, data, 0, ())["baseline"] == "e2"


def test_a_file_that_refuses_the_data(load):
    with pytest.raises(UserError) as error:
        load("from inception_jax.errors import UserError\ndef get_sweep(data): raise UserError('too small')")
    assert str(error.value) == "too small"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("experiments/sweeps/alexnett.py", "there is no sweep file experiments/sweeps/alexnett.py; experiments/sweeps/ "
         "has alexnet, all_cnn, bn_inception, "),
        ("experiments/sweeps", "there is no sweep file experiments/sweeps; experiments/sweeps/ has alexnet, "),
        ("experiments/sweeps/alexnet.py:mnist", "experiments/sweeps/alexnet.py:mnist: 'mnist' is not one of embedded, "
         "cifar10, cifar100, imagenette/320px-v2, imagenet2012"),
        ("run.sh", "run.sh is no Python file"),
    ],
)  # fmt: skip
def test_a_file_that_is_none(file, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as error:
        plan.load(file)
    assert str(error.value).startswith(message)
    assert "__init__" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.epohcs": 3}, 'Did you mean "epochs" instead of "epohcs"?'),
        ({"trian.epochs": 3}, 'Did you mean "train" instead of "trian"?'),
        ({"train.epochs": "many"}, "config.train.epochs='many': a number is wanted"),
        ({"train.label_smoothing": 2.0}, "config.train.label_smoothing=2.0 must be between 0 and 1"),
        ({"model.name": "lenet6"}, "there is no network 'lenet6'; did you mean lenet5"),
        ({"model.name": "alexnet"}, "images of 32x32 are too small for this network: 64 at least"),
        ({"model.name": "alexnet", "model.width": 0.0}, "width=0.0 must be a number above 0"),
        ({"model.aux": True}, "bad/0: the config has no key 'aux'"),
    ],
)
def test_what_a_variant_gets_wrong_is_found_before_anything_is_started(changes, message):
    sweep = Sweep("", "", Base("configs/digits.py:lenet5_modern"), {"good": {}, "bad": changes})
    runs = runs_of(sweep, 1)
    argv, here = list(sys.argv), os.getcwd()
    with pytest.raises(UserError) as error:
        plan.check(runs)
    assert str(error.value).startswith("bad/0: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert (sys.argv, os.getcwd()) == (argv, here)


def test_a_network_without_the_option(tmp_path):
    config = tmp_path / "config.py"
    config.write_text("from configs import digits\ndef get_config():\n    config = digits.get_config('lenet5_modern')\n"
                      "    config.model.lrn = True\n    return config\n")  # fmt: skip
    with pytest.raises(UserError, match="^a/0: network 'lenet5_modern' has no option 'lrn'; it has activation"):
        plan.check(runs_of(Sweep("", "", Base(str(config)), {"a": {}}), 1))
    with pytest.raises(UserError, match=r"^a/0: .*nowhere.py"):
        plan.check(runs_of(Sweep("", "", Base("configs/nowhere.py"), {"a": {}}), 1))


def test_resolve_reads_the_recipe_from_anywhere(monkeypatch, tmp_path, load):
    monkeypatch.chdir(tmp_path)
    argv = sys.argv = ["command", "--config.train.batch_size=1"]
    sweep, *_ = load()
    config = plan.resolve(runs_of(sweep)[2])
    assert (config.seed, config.train.batch_size, config.model.name) == (100, 16, "lenet5_modern")
    assert sys.argv is argv
    with pytest.raises((AttributeError, KeyError)):
        config.train.nothing = 1  # it is locked, as main.py's


def test_ready():
    runs = [Run("a/0", 0, ()), Run("e/0", 0, (), ("a/0", "b/0"))]
    assert [r.name for r in plan.ready(runs, set())] == ["a/0"]
    assert [r.name for r in plan.ready(runs, {"a/0"})] == ["a/0"]
    assert [r.name for r in plan.ready(runs, {"a/0", "b/0", "c/0"})] == ["a/0", "e/0"]


# ---- What one sees


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


CONFIG = {"config": {"train": {"batch_size": 32}}, "network": {"total_steps": 400}}


def rows(*rows):
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_progress_of_a_training(tmp_path):
    assert progress(tmp_path) == Progress()
    write(tmp_path / "config.json", {"config": {"train": {"batch_size": 32}}})
    assert progress(tmp_path) == Progress()
    write(tmp_path / "metrics.jsonl", rows({"step": 1, "split": "train", "loss": 2.0}))
    assert progress(tmp_path) == Progress(1, None, 2.0, None, None)
    write(tmp_path / "config.json", CONFIG)
    assert progress(tmp_path) == Progress(1, 400, 2.0, None, None)
    evaluated = {"step": 100, "split": "val", "loss": 9.0, "top1": 0.25}
    trained = {"step": 100, "split": "train", "loss": 1.5, "top1": 0.75, "images_per_second": 64.0}
    write(tmp_path / "metrics.jsonl", rows(trained, evaluated))
    assert progress(tmp_path) == Progress(100, 400, 1.5, 0.25, 150.0)
    # The last line is as yet not written to its end, and so many lines are before that the first one read is cut.
    later = trained | {"step": 350, "loss": None, "images_per_second": 128.0}
    early = [trained | {"step": step, "top1": 0.0} for step in range(100)]
    write(
        tmp_path / "metrics.jsonl",
        rows(*early, evaluated | {"top1": 0.5}, evaluated, later) + '{"step": 400, "split": "val", "to',
    )
    assert (tmp_path / "metrics.jsonl").stat().st_size > 8192
    assert progress(tmp_path) == Progress(350, 400, None, 0.25, 12.5)
    write(tmp_path / "evaluation.json", {"rows": [{"top1": 1.0}]})  # of the same network, by hand
    assert progress(tmp_path).top1 == 0.25
    write(tmp_path / "metrics.jsonl", rows(*early, evaluated, *early, *early, later))
    assert progress(tmp_path) == Progress(350, 400, None, None, 12.5)


def test_progress_of_an_evaluation(tmp_path):
    write(tmp_path / "evaluation.json", {"rows": [{"top1": 0.5}, {"top1": 0.75}]})
    assert progress(tmp_path) == Progress(top1=0.75)


@pytest.mark.parametrize(
    "text",
    ["", "3", "[]", "{}", '{"rows": 3}', '{"rows": []}', '{"rows": [{"top1": null}]}', '{"rows": [{"top1": "x"}]}'],
)
def test_progress_of_damaged_files(text, tmp_path):
    write(tmp_path / "evaluation.json", text)
    assert progress(tmp_path) == Progress()
    write(tmp_path / "config.json", text)
    write(tmp_path / "metrics.jsonl", f"{text}\n\xff\n")
    assert progress(tmp_path) in (Progress(), Progress(step=None))


NAMES = ("a/0", "b/0", "c/0", "d/0")


@pytest.fixture
def shown(tmp_path, capsys):
    """A board of four runs, two at once; returns the lines it printed for these states."""
    one = Board([Run(name, 0, ()) for name in NAMES], tmp_path, 2)

    def show(*states):
        one.show(dict(zip(NAMES, states, strict=True)))
        return capsys.readouterr().err.splitlines()

    with one:
        yield show


def test_lines_where_there_is_no_terminal(shown, tmp_path):
    assert shown(*["waiting"] * 4) == ["4 waiting"]
    assert shown("queued", "queued", "waiting", "waiting") == []
    assert shown("running", "running", "waiting", "waiting") == ["[0/4] a/0 running", "[0/4] b/0 running"]
    assert shown("running", "running", "waiting", "waiting") == []
    write(tmp_path / "a/0/run.json", {"seconds": 60.0})
    write(tmp_path / "a/0/metrics.jsonl", rows({"step": 1, "split": "val", "top1": 0.125}))
    write(tmp_path / "b/0/run.json", {"seconds": 7.0, "error": "error: [bold]no[/bold] :100: such\\ [/red]"})
    # One and a half more, of a minute each, two at once.
    assert shown("finished", "failed", "running", "waiting") == [
        "[1/4] a/0 finished: top-1 12.50%, in 1 min 0 s, 1 running, 1 failed, 1 finished, 1 waiting; about 45 s left",
        f"[1/4] b/0 failed: error: [bold]no[/bold] :100: such\\ [/red], see {tmp_path}/b/0/log.txt",
        "[1/4] c/0 running",
    ]
    write(tmp_path / "c/0/run.json", {"seconds": 180.0})
    assert shown("finished", "failed", "finished", "interrupted") == [
        "[2/4] c/0 finished: in 3 min 0 s, 1 failed, 1 interrupted, 2 finished; about 1 min 0 s left",
        "[2/4] d/0 interrupted",
    ]
    assert shown("finished", "failed", "finished", "finished")[0].endswith("1 failed, 3 finished")


def test_the_table(shown, tmp_path):
    names = [*NAMES, *(f"w{i}/0" for i in range(6))]
    one = Board([Run(name, 0, ()) for name in names], tmp_path, 0)
    write(tmp_path / "b/0/config.json", CONFIG | {"network": {"total_steps": 4000}})
    train = {"step": 2000, "split": "train", "loss": 1.2345, "images_per_second": 640.0}
    write(tmp_path / "b/0/metrics.jsonl", rows(train, {"step": 2000, "split": "val", "top1": 0.5}))
    write(tmp_path / "w0/0/config.json", CONFIG)
    write(tmp_path / "w0/0/metrics.jsonl", rows(train | {"step": 5}))
    write(tmp_path / "c/0/run.json", {"seconds": 1.0, "error": f"[bold]no[/bold] :100: {'x' * 99}"})
    write(tmp_path / "d/0/run.json", {"seconds": 10.0})
    one.show(dict(zip(names, ["waiting", "running", "failed", "finished", *["queued"] * 6], strict=True)))
    console = Console(file=io.StringIO(), width=160, emoji=False)
    console.print(one.table(8))
    header, *lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert header == "run state step loss top-1 left"
    assert lines[:2] == [
        "b/0 running 2,000/4,000 1.234 50.00% 1 min 40 s",
        f"c/0 failed [bold]no[/bold] :100: {'x' * 38}",
    ]
    assert lines[2] == "w0/0 queued 5/400 1.234"  # it is not on the way
    assert [line.split()[0] for line in lines[2:-1]] == [f"w{i}/0" for i in range(6)]
    assert lines[-1] == "1 running, 1 failed, 6 queued, 1 finished, 1 waiting; about 8 s left"  # 7.5 times 10 s by ten
    assert len(one.table(3).rows) == 5
    assert len(one.table(99).rows) == 10


def test_only_what_may_have_changed_is_read(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(board, "progress", lambda directory: read.append(directory.parent.name) or Progress())
    monkeypatch.setattr(board, "_REFRESH_SECONDS", 0.0)
    one = Board([Run(name, 0, ()) for name in NAMES], tmp_path, 2)
    for states, expected in (("www", "abcd"), ("rww", "a"), ("rww", "a"), ("frw", "ab"), ("frw", "b")):
        names = {"w": "waiting", "r": "running", "f": "finished"}
        one.show(dict(zip(NAMES, [*map(names.get, states), "failed"], strict=True)))
        assert "".join(read) == expected
        read.clear()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_table_on_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(board, "_REFRESH_SECONDS", 1000.0)
    monkeypatch.setenv("TERM", "xterm")
    runs = [Run(name, 0, ()) for name in NAMES]
    write(tmp_path / "a/0/metrics.jsonl", rows({"step": 77, "split": "train", "loss": 1.0}))
    with Board(runs, tmp_path, 1) as one:
        one.show(dict.fromkeys(NAMES, "running"))
        assert "77" in terminal.getvalue()
        assert "4 running" in terminal.getvalue()
        length = len(terminal.getvalue())
        write(tmp_path / "a/0/metrics.jsonl", rows({"step": 88, "split": "train", "loss": 1.0}))
        one.show(dict.fromkeys(NAMES, "running"))
        assert len(terminal.getvalue()) == length  # nothing has changed, and it is not yet time to read
        monkeypatch.setattr(board, "_REFRESH_SECONDS", 0.0)
        one.show(dict.fromkeys(NAMES, "running"))
        assert "88" in terminal.getvalue()[length:]
    one.say("[/done]")
    assert terminal.getvalue().endswith("[/done]\n")


# ---- The command


def run(*arguments):
    """Exit status of the command."""
    try:
        return command.main([str(argument) for argument in arguments])
    except SystemExit as exit:
        return exit.code


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


@pytest.fixture
def quick(monkeypatch):
    """The runs of every sweep are these Python programs."""

    def quick(**programs):
        runs = [Run(f"{name}/0", 0, ("-c", program)) for name, program in programs.items()]
        monkeypatch.setattr(plan, "runs_of", lambda *_: runs)

    return quick


def test_help_answers_at_once():
    code = (
        "import sys\nfrom experiments.sweep import __main__ as c\ntry: c.main(['--help'])\nfinally: print(*sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    text, modules = result.stdout.rstrip().rsplit("\n", 1)
    heavy = {"jax", "numpy", "submitit", "rich", "ml_collections", "absl", "sqlite3", "inception_jax"}
    assert not heavy & set(modules.split())
    assert all(data in " ".join(text.split()) for data in plan.sweeps.DATA)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FILE", "--workdir=w", "--epochs=3"], "unrecognized argument --epochs=3"),
        (["FILE", "--workdir=w", "more"], "unrecognized argument more"),
        (["FILE", "--workdir=w", "--config=configs/digits.py"], "unrecognized argument --config=configs/digits.py"),
        (["FILE", "--workdir=w", "--seed=3"], "unrecognized argument --seed=3"),
        (["--workdir=w"], "give a FILE, or --list"),
        (["FILE", "--list", "--workdir=w"], "give a FILE, or --list"),
        (["FILE"], "the following arguments are required: --workdir"),
        (["FILE", "--workdir=w", "--jobs=-1"], "argument --jobs: -1 must be a whole number, 1 or more"),
        (["FILE", "--workdir=w", "--jobs=0"], "argument --jobs: 0 must be a whole number, 1 or more"),
        (["FILE", "--workdir=w", "--gpus=two"], "argument --gpus: two must be a whole number, 1 or more"),
        (["FILE", "--workdir=w", "--seeds=1.5"], "argument --seeds: 1.5 must be a whole number, 1 or more"),
        (["FILE", "--workdir=w", "--cluster=lsf"], "argument --cluster: invalid choice: 'lsf'"),
    ],
)
def test_a_wrong_command_line(arguments, message, file, capsys):
    assert run(*(str(file) if argument == "FILE" else argument for argument in arguments)) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"python -m experiments.sweep: error: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NONE"], "there is no sweep file"),
        (["FILE:mnist"], "'mnist' is not one of embedded"),
        (["FILE", "--config.train.epohcs=3"], 'a/0: \'epohcs\' Did you mean "epochs" instead of "epohcs"?'),
        (["FILE", "--filter=x5"], "--filter=x5 fits none of a, b.x5, c, e1, e2"),
        (["FILE", "--jobs=1000"], "--jobs=1000 is more than the"),
        (["FILE", "--workdir=/proc/none"], "the workdir /proc/none cannot be written: No such file or directory"),
        (["FILE", "--workdir=OTHER"], " holds the sweep vgg:cifar10; give another --workdir"),
        (["FILE", "--slurm=partition"], "--slurm=partition must be NAME=VALUE, such as --slurm=slurm_partition=gpu"),
        (["FILE", "--cluster=slurm"], '--cluster=slurm: Could not detect "srun"'),
        (["--list", "--where=top1"], "--where='top1' is not KEY OP VALUE"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message, file, tmp_path, capsys, monkeypatch):
    """And nothing is started, or made."""
    monkeypatch.setattr(launcher.Launcher, "launch", None)
    write(tmp_path / "other/sweep.json", {"name": "vgg:cifar10"})
    (tmp_path / "w").mkdir()
    words = {"FILE": str(file), "NONE": f"{file}x", "OTHER": str(tmp_path / "other")}
    for word, value in words.items():
        arguments = [argument.replace(word, value) for argument in arguments]
    assert run(f"--workdir={tmp_path / 'w'}", *arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert {path.name for path in (tmp_path / "w").iterdir()} <= {"index.sqlite"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mem_gb=64", ("mem_gb", 64)),
        ("slurm_partition=gpu", ("slurm_partition", "gpu")),
        ("slurm_setup=['module load cuda']", ("slurm_setup", ["module load cuda"])),
        ("slurm_comment=a=b", ("slurm_comment", "a=b")),
        ("slurm_mem=", ("slurm_mem", "")),
    ],
)
def test_parameters_of_slurm(text, expected):
    assert command._parameter(text) == expected


def test_they_arrive(file, tmp_path, monkeypatch):
    given = []

    class Fake:
        parallel = 1

        def __init__(self, runs, directory, *arguments):
            given.extend([len(runs), directory, *arguments])

        def state(self, run):
            return "waiting"

    monkeypatch.setattr(launcher, "Launcher", Fake)
    monkeypatch.chdir(tmp_path)
    options = ["--cluster=slurm", "--jobs=3", "--gpus=2", "--slurm=mem_gb=64", "--slurm=slurm_qos=x", "--dry-run"]
    assert run(file, "--workdir=w", "--seeds=3", *options) == 0
    assert given == [15, tmp_path / "w", "slurm", 3, 2, {"mem_gb": 64, "slurm_qos": "x"}]


def test_a_dry_run_starts_nothing(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(launcher.Launcher, "launch", None)
    setting = "--config.log.every=7 steps"
    assert run(file, f"--workdir={tmp_path / 'w'}", "--dry-run", "--filter=e1/1", setting) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == ["# a/1: waiting", "# evaluations/e1/1: waiting"]
    sweep, *_ = plan.load(str(file))
    expected = plan.runs_of(sweep, tmp_path / "w", 0, ["e1/1"], [setting])
    assert [shlex.split(line) for line in lines[1::2]] == [["python", *run.command] for run in expected]
    assert not (tmp_path / "w").exists()


def test_the_exit_status_says_whether_all_is_finished(file, tmp_path, quick, capsys):
    quick(a="", b=f"import sys; open({str(tmp_path / 'tries')!r}, 'a').write('.'); print('error: of b'); sys.exit(1)")
    assert run(file, f"--workdir={tmp_path / 'w'}") == 1
    lines = capsys.readouterr().err.splitlines()
    assert f"[1/2] b/0 failed: error: of b, see {tmp_path}/w/b/0/log.txt" in lines
    assert "failed, --retry runs them again: b/0" in lines
    for option, tries in (("--jobs=1", "."), ("--retry", "..")):
        assert run(file, f"--workdir={tmp_path / 'w'}", option) == 1
        assert (tmp_path / "tries").read_text() == tries
    capsys.readouterr()
    assert (tmp_path / "w/report.html").exists()
    assert json.loads((tmp_path / "w/sweep.json").read_text())["name"] == "mine"
    assert run(f"{file}:cifar10", f"--workdir={tmp_path / 'w'}") == 2
    assert "holds the sweep mine; give another" in capsys.readouterr().err
    write(tmp_path / "w/b/0/run.json", job.record(tmp_path / "w/b/0") | {"state": "interrupted"})
    assert run(file, f"--workdir={tmp_path / 'w'}", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines()[::2] == ["# a/0: finished", "# b/0: interrupted"]


def test_a_run_that_is_stopped_alone_is_not_finished(file, tmp_path, quick, capsys):
    """Nor has it failed: the same command goes on with it."""
    code = "import os, pathlib\nfile = pathlib.Path({!r})\nif not file.exists(): file.touch(); os.kill(os.getpid(), 15)"
    quick(a=code.format(str(tmp_path / "once")))
    assert run(file, f"--workdir={tmp_path / 'w'}") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "1 interrupted"
    assert not (tmp_path / "w/report.html").exists()
    assert run(file, f"--workdir={tmp_path / 'w'}") == 0
    assert (tmp_path / "w/report.html").exists()


def test_the_list_and_its_file(tmp_path, capsys):
    for name, top1 in (("a", 0.5), ("b", 0.75)):
        write(tmp_path / name / "config.json", CONFIG | {"config": {"model": {"name": name}}})
        write(tmp_path / name / "results.json", {"last": {"step": 9, "top1": top1}})
    columns = "--columns=path,top1"
    assert run("--list", f"--workdir={tmp_path}", "--where=top1>0.6", columns, f"--csv={tmp_path / 'x.csv'}") == 0
    assert (tmp_path / "x.csv").read_text().splitlines() == ["path,top1", "b,0.75"]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith(("a", "b"))] == ["b"]
    assert run("--list", f"--workdir={tmp_path}", "--sort=-top1", columns) == 0
    text = capsys.readouterr().out
    assert text.index("\nb") < text.index("\na")


# ---- A sweep that is trained

TRAINED = """
from experiments.sweeps import Base, Claim, Evaluation, Sweep

def get_sweep(data):
    return Sweep(
        title="Two of one kind",
        text="",
        base=Base({config!r}, {{"train.steps": 300}}),
        variants={{"one": {{}}, "other": {{"log.every": "5 steps"}}}},
        claims=(Claim("one is as good", "", "one", "other", "no_worse"),),
        evaluations={{"both": Evaluation(("one", "other"), "single")}},
        seeds=1,
    )
"""
CONFIG_FILE = """
from configs import digits

def get_config():
    config = digits.recipe_of("lenet5_modern")
    config.data.update(name="folder", dir={folder!r}, eval_split="val")
    config.hasty = True
    config.train.update(batch_size=16, epochs=0.0)
    config.checkpoint.every = config.eval.every = "150 steps"
    config.schedule.warmup = "0 steps"
    config.log.update(every="5 steps", tensorboard=False, report=False)
    return config
"""


def test_a_sweep_is_stopped_and_goes_on(tmp_path, image_folder, monkeypatch, capsys):
    """The run that was stopped ends as its neighbour of the same config and seed does, bit by bit."""
    monkeypatch.setenv("XLA_FLAGS", "")  # one device is quicker
    (tmp_path / "config.py").write_text(CONFIG_FILE.format(folder=str(image_folder)))
    (tmp_path / "two.py").write_text(TRAINED.format(config=str(tmp_path / "config.py")))
    directory = tmp_path / "w"
    arguments = (tmp_path / "two.py", f"--workdir={directory}", "--jobs=1", "--config.train.label_smoothing=0.05")

    def stop():
        metrics = directory / "one/0/metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):  # it trains
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    assert run(*arguments) == 130
    thread.join()
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; the same command resumes"
    record = job.record(directory / "one/0")
    assert (record["state"], record["status"]) == ("interrupted", 143)
    assert not (directory / "one/0/results.json").exists()

    assert run(*arguments) == 0
    log = (directory / "one/0/log.txt").read_text()
    assert "stopped by SIGTERM after step" in log
    assert "going on after step" in log
    metrics = []
    for name in ("one", "other"):
        rows = map(json.loads, (directory / f"{name}/0/metrics.jsonl").read_text().splitlines())
        metrics.append({(row["step"], row["split"]): (row["loss"], row["top1"]) for row in rows})
    # But for a line about the steps before the stop, and one about the rest of those.
    assert sum(metrics[0].get(key) != value for key, value in metrics[1].items()) <= 1
    assert len(metrics[1]) == 62
    results = [json.loads((directory / f"{name}/0/results.json").read_text())["last"] for name in ("one", "other")]
    assert results[0] == results[1]
    assert job.record(directory / "one/0")["seconds"] > record["seconds"]
    [*_, both] = json.loads((directory / "evaluations/both/0/evaluation.json").read_text())["rows"]
    assert (both["count"], both["top1"]) == (21, results[0]["top1"])
    settings = json.loads((directory / "one/0/config.json").read_text())["config"]["train"]
    assert (settings["steps"], settings["label_smoothing"]) == (300, 0.05)
    data = report_runs.read(directory)
    assert [one["state"] for one in data["runs"]] == ["finished", "finished"]
    assert "Two of one kind" in (directory / "report.html").read_text()
    assert (directory / "report.md").exists()

    def times():
        own = [directory / name for name in ("sweep.json", "report.html", "report.md")]
        return {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path not in own}

    before = times()
    assert run(*arguments) == 0
    assert times() == before
    assert run(*arguments, "--dry-run") == 0
    printed = [shlex.split(line)[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("python ")]
    names = ("one/0", "other/0", "evaluations/both/0")
    assert printed == [job.record(directory / name)["command"] for name in names]

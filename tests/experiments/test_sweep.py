"""Sweeps: from a file to its tasks, what a person sees of them, the command."""

import io
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from experiments import sweeps
from experiments.sweep import __main__ as command
from experiments.sweep import board, launcher, plan
from experiments.sweep.board import Board
from experiments.sweep.plan import ROOT, Task
from experiments.sweeps import Base, Sweep, product
from inception_jax import runtime
from inception_jax.errors import UserError
from inception_jax.report.sweep import data as sweep_data
from inception_jax.report.sweep.analysis import MARGINS
from inception_jax.runs.run import STATES, Run, read_launch

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
    """The sweep of a text, and what its report is told."""

    def load(text=FILE, data="", *arguments):
        (tmp_path / "mine.py").write_text(text)
        return plan.load(f"{tmp_path / 'mine.py'}{data}", *arguments)

    return load


def tasks_of(sweep, *arguments, **options):
    return plan.tasks_of(sweep, ROOT / "w", *arguments, **options)


# ---- From a file to its runs


def test_the_runs_come_seed_by_seed_and_evaluations_last(load):
    sweep, described = load()
    assert (described["data"], sweep.text) == ("embedded", "Text on embedded")
    runs = tasks_of(sweep)
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
    assert shlex.split(runs[1].shown) == list(runs[1].command)
    assert [runs[index].variant for index in (1, 7)] == ["b.x5", "e2"]
    config = plan.resolve(runs[1].command[1:])
    assert (config.train.batch_size, config.data.area, config.schedule.base_lr) == (32, (0.5, 1.0), 5e-3)


def test_data_after_the_colon_and_the_number_of_seeds(load):
    sweep, described = load(data=":imagenette/320px-v2")
    assert (described["name"], sweep.text) == ("mine:imagenette/320px-v2", "Text on imagenette/320px-v2")
    names = ["a/0", "b.x5/0", "c/0", "evaluations/e1/0", "evaluations/e2/0"]
    assert [task.name for task in tasks_of(sweep, 1)] == names
    assert [task.seed for task in tasks_of(sweep, 5)][-1] == 4


def test_a_file_may_have_data_of_its_own_and_a_variant_a_recipe_of_its_own(load):
    text = FILE.replace("def get_sweep", "DATA = ('mine', 'other')\n\ndef get_sweep")
    text = text.replace('"c": {"seed": 100}', '"c": {"config": "configs/digits.py:vgg_a"}')
    sweep, described = load(text)
    assert (described["name"], described["data"], sweep.text) == ("mine", "mine", "Text on mine")
    assert load(text, ":other")[1]["name"] == "mine:other"
    with pytest.raises(UserError, match="'embedded' is not one of mine, other"):
        load(text, ":embedded")
    task = tasks_of(sweep)[2]
    assert task.command[:2] == ("main.py", "--config=configs/digits.py:vgg_a")
    assert plan.resolve(task.command[1:]).model.name == "vgg_a"


def test_settings_go_over_the_base_and_under_the_variants(load):
    """In the command, and so in the config."""
    sweep, _ = load()
    settings = ["--config.train.batch_size=8", "--noconfig.data.flip", "--config.schedule.base_lr=0.5"]
    a, b, *_ = tasks_of(sweep, settings=settings)
    assert a.command == (*BASE, AREA, "--config.seed=0", *settings, f"--workdir={ROOT}/w/a/0")
    assert b.command == (
        *BASE, "--config.train.batch_size=32", AREA, "--config.seed=0", "--noconfig.data.flip",
        "--config.schedule.base_lr=0.005", f"--workdir={ROOT}/w/b.x5/0",
    )  # fmt: skip
    configs = [plan.resolve(run.command[1:]) for run in (a, b)]
    assert [config.train.batch_size for config in configs] == [8, 32]
    assert [config.schedule.base_lr for config in configs] == [0.5, 5e-3]
    assert [config.data.flip for config in configs] == [False, False]
    variant = Sweep("", "", Base(BASE[1][9:]), {"v": {"data.flip": True, "train.aux_weights.aux1": 0.0}})
    [run] = tasks_of(variant, 1, settings=["--noconfig.data.flip", "--config.train.aux_weights.aux1=1.0"])
    assert run.command[2:-1] == ("--config.data.flip=True", "--config.train.aux_weights.aux1=0.0", "--config.seed=0")
    with pytest.raises(UserError, match="^the seed cannot be set for all runs, each has its own; set the number of"):
        tasks_of(sweep, settings=["--config.seed=3"])


FILTERS = {
    ("a",): ["a/0", "a/1"],
    ("b*",): ["b.x5/0", "b.x5/1"],
    ("*/1",): ["a/1", "b.x5/1", "c/1", "evaluations/e1/1", "evaluations/e2/1"],
    ("c/1", "a/0"): ["a/0", "c/1"],
    ("[ab]*/0",): ["a/0", "b.x5/0"],
    ("e1/0",): ["a/0", "evaluations/e1/0"],
    ("e2/1", "b.x5/0"): ["b.x5/0", "a/1", "c/1", "evaluations/e2/1"],
    ("evaluations/e1/1",): ["a/1", "evaluations/e1/1"],
}


def test_filter(load):
    """What an evaluation needs is taken too."""
    sweep, _ = load()
    assert {p: [task.name for task in tasks_of(sweep, patterns=p)] for p in FILTERS} == FILTERS
    for patterns in (["d"], ["a", "A"], ["a/2"], ["0"]):
        with pytest.raises(UserError) as error:
            tasks_of(sweep, patterns=patterns)
        assert str(error.value) == f"filter={patterns[-1]} matches none of a, b.x5, c, e1, e2"


def test_product():
    first, second = {"x": {"k": 1, "l": 1}, "y": {"k": 2}}, {"": {}, "z": {"l": 3}}
    combined = {"x": {"k": 1, "l": 1}, "x-z": {"k": 1, "l": 3}, "y": {"k": 2}, "y-z": {"k": 2, "l": 3}}
    assert product(first, second) == combined
    assert list(product(first, second)) == list(combined)
    assert list(product(first)) == ["x", "y"]


def test_what_the_report_is_told(load, tmp_path):
    _, described = load(FILE, "", 0, ["--config.fast_compile=True"])
    plan.describe(tmp_path / "w", described)
    assert sweep_data.read(tmp_path / "w")["sweep"] == sweep_data.complete(described, tmp_path)
    assert described == {
        "name": "mine",
        "file": str(tmp_path / "mine.py"),
        "data": "embedded",
        "settings": ["--config.fast_compile=True"],
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
            {
                "text": "b is better",
                "source": "section 1",
                "better": "b.x5",
                "than": "a",
                "measure": "steps",
                "margin": MARGINS["steps"],
            },
            {
                "text": "so are e",
                "source": "section 2",
                "better": ["e1", "c"],
                "than": ["a", "a"],
                "measure": "top1",
                "margin": MARGINS["top1"],
            },
        ],
        "printed": {"a": "12.5", "e2": "11.0"},
        "printed_what": "error in %",
        "evaluations": {
            "e1": {"members": ["a"], "protocol": "single"},
            "e2": {"members": ["a", "c"], "protocol": "single,10crop"},
        },
    }
    assert load(FILE, ":cifar10", 4)[1]["seeds"] == [0, 1, 2, 3]
    assert plan.load(str(ROOT / "experiments/sweeps/vgg.py"))[1]["file"] == "experiments/sweeps/vgg.py"
    plan.check_directory(tmp_path / "w", described)
    with pytest.raises(UserError, match=f"^workdir={tmp_path}/w holds the sweep mine; choose another directory"):
        plan.check_directory(tmp_path / "w", load(FILE, ":cifar10")[1])


NO_NAME = "cannot name a directory; use letters, digits and _.+-"
NAMES = "is not one of a, b.x5, c, e1, e2"
CONTRADICTIONS = [
    ("def get_sweep", "1 / 0\ndef get_sweep", " cannot be read: ZeroDivisionError: division by zero"),
    ("def get_sweep", "def sweep", " cannot be read: AttributeError: module 'sweep_mine' has no"),
    ("    return Sweep(", "    return Sweep((", " cannot be read: '(' was never closed (mine.py, line 5)"),
    ("title=", "titel=", " cannot be read: TypeError: Sweep.__init__() got an unexpected keyword argument 'titel'"),
    ("    return ", "    ", ": get_sweep(data) must return a Sweep with variants"),
    ('{"a": {}, "b.x5":', '{} and {"a":', ": get_sweep(data) must return a Sweep with variants"),
    ('"c": {"seed"', '"c/d": {"seed"', f": 'c/d' {NO_NAME}"),
    ('"c": {"seed"', '".c": {"seed"', f": '.c' {NO_NAME}"),
    ('"c": {"seed"', '"": {"seed"', f": '' {NO_NAME}"),
    ('"c": {"seed"', '"evaluations": {"seed"', f": 'evaluations' {NO_NAME}"),
    ('{"e1": Eval', '{"a": Eval', f": 'a' {NO_NAME}"),
    ('"b.x5", "a", "steps"', '"b", "a", "steps"', f": a claim: 'b' {NAMES}"),
    ('"b.x5", "a", "steps"', '("b.x5", "c"), "a", "steps"', ": the claim 'b is better' compares 2 variants with 1"),
    ('"b.x5", "a", "steps"', '("b.x5", "c"), ("a", "d"), "steps"', f": a claim: 'd' {NAMES}"),
    ('"a", "steps"', '"a", "epochs"', ": a claim's measure: 'epochs' is not one of top1, no_worse, steps"),
    ('"a": "12.5"', '"d": "12.5"', f": printed: 'd' {NAMES}"),
    ("seeds=2", "baseline='d'", f": the baseline: 'd' {NAMES}"),
    ('("a",), "single"', '("e2",), "single"', ": evaluation 'e1': 'e2' is not one of a, b.x5, c"),
    ("single,10crop", "single,11crop", ": evaluation 'e2': '11crop' is not one of single, anisotropic, 10crop"),
]


def test_a_file_that_contradicts_itself(load, tmp_path):
    for old, new, message in CONTRADICTIONS:
        assert FILE.count(old) == 1
        with pytest.raises(UserError) as error:
            load(FILE.replace(old, new))
        assert str(error.value).startswith(f"{tmp_path / 'mine.py'}{message}")
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="^too small$"):
        load("from inception_jax.errors import UserError\ndef get_sweep(data): raise UserError('too small')")


def test_a_baseline_that_is_an_evaluation(load):
    assert load(FILE.replace("seeds=2", "baseline='e2'"))[1]["baseline"] == "e2"


def test_a_file_that_is_none(monkeypatch):
    monkeypatch.chdir(ROOT)
    known = "experiments/sweeps/ has alexnet, all_cnn, bn_inception, "
    for file, message in {
        "experiments/sweeps/alexnett.py": f"there is no sweep file experiments/sweeps/alexnett.py; {known}",
        "experiments/sweeps": f"there is no sweep file experiments/sweeps; {known}",
        "experiments/sweeps/vgg.py:mnist": "experiments/sweeps/vgg.py:mnist: 'mnist' is not one of embedded, cifar10, ",
        "run.sh": "run.sh is no Python file",
    }.items():
        with pytest.raises(UserError) as error:
            plan.load(file)
        assert str(error.value).startswith(message)
        assert "__init__" not in str(error.value)


MISTAKES = [
    ({"train.epohcs": 3}, 'Did you mean "epochs" instead of "epohcs"?'),
    ({"trian.epochs": 3}, 'Did you mean "train" instead of "trian"?'),
    ({"train.epochs": "many"}, "config.train.epochs='many': a number is wanted"),
    ({"train.label_smoothing": 2.0}, "config.train.label_smoothing=2.0 must be between 0 and 1"),
    ({"model.name": "lenet6"}, "there is no network 'lenet6'; did you mean lenet5"),
    ({"model.name": "alexnet"}, "images of 32x32 are too small for this network: 64 at least"),
    ({"model.name": "alexnet", "model.width": 0.0}, "width=0.0 must be at least 0.001"),
    ({"config": "configs/vgg_localize.py:glyphs"}, "the network predicts boxes, and sweeps compare top-1"),
    ({"model.aux": True}, "bad/0: the config has no key 'aux'"),
    ({"config": "configs/nowhere.py"}, "nowhere.py"),
]


def test_what_a_variant_gets_wrong_is_found_before_anything_is_started():
    argv, here = list(sys.argv), os.getcwd()
    for changes, message in MISTAKES:
        sweep = Sweep("", "", Base("configs/digits.py:lenet5_modern"), {"good": {}, "bad": changes})
        with pytest.raises(UserError) as error:
            plan.check(tasks_of(sweep, 1))
        assert str(error.value).startswith("bad/0: ")
        assert message in str(error.value)
        assert "\n" not in str(error.value)
        assert (sys.argv, os.getcwd()) == (argv, here)


def test_a_network_without_the_option(tmp_path):
    config = tmp_path / "config.py"
    config.write_text("from configs import digits\ndef get_config():\n    config = digits.get_config('lenet5_modern')\n"
                      "    config.model.lrn = True\n    return config\n")  # fmt: skip
    with pytest.raises(UserError, match="^a/0: network 'lenet5_modern' has no option 'lrn'; it has activation"):
        plan.check(tasks_of(Sweep("", "", Base(str(config)), {"a": {}}), 1))


def test_resolve_reads_the_recipe_from_anywhere(monkeypatch, tmp_path, load):
    monkeypatch.chdir(tmp_path)
    argv = sys.argv = ["command", "--config.train.batch_size=1"]
    sweep, _ = load()
    config = plan.resolve(tasks_of(sweep)[2].command[1:])
    assert (config.seed, config.train.batch_size, config.model.name) == (100, 16, "lenet5_modern")
    assert sys.argv is argv
    with pytest.raises((AttributeError, KeyError)):
        config.train.nothing = 1  # it is locked, as main.py's


def test_ready():
    runs = [Task("a/0", 0, ()), Task("e/0", 0, (), ("a/0", "b/0"))]
    assert [r.name for r in plan.ready(runs, set())] == ["a/0"]
    assert [r.name for r in plan.ready(runs, {"a/0"})] == ["a/0"]
    assert [r.name for r in plan.ready(runs, {"a/0", "b/0", "c/0"})] == ["a/0", "e/0"]


# ---- What one sees


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


CONFIG = {"config": {"train": {"batch_size": 32}}, "network": {"total_steps": 400}}
LAST = {"last": {"step": 100, "top1": 0.125}}


def rows(*rows):
    return "".join(f"{json.dumps(row)}\n" for row in rows)


FOUR = ("a/0", "b/0", "c/0", "d/0")


@pytest.fixture
def shown(tmp_path, capsys):
    """A board of four runs, two at once; returns the lines it printed for these states."""
    one = Board([Task(name, 0, ()) for name in FOUR], tmp_path, 2)

    def show(*states):
        one.show(dict(zip(FOUR, states, strict=True)))
        return capsys.readouterr().err.splitlines()

    with one:
        yield show


def test_lines_where_there_is_no_terminal(shown, tmp_path):
    assert shown(*["waiting"] * 4) == ["4 waiting"]
    assert shown("queued", "queued", "waiting", "waiting") == []
    assert shown("running", "running", "waiting", "waiting") == ["[0/4] a/0 running", "[0/4] b/0 running"]
    assert shown("running", "running", "waiting", "waiting") == []
    write(tmp_path / "a/0/run.json", {"state": "finished", "seconds": 60.0})
    write(tmp_path / "a/0/config.json", CONFIG)
    write(tmp_path / "a/0/results.json", LAST)
    error = "error: [bold]no[/bold] :100: such\\ [/red]"
    write(tmp_path / "b/0/run.json", {"state": "failed", "seconds": 7.0, "error": error})
    # One and a half more, of a minute each, two at once.
    assert shown("finished", "failed", "running", "waiting") == [
        "[1/4] a/0 finished: top-1 12.50 %, in 1 min 0 s, 1 running, 1 failed, 1 finished, 1 waiting; about 45 s left",
        f"[1/4] b/0 failed: {error}, see {tmp_path}/b/0/log.txt",
        "[1/4] c/0 running",
    ]
    write(tmp_path / "c/0/run.json", {"seconds": 180.0})
    write(tmp_path / "c/0/evaluation.json", {"rows": [{"top1": 0.5}, {"top1": 0.75}]})
    assert shown("finished", "failed", "finished", "interrupted") == [
        "[2/4] c/0 finished: top-1 75.00 %, in 3 min 0 s, 1 failed, 1 interrupted, 2 finished; about 1 min 0 s left",
        "[2/4] d/0 interrupted",
    ]
    assert shown("finished", "failed", "finished", "finished")[0].endswith("1 failed, 3 finished")


def test_the_table(shown, tmp_path):
    names = [*FOUR, *(f"w{i}/0" for i in range(6))]
    one = Board([Task(name, 0, ()) for name in names], tmp_path, 0)
    write(tmp_path / "b/0/config.json", CONFIG | {"network": {"total_steps": 4000}})
    train = {"step": 2000, "split": "train", "loss": 1.2345, "images_per_second": 640.0}
    write(tmp_path / "b/0/results.json", {"last": {"step": 2000, "top1": 0.5}})
    cut = '{"step": 2001, "split": "tr'  # it is being written; and so many lines come before that the first is cut
    write(tmp_path / "b/0/metrics.jsonl", rows(*[train | {"step": 1, "loss": 9.0}] * 120, train) + cut)
    assert (tmp_path / "b/0/metrics.jsonl").stat().st_size > 8192
    write(tmp_path / "w0/0/config.json", CONFIG)
    write(tmp_path / "w0/0/metrics.jsonl", rows(train | {"step": 5}))
    write(tmp_path / "c/0/run.json", {"state": "failed", "error": f"[bold]no[/bold] :100: {'x' * 99}"})
    write(tmp_path / "d/0/run.json", {"seconds": 10.0})
    one.show(dict(zip(names, ["waiting", "running", "failed", "finished", *["queued"] * 6], strict=True)))
    console = Console(file=io.StringIO(), width=160, emoji=False)
    console.print(one.table(8))
    header, *lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert header == "run state step loss top-1 left"
    assert lines[:2] == [
        "b/0 running 2,000/4,000 1.234 50.00 % 1 min 40 s",
        f"c/0 failed [bold]no[/bold] :100: {'x' * 38}",
    ]
    assert lines[2] == "w0/0 queued 5/400 1.234"  # it is not on the way
    assert [line.split()[0] for line in lines[2:-1]] == [f"w{i}/0" for i in range(6)]
    assert lines[-1] == "1 running, 1 failed, 6 queued, 1 finished, 1 waiting; about 8 s left"  # 7.5 times 10 s by ten
    assert len(one.table(3).rows) == 5
    assert len(one.table(99).rows) == 10


def test_every_state_has_its_place():
    assert sorted(board._ORDER) == sorted(STATES)


def test_only_what_may_have_changed_is_read(tmp_path, monkeypatch):
    read = []
    reader = lambda path, last_bytes: read.append(path.parent.name) or Run(path)  # noqa: E731
    monkeypatch.setattr(board.Run, "read", reader)
    monkeypatch.setattr(board, "_REFRESH_SECONDS", 0.0)
    one = Board([Task(name, 0, ()) for name in FOUR], tmp_path, 2)
    for states, expected in (("www", "abcd"), ("rww", "a"), ("rww", "a"), ("frw", "ab"), ("frw", "b")):
        names = {"w": "waiting", "r": "running", "f": "finished"}
        one.show(dict(zip(FOUR, [*map(names.get, states), "failed"], strict=True)))
        assert "".join(read) == expected
        read.clear()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_table_on_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(board, "_REFRESH_SECONDS", 1000.0)
    monkeypatch.setenv("TERM", "xterm")
    runs = [Task(name, 0, ()) for name in FOUR]
    write(tmp_path / "a/0/metrics.jsonl", rows({"step": 77, "split": "train", "loss": 1.0}))
    with Board(runs, tmp_path, 1) as one:
        one.show(dict.fromkeys(FOUR, "running"))
        assert "77" in terminal.getvalue()
        assert "4 running" in terminal.getvalue()
        length = len(terminal.getvalue())
        write(tmp_path / "a/0/metrics.jsonl", rows({"step": 88, "split": "train", "loss": 1.0}))
        one.show(dict.fromkeys(FOUR, "running"))
        assert len(terminal.getvalue()) == length  # nothing has changed, and it is not yet time to read
        monkeypatch.setattr(board, "_REFRESH_SECONDS", 0.0)
        one.show(dict.fromkeys(FOUR, "running"))
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
        runs = [Task(f"{name}/0", 0, ("-c", program)) for name, program in programs.items()]
        monkeypatch.setattr(plan, "tasks_of", lambda *_: runs)

    return quick


def test_help_answers_at_once():
    code = (
        "import sys\nfrom experiments.sweep import __main__ as c\ntry: c.main(['--help'])\nfinally: print(*sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    text, modules = result.stdout.rstrip().rsplit("\n", 1)
    heavy = {"jax", "numpy", "submitit", "rich", "inception_jax.models"}
    assert not heavy & set(modules.split())
    assert all(data in " ".join(text.split()) for data in sweeps.DATA)


WRONG = [
    (["FILE", "--epochs=3"], "unrecognized arguments: --epochs=3"),
    (["FILE", "more"], "unrecognized arguments: more"),
    (["FILE", "--config=configs/digits.py"], "unrecognized arguments: --config=configs/digits.py"),
    (["FILE", "--jobs=-1"], "argument --jobs: -1 must be a whole number, 1 or more"),
    (["FILE", "--seeds=1.5"], "argument --seeds: 1.5 must be a whole number, 1 or more"),
    (["FILE", "--cluster=lsf"], "argument --cluster: invalid choice: 'lsf'"),
    (["FILE", "--slurm=partition"], "argument --slurm: partition must be NAME=VALUE, such as slurm_partition=gpu"),
    ([], "give either a FILE or --list"),
    (["FILE", "--list"], "give either a FILE or --list"),
    (["NONE"], "there is no sweep file"),
    (["FILE:mnist"], "'mnist' is not one of embedded"),
    (["FILE", "--config.train.epohcs=3"], 'Did you mean "epochs" instead of "epohcs"?'),
    (["FILE", "--filter=x5"], "--filter=x5 matches none of a, b.x5, c, e1, e2"),
    (["FILE", "--jobs=1000"], "--jobs=1000 must not be more than the number of cores"),
    (["FILE", "--workdir=/proc/none"], "--workdir=/proc/none cannot be written: No such file or directory"),
    (["FILE", "--workdir=OTHER"], " holds the sweep vgg:cifar10; choose another directory"),
    (["FILE", "--cluster=slurm"], '--cluster=slurm: Could not detect "srun"'),
    (["--list", "--where=top1"], "--where='top1' must be KEY OP VALUE"),
]


def test_what_is_wrong_is_one_line(file, tmp_path, capsys, monkeypatch):
    """And nothing is started, or made."""
    monkeypatch.setattr(launcher.Launcher, "launch", None)
    write(tmp_path / "other/sweep.json", {"name": "vgg:cifar10"})
    (tmp_path / "w").mkdir()
    words = {"FILE": str(file), "NONE": f"{file}x", "OTHER": str(tmp_path / "other")}
    for arguments, message in WRONG:
        for word, value in words.items():
            arguments = [argument.replace(word, value) for argument in arguments]
        assert run(f"--workdir={tmp_path / 'w'}", *arguments) == 2
        line, *more = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert message in line
        assert not more or more == ["See python -m experiments.sweep --help"]
    assert not list((tmp_path / "w").iterdir())


def test_parameters_of_slurm():
    for text, expected in {
        "mem_gb=64": ("mem_gb", 64),
        "slurm_partition=gpu": ("slurm_partition", "gpu"),
        "slurm_setup=['module load cuda']": ("slurm_setup", ["module load cuda"]),
        "slurm_comment=a=b": ("slurm_comment", "a=b"),
        "slurm_mem=": ("slurm_mem", ""),
    }.items():
        assert command._parameter(text) == expected


def test_they_arrive(file, tmp_path, monkeypatch):
    given = []

    class Fake:
        parallel = 1

        def __init__(self, tasks, directory, cluster, **options):
            given.extend([len(tasks), directory, cluster, options])

        def state(self, run):
            return "waiting"

    monkeypatch.setattr(launcher, "Launcher", Fake)
    monkeypatch.chdir(tmp_path)
    options = ["--cluster=slurm", "--jobs=3", "--gpus=2", "--slurm=mem_gb=64", "--slurm=slurm_qos=x", "--dry-run"]
    assert run(file, "--workdir=w", "--seeds=3", *options) == 0
    options = {"jobs": 3, "gpus": 2, "slurm": {"mem_gb": 64, "slurm_qos": "x"}}
    assert given == [15, tmp_path / "w", "slurm", options]


def test_a_dry_run_starts_nothing(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(launcher.Launcher, "launch", None)
    setting = "--config.log.every=7 steps"
    assert run(file, f"--workdir={tmp_path / 'w'}", "--dry-run", "--filter=e1/1", setting) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == ["# a/1: waiting", "# evaluations/e1/1: waiting"]
    sweep, _ = plan.load(str(file))
    expected = plan.tasks_of(sweep, tmp_path / "w", 0, ["e1/1"], [setting])
    assert [shlex.split(line) for line in lines[1::2]] == [["python", *run.command] for run in expected]
    assert not (tmp_path / "w").exists()


def test_the_exit_status_says_whether_all_is_finished(file, tmp_path, quick, capsys):
    """A run that was stopped alone is not finished, nor has it failed: the same command resumes it."""
    tries, once = tmp_path / "tries", tmp_path / "once"
    quick(
        a="",
        b=f"import sys; open({str(tries)!r}, 'a').write('.'); print('error: of b'); sys.exit(1)",
        c=f"import os, pathlib\nfile = pathlib.Path({str(once)!r})\n"
        "if not file.exists(): file.touch(); os.kill(os.getpid(), 15)",
    )
    assert run(file, f"--workdir={tmp_path / 'w'}") == 1
    lines = capsys.readouterr().err.splitlines()
    assert f"[1/3] b/0 failed: error: of b, see {tmp_path}/w/b/0/log.txt" in lines
    assert lines[-2].partition(";")[0] == "1 failed, 1 interrupted, 1 finished"  # then the time left, on a slow machine
    assert lines[-1] == "failed, --retry runs them again: b/0"
    assert (tmp_path / "w/report.html").exists()
    assert json.loads((tmp_path / "w/sweep.json").read_text())["name"] == "mine"
    assert run(file, f"--workdir={tmp_path / 'w'}", "--retry") == 1
    assert tries.read_text() == ".."
    assert run(f"{file}:cifar10", f"--workdir={tmp_path / 'w'}") == 2
    write(tmp_path / "w/a/0/run.json", read_launch(tmp_path / "w/a/0") | {"state": "interrupted"})
    capsys.readouterr()
    assert run(file, f"--workdir={tmp_path / 'w'}", "--dry-run") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")]
    assert lines == ["# a/0: interrupted", "# b/0: failed", "# c/0: finished"]
    assert tries.read_text() == ".."


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


# ---- The commands of a sweep

TRAINED = """
from experiments.sweeps import Base, Evaluation, Sweep

def get_sweep(data):
    return Sweep(
        title="One network and its crops",
        text="",
        base=Base({config!r}, {{"train.steps": 6}}),
        variants={{"one": {{"log.every": "2 steps"}}}},
        evaluations={{"crop": Evaluation(("one",), "single")}},
        seeds=1,
    )
"""
CONFIG_FILE = """
from configs import common

def get_config():
    config = common.get_config()
    config.model.name, config.fast_compile, config.train.aux_weights = "tiny", True, {{"aux1": 0.3}}
    config.data.update(name="folder", dir={folder!r}, eval_split="val", image_size=16, resize=18)
    config.train.update(batch_size=16, epochs=0.0)
    config.checkpoint.every = config.eval.every = "3 steps"
    config.schedule.warmup = "0 steps"
    config.log.update(tensorboard=False, report=False)
    return config
"""


@pytest.fixture
def restored(monkeypatch):
    """What a command does to its process is undone."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("restored")
def test_the_commands_of_a_sweep_are_accepted_and_their_results_read(tmp_path, image_folder, monkeypatch):
    """In this process, which has JAX; that a sweep is stopped and resumed is tested with quicker programs."""
    (tmp_path / "config.py").write_text(CONFIG_FILE.format(folder=str(image_folder)))
    (tmp_path / "two.py").write_text(TRAINED.format(config=str(tmp_path / "config.py")))
    directory = tmp_path / "w"
    sweep, described = plan.load(str(tmp_path / "two.py"))
    plan.describe(directory, described)
    monkeypatch.setattr(runtime, "configure", lambda _: None)
    monkeypatch.chdir(ROOT)
    for task in plan.tasks_of(sweep, directory, settings=["--config.train.label_smoothing=0.05"]):
        is_module = task.command[0] == "-m"
        monkeypatch.setattr(sys, "argv", list(task.command[is_module:]))
        with pytest.raises(SystemExit) as end:
            (runpy.run_module if is_module else runpy.run_path)(task.command[is_module], run_name="__main__")
        assert end.value.code == 0
    data = sweep_data.read(directory)
    [run], [evaluation] = data["runs"], data["evaluations"]
    assert (run["state"], run["step"], run["total_steps"], run["batch"]) == ("finished", 6, 6, 16)
    assert [step for step, *_ in run["evaluations"]] == [3, 6]
    assert run["images_per_second"] > 0
    assert (evaluation["state"], evaluation["count"], evaluation["top1"]) == ("finished", 21, run["top1"])
    assert evaluation["multiply_adds"] == run["multiply_adds"] > 0
    assert Run.read(directory / "one/0").config["train"]["label_smoothing"] == 0.05

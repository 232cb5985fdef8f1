import json
import subprocess
import sys

import jax
import pytest

from experiments.benchmark import __main__ as command
from experiments.benchmark import contest, crops, loader, model, ops, report
from inception_jax.evaluation import scoring


def build(numbers):
    """A side whose call appends to a list, and which says what it has."""
    contest.SHORT = 0  # in a process of its own: one call is enough
    done = list(numbers)
    return {"step": lambda: done.append(len(done)), "facts": lambda: done}


def build_what_ends(path):
    return {"close": lambda: path.write_text("closed")}


def build_nothing():
    raise contest.Unavailable("it is not installed")


def build_badly():
    raise ValueError("wrong\nin two lines")


def test_sides_take_turns_in_processes_of_their_own():
    sides = {name: contest.Side(build, [7]) for name in ("a", "b")}
    with contest.closing(sides):
        seconds = contest.take_turns(sides, ["step", "matmul"], 3)
        assert {key: len(each) for key, each in seconds.items()} == {("a", "step"): 3, ("b", "step"): 3}
        assert all(each > 0 for measured in seconds.values() for each in measured)
        # The three that are counted and one before them.
        assert sides["a"].facts() == sides["b"].facts() == [7, 1, 2, 3, 4]
        assert sides["a"].peak_memory("step") > 1e6


def test_a_side_is_closed(tmp_path):
    contest.Side(build_what_ends, tmp_path / "end").close()
    assert (tmp_path / "end").read_text() == "closed"


def test_short_calls_are_timed_many_at_once(monkeypatch):
    now, step = [0.0], {"step": lambda: now.append(now.pop() + 0.03)}
    monkeypatch.setattr(contest.time, "perf_counter", lambda: now[0])
    assert contest._time(step, "step") == pytest.approx(0.03)
    assert now[0] == pytest.approx(8 * 0.03)  # 0.2 s is no more than 7 of them; the first is not counted
    now[0] = 0.0
    monkeypatch.setattr(contest, "SHORT", 0.03)
    assert contest._time(step, "step") == now[0] == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("broken", "reason"), [(build_nothing, "it is not installed"), (build_badly, "ValueError: wrong")]
)
def test_a_side_that_cannot_take_part_says_why(broken, reason):
    with pytest.raises(contest.Unavailable, match=f"^{reason}$"):
        contest.Side(broken)


def test_ratio_is_the_median_over_rounds():
    assert contest.ratio(peer=[2.0, 9.0, 4.0], ours=[1.0, 3.0, 4.0]) == 2.0


def test_operations_of_googlenet():
    inference = model.Case("googlenet", "inference", "float32", 1).operations()
    assert inference == 2 * 1_582_671_872  # tests/models/test_googlenet.py
    # Each head: 1x1 convolution of a 4x4 grid to 128, dense 2048 to 1024, dense 1024 to 1000.
    heads = sum(16 * channels * 128 + 2048 * 1024 + 1024 * 1000 for channels in (512, 528))
    train = model.Case("googlenet", "train", "float32", 32).operations()
    assert train == 32 * 2 * (3 * (1_582_671_872 + heads) - 112 * 112 * 64 * 7 * 7 * 3)


def test_batches_cost_as_much_as_googlenets():
    # 5,713,216,096 and 32 x 1,582,671,872 products: tests/models.
    assert [model.default_batch(name) for name in ("googlenet", "inception_v3", "lenet5_modern")] == [32, 8, 128]


def test_every_pool_of_googlenet_is_measured():
    pools = [(o.size, o.channels, o.stride) for o in ops.operations() if o.kind == "max pool"]
    # Table 1: four pools between the layers, one in each of nine modules, of which 4b and 4c have equal inputs
    # (and 4d's): 3a 192, 3b 256, 4a 480, 4b to 4d 512, 4e 528, 5a and 5b 832 channels.
    between = {(112, 64, 2), (56, 192, 2), (28, 480, 2), (14, 832, 2)}
    inside = {(28, 192, 1), (28, 256, 1), (14, 480, 1), (14, 512, 1), (14, 528, 1), (7, 832, 1)}
    assert sorted(pools) == sorted(between | inside)
    averages = [(o.size, o.channels, o.window, o.stride) for o in ops.operations() if o.kind == "average pool"]
    assert averages == [(14, 512, 5, 3), (14, 528, 5, 3)]  # section 5: of the heads on 4a and 4d
    assert sum(o.kind == "response norm" for o in ops.operations()) == 2


ROW = {
    "part": "model",
    "network": "googlenet",
    "mode": "train",
    "dtype": "float32",
    "batch": 32,
    "machine": {"cores": "2"},
}
MEASURED = {"side": "PyTorch", "images_per_second": 10.0, "ratio": 1.5, "share_of_limit": 0.5, "peak_memory_gb": 2.0}


def test_a_new_measurement_replaces_the_old_one():
    old = [ROW | {"side": "ours", "ratio": 1.0}, ROW | {"side": "PyTorch", "ratio": 3.0}]
    merged = report.merge(old, [ROW | MEASURED])
    assert [row["ratio"] for row in merged] == [1.0, 1.5]


def test_the_page_shows_ratios_and_what_was_skipped(tmp_path):
    rows = [ROW | MEASURED, ROW | {"side": "Keras", "skipped": "Keras is not installed"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    page = tmp_path / "page.md"
    sys_argv = ["benchmark", "--render", f"--json={tmp_path / 'rows.json'}", f"--markdown={page}"]
    assert run(sys_argv) == 0
    text = page.read_text()
    assert "| googlenet | train | float32 | 32    | PyTorch | 10.0  | 1.50 " in text
    assert "Skipped: googlenet Keras train float32 32 (Keras is not installed)" in text
    assert "cores: 2." in text
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def run(argv):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)
        return command.main()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("speed", "error: there is no part 'speed'; there are ops, model,"),
        ("--models=googlenot", "error: there is no network 'googlenot'; there are"),
        ("--modes=eval", "error: there is no mode 'eval'; there are inference, train"),
        ("--dtype=float64", "error: there is no dtype 'float64'"),
        ("--peers=timm", "error: there is no peer 'timm'"),
        ("--repeats=0", "error: --repeats=0 must be at least 1"),
        ("--render", "error: --render needs a --json file"),
    ],
)
def test_a_mistake_is_one_line(argument, message, capsys):
    assert run(["benchmark", argument]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_the_command_measures_a_network(tmp_path):
    output = tmp_path / "rows.json"
    command_line = "-m experiments.benchmark model --models=lenet5_modern --batch=2 --repeats=1 --modes=train"
    result = subprocess.run(
        [sys.executable, *command_line.split(), "--peers=PyTorch", f"--json={output}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| lenet5_modern | train | float32 | 2     | ours" in result.stdout
    rows = {row["side"]: row for row in json.loads(output.read_text())}
    assert rows["ours"]["ratio"] == 1.0
    assert 0 < rows["ours"]["share_of_limit"] < 1
    assert rows["ours"]["peak_memory_gb"] > 0.01
    assert "ratio" in rows["PyTorch"] or rows["PyTorch"]["skipped"].startswith("PyTorch is not installed")


def test_the_loader_is_measured(monkeypatch):
    monkeypatch.setattr(loader, "FILES", 4)
    rows = {row["what"]: row for row in loader.measure(repeats=1, images=32)}
    assert rows["ours"]["ratio"] == 1.0
    for what in ("ours", "ours, resized beforehand", "ours, evaluation crop"):
        assert rows[what]["images_per_second"] > 1
    for what, package in (("tf.data", "TensorFlow"), ("PyTorch DataLoader", "PyTorch")):
        assert "ratio" in rows[what] or rows[what]["skipped"].startswith(f"{package} is not installed")


def test_every_protocol_is_measured_for_the_passes_it_makes(tmp_path, monkeypatch):
    monkeypatch.setattr(crops.contest, "start_jax", lambda dtype: jax)
    monkeypatch.setattr(crops, "PASSES", 32)
    monkeypatch.setattr(crops, "PROTOCOLS", ("single", "10crop"))
    loader.write_photos(tmp_path / "photos", 32)
    begun = []
    begin = scoring.Scorer.begin
    monkeypatch.setattr(scoring.Scorer, "begin", lambda self, *work: begun.append(len(work[1])) or begin(self, *work))
    calls = crops.evaluation("tiny", 16, "float32", str(tmp_path))
    passes = calls["facts"]()
    assert passes["plain inference"] == 32
    for name, windows in (("single", 1), ("10crop", 10)):
        begun.clear()
        calls[name]()
        assert passes[name] == windows * sum(begun) > 0

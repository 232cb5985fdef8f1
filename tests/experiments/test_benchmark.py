import dataclasses
import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from configs.common import validate
from experiments import cli
from experiments.benchmark import __main__ as command
from experiments.benchmark import crops, loader, model, ops, report, scaling, start
from inception_jax.evaluation import scoring

ROOT = pathlib.Path(__file__).parents[2]


def test_operations_of_googlenet():
    inference = model.ModelCase("googlenet", "inference", "float32", 1).operations()
    assert inference == 2 * 1_582_671_872  # tests/models/test_googlenet.py
    # Each head: 1x1 convolution of a 4x4 grid to 128, dense 2048 to 1024, dense 1024 to 1000.
    heads = sum(16 * channels * 128 + 2048 * 1024 + 1024 * 1000 for channels in (512, 528))
    train = model.ModelCase("googlenet", "train", "float32", 32).operations()
    assert train == 32 * 2 * (3 * (1_582_671_872 + heads) - 112 * 112 * 64 * 7 * 7 * 3)


def test_batches_cost_as_much_as_googlenets():
    # 3,857,973,248 and 32 x 1,582,671,872 products: tests/models.
    assert [model.default_batch(name) for name in ("googlenet", "resnet50", "lenet5_modern")] == [32, 8, 128]


def test_every_pool_of_googlenet_is_measured():
    operations = ops.operations()
    pools = [(o.size, o.channels, o.stride) for o in operations if o.kind == "max pool"]
    # Table 1: four pools between the layers, one in each of nine modules, of which 4b and 4c have equal inputs
    # (and 4d's): 3a 192, 3b 256, 4a 480, 4b to 4d 512, 4e 528, 5a and 5b 832 channels.
    between = {(112, 64, 2), (56, 192, 2), (28, 480, 2), (14, 832, 2)}
    inside = {(28, 192, 1), (28, 256, 1), (14, 480, 1), (14, 512, 1), (14, 528, 1), (7, 832, 1)}
    assert sorted(pools) == sorted(between | inside)
    averages = [(o.size, o.channels, o.window, o.stride) for o in operations if o.kind == "average pool"]
    assert averages == [(14, 512, 5, 3), (14, 528, 5, 3)]  # section 5: of the heads on 4a and 4d
    assert sum(o.kind == "response norm" for o in operations) == 2


def test_our_operations_are_xlas():
    """Values and gradients, of each kind of operation and each window and stride of GoogLeNet, on a small grid."""
    cases = {(case.kind, case.window, case.stride): case for case in ops.operations()}
    assert len(cases) == 8
    for key, case in cases.items():
        small = {"size": 14, "channels": 3 if case.channels == 3 else 6, "features": 5 if case.features else 0}
        case = dataclasses.replace(case, **small)
        arguments = ops.arguments_of(case, 2, "float32")
        output = jax.eval_shape(ops.xla_forms(case)[0], *arguments)
        gradient = jax.random.normal(jax.random.key(0), output.shape)

        @jax.jit
        def results(gradient, arguments, case=case):
            sides = (ops.our_forms(case), ops.xla_forms(case))
            return [(run(*arguments), ops.with_gradients(train)(gradient, arguments)) for run, train in sides]

        ours, xlas = results(gradient, arguments)
        check = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4, err_msg=str(key))
        jax.tree.map(check, ours, xlas)


def test_xlas_max_pool_scatters():
    """Both gradients of the max-pool can be compared on a GPU: that of XLA scatters, ours does not."""
    case = ops.OpCase("max pool", 8, 4, 3, 2)
    arguments = ops.arguments_of(case, 1, "bfloat16")
    for forms, scatters in ((ops.our_forms, False), (ops.xla_forms, True)):
        inference, training = forms(case)
        output = jax.eval_shape(inference, *arguments)
        traced = jax.jit(ops.with_gradients(training)).trace(output, arguments)
        assert ("select_and_scatter" in traced.lower(lowering_platforms=("cuda",)).as_text()) == scatters


ROW = {
    "part": "model",
    "network": "googlenet",
    "mode": "train",
    "dtype": "float32",
    "batch": 32,
    "machine": {"cores": "2"},
}
MEASURED = {"side": "PyTorch", "images_per_second": 10.0, "ratio": 1.5, "fraction_of_limit": 0.5, "peak_memory_gb": 2.0}


def test_a_new_measurement_replaces_the_old_one():
    old = [ROW | {"side": "ours", "ratio": 1.0}, ROW | {"side": "PyTorch", "ratio": 3.0}]
    merged = report.merge(old, [ROW | MEASURED])
    assert [row["ratio"] for row in merged] == [1.0, 1.5]


def test_the_page_and_the_terminal_show_ratios_and_what_was_skipped(tmp_path):
    rows = [ROW | MEASURED, ROW | {"side": "Keras", "skipped": "Keras is not installed"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    page = tmp_path / "page.md"
    assert command.main(["--render", f"--json={tmp_path / 'rows.json'}", f"--markdown={page}"]) == 0
    skipped = "Skipped: googlenet Keras train float32 32 (Keras is not installed)"
    text = page.read_text()
    assert "\n| googlenet | train | float32 | 32 | PyTorch | 10.0 | 1.50 | 50% | 2.00 GB |\n" in text
    assert skipped in text
    assert "cores: 2." in text
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    header, row, last = report.text("model", rows).splitlines()
    assert header.split("  ")[0] == "network"
    assert row.split()[-5:] == ["10.0", "1.50", "50%", "2.00", "GB"]
    assert last == skipped


def test_the_page_in_docs_is_fresh():
    rows = report.read(ROOT / "results" / "benchmarks.json")
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == report.page(rows, "benchmarks.png"), (
        "run: python -m experiments.benchmark --render --json=results/benchmarks.json --markdown=docs/benchmarks.md"
    )


MISTAKES = {
    "speed": "error: parts='speed' is not one of ops, model,",
    "--models=googlenot": "error: --models='googlenot' is not one of alexnet",
    "--modes=eval": "error: --modes='eval' is not one of inference, train\n",
    "--dtype=float64": "error: --dtype='float64' is not one of float32, bfloat16\n",
    "--peers=timm": "error: --peers='timm' is not one of PyTorch, Keras\n",
    "--render": "error: --render needs a --json file with rows\n",
    f"--json={__file__}": f"error: {__file__} is not a file of this command",
}


def test_a_mistake_is_one_line(capsys):
    for argument, message in MISTAKES.items():
        assert command.main([argument]) == 2
        error = capsys.readouterr().err
        assert error.startswith(message)
        assert error.count("\n") == 1
    with pytest.raises(SystemExit):
        command.main(["--repeats=0"])
    assert "--repeats: 0 must be a whole number, 1 or more" in capsys.readouterr().err


def test_the_command_measures_a_network(tmp_path, capsys):
    output = tmp_path / "rows.json"
    arguments = "model --models=lenet5_modern --batch=2 --repeats=1 --modes=train --peers=PyTorch"
    assert command.main([*arguments.split(), f"--json={output}"]) == 0
    rows = {row["side"]: row for row in json.loads(output.read_text())}
    assert rows["ours"]["ratio"] == 1.0
    assert 0 < rows["ours"]["fraction_of_limit"] < 1
    assert rows["ours"]["peak_memory_gb"] > 0.01
    assert "ratio" in rows["PyTorch"] or rows["PyTorch"]["skipped"].startswith("PyTorch is not installed")
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["lenet5_modern", "train", "float32", "2", "ours"] in [words[:5] for words in shown]


def test_our_loaders_are_measured(monkeypatch):
    monkeypatch.setattr(loader, "FILES", 4)
    ours = {what: pipeline for what, pipeline in loader.PIPELINES.items() if what.startswith("ours")}
    assert len(ours) == 3
    monkeypatch.setattr(loader, "PIPELINES", ours)  # the others: tests/parity
    rows = {row["what"]: row for row in loader.measure(repeats=1, images=32)}
    assert rows["ours"]["ratio"] == 1.0
    for what in ours:
        assert rows[what]["images_per_second"] > 1


def test_every_protocol_is_measured_for_the_passes_it_makes(tmp_path, monkeypatch):
    monkeypatch.setattr(crops.contest, "start_jax", lambda dtype: jax)
    monkeypatch.setattr(crops, "PASSES", 32)
    monkeypatch.setattr(crops, "PROTOCOLS", ("single", "10crop"))
    loader.write_photos(tmp_path / "photos", 32)
    begun = []
    begin = scoring.Scorer.begin
    monkeypatch.setattr(scoring.Scorer, "begin", lambda self, *work: begun.append(len(work[1])) or begin(self, *work))
    calls = crops.evaluation("tiny", 16, "float32", str(tmp_path))
    passes = calls["metadata"]()
    assert passes["plain inference"] == 32
    for name, windows in (("single", 1), ("10crop", 10)):
        begun.clear()
        calls[name]()
        assert passes[name] == windows * sum(begun) > 0


def test_the_step_that_is_scaled_runs_on_several_devices(monkeypatch):
    monkeypatch.setattr(scaling.contest, "start_jax", lambda dtype: jax)
    calls = scaling.train_step("tiny", 4, "float32", 2)
    calls["step"]()
    assert calls["metadata"]() == "cpu"
    with pytest.raises(scaling.Unavailable, match="this machine has 4 devices"):
        scaling.train_step("tiny", 8, "float32", 8)


def test_the_run_that_is_started_is_valid():
    parser = cli.Parser("main.py", "")
    parser.add_config()
    config = parser.parse_args(list(start.RUN[1:])).config
    validate(config)
    assert config.train.steps == 1

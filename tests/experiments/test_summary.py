"""The command and what it prints; that its numbers are right is tested in tests/models/test_family.py."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

import inception_jax
from experiments import summary as summary_command
from experiments.summary import Summary, check_with_xla, fidelity, layer_table, render, report
from inception_jax.models.trace import Convolution

ROOT = pathlib.Path(__file__).parent.parent.parent


def run(*arguments):
    command = [sys.executable, "-m", "experiments.summary", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_fidelity_page_is_fresh(summary_of, monkeypatch):
    names = [name for name in inception_jax.list_models() if name != "tiny"]
    monkeypatch.setattr("experiments.summary.list_models", lambda: names)
    assert (ROOT / "docs" / "fidelity.md").read_text() == fidelity(summary_of), (
        "run: python -m experiments.summary --fidelity > docs/fidelity.md"
    )


def test_the_table_of_googlenet(summary_of):
    table, notes = layer_table(summary_of("googlenet"))
    rows = {row[0]: row for row in table if not row[0].startswith(" ")}
    assert rows["conv2"] == (
        "conv2", "", "56x56x192", "114,944", "359,661,568", "3.21 MB", "19", "4",
        "56x56x192 ✓, 112K parameters ✓, 360M multiply-adds ✓",
    )  # fmt: skip
    assert rows["conv1"][-1] == "112x112x64 ✓, 2.7K parameters ✗ +6,707.2 [1], 34M multiply-adds ✗ +84,013,952 [1]"
    assert "separable" in notes[0]
    inside = table[table.index(rows["conv2"]) + 1 :][:2]
    assert [row[:5] for row in inside] == [
        ("  conv3x3_reduce", "1x1/1", "56x56x64", "4,160", "12,845,056"),
        ("  conv3x3", "3x3/1", "56x56x192", "110,784", "346,816,512"),
    ]
    assert rows["aux1"][3:5] == ("3,188,840", "4,169,728")


def test_blocks_add_up(summary_of):
    for layer in summary_of("inception_resnet_v2").layers:
        assert sum(row.parameters for row in layer.rows) == layer.parameters, layer.name
    assert summary_of("vgg_d").activation_bytes == 4 * 15_237_608


def test_the_separable_stem_is_what_table_1_prints():
    summary = Summary.of("googlenet", inception_jax.create_model("googlenet", stem="separable"))
    conv1 = [entry for entry in summary.comparisons if entry.printed.layer == "conv1"]
    assert [entry.ours for entry in conv1] == [(112, 112, 64), 2_776, 34_019_328]
    assert all(entry.agrees for entry in conv1)


def test_reasons_are_those_of_the_papers_network():
    summary = Summary.of("googlenet", inception_jax.create_model("googlenet", module="naive"))
    text = report(summary, markdown=False)
    assert "364K parameters ✗ +2," in text
    assert "contradicts" not in text
    assert "with these options it is not the network that was printed about" in text
    assert "with these options" not in report(
        Summary.of("googlenet", inception_jax.create_model("googlenet", aux=False)), markdown=False
    )


def test_the_command_asks_xla(monkeypatch):
    monkeypatch.setattr(Convolution, "products_by_xla", lambda self: 1.0)
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(model="lenet5"), pytest.raises(RuntimeError, match="by XLA's"):
        summary_command.main(["summary"])


def test_sizes_are_readable(summary_of):
    table, _ = layer_table(summary_of("googlenet_tv"))  # whose heads have strides that are fractions
    rows = {row[0]: row for row in table}
    assert rows["aux1"][5:8] == ("49.1 kB", "315", "53.3")
    assert rows["pool1"][5] == "802.8 kB"


def test_at_another_size_nothing_is_compared():
    summary = Summary.of("lenet5", inception_jax.create_model("lenet5"), (40, 44, 1))
    assert summary.comparisons == ()
    assert summary.layers[0].output == (36, 40, 6)


def test_a_wrong_count_is_noticed(summary_of):
    [row] = [row for row in summary_of("alexnet").convolutions if row.path.startswith("conv1/")]
    check_with_xla([row])
    with pytest.raises(RuntimeError, match=r"conv1/conv11x11: \d+ products by our count, \d+ by XLA's"):
        check_with_xla([dataclasses.replace(row, convolution=_Miscounted(**vars(row.convolution)))])


class _Miscounted(Convolution):
    @property
    def products(self):
        return super().products + 1000


def test_tables():
    rows = [("a", "1"), ("  b", "1,000")]
    assert render(("layer", "parameters"), rows, markdown=False) == (
        "layer  parameters\na               1\n  b         1,000"
    )
    assert render(("layer", "parameters"), rows, markdown=True).split("\n")[1:] == [
        "| --- | --: |",
        "| a | 1 |",
        "| &nbsp;&nbsp;b | 1,000 |",
    ]


def test_report_as_markdown(summary_of):
    lines = report(summary_of("bn_inception"), markdown=True).split("\n")
    assert len({len(cells(line)) for line in lines if line.startswith("|")}) == 1
    assert "- 11,278,528 parameters" in lines
    whole = "13.6M parameters ✗ -2,321,472 [4], 2.0 Bn multiply-adds ✗ -51,394,560 [5]"
    assert f"- printed about the whole: {whole}" in lines


def test_the_command_with_options_and_json(tmp_path):
    result = run("--model=lenet5_modern", "num_classes=7", "pool=average", f"--json={tmp_path / 'lenet.json'}")
    assert result.returncode == 0, result.stderr
    assert "lenet5_modern, images of 32x32x1, 7 classes" in result.stdout
    assert "average pool 2x2/2" in result.stdout
    written = json.loads((tmp_path / "lenet.json").read_text())
    assert (written["parameters"], written["multiply_adds"]) == (61_706 - 3 * 85, 416_520 - 3 * 84)
    assert sum(row["weights"] for layer in written["layers"] for row in layer["rows"]) == 61_470 - 3 * 84
    assert [layer["name"] for layer in written["layers"]] == ["c1", "s2", "c3", "s4", "c5", "f6", "output"]


def test_every_summary_can_be_written_as_json(tmp_path):
    path = tmp_path / "googlenet.json"
    assert run("--model=googlenet_tv", f"--json={path}").returncode == 0
    [aux1, _] = json.loads(path.read_text())["aux_heads"]
    assert aux1["field"]["stride"] == pytest.approx([160 / 3] * 2)


def test_the_command_with_a_config():
    arguments = ["--config=configs/digits.py", "--config.model.stem=separable", "num_classes=10", "--size=96"]
    result = run(*arguments, "--markdown")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("| layer | operation |")
    assert "- googlenet, images of 96x96x3, 10 classes" in result.stdout
    assert "conv7x7_depthwise" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --config, --model and --fidelity"),
        (["--model=lenet5", "--config=configs/digits.py"], "give one of --config, --model and --fidelity"),
        (["--fidelity", "aux=False"], "the last without options"),
        (["--config=nothing.py"], "No such file or directory: 'nothing.py'"),
        (["--config=README.md"], "error: "),
        (["--config=configs/digits.py", "--config.data.image_size=-5"], "config.data.image_size=-5 must be at least 1"),
        (["--model=alexnet", "groups=2.0"], "groups=2.0 must be a whole number above 0"),
        (["--model=alexnet", "groups=3"], "groups=3 must be 1 or 2"),
        (["--model=lenet5_modern", "pool=[1]"], "pool=[1] must be a word"),
        (["--model=inception_resnet_v1", "residual_scale=-1"], "residual_scale=-1 must be a number not below 0"),
        (["--model=lenet5_modern", "width=1e9"], "must be a number above 0 and at most 16"),
        (["--model=lenet5", "--size=0"], "0 is not a positive integer"),
        (["--model=lenet5", "name=vgg_a"], "'name=vgg_a' is no option of the form NAME=VALUE"),
        (["--model=lenet5", "--json=/nowhere/there.json"], "No such file or directory"),
        (["--model=googelnet"], "there is no network 'googelnet'; did you mean googlenet"),
        (["--model=lenet5", "deep"], "'deep' is no option of the form NAME=VALUE, given once"),
        (["--model=lenet5", "--size=20"], "images of 20x20 are too small for this network: 32 at least"),
        (["--modle=lenet5"], "Unknown command line flag 'modle'"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    result = run(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr

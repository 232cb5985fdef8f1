import json

import pytest

from experiments import summary
from inception_jax.models.trace import Convolution


@pytest.fixture
def run(capsys):
    """Runs the command; returns exit status, standard output and standard error."""

    def run(*arguments):
        try:
            status = summary.main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return run


def test_options_and_json(run, tmp_path):
    file = tmp_path / "lenet.json"
    status, text, _ = run("--model=lenet5_modern", "num_classes=7", "pool=average", f"--json={file}")
    assert status == 0
    assert "lenet5_modern, images of 32x32x1, 7 classes" in text
    assert "average pool 2x2/2" in text
    written = json.loads(file.read_text())
    assert (written["parameters"], written["multiply_adds"]) == (61_706 - 3 * 85, 416_520 - 3 * 84)
    weights = [operation["weights"] for layer in written["layers"] for operation in layer["operations"]]
    assert sum(weights) == 61_470 - 3 * 84
    assert [layer["name"] for layer in written["layers"]] == ["c1", "s2", "c3", "s4", "c5", "f6", "output"]


def test_strides_that_are_fractions_can_be_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr("inception_jax.models.summary.check_with_xla", lambda convolutions: None)
    assert run("--model=googlenet_tv", f"--json={tmp_path / 'googlenet.json'}")[0] == 0
    [aux1, _] = json.loads((tmp_path / "googlenet.json").read_text())["aux_heads"]
    assert aux1["field"]["stride"] == pytest.approx([160 / 3] * 2)


def test_a_recipe(run, monkeypatch):
    monkeypatch.setattr("inception_jax.models.summary.check_with_xla", lambda convolutions: None)
    status, text, _ = run("--config=configs/digits.py", "--config.model.stem=separable", "num_classes=10", "--markdown")
    assert status == 0
    assert text.startswith("| layer | operation |")
    assert "- googlenet, images of 64x64x3, 10 classes" in text
    assert "conv7x7_depthwise" in text
    text = run("--config=configs/digits.py:lenet5_modern", "--size=40", "num_classes=4")[1]
    assert "lenet5_modern, images of 40x40x1, 4 classes" in text


def test_xla_is_asked(run, monkeypatch):
    monkeypatch.setattr(Convolution, "products_by_xla", lambda self: 1.0)
    with pytest.raises(RuntimeError, match="by XLA's"):
        run("--model=lenet5")


MISTAKES = {
    "": "give one of --config, --model and --fidelity",
    "--model=lenet5 --config=configs/digits.py": "give one of --config, --model and --fidelity",
    "--fidelity aux=False": "the last without options",
    "--config=nothing.py": "No such file or directory: 'nothing.py'",
    "--config=README.md": "error: ",
    "--config=configs/digits.py --config.data.image_size=-5": "config.data.image_size=-5 must be at least 1",
    "--model=alexnet groups=2.0": "groups=2.0 is not one of 1, 2",
    "--model=alexnet groups=3": "groups=3 is not one of 1, 2",
    "--model=lenet5_modern pool=[1]": "pool=[1] is not one of max, average",
    "--model=inception_resnet_v1 residual_scale=-1": "residual_scale=-1 must be a number not below 0",
    "--model=lenet5_modern width=1e9": "must be a number above 0 and at most 16",
    "--model=lenet5 --size=0": "--size: 0 must be a whole number, 1 or more",
    "--model=lenet5 name=vgg_a": "'name=vgg_a' is not an option NAME=VALUE",
    "--model=lenet5 --json=/nowhere/there.json": "No such file or directory",
    "--model=googelnet": "there is no network 'googelnet'; did you mean googlenet",
    "--model=lenet5 deep": "'deep' is not an option NAME=VALUE, given once",
    "--model=lenet5 --size=20": "images of 20x20 are too small for this network: 32 at least",
    "--modle=lenet5": "unrecognized arguments: --modle=lenet5",
}


def test_mistakes_are_one_line(run):
    for arguments, message in MISTAKES.items():
        status, _, error = run(*arguments.split())
        assert status == 2, arguments
        assert message in error, arguments
        assert error.replace("\nSee python -m experiments.summary --help", "").count("\n") == 1, error

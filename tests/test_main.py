"""The command line, as a process of its own."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = """
from configs import common

def get_config():
    config = common.get_config()
    config.model.name = "nin_cifar10"
    config.model.width = 0.1
    config.data.update(name="folder", eval_split="val", image_size=32, resize=32)
    config.train.update(batch_size=8, steps=4000)
    config.checkpoint.every = "100000 steps"
    config.eval.every = "100000 steps"
    config.log.update(every="1 step", tensorboard=False)
    return config
"""


def command(*arguments):
    return [sys.executable, str(ROOT / "main.py"), *map(str, arguments)]


def run(*arguments):
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def arguments(tmp_path, image_folder):
    config = tmp_path / "config.py"
    config.write_text(CONFIG)
    return [f"--config={config}", f"--workdir={tmp_path / 'run'}", f"--config.data.dir={image_folder}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(number, arguments, tmp_path):
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment)
    for line in process.stderr:
        if line.startswith("step 3/4000"):
            assert all(part in line for part in ("epoch", "loss", "top-1", "lr", "img/s", "waiting for data", "left"))
            process.send_signal(number)
            break
    rest = process.stderr.read()
    assert process.wait() == 128 + number
    assert f"stopped by {number.name} after step" in rest
    assert "the same command goes on from there" in rest
    [step] = [int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert step >= 3

    # The config says how long; the workdir is that of the same experiment only with the same length.
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["config"]["train"]["steps"] == 4000
    process = subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment)
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith(f"step {step + 1}/4000"):
            process.send_signal(number)
            break
    process.stderr.read()
    assert process.wait() == 128 + number
    assert any(line.startswith(f"going on after step {step} of 4000") for line in seen)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config.train.epohcs=3"], 'Did you mean "epochs" instead of "epohcs"?'),
        (["--config.trian.epochs=3"], 'Did you mean "train" instead of "trian"?'),
        (["--config.train.epochs=many"], "could not convert string to float: 'many'"),
        (["--confg=3"], "Unknown command line flag 'confg'"),
        (["extra"], "'extra' is no flag"),
        (["--config=configs/gogglenet.py"], "configs/gogglenet.py"),
        (
            ["--config=configs/bn_inception.py:x7"],
            "error: flag --config=configs/bn_inception.py:x7: this config has no argument 'x7'; it has x30, x5, ",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(more, message, arguments):
    result = run(*arguments, *more)
    assert result.returncode == 2
    first, second = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second == "See python main.py --help"


@pytest.mark.parametrize("missing", ["config", "workdir"])
def test_a_missing_flag_is_named(missing, arguments):
    result = run(*(a for a in arguments if not a.startswith(f"--{missing}=")))
    assert result.returncode == 2
    assert f"--{missing} is missing" in result.stderr or "config" in result.stderr


def test_bad_input_is_one_line(arguments):
    result = run(*arguments, "--config.data.dir=/nowhere")
    assert result.returncode == 2
    assert [line for line in result.stderr.splitlines() if line] == ["error: there is no directory /nowhere"]

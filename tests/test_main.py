"""The command line, as a process of its own."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

import main
from configs.common import validate
from experiments.cli import Parser
from inception_jax.report import training

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("module", "at"), [("ml_collections", "main"), ("jax", "main"), ("numpy", "experiments.predict")]
)
def test_a_signal_in_the_imports_ends_a_command_in_one_line(module, at, number, tmp_path):
    # The module of this name sends the signal, and swallows what is raised, as some libraries do.
    code = (
        f"import os\ntry:\n    os.kill(os.getpid(), {int(number)})\n    for _ in range(100): pass\n"
        "except BaseException:\n    pass\n"
    )
    (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
    start = [str(ROOT / "main.py")] if at == "main" else ["-m", at]
    flags = [f"--config={ROOT / 'configs' / 'digits.py'}"] if at == "main" else ["picture.png"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    result = subprocess.run(
        [sys.executable, *start, *flags, f"--workdir={tmp_path / 'run'}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"stopped by {number.name}; rerun the same command\n"
    assert (result.returncode, result.stderr) == (128 + number, said)


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
    with process:
        rest = process.stderr.read()
    assert process.returncode == 128 + number
    assert f"stopped by {number.name} after step" in rest
    assert "which is saved; rerun the same command to resume" in rest
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
    with process:
        process.stderr.read()
    assert process.returncode == 128 + number
    assert any(line.startswith(f"resuming after step {step} of 4000") for line in seen)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config.train.epohcs=3"], 'Did you mean "epochs" instead of "epohcs"?'),
        (["--config.trian.epochs=3"], 'Did you mean "train" instead of "trian"?'),
        (["--config.zzz=3"], "error: the config has no key 'zzz'"),
        (["--config.data.mean[0]=3"], "0 is not a valid index for <class 'tuple'> (in: data.mean[0])"),
        (["--config.train.epochs=many"], "error: config.train.epochs='many': a number is wanted, such as 90 or 0.5"),
        (["--confg=3"], "unrecognized arguments: --confg=3"),
        (["--config.train.average_decay=0.9"], "config.train.average_decay is now called config.train.ema_decay"),
        (["extra"], "unrecognized arguments: extra"),
        (["--config=configs/gogglenet.py"], "configs/gogglenet.py"),
        (
            ["--config=configs/bn_inception.py:x7"],
            "this config has no variant 'x7'; it has x30, x5, ",
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
    assert f"--{missing}" in result.stderr.splitlines()[0]


def test_bad_input_is_one_line(arguments):
    result = run(*arguments, "--config.data.dir=/nowhere")
    assert result.returncode == 2
    assert [line for line in result.stderr.splitlines() if line] == ["error: there is no directory /nowhere"]


@pytest.fixture
def finished(arguments):
    """A function that runs main.py, in this process, on a run that needs no training any more."""
    arguments = [*arguments, "--config.train.steps=1", "--config.log.report=True"]
    assert main.main([*arguments, "--config.log.report=False"]) == 0
    return functools.partial(main.main, arguments)


def test_the_end_of_a_run_is_printed_and_a_report_does_not_spoil_it(finished, tmp_path, monkeypatch, capsys):
    capsys.readouterr()
    assert finished() == 0
    out = capsys.readouterr().out
    assert "  Images counted  21\n" in out
    assert f"  Report          {tmp_path / 'run' / 'report.html'}\n" in out

    def fail(report):
        raise RuntimeError("no picture")

    monkeypatch.setattr(training.Report, "write", fail)
    assert finished() == 0
    out, err = capsys.readouterr()
    assert "  Images counted  21\n" in out
    assert f"warning: {tmp_path / 'run' / 'report.html'} is not written: RuntimeError: no picture\n" in err

    monkeypatch.setattr(training.Report, "write", lambda report: signal.raise_signal(signal.SIGTERM))
    assert finished() == 128 + signal.SIGTERM
    assert capsys.readouterr().err.endswith("stopped by SIGTERM; rerun the same command to resume\n")


def read(*arguments, config="configs/googlenet.py:caffe"):
    """The config that these flags give, as a command has it."""
    parser = Parser("main.py", "")
    parser.add_config()
    config = parser.parse_args([f"--config={ROOT / config}", *arguments]).config
    validate(config)
    return config.to_dict()


def test_every_list_may_be_empty_or_of_one():
    config = read(
        "--config.optimizer.lr_multipliers=", "--config.optimizer.weight_decay_on=", "--config.reinit=",
        "--config.optimizer.freeze=^stem", "--config.schedule.boundaries=30 Epochs",
    )  # fmt: skip
    optimizer = config["optimizer"]
    assert (optimizer["lr_multipliers"], optimizer["weight_decay_on"], config["reinit"]) == ((), (), ())
    assert (optimizer["freeze"], config["schedule"]["boundaries"]) == (("^stem",), ("30 epochs",))
    config = read("--config.optimizer.freeze=^a", "--config.optimizer.freeze=^b", "--config.reinit=('^c', '^d')")
    assert (config["optimizer"]["freeze"], config["reinit"]) == (("^a", "^b"), ("^c", "^d"))


@pytest.mark.parametrize(
    ("section", "key", "text", "value"),
    [
        ("train", "steps", "1e3", 1000),
        ("train", "steps", "1000.0", 1000),
        ("train", "batch_size", "0x10", 16),
        ("train", "epochs", "90", 90.0),
        ("train", "aux_weights", '{"aux1": 0.5}', {"aux1": 0.5}),
        ("data", "flip", "False", False),
        ("data", "mean", "127.5", (127.5,) * 3),
        ("data", "std", "2", (2.0,) * 3),
        ("data", "area", "(0.5, 1.0)", (0.5, 1.0)),
        ("data", "scale", "[256, 512]", (256, 512)),
        ("optimizer", "lr_multipliers", '("bias$",2.0)', (("bias$", 2.0),)),
        ("optimizer", "lr_multipliers", '(("bias$",2.0),)', (("bias$", 2.0),)),
        ("eval", "every", "1000 Steps", "1000 steps"),
        ("model", "width", "1", 1.0),
        ("model", "early_reduction", "2.0", 2),
        ("model", "aux", "f", False),
    ],
)
def test_how_a_value_may_be_written(section, key, text, value):
    read_value = read(f"--config.{section}.{key}={text}")[section][key]
    assert (read_value, type(read_value)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("train.epochs", "", "a number is wanted, such as 90 or 0.5"),
        ("train.steps", "1e3+0.5", "a whole number is wanted, such as 1000"),
        ("train.steps", "0.5", "a whole number is wanted, such as 1000"),
        ("seed", "inf", "a whole number is wanted, such as 1000"),
        ("model.early_reduction", "two", "a whole number is wanted, such as 1000"),
        ("model.width", "wide: a number", "a number is wanted, such as 90 or 0.5"),
        ("data.flip", "maybe", "true or false is wanted"),
        ("optimizer.freeze", "^a,^b", """a list is wanted, such as "(0.5, 1.0)" or "('^conv', '^aux')\""""),
        ("data", "digits", "keys and values are wanted, such as {'aux1': 0.3}; or one key, as in config.data.dir"),
        (
            "train.aux_weights",
            "3",
            "keys and values are wanted, such as {'aux1': 0.3}; or one key, as in config.data.dir",
        ),
    ],
)
def test_what_a_flag_is_not_is_said_with_its_key(key, text, wanted, capsys):
    with pytest.raises(SystemExit) as exit_:
        read(f"--config.{key}={text}")
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"error: config.{key}={text!r}: {wanted}\nSee python main.py --help\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--config=configs/digits.py", "--config.seed=x"]])
def test_help_and_a_wrong_flag_answer_without_jax(arguments):
    lines = subprocess.run(
        [sys.executable, "-X", "importtime", *command(*arguments)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "ml_collections" in imported
    assert not imported & {"jax", "numpy"}

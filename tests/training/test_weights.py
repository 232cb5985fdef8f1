"""Weights that one run takes over from another."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.training import loop
from inception_jax.training.checkpoints import best_first
from inception_jax.training.weights import export_weights, load, load_weights, read_checkpoint, transfer


def run(config, workdir):
    return jax.device_get(loop.train_and_evaluate(config, str(workdir)))


def flat(variables):
    paths = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def source(tiny_config, trained):
    """A finished run of six steps, its workdir and its final state; trained once."""
    tiny_config.train.steps = 6
    return trained, run(tiny_config, trained)


def begun(config, workdir, **changes):
    """The state before the first step of a run with those changes."""
    config.update(changes)
    config.schedule.update(name="constant", warmup="0 steps", base_lr=1e-30)  # a step changes nothing
    config.optimizer.weight_decay = 0.0
    config.train.update(steps=1, freeze_batch_norm=True, average_decay=0.0)
    return run(config, workdir)


def test_a_workdir_a_checkpoint_and_a_file_give_the_averaged_weights(tiny_config, source, tmp_path, capsys):
    workdir, state = source
    file = tmp_path / "weights.npz"
    expected = flat(state.average)
    assert export_weights(workdir, file) == (len(expected), workdir / "checkpoints" / "6")
    for place in (workdir, workdir / "checkpoints" / "6", file):
        weights = load_weights(str(place))
        assert weights.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(weights[name], array)
    assert json.loads(str(np.load(file)["facts"]))["class_names"] == ["blue", "green", "red"]

    ours = begun(tiny_config, tmp_path / "fine-tuned", init_from=str(file))
    for name, array in flat({"params": ours.params, "batch_stats": ours.batch_stats}).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-6, err_msg=name)
    assert f"{len(expected)} arrays are taken over, 0 begin anew" in capsys.readouterr().err


def test_a_new_head(tiny_config, source, tmp_path, capsys):
    tiny_config.init_new = ("^top/", "^aux1/")
    ours = begun(tiny_config, tmp_path / "run", init_from=str(source[0]), seed=5)
    expected = source[1].average["params"]
    np.testing.assert_allclose(ours.params["body"]["conv3x3"]["kernel"], expected["body"]["conv3x3"]["kernel"], 1e-6)
    assert not np.allclose(ours.params["top"]["classifier"]["kernel"], expected["top"]["classifier"]["kernel"])
    error = capsys.readouterr().err
    assert "begin anew: params/aux1/classifier/bias, params/aux1/classifier/kernel, params/top/classifier/bias" in error
    assert "not used: params/aux1/classifier/bias" in error


def test_what_does_not_match_is_listed_with_the_reason(tiny_config, source, tmp_path):
    tiny_config.model.width = 2.0
    with pytest.raises(UserError, match="of 14 arrays do not match.*config.init_new:") as error:
        begun(tiny_config, tmp_path / "run", init_from=str(source[0]))
    assert "  params/stem/conv3x3/kernel: 3x3x3x4 there, 3x3x3x8 here" in str(error.value).splitlines()
    with pytest.raises(UserError, match="params/a: not there"):
        transfer({"params": {"a": np.zeros(2)}, "batch_stats": {}}, {"params/b": np.zeros(2)}, ())


def test_the_average_begins_with_the_weights_taken_over(tiny_config, source, tmp_path):
    tiny_config.update(init_from=str(source[0]))
    tiny_config.schedule.update(name="constant", warmup="0 steps", base_lr=1e-30)
    tiny_config.optimizer.weight_decay = 0.0
    tiny_config.train.steps = 1
    state = run(tiny_config, tmp_path / "run")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state.average["params"], state.params)


def test_a_run_that_goes_on_does_not_begin_again(tiny_config, source, tmp_path):
    tiny_config.update(init_from=str(source[0]))
    tiny_config.train.steps = 3
    tiny_config.checkpoint.every = "1 step"
    finished = run(tiny_config, tmp_path / "run")
    again = run(tiny_config, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, again.params, finished.params)


def test_wrong_places(tiny_config, source, tmp_path):
    (tmp_path / "torn.npz").write_bytes(b"no file of weights")
    for place, message in (
        ("nowhere", "there is no nowhere to take weights from"),
        (str(tmp_path), "is neither a workdir with checkpoints nor a checkpoint nor a file of weights"),
        (str(tmp_path / "torn.npz"), "cannot be read as a file of exported weights"),
    ):
        with pytest.raises(UserError, match=message):
            load_weights(place)
    with pytest.raises(UserError, match="has no checkpoint '5'; it has best, last, 4, 6"):
        read_checkpoint(source[0], "5")
    tiny_config.init_new = ("clasifier",)
    with pytest.raises(UserError, match="config.init_new: 'clasifier' fits no parameter; they have names such as aux1"):
        run(tiny_config, tmp_path / "run")


def test_class_names_of_an_older_version_are_made_readable(source, tmp_path):
    """It kept names as macOS writes them, and in a locale that is not UTF-8 their bytes."""
    copy = tmp_path / "copy"
    shutil.copytree(source[0], copy)
    for facts in (copy / "checkpoints").glob("*/facts/metadata"):
        facts.write_text(facts.read_text().replace('"blue", "green"', r'"cafe\u0301", "caf\udcc3\udca9s"'))
    assert load(copy).class_names == ("caf\u00e9", "caf\u00e9s", "red")


def test_a_home_directory_that_is_not_there(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it does without a home directory
    monkeypatch.setattr(Path, "home", None)
    for read in (load, load_weights):
        with pytest.raises(UserError, match="there is no ~/run"):
            read("~/run")


def flip_a_byte(checkpoint):
    files = (path for path in (checkpoint / "state").rglob("*") if path.is_file())
    largest = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    largest.write_bytes(bytes(data))


def spoil_metadata(checkpoint):
    (checkpoint / "facts" / "metadata").write_text("no JSON", encoding="utf-8")


def lose_metadata(checkpoint):
    shutil.rmtree(checkpoint / "facts")


@pytest.mark.parametrize("damage", [flip_a_byte, spoil_metadata, lose_metadata])
def test_another_checkpoint_takes_the_place_of_a_damaged_one(damage, source, tmp_path):
    """As in training; but not of a step that was asked for."""
    copy = tmp_path / "copy"
    shutil.copytree(source[0], copy)
    damage(copy / "checkpoints" / "6")
    for which in ("best", "last"):
        with pytest.warns(UserWarning, match="6 cannot be read as a checkpoint: .*; checkpoint 4 takes its place"):
            assert load(copy, which).source == copy / "checkpoints" / "4"
    with pytest.warns(UserWarning, match="takes its place"):
        load_weights(str(copy))
    with pytest.raises(UserError, match="6 cannot be read as a checkpoint"):
        load(copy, "6")
    damage(copy / "checkpoints" / "4")
    with pytest.raises(UserError, match="6 cannot be read as a checkpoint"):
        load(copy)


def test_the_best_checkpoint_is_that_of_the_highest_top1():
    metrics = {
        1: {"top1": 0.5, "loss": 2.0},
        2: {"top1": 0.5, "loss": 1.0},
        3: None,
        4: {"top1": 0.1, "loss": 0.1},
        5: None,
    }
    assert best_first(metrics) == [2, 1, 4, 5, 3]


def test_the_command(source, tmp_path):
    def export(*arguments):
        command = [sys.executable, "-m", "experiments.export_weights", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    result = export("--workdir", source[0], "--out", tmp_path / "w.npz")
    assert (result.returncode, result.stdout.split(" arrays of ")[0]) == (0, "14")
    assert "params/stem/conv3x3/kernel" in np.load(tmp_path / "w.npz")
    result = export("--workdir", tmp_path, "--out", tmp_path / "x.npz")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path} is neither a workdir")

"""Whole runs: resume, interruption, damage, divergence."""

import asyncio
import errno
import itertools
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from configs.common import validate
from inception_jax.errors import UserError
from inception_jax.evaluation.metrics import evaluate
from inception_jax.parallel import DataParallel
from inception_jax.runs import checkpoints
from inception_jax.runs.checkpoints import Checkpoints, read_metadata
from inception_jax.runs.workdir import Workdir
from inception_jax.training import experiment as experiment_module
from inception_jax.training import loop
from inception_jax.training.experiment import Experiment
from inception_jax.training.metric_accumulator import MetricAccumulator
from inception_jax.training.preemption import Interrupted, Preemption


def run(config, workdir):
    validate(config)
    return jax.device_get(loop.train_and_evaluate(config, str(workdir)))


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def history(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    timing = ("images_per_second", "data_wait", "peak_memory")
    return [{key: value for key, value in row.items() if key not in timing} for row in rows]


def stop_at(step):
    """In place of `Preemption`: SIGTERM comes after the step."""

    class StopAt(Preemption):
        def received(self):
            self._calls += 1
            return signal.SIGTERM if self._calls == step else 0

    return StopAt


def test_what_a_run_leaves(tiny_config, tmp_path):
    tiny_config.log.tensorboard = True
    state = run(tiny_config, tmp_path)
    assert int(state.step) == 12
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["last"].keys() == {"step", "top1", "top5", "loss", "count"}
    assert (results["last"]["step"], results["last"]["count"], results["last"]["top5"]) == (12, 21, 1.0)
    assert results["last"]["top1"] > 0.5  # three colours
    assert results["best"]["step"] in (6, 12)
    rows = history(tmp_path)
    assert [(row["step"], row["split"]) for row in rows] == [
        *((step, "train") for step in (2, 4, 6)),
        (6, "val"),
        *((step, "train") for step in (8, 10, 12)),
        (12, "val"),
    ]
    assert {"loss", "aux1_loss", "top1", "top5", "learning_rate", "grad_norm"} <= rows[0].keys()
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["config"]["train"]["batch_size"] == 8
    assert record["versions"]["jax"] == jax.__version__
    # 3x3x3x4 and 3x3x4x8 weights, scales and biases of 12 channels; a classifier of 8 and a head of 4 channels.
    parameters = 108 + 288 + 2 * 12 + (8 + 1) * 3 + (4 + 1) * 3
    multiply_adds = 8 * 8 * (108 + 288) + 8 * 3
    assert record["network"] == {
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "total_steps": 12,
        "train_images": 48,
        "device": "4 x cpu",
    }
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert first["peak_memory"] > 50e6  # bytes: Python and JAX alone have more
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["12", "6", "8"]
    metadata = read_metadata(tmp_path / "checkpoints" / "12")["inference"]
    assert metadata["class_names"] == ["blue", "green", "red"]
    assert metadata["model"]["name"] == "tiny"
    assert metadata["preprocessing"] | {"size": 16, "resize": 18, "mean": [128.0] * 3} == metadata["preprocessing"]
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert "conv3x3_bn" in (tmp_path / "parameters.txt").read_text()
    with np.load(tmp_path / "predictions.npz") as predictions:
        assert predictions["step"] == 12
        assert np.bincount(predictions["labels"]).tolist() == [7, 7, 7]
        right = predictions["classes"][:, 0] == predictions["labels"]
        assert right.mean() == results["last"]["top1"] == np.trace(predictions["confusion"]) / 21
        assert predictions["probabilities"].shape == (21, 3)


@pytest.mark.parametrize("step", [1, 6, 7])
def test_a_resumed_run_is_bitwise_equal(step, tiny_config, tmp_path, uninterrupted, monkeypatch):
    """Step 7 is in the middle of the second epoch; step 6 is that of an evaluation and of a checkpoint."""
    workdir = tmp_path / "resumed"
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=f"SIGTERM after step {step}, which is"):
        patch.setattr(loop, "Preemption", stop_at(step))
        run(tiny_config, workdir)
    assert str(step) in [path.name for path in (workdir / "checkpoints").iterdir()]
    assert_equal(run(tiny_config, workdir), uninterrupted[0])
    assert history(workdir) == history(uninterrupted[1])
    ours, theirs = (json.loads((path / "results.json").read_text()) for path in (workdir, uninterrupted[1]))
    assert ours == theirs


def everything(config):
    config.data.update(photometric="slim", pca_noise=0.1, randaugment=2, interpolation="mixed", shift=1)
    config.data.update(mixup=0.2, cutmix=1.0)
    config.optimizer.update(name="rmsprop", clip_norm=2.0, max_rms=0.5, weight_decay_style="tf")
    config.optimizer.lr_multipliers = (("bias$", 2.0),)
    config.schedule.base_lr = 0.01


def whitened(config):
    config.data.update(crop="scale", scale=(16, 24), whitening="gcn_zca", photometric="slim_fast")
    config.optimizer.update(name="lamb", freeze=("^stem/.*kernel",))
    config.train.update(microbatch=1)


def on_a_plateau(config):
    config.data.update(crop="square", scale=(18, 20), whitening="gcn", channels=1)
    config.optimizer.update(name="lars", caffe_momentum=True, max_norm=1.0)
    config.schedule.update(name="plateau", rate=0.1, patience=1, warmup="0 steps", base_lr=1e-6)


def by_caffe(config):
    config.data.update(crop="central", resize=12)
    config.optimizer.update(name="sgd", caffe_momentum=True, weight_decay_style="decoupled")
    config.train.freeze_batch_norm = True


def adamw(config):
    config.optimizer.update(name="adamw")
    config.eval.batch_norm_check = 8


@pytest.mark.parametrize(
    ("recipe", "stop"),
    [(everything, 4), (whitened, 4), (on_a_plateau, 3), (on_a_plateau, 4), (by_caffe, 4), (adamw, 4)],
)
def test_every_augmentation_and_optimizer_resumes_bitwise(recipe, stop, tiny_config, tmp_path_factory, monkeypatch):
    """An evaluation follows the checkpoint of step 3, and lowers the rate of the plateau; step 4 is after it."""
    recipe(tiny_config)
    tiny_config.train.steps = 6
    tiny_config.eval.every = "3 steps"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    whole, parts = (tmp_path_factory.getbasetemp() / f"{recipe.__name__}-{name}" for name in ("whole", stop))
    state = run(tiny_config, whole)  # the second time it is there already
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "Preemption", stop_at(stop))
        run(tiny_config, parts)
    shutil.rmtree(tmp_path_factory.getbasetemp() / "cache", ignore_errors=True)  # statistics are in the checkpoint
    assert_equal(run(tiny_config, parts), state)
    assert [row for row in history(parts) if row["step"] > stop + 1] == [
        row for row in history(whole) if row["step"] > stop + 1
    ]


def test_kept_data_train_as_data_that_are_read(tiny_config, tmp_path, uninterrupted):
    tiny_config.data.cache = "memory"
    assert_equal(run(tiny_config, tmp_path), uninterrupted[0])
    assert history(tmp_path) == history(uninterrupted[1])


def test_a_run_resumes_with_another_cache_if_no_crop_is_random(tiny_config, tmp_path, monkeypatch):
    tiny_config.data.crop = "central"
    state = run(tiny_config, tmp_path / "whole")
    for cache, step in (("none", 3), ("memory", 5)):
        tiny_config.data.cache = cache
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(loop, "Preemption", stop_at(step))
            run(tiny_config, tmp_path / "parts")
    tiny_config.data.cache = "device"
    assert_equal(run(tiny_config, tmp_path / "parts"), state)
    assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_crops_on_the_device_resume_bitwise(tiny_config, image_folder, tmp_path, monkeypatch, capsys):
    root = tmp_path / "data"
    shutil.copytree(image_folder, root)
    tiny_config.data.update(dir=str(root), interpolation="mixed", cache="device")
    tiny_config.train.steps = 6
    tiny_config.eval.update(every="3 steps", batch_norm_check=8)
    message = (
        "config.data.cache='device': images of different sizes, such as 24x20 and 24x21, .*; or set it to 'memory'"
    )
    with pytest.raises(UserError, match=message):
        run(tiny_config, tmp_path / "refused")
    for file in root.glob("*/*/*.png"):
        if int(file.stem) % 3:
            file.unlink()
    state = run(tiny_config, tmp_path / "whole")
    assert "images on each device: 0.0 MB after" in capsys.readouterr().err
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "Preemption", stop_at(4))
        run(tiny_config, tmp_path / "parts")
    tiny_config.data.cache = "memory"
    with pytest.raises(UserError, match="another experiment.*\n  config.data.cache: 'device' -> 'memory'"):
        run(tiny_config, tmp_path / "parts")
    tiny_config.data.cache = "device"
    assert_equal(run(tiny_config, tmp_path / "parts"), state)


def test_a_plateau_lowers_the_learning_rate(tiny_config, tmp_path):
    on_a_plateau(tiny_config)
    tiny_config.schedule.end_lr = 1e-7
    tiny_config.eval.every = "3 steps"
    run(tiny_config, tmp_path)  # a rate at which nothing changes, so that no evaluation is better than the first
    rates = {row["step"]: row["learning_rate"] for row in history(tmp_path) if row["split"] == "train"}
    assert {step: round(rate * 1e6, 6) for step, rate in rates.items()} == {2: 1, 4: 1, 6: 1, 8: 0.1, 10: 0.1, 12: 0.1}


def test_batch_statistics_that_disagree_are_told_of(tiny_config, tmp_path, capsys):
    tiny_config.model.batch_norm_decay = 0.9999  # the running statistics stay as they are initialised
    tiny_config.eval.update(batch_norm_check=20, batch_size=24)
    run(tiny_config, tmp_path)
    rows = {row["split"]: row for row in history(tmp_path) if row["step"] == 12}
    assert rows["train (running statistics)"]["count"] == rows["train (batch statistics)"]["count"] == 24
    difference = abs(rows["train (running statistics)"]["top1"] - rows["train (batch statistics)"]["top1"])
    assert difference > 0.05
    assert "warning: on 24 training images top-1 is" in capsys.readouterr().err


def test_an_evaluation_that_was_stopped_is_made_up_for(tiny_config, tmp_path, uninterrupted, monkeypatch):
    workdir = tmp_path / "resumed"
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="after step 6, which is saved"):
        patch.setattr(loop, "evaluate", lambda *_, **__: interrupted_for_ever())
        run(tiny_config, workdir)
    assert_equal(run(tiny_config, workdir), uninterrupted[0])
    assert history(workdir) == history(uninterrupted[1])


def interrupted_for_ever():
    signal.raise_signal(signal.SIGTERM)
    assert not threading.Event().wait(30), "the signal was not honoured"
    raise AssertionError("the signal was not honoured")


@pytest.mark.parametrize("batches", [0, 3])
def test_a_signal_is_honoured_while_batches_do_not_come(batches, tiny_config, tmp_path, uninterrupted, monkeypatch):
    def slow(*arguments, **options):
        yield from itertools.islice(train_batches(*arguments, **options), batches)
        interrupted_for_ever()

    train_batches, workdir = loop.loader.train_batches, tmp_path / "run"
    saved = f" after step {batches}, which is saved" if batches else ""
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=f"^stopped by SIGTERM{saved}$"):
        patch.setattr(loop.loader, "train_batches", slow)
        run(tiny_config, workdir)
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == [str(batches)] * bool(batches)
    assert_equal(run(tiny_config, workdir), uninterrupted[0])


@pytest.mark.parametrize("place", ["open_source", "restore"])
def test_a_signal_is_honoured_where_nothing_is_to_be_saved(place, tiny_config, tmp_path, uninterrupted, monkeypatch):
    owner = {"open_source": experiment_module, "restore": Checkpoints}[place]
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="^stopped by SIGTERM"):
        patch.setattr(owner, place, lambda *_, **__: interrupted_for_ever())
        run(tiny_config, tmp_path / "run")
    assert_equal(run(tiny_config, tmp_path / "run"), uninterrupted[0])


def test_a_finished_run_is_evaluated_again_only_if_its_files_are_missing(tiny_config, uninterrupted, monkeypatch):
    state, workdir = uninterrupted
    before, results = history(workdir), (workdir / "results.json").read_text()
    (workdir / "predictions.npz").unlink()
    for evaluations in (1, 0):
        count = []
        monkeypatch.setattr(loop, "evaluate", lambda *a, count=count, **k: count.append(1) or evaluate(*a, **k))
        assert_equal(run(tiny_config, workdir), state)
        assert len(count) == evaluations
        assert history(workdir) == before
        assert (workdir / "results.json").read_text() == results
        assert (workdir / "predictions.npz").exists()


def test_a_step_copies_nothing_from_or_to_the_device(tiny_config, tmp_path, monkeypatch):
    """Every step but the first is under a transfer guard; a metric fetched in it is an error."""
    add = MetricAccumulator.add

    def fetch(accumulator, metrics):
        add(accumulator, metrics | {"loss": metrics["loss"] + np.float32(1)})

    monkeypatch.setattr(MetricAccumulator, "add", fetch)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        run(tiny_config, tmp_path)


def restore(experiment, parallel, workdir):
    checkpoints = Checkpoints(workdir / "checkpoints", 3)
    return parallel.replicate(checkpoints.restore(experiment.abstract_state(), pytest.fail))


def test_a_checkpoint_restores_on_another_number_of_devices(tiny_config, uninterrupted):
    state, workdir = uninterrupted
    for devices in (1, 2):
        parallel = DataParallel(devices=jax.devices()[:devices])
        experiment = Experiment(tiny_config, parallel)
        restored = restore(experiment, parallel, workdir)
        assert_equal(jax.device_get(restored), state)
        assert len(restored.params["stem"]["conv3x3"]["kernel"].sharding.device_set) == devices


def largest_file(checkpoint):
    return max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def cut(checkpoint):
    path = largest_file(checkpoint)
    path.write_bytes(path.read_bytes()[:100])


def flip_bytes(checkpoint):
    path = largest_file(checkpoint)
    data = bytearray(path.read_bytes())
    for i in range(200, len(data) - 200, 97):
        data[i] ^= 0xFF
    path.write_bytes(data)


def empty(checkpoint):
    for path in checkpoint.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def forget_facts(checkpoint):
    shutil.rmtree(checkpoint / "facts")


def change_a_digit_of_facts(checkpoint):
    file = checkpoint / "facts" / "metadata"
    text = file.read_text(encoding="utf-8")
    assert text.count('"loss": ') == 1
    file.write_text(text.replace('"loss": ', '"loss": 1'), encoding="utf-8")


@pytest.mark.parametrize("damage", [cut, flip_bytes, empty, forget_facts, change_a_digit_of_facts])
def test_a_damaged_latest_checkpoint_is_set_aside(damage, tiny_config, uninterrupted, capfd):
    state, workdir = uninterrupted
    checkpoints = workdir / "checkpoints"
    damage(checkpoints / "12")
    capfd.readouterr()
    assert_equal(run(tiny_config, workdir), state)
    messages = capfd.readouterr().err
    assert "Event loop is closed" not in messages  # of each array that Orbax did not come to
    assert "Traceback" not in messages
    assert "checkpoint 12 is damaged" in messages
    assert "set aside as 12.damaged" in messages
    assert "resuming after step 8 of 12" in messages
    assert {"12", "12.damaged"} <= {path.name for path in checkpoints.iterdir()}


def test_what_orbax_leaves_unfinished_is_finished_before_its_loop_is_closed():
    """As TensorStore, which reads on after an error, and prints a traceback where its loop is closed."""
    finished, usual = [], asyncio.new_event_loop

    async def fail():
        raise ZeroDivisionError

    async def read():
        await asyncio.sleep(0.01)
        finished.append(True)

    async def restore():
        await asyncio.gather(fail(), read())

    with checkpoints._patient_event_loops():
        event_loop = asyncio.new_event_loop()
    with pytest.raises(ZeroDivisionError):
        event_loop.run_until_complete(restore())
    event_loop.close()
    assert finished
    assert asyncio.new_event_loop is usual


def test_the_same_step_may_be_damaged_twice(tiny_config, uninterrupted):
    state, workdir = uninterrupted
    for _ in range(2):
        cut(workdir / "checkpoints" / "12")
        assert_equal(run(tiny_config, workdir), state)
    assert {"12.damaged", "12.damaged.1"} <= {path.name for path in (workdir / "checkpoints").iterdir()}


def test_nothing_is_renamed_if_no_checkpoint_can_be_read(tiny_config, uninterrupted):
    checkpoints = uninterrupted[1] / "checkpoints"
    for checkpoint in list(checkpoints.iterdir()):
        empty(checkpoint)
    with pytest.raises(UserError, match="none of the 4 checkpoints in .* can be read .*move them away"):
        run(tiny_config, uninterrupted[1])
    assert sorted(path.name for path in checkpoints.iterdir()) == ["12", "4", "6", "8"]


def test_a_loss_that_is_not_finite_stops_the_run(tiny_config, tmp_path):
    tiny_config.schedule.update(name="piecewise", rate=1e30, boundaries=("6 steps",), warmup="0 steps")
    with pytest.raises(UserError, match=r"is (nan|inf) at step \d+; no checkpoint from before it is lost"):
        run(tiny_config, tmp_path)
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [4, 6]
    experiment = Experiment(tiny_config, parallel := DataParallel())
    state = restore(experiment, parallel, tmp_path)
    assert int(state.step) == 6
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state)))


def test_the_best_checkpoint_is_kept(tiny_config, tmp_path):
    tiny_config.checkpoint.keep = 1
    tiny_config.eval.every = "2 steps"
    # From step 8 on the weights explode, until every image is taken for the same class.
    tiny_config.schedule.update(name="piecewise", rate=1e4, boundaries=("8 steps",), warmup="0 steps")
    run(tiny_config, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    best = results["best"]["step"]
    rows = [row for row in history(tmp_path) if row["split"] == "val"]
    assert results["best"]["top1"] == max(row["top1"] for row in rows) > results["last"]["top1"]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {str(best), "12"}


def test_another_experiment_is_refused(tiny_config, uninterrupted):
    workdir = uninterrupted[1]
    tiny_config.model.norm = "none"
    tiny_config.train.label_smoothing = 0.1
    tiny_config.log.every = "1 step"  # free to change
    with pytest.raises(UserError) as error:
        run(tiny_config, workdir)
    assert str(error.value).splitlines() == [
        f"{workdir} holds another experiment; choose another workdir, or the same config. It differs in:",
        "  config.model.norm: 'batch' -> 'none'",
        "  config.train.label_smoothing: 0.0 -> 0.1",
    ]


def test_a_workdir_that_cannot_be_written(tiny_config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/run cannot be written: Not a directory"):
        run(tiny_config, tmp_path / "file" / "run")


def test_damaged_lines_of_the_metrics_are_left_out(tiny_config, uninterrupted):
    state, workdir = uninterrupted
    before = history(workdir)
    with open(workdir / "metrics.jsonl", "ab") as file:
        file.write(
            b'garbage\n{"a": 1}\n[2]\n\xff\n{"step": "1", "split": "train"}\n{"step": 1, "split": 2}\n{"step": 1'
        )
    damaged = (workdir / "metrics.jsonl").read_bytes()
    assert_equal(run(tiny_config, workdir), state)
    assert history(workdir) == before
    assert (workdir / "metrics.jsonl.damaged").read_bytes() == damaged


def without_second_line(text):
    return "".join(text.splitlines(keepends=True)[:1] + text.splitlines(keepends=True)[2:])


def with_another_digit(text):
    return text.replace('"step": 2,', '"step": 3,')


@pytest.mark.parametrize("change", [without_second_line, with_another_digit, lambda text: ""])
def test_lost_or_changed_lines_of_the_metrics_are_reported(change, tiny_config, uninterrupted, capfd):
    state, workdir = uninterrupted
    file = workdir / "metrics.jsonl"
    changed = change(file.read_text(encoding="utf-8"))
    assert changed != file.read_text(encoding="utf-8")
    file.write_text(changed, encoding="utf-8")
    assert_equal(run(tiny_config, workdir), state)
    assert "metrics.jsonl has lost lines, or they are changed, since step 12" in capfd.readouterr().err
    assert file.read_text(encoding="utf-8") == changed
    run(tiny_config, workdir)  # nothing is new, so it is said again


@pytest.mark.parametrize("name", ["results.json", "predictions.npz"])
def test_a_changed_result_is_written_again(name, tiny_config, uninterrupted):
    _, workdir = uninterrupted
    before = (workdir / "results.json").read_bytes()
    content = bytearray((workdir / name).read_bytes())
    place = content.index(b'"loss": ') + 10 if name == "results.json" else len(content) // 2
    content[place] ^= 1
    (workdir / name).write_bytes(content)
    run(tiny_config, workdir)
    assert (workdir / "results.json").read_bytes() == before
    with np.load(workdir / "predictions.npz") as predictions:
        assert {name: predictions[name] for name in predictions.files}["step"] == 12


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.json", "results.json"])
def test_a_directory_in_the_place_of_a_file_is_named(name, tiny_config, tmp_path):
    (tmp_path / name).mkdir()
    tiny_config.train.steps = 3
    with pytest.raises(UserError, match=f"{name} (cannot be read: Is a directory; move it away|cannot be written)"):
        run(tiny_config, tmp_path)


def test_a_file_that_may_not_be_read_is_named(tiny_config, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    for method in ("read_bytes", "exists"):  # of root nothing is kept
        monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(UserError, match="config.json cannot be read: Permission denied; move it away"):
        Workdir(tmp_path, tiny_config).close()


def test_a_workdir_without_a_checkpoint_takes_another_config(tiny_config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"config": {"seed": 7}, "commands": []}))
    Workdir(tmp_path, tiny_config).close()
    assert json.loads((tmp_path / "config.json").read_text())["config"]["seed"] == tiny_config.seed


@pytest.mark.parametrize("content", ['"text"', "", "[1]"])
def test_a_damaged_config_is_named(content, tiny_config, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="config.json is damaged; move it away"):
        run(tiny_config, tmp_path)


@pytest.mark.parametrize("content", ["[]", '{"metrics": {"a": 1}, "checksum": 5}', '{"metrics": 5}'])
def test_damaged_facts_are_a_damaged_checkpoint(content, tiny_config, uninterrupted):
    state, workdir = uninterrupted
    (workdir / "checkpoints" / "12" / "facts" / "metadata").write_text(content)
    assert_equal(run(tiny_config, workdir), state)
    assert (workdir / "checkpoints" / "12.damaged").is_dir()


def test_damaged_images_are_reported(tiny_config, image_folder, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(image_folder, root)
    for i in range(60):  # so that one is less than 1 %
        Image.new("RGB", (20, 20), "red").save(root / "train" / "red" / f"more{i}.png")
    (root / "train" / "blue" / "3.png").write_bytes(b"torn")
    tiny_config.data.dir = str(root)
    tiny_config.train.update(steps=0, epochs=2.0)
    run(tiny_config, tmp_path / "run")
    assert "skipped damaged train/blue/3.png: " in capsys.readouterr().err


def test_many_damaged_images_stop_the_run_and_keep_what_is_trained(tiny_config, image_folder, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(image_folder, root)
    tiny_config.data.dir = str(root)
    state_at_7 = tmp_path / "run"
    (root / "train" / "blue" / "3.png").write_bytes(b"torn")  # 1 of 48
    with pytest.raises(UserError, match=r"1 of 48 images could not be decoded.*\n  train/blue/3.png: "):
        run(tiny_config, state_at_7)
    saved = [int(path.name) for path in (state_at_7 / "checkpoints").iterdir()]
    shutil.copy(image_folder / "train" / "blue" / "3.png", root / "train" / "blue" / "3.png")
    state = run(tiny_config, state_at_7)
    assert len(saved) <= 1
    assert_equal(state, run(tiny_config, tmp_path / "never damaged"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.train.update(batch_size=6),
            "batch_size=6 does not divide over 4 devices; .* that does is 8",
        ),
        (
            lambda c: c.train.update(microbatch=3),
            "batch_size=8 .* in parts of config.train.microbatch=3; .* is 12",
        ),
        (lambda c: c.data.update(mixup=0.2, cutmix=1.0) or c.train.update(microbatch=1), "must take an even number"),
        (lambda c: c.data.update(mixup=0.2) or c.train.update(loss="map"), "loss='map' has no mixed labels"),
        (lambda c: c.optimizer.update(freeze=("steam",)), "config.optimizer.freeze: 'steam' matches no parameter"),
        (lambda c: c.data.update(cache="device", processes=2), "config.data.processes=2: each process would keep all"),
        (lambda c: c.data.update(crop="scale", scale=(10, 20)), "must not be less than the image size"),
        (lambda c: c.eval.update(batch_norm_check=8, batch_size=64), "needs a batch of 64 images, and there are 48"),
        (lambda c: c.data.update(resize=15), "data.resize=15 is less than config.data.image_size=16"),
        (lambda c: c.update(seed=-1), "config.seed=-1 must be at least 0"),
        (lambda c: c.optimizer.update(freeze=(".",)), "nothing would be trained: config.optimizer.freeze, or a factor"),
        (
            lambda c: c.optimizer.update(freeze=("kernel",), lr_multipliers=(("conv.*bias", 0.0), (".", 0.0))),
            "nothing would be trained: .* holds every parameter; leave some out",
        ),
        (lambda c: c.optimizer.update(weight_decay_on=("kernle",)), "weight_decay_on: 'kernle' matches no parameter"),
        (lambda c: c.train.update(epochs=2.0), "here steps=12 and epochs=2; set the others to 0"),
        (lambda c: setattr(c.train, "aux_weights", {"aux9": 0.3}), "has aux9; the network's auxiliary heads are aux1"),
        (lambda c: setattr(c, "parallel", "jit"), "config.parallel='jit' is not one of shard_map, pmap"),
        (lambda c: c.model.update(name="tinny"), "there is no network 'tinny'; did you mean tiny"),
        (lambda c: c.data.update(image_size=3, resize=3), "3x3 are too small for this network: 4 at least"),
    ],
)
def test_contradictions_are_named(change, message, tiny_config, tmp_path):
    change(tiny_config)
    with pytest.raises(UserError, match=message):
        run(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_profile_is_written(tiny_config, tmp_path):
    tiny_config.log.update(profile_at=2, profile_steps=20)  # to the end of training
    tiny_config.train.steps = 6
    run(tiny_config, tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))

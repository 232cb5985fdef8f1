"""What a run records of its evaluations, and shows while it goes on."""

import shutil
import signal
import threading

import jax
import numpy as np
import pytest

from configs.common import validate
from inception_jax.data import loader
from inception_jax.errors import UserError
from inception_jax.report.training import Report
from inception_jax.runs import snapshots
from inception_jax.runs.classifier import load
from inception_jax.training import loop, recorder
from inception_jax.training.preemption import Interrupted, Preemption
from inception_jax.training.recorder import Recorder


def run(config, workdir, on_evaluation):
    validate(config)
    return jax.device_get(loop.train_and_evaluate(config, str(workdir), on_evaluation=on_evaluation))


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.fixture
def patient(monkeypatch):
    """Each evaluation waits until it is recorded and shown."""
    record = Recorder.record

    def record_and_wait(self, *arguments):
        record(self, *arguments)
        self.wait()

    monkeypatch.setattr(Recorder, "record", record_and_wait)


class StopAtSeven(Preemption):
    def received(self):
        self._calls += 1
        return signal.SIGTERM if self._calls == 7 else 0


def test_a_snapshot_is_what_the_evaluated_network_computes(tiny_config, tmp_path, uninterrupted):
    """Beside the training, whose weights stay bitwise the same."""
    assert_equal(run(tiny_config, tmp_path, lambda: None), uninterrupted[0])
    assert snapshots.steps_in(tmp_path) == [6, 12]
    recorded, classifier = snapshots.read(tmp_path, 12), load(tmp_path, "last")
    with np.load(tmp_path / "predictions.npz") as predictions:
        np.testing.assert_array_equal(recorded.places, range(21))
        np.testing.assert_array_equal(recorded.labels, predictions["labels"])
        np.testing.assert_array_equal(recorded.classes, predictions["classes"][:, 0])
        np.testing.assert_array_equal(recorded.probabilities, predictions["probabilities"][:, 0])
    kernel = classifier.variables["params"]["stem"]["conv3x3"]["kernel"]
    np.testing.assert_array_equal(recorded.filters, snapshots.as_bytes(kernel, (0, 1, 2)))
    source = loop.Experiment(tiny_config, loop.DataParallel()).eval_source
    crop = classifier.crop(loader.whole_image(source, 0, 10**6))
    np.testing.assert_array_equal(recorded.image, crop)
    assert list(recorded.activations) == ["stem", "body", "pool", "top"]
    for name, values in recorded.activations.items():
        [output] = classifier.run(crop[None], name)
        expected = output[0] if output.ndim == 4 else output[None]
        np.testing.assert_allclose(values, snapshots.as_bytes(expected, (0, 1, 2)), atol=1)
    assert recorded.activations["body"].shape == (8, 8, 8)
    assert recorded.activations["pool"].shape == (1, 1, 8)


def test_a_resumed_run_overwrites_what_an_earlier_start_recorded(
    tiny_config, tmp_path, uninterrupted, patient, monkeypatch
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(tiny_config, whole, lambda: None)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "Preemption", StopAtSeven)
        run(tiny_config, parts, lambda: None)
    assert snapshots.steps_in(parts) == [6]
    for step in (12, 18):
        shutil.copy(parts / "snapshots" / "6.npz", parts / "snapshots" / f"{step}.npz")
    page = Report(parts).write().read_text(encoding="utf-8")
    assert ">6</th></tr></thead>" in page  # only what the run has reached
    assert_equal(run(tiny_config, parts, lambda: None), uninterrupted[0])
    assert snapshots.steps_in(parts) == [6, 12]
    for step in (6, 12):
        ours, theirs = (snapshots.read(workdir, step) for workdir in (parts, whole))
        assert_equal(vars(ours), vars(theirs))


def test_a_failure_is_one_warning(tiny_config, tmp_path, uninterrupted, patient, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no\npicture")

    def refuse(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr(recorder.snapshots, "write", refuse)
    tiny_config.eval.every = "3 steps"
    assert_equal(run(tiny_config, tmp_path, fail), uninterrupted[0])
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: a snapshot is not recorded: the disk is full",
        "warning: what follows an evaluation failed: RuntimeError: no picture",
    ]


def test_a_signal_waits_for_nothing_that_is_shown(tiny_config, tmp_path, monkeypatch):
    begun, released, calls = threading.Event(), threading.Event(), []

    def hang():
        calls.append(1)
        begun.set()
        released.wait(60)

    record = Recorder.record

    def record_until_it_hangs(self, *arguments):
        record(self, *arguments)
        assert begun.wait(60)

    monkeypatch.setattr(Recorder, "record", record_until_it_hangs)
    monkeypatch.setattr(loop, "Preemption", StopAtSeven)
    with pytest.raises(Interrupted, match="after step 7, which is saved"):
        run(tiny_config, tmp_path, hang)
    assert not released.is_set()
    released.set()
    assert calls == [1]


def test_the_latest_of_those_that_wait_is_recorded(tiny_config, tmp_path, monkeypatch):
    """As where evaluations come faster than pages are written; the last one is always recorded."""
    begun, released, record, calls = threading.Event(), threading.Event(), Recorder.record, []

    def hang():
        calls.append(1)
        begun.set()
        assert released.wait(60)

    def record_until_it_hangs(self, step, *arguments):
        record(self, step, *arguments)
        assert begun.wait(60)
        if step == 12:
            released.set()

    monkeypatch.setattr(Recorder, "record", record_until_it_hangs)
    tiny_config.eval.every = "3 steps"
    run(tiny_config, tmp_path, hang)
    assert snapshots.steps_in(tmp_path) == [3, 12]
    assert calls == [1]


def test_only_what_is_asked_for_is_recorded(tiny_config, tmp_path):
    run(tiny_config, tmp_path, None)
    assert not (tmp_path / "snapshots").exists()


@pytest.mark.parametrize(("count", "most", "expected"), [(3, 8, [0, 1, 2]), (10, 4, [0, 3, 6, 9]), (1, 1, [0])])
def test_what_is_kept_is_spread(count, most, expected):
    assert recorder._spread(count, most).tolist() == expected


def test_a_small_picture_is_a_mean_over_areas():
    image = np.arange(32, dtype=np.float32).reshape(4, 8, 1) + 100 * np.arange(6, dtype=np.float32)
    expected = np.array([[4.5, 6.5, 8.5, 10.5], [20.5, 22.5, 24.5, 26.5]])
    np.testing.assert_allclose(recorder._small(image, 4), expected[..., None] + 100 * np.arange(6))
    assert recorder._small(image, 8) is image

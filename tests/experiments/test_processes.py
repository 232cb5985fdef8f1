"""Real processes on this machine, started as users start them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest
from jax.errors import JaxRuntimeError

from experiments.supervisor import OTHERS_ENDED, is_about_others
from inception_jax.errors import UserError
from inception_jax.runs.checkpoints import read_weights
from inception_jax.runs.snapshots import read, steps_in

ROOT = Path(__file__).parents[2]
STEPS = 120


@pytest.fixture(scope="module")
def config(image_folder, tmp_path_factory):
    """A config file of the tiny network; its images are few, and its steps take milliseconds."""
    file = tmp_path_factory.mktemp("config") / "tiny.py"
    file.write_text(
        f"""import pathlib
from inception_jax import models
from tests.conftest import make_tiny_config, tiny

def get_config():
    models._MODELS["tiny"] = tiny
    config = make_tiny_config(pathlib.Path({str(image_folder)!r}))
    config.train.steps = {STEPS}
    config.eval.every = "60 steps"
    config.checkpoint.every = "30 steps"
    config.log.every = "7 steps"
    return config
""",
        encoding="utf-8",
    )
    return file


class Launched:
    """A command as several processes, with what it writes on standard error."""

    running: ClassVar = []

    def __init__(self, processes, *command, devices=None):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
        launch = [
            "-m",
            "experiments.launch",
            f"--processes={processes}",
            f"--devices={devices or 4 // processes}",
            "--",
        ]
        self.process = subprocess.Popen(
            [sys.executable, *launch, *map(str, command)],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.running.append(self)
        self.lines = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def wait_for(self, pattern):
        with self._changed:
            assert self._changed.wait_for(lambda: any(re.search(pattern, line) for line in self.lines), 60), self.lines

    def worker(self, index):
        """The number of a worker: the launcher's children are supervisors, and theirs the workers."""
        return children(children(self.process.pid)[index])[0]

    def wait(self):
        status = self.process.wait(90)
        self._reader.join(10)
        self.process.stderr.close()
        return status


@pytest.fixture(autouse=True)
def _none_is_left():
    yield
    for run in Launched.running:
        if run.process.poll() is None:
            run.process.kill()  # its workers do not outlive their supervisors
            run.wait()
    Launched.running.clear()


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


def train(config, workdir, processes, *more, **options):
    return Launched(processes, "main.py", f"--config={config}", f"--workdir={workdir}", *more, **options)


def metrics(workdir):
    timing = ("images_per_second", "data_wait", "peak_memory")
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in timing} for row in rows]


def assert_close(ours, theirs):
    """Equal up to what rounding has grown to: the devices' sums are added in another order."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.pop("split") == other.pop("split")
        assert one == pytest.approx(other, rel=1e-2, abs=1e-3)


def arrays(workdir, step=STEPS):
    variables, _ = read_weights(workdir / "checkpoints" / str(step), "raw")
    return variables


@pytest.fixture(scope="module")
def two(config, tmp_path_factory):
    """A run of two processes with two devices each, which writes its report; others do without."""
    workdir = tmp_path_factory.mktemp("two") / "run"
    run = train(config, workdir, 2, "--config.log.report=True")
    assert run.wait() == 0, run.lines
    assert "[0] 2 processes x 2 cpu devices" in run.lines
    return workdir


def test_two_processes_compute_what_one_does(config, two, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "main.py", f"--config={config}", f"--workdir={tmp_path / 'one'}"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert_close(metrics(two), metrics(tmp_path / "one"))
    first = metrics(two)[0]["loss"], metrics(tmp_path / "one")[0]["loss"]
    assert first[0] == pytest.approx(first[1], rel=1e-6)  # later steps differ by what rounding has grown to
    results = json.loads((two / "results.json").read_text())["last"]
    assert (results["count"], results["step"]) == (21, STEPS)  # every image once
    with np.load(two / "predictions.npz") as predictions:
        assert np.trace(predictions["confusion"]) / 21 == results["top1"]
    assert steps_in(two) == [60, STEPS]
    assert 0 < len(read(two, STEPS).places) < 21  # those that the first process evaluated
    page = (two / "report.html").read_text(encoding="utf-8")
    assert "Activations over time" in page
    assert "Left out" not in page


def test_a_signal_to_one_process_stops_all_after_the_same_step(config, two, tmp_path):
    run = train(config, tmp_path, 2)
    run.wait_for(r"step 7/")
    os.kill(run.worker(1), signal.SIGINT)  # Ctrl-C; SIGTERM takes the same way
    assert run.wait() == 143
    stopped = [
        re.fullmatch(r"\[\d\] stopped by SIGTERM after step (\d+), which is saved.*", line) for line in run.lines
    ]
    steps = {match[1] for match in filter(None, stopped)}
    assert len(steps) == 1
    assert sum(match is not None for match in stopped) == 2
    assert (tmp_path / "checkpoints" / steps.pop()).is_dir()
    assert train(config, tmp_path, 2).wait() == 0
    assert metrics(tmp_path) == metrics(two)
    jax.tree.map(np.testing.assert_array_equal, arrays(tmp_path), arrays(two))


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_in_one_line(killed, config, two, tmp_path):
    run = train(config, tmp_path, 2)
    run.wait_for(f"step {63 if killed else 35}/")
    os.kill(run.worker(killed), signal.SIGKILL)
    assert run.wait() != 0
    ended = [line for line in run.lines if "error:" in line]
    assert sorted(ended, key=lambda line: line.startswith(f"[{killed}]")) == [
        f"[{1 - killed}] error: {OTHERS_ENDED}",
        f"[{killed}] error: the process was killed by signal 9 (Killed)",
    ]
    assert not [line for line in run.lines if "Traceback" in line or "Fatal" in line or "stack trace" in line]
    if killed == 1:  # a checkpoint of two processes, resumed by four
        assert train(config, tmp_path, 4).wait() == 0
        assert_close(metrics(tmp_path), metrics(two))


@pytest.mark.parametrize("kind", [ValueError, JaxRuntimeError])
def test_the_end_of_another_process_is_told_from_other_errors(kind):
    assert is_about_others(kind("UNKNOWN: Gloo all-reduce failed: [pair.cc:538] Connection reset by peer"))
    assert not is_about_others(kind("UNKNOWN: out of memory"))
    assert not is_about_others(UserError("heartbeat=0 must be 1 or more"))


# The other process notices in one of many evaluations, or not before the run is finished.
@pytest.mark.parametrize("length", [("--config.eval.every=1 step",), ("--config.train.steps=6",)])
def test_an_error_in_one_process_is_that_of_all(config, image_folder, tmp_path, length):
    folder = shutil.copytree(image_folder, tmp_path / "images")
    damaged = sorted((folder / "train" / "red").iterdir())[0]
    damaged.write_bytes(b"no image")
    run = train(config, tmp_path / "run", 2, f"--config.data.dir={folder}", *length)
    assert run.wait() == 2, run.lines
    said = [line for line in run.lines if "images could not be decoded" in line]
    assert len(said) == 2
    assert all(re.match(r"\[\d\] error: (process \d: )?1 of 48 images", line) for line in said)
    assert list((tmp_path / "run" / "checkpoints").iterdir())  # nothing is lost


def test_evaluation_and_predictions_of_two_processes(trained, image_folder, tmp_path, config):
    workdir = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(workdir / "evaluation", ignore_errors=True)
    script = tmp_path / "with_tiny.py"  # the network of the tests, in a command
    script.write_text(
        "import runpy, sys\nfrom inception_jax import models\nfrom tests.conftest import tiny\n"
        "models._MODELS['tiny'] = tiny\nname = sys.argv.pop(1)\n"
        "runpy.run_module(f'experiments.{name}', run_name='__main__', alter_sys=True)\n",
        encoding="utf-8",
    )
    run = Launched(2, script, "evaluate", f"--workdir={workdir}", "--protocol=single,10crop", f"--out={tmp_path}")
    assert run.wait() == 0, run.lines
    rows = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert [row["count"] for row in rows] == [21, 21]
    run = Launched(2, script, "predict", f"--workdir={workdir}", f"--out={tmp_path / 'predictions'}",
        "--shard-size=5", image_folder / "val")  # fmt: skip
    assert run.wait() == 0, run.lines
    found = [
        json.loads(line)["path"]
        for shard in sorted((tmp_path / "predictions").glob("*.jsonl"))
        for line in shard.read_text().splitlines()
    ]
    assert sorted(found) == sorted(str(path) for path in (image_folder / "val").rglob("*.png"))

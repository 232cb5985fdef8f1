"""Sweeps in a bucket, on a server of S3's protocol on this machine."""

import json
import os
import signal
import threading
import time

import pytest

from experiments import report
from experiments.sweep import job, launcher
from experiments.sweep.__main__ import main as sweep
from experiments.sweep.board import Board
from experiments.sweep.launcher import Launcher
from inception_jax import paths
from inception_jax.runs import lock
from inception_jax.runs.run import Run, bookkeeping, is_locked, read_launch
from tests import buckets
from tests.experiments import test_sweep_launcher as local

servers, cluster, _restored = buckets.servers, local.cluster, local._restored  # fixtures

FILE = """
from experiments.sweeps import Base, Sweep

def get_sweep(data):
    base = {"checkpoint.every": "4 steps", "eval.every": "90 steps", "log.report": False}
    return Sweep(
        title="Title",
        text="Text",
        base=Base("configs/digits.py:lenet5_modern,smoke", base),
        variants={"short": {"train.steps": 2}, "long": {"train.steps": 16}},
        seeds=1,
    )
"""


@pytest.fixture
def bucket(servers, tmp_path, monkeypatch):
    """A directory of the bucket. What a sweep keeps on this machine is below tmp_path/cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(launcher, "_BUCKET_POLL_SECONDS", 0.5)
    return paths.to_path(f"s3://bucket/{tmp_path.name}")


def launch(runs, directory, **options):
    Launcher(runs, directory, jobs=1).launch(board=Board(runs, directory, 1), **{"retry": False} | options)
    return [Launcher(runs, directory).state(run) for run in runs]


def test_a_sweep_is_killed_resumed_listed_and_reported(bucket, tmp_path, capfd):
    (tmp_path / "mine.py").write_text(FILE)
    command, run = [str(tmp_path / "mine.py"), f"--workdir={bucket}"], bucket / "long" / "0"
    seen = {}

    def kill():
        local.until(lambda: (run / "checkpoints" / "4" / paths.COMMITTED).exists())
        seen.update(state=Run.read(run).state, held=lock.is_held(run))
        os.kill(json.loads((run / lock.FILE).read_text())["pid"], signal.SIGKILL)

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    assert sweep(command) == 1
    killing.join()
    assert seen == {"state": "running", "held": True}
    said = capfd.readouterr().err
    assert "long/0 failed: the process was killed by signal 9 (Killed); its last line: step" in said
    assert f"see {run}/log.txt" in said
    before = (run / job.LOG).read_text()
    assert "16 steps of 16" in before

    assert sweep([*command, "--retry"]) == 0
    assert (run / job.LOG).read_text().startswith(before)
    assert "resuming after step" in (run / job.LOG).read_text()[len(before) :]
    assert sweep([f"--workdir={bucket}", "--list", f"--csv={bucket}/list.csv", "--where=train.steps=16"]) == 0
    assert (bucket / "list.csv").read_text().splitlines()[1].startswith("long/0,finished,16,")
    assert report.main([str(bucket), f"--json={bucket}/all.json", f"--document={bucket}/all.md"]) == 0
    data = json.loads((bucket / "all.json").read_text())["mine"]
    assert [(run["variant"], run["state"], run["step"]) for run in data["runs"]] == [
        ("short", "finished", 2),
        ("long", "finished", 16),
    ]
    assert "Title" in (bucket / "all.md").read_text()
    assert "<h2>Runs" in (bucket / "report.html").read_text()
    names = paths.files_below(bucket)
    assert {name for name in names if name.count("/") < 1} == {
        *("sweep.json", "report.html", "report.md", "list.csv", "all.json", "all.md")
    }
    assert not [name for name in names if "lock" in name or ".jobs" in name]
    assert {path.name for path in bookkeeping(bucket).iterdir()} == {".jobs", "short", "long"}


def test_a_log_that_two_machines_write(bucket, tmp_path, monkeypatch):
    """On one everything of a run is killed, so that its launcher keeps what it had written."""
    here, moved = tmp_path / "here", tmp_path / "here/a/0/moved"
    code = f"if os.path.exists({str(moved)!r}): print('again'), sys.exit(0)\n"
    run = local.python(here, "a/0", f"{code}print('step 3', flush=True)\nnote('ready')\ntime.sleep(60)")

    def kill():
        assert is_locked(bucket / "a/0")
        for what in (signal.SIGSTOP, signal.SIGKILL):
            for number in local.family(here) + local.family(bookkeeping(bucket)):
                os.kill(number, what)

    killing = local.later((here / "a/0/ready").exists, kill)
    assert launch([run], bucket) == ["failed"]
    killing.join()
    assert read_launch(bucket / "a/0")["error"].endswith("its last line: step 3")
    moved.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert launch([run], bucket) == ["failed"]
    assert launch([run], bucket, retry=True) == ["finished"]
    assert (bucket / "a/0" / job.LOG).read_text() == "step 3\nagain\n"


def test_a_run_that_another_machine_has_in_work(bucket):
    """It is known by its lease."""
    run = bucket / "a/0"
    paths.write_whole(run / "config.json", b'{"config": {"train": {"steps": 9}}}')
    owner = {"host": "other", "pid": os.getpid(), "token": "t"}
    states = {}
    for launched in (None, "running", "failed"):
        if launched:
            job.write(run, {"state": launched, "error": "no room"})
        for age in (1, 60):
            paths.write_whole(run / lock.FILE, json.dumps(owner | {"beat": time.time() - age}).encode())
            states[launched, age] = Run.read(run).state
    assert states == {
        (None, 1): "running",
        (None, 60): "unfinished",
        ("running", 1): "running",
        ("running", 60): "interrupted",
        ("failed", 1): "running",
        ("failed", 60): "failed",
    }


def test_a_sweep_of_a_bucket_on_a_cluster(bucket, cluster, tmp_path):
    (cluster / "starts").touch()
    runs = [local.python(tmp_path / "here", f"{name}/0", f"print({name!r})") for name in "ab"]
    one = local.slurm(runs, bucket)
    one.launch(False, Board(runs, bucket, one.parallel))
    assert [one.state(run) for run in runs] == ["finished", "finished"]
    assert [read_launch(bucket / run.name)["job"] for run in runs] == ["100_0", "100_1"]
    assert (bucket / "a/0/log.txt").read_text() == "a\n"
    job.write(bucket / "a/0", read_launch(bucket / "a/0") | {"state": "queued"})
    local.forget()
    (cluster / "states").write_text("100_0|PENDING|\n")
    assert [one.state(run) for run in runs] == ["queued", "finished"]


def test_what_is_kept_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert bookkeeping(tmp_path / "a") == tmp_path / "a"
    below = tmp_path / "inception_jax/sweeps"
    assert bookkeeping(paths.epath.Path("gs://b/sweep/a/0")) == below / "gs/b/sweep/a/0"
    assert bookkeeping(paths.epath.Path("s3://b/../../x")).resolve().is_relative_to(below)


def test_what_is_written_while_it_is_read_is_whole(bucket):
    """A reader that asks for an object twice would fail, because the second answer is of another object."""
    run, stop = bucket / "a/0", threading.Event()
    job.write(run, {"state": "failed", "error": "no room"})

    def rewrite():
        while not stop.is_set():
            for seconds in (1.0, 2.0):
                job.write(run, {"state": "failed", "error": "no room", "seconds": seconds})
                paths.write_whole(run / "metrics.jsonl", b'{"step": 1, "split": "train"}\n')

    writing = threading.Thread(target=rewrite)
    writing.start()
    try:
        runs = [Run.read(run, metrics_bytes) for metrics_bytes in (None, 20_000, 0) * 8]
    finally:
        stop.set()
        writing.join()
    assert {run.error for run in runs} == {"no room"}
    assert {len(run.metrics) for run in runs[-3:]} == {0, 1}

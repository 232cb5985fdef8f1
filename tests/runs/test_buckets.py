"""Workdirs in buckets, on servers of S3's and of Cloud Storage's protocol on this machine."""

import json
import signal
import time

import fsspec
import jax
import numpy as np
import pytest

import inception_jax
from configs.common import validate
from experiments import evaluate, export_weights, predict
from inception_jax import paths
from inception_jax.errors import MissingExtraError, UserError
from inception_jax.report import watch
from inception_jax.report.training import Report
from inception_jax.runs import lock, snapshots
from inception_jax.runs.checkpoints import Checkpoints, steps_in
from inception_jax.runs.listing import find
from inception_jax.runs.lock import Lock
from inception_jax.runs.run import Run
from inception_jax.training import loop
from inception_jax.training.preemption import Interrupted, Preemption
from tests import buckets
from tests.buckets import forget, free_port
from tests.values import snapshot

bucket, servers = buckets.bucket, buckets.servers  # fixtures


def run(config, workdir):
    validate(config)
    return jax.device_get(loop.train_and_evaluate(config, workdir, on_evaluation=Report(workdir).write))


def rows(run):
    timing = ("images_per_second", "data_wait", "peak_memory")
    return [{key: value for key, value in row.items() if key not in timing} for row in run.metrics]


def test_a_run_in_a_bucket_is_that_on_a_disk(bucket, tiny_config, uninterrupted, monkeypatch):
    """Stopped, resumed, reported, listed, evaluated, exported: all from the bucket."""
    workdir = f"{bucket}/sweep/run"

    class StopAtSeven(Preemption):
        def received(self):
            self._calls += 1
            return signal.SIGTERM if self._calls == 7 else 0

    tiny_config.log.tensorboard = True
    tiny_config.log.update(profile_at=2, profile_steps=1)
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="after step 7, which is saved"):
        patch.setattr(loop, "Preemption", StopAtSeven)
        run(tiny_config, workdir)
    half = paths.to_path(workdir) / "checkpoints" / "9"  # a checkpoint whose upload was cut off
    (half / "state" / "part").write_bytes(b"half")
    jax.tree.map(np.testing.assert_array_equal, run(tiny_config, workdir), uninterrupted[0])
    on_disk, in_bucket = Run.read(uninterrupted[1]), Run.read(workdir)
    assert rows(in_bucket) == rows(on_disk)
    assert in_bucket.results == on_disk.results
    assert steps_in(paths.to_path(workdir)) == [7, 8, 12]  # the best is among the last three
    names = paths.files_below(paths.to_path(workdir))
    assert not [name for name in names if name.startswith("checkpoints/9/") or "tmp" in name or "lock" in name]
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert any(name.startswith("profile/") for name in names)
    assert {path: run.state for path, run in find(f"{bucket}/sweep").items()} == {"run": "finished"}
    assert snapshots.steps_in(paths.to_path(workdir))[-1] == 12
    page = paths.to_path(workdir) / "report.html"
    page.write_text("early")  # the run itself writes one only if there is time until its end
    watched = watch._Report(paths.to_path(workdir), every=0)
    before = watched.state()
    assert watched.state() is before  # not even read
    assert Report(workdir).write() == page
    assert watched.state().version != before.version
    assert b"Activations over time" in watched.state().page
    page.write_text("another")
    assert watched.state().page.startswith(b"another")
    Report(workdir).write()
    snapshots.write(paths.to_path(workdir), snapshot(6))  # as after a resume from before step 12
    assert snapshots.steps_in(paths.to_path(workdir)) == [6]
    assert evaluate.main([f"--workdir={workdir}", "--protocol=single,10crop"]) == 0
    assert evaluate.main([f"--workdir={workdir}", "--protocol=single"]) == 0  # from the scores in the bucket
    assert "<h2>Evaluation" in (paths.to_path(workdir) / "report.html").read_text()
    assert json.loads((paths.to_path(workdir) / "evaluation.json").read_text())["count"] == 21
    weights = f"{bucket}/weights/tiny.safetensors"
    assert export_weights.main([f"--workdir={workdir}", f"--out={weights}"]) == 0
    image = f"{tiny_config.data.dir}/val/red/0.png"
    assert predict.main([f"--workdir={weights}", f"--out={bucket}/predictions.csv", image]) == 0
    assert len(paths.to_path(f"{bucket}/predictions.csv").read_text().splitlines()) == 2
    jax.tree.map(
        np.testing.assert_array_equal, inception_jax.load(weights).variables, inception_jax.load(workdir).variables
    )


def test_an_upload_that_is_cut_off_does_not_count(bucket, uninterrupted, monkeypatch):
    """Orbax writes a marker of that name itself, which must not come before the arrays."""
    checkpoint = uninterrupted[1] / "checkpoints" / "12"
    assert (checkpoint / paths.COMMITTED).exists()
    workdir = paths.to_path(f"{bucket}/cut")
    with monkeypatch.context() as patch:
        put = paths._put

        def cut_off(address, content):
            put(address, content)
            if address.endswith("manifest.ocdbt"):
                raise OSError(5, "the connection is gone")

        patch.setattr(paths, "_put", cut_off)
        with pytest.raises(UserError, match="the connection is gone"):
            paths.upload(checkpoint, workdir / "checkpoints" / "12", commit=True)
    assert "state" in paths.names_in(workdir / "checkpoints" / "12")
    assert steps_in(workdir) == []
    paths.upload(checkpoint, workdir / "checkpoints" / "12", commit=True)
    assert steps_in(workdir) == [12]


def test_every_byte_arrives(bucket, tmp_path):
    """Also a last '\\r', and the boundary that gcsfs puts around what it sends."""
    contents = [b"\r", b"a\r", b"a\r\n", b"\r\n\r", b"a\n--==0==--\nb", b"", b"\r" * paths._LARGE]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
        paths.write_whole(paths.to_path(f"{bucket}/whole/{number}"), content)
    paths.upload(tmp_path, paths.to_path(f"{bucket}/uploaded"))
    for number, content in enumerate(contents):
        assert paths.read_whole(paths.to_path(f"{bucket}/uploaded/{number}")) == content
        assert paths.read_whole(paths.to_path(f"{bucket}/whole/{number}")) == content


@pytest.mark.parametrize("size", [6, paths._LARGE])
def test_an_upload_that_arrives_damaged_does_not_count(servers, tmp_path, monkeypatch, size):
    """S3 itself compares what arrives with the checksum that botocore sends."""
    workdir = paths.to_path("gs://bucket/spoilt")
    (tmp_path / "arrays").write_bytes(b"a" * size)
    system, post = paths._of(workdir), paths._of(workdir)._request

    async def spoil(*arguments, data=None, **options):
        return await post(*arguments, data=data.replace(b"aa", b"ab") if data else data, **options)

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"checkpoints/12 cannot be written"):
        patch.setattr(system, "_request", spoil)
        paths.upload(tmp_path, workdir / "checkpoints" / "12", commit=True)
    assert paths.names_in(workdir / "checkpoints" / "12") == ["arrays"]
    assert steps_in(workdir) == []


def test_a_damaged_checkpoint_of_a_bucket_is_set_aside(bucket, tiny_config, uninterrupted):
    workdir = paths.to_path(f"{bucket}/damaged/run")
    paths.upload(uninterrupted[1], workdir)
    for step in (4, 6, 8, 12):
        (workdir / "checkpoints" / str(step) / paths.COMMITTED).write_bytes(b"")
    (workdir / "checkpoints" / "12" / "facts" / "metadata").write_text("{")
    checkpoints = Checkpoints(workdir / "checkpoints", 3)
    said = []
    state = checkpoints.restore(jax.eval_shape(lambda: uninterrupted[0]), said.append)
    assert int(state.step) == 8
    assert "checkpoint 12 is damaged" in said[0]
    assert "12.damaged" in paths.names_in(workdir / "checkpoints")
    assert steps_in(workdir) == [4, 6, 8]
    checkpoints.close()


def test_a_lease_names_its_owner_and_is_taken_over_when_it_is_stale(bucket, monkeypatch):
    monkeypatch.setattr(lock, "_BEAT", 0.05)
    monkeypatch.setattr(lock, "_STALE", 1.0)
    directory, said = paths.to_path(f"{bucket}/leased"), []
    first = Lock(directory, said.append)
    monkeypatch.setattr(lock, "_has_ended", lambda owner: False)  # as on another machine
    with pytest.raises(UserError, match=r"leased is in use by process \d+ on .*: wait for its end"):
        Lock(directory, said.append)
    first._ended.set()  # the process is no more, but its lease is there
    time.sleep(0.2)
    second = Lock(directory, said.append)
    assert "ended without notice; this one takes over" in said[-1]
    with pytest.raises(UserError, match="was taken over by process"):
        first._ended.clear()
        first._renew()
        first.check()
    second.release()
    assert paths.names_in(directory) == []


def test_what_is_wrong_with_a_bucket_is_one_line(servers, monkeypatch, capsys):
    with pytest.raises(UserError, match="there is no bucket s3://none"):
        paths.to_path("s3://none/run")
    with pytest.raises(UserError, match=r"abc://x is of no known kind: use a local path, gs:// or s3://"):
        paths.to_path("abc://x")
    with pytest.raises(SystemExit):
        evaluate.main(["--workdir=s3://none/run"])
    assert capsys.readouterr().err.startswith("error: argument --workdir: there is no bucket s3://none")

    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    forget()
    with monkeypatch.context() as patch, pytest.raises(MissingExtraError, match=r"pip install 'inception_jax\[s3\]'"):
        patch.setattr(fsspec, "filesystem", missing)
        paths.to_path("s3://bucket/run")
    forget()
    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=r"s3://bucket cannot be reached: .*redential"),
    ):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        paths.to_path("s3://bucket/run")
    forget()
    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=r"s3://bucket cannot be reached: .*127.0.0.1"),
    ):
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        paths.to_path("s3://bucket/run")
    forget()


def test_an_object_cannot_leave_the_folder(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "files_below", lambda _: ["a", "../b"])
    with pytest.raises(UserError, match=r"evil has objects with '\.\.' in their names"):
        paths.download(paths.to_path(f"{bucket}/evil"), tmp_path / "target")

import json
import os
import socket
import subprocess
import sys

import pytest

from inception_jax.errors import UserError
from inception_jax.runs import lock
from inception_jax.runs.lock import FILE, Lock, is_held
from inception_jax.training.loop import train_and_evaluate


def test_a_second_run_on_a_workdir_is_refused(tiny_config, tmp_path):
    first = Lock(tmp_path, pytest.fail)
    assert is_held(tmp_path)
    name = f"process {os.getpid()} on {socket.gethostname()}"
    with pytest.raises(
        UserError, match=f"{tmp_path} is in use by {name}: wait for its end, or choose another directory"
    ):
        train_and_evaluate(tiny_config, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]  # nothing was touched
    first.release()
    assert not is_held(tmp_path)
    Lock(tmp_path, pytest.fail).release()  # given back in order, so nothing is said


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    code = f"""if True:
        import os, signal
        from pathlib import Path
        from inception_jax.runs.lock import Lock
        lock = Lock(Path({str(tmp_path)!r}), print)
        os.kill(os.getpid(), signal.SIGKILL)"""
    subprocess.run([sys.executable, "-c", code], check=False)
    left = json.loads((tmp_path / FILE).read_text())
    said = []
    Lock(tmp_path, said.append).release()
    was = f"process {left['pid']} on {socket.gethostname()}, the last to write {tmp_path}, ended without notice"
    assert said == [f"{was}; this one takes over"]


def test_a_file_system_without_locks_has_a_lease(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_BEAT", 0.01)
    monkeypatch.setattr(lock, "_STALE", 1.0)

    def unsupported(*_):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    monkeypatch.setattr(lock, "_has_ended", lambda owner: False)
    first, said = Lock(tmp_path, pytest.fail), []
    with pytest.raises(UserError, match="is in use by process"):
        Lock(tmp_path, said.append)
    assert "waiting 1 s to see whether process" in said[0]
    first.release()
    assert not (tmp_path / FILE).exists()


def test_of_two_processes_that_see_a_stale_lease_one_gets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Lock, "_lock_file", lambda self: False)
    left = {"host": "elsewhere", "pid": 1, "token": "old"}
    (tmp_path / FILE).write_text(json.dumps(left))
    monkeypatch.setattr(lock, "_STALE", 0.0)
    monkeypatch.setattr(
        lock.time, "sleep", lambda _: (tmp_path / FILE).write_text(json.dumps(left | {"token": "other"}))
    )
    with pytest.raises(UserError, match="is in use by process 1 on elsewhere"):
        Lock(tmp_path, lambda _: None)

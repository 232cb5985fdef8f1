import json
import os
import socket

import pytest

from inception_jax.errors import UserError
from inception_jax.runs.lock import FILE, Lock


def test_a_second_owner_is_refused_with_the_name_of_the_first(tmp_path):
    said = []
    first = Lock(tmp_path, said.append)
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    with pytest.raises(UserError, match=f"is in use by {owner}: wait for its end"):
        Lock(tmp_path, said.append)
    first.release()
    Lock(tmp_path, said.append).release()
    assert said == []


def test_the_lock_of_a_killed_process_is_taken_over_and_said_so(tmp_path):
    left = {"host": "elsewhere", "pid": 7, "token": "t"}
    (tmp_path / FILE).write_text(json.dumps(left), encoding="utf-8")
    said = []
    lock = Lock(tmp_path, said.append)
    assert said == [f"process 7 on elsewhere, the last to write {tmp_path}, ended without notice; this one takes over"]
    lock.release()

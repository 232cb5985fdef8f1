import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inception_jax.errors import UserError
from inception_jax.runs.workdir import Workdir

ROOT = Path(__file__).parents[2]


def test_the_record_is_the_same_in_every_locale(tiny_config, tmp_path, monkeypatch):
    records = []
    for encoding in ("utf-8", "ascii", "latin-1"):
        path = "/café".encode().decode(encoding, "surrogateescape")
        monkeypatch.setattr(os, "fsencode", lambda path, encoding=encoding: path.encode(encoding, "surrogateescape"))
        tiny_config.data.dir = tiny_config.init_from = path
        monkeypatch.setattr(sys, "argv", ["main.py", f"--config.data.dir={path}"])
        workdir = Workdir(tmp_path / encoding, tiny_config)
        workdir.close()
        records.append(json.loads((workdir.path / "config.json").read_bytes()))
        (tmp_path / "utf-8" / "checkpoints" / "1").mkdir(parents=True, exist_ok=True)
        Workdir(tmp_path / "utf-8", tiny_config).close()  # the same experiment
    assert records[0]["config"]["data"]["dir"] == records[0]["config"]["init_from"] == "/café"
    assert records[0] == records[1] == records[2]


def test_a_path_that_orbax_would_misread(tiny_config, tmp_path):
    with pytest.raises(UserError, match="PYTHONUTF8=1"):
        Workdir(tmp_path / "caf\udce9", tiny_config)
    assert not list(tmp_path.iterdir())


def test_what_nobody_can_act_upon_is_not_shown(tmp_path):
    """TensorFlow, which writes the events, tells on standard error how it computes."""
    code = f"""if True:
        from configs.common import get_config
        from inception_jax.runs.workdir import Workdir
        workdir = Workdir({str(tmp_path)!r}, get_config())
        workdir.open_metrics(0, False, True, print)
        workdir.close()"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert list(tmp_path.glob("events.out.tfevents.*"))

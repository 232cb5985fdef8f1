"""The command that serves a report."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from experiments import watch

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(number, tmp_path):
    command = [sys.executable, "-m", "experiments.watch", f"--workdir={tmp_path / 'run'}", "--port=0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        url = re.fullmatch(rf"{tmp_path}/run at (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends\)\n", line)[1]
        with urllib.request.urlopen(url) as answer:
            assert "no training has begun here" in answer.read().decode()
        os.kill(process.pid, number)
        assert (process.stdout.read(), process.stderr.read()) == ("", f"stopped by {number.name}\n")
    assert process.returncode == 128 + number


@pytest.mark.parametrize("option", ["--port=-1", "--port=65536", "--every=0", "--every=nan", "--every=x"])
def test_a_wrong_option_is_one_line(option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        watch.main([f"--workdir={tmp_path}", option])
    assert f"argument {option.split('=')[0]}: " in capsys.readouterr().err

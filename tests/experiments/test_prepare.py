"""The command; what it writes is tested in tests/data/test_prepare.py."""

import json
import re

import pytest

from experiments import prepare
from inception_jax.data.sources import open_source


@pytest.fixture
def run(tmp_path, image_folder):
    """Runs the command in this process; returns the exit status."""
    default = ["--name=folder", f"--dir={image_folder}", "--short-side=16", "--processes=1", f"--out={tmp_path}"]
    return lambda *arguments: prepare.main([*default, "--out-name=small", *arguments])


def test_the_summary_is_printed_and_written(run, tmp_path, capsys):
    assert run("--split=train", "--split=val", f"--json={tmp_path / 'summary.json'}") == 0
    output, messages = capsys.readouterr()
    first, second, hint = output.splitlines()
    assert re.fullmatch(r"train: 48 images, 0.\d MB -> 0.\d MB in 8 files; 0 unchanged, 0 damaged", first)
    assert re.fullmatch(r"val: 21 images, .* in 8 files; 0 unchanged, 0 damaged", second)
    assert hint == f"train on it with --config.data.name=small --config.data.dir={tmp_path}"
    assert "small-train.array_record-00000-of-00008: 6 images" in messages.splitlines()
    assert json.loads((tmp_path / "summary.json").read_text())["splits"]["val"]["images"] == 21
    assert len(open_source("small", "val", str(tmp_path))) == 21


def test_what_is_wrong_is_one_line_that_names_the_flag(run, capsys):
    for arguments, message in (
        (["--split=val[:10%]"], "--split='val[:10%]' must be the name of a whole split"),
        (["--split=val", "--out-name=mnist"], "--out-name='mnist' cannot name a new dataset"),
        (["--split=val", "--quality=101"], "--quality=101 must be between 1 and 100"),
        (["--split=val", "--out=/dev/null"], "/dev/null"),
    ):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {message}")
        assert error.count("\n") == 1

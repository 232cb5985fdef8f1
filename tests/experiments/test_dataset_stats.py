"""The command; what it computes is tested in tests/data/test_dataset_stats.py."""

import json
import pathlib

import pytest

from experiments import dataset_stats

CONFIG = """
from configs import common

def get_config():
    config = common.get_config()
    config.data.update(name="folder", image_size=8, resize=10, whitening="gcn_zca")
    return config
"""


@pytest.fixture
def run(tmp_path, image_folder, monkeypatch):
    """Runs the command in this process; its cache is in tmp_path."""
    config = tmp_path / "config.py"
    config.write_text(CONFIG)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return lambda *arguments: dataset_stats.main(
        [f"--config={config}", f"--config.data.dir={image_folder}", *arguments]
    )


def test_the_numbers_are_printed_written_and_cached(run, tmp_path, capsys):
    assert run(f"--json={tmp_path / 'numbers.json'}") == 0
    output, messages = capsys.readouterr()
    assert [line.partition(":")[0] for line in messages.splitlines()] == [
        "computing whitening statistics of 48 images of folder/train",
        "whitening statistics",
        "computing colour statistics of 48 images of folder/train",
        "colour statistics",
    ]
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    colours, whitening = numbers["colours"], numbers["whitening"]
    lines = output.splitlines()
    assert lines[0] == "folder/train: 48 images"
    assert lines[3].split() == ["mean", *(f"{value:.3f}" for value in colours["mean"])]
    assert lines[4].split()[-2:] == ["variance", f"{colours['values'][0]:,.2f}"]
    assert "whitening of 192 values after global contrast normalisation" in lines
    assert f"(condition number {whitening['condition']:.4g})" in output
    for part in (colours, whitening):
        assert f"  {part['file']}" in lines
        assert pathlib.Path(part["file"]).parent == tmp_path / "inception_jax" / "statistics"

    assert run() == 0
    assert capsys.readouterr() == (output, "")
    assert run("--force") == 0
    again, messages = capsys.readouterr()
    assert again == output
    assert messages.count("computing") == 2


def test_what_is_wrong_is_one_line_that_names_the_key(run, capsys):
    for arguments, message in (
        (["--config.data.dir=/nowhere"], "there is no directory /nowhere"),
        (["--config.data.image_size=65"], "config.data.whitening='gcn_zca' is for images of up to 64 x 64 x 3;"),
        (["--config.data.crop=scale", "--config.data.scale=(7, 9)"], "config.data.scale=(7, 9) must not be less than"),
    ):
        assert run(*arguments) == 2
        output, error = capsys.readouterr()
        assert output == ""
        assert error.splitlines()[-1].startswith(f"error: {message}")

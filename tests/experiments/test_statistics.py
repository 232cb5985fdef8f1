"""The command, as a process of its own; what it computes is tested in tests/data/test_statistics.py."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from inception_jax.data.crops import resize_and_central_crop
from inception_jax.data.loader import Geometry
from inception_jax.data.sources import open_source
from inception_jax.data.statistics import whitening_statistics

ROOT = pathlib.Path(__file__).parent.parent.parent
CONFIG = """
from configs import common

def get_config():
    config = common.get_config()
    config.data.update(name="folder", image_size=8, resize=10, whitening="gcn_zca")
    return config
"""


@pytest.fixture
def start(tmp_path, image_folder):
    """Starts the command; its cache is in tmp_path."""
    config = tmp_path / "config.py"
    config.write_text(CONFIG)
    options = {"cwd": ROOT, "env": os.environ | {"XDG_CACHE_HOME": str(tmp_path)}, "text": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    def start(*arguments):
        arguments = [f"--config={config}", f"--config.data.dir={image_folder}", *map(str, arguments)]
        return subprocess.Popen([sys.executable, "-m", "experiments.statistics", *arguments], **options, **pipes)

    return start


def test_the_numbers_are_printed_written_and_kept(start, tmp_path, image_folder):
    first = start(f"--json={tmp_path / 'numbers.json'}")
    wrong = start("--config.data.dir=/nowhere")
    output, messages = first.communicate()
    assert first.returncode == 0, messages
    assert [line.partition(":")[0] for line in messages.splitlines()] == [
        "fitting whitening statistics of 48 images of folder/train",
        "whitening statistics",
        "fitting colour statistics of 48 images of folder/train",
        "colour statistics",
    ]
    assert wrong.communicate() == ("", "error: there is no directory /nowhere\n")
    assert wrong.returncode == 2

    again, messages = start("--force").communicate()
    assert again == output
    assert messages.count("fitting") == 2

    source = open_source("folder", "train", str(image_folder))
    pixels = np.stack([resize_and_central_crop(source[i][0], 10, 10) for i in range(48)]).reshape(-1, 3)
    values = np.linalg.eigvalsh(np.cov(pixels.T, bias=True))[::-1]
    variances = whitening_statistics(source, Geometry(8, 10, (1, 1), (1, 1)), 3)["whitening_values"]
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    colours, whitening = numbers.pop("colours"), numbers.pop("whitening")
    assert numbers == {"name": "folder", "split": "train", "images": 48}
    np.testing.assert_allclose(colours["mean"], pixels.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(colours["values"], values, rtol=1e-4)
    np.testing.assert_allclose(np.array(colours["vectors"]) @ np.transpose(colours["vectors"]), np.eye(3), atol=1e-6)
    # The first belongs to the first value: along it the variance is the largest.
    assert (pixels @ colours["vectors"][0]).var() == pytest.approx(values[0], rel=1e-4)
    assert whitening["dimensions"] == 192
    assert whitening["largest_value"] == pytest.approx(variances[0])
    assert whitening["condition"] == pytest.approx(np.sqrt((variances[0] + 0.1) / (variances[-1] + 0.1)), rel=1e-4)

    lines = output.splitlines()
    assert lines[0] == "folder/train: 48 images"
    assert lines[3].split() == ["mean", *(f"{value:.3f}" for value in colours["mean"])]
    assert lines[4].split()[-2:] == ["variance", f"{colours['values'][0]:,.2f}"]
    assert "whitening of 192 numbers after global contrast normalisation" in lines
    assert f"(condition number {whitening['condition']:.4g})" in output
    for part in (colours, whitening):
        assert f"  {part['file']}" in lines
        assert pathlib.Path(part["file"]).parent == tmp_path / "inception_jax" / "statistics"
        assert pathlib.Path(part["file"]).is_file()


def test_a_missing_config_is_one_line():
    command = [sys.executable, "-m", "experiments.statistics"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "error: --config is missing\nSee python -m experiments.statistics --help\n"

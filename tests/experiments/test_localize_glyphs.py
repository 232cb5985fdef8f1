"""The tables of docs/localisation.md; what they are measured with is tested in tests/localization and tests/explain."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import localize_glyphs

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_tables_of_the_results(capsys):
    file = ROOT / "results" / "localization.json"
    assert localize_glyphs.main([f"--read={file}"]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) > 10
    assert printed in (ROOT / "docs" / "localisation.md").read_text(encoding="utf-8")
    record = json.loads(file.read_text(encoding="utf-8"))
    assert len(record["runs"]) == 3
    for run in record["runs"]:
        assert min(run["grid"]) >= 8


def test_means_and_intervals():
    def run(cam, random):
        both = {"threshold": 0.25, "max_box_acc": 0.4, "deletion": cam / 2, "insertion": cam}
        methods = {"CAM": {"known": cam, **both}, "random heat map": {"known": random, **both}, "box": {"known": 0.1}}
        return {"methods": methods, "random_order": {"deletion": 0.5, "insertion": 0.5}}

    # Student's 0.975 quantile with one degree of freedom is 12.706; the standard error of 0.5 and 0.6 is 0.05.
    lines = localize_glyphs.table({"runs": [run(0.5, 0.1), run(0.6, 0.2)]}).splitlines()
    assert lines[2] == "| CAM | 55.0 ± 63.5 % | 0.25, 0.25 | +40.0 ± 0.0 points | 40.0 ± 0.0 % |"
    assert lines[3] == "| random heat map | 15.0 ± 63.5 % | 0.25, 0.25 |  | 40.0 ± 0.0 % |"
    assert lines[4] == "| box | 10.0 ± 0.0 % |  | -5.0 ± 63.5 points |  |"
    assert lines[-2] == "| CAM | 0.275 | -0.225 ± 0.318 | 0.550 | +0.050 ± 0.635 |"
    [_, _, line, *_] = localize_glyphs.table({"runs": [run(0.5, 0.1)]}).splitlines()
    assert line == "| CAM | 50.0 % | 0.25 | +40.0 points | 40.0 % |"


def test_random_heat_is_another_for_each_image_and_always_the_same():
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
    random = localize_glyphs._Random((4, 4))
    found = np.asarray(jax.jit(lambda images: random(None, None, images, None))(images))
    assert found.shape == (3, 4, 4)
    assert len({one.tobytes() for one in found}) == 3
    np.testing.assert_array_equal(np.asarray(random(None, None, images[1:], None)), found[1:])
    assert random.heat(found, (16, 16)).shape == (3, 16, 16)


def test_needs_runs_or_results(capsys):
    assert localize_glyphs.main([]) == 2
    assert capsys.readouterr().err == "error: give --workdir, or --read\n"


@pytest.mark.parametrize("content", ["", "[]", '{"runs": []}', '{"runs": [{}]}'])
def test_a_file_of_something_else(content, tmp_path, capsys):
    (tmp_path / "results.json").write_text(content, encoding="utf-8")
    assert localize_glyphs.main([f"--read={tmp_path / 'results.json'}"]) == 2
    assert "is not what --json writes" in capsys.readouterr().err

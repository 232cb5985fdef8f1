"""Runs that are broken on purpose, as real processes; `python -m experiments.torture` breaks more of them."""

import json
from pathlib import Path

import pytest

from experiments.torture import files, kills, page

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("torture")


@pytest.fixture(scope="module")
def reference(scratch):
    return kills.uninterrupted(scratch)


def test_killed_runs_end_as_if_nothing_had_been(scratch, reference):
    found = kills.kills(scratch, reference, 2, 0, print, phases=("step", "checkpoint"))
    assert (found["bitwise"], found["failures"]) == (2, [])
    assert sum(found["phases"].values()) == found["kills"] >= 2


def test_a_flipped_bit_is_found_and_the_run_ends_alike(scratch, reference):
    [case] = files.damage(scratch, reference, 0, print, every_file=False)["cases"]
    assert case["outcome"] == "resumed", case
    assert "checkpoint 60 is damaged" in case["said"]


def test_the_page_is_what_was_measured():
    record = json.loads((ROOT / "results" / "reliability.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8") == page.write(record)
    assert page.failures(record) == []
    tests = {name for _, test, _, _ in page.HELD_BY_TESTS for name in test.split(", ")}
    assert [name for name in tests if not (ROOT / name).exists()] == []

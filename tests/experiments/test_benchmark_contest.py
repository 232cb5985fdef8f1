"""Sides of a benchmark: processes that build something and are timed in turn."""

import pytest

from experiments.benchmark import contest
from inception_jax.errors import UserError


def build(numbers, closed):
    """A side whose call appends to a list, and whose metadata are that list."""
    contest.SHORT = 0  # in its own process: one call is enough
    done = list(numbers)
    return {
        "step": lambda: done.append(len(done)),
        "metadata": lambda: done,
        "close": lambda: closed.write_text("closed"),
    }


def build_nothing():
    raise contest.Unavailable("it is not installed")


def build_from_invalid_input():
    raise UserError("batch_size=4 does not divide over 8 devices")


def build_badly():
    raise ValueError("wrong\nin two lines")


def test_sides_take_turns_in_processes_of_their_own(tmp_path):
    starts = {
        "a": lambda: contest.Side(build, [7], tmp_path / "a"),
        "b": lambda: contest.Side(build, [7], tmp_path / "b"),
        "missing": lambda: contest.Side(build_nothing),
        "invalid": lambda: contest.Side(build_from_invalid_input),
        "broken": lambda: contest.Side(build_badly),
    }
    with contest.started(starts) as (sides, skipped):
        assert list(sides) == ["a", "b"]
        assert skipped == {
            "missing": "it is not installed",
            "invalid": "batch_size=4 does not divide over 8 devices",
            "broken": "ValueError: wrong",
        }
        seconds = contest.take_turns(sides, ["step", "matmul"], 3)
        assert {key: len(each) for key, each in seconds.items()} == {("a", "step"): 3, ("b", "step"): 3}
        assert all(each > 0 for measured in seconds.values() for each in measured)
        # The three that are counted and one before them.
        assert sides["a"].metadata() == sides["b"].metadata() == [7, 1, 2, 3, 4]
        assert sides["a"].peak_memory("step") > 1e6
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "closed"


def test_sides_are_closed_after_an_error(tmp_path):
    closed = []

    class Side:
        def close(self):
            closed.append(self)

    with pytest.raises(KeyError), contest.started({"a": Side, "b": Side}):
        raise KeyError
    assert len(closed) == 2


def test_short_calls_are_timed_many_at_once(monkeypatch):
    now = [0.0]
    step = {"step": lambda: now.append(now.pop() + 0.03)}
    monkeypatch.setattr(contest.time, "perf_counter", lambda: now[0])
    assert contest._time(step, "step") == pytest.approx(0.03)
    assert now[0] == pytest.approx(8 * 0.03)  # 0.2 s is no more than 7 of them; the first is not counted
    now[0] = 0.0
    monkeypatch.setattr(contest, "SHORT", 0.03)
    assert contest._time(step, "step") == now[0] == pytest.approx(0.03)


def test_ratio_is_the_median_over_rounds():
    assert contest.ratio(peer=[2.0, 9.0, 4.0], ours=[1.0, 3.0, 4.0]) == 2.0

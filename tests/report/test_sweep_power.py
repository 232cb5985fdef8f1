"""The power of a sweep's comparisons, beside published numbers and a simulation."""

import numpy as np
import pytest
from scipy import stats

from inception_jax.errors import UserError
from inception_jax.report.sweep.power import pairs_needed, power_of, sd_of_differences, visible_effect


def test_the_number_of_pairs_is_the_published_one():
    # G*Power and Cohen's tables: a paired two-sided t test at 5 % with power 0.8.
    assert [pairs_needed(1.0, effect) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert pairs_needed(2.0, 1.0) == 34  # only the ratio counts
    assert (pairs_needed(1.0, 100.0), pairs_needed(0.0, 1.0)) == (2, 2)


def test_the_power_of_strata_and_several_tests_is_that_of_a_simulation():
    differences = np.random.default_rng(0).normal(1.0, 1.5, (100_000, 3, 4))  # three strata of four pairs
    error = np.sqrt(differences.var(2, ddof=1).sum(1) / 4) / 3
    shown = differences.mean((1, 2)) / error > stats.t.ppf(1 - 0.05 / 5 / 2, 9)
    assert power_of(1.5, 1.0, 4, strata=3, tests=5) == pytest.approx(shown.mean(), abs=0.005)


def test_the_visible_effect_needs_the_seeds_it_was_computed_for():
    for seeds in (2, 6):
        for strata in (1, 3):
            effect = visible_effect(1.5, seeds, strata=strata, tests=41)
            assert power_of(1.5, effect, seeds, strata=strata, tests=41) == pytest.approx(0.8, abs=1e-6)
            assert pairs_needed(1.5, 1.001 * effect, strata=strata, tests=41) == seeds
            assert pairs_needed(1.5, 0.999 * effect, strata=strata, tests=41) == seeds + 1
    assert visible_effect(0.0, 3) == 0


def test_an_effect_that_no_number_of_seeds_shows_is_one_line():
    for effect in (0.0, 0.001):
        with pytest.raises(UserError, match="needs more than 100,000 seeds; name a larger effect"):
            pairs_needed(1.0, effect)


def test_the_spread_of_differences():
    assert sd_of_differences([3, 4]) == pytest.approx(5)  # sqrt(2) times sqrt(12.5)

"""The power of a sweep's comparisons, beside published numbers and a simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from inception_jax.errors import UserError
from inception_jax.report.sweep.power import pairs_needed, power_of, sd_of_difference, visible_effect


def test_the_number_of_pairs_is_the_published_one():
    # G*Power and Cohen's tables: a paired two-sided t test at 5 % with power 0.8.
    assert [pairs_needed([1.0], effect) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert pairs_needed([2.0], 1.0) == 34  # only the ratio counts
    assert (pairs_needed([1.0], 100.0), pairs_needed([0.0], 1.0)) == (2, 2)


def test_the_power_of_strata_and_several_tests_is_that_of_a_simulation():
    for sds, seeds, tests in (((1.5, 1.5, 1.5), 6, 5), ((2.0, 1.0, 0.1), 6, 5), ((0.2, 0.37, 0.42), 3, 42)):
        differences = np.random.default_rng(0).normal(1.0, np.reshape(sds, (3, 1)), (100_000, 3, seeds))
        variances = differences.var(2, ddof=1) / seeds
        degrees = (seeds - 1) * variances.sum(1) ** 2 / (variances**2).sum(1)
        shown = differences.mean((1, 2)) / (np.sqrt(variances.sum(1)) / 3) > stats.t.ppf(1 - 0.05 / tests / 2, degrees)
        assert power_of(sds, 1.0, seeds, tests=tests) == pytest.approx(shown.mean(), abs=0.005), sds


def test_the_visible_effect_needs_the_seeds_it_was_computed_for():
    for seeds in (2, 6):
        for sds in ([1.5], [1.5, 0.5, 0.0]):
            effect = visible_effect(sds, seeds, tests=41)
            assert power_of(sds, effect, seeds, tests=41) == pytest.approx(0.8, abs=1e-6)
            assert pairs_needed(sds, 1.001 * effect, tests=41) == seeds
            assert pairs_needed(sds, 0.999 * effect, tests=41) == seeds + 1
    assert visible_effect([0.0], 3) == 0


def test_an_effect_that_no_number_of_seeds_shows_is_one_line():
    for effect in (0.0, 0.001):
        with pytest.raises(UserError, match="needs more than 100,000 seeds; name a larger effect"):
            pairs_needed([1.0], effect)


def test_the_spread_of_differences():
    assert sd_of_difference(3) == pytest.approx(math.sqrt(18))  # the variances of two independent runs add up

"""The power of a sweep's comparisons: how many seeds an effect needs, and which effect so many seeds can show.

The test is the one of `analysis`: a two-sided t test on differences paired by seed, over one or more strata, such as
data sets. It tests the mean of the strata's means, with the degrees of freedom of Welch and Satterthwaite. Effects and
standard deviations are in one unit, such as points.
"""

import bisect
import math
from collections.abc import Sequence

import numpy as np

from inception_jax.errors import UserError

MOST_SEEDS = 100_000


def sd_of_difference(sd: float) -> float:
    """Returns the standard deviation to expect of the difference between two runs of one seed, from that between seeds.

    It is sqrt(2) times that, as if the two runs had nothing in common. Runs of one seed see the images in the same
    order, which makes their difference vary less; a variant that varies more than the baseline makes it vary more.
    """
    return math.sqrt(2) * sd


def power_of(sds: Sequence[float], effect: float, seeds: int, *, level: float = 0.95, tests: int = 1) -> float:
    """Returns the probability that the test shows an effect with its sign.

    The test takes its variances, and so its degrees of freedom, from the runs. With several strata of few pairs that
    matters: the noncentral t distribution, which holds for one stratum, takes the true ones and promises 0.8 where
    three strata of 3 pairs, corrected for 42 tests, have 0.5. So this is the mean over 4,096 quasi-random draws of the
    strata's variances, given which the mean of the runs is normal. It has an error below 0.001.

    Args:
      sds: standard deviations of the differences of each stratum, see `sd_of_difference`.
      effect: true mean of the differences.
      seeds: number of pairs of each stratum, 2 or more.
      level: 1 minus the probability that any of the `tests` shows an effect where there is none.
      tests: number of tests; each is made at (1 - level) / tests, which is Bonferroni's correction.
    """
    from scipy import stats  # takes seconds to import

    variances = np.square(sds) / seeds
    if not variances.any():
        return float(effect != 0)
    ranks = stats.qmc.Sobol(len(sds), rng=0).random(4096)
    found = variances * stats.chi2.ppf(ranks, seeds - 1) / (seeds - 1)
    degrees = (seeds - 1) * found.sum(1) ** 2 / np.square(found).sum(1)
    limits = stats.t.isf((1 - level) / tests / 2, degrees) * np.sqrt(found.sum(1))
    return float(stats.norm.sf((limits - abs(effect) * len(sds)) / math.sqrt(variances.sum())).mean())


def pairs_needed(
    sds: Sequence[float], effect: float, *, power: float = 0.8, level: float = 0.95, tests: int = 1
) -> int:
    """Returns the smallest number of seeds with which the test shows `effect` with probability `power`.

    Args are those of `power_of`.

    Raises:
      UserError: the effect is 0, or needs more than `MOST_SEEDS` seeds.
    """

    def reached(seeds: int) -> float:
        return power_of(sds, effect, seeds, level=level, tests=tests)

    if effect == 0 or reached(MOST_SEEDS) < power:
        raise UserError(f"an effect of {effect:g} needs more than {MOST_SEEDS:,} seeds; name a larger effect")
    return 2 + bisect.bisect_left(range(2, MOST_SEEDS), power, key=reached)


def visible_effect(
    sds: Sequence[float], seeds: int, *, power: float = 0.8, level: float = 0.95, tests: int = 1
) -> float:
    """Returns the smallest effect that the test with so many seeds shows with probability `power`.

    Args are those of `power_of`.
    """
    from scipy import optimize

    def missing(effect: float) -> float:
        return power_of(sds, effect, seeds, level=level, tests=tests) - power

    if not any(sds):
        return 0.0
    high = max(sds)
    while missing(high) < 0:
        high *= 2
    return float(optimize.brentq(missing, 0, high, xtol=1e-9 * high))

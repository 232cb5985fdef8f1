"""The power of a sweep's comparisons: how many seeds an effect needs, and which effect so many seeds can show.

The test is the one of `analysis`: a two-sided t test on differences paired by seed, over one or more strata, such as
data sets. It tests the mean of the strata's means. Effects and standard deviations are in one unit, such as points.
"""

import bisect
import math
from collections.abc import Sequence

from inception_jax.errors import UserError

MOST_SEEDS = 100_000


def sd_of_differences(sds: Sequence[float]) -> float:
    """Returns the standard deviation to expect of the difference between two runs of one seed.

    It is sqrt(2) times the one between seeds, as if the two runs had nothing in common. This is conservative: runs of
    one seed see the images in the same order, so their difference varies less, or at most as much.

    Args:
      sds: standard deviations between seeds, one for each stratum; their root mean square is taken, which is what
        the error of the mean of the strata's means depends on.
    """
    return math.sqrt(2 * math.fsum(sd**2 for sd in sds) / len(sds))


def power_of(sd: float, effect: float, seeds: int, *, strata: int = 1, level: float = 0.95, tests: int = 1) -> float:
    """Returns the probability that the test shows an effect with its sign, by the noncentral t distribution.

    Args:
      sd: standard deviation of the differences of one stratum, see `sd_of_differences`.
      effect: true mean of the differences.
      seeds: number of pairs of each stratum, 2 or more.
      strata: number of strata; the test has strata * (seeds - 1) degrees of freedom.
      level: 1 minus the probability that any of the `tests` shows an effect where there is none.
      tests: number of tests; each is made at (1 - level) / tests, which is Bonferroni's correction.
    """
    from scipy import stats  # takes seconds to import

    degrees = strata * (seeds - 1)
    if sd == 0:
        return float(effect != 0)
    shift = abs(effect) * math.sqrt(strata * seeds) / sd
    limit = stats.t.isf((1 - level) / tests / 2, degrees)
    return float(stats.nct.sf(limit, degrees, shift))


def pairs_needed(
    sd: float, effect: float, *, strata: int = 1, power: float = 0.8, level: float = 0.95, tests: int = 1
) -> int:
    """Returns the smallest number of seeds with which the test shows `effect` with probability `power`.

    Args are those of `power_of`.

    Raises:
      UserError: the effect is 0, or needs more than `MOST_SEEDS` seeds.
    """

    def reached(seeds: int) -> float:
        return power_of(sd, effect, seeds, strata=strata, level=level, tests=tests)

    if effect == 0 or reached(MOST_SEEDS) < power:
        raise UserError(f"an effect of {effect:g} needs more than {MOST_SEEDS:,} seeds; name a larger effect")
    return 2 + bisect.bisect_left(range(2, MOST_SEEDS), power, key=reached)


def visible_effect(
    sd: float, seeds: int, *, strata: int = 1, power: float = 0.8, level: float = 0.95, tests: int = 1
) -> float:
    """Returns the smallest effect that the test with so many seeds shows with probability `power`.

    Args are those of `power_of`.
    """
    from scipy import optimize

    def missing(effect: float) -> float:
        return power_of(sd, effect, seeds, strata=strata, level=level, tests=tests) - power

    if sd == 0:
        return 0.0
    high = sd
    while missing(high) < 0:
        high *= 2
    return float(optimize.brentq(missing, 0, high, xtol=1e-9 * high))

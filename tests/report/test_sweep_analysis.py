"""The statistics of sweeps, beside hand-computed values and other formulas; verdicts on claims."""

import math

import numpy as np
import pytest
from scipy import stats

from inception_jax.report.sweep import analysis, document
from inception_jax.report.sweep import data as sweep_data
from inception_jax.report.sweep.forest import forest
from tests.report import test_sweep as sweeps

# Student's t at 97.5 %, from a printed table: 1 and 2 degrees of freedom.
T1, T2 = 12.706, 4.303


@pytest.fixture(autouse=True)
def margins(monkeypatch):
    """The margins of these tests, whatever the sweeps' are."""
    for measure, margin in (("top1", 1.0), ("no_worse", 1.0), ("steps", 1.2)):
        monkeypatch.setitem(analysis.MARGINS, measure, margin)


@pytest.fixture
def sweep(tmp_path):
    return sweeps.write_sweep(tmp_path)


# ---- Estimates


def test_the_interval_of_three_pairs_by_hand():
    # Differences 1, 2, 3: mean 2, standard deviation 1, error of the mean 1 / sqrt(3).
    found = analysis.estimate([[1, 2, 3]])
    half = T2 / math.sqrt(3)
    assert (found.mean, found.pairs, found.tested, found.sign) == (2, 3, True, 0)
    assert found.interval() == pytest.approx((2 - half, 2 + half), abs=1e-3)
    # One stratum is Student's paired test.
    assert 2 * found.above(0) == pytest.approx(stats.ttest_1samp([1, 2, 3], 0).pvalue)
    assert found.below(3) == pytest.approx(stats.ttest_1samp([1, 2, 3], 3, alternative="less").pvalue)


def test_the_interval_of_two_pairs_and_its_sign():
    found = analysis.estimate([[1.0, 3.0]])  # the error of the mean is sqrt(2) / sqrt(2)
    assert found.interval() == pytest.approx((2 - T1, 2 + T1), abs=1e-3)
    signs = {(5, 6, 7): 1, (-5, -6, -7): -1, (1, 2, 3): 0}
    assert {differences: analysis.estimate([differences]).sign for differences in signs} == signs


def test_strata_weigh_the_same_and_have_the_degrees_of_welch_and_satterthwaite():
    first, second = [1.0, 2.0, 3.0], [10.0, 14.0]
    found = analysis.estimate([first, second])
    # Means 2 and 12. Variances of the means 1 / 3 and 8 / 2; their sum is 13 / 3.
    assert found.mean == 7
    assert found.error == pytest.approx(math.sqrt(13 / 3) / 2)
    assert found.degrees == pytest.approx((13 / 3) ** 2 / ((1 / 3) ** 2 / 2 + 4**2 / 1))
    # The sum of the means is the difference to the negated second stratum, which Welch's test compares.
    welch = stats.ttest_ind(first, [-value for value in second], equal_var=False)
    assert (found.mean / found.error, found.degrees) == pytest.approx((welch.statistic, welch.df))
    assert found.interval() == pytest.approx([end / 2 for end in welch.confidence_interval(0.95)])
    assert (found.parts, found.pairs) == ((2, 12), 5)


def test_few_pairs_and_pairs_without_a_spread_have_no_test():
    for strata, mean in (([[]], None), ([[3.0]], 3.0), ([[1.0, 2.0], [5.0]], 3.25), ([[1.0, 2.0], []], None)):
        found = analysis.estimate(strata)
        assert (found.mean, found.error, found.tested, found.interval()) == (mean, None, False, None)
        assert (found.above(0), found.below(0)) == (1, 1)
    # 0.3 - 0.2 and 0.2 - 0.1 differ by the rounding of floats only.
    flat = analysis.estimate([[0.3 - 0.2, 0.2 - 0.1]])
    assert (flat.flat, flat.tested, flat.sign) == (True, False, 0)
    assert analysis.estimate([[0.1 + 0.2 - 0.3, 0.0]]).mean == 0
    # One stratum with a spread is enough.
    assert analysis.estimate([[1.0, 2.0], [3.0, 3.0]]).error == pytest.approx(0.5 / 2)


WORDS = [
    ([0.6, 1.3, 2.0], "+1.3 points, 95 % interval -0.4 to +3.0 from 3 pairs", "undecided"),
    ([0.784, 1.3, 1.816], "+1.3 points, 95 % interval +0.02 to +2.6 from 3 pairs", "clearly better"),
    ([-1.25, -1.35], "-1.3 points, 95 % interval -1.9 to -0.7 from 2 of 3 pairs", "clearly worse"),
    ([-0.4, 0.003, 0.4], "0.0 points, 95 % interval -1.0 to +1.0 from 3 pairs", "undecided"),
    ([2.0], "+2.0 points from 1 of 3 pairs", "too few runs"),
    ([], "no pair of finished runs", "too few runs"),
    ([2.0, 2.0, 2.0], "+2.0 points in each of 3 pairs", "undecided: without a spread there is no test"),
    ([0.0, 0.0, 0.0], "the same in each of 3 pairs", "no difference"),
]


def test_differences_in_words():
    for differences, words, outcome in WORDS:
        found = analysis.estimate([differences])
        assert (analysis.in_points(found, 3), analysis.outcome(found)) == (words, outcome)


def test_holm_tests_the_smallest_first_and_stops():
    level = 0.05
    # 0.01 passes 0.05 / 4; 0.02 is above 0.05 / 3; the others stay undecided, though 0.04 is below 0.05.
    assert analysis.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([level / 3, level / 4, level / 3, level / 3])
    # All pass, at 0.05 / 4, / 3, / 2, / 1.
    assert analysis.holm([0.01, 0.015, 0.02, 0.05]) == pytest.approx([level / 4, level / 3, level / 2, level])
    assert analysis.holm([0.02, 0.001]) == pytest.approx([level, level / 2])
    assert analysis.holm([]) == []
    assert analysis.holm([0.01, 0.02], others=2) == pytest.approx([level / 4, level / 3])


def test_the_first_step_at_or_above_a_threshold():
    curve = [[0, 0.95, 1.0, 0.0], [5, 0.5, 1.0, 1.0], [10, 0.7, 1.0, 2.0], [15, 0.6, 1.0, 3.0]]
    assert analysis.first_step(curve, 0.7) == 10
    assert analysis.first_step(curve, 0.5) == 5
    assert analysis.first_step(curve, 0.9) is None  # the untrained network does not count


# ---- Verdicts


def data_of(finals, claim, curves=None, seeds=3, **own):
    """Data of variants with these final top-1, in percent, and curves {step: percent} that end with them."""
    listed = []
    for variant, values in finals.items():
        for seed, value in enumerate(values):
            curve = (curves or {}).get(variant, [{}] * len(values))[seed]
            evaluations = [[step, percent / 100, 1.0, 1.0] for step, percent in (curve or {10: value}).items()]
            listed.append(
                {"variant": variant, "seed": seed, "state": "finished", "error": "", "top1": value / 100, "step": 10}
                | {"evaluations": evaluations, "batch": 1, "multiply_adds": 1, "count": 1000}
            )
    claim = {"text": "t", "source": "s", "better": "a", "than": "b", **claim}
    variants = {name: {} for name in finals}
    own = {"variants": variants, "claims": [claim], "seeds": list(range(seeds)), "printed": {}} | own
    sweep = sweep_data.complete(sweeps.SWEEP | {"baseline": "b", "settings": []} | own, "sweep.json")
    return {"sweep": sweep, "runs": listed, "evaluations": []}


def verdict(*arguments, **keywords):
    [claim] = analysis.analyse(data_of(*arguments, **keywords)).claims
    return claim.verdict, claim.words


ZERO = [50, 50, 50]


ACCURACY = [
    ("top1", [55, 56, 57], "agrees", "`a` against `b`: +6.0 points, 95 % interval +3.5 to +8.5 from 3 pairs"),
    ("top1", [45, 44, 43], "disagrees", "-6.0 points, 95 % interval -8.5 to -3.5 from 3 pairs"),
    ("top1", [51, 52, 53], "inconclusive", "the mean leans the claim's way"),
    ("top1", [49, 48, 47], "inconclusive", "the mean leans against the claim"),
    ("top1", [49, 50, 51], "inconclusive", "the mean leans neither way"),
    ("top1", [50.1, 50.2, 49.7], "equivalent", "0.0 points, 90 % interval -0.4 to +0.4 from 3 pairs; the difference "),
    ("top1", [50.5, 50.6, 50.7], "agrees", "+0.6 points, 95 % interval +0.4 to +0.8 from 3 pairs; the difference is "
        "below 1 point"),
    ("top1", [55, 55, 55], "inconclusive", "+5.0 points in each of 3 pairs; without a spread there is no test"),
    ("top1", [55], "inconclusive", "+5.0 points from 1 of 3 pairs; too few runs"),
    ("top1", [], "inconclusive", "no pair of finished runs; too few runs"),
    # Standard deviation 0.1: half the interval is 0.25.
    ("no_worse", [50.4, 50.5, 50.6], "agrees", "+0.5 points, 95 % interval +0.3 to +0.7 from 3 pairs; not 1 point"),
    ("no_worse", [55, 56, 57], "agrees", "not 1 point worse"),
    ("no_worse", [49.3, 49.2, 49.4], "agrees", "not 1 point worse"),
    ("no_worse", [49.2, 49.1, 49.0], "inconclusive", "1 point worse is not excluded"),
    ("no_worse", [49.1, 49.0, 48.8], "disagrees", "-1.0 points"),
    ("no_worse", [48.4, 48.5, 48.6], "disagrees", "-1.5 points"),
    ("no_worse", [51, 50, 49], "inconclusive", "1 point worse is not excluded"),
    ("no_worse", [50, 50, 50], "inconclusive", "the same in each of 3 pairs; without a spread there is no test"),
    ("no_worse", [50], "inconclusive", "too few runs"),
]  # fmt: skip


def test_verdicts_on_accuracy():
    for measure, a, expected, words in ACCURACY:
        found = verdict({"a": a, "b": ZERO}, {"measure": measure})
        assert (found[0], words in found[1]) == (expected, True), (measure, a, found)


def test_a_verdict_says_where_no_larger_difference_was_possible():
    high, higher = [99.0, 99.1, 99.2], [99.5, 99.5, 99.7]  # mean errors of 0.9 and 0.43 points
    for measure, words in (("top1", "below 1 point, as are the errors"), ("no_worse", "the errors are below 1 point")):
        [claim] = analysis.analyse(data_of({"a": higher, "b": high}, {"measure": measure})).claims
        assert claim.ceiling
        assert claim.words.endswith(words)
        lower = [value - 0.2 for value in high]  # mean error 1.1
        [claim] = analysis.analyse(data_of({"a": higher, "b": lower}, {"measure": measure})).claims
        assert not claim.ceiling
        assert "errors" not in claim.words


def test_equivalence_is_two_one_sided_tests():
    a = [50.4, 49.9, 50.6, 50.3]
    differences = [value - 50 for value in a]
    p = max(stats.ttest_1samp(differences, sign * 0.9, alternative=side).pvalue
            for sign, side in ((-1, "greater"), (1, "less")))  # fmt: skip
    assert 0.01 < p < 0.05
    for margin, expected in ((0.9, "equivalent"), (0.6, "inconclusive")):
        found = verdict({"a": a, "b": [50] * 4}, {"measure": "top1", "margin": margin}, seeds=4)
        assert found[0] == expected
        assert f"from 4 pairs, margin {margin}; " in found[1]
    # In a family of five planned claims it is not enough.
    data = data_of({"a": a, "b": [50] * 4}, {"measure": "top1", "margin": 0.9}, seeds=4) | {"plan": sweeps.PLAN}
    assert analysis.analyse(data).claims[0].verdict == "inconclusive"


def reaching(*steps):
    """Curves that have 50 % at these steps, and not before."""
    return [{5: 10, step: 50, 1000: 50} if step else {5: 10, 1000: 40} for step in steps]


SPEED = [
    # Logarithms to base 2 of the ratios: -1, -2, -3. Mean -2, half the interval 4.303 / sqrt(3) = 2.484.
    ((400, 200, 100), (800, 800, 800), "inconclusive", "0.25 times the steps of `b`"),
    ((400, 200, 100), (800, 800, 800), "inconclusive", "95 % interval 0.04 to 1.40 from 3 pairs"),
    ((400, 200, 100), (800, 800, 800), "inconclusive", "the mean leans the claim's way"),
    ((800, 800, 800), (400, 200, 100), "inconclusive", "the mean leans against the claim"),
    ((90, 100, 110), (800, 800, 800), "agrees", "0.12 times the steps of `b` to the last top-1 of `b` minus 1 point"),
    ((800, 800, 800), (90, 100, 110), "disagrees", "8.03 times"),
    ((790, 800, 810), (800, 800, 800), "equivalent", "the ratio is within 1/1.2 and 1.2"),
    ((100, 100, 100), (800, 800, 800), "inconclusive", "in each of 3 pairs; without a spread there is no test"),
    # A run that never arrives counts with its 1000 steps: it cannot show the claim, nor that there is no difference.
    ((None, 100, 100), (1000, 90, 90), "inconclusive", "in 1 pair it never gets there, and all its steps count"),
    ((None, 90, 90), (1000, 100, 100), "inconclusive", "`a` needs at least 0.93 times the steps of `b`"),
    ((None,) * 3, (90, 100, 110), "disagrees", "`a` needs at least 10.03 times the steps of `b`"),
    ((None,), (800, 800, 800), "inconclusive", "1 of 3 pairs; too few runs"),
    ((), (800, 800, 800), "inconclusive", "no pair of finished runs; too few runs"),
]


def test_verdicts_on_speed():
    for a, b, expected, words in SPEED:
        finals = {"a": [50 if step else 40 for step in a], "b": ZERO}
        found = verdict(finals, {"measure": "steps"}, {"a": reaching(*a), "b": reaching(*b)})
        assert (found[0], words in found[1]) == (expected, True), (a, b, found)


def test_an_interval_beyond_all_floats_is_drawn():
    curves = {"a": reaching(1, 40), "b": reaching(800, 800)}  # t at 5 % / 41 and one degree of freedom is 522
    data = data_of({"a": [50, 50], "b": [50, 50]}, {"measure": "steps"}, curves, seeds=2) | {"plan": sweeps.PLAN}
    [claim] = analysis.analyse(data).claims
    low, high = claim.interval
    assert 0 < low < 1e-200 < 1e200 < high < math.inf
    assert "0.01 (0.00 to " in forest({"heads": [claim]})


def test_speed_is_to_the_final_accuracy_of_the_same_seed():
    """Minus a point."""
    curves = {"a": [{100: 54.1, 900: 90}, {100: 60, 500: 83.9, 900: 90}], "b": [{500: 60, 900: 55}, {500: 70, 900: 85}]}
    found = verdict({"a": [90, 90], "b": [55, 85]}, {"measure": "steps"}, curves, seeds=2)
    # Seed 0: 100 steps against 500; seed 1: 900 against 900. The mean of the ratio is sqrt(1 / 5).
    assert found[1].startswith("`a` needs 0.45 times the steps of `b`")


def test_a_claim_on_several_variants_has_a_stratum_for_each():
    top1 = {"a": [51, 52], "b": [50, 50], "c": [63, 64], "d": [60, 60]}
    claim = {"better": ["a", "c"], "than": ["b", "d"]}
    # Differences 1, 2 and 3, 4: means 1.5 and 3.5, variances of these 1 / 4 each. The error of the mean of both is
    # sqrt(1 / 2) / 2, with 2 degrees of freedom: half the interval is 1.521.
    assert verdict(top1, claim | {"measure": "top1"}, seeds=2) == (
        "agrees",
        "`a`, `c` against `b`, `d`: +2.5 points, 95 % interval +1.0 to +4.0 from 4 pairs",
    )
    assert verdict(top1 | {"c": [63]}, claim | {"measure": "top1"}, seeds=2) == (
        "inconclusive",
        "`a`, `c` against `b`, `d`: +2.2 points from 3 of 4 pairs; too few runs of `c` and `d`",
    )
    curves = {name: [{100: 40, 900: value} for value in values] for name, values in top1.items()}
    curves["a"] = [{300: 50, 900: 51}, {300: 50, 900: 52}]
    curves["c"] = [{450: 60, 900: 63}, {450: 60, 900: 64}]
    # A third of the steps twice and half of them twice: the mean of the ratio is sqrt(1 / 6).
    assert verdict(top1, claim | {"measure": "steps"}, curves, seeds=2)[1].startswith(
        "`a`, `c` needs 0.41 times the steps of `b`, `d` to the last top-1 of `b`, `d` minus 1 point"
    )


def test_an_evaluation_has_no_speed(sweep):
    data = sweeps.with_evaluations(sweep)
    claim = {"text": "", "source": "", "better": "2x144crop", "than": "both", "measure": "top1", "margin": 1.0}
    data["sweep"]["claims"] = [claim | {"measure": "steps", "margin": 1.2}]
    [speed] = analysis.analyse(data).claims
    assert (speed.verdict, "no pair" in speed.words) == ("inconclusive", True)
    data["sweep"]["claims"] = [claim]
    assert analysis.analyse(data).claims[0].verdict == "agrees"


# ---- Families of claims


def random_sweep(rng, spread):
    """Twelve claims on four seeds, of effects between -3 and 3 points or factors between 1/2 and 2."""
    finals, curves, claims = {}, {}, []
    for index in range(12):
        a, b = f"a{index}", f"b{index}"
        effect = rng.choice([-3, -0.6, 0, 0, 0.6, 3])
        finals |= {a: list(50 + effect + spread * rng.normal(size=4)), b: [50] * 4}
        steps = 1000 * np.exp(effect / 4 + spread / 10 * rng.normal(size=4))
        curves |= {a: [{step: 50, 9000: final} for step, final in zip(steps, finals[a], strict=True)]}
        curves |= {b: [{1000: 50, 9000: 50}] * 4}
        measure = ("top1", "no_worse", "steps")[index % 3]
        claims.append({"text": "t", "source": "s", "better": a, "than": b, "measure": measure})
    return data_of(finals, {}, curves, seeds=4, claims=claims)


def test_the_interval_shown_says_what_the_verdict_says():
    rng, seen = np.random.default_rng(0), set()
    for spread in (0.05, 0.3, 1.0):
        data = {str(index): random_sweep(rng, spread) for index in range(4)}
        planned = [analysis.analyse(one | {"plan": sweeps.PLAN}) for one in data.values()]
        for analysed in [*planned, *analysis.analyse_together(data).values()]:
            for claim in analysed.claims:
                low, high = claim.interval
                margin = claim.margin
                if claim.measure == "steps":
                    low, high, margin = -math.log(high), -math.log(low), math.log(margin)
                seen.add((claim.measure, claim.verdict))
                if claim.measure == "no_worse":
                    expected = {low > -margin: "agrees"}.get(True)
                    expected = expected or ("disagrees" if high < 0 and claim.mean < -margin else "inconclusive")
                    assert claim.verdict == expected, claim
                elif claim.verdict == "equivalent":
                    assert -margin < low, claim
                    assert high < margin, claim
                else:
                    assert claim.verdict == {1: "agrees", -1: "disagrees", 0: "inconclusive"}[(low > 0) - (high < 0)]
                    assert claim.verdict != "inconclusive" or not (-margin < low and high < margin), claim
    measures = {
        "top1": analysis.VERDICTS,
        "steps": analysis.VERDICTS,
        "no_worse": ("agrees", "disagrees", "inconclusive"),
    }
    assert seen == {(measure, one) for measure, verdicts in measures.items() for one in verdicts}


def test_all_claims_of_a_document_are_one_family_and_a_plan_states_its_size():
    # Differences 1, 2, 3, 4: t is 3.873 with three degrees of freedom, p = 0.0305.
    clear = data_of({"a": [51, 52, 53, 54], "b": [50] * 4}, {"measure": "top1"}, seeds=4)
    open_ = data_of({"a": [51, 49, 53, 47], "b": [50] * 4}, {"measure": "top1"}, seeds=4)
    [alone] = analysis.analyse(clear).claims
    assert (alone.verdict, alone.level) == ("agrees", pytest.approx(0.95))
    both = analysis.analyse_together({"clear": clear, "open": open_})
    [first], [second] = both["clear"].claims, both["open"].claims
    assert (first.verdict, first.level, second.level) == ("inconclusive", pytest.approx(0.975), pytest.approx(0.975))
    planned = analysis.analyse(clear | {"plan": sweeps.PLAN})
    assert planned.claims[0].level == pytest.approx(1 - 0.05 / 41)
    assert "corrected for 41 claims" in document.report(clear | {"plan": sweeps.PLAN})
    both = {"clear": clear | {"plan": sweeps.PLAN}, "open": open_}
    assert analysis.analyse_together(both)["clear"].claims == planned.claims
    assert "The 39 that are planned and not here count as undecided" in document.document(both, "")


def test_an_undecided_claim_does_not_look_equivalent():
    # Beside nine clear claims the tenth is tested for a difference at 5 %, with an interval of -0.2 to +0.8.
    # Equivalence is tested at 5 % / 10, and is not shown: the interval drawn is that of 99 %, with t of 5.841.
    finals = {f"a{index}": [80.1, 80.2, 79.7, 80] for index in range(9)} | {
        "a": [50.4, 49.9, 50.6, 50.3],
        "b": [50] * 4,
    }
    claims = [{"text": "t", "source": "s", "better": a, "than": "b", "measure": "top1"} for a in finals if a != "b"]
    *clear, last = analysis.analyse(data_of(finals, {}, seeds=4, claims=claims)).claims
    assert {claim.verdict for claim in clear} == {"agrees"}
    half = 5.841 * np.std([0.4, -0.1, 0.6, 0.3], ddof=1) / 2
    assert (last.verdict, last.level) == ("inconclusive", pytest.approx(0.99))
    assert last.interval == pytest.approx((0.3 - half, 0.3 + half), abs=1e-3)


# ---- Several sets of images, runs at chance


def sets_data(**own):
    finals = {"x/a": [60, 61, 62], "x/b": [50, 50, 50], "y/a": [69, 70, 70.5], "y/b": [70, 70, 70]}
    claim = {"better": ["x/a", "y/a"], "than": ["x/b", "y/b"], "measure": "top1"}
    variants = {"x/a": {"d": 1, "k": 2}, "x/b": {"d": 1}, "y/a": {"d": 2, "k": 2}, "y/b": {"d": 2}}
    own = {"sets": ["x", "y"], "variants": variants, "printed": {"a": "26.8"}} | own
    return data_of(finals, claim, **own)


def test_sets_have_their_own_baseline_threshold_and_table():
    data = sets_data()
    found = analysis.analyse(data)
    assert found.claims[0].words == (
        "`a` against `b`: +5.4 points, 95 % interval +4.4 to +6.5 from 6 pairs (x +11.0, y -0.2; the signs differ)"
    )
    assert found.thresholds == {}  # it claims nothing about steps
    data["sweep"]["claims"].append(data["sweep"]["claims"][0] | {"measure": "steps"})
    found = analysis.analyse(data)
    assert found.thresholds == pytest.approx({"x": 0.5, "y": 0.7})
    assert [(row.name, row.data, row.printed) for row in found.rows] == [
        ("x/a", "x", "26.8"), ("x/b", "x", ""), ("y/a", "y", "26.8"), ("y/b", "y", ""),
    ]  # fmt: skip
    assert [row.difference and round(row.difference.mean, 3) for row in found.rows] == [11, None, -0.167, None]
    first, second = document.results_tables(data, found)
    assert (first.heading, second.heading) == ("Results on x", "Results on y")
    assert [row[0].text for row in first.rows] == ["`a`", "`b`"]
    assert [row[1].text for row in first.rows] == ["`k=2`", "nothing"]
    assert "All variants have `d=1`." in first.note
    assert "steps to 70.00 %" in second.header


def test_a_run_at_chance_is_counted_nowhere_and_its_variant_says_so():
    # Guessing gives 50 %; with 1000 images its error is 1.58 points, so what is below 54.74 % is at chance.
    finals = {"a": [60, 61, 54.7, 62], "b": [58, 57, 56, 54.8]}
    data = data_of(finals, {"measure": "top1"}, seeds=4, chance={"": 0.5})
    found = analysis.analyse(data)
    why = "top-1 is 54.70 %, guessing 50.00 %"
    assert found.absent == [{"name": "a", "seed": 2, "state": "at chance", "error": why}]
    assert (found.rows[0].top1, found.rows[0].at_chance) == ({0: 0.6, 1: 0.61, 3: 0.62}, 1)
    assert found.rows[0].difference.pairs == 3
    assert "from 3 of 4 pairs, 1 lost to a run at chance" in found.claims[0].words
    table = document.results_table(data, found)
    assert table.rows[0][table.header.index("runs")].text == "3 of 4, 1 at chance"
    assert document.facts(data)["Runs"] == "7 of 8 finished, 1 more at chance"
    drawn = analysis.curves(data)["a"]
    assert (drawn["mean"]["seeds"], len(drawn["alone"])) == ([3], 1)
    # What guessing gives is not known.
    assert analysis.analyse(data_of(finals, {"measure": "top1"}, seeds=4)).absent == []


def test_what_could_have_been_seen():
    pilot = {one: {"variant": f"{one}/b", "top1": [0.5], "sd": sd} for one, sd in (("x", 0.71), ("y", 1.2))}
    data = sets_data() | {"plan": sweeps.PLAN | {"pilot": pilot, "chosen": {"x/a": "0.003", "x/b": "0.001"}}}
    data["runs"] = [
        run | {"top1": run["top1"] + 0.01 * run["seed"] * (run["variant"] == "y/b")} for run in data["runs"]
    ]
    analysed = analysis.analyse(data)
    table = document.seen_table({"": data}, {"": analysed})
    assert dict(zip(table.header, (cell.text for cell in table.rows[0]), strict=True)) == {
        "seeds": "3",
        "SD of the pilot": "x 0.7, y 1.2",
        "visible": "1.8",
        "SD of the baseline": "x 0.0, y 1.0",
        "half the interval": f"{(analysed.claims[0].interval[1] - analysed.claims[0].interval[0]) / 2:.1f}",
        "decided": "0 of 1",
    }
    assert "with probability 0.8, in a test corrected for 41 claims" in table.note
    rates = document.results_table(data, analysed, "x")
    assert [row[rates.header.index("learning rate")].text for row in rates.rows] == ["0.003", "0.001"]
    # Without a plan the columns about it are left out.
    unplanned = sets_data()
    header = document.seen_table({"": unplanned}, {"": analysis.analyse(unplanned)}).header
    assert header == ["seeds", "SD of the baseline", "half the interval", "decided"]

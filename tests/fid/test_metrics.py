"""Distances and scores against plain references."""

import numpy as np
import pytest
import scipy.linalg

from inception_jax import UserError
from inception_jax.fid import metrics
from inception_jax.fid.metrics import (
    density_coverage,
    fid_infinity,
    fid_interval,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)


def moments(features):
    return features.mean(axis=0), np.cov(features, rowvar=False)


def gaussian(count, dimensions, seed, scale=1.0, shift=0.0):
    return scale * np.random.default_rng(seed).standard_normal((count, dimensions)) + shift


def test_frechet_distance_is_that_of_the_formula():
    a, b = np.array([4.0, 9.0, 1.0]), np.array([1.0, 16.0, 0.0])
    # Diagonal covariances: |m|^2 + sum of (sqrt a - sqrt b)^2 = 14 + 1 + 1 + 1.
    assert frechet_distance(np.zeros(3), np.diag(a), np.array([1.0, 2, 3]), np.diag(b)) == pytest.approx(17, abs=1e-12)
    one, two = (moments(gaussian(60, 8, seed) @ gaussian(8, 8, 5 + seed)) for seed in (0, 1))
    root = scipy.linalg.sqrtm(one[1] @ two[1])
    expected = np.sum((one[0] - two[0]) ** 2) + np.trace(one[1] + two[1] - 2 * root.real)
    assert frechet_distance(*one, *two) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(*two, *one) == pytest.approx(expected, rel=1e-8)


def test_singular_and_identical_sets_have_a_distance():
    few = moments(gaussian(6, 40, 0, scale=5))
    assert abs(frechet_distance(*few, *few)) < 1e-6
    # With X and Y the deviations, A = X^T X / 5: the sum is that of the singular values of X Y^T / 5.
    for count in (6, 30, 100):  # below and above the dimensions
        a, b = gaussian(6, 40, 0, scale=5), gaussian(count, 40, 1, scale=5)
        x, y = ((part - part.mean(axis=0)) / np.sqrt(len(part) - 1) for part in (a, b))
        nuclear = np.linalg.svd(x @ y.T, compute_uv=False).sum()
        expected = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + (x**2).sum() + (y**2).sum() - 2 * nuclear
        assert frechet_distance(*moments(a), *moments(b)) == pytest.approx(expected, rel=1e-12)
        distance = metrics._weighted_distance(*moments(a), b)
        assert distance(np.ones(count)) == pytest.approx(expected, rel=1e-8)
    nothing = np.zeros(40), np.zeros((40, 40))
    assert frechet_distance(*nothing, *few) == pytest.approx((few[0] ** 2).sum() + np.trace(few[1]))


def test_one_dimension_and_invalid_moments():
    a, b = gaussian(50, 1, 0), gaussian(50, 1, 1, scale=2)
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(*moments(a), *moments(b)) == pytest.approx(expected)  # np.cov of it has no dimension
    three = moments(gaussian(50, 3, 0))
    with pytest.raises(UserError, match="the sets have 1 and 3 dimensions"):
        frechet_distance(*moments(a), *three)
    with pytest.raises(UserError, match=r"not of shapes \[1\] and \[3, 3\]"):
        frechet_distance(three[0][:1], three[1], *three)
    with pytest.raises(UserError, match="mean or covariance is not finite"):
        fid_interval((three[0], three[1] * np.nan), gaussian(50, 3, 1))


def test_kernel_distance_is_the_unbiased_estimate():
    a, b = gaussian(7, 3, 0), gaussian(7, 3, 1, shift=1)

    def kernel(x, y):
        return (x @ y / 3 + 1) ** 3

    within = [np.mean([kernel(s[i], s[j]) for i in range(7) for j in range(7) if i != j]) for s in (a, b)]
    between = np.mean([kernel(x, y) for x in a for y in b])
    mean, deviation = kernel_distance(a, b, subsets=3, subset_size=7)
    assert mean == pytest.approx(sum(within) - 2 * between)
    assert deviation < 1e-12  # a subset of all is always the same
    assert kernel_distance(a, b, subsets=3, subset_size=4)[1] > 0
    with pytest.raises(UserError, match="subset_size=8 must be from 2 to 7"):
        kernel_distance(a, b, subset_size=8)


def test_inception_score_is_exp_of_the_mutual_information():
    # Sure of one of four classes, all equally often: 4. The same for every image: 1.
    sure = np.tile(100.0 * np.eye(4), (5, 1))
    assert inception_score(sure, splits=1) == (pytest.approx(4), 0)
    assert inception_score(np.ones((20, 4)), splits=2) == (pytest.approx(1), pytest.approx(0))
    logits = gaussian(30, 5, 0)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    order = np.random.RandomState(2020).permutation(30)
    halves = [p[order[:15]], p[order[15:]]]
    expected = [np.exp((h * np.log(h / h.mean(axis=0))).sum(axis=1).mean()) for h in halves]
    assert inception_score(logits, splits=2) == pytest.approx((np.mean(expected), np.std(expected)))
    with pytest.raises(UserError, match="splits=10 are more than the 4 images"):
        inception_score(sure[:4])


def brute_force(real, generated, k):
    """Precision, recall, density and coverage."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)

    def radius(points):
        distances = np.linalg.norm(points[:, None] - points, axis=-1)
        return np.sort(distances, axis=1)[:, k]  # the nearest is the point itself

    between = np.linalg.norm(generated[:, None] - real, axis=-1)
    inside = between <= radius(real)
    recall = (radius(generated) >= between.T).any(axis=1).mean()
    return inside.any(axis=1).mean(), recall, inside.sum() / k / len(generated), inside.any(axis=0).mean()


def by_blocks(real, generated, k):
    return precision_recall(real, generated, neighbours=k) + density_coverage(real, generated, neighbours=k)


def test_neighbourhoods_are_those_of_brute_force(monkeypatch):
    monkeypatch.setattr(metrics, "_BLOCK", 8)  # 30 and 21 points do not fill their blocks
    real, generated = gaussian(30, 3, 0, shift=50), gaussian(21, 3, 1, shift=51.6)
    for k in (3, 5, 9):  # more than a block
        expected = brute_force(real, generated, k)
        assert 0 < expected[0] < 1
        assert 0 < expected[3] < 1
        assert by_blocks(real, generated, k) == pytest.approx(expected)
    for scale in (1e-30, 1e20):  # whose squares are 0 or infinite in float32
        assert by_blocks(real * scale, generated * scale, 9) == pytest.approx(expected)
    assert precision_recall(real, real) == (1, 1)
    with pytest.raises(UserError, match="neighbours=30 must be from 1 to 29"):
        precision_recall(real, generated, neighbours=30)
    with pytest.raises(UserError, match="generated: 1 images are too few"):
        precision_recall(real, generated[:1])
    assert density_coverage(real, generated[:1])[1] < 1


def test_duplicates_and_ties_are_inside(monkeypatch):
    monkeypatch.setattr(metrics, "_BLOCK", 16)
    some = gaussian(9, 40, 0, shift=2)
    copies = np.repeat(some, 5, axis=0), np.repeat(some[:4], 5, axis=0)  # with k = 3 all radii are 0
    assert by_blocks(*copies, 3) == pytest.approx((1, 4 / 9, 5 / 3, 4 / 9))
    integers = [np.random.default_rng(seed).integers(0, 3, (50, 40)).astype(np.float32) for seed in (0, 1)]
    for k in (3, 5):
        assert by_blocks(*integers, k) == pytest.approx(brute_force(*integers, k))
    constant = np.full((6, 3), 0.1)
    assert by_blocks(constant, constant, 3) == pytest.approx((1, 1, 2, 1))
    assert by_blocks(constant, constant + 1, 3) == (0, 0, 0, 0)


@pytest.mark.parametrize("count", [100, 400])  # 5 and 20 times the dimensions
def test_extrapolation_removes_the_bias_of_the_second_set(count):
    truth = np.zeros(20), np.eye(20)
    sets = [gaussian(count, 20, seed, shift=0.2) for seed in range(40)]  # the true distance is 20 * 0.04 = 0.8
    plain = np.mean([frechet_distance(*truth, *moments(features)) for features in sets])
    values, errors = np.transpose([fid_infinity(truth, features) for features in sets])
    assert plain - 0.8 > 80 / count
    assert abs(values.mean() - 0.8) < 0.3 * (plain - 0.8)
    assert 0.8 < errors.mean() / values.std() < 1.6
    with pytest.raises(UserError, match="19 images are too few"):
        fid_infinity(truth, sets[0][:19])
    with pytest.raises(UserError, match="points=2 must be 3 or more"):
        fid_infinity(truth, sets[0], points=2)


def test_the_interval_holds_the_mean_distance():
    truth, covered = (np.zeros(4), np.eye(4)), []
    mean = np.mean([frechet_distance(*truth, *moments(gaussian(100, 4, seed, shift=0.5))) for seed in range(300)])
    for seed in range(1000, 1100):
        low, high = fid_interval(truth, gaussian(100, 4, seed, shift=0.5), resamples=60)
        covered.append(low < mean < high)
    assert 0.85 <= np.mean(covered) <= 0.99  # nominally 0.95
    with pytest.raises(UserError, match="resamples=1 must be 2 or more"):
        fid_interval(truth, gaussian(100, 4, 0), resamples=1)


def test_few_resamplings_are_reflected_around_the_distance():
    truth, features = moments(gaussian(80, 3, 0)), gaussian(30, 3, 1)
    distance, random = metrics._weighted_distance(*truth, features), np.random.default_rng(2020)
    found = [distance(random.multinomial(30, np.full(30, 1 / 30))) for _ in range(40)]
    value = frechet_distance(*truth, *moments(features))
    low, high = np.mean(found) - np.quantile(found, (0.975, 0.025)) + value
    assert fid_interval(truth, features, resamples=40) == pytest.approx((low, high))


def test_fewer_images_than_dimensions_have_the_same_interval_formula():
    truth, features = moments(gaussian(80, 12, 0)), gaussian(9, 12, 1)
    distance = metrics._weighted_distance(*truth, features)
    assert distance(np.ones(9)) == pytest.approx(frechet_distance(*truth, *moments(features)), rel=1e-6)
    twice = np.array([2, 0, 1, 1, 1, 1, 1, 1, 1])
    repeated = np.repeat(features, twice, axis=0)
    assert distance(twice) == pytest.approx(frechet_distance(*truth, *moments(repeated)), rel=1e-6)


def test_features_that_are_no_numbers_are_named():
    good, bad = gaussian(30, 3, 0), gaussian(30, 3, 1)
    bad[3:5, 1] = np.nan
    with pytest.raises(UserError, match="features_b: 2 of 30 rows are not finite"):
        kernel_distance(good, bad, subset_size=10)
    with pytest.raises(UserError, match="generated: 2 of 30 rows are not finite"):
        precision_recall(good, bad)
    with pytest.raises(UserError, match="the sets have 3 and 2 dimensions"):
        precision_recall(good, good[:, :2])
    with pytest.raises(UserError, match=r"real must be \[n, d\], not of shape \[30\]"):
        density_coverage(good[:, 0], good)
    with pytest.raises(UserError, match="features_a: 1 images are too few: give 2 or more"):
        kernel_distance(good[:1], good)
    for wrong in ({"subsets": 0}, {"splits": 0}):
        with pytest.raises(UserError, match="=0 must be 1 or more"):
            kernel_distance(good, good, **wrong) if "subsets" in wrong else inception_score(good, **wrong)

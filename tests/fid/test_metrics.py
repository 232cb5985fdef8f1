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
    few, others = moments(gaussian(6, 40, 0, scale=5)), moments(gaussian(6, 40, 1, scale=5))
    assert abs(frechet_distance(*few, *few)) < 1e-6
    # scipy's root of a singular product, in twice the precision that its rounding costs.
    offset = 1e-9 * np.eye(40)
    root = scipy.linalg.sqrtm((few[1] + offset) @ (others[1] + offset)).real
    expected = np.sum((few[0] - others[0]) ** 2) + np.trace(few[1] + others[1] - 2 * root)
    assert frechet_distance(*few, *others) == pytest.approx(expected, rel=1e-4)


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


def test_neighbourhoods_are_those_of_brute_force(monkeypatch):
    monkeypatch.setattr(metrics, "_BLOCK", 8)  # 30 and 21 points do not fill their blocks
    real, generated = gaussian(30, 3, 0, shift=50).astype(np.float32), gaussian(21, 3, 1, shift=51)
    generated = generated.astype(np.float32)

    def radius(points, k):
        distances = np.linalg.norm(points[:, None] - points, axis=-1)
        return np.sort(distances, axis=1)[:, k]  # the nearest is the point itself

    between = np.linalg.norm(generated[:, None] - real, axis=-1)
    precision = (between <= radius(real, 3)).any(axis=1).mean()
    recall = (radius(generated, 3) >= between.T).any(axis=1).mean()
    assert precision_recall(real, generated) == pytest.approx((precision, recall))
    assert 0 < recall < 1
    inside = between <= radius(real, 5)
    expected = inside.sum() / 5 / 21, inside.any(axis=0).mean()
    assert density_coverage(real, generated) == pytest.approx(expected)
    assert precision_recall(real, real) == (1, 1)
    with pytest.raises(UserError, match="neighbours=30 must be from 1 to 29"):
        precision_recall(real, generated, neighbours=30)


def test_extrapolation_removes_the_bias_of_the_second_set():
    truth = np.zeros(20), np.eye(20)
    sets = [gaussian(400, 20, seed, shift=0.2) for seed in range(8)]  # the true distance is 20 * 0.04 = 0.8
    plain = np.mean([frechet_distance(*truth, *moments(features)) for features in sets])
    found = [fid_infinity(truth, features) for features in sets]
    assert plain - 0.8 > 0.2
    assert abs(np.mean([value for value, _ in found]) - 0.8) < 0.08
    assert all(0 < error < 0.1 for _, error in found)
    features = sets[0]
    with pytest.raises(UserError, match="19 images are too few"):
        fid_infinity(truth, features[:19])


def test_the_interval_holds_the_distances_of_other_samples():
    truth = np.zeros(4), np.eye(4)
    mean = np.mean([frechet_distance(*truth, *moments(gaussian(100, 4, seed, shift=0.5))) for seed in range(300)])
    intervals = [fid_interval(truth, gaussian(100, 4, 1000 + seed, shift=0.5), resamples=60) for seed in range(100)]
    covered = np.mean([low < mean < high for low, high in intervals])
    assert 0.85 <= covered <= 0.99  # nominally 0.95


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

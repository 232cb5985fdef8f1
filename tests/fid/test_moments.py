"""Streamed moments against those of all features at once."""

import jax
import numpy as np
import pytest

from inception_jax import UserError
from inception_jax.fid.moments import add_batch, merge, moments_of, no_moments, total_moments
from inception_jax.parallel import DataParallel


def close(found, expected):
    assert found.count == expected.count
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    scale = np.abs(expected.scatter).max()
    np.testing.assert_allclose(found.scatter, expected.scatter, rtol=0, atol=1e-12 * scale)


@pytest.fixture(scope="module")
def features():
    # A mean far from 0 would cost float32, or a sum of squares, its digits.
    return (1000 + np.random.default_rng(0).standard_normal((50, 5))).astype(np.float32)


def test_any_division_over_devices_gives_the_same(features):
    expected = moments_of(features)
    np.testing.assert_allclose(expected.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-9)
    for devices, size in ((1, 50), (1, 7), (2, 8), (4, 16), (4, 4)):
        parallel = DataParallel(devices=jax.devices()[:devices])
        partial = no_moments(parallel, 5)
        for start in range(0, 50, size):
            part = features[start : start + size]
            padded = np.full((size, 5), np.nan, np.float32)  # padding may hold anything
            padded[: len(part)] = part
            valid = jax.device_put(np.arange(size) < len(part), parallel.split)
            partial = add_batch(parallel, partial, jax.device_put(padded, parallel.split), valid)
        close(total_moments(partial), expected)
        assert jax.numpy.zeros(1).dtype == np.float32  # float64 stays inside


def test_merging_is_exact_in_any_order(features):
    parts = [moments_of(features[:3]), moments_of(features[3:20]), moments_of(features[20:])]
    close(merge(parts), moments_of(features))
    close(merge(parts[::-1]), moments_of(features))
    close(merge([moments_of(features[:0]), *parts]), moments_of(features))


def test_one_image_has_no_covariance(features):
    with pytest.raises(UserError, match="1 image have no covariance: give two or more"):
        moments_of(features[:1]).covariance  # noqa: B018

"""Augmentation: each operation beside an independent reference, and every chance that of the example alone."""

import colorsys
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from inception_jax.data import augment
from inception_jax.data.augment import distort_colours, draw_distortions, gcn
from inception_jax.data.dataset_stats import contrast_normalised
from inception_jax.errors import UserError
from tests.values import preprocessing

KEY = jax.random.key(3)


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def indices(count):
    return np.arange(count, dtype=np.uint32)


def train(images, index, dataset_stats=None, **options):
    """What `Preprocessing.train` makes of the images."""
    return np.asarray(compiled("train", **options)(images, index, KEY, dataset_stats or {}))


def mix(images, index, **options):
    """What `Preprocessing.mix` makes of the images, and lambda."""
    return map(np.asarray, compiled("mix", **options)(images, index, KEY))


@functools.cache
def compiled(method, **options):
    return jax.jit(getattr(preprocessing(**options), method))


def keys(count):
    return jax.vmap(jax.random.fold_in, (None, 0))(KEY, indices(count))


def test_normalisation():
    pixel = np.array([[[[255, 90, 8]]]], np.uint8)
    for augmentation in ({}, {"flip": True, "randaugment": 2, "photometric": "slim", "shift": 1}):
        plain = preprocessing(mean=(127.5, 100.0, 0.0), std=(127.5, 1.0, 2.0), **augmentation)
        np.testing.assert_array_equal(plain.evaluate(pixel, {})[0, 0, 0], [1.0, -10.0, 4.0])


def test_flips_are_those_of_published_results():
    images, index = random_images(64, 1, 4, 3), indices(64) + 7
    flips = np.array([jax.random.bernoulli(jax.random.fold_in(KEY, i)) for i in index])
    assert 16 < flips.sum() < 48
    expected = np.where(flips[:, None, None, None], images[:, :, ::-1], images)
    np.testing.assert_array_equal(train(images, index, flip=True), expected)
    np.testing.assert_array_equal(train(images[10:20], index[10:20], flip=True), expected[10:20])


COLOURS = {"colour_values": np.array([14143.0, 1222.0, 293.0], np.float32), "colour_vectors": np.eye(3, dtype="f4")}


def test_an_example_does_not_depend_on_its_batch():
    options = {"flip": True, "randaugment": 1, "photometric": "slim", "pca_noise": 0.1, "whitening": "gcn", "shift": 2}
    images, index = random_images(8, 9, 7, 3), indices(8) * 1000
    whole = train(images, index, COLOURS, **options)
    same = np.array([5] * 6 + [6, 1])
    again = train(images[same], np.r_[index[:6], index[6], index[1]], COLOURS, **options)
    np.testing.assert_array_equal(again[5:], whole[[5, 6, 1]])
    assert len(np.unique(again[:6], axis=0)) == 6


def test_an_operation_does_not_change_what_others_draw():
    images, index = random_images(16, 6, 6, 3), indices(16)
    others = {"flip": True, "pca_noise": 0.1, "shift": 3}
    without = train(images, index, COLOURS, **others)
    neutral = {"photometric": "slim_fast", "photometric_strength": 0.0}
    np.testing.assert_allclose(train(images, index, COLOURS, **others, **neutral), without, atol=1e-3)


# Colours. The reference works pixel by pixel, with Python's colorsys.


def adjust_hsv(image, change):
    def pixel(rgb):
        # TensorFlow's saturation, and its hue on a GPU, is 0 where no channel is positive.
        h, s, v = colorsys.rgb_to_hsv(*rgb) if max(rgb) > 0 else (0.0, 0.0, max(rgb))
        return colorsys.hsv_to_rgb(*change(h, s, v))

    return np.array([[pixel(rgb) for rgb in row] for row in image.astype(float)])


def distortions(brightness, saturation, hue, contrast):
    return {
        "brightness": lambda x: x + brightness,
        "saturation": lambda x: adjust_hsv(x, lambda h, s, v: (h, min(max(s * saturation, 0), 1), v)),
        "hue": lambda x: adjust_hsv(x, lambda h, s, v: ((h + hue) % 1, s, v)),
        "contrast": lambda x: (x - x.mean(axis=(0, 1))) * contrast + x.mean(axis=(0, 1)),
    }


# distort_color of tf-slim's inception_preprocessing.py
ORDERS = (
    ("brightness", "saturation", "hue", "contrast"),
    ("saturation", "brightness", "contrast", "hue"),
    ("contrast", "hue", "brightness", "saturation"),
    ("hue", "saturation", "contrast", "brightness"),
)


@jax.jit
def in_all_orders(image, *draws):
    return jax.vmap(lambda order: distort_colours(image, order, *draws))(jnp.arange(4))


def test_distortions_in_each_of_slims_orders():
    image = random_images(8, 8, 3).astype(np.float32) / 255
    image[0, :3] = [[0, 0, 0], [1, 1, 1], [0.05, 0.02, 0.02]]  # leave [0, 1] on the way
    for draws in ((0.11, 1.4, -0.17, 0.6), (-0.12, 0.55, 0.2, 1.45), (-0.1, 1.5, 0.1, 1.5)):
        adjust = distortions(*draws)
        ours = in_all_orders(image, *draws)
        results = []
        for order, names in enumerate(ORDERS):
            expected = image
            for name in names:
                expected = adjust[name](expected)
            results.append(expected.clip(0, 1))
            np.testing.assert_allclose(ours[order], results[-1], atol=2e-6, err_msg=f"{draws} {order}")
        for a, b in itertools.combinations(results, 2):
            assert np.abs(a - b).max() > 1e-4


def test_fast_distortions():
    image = random_images(8, 8, 3).astype(np.float32) / 255
    adjust = distortions(-0.12, 1.5, None, None)
    brightness_first = adjust["saturation"](adjust["brightness"](image)).clip(0, 1)
    saturation_first = adjust["brightness"](adjust["saturation"](image)).clip(0, 1)
    assert np.abs(brightness_first - saturation_first).max() > 0.01
    ours = in_all_orders(image, -0.12, 1.5, None, None)
    for order in range(4):
        np.testing.assert_allclose(ours[order], saturation_first if order else brightness_first, atol=2e-6)


def test_one_distortion_alone():
    image = random_images(8, 8, 3).astype(np.float32) / 255
    neutral, values = (0.0, 1.0, 0.0, 1.0), (0.1, 0.6, 0.2, 0.7)  # which stay in the range of HSV
    for place, name in enumerate(("brightness", "saturation", "hue", "contrast")):
        draws = [values[i] if i == place else neutral[i] for i in range(4)]
        expected = distortions(*draws)[name](image).clip(0, 1)
        for ours in in_all_orders(image, *draws):
            np.testing.assert_allclose(ours, expected, atol=2e-6, err_msg=name)


def test_distortions_are_drawn_uniformly():
    draws = jax.device_get(jax.vmap(lambda key: draw_distortions(key, 0.5, fast=False))(keys(4000)))
    # Half of slim's ranges.
    ranges = {"brightness": (-16 / 255, 16 / 255), "saturation": (0.75, 1.25), "hue": (-0.1, 0.1)}
    ranges["contrast"] = (0.75, 1.25)
    for name, (low, high) in ranges.items():
        assert stats.kstest(draws[name], stats.uniform(low, high - low).cdf).pvalue > 0.01
        np.testing.assert_allclose([draws[name].min(), draws[name].max()], [low, high], atol=0.005 * (high - low))
    assert stats.chisquare(np.bincount(draws["order"])).pvalue > 0.01
    assert len(np.bincount(draws["order"])) == 4
    assert np.abs(np.corrcoef([draws[name] for name in ("order", *ranges)]) - np.eye(5)).max() < 0.06
    fast = draw_distortions(KEY, 1.0, fast=True)
    assert (fast["hue"], fast["contrast"]) == (None, None)


def test_training_images_are_distorted():
    images, index = random_images(3, 8, 8, 3), indices(3)
    for photometric in ("slim", "slim_fast"):
        results = train(images, index, photometric=photometric)
        for image, i, result in zip(images, index, results, strict=True):
            key = jax.random.fold_in(jax.random.fold_in(KEY, i), 2)
            order, *draws = draw_distortions(key, 1.0, photometric == "slim_fast").values()
            expected = 255 * in_all_orders(image / np.float32(255), *draws)[order]
            np.testing.assert_allclose(result, expected, atol=1e-3, err_msg=photometric)


def test_colour_noise_is_along_the_components():
    # ImageNet's, see `pca_noise`; columns are the components.
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], "f4")
    dataset_stats = {"colour_values": 255**2 * np.array([0.2175, 0.0188, 0.0045], "f4"), "colour_vectors": vectors}
    noise = np.asarray(augment.pca_noise(keys(4000), 0.1, dataset_stats))
    along = noise @ vectors
    for values, std in zip(along.T, (11.9, 3.5, 1.7), strict=True):
        assert stats.kstest(values, stats.norm(0, std).cdf).pvalue > 0.01
    assert np.abs(np.corrcoef(along.T) - np.eye(3)).max() < 0.05
    images = random_images(3, 4, 4, 3)
    added = train(images, indices(3), dataset_stats, pca_noise=0.1) - images
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-4)
    assert len(np.unique(added[:, 0, 0].round(3), axis=0)) == 3


def test_grey():
    image = np.array([[[[10, 20, 250]]]], np.uint8)
    grey = preprocessing(mean=(100.0, 50.0, 10.0), std=(2.0, 4.0, 6.0), channels=1).evaluate(image, {})
    assert grey.shape == (1, 1, 1, 1)
    luma = lambda r, g, b: 0.299 * r + 0.587 * g + 0.114 * b  # noqa: E731
    np.testing.assert_allclose(grey[0, 0, 0], [(luma(10, 20, 250) - luma(100, 50, 10)) / luma(2, 4, 6)], rtol=1e-6)


def test_global_contrast_normalisation():
    images = random_images(4, 6, 5, 3)
    images[1] = images[1] // 64 + 100  # little contrast
    images[2] = [13, 14, 200]
    images[3] = 77
    for channels, norms in ((3, (55, 55, 55, 0)), (1, (55, 55, 0, 0))):
        ours = np.asarray(preprocessing(channels=channels, whitening="gcn").evaluate(images, {}))
        assert ours.shape == (4, 6, 5, channels)
        np.testing.assert_allclose(ours.mean(axis=(1, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(np.sqrt(np.square(ours).sum(axis=(1, 2, 3))), norms, rtol=1e-6)
        np.testing.assert_allclose(ours.reshape(4, -1), contrast_normalised(images, channels), atol=1e-4)


def test_large_images_of_one_colour_have_no_contrast():
    images = np.full((1, 200, 200, 3), 0.1, np.float32)  # whose sum is rounded
    np.testing.assert_array_equal(gcn(images), 0)


def test_whitening_makes_pixels_uncorrelated():
    rng = np.random.default_rng(0)
    images = (rng.uniform(0, 200, (400, 1, 1, 1)) + rng.uniform(0, 50, (400, 2, 3, 3))).astype(np.uint8)
    normalised = contrast_normalised(images, 3)
    values, vectors = np.linalg.eigh(np.cov(normalised.T, bias=True))
    dataset_stats = {
        "whitening_mean": normalised.mean(axis=0).astype(np.float32),
        "whitening_matrix": ((vectors / np.sqrt(values + 1e-4)) @ vectors.T).astype(np.float32),
    }
    ours = np.asarray(preprocessing(whitening="gcn_zca").evaluate(images, dataset_stats)).reshape(400, -1)
    # All that is left out is the common brightness, which contrast normalisation took away.
    np.testing.assert_allclose(np.cov(ours.T, bias=True), np.eye(18) - 1 / 18, atol=1e-3)
    np.testing.assert_allclose(
        ours, (normalised - dataset_stats["whitening_mean"]) @ dataset_stats["whitening_matrix"], atol=1e-3
    )


def test_shifts():
    images = random_images(1, 4, 6, 3) + 1.0  # nowhere 0
    shifted = train(np.repeat(images, 400, axis=0), indices(400), shift=2)
    padded = np.pad(images[0], ((2, 2), (2, 2), (0, 0)))
    windows = np.array([padded[top : top + 4, left : left + 6] for top in range(5) for left in range(5)])
    matches = (shifted[:, None] == windows).all(axis=(2, 3, 4))
    np.testing.assert_array_equal(matches.sum(axis=1), 1)
    assert stats.chisquare(matches.sum(axis=0)).pvalue > 0.01
    # After normalisation: what is moved in is 0, not black.
    black = train(np.zeros((8, 4, 6, 3), np.uint8), indices(8), shift=2, mean=(9.0,) * 3)
    assert set(np.unique(black)) == {0, -9}


def numbered(count, height, width):
    """Images whose pixels are their numbers."""
    return np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, height, width, 1))


def test_mixup():
    images = np.random.default_rng(0).normal(size=(2000, 9, 14, 1)).astype(np.float32)
    assert preprocessing(mixup=0.3).mixes
    assert not preprocessing().mixes
    mixed, lambda_ = mix(images, indices(2000), mixup=0.3)
    assert stats.kstest(lambda_, stats.beta(0.3, 0.3).cdf).pvalue > 0.01
    partners, weight = images[np.arange(2000) ^ 1], lambda_[:, None, None, None]
    np.testing.assert_allclose(mixed, weight * images + (1 - weight) * partners, atol=1e-5)


def test_cutmix():
    height, width = 9, 14
    images = numbered(2000, height, width)
    assert preprocessing(cutmix=1.0).mixes
    mixed, lambda_ = mix(images, indices(2000), cutmix=1.0)
    own, partners = (mixed == images)[..., 0], (mixed == images[np.arange(2000) ^ 1])[..., 0]
    np.testing.assert_array_equal(own, ~partners)
    np.testing.assert_allclose(lambda_, own.mean(axis=(1, 2)), rtol=1e-6)
    rows, columns = partners.any(axis=2), partners.any(axis=1)
    np.testing.assert_array_equal(partners, rows[:, :, None] & columns[:, None])
    for side in (rows, columns):  # without gaps
        assert (np.abs(np.diff(side.astype(int), axis=1)).sum(axis=1) <= 2).all()

    # The published code draws boxes of the same sizes.
    rng = np.random.default_rng(0)
    expected = []
    for drawn in rng.beta(1.0, 1.0, 4000):
        covered = 1
        for length in (height, width):
            half, centre = int(length * np.sqrt(1 - drawn)) // 2, rng.integers(length)
            covered *= min(centre + half, length) - max(centre - half, 0)
        expected.append(covered)
    assert stats.ks_2samp(partners.sum(axis=(1, 2)), expected).pvalue > 0.01


def test_mixup_or_cutmix():
    images, index = numbered(2000, 9, 14), indices(2000)
    blended, blended_lambda = mix(images, index, mixup=0.3)
    cut, cut_lambda = mix(images, index, cutmix=1.0)
    mixed, lambda_ = mix(images, index, mixup=0.3, cutmix=1.0)
    is_blended, is_cut = ((mixed == images).all(axis=(1, 2, 3)) for images in (blended, cut))
    is_blended, is_cut = is_blended & (lambda_ == blended_lambda), is_cut & (lambda_ == cut_lambda)
    assert (is_blended | is_cut).all()
    assert stats.binomtest(int((is_cut & ~is_blended).sum()), int((is_cut ^ is_blended).sum())).pvalue > 0.01


def test_a_pair_does_not_depend_on_its_batch():
    images, index = numbered(2000, 9, 14), indices(2000)
    options = {"mixup": 0.3, "cutmix": 1.0}
    whole, _ = mix(images, index, **options)
    places = np.r_[10:20, 0:1990]
    part, _ = mix(images[places], np.r_[index[10:20], index[:10], index[:10] + 7000, index[10:1980]], **options)
    np.testing.assert_array_equal(part[:20], whole[np.r_[10:20, 0:10]])


def test_pairs_need_an_even_number():
    with pytest.raises(ValueError, match="even number of images on each device, not 3"):
        preprocessing(mixup=0.2).mix(jnp.zeros((3, 4, 4, 3)), indices(3), KEY)


def test_unknown_choices_are_refused():
    with pytest.raises(UserError, match="^photometric='fast' is not one of none, slim, slim_fast"):
        preprocessing(photometric="fast")
    with pytest.raises(UserError, match="^whitening='zca' is not one of none, gcn, gcn_zca"):
        preprocessing(whitening="zca")

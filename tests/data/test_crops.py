import io
import random

import numpy as np
import pytest
from PIL import Image

from inception_jax.data import crops
from inception_jax.data.crops import random_area_crop, resize_and_central_crop, sample_box
from inception_jax.data.decoding import PlainJpeg, decode_image, open_image
from inception_jax.errors import UserError


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def triangle_resize(image, height, width):
    """Antialiased bilinear resampling in floating point, written from its definition."""

    def weights(source, target):
        scale = source / target
        centres = (np.arange(target) + 0.5) * scale
        distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / max(scale, 1)
        triangle = np.maximum(0, 1 - distance)
        return triangle / triangle.sum(axis=1, keepdims=True)

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("yh,xw,hwc->yxc", rows, columns, image.astype(np.float64), optimize=True)


def assert_close(actual, expected):
    """Equal but for rounding to 8 bits, once for each axis."""
    assert actual.dtype == np.uint8
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1.01


@pytest.mark.parametrize("shape", [(37, 50), (50, 37), (40, 40), (9, 11), (1, 30)])
def test_random_area_crop_resizes_the_sampled_box(shape):
    image = picture(*shape)
    for seed in range(5):
        top, left, height, width = sample_box(*shape, random.Random(seed), (0.08, 1.0), (3 / 4, 4 / 3))
        expected = triangle_resize(image[top : top + height, left : left + width], 24, 24)
        assert_close(random_area_crop(image, random.Random(seed), 24), expected)


def test_random_area_crop_depends_on_the_generator_alone():
    image = picture(60, 80)
    rng = random.Random(3)
    first, second = random_area_crop(image, rng, 16), random_area_crop(image, rng, 16)
    np.testing.assert_array_equal(first, random_area_crop(image, random.Random(3), 16))
    assert (first != second).any()


def test_random_area_crop_of_the_whole_square_is_the_image():
    image = picture(32, 32)
    crop = random_area_crop(image, random.Random(0), 32, area=(1, 1), aspect=(1, 1))
    np.testing.assert_array_equal(crop, image)


def boxes(height, width, area, aspect, count=4000):
    rng = random.Random(0)
    return np.array([sample_box(height, width, rng, area, aspect) for _ in range(count)]).T


def test_boxes_keep_to_the_image_and_to_the_ranges():
    top, left, height, width = boxes(300, 400, (0.08, 1.0), (3 / 4, 4 / 3))
    assert min(top.min(), left.min()) == 0
    assert ((top + height) <= 300).all()
    assert ((left + width) <= 400).all()
    share, ratio = height * width / (300 * 400), width / height
    assert 0.078 < share.min() < 0.09  # sides are rounded to whole pixels
    assert 0.9 < share.max() <= 1
    assert 0.74 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.35


def test_boxes_are_uniform_in_area_in_log_aspect_and_in_position():
    # On a square image boxes of at most 20 % with these aspects always fit, so nothing is drawn twice.
    top, left, height, width = boxes(1000, 1000, (0.1, 0.2), (1 / 4, 4))
    quartiles = np.quantile(height * width / 1e6, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, [0.125, 0.15, 0.175], atol=0.003)
    quartiles = np.quantile(np.log(width / height) / np.log(4), [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, [-0.5, 0, 0.5], atol=0.05)
    for start, length in ((top, height), (left, width)):
        quartiles = np.quantile(start / (1000 - length), [0.25, 0.5, 0.75])
        np.testing.assert_allclose(quartiles, [0.25, 0.5, 0.75], atol=0.03)


@pytest.mark.parametrize(
    ("shape", "aspect", "box"),
    [
        ((10, 1000), (3 / 4, 4 / 3), (0, 493, 10, 13)),  # 10 * 4 / 3 = 13.3 wide, (1000 - 13) // 2 from the left
        ((1000, 10), (3 / 4, 4 / 3), (493, 0, 13, 10)),
        ((100, 121), (1, 1), (0, 10, 100, 100)),
        ((100, 121), (1.3, 4 / 3), (3, 0, 93, 121)),  # taller than allowed: 121 / 1.3 = 93.1 high
        ((5, 1), (3, 4), (2, 0, 1, 1)),  # never less than a pixel
    ],
)
def test_box_that_never_fits_is_central_and_clamped_to_the_aspects(shape, aspect, box):
    assert sample_box(*shape, random.Random(0), (1, 1), aspect) == box


@pytest.mark.parametrize(
    ("shape", "size", "resize", "resized", "offset"),
    [
        ((37, 50), 22, 26, (26, 35), (2, 6)),  # 26 * 50 / 37 = 35.1; (35 - 22) / 2 = 6.5, to the even 6
        ((50, 37), 22, 26, (35, 26), (6, 2)),
        ((37, 53), 22, 26, (26, 37), (2, 8)),  # 26 * 53 / 37 = 37.2; (37 - 22) / 2 = 7.5, to the even 8
        ((40, 40), 21, 32, (32, 32), (6, 6)),
        ((5, 7), 8, 12, (12, 16), (2, 4)),  # enlarged; 12 * 7 / 5 = 16.8
        ((31, 64), 31, 31, (31, 64), (0, 16)),  # a plain crop; (64 - 31) / 2 = 16.5
        ((1, 9), 6, 6, (6, 54), (0, 24)),
        ((375, 500), 28, 32, (32, 42), (2, 7)),
    ],
)
def test_resize_and_central_crop_is_the_two_steps(shape, size, resize, resized, offset):
    image = picture(*shape)
    top, left = offset
    expected = triangle_resize(image, *resized)[top : top + size, left : left + size]
    assert_close(resize_and_central_crop(image, size, resize), expected)


def test_resize_and_central_crop_without_resizing_is_exact():
    image = picture(31, 64)
    np.testing.assert_array_equal(resize_and_central_crop(image, 21, 31), image[5:26, 22:43])  # 21.5 to the even 22


def test_crop_larger_than_the_resized_image_is_refused():
    with pytest.raises(UserError, match="224 x 224 crop from an image resized to 200: make resize at least 224"):
        resize_and_central_crop(picture(300, 300), 224, 200)


def photo(height, width, seed=0):
    """Noise at all scales, its amplitude inverse to the frequency, as in photographs."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128.0)
    for cells, deviation in ((3, 30), (6, 25), (12, 20), (24, 16), (48, 12), (96, 9), (192, 7)):
        noise = rng.normal(0, deviation, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            coarse = Image.fromarray(noise[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            pixels[..., channel] += np.asarray(coarse)
    return pixels.clip(0, 255).astype(np.uint8)


def jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **{"quality": 92, **options})
    opened = open_image(file.getvalue(), "x")
    assert isinstance(opened, PlainJpeg)
    return opened, decode_image(file.getvalue(), "x")


@pytest.mark.parametrize(
    ("shape", "size", "mean", "most"),
    [
        ((60, 80), 96, 0.35, 1),  # always enlarged: only the rounding differs
        ((60, 80), 48, 1, 8),
        ((120, 160), 96, 1, 8),
        ((257, 190), 112, 1, 8),
        ((180, 240), 48, 1, 12),  # shrinks to a fifth at most: also in the frequency domain
        ((600, 450), 48, 1, 12),
        ((5, 7), 8, 0.35, 1),
        ((1, 1), 4, 0, 0),
    ],
)
def test_the_crop_of_a_jpeg_is_near_that_of_its_pixels(shape, size, mean, most):
    for seed in range(12):
        encoded, pixels = jpeg(photo(*shape, seed), progressive=seed % 4 == 3, subsampling=("4:2:0", "4:4:4")[seed % 2])
        fast = random_area_crop(encoded, random.Random(seed), size)
        plain = random_area_crop(pixels, random.Random(seed), size)
        error = np.abs(fast.astype(int) - plain)
        assert error.mean() <= mean, seed
        assert error.max() <= most, seed


@pytest.mark.parametrize("shrink", [1, 2])
def test_smoothing_makes_the_very_filter_where_the_box_keeps_or_halves_its_size(shrink, monkeypatch):
    monkeypatch.setattr(crops, "sample_box", lambda *_: (8, 16, 32 * shrink, 32 * shrink))
    encoded, pixels = jpeg(picture(96, 100))
    fast, plain = (random_area_crop(x, random.Random(0), 32).astype(int) for x in (encoded, pixels))
    assert np.abs(fast - plain)[1:-1, 1:-1].max() <= 2 * (shrink - 1)  # rounded more often


@pytest.mark.parametrize("box", [(8, 16, 24, 32), (8, 16, 40, 48)])
def test_pixels_outside_the_box_have_no_influence(box, monkeypatch):
    """Of images that differ only outside the box, which is made of whole blocks."""
    monkeypatch.setattr(crops, "sample_box", lambda *_: box)
    top, left, height, width = box
    inside, outside = picture(64, 80, seed=1), picture(64, 80, seed=2)
    outside[top : top + height, left : left + width] = inside[top : top + height, left : left + width]
    results = [random_area_crop(jpeg(x, subsampling="4:4:4")[0], random.Random(0), 28) for x in (inside, outside)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("side", [100, 260])
def test_boxes_at_the_corners(corner, side, monkeypatch):
    height, width = 301, 403
    top, left = corner[0] * (height - side), corner[1] * (width - side)
    monkeypatch.setattr(crops, "sample_box", lambda *_: (top, left, side, side))
    encoded, pixels = jpeg(photo(height, width))
    fast, plain = (random_area_crop(x, random.Random(0), 56).astype(int) for x in (encoded, pixels))
    assert np.abs(fast - plain).mean() < 1
    assert np.abs(fast - plain).max() <= 12


@pytest.mark.parametrize("shape", [(60, 80), (301, 200), (33, 33), (9, 7), (1, 1), (17, 400)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}])
def test_the_evaluation_crop_of_a_jpeg_is_that_of_its_pixels(shape, options):
    encoded, pixels = jpeg(photo(*shape), **options)
    for size, resize in ((28, 32), (28, 28), (20, 32)):
        expected = resize_and_central_crop(pixels, size, resize)
        np.testing.assert_array_equal(resize_and_central_crop(encoded, size, resize), expected)


@pytest.mark.parametrize("kind", ["pixels", "encoded"])
def test_crops_are_written_where_they_belong(kind):
    encoded, pixels = jpeg(photo(90, 120))
    image = encoded if kind == "encoded" else pixels
    for crop in (
        lambda **out: random_area_crop(image, random.Random(5), 32, **out),
        lambda **out: random_area_crop(image, random.Random(5), 200, **out),
        lambda **out: resize_and_central_crop(image, 32, 40, **out),
    ):
        expected = crop()
        batch = np.full((3, *expected.shape), 7, np.uint8)
        crop(out=batch[1])
        np.testing.assert_array_equal(batch[1], expected)
        assert (batch[[0, 2]] == 7).all()

import dataclasses
import functools
import io
import itertools
import random

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from inception_jax.data import crops
from inception_jax.data.crops import (
    METHODS,
    CropConfig,
    random_area_crop,
    random_window,
    resize_and_central_crop,
    sample_box,
)
from inception_jax.data.decoding import PlainJpeg, decode_image, open_image
from inception_jax.errors import UserError
from tests.values import crop_config

AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)


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


def area_crop(image, rng, size, **options):
    return random_area_crop(image, rng, size, AREA, ASPECT, **options)


def assert_close(actual, expected, case=""):
    """Equal but for rounding to 8 bits, once for each axis."""
    assert actual.dtype == np.uint8, case
    assert actual.shape == expected.shape, case
    assert np.abs(actual - expected).max() <= 1.01, case


def test_random_area_crop_resizes_the_sampled_box():
    for shape in ((37, 50), (50, 37), (40, 40), (9, 11), (1, 30)):
        image = picture(*shape)
        for seed in range(5):
            top, left, height, width = sample_box(*shape, random.Random(seed), AREA, ASPECT)
            expected = triangle_resize(image[top : top + height, left : left + width], 24, 24)
            assert_close(area_crop(image, random.Random(seed), 24), expected, (shape, seed))


def test_random_area_crop_depends_on_the_generator_alone():
    image = picture(60, 80)
    rng = random.Random(3)
    first, second = area_crop(image, rng, 16), area_crop(image, rng, 16)
    np.testing.assert_array_equal(first, area_crop(image, random.Random(3), 16))
    assert (first != second).any()


def test_random_area_crop_of_the_whole_square_is_the_image():
    image = picture(32, 32)
    crop = random_area_crop(image, random.Random(0), 32, area=(1, 1), aspect=(1, 1))
    np.testing.assert_array_equal(crop, image)


def boxes(height, width, area, aspect, count=4000):
    rng = random.Random(0)
    return np.array([sample_box(height, width, rng, area, aspect) for _ in range(count)]).T


def test_boxes_keep_to_the_image_and_to_the_ranges():
    top, left, height, width = boxes(300, 400, AREA, ASPECT)
    assert min(top.min(), left.min()) == 0
    assert ((top + height) <= 300).all()
    assert ((left + width) <= 400).all()
    fraction, ratio = height * width / (300 * 400), width / height
    assert 0.078 < fraction.min() < 0.09  # sides are rounded to whole pixels
    assert 0.9 < fraction.max() <= 1
    assert 0.74 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.35


def test_a_box_that_never_fits_is_central_and_clamped_to_the_aspects():
    for shape, aspect, box in (
        ((10, 1000), ASPECT, (0, 493, 10, 13)),  # 10 * 4 / 3 = 13.3 wide, (1000 - 13) // 2 from the left
        ((1000, 10), ASPECT, (493, 0, 13, 10)),
        ((100, 121), (1, 1), (0, 10, 100, 100)),
        ((100, 121), (1.3, 4 / 3), (3, 0, 93, 121)),  # taller than allowed: 121 / 1.3 = 93.1 high
        ((5, 1), (3, 4), (2, 0, 1, 1)),  # never less than a pixel
    ):
        assert sample_box(*shape, random.Random(0), (1, 1), aspect) == box


def test_boxes_follow_their_distributions():
    """Area, log of the aspect and position are uniform and independent.

    The image is so large that whole pixels do not matter, and boxes of at most 20 % of a square always fit.
    """
    top, left, height, width = boxes(20_000, 20_000, (0.1, 0.2), (1 / 4, 4))
    draws = {
        "area": (height * width / 4e8 - 0.1) / 0.1,
        "aspect": np.log(width / height) / np.log(16) + 0.5,
        "top": top / (20_001 - height),
        "left": left / (20_001 - width),
    }
    for what, values in draws.items():
        assert stats.kstest(values, "uniform").pvalue > 0.01, what
    for a, b in (("area", "aspect"), ("area", "top"), ("aspect", "left"), ("top", "left")):
        assert abs(np.corrcoef(draws[a], draws[b])[0, 1]) < 0.05, (a, b)


def test_a_bilinear_crop_draws_nothing_but_its_box():
    """So that earlier trainings are reproduced."""
    for image in jpeg(picture(40, 50)):
        rng, same = random.Random(7), random.Random(7)
        area_crop(image, rng, 16)
        sample_box(40, 50, same, AREA, ASPECT)
        assert rng.getstate() == same.getstate()


def test_mixed_interpolation_is_each_of_pillows_methods_equally_often():
    image = picture(13, 13)
    expected = [np.asarray(Image.fromarray(image).resize((8, 8), method)) for method in METHODS]
    assert len(set(METHODS)) == 4
    counts, rng = np.zeros(4, int), random.Random(0)
    for _ in range(1000):
        crop = random_area_crop(image, rng, 8, area=(1, 1), aspect=(1, 1), interpolation="mixed")
        counts += [np.array_equal(crop, one) for one in expected]
    assert counts.sum() == 1000
    assert stats.chisquare(counts).pvalue > 0.01


def test_a_mixed_crop_resizes_the_sampled_box(monkeypatch):
    for shape in ((37, 50), (50, 37), (9, 11), (301, 203)):
        encoded, pixels = jpeg(photo(*shape))
        for seed, method in enumerate(METHODS):
            monkeypatch.setattr(crops, "METHODS", (method,))
            top, left, height, width = sample_box(*shape, random.Random(seed), AREA, ASPECT)
            box = Image.fromarray(pixels[top : top + height, left : left + width])
            expected = np.asarray(box.resize((24, 24), method))
            np.testing.assert_array_equal(area_crop(pixels, random.Random(seed), 24, interpolation="mixed"), expected)
            fast = area_crop(encoded, random.Random(seed), 24, interpolation="mixed")
            bilinear = method == Image.Resampling.BILINEAR
            np.testing.assert_array_equal(
                fast, area_crop(encoded, random.Random(seed), 24) if bilinear else expected, err_msg=f"{shape} {method}"
            )


def windows_like(crop, image, shorter, method=Image.Resampling.BILINEAR):
    """Where in the whole image, resized by Pillow, the crop is to be found, within a level; and the resized shape."""
    height, width = (shorter * side // min(image.shape[:2]) for side in image.shape[:2])
    whole = np.asarray(Image.fromarray(image).resize((width, height), method)).astype(int)
    size = len(crop)
    views = np.lib.stride_tricks.sliding_window_view(whole, (size, size), axis=(0, 1))
    distances = np.abs(views - crop.transpose(2, 0, 1).astype(int)).max(axis=(2, 3, 4))
    return np.argwhere(distances <= 1).tolist(), (height, width)


def test_a_window_is_cut_from_the_resized_image():
    for shape, size, scale in (
        ((37, 50), 12, (16, 16)),
        ((50, 37), 12, (14, 18)),
        ((41, 41), 12, (12, 20)),
        ((5, 7), 12, (15, 17)),  # enlarged
        ((9, 64), 7, (9, 9)),  # not resized
        ((131, 97), 12, (12, 13)),
    ):
        for square in (False, True):
            image, rng, seen = picture(*shape), random.Random(1), set()
            for _ in range(12):
                crop = random_window(image, rng, size, scale, square=square)
                found = []
                for shorter in range(scale[0], scale[1] + 1):
                    places, resized = windows_like(crop, image, shorter)
                    found += [(shorter, top, left, *resized) for top, left in places]
                [(shorter, top, left, height, width)] = found
                seen.add((shorter, top, left))
                if square:
                    for start, side in ((top, height), (left, width)):
                        assert (side - shorter) // 2 <= start <= (side - shorter + 1) // 2 + shorter - size
            assert len(seen) > 1, (shape, square)


def test_a_mixed_window_is_cut_from_what_that_method_resizes(monkeypatch):
    for method in METHODS:
        monkeypatch.setattr(crops, "METHODS", (method,))
        for shape in ((37, 50), (53, 31), (5, 7)):
            image = picture(*shape)
            for seed in range(4):
                crop = random_window(image, random.Random(seed), 12, (17, 17), interpolation="mixed")
                places, _ = windows_like(crop, image, 17, method)
                assert places, (method, shape)  # several in an enlarged image


def test_the_window_of_a_jpeg_is_that_of_its_pixels(monkeypatch):
    for options in ({}, {"progressive": True}):
        for shape in ((61, 83), (83, 60), (9, 7)):
            encoded, pixels = jpeg(photo(*shape), **options)
            for seed, method in enumerate(2 * METHODS):
                monkeypatch.setattr(crops, "METHODS", (method,))
                for square in (False, True):
                    one, other = (
                        random_window(image, random.Random(seed), 20, (20, 34), interpolation="mixed", square=square)
                        for image in (encoded, pixels)
                    )
                    np.testing.assert_array_equal(one, other, err_msg=f"{options} {shape} {method} {square}")


def drawn_windows(monkeypatch, shape, size, scale, square, count):
    """Height and width of the resized image, top and left, of many draws."""
    draws = []
    monkeypatch.setattr(crops, "_resize_and_cut", lambda _, resized, *place: draws.append((*resized, *place[:2])))
    image, rng = np.zeros((*shape, 3), np.uint8), random.Random(0)
    for _ in range(count):
        random_window(image, rng, size, scale, square=square)
    return np.array(draws).T


def assert_uniform(values, least, most):
    assert (values.min(), values.max()) == (least, most)
    assert stats.chisquare(np.bincount(values - least)).pvalue > 0.01


def test_the_shorter_side_is_uniform(monkeypatch):
    for shape, square in itertools.product(((40, 61), (61, 40)), (False, True)):
        height, width, top, left = drawn_windows(monkeypatch, shape, 12, (12, 40), square, 4000)
        shorter = np.minimum(height, width)
        assert_uniform(shorter, 12, 40)
        np.testing.assert_array_equal(np.maximum(height, width), shorter * 61 // 40)
        assert min(top.min(), left.min()) == 0
        assert (top <= height - 12).all()
        assert (left <= width - 12).all()


def test_alexnets_windows_are_uniform_over_33_by_33_places_in_the_central_square(monkeypatch):
    height, width, top, left = drawn_windows(monkeypatch, (375, 500), 224, (256, 256), True, 20_000)
    assert set(zip(height.tolist(), width.tolist(), strict=True)) == {(256, 341)}
    assert_uniform(top, 0, 32)
    assert_uniform(left, 42, 42 + 32)  # (341 - 256) / 2 = 42.5, to the even 42
    assert_uniform(top * 33 + left - 42, 0, 33 * 33 - 1)


def test_vggs_windows_are_uniform_over_the_whole_image(monkeypatch):
    _, _, top, left = drawn_windows(monkeypatch, (375, 500), 224, (256, 256), False, 20_000)
    assert_uniform(top, 0, 32)
    assert_uniform(left, 0, 341 - 224)


def test_resize_and_central_crop_is_the_two_steps():
    for shape, size, resize, resized, offset in (
        ((37, 50), 22, 26, (26, 35), (2, 6)),  # 26 * 50 / 37 = 35.1; (35 - 22) / 2 = 6.5, to the even 6
        ((50, 37), 22, 26, (35, 26), (6, 2)),
        ((37, 53), 22, 26, (26, 37), (2, 8)),  # 26 * 53 / 37 = 37.2; (37 - 22) / 2 = 7.5, to the even 8
        ((40, 40), 21, 32, (32, 32), (6, 6)),
        ((5, 7), 8, 12, (12, 16), (2, 4)),  # enlarged; 12 * 7 / 5 = 16.8
        ((31, 64), 31, 31, (31, 64), (0, 16)),  # a plain crop; (64 - 31) / 2 = 16.5
        ((1, 9), 6, 6, (6, 54), (0, 24)),
        ((375, 500), 28, 32, (32, 42), (2, 7)),
    ):
        image = picture(*shape)
        top, left = offset
        expected = triangle_resize(image, *resized)[top : top + size, left : left + size]
        assert_close(resize_and_central_crop(image, size, resize), expected, (shape, size, resize))


def test_the_evaluation_crop_can_be_bicubic():
    """As timm's for TensorFlow's weights; the border of what is resampled differs by rounding from the whole image."""
    image = picture(37, 50)
    config = CropConfig(22, 26, (0.1, 1), (0.8, 1.2), "central", (26, 26), "bicubic", 2**20)
    found = np.empty((22, 22, 3), np.uint8)
    config.eval_crop(image, found)
    whole = np.asarray(Image.fromarray(image).resize((35, 26), Image.Resampling.BICUBIC))[2:24, 6:28].astype(int)
    assert np.abs(found - whole).max() <= 1
    bilinear = resize_and_central_crop(image, 22, 26).astype(int)
    assert np.abs(found - bilinear).max() > 3


def test_resize_and_central_crop_without_resizing_is_exact():
    image = picture(31, 64)
    np.testing.assert_array_equal(resize_and_central_crop(image, 21, 31), image[5:26, 22:43])  # 21.5 to the even 22


def test_an_image_smaller_than_the_crop_is_centred_on_black():
    for shape, size, resize, resized, source, target in (
        ((28, 28), 32, 28, (28, 28), (0, 0), (2, 2)),  # MNIST in LeNet-5's field
        ((28, 28), 33, 28, (28, 28), (0, 0), (2, 2)),  # (33 - 28) / 2 = 2.5, rounded down
        ((28, 40), 32, 28, (28, 40), (0, 4), (2, 0)),  # the longer side is cut
        ((41, 28), 32, 28, (41, 28), (4, 0), (0, 2)),  # at 4.5, to the even 4
        ((28, 30), 32, 28, (28, 30), (0, 0), (2, 1)),
        ((37, 50), 24, 20, (20, 27), (0, 2), (2, 0)),  # 20 * 50 / 37 = 27.03; (27 - 24) / 2 = 1.5, to the even 2
        ((7, 5), 24, 20, (28, 20), (2, 0), (0, 2)),
    ):
        image = picture(*shape)
        height, width = min(size, resized[0]), min(size, resized[1])
        whole = triangle_resize(image, *resized)
        expected = np.zeros((size, size, 3))
        inside = np.s_[target[0] : target[0] + height, target[1] : target[1] + width]
        expected[inside] = whole[source[0] : source[0] + height, source[1] : source[1] + width]
        crop = resize_and_central_crop(image, size, resize, np.full((size, size, 3), 77, np.uint8))
        assert_close(crop, expected, (shape, size, resize))
        outside = np.ones((size, size), bool)
        outside[inside] = False
        assert (crop[outside] == 0).all(), (shape, size, resize)


@functools.cache
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


def test_the_crop_of_a_jpeg_is_near_that_of_its_pixels():
    for shape, size, mean, most in (
        ((60, 80), 96, 0.35, 1),  # always enlarged: only the rounding differs
        ((60, 80), 48, 1, 8),
        ((120, 160), 96, 1, 8),
        ((257, 190), 112, 1, 8),
        ((180, 240), 48, 1, 12),  # shrinks to a fifth at most: also in the frequency domain
        ((600, 450), 48, 1, 12),
        ((5, 7), 8, 0.35, 1),
        ((1, 1), 4, 0, 0),
    ):
        for seed in range(8):
            options = {"progressive": seed % 4 == 3, "subsampling": ("4:2:0", "4:4:4")[seed % 2]}
            encoded, pixels = jpeg(photo(*shape, seed), **options)
            fast = area_crop(encoded, random.Random(seed), size)
            plain = area_crop(pixels, random.Random(seed), size)
            error = np.abs(fast.astype(int) - plain)
            assert error.mean() <= mean, (shape, size, seed)
            assert error.max() <= most, (shape, size, seed)


def test_smoothing_is_exact_where_the_box_keeps_or_halves_its_size(monkeypatch):
    encoded, pixels = jpeg(picture(96, 100))
    for shrink in (1, 2):
        monkeypatch.setattr(crops, "sample_box", lambda *_, side=32 * shrink: (8, 16, side, side))
        fast, plain = (area_crop(x, random.Random(0), 32).astype(int) for x in (encoded, pixels))
        assert np.abs(fast - plain)[1:-1, 1:-1].max() <= 2 * (shrink - 1)  # rounded more often


def test_pixels_outside_the_box_have_no_influence(monkeypatch):
    """For images that differ only outside the box, which is made of whole blocks."""
    for box in ((8, 16, 24, 32), (8, 16, 40, 48)):
        monkeypatch.setattr(crops, "sample_box", lambda *_, box=box: box)
        top, left, height, width = box
        inside, outside = picture(64, 80, seed=1), picture(64, 80, seed=2)
        outside[top : top + height, left : left + width] = inside[top : top + height, left : left + width]
        results = [area_crop(jpeg(x, subsampling="4:4:4")[0], random.Random(0), 28) for x in (inside, outside)]
        np.testing.assert_array_equal(*results)


def test_boxes_at_the_corners(monkeypatch):
    height, width = 301, 403
    encoded, pixels = jpeg(photo(height, width))
    for side, down, right in itertools.product((100, 260), (0, 1), (0, 1)):
        box = down * (height - side), right * (width - side), side, side
        monkeypatch.setattr(crops, "sample_box", lambda *_, box=box: box)
        fast, plain = (area_crop(x, random.Random(0), 56).astype(int) for x in (encoded, pixels))
        assert np.abs(fast - plain).mean() < 1, box
        assert np.abs(fast - plain).max() <= 12, box


def test_the_evaluation_crop_of_a_jpeg_is_that_of_its_pixels():
    for options in ({}, {"progressive": True}, {"subsampling": "4:4:4"}):
        for shape in ((60, 80), (301, 200), (33, 33), (9, 7), (1, 1), (17, 400)):
            encoded, pixels = jpeg(photo(*shape), **options)
            for size, resize in ((28, 32), (28, 28), (20, 32), (32, 28)):
                one, other = (resize_and_central_crop(image, size, resize) for image in (encoded, pixels))
                np.testing.assert_array_equal(one, other, err_msg=f"{options} {shape} {size} {resize}")


def test_crops_are_written_where_they_belong():
    for image in jpeg(photo(90, 120)):
        for crop, *arguments in (
            (area_crop, 32),
            (area_crop, 200),
            (functools.partial(area_crop, interpolation="mixed"), 32),
            (random_window, 32, (40, 50)),
            (lambda image, _, size, **out: resize_and_central_crop(image, size, 40, **out), 32),
        ):
            expected = crop(image, random.Random(5), *arguments)
            batch = np.full((3, *expected.shape), 7, np.uint8)
            crop(image, random.Random(5), *arguments, out=batch[1])
            np.testing.assert_array_equal(batch[1], expected)
            assert (batch[[0, 2]] == 7).all()


def test_an_impossible_crop_is_refused():
    for changes, message in (
        ({"crop": "scale", "scale": (200, 256)}, r"scale=\(200, 256\) must not be less than the image size of 224, "),
        ({"crop": "square", "scale": (223, 223)}, "because crop='square' cuts windows of 224 x 224 pixels"),
        ({"crop": "centre"}, "^crop='centre' is not one of area, scale, square, central"),
        ({"interpolation": "cubic"}, "^interpolation='cubic' is not one of bilinear, mixed"),
    ):
        with pytest.raises(UserError, match=message):
            crop_config(224, 256, **changes)
    crop_config(224, 200, crop="area", scale=(1, 1))  # which has no scale


def test_boxes_of_the_crop_in_the_image():
    for boxes, shape, size, resize, expected in (
        # Resized to 50 x 100, of which columns 25 to 74 are kept; a pixel of the crop is 2 x 2 of the image.
        ([0, 0, 49, 49], (100, 200), 50, 50, [50, 0, 149, 99]),
        ([0, 0, 0, 0], (100, 200), 50, 50, [50, 0, 51, 1]),
        ([10, 20, 11, 29], (100, 200), 50, 50, [70, 40, 73, 59]),
        ([0, 0, 49, 49], (200, 100), 50, 50, [0, 50, 99, 149]),
        # Enlarged twice: half of a pixel.
        ([0, 0, 0, 1], (10, 10), 20, 20, [0, 0, -0.5, 0]),
        # 28 x 28 on black of 32 x 32.
        ([0, 0, 31, 31], (28, 28), 32, 28, [0, 0, 27, 27]),
        ([2, 3, 4, 5], (28, 28), 32, 28, [0, 1, 2, 3]),
        ([0, 0, 1, 1], (28, 28), 32, 28, [0, 0, -1, -1]),  # no pixels
        # 256 of 375 rows are 341 of 500 columns: floor(256 * 500 / 375).
        ([0, 0, 223, 223], (375, 500), 224, 256, [58 * 500 / 341, 16 * 375 / 256, 282 * 500 / 341 - 1, 351.5625 - 1]),
    ):
        assert crops.boxes_in_image(boxes, shape, size, resize).tolist() == pytest.approx(expected)
    config = dataclasses.replace(crop_config(size=50), resize=50)
    assert config.boxes_in_image(np.zeros((3, 2, 4)), (100, 200)).shape == (3, 2, 4)


@pytest.mark.parametrize(("height", "width"), [(90, 60), (61, 150), (200, 200)])
def test_a_rectangle_is_found_where_it_is_drawn(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 3 : 2 * height // 3, width // 3 : width // 2] = 255
    crop = resize_and_central_crop(image, 40, 48)
    rows, columns = (np.flatnonzero((crop[..., 0] > 127).any(axis=axis)) for axis in (1, 0))
    found = crops.boxes_in_image([columns[0], rows[0], columns[-1], rows[-1]], image.shape, 40, 48)
    expected = [width // 3, height // 3, width // 2 - 1, 2 * height // 3 - 1]
    np.testing.assert_allclose(found, expected, atol=max(1, min(height, width) / 48))

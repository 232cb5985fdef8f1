import itertools
import os
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from inception_jax.data import texture_images
from inception_jax.data.sources import open_source
from inception_jax.data.texture_images import CLASSES, DIFFICULTIES, SPLITS, draw, label
from inception_jax.data.textures import TexturesConfig, prepared_textures
from inception_jax.errors import UserError

TINY = "textures/train=25,test=3"
# Four wavelengths an image, upright.
STILL = DIFFICULTIES[1]._replace(wavelength=(0.25, 0.25), rotation=0, warp=0, gradient=0, blur=0, noise=0)


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory):
    data_dir = str(tmp_path_factory.mktemp("textures"))
    prepared_textures("train=25,test=3", data_dir)
    return data_dir


class TestImages:
    def test_shape_and_type(self):
        for size, difficulty in itertools.product((32, 47, 96), DIFFICULTIES):
            pixels = np.stack([draw("train", index, size, difficulty) for index in range(10)])
            assert pixels.shape == (10, size, size, 3)
            assert pixels.dtype == np.uint8
            assert pixels.std(axis=(1, 2)).max(axis=-1).min() > 3, (size, difficulty)  # no flat image

    def test_ink_is_darker_than_paper_in_difficulty_0(self):
        """Dots cover less than half of their image."""

        def dark(difficulty):
            dots = [index for index in range(200) if CLASSES[label("train", index)] == "dots"]
            images = [draw("train", index, 32, difficulty) @ np.array([0.299, 0.587, 0.114]) for index in dots]
            return [one.mean() < np.median(one) for one in images]

        assert all(dark(0))
        assert not all(dark(1))

    def test_function_of_its_arguments_only(self):
        forward = [draw("test", index, 32, 2) for index in range(10)]
        backward = [draw("test", index, 32, 2) for index in reversed(range(10))]
        np.testing.assert_array_equal(forward, backward[::-1])

    def test_no_image_is_drawn_twice(self):
        every = itertools.product(SPLITS, range(100), DIFFICULTIES)
        assert len({draw(split, index, 32, level).tobytes() for split, index, level in every}) == 800

    def test_the_texture_is_the_same_in_any_size(self, monkeypatch):
        monkeypatch.setitem(DIFFICULTIES, 3, DIFFICULTIES[3]._replace(noise=0))
        for index in range(20):
            small, large = (draw("train", index, size, 3).astype(float) for size in (32, 96))
            reduced = large.reshape(32, 3, 32, 3, 3).mean(axis=(1, 3))
            assert np.abs(small - reduced).mean() < 0.04 * np.ptp(large), CLASSES[label("train", index)]


class TestRanges:
    def stripes(self, monkeypatch, count, name="stripes", **ranges):
        """Stripes, or another texture, of 64 x 64 pixels, float64 [count, 64, 64, 3]."""
        monkeypatch.setitem(DIFFICULTIES, 1, STILL._replace(**ranges))
        found = (index for index in itertools.count() if CLASSES[label("train", index)] == name)
        return np.stack([draw("train", index, 64, 1) for index in itertools.islice(found, count)]).astype(float)

    def peaks(self, images):
        """The strongest waves, in periods an image: int64 [count, 2], horizontally and vertically."""
        luma = images @ [0.299, 0.587, 0.114]
        spectra = np.abs(np.fft.rfft2(luma - luma.mean(axis=(1, 2), keepdims=True)))
        down, right = np.unravel_index(spectra.reshape(len(images), -1).argmax(axis=1), spectra.shape[1:])
        return np.stack([right, (down + 32) % 64 - 32], axis=1)

    def test_wavelength(self, monkeypatch):
        np.testing.assert_array_equal(self.peaks(self.stripes(monkeypatch, 10)), [[4, 0]] * 10)
        images = self.stripes(monkeypatch, 60, wavelength=(1 / 9, 1 / 3))
        periods = self.peaks(images)[:, 0]
        assert (periods.min(), periods.max()) == (3, 9)

    def test_position(self, monkeypatch):
        # Two waves, along the diagonals of the squares: the sum of their phases is twice that of u, and the difference
        # twice that of v.
        images = self.stripes(monkeypatch, 200, "checks", wavelength=(0.25 / 1.2, 0.25 / 1.2)).mean(axis=-1)
        spectra = np.fft.fft2(images)
        for waves in (spectra[:, 4, 4] * spectra[:, -4, 4], spectra[:, 4, 4] / spectra[:, -4, 4]):
            assert np.abs((waves / np.abs(waves)).mean()) < 0.15  # equally often in each part of the period

    def test_edges_are_a_pixel_wide(self, monkeypatch):
        for pixels in self.stripes(monkeypatch, 10)[:, 0]:
            between = (pixels != pixels.min(axis=0)) & (pixels != pixels.max(axis=0))
            assert between.any(axis=-1).sum() == 8  # one for each edge

    def test_rotation(self, monkeypatch):
        right, down = self.peaks(self.stripes(monkeypatch, 60, wavelength=(0.1, 0.1), rotation=30)).T
        angles = np.degrees(np.arctan2(down, right))
        assert (angles.min(), angles.max()) == pytest.approx((-30, 30), abs=4)  # of 10 periods, whole numbers
        for pixels in self.stripes(monkeypatch, 20, "plaid", wavelength=(0.1, 0.1), rotation=45).mean(axis=-1):
            spectrum = np.abs(np.fft.fft2(pixels - pixels.mean()))
            down, right = np.unravel_index(spectrum.argmax(), spectrum.shape)
            assert spectrum[right, -down] > 0.6 * spectrum.max()  # the other bars, at a right angle

    def test_contrast(self, monkeypatch):
        luma = self.stripes(monkeypatch, 60, contrast=(90, 120)) @ [0.299, 0.587, 0.114]
        contrasts = np.ptp(luma, axis=(1, 2))
        assert (contrasts.min(), contrasts.max()) == pytest.approx((90, 120), abs=4)

    def test_gradient_and_noise(self, monkeypatch):
        plain = self.stripes(monkeypatch, 60)
        lit = self.stripes(monkeypatch, 60, gradient=50) - plain
        edges = np.abs(lit[:, 32, -1])
        assert 45 < edges.max() <= 51  # colours end at 0 and 255, and are rounded
        assert np.abs(lit[:, 31:33, 31:33]).max() <= 3
        deviations = (self.stripes(monkeypatch, 60, noise=40) - plain).std(axis=(1, 2, 3))
        assert deviations.min() < 4
        assert 32 < deviations.max() < 41

    def test_warp_moves_slowly_and_no_further(self, monkeypatch):
        rng, axis = np.random.default_rng(0), np.linspace(-0.5, 0.5, 64)
        waves = np.stack([texture_images._slow_wave(*np.meshgrid(axis, axis), rng) for _ in range(50)])
        assert np.abs(waves).max() == pytest.approx(1, abs=0.01)
        assert np.abs(np.diff(waves, axis=1)).max() <= 2 * np.pi * 1.5 / 63  # 1.5 periods an image
        plain, warped = self.stripes(monkeypatch, 60), self.stripes(monkeypatch, 60, warp=0.03)
        changed = (plain != warped).any(axis=(1, 2, 3))
        assert changed.all()

    def test_blur(self):
        point = np.zeros((33, 33))
        point[16, 16] = 1
        blurred, positions = texture_images._blurred(point, 2.5), np.arange(33)
        for axis in (0, 1):
            assert blurred.sum(axis=axis) @ (positions - 16) ** 2 == pytest.approx(2.5**2, rel=1e-3)
        np.testing.assert_allclose(texture_images._blurred(point + 1, 0), point + 1)
        np.testing.assert_allclose(texture_images._blurred(np.ones((9, 9)), 3), 1)  # up to the edges


class Middle:
    """In place of a generator: the middle of each range."""

    def uniform(self, least, most):
        return (least + most) / 2


def ink(name, u, v, rng=None):
    return texture_images._TEXTURES[name](u, v, 1e-6, rng or Middle())  # pixels so small that edges are hard


AXIS = (np.arange(420) + 0.5) / 70
U, V = np.meshgrid(AXIS, AXIS)  # six wavelengths, 70 pixels each


class TestTextures:
    # Part of the area that the ink covers, by hand.
    @pytest.mark.parametrize(
        ("name", "period", "part"),
        [
            ("stripes", (1, 1), 2 * 0.25),
            ("zigzag", (1, 1.5), 2 * 0.25 * np.sqrt(2)),  # bars that rise by 45 degrees, measured across
            ("checks", (1.2, 1.2), 1 / 2),
            ("plaid", (1, 1), 2 * 0.23),
            ("bricks", (1.4, 1.4), (1.4 - 0.18) * (0.7 - 0.18) / (1.4 * 0.7)),
            ("dots", (1, np.sqrt(3)), np.pi * 0.29**2 / np.sqrt(0.75)),
            ("rings", (1.4, 1.4 * np.sqrt(3)), np.pi * (0.6**2 - 0.3**2) / (1.4**2 * np.sqrt(0.75))),
        ],
    )
    def test_period_and_area(self, name, period, part):
        u, v = U / 6 * period[0], V / 6 * period[1]
        assert ink(name, u, v).mean() == pytest.approx(part, abs=0.005)
        for du, dv in ((period[0], 0), (0, period[1])):
            assert (ink(name, u, v) != ink(name, u + du, v + dv)).mean() < 0.001  # rounding, at the edges

    def test_what_makes_each_what_it_is(self):
        assert np.ptp(ink("stripes", U, V), axis=0).max() == 0
        np.testing.assert_array_equal(ink("zigzag", U, V), ink("zigzag", U, 1.5 - V))  # a fold at 0.75
        assert (ink("zigzag", U + 0.1, V + 0.1) == ink("zigzag", U, V))[:40].all()  # between folds
        np.testing.assert_array_equal(ink("checks", U + 0.6, V), 1 - ink("checks", U, V))
        assert set(np.unique(ink("plaid", U, V))) == {0, 0.5, 1}
        assert (ink("bricks", U + 0.7, V + 0.7) != ink("bricks", U, V)).mean() < 0.001  # half a brick, one course
        assert (ink("bricks", U, V + 0.7) != ink("bricks", U, V)).mean() > 0.1

    def test_lattices_have_the_symmetry_of_a_hexagon(self):
        cos, sin = np.cos(np.pi / 3), np.sin(np.pi / 3)
        turned = cos * U - sin * V, sin * U + cos * V
        for name in ("dots", "rings"):
            assert (ink(name, *turned) != ink(name, U, V)).mean() < 0.001
        assert ink("dots", np.zeros(1), np.zeros(1)) == 1
        assert ink("rings", np.zeros(1), np.zeros(1)) == 0

    def test_the_two_nearest_points(self):
        places = np.random.default_rng(5).integers(2, size=(16, 16, 2)) * 0.98 + 0.01  # near corners: far apart
        rows, columns = np.mgrid[-4:12, -4:12]
        points = np.stack([columns + places[rows % 16, columns % 16, 0], rows + places[rows % 16, columns % 16, 1]])
        distances = np.hypot(*(points.reshape(2, -1, 1, 1) - np.stack([U, V])[:, None, ::7, ::7]))
        found = texture_images._two_nearest(U[::7, ::7], V[::7, ::7], SimpleNamespace(uniform=lambda *_: places))
        np.testing.assert_allclose(found, np.sort(distances, axis=0)[:2])

    def test_irregular_ones_do_not_repeat(self):
        for name in ("cells", "spots", "blotches"):
            drawn = ink(name, U, V, np.random.default_rng(3))
            assert 0.15 < drawn.mean() < 0.85, name
            for shift in (70, 84, 140):
                same = (drawn[:, shift:] == drawn[:, :-shift]).mean(), (drawn[shift:] == drawn[:-shift]).mean()
                assert max(same) < 0.85, name


class TestLabels:
    def test_each_class_equally_often(self):
        for split in SPLITS:
            labels = [label(split, index) for index in range(35)]
            for first in (0, 10, 20):
                assert sorted(labels[first : first + 10]) == list(range(10))
            assert max(Counter(labels).values()) == 4
        assert [label("train", index) for index in range(10)] != [label("test", index) for index in range(10)]


class TestSource:
    def test_counts_classes_and_images(self, tiny_dir):
        for split, count in (("train", 25), ("test", 3)):
            source = open_source(TINY, split, tiny_dir)
            assert len(source) == count
            assert source.class_names == CLASSES
            for index in (0, count - 1):
                pixels, of_class = source[index]
                np.testing.assert_array_equal(pixels, draw(split, index, 32, 1))
                assert of_class == label(split, index)
        assert source.name(2) == f"{TINY}/test[2]"
        with pytest.raises(UserError, match="has no boxes"):
            source.boxes(0)

    def test_prepared_once(self, tiny_dir, monkeypatch):
        monkeypatch.delattr(texture_images, "draw")
        for same in ("train=25,test=3", "test=3,difficulty=1,size=32,train=25"):
            assert prepared_textures(same, tiny_dir).info.splits["test"].num_examples == 3

    def test_settings(self, tmp_path):
        source = open_source("textures/size=40,train=2,test=1,difficulty=3", "train", str(tmp_path))
        np.testing.assert_array_equal(source[1][0], draw("train", 1, 40, 3))
        assert TexturesConfig.parse("").name == "size=32,train=3000,test=2000,difficulty=1"

    def test_wrong_settings(self, tmp_path):
        for settings, message in (
            ("/classes=3", "have no setting 'classes=3'; they have size, train, test, difficulty, as in textures/size"),
            (":1.0.0", "have no setting ':1.0.0'"),
            ("/size=31", "cannot have 'size=31': size is a whole number, 32 to 96"),
            ("/test=0", "cannot have 'test=0': test is a whole number, at least 1"),
            ("/difficulty=4", "cannot have 'difficulty=4': difficulty is a whole number, 0 to 3"),
            ("/size=32,size=48", "set twice in 'size=32,size=48'"),
        ):
            with pytest.raises(UserError, match=f"^the textures.* {message}"):
                open_source(f"textures{settings}", "train", str(tmp_path))
            assert not os.listdir(tmp_path)

    def test_nearest_name(self, tmp_path):
        for name in ("texture", "textures_32"):
            with pytest.raises(UserError, match="did you mean textures"):
                open_source(name, "train", str(tmp_path))

import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from inception_jax.data import dataset_stats, loader
from inception_jax.data.crops import resize_and_central_crop
from inception_jax.data.dataset_stats import (
    blank_stats,
    cached_stats,
    colour_stats,
    contrast_normalised,
    measure,
    training_stats,
    whitening_stats,
)
from inception_jax.data.decoding import DamagedImage
from inception_jax.errors import UserError
from tests.values import crop_config

CROP = crop_config(6, 7)


class Images:
    """Given images; counts how often one is read."""

    class_names = ("a", "b")

    def __init__(self, images, damaged=()):
        self.images, self.damaged, self.reads, self.lock = images, damaged, 0, threading.Lock()

    def __len__(self):
        return len(self.images)

    def name(self, index):
        return f"image {index}"

    def __getitem__(self, index):
        with self.lock:
            self.reads += 1
        if index in self.damaged:
            raise DamagedImage(self.name(index), "cut off")
        return self.images[index], 0


class Jpegs(Images):
    def encoded(self, index):
        file = io.BytesIO()
        Image.fromarray(self[index][0]).save(file, "JPEG")
        return file.getvalue(), 0


def photos(count, seed=0):
    """Of several sizes; colours and neighbouring pixels are correlated."""
    rng = np.random.default_rng(seed)
    mix = np.array([[60, 20, 5], [55, -5, -12], [50, -15, 10]])
    images = []
    for i in range(count):
        cells = rng.normal(0, 1, (4, 4, 3)) @ mix.T + (125, 118, 105)
        fine = np.kron(cells, np.ones((2 + i % 3, 3, 1)))
        images.append((fine + rng.normal(0, 6, fine.shape)).clip(0, 255).astype(np.uint8))
    return images


def colours(source, size, **options):
    return colour_stats(source, size, 2**26, **options)


@pytest.fixture
def small_parts(monkeypatch):
    """So that a few images are many parts."""
    monkeypatch.setattr(dataset_stats, "_PART", 8)


def test_colours_of_a_tiny_source():
    """Worked by hand: red is 10 and 30, green twice that, blue is 7."""
    image = np.empty((2, 2, 3), np.uint8)
    image[0], image[1] = (10, 20, 7), (30, 60, 7)
    found = colours(Images([image]), 2)
    np.testing.assert_array_equal(found["colour_mean"], np.float32([20, 40, 7]))
    # The covariance of (10, 20) and (30, 60) is [[100, 200], [200, 400]]: 500 along (1, 2), 0 along (2, -1).
    np.testing.assert_allclose(found["colour_values"], [500, 0, 0], atol=1e-4)
    np.testing.assert_allclose(found["colour_vectors"][:, 0], np.array([1, 2, 0]) / np.sqrt(5), atol=1e-6)
    assert {key: value.dtype for key, value in found.items()} == dict.fromkeys(
        ("colour_values", "colour_vectors", "colour_mean"), np.float32
    )


def test_colours_against_numpy(small_parts):
    images = photos(30)
    found = colours(Images(images), 5)
    pixels = np.stack([resize_and_central_crop(image, 5, 5) for image in images]).reshape(-1, 3).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(pixels.T, bias=True))
    np.testing.assert_allclose(found["colour_mean"], pixels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["colour_values"], values[::-1], rtol=1e-5)
    for column, expected in zip(found["colour_vectors"].T, vectors.T[::-1], strict=True):
        assert column[np.abs(column).argmax()] > 0
        np.testing.assert_allclose(column, expected * np.sign(expected @ column), atol=1e-5)


def test_each_image_counts_alike():
    """A large one as much as a small one: the mean of a black and a white image is grey."""
    images = [np.zeros((64, 90, 3), np.uint8), np.full((3, 3, 3), 255, np.uint8)]
    np.testing.assert_array_equal(colours(Images(images), 4)["colour_mean"], np.float32([127.5] * 3))


def test_threads_and_parts_do_not_matter_to_colours(monkeypatch):
    def fit(kind, threads, part):
        monkeypatch.setattr(dataset_stats, "_PART", part)
        return colours(kind(photos(30)), 9, threads=threads)

    for kind in (Images, Jpegs):
        expected = fit(kind, 1, 30)
        for threads, part in ((3, 4), (2, 7), (0, 1024)):
            for key, value in fit(kind, threads, part).items():
                np.testing.assert_array_equal(value, expected[key], err_msg=f"{kind} {threads} {part} {key}")


def normalised_by_hand(images, channels):
    rows = []
    for image in images:
        x = image.astype(np.float64)
        x = (0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2] if channels == 1 else x).ravel()
        x = x - x.sum() / x.size
        rows.append(55 * x / np.linalg.norm(x))
    return np.stack(rows)


def test_contrast_normalisation():
    images = np.stack([resize_and_central_crop(image, 6, 6) for image in photos(5)])
    black_and_white = np.array([[[[0] * 3, [255] * 3]]], np.uint8)
    for channels in (1, 3):
        x = contrast_normalised(images, channels)
        np.testing.assert_allclose(x, normalised_by_hand(images, channels), atol=1e-10)
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 55)
        assert x.shape == (5, 36 * channels)
        expected = np.repeat([-1, 1], channels) * 55 / np.sqrt(2 * channels)
        np.testing.assert_allclose(contrast_normalised(black_and_white, channels), [expected])
    flat = np.full((1, 6, 6, 3), (200, 31, 77), np.uint8)
    np.testing.assert_allclose(contrast_normalised(flat, 1), 0, atol=1e-10)


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_against_numpy(channels, small_parts):
    images = photos(300)
    found = whitening_stats(Images(images), CROP, channels)
    x = normalised_by_hand([resize_and_central_crop(image, 6, 7) for image in images], channels)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    matrix = vectors @ np.diag(1 / np.sqrt(values + 0.1)) @ vectors.T
    np.testing.assert_allclose(found["whitening_mean"], x.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found["whitening_matrix"], matrix, atol=1e-5)
    np.testing.assert_allclose(found["whitening_values"], values[::-1], atol=1e-3)
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}

    # Whitened images have the variances lambda / (lambda + 0.1) along the same axes, and no covariances.
    white = (x - found["whitening_mean"]) @ found["whitening_matrix"]
    covariance = vectors.T @ np.cov(white.T, bias=True) @ vectors
    np.testing.assert_allclose(covariance, np.diag(values / (values + 0.1)), atol=1e-4)
    assert values[0] == pytest.approx(0, abs=1e-9)  # along (1, 1, 1, ...), because each image has the mean 0
    assert np.diag(covariance)[-20:].min() > 0.9


def test_threads_do_not_matter_to_whitening(small_parts):
    one, other = (whitening_stats(Jpegs(photos(50)), CROP, 3, threads=threads) for threads in (1, 3))
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_damaged_images_are_left_out(small_parts):
    images = photos(100)
    for compute in (
        lambda source, **options: colours(source, 7, **options),
        lambda source, **options: whitening_stats(source, CROP, 3, **options),
    ):
        damage, seen = loader.DamageReport(images), []
        found = compute(Images(images, damaged=(17,)), damage=damage, progress=seen.append)
        assert damage.summary() == "skipped damaged image 17: cut off"
        assert (sum(seen), len(seen)) == (100, 13)
        for key, value in compute(Images(images[:17] + images[18:])).items():
            np.testing.assert_allclose(found[key], value, atol=1e-4, err_msg=key)
        with pytest.raises(UserError, match=r"(?s)2 of 100 images could not .* more than 1 %.*image 17.*image 40"):
            compute(Images(images, damaged=(17, 40)))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "inception_jax" / "statistics"


OPTIONS = {"name": "my data", "split": "train", "directory": "/data", "crop_config": CROP, "channels": 1}


def fit(source, said=None, **changes):
    needed = {"pca_noise": True, "whitening": "gcn_zca"}
    return training_stats(source, **OPTIONS | needed | {"say": [].append if said is None else said.append} | changes)


def test_what_training_needs(cache):
    found, said = {}, []
    for pca_noise in (False, True):
        for whitening in ("none", "gcn", "gcn_zca"):
            found = fit(Images(photos(20)), said, pca_noise=pca_noise, whitening=whitening)
            blank = blank_stats(6, channels=1, pca_noise=pca_noise, whitening=whitening)
            assert [(key, value.shape, value.dtype) for key, value in found.items()] == [
                (key, value.shape, value.dtype) for key, value in blank.items()
            ]
            assert not any(value.any() for value in blank.values())
            assert bool(found) == (pca_noise or whitening == "gcn_zca")
    assert {key: value.shape for key, value in found.items()} == {
        "colour_values": (3,),
        "colour_vectors": (3, 3),
        "whitening_mean": (36,),
        "whitening_matrix": (36, 36),
    }
    expected = colours(Images(photos(20)), 7) | whitening_stats(Images(photos(20)), CROP, 1)
    for key, value in found.items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)
    assert len(said) == 4  # each was fitted once
    assert said[0] == "computing whitening statistics of 20 images of my data/train"
    assert said[1].startswith("whitening statistics: ")
    assert f"s, cached in {cache}/my_data-whitening-" in said[1]


def test_the_numbers_for_a_person(cache):
    source, said = Images(photos(20)), []
    numbers = measure(source, whitening="gcn_zca", say=said.append, **OPTIONS)
    assert json.loads(json.dumps(numbers)) == numbers
    shown, whitening = numbers.pop("colours"), numbers.pop("whitening")
    assert numbers == {"name": "my data", "split": "train", "images": 20}
    expected = colours(source, 7)
    assert shown["shorter_side"] == 7
    np.testing.assert_array_equal(np.float32(shown["mean"]), expected["colour_mean"])
    np.testing.assert_array_equal(np.float32(shown["values"]), expected["colour_values"])
    np.testing.assert_array_equal(np.float32(shown["vectors"]).T, expected["colour_vectors"])
    variances = whitening_stats(source, CROP, 1)["whitening_values"].astype(np.float64)
    assert whitening["dimensions"] == 36
    assert (whitening["largest_value"], whitening["smallest_value"]) == (variances[0], variances[-1])
    gains = 1 / np.sqrt(variances[[0, -1]] + 0.1)
    assert [whitening[key] for key in ("least_gain", "largest_gain")] == pytest.approx(gains)
    assert whitening["condition"] == pytest.approx(gains[1] / gains[0])
    assert {shown["file"], whitening["file"]} == {str(path) for path in cache.iterdir()}
    assert "whitening" not in measure(source, whitening="gcn", say=said.append, **OPTIONS)
    assert len(said) == 4  # each was computed once


def test_what_is_cached_is_not_computed_again(cache):
    source, said = Images(photos(20)), []
    first = fit(source, said)
    assert source.reads == 40
    second = fit(source, said)
    assert source.reads == 40
    assert len(said) == 4
    for key in first:
        np.testing.assert_array_equal(second[key], first[key])
    assert len(list(cache.iterdir())) == 2  # and no temporary files
    _, path = cached_stats("colour", source, **OPTIONS, say=said.append)
    assert (source.reads, path.exists()) == (40, True)
    cached_stats("colour", source, **OPTIONS, say=said.append, force=True)
    assert source.reads == 60


def test_what_determines_the_result_is_told_apart(cache):
    fit(Images(photos(20)))
    files = len(list(cache.iterdir()))
    for changes, kinds in (
        ({"name": "my_data"}, 2),
        ({"split": "train[:50%]"}, 2),
        ({"directory": "/other"}, 2),
        ({"directory": ""}, 2),
        ({"crop_config": crop_config(6, 8)}, 2),
        ({"crop_config": crop_config(5, 7)}, 1),  # colours are of whole images
        ({"channels": 3}, 1),
        ({"crop_config": crop_config(6, 7, area=(1, 1), crop="square", scale=(9, 9))}, 0),  # of training crops
        ({"directory": "/data/"}, 0),
    ):
        source = Images(photos(20))
        fit(source, **changes)
        files += kinds
        assert (source.reads, len(list(cache.iterdir()))) == (20 * kinds, files), changes


def test_a_file_of_an_earlier_version_is_found(cache):
    """Its name is a function of the dataset and the options that must not change."""
    fit(Images(photos(20)))
    digests = {path.stem.rpartition("-")[2] for path in cache.iterdir()}
    assert digests == {"1505a5ad88a2c694", "69fcbe589d763048"}


def test_other_images_are_told_apart_by_their_number_and_classes(cache):
    fit(Images(photos(20)))
    more, others = Images(photos(21)), Images(photos(20))
    others.class_names = ("a", "c")
    fit(more)
    fit(others)
    assert (more.reads, others.reads) == (42, 40)


def test_a_damaged_file_is_replaced(cache):
    first = fit(Images(photos(20)))
    for damage in (lambda data: data[:-30], lambda data: b"", lambda data: data[:200] + data[201:]):
        for path in cache.iterdir():
            path.write_bytes(damage(path.read_bytes()))
        source = Images(photos(20))
        for _ in range(2):
            for key, value in fit(source).items():
                np.testing.assert_array_equal(value, first[key])
            assert source.reads == 40


def test_two_at_once(cache):
    source = Images(photos(20))
    results = []
    both = [threading.Thread(target=lambda: results.append(fit(source))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    for key, value in results[0].items():
        np.testing.assert_array_equal(results[1][key], value)
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(cache):
    cache.parent.mkdir()
    cache.write_text("a file where the directory should be")
    said = []
    assert len(fit(Images(photos(20)), said)) == 4
    assert "not cached: " in said[1]


@pytest.mark.usefixtures("homeless")
def test_without_a_home_directory_they_are_kept_for_the_process(capsys):
    source = Images(photos(20))
    fit(source, directory="")
    fit(source, directory="")
    assert source.reads == 40
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ~/.cache/inception_jax cannot be used (there is no home directory);")


def test_skipped_images_are_said(cache):
    said = []
    fit(Images(photos(100), damaged=(17,)), said, whitening="none")
    assert said[1] == "skipped damaged image 17: cut off"


def test_large_images_are_not_whitened(cache):
    message = "^whitening='gcn_zca' is for images of up to 64 x 64 x 3; 224 x 224 x 3 needs a matrix of 181.3 GB;"
    with pytest.raises(UserError, match=message):
        fit(Images(photos(2)), crop_config=crop_config(224, 256), channels=3)
    with pytest.raises(UserError, match="up to 64 x 64 x 3"):
        blank_stats(65, channels=3, pca_noise=False, whitening="gcn_zca")
    blank_stats(64, channels=3, pca_noise=False, whitening="gcn_zca")
    blank_stats(224, channels=3, pca_noise=True, whitening="gcn")

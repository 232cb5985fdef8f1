"""A trained network as a library has it."""

import dataclasses
import io
import os

import jax
import numpy as np
import pytest
from PIL import Image

import inception_jax
from inception_jax import UserError
from inception_jax.data.decoding import DamagedImage
from inception_jax.training import loop


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def workdir(tiny_config, directory):
    """A run of three steps that kept moving averages, trained once."""
    return trained(tiny_config, directory / "averaged")


def trained(config, workdir):
    if not workdir.exists():
        config.train.steps = 3
        loop.train_and_evaluate(config, str(workdir))
    return workdir


@pytest.fixture
def classifier(workdir):
    return inception_jax.load(workdir)


def pictures(count=7):
    """Of several sizes."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (18 + 5 * i, 30 - i, 3), np.uint8) for i in range(count)]


def test_it_knows_its_classes_layers_and_preprocessing(classifier, workdir):
    assert classifier.name == "tiny"
    assert classifier.source == workdir / "checkpoints" / "3"
    assert classifier.class_names == ("blue", "green", "red")
    assert classifier.end_points == ("stem", "body", "pool", "top")
    assert (classifier.preprocessing.mean, classifier.preprocessing.std) == ((128.0,) * 3, (64.0,) * 3)
    assert (classifier.geometry.size, classifier.geometry.resize) == (16, 18)


def test_probabilities_follow_from_the_features(classifier):
    """Softmax of the last layer, which is a linear one of the layer before; nothing drops out."""
    images = pictures()
    probabilities = classifier.predict(images)
    assert (probabilities.shape, probabilities.dtype) == ((7, 3), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    last = classifier.variables["params"]["top"]["classifier"]
    pooled, logits = classifier.features(images, "pool"), classifier.features(images, "top")
    assert pooled.shape == (7, 1, 1, 8)
    np.testing.assert_allclose(pooled.reshape(7, 8) @ last["kernel"] + last["bias"], logits, atol=1e-5)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), probabilities, rtol=1e-5)


def test_one_pass_gives_several_layers(classifier):
    crops = np.stack([classifier.crop(image) for image in pictures()])
    logits, stem = classifier.run(crops, "top", "stem")
    np.testing.assert_allclose(logits, classifier.features(pictures(), "top"), atol=1e-6)
    np.testing.assert_allclose(stem, classifier.features(pictures(), "stem"), atol=1e-6)
    assert stem.shape == (7, 8, 8, 4)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


# Pillow's own conversion to RGB clips 16 and 32 bits, and knows no EXIF.
RAMP = np.linspace(0, 65535, 20 * 24).reshape(20, 24)
FILES = {
    "RGB.png": (pictures()[0], {}),
    "photo.jpg": (pictures()[1], {}),
    "turned.png": (pictures()[2], {"exif": turned()}),
    "turned.jpg": (pictures()[2], {"exif": turned()}),
    "grey.png": (pictures()[3][..., 0], {}),
    "alpha.png": (np.dstack([pictures()[4], pictures()[4][..., :1]]), {}),
    "16 bits.png": (RAMP.astype(np.uint16), {}),
    "16 bits.tif": (RAMP.astype(np.uint16), {}),
    "32 bits.tif": (RAMP.astype(np.int32), {}),
}


def test_every_way_in_gives_the_same(classifier, tmp_path):
    seen = []
    for name, (pixels, options) in FILES.items():
        path = tmp_path / name
        Image.fromarray(pixels).save(path, **options)
        expected = classifier.predict([path])
        with open(path, "rb") as file, Image.open(path) as image:
            ways = [
                str(path),
                path.read_bytes(),
                memoryview(path.read_bytes()),
                file,
                io.BytesIO(path.read_bytes()),
                image,
            ]
            if not options and path.suffix == ".png":
                ways += [pixels, jax.numpy.asarray(pixels)]
            for way in ways:
                np.testing.assert_array_equal(classifier.predict(iter([way])), expected, f"{name} as {type(way)}")
        seen.append(expected)
    assert len(np.unique(np.concatenate(seen)[:, 0])) >= len(FILES) - 2  # a turned one, and 16 bits, are there twice


def test_a_single_image_is_one_image(classifier, tmp_path):
    pixels = pictures()[0]
    path = tmp_path / "cat.png"
    Image.fromarray(pixels).save(path)
    expected = classifier.predict([path])
    assert expected.shape == (1, 3)
    with open(path, "rb") as file:
        for image in (str(path), path, path.read_bytes(), file, Image.fromarray(pixels), pixels):
            np.testing.assert_array_equal(classifier.predict(image), expected)
    np.testing.assert_array_equal(classifier.predict(np.stack([pixels, pixels])), np.concatenate([expected] * 2))
    assert classifier.features(str(path), "pool").shape == (1, 1, 1, 8)


def test_the_batch_size_does_not_matter(classifier):
    expected, features = classifier.predict(pictures()), classifier.features(pictures(), "body")
    for size in (1, 3, 7):
        np.testing.assert_allclose(classifier.predict(pictures(), batch_size=size), expected, atol=1e-6)
        np.testing.assert_allclose(classifier.features(pictures(), "body", batch_size=size), features, atol=1e-6)


def test_no_images(classifier):
    assert classifier.predict([]).shape == (0, 3)
    assert classifier.features([], "pool").shape[0] == 0


def test_what_is_no_image(classifier, tmp_path):
    image = pictures()[0]
    for wrong, message in (
        (np.zeros((18, 18, 5), np.uint8), "must be an array of uint8, .*, not uint8 \\[18, 18, 5\\]"),
        (image.astype(np.int64), "must be an array of uint8, .*, not int64 \\[18, 30, 3\\]"),
        (np.zeros((0, 5, 3), np.uint8), "must be an array of uint8, .*, not uint8 \\[0, 5, 3\\]"),
        (None, "is a NoneType, which is no image"),
        (7, "is a int, which is no image"),
        ([image], "is a list, which is no image"),
    ):
        with pytest.raises(UserError, match=f"^images\\[1\\] {message}"):
            classifier.predict([image, wrong])
    for nothing in (None, 7):
        with pytest.raises(UserError, match="which is no image"):
            classifier.predict(nothing)
    with pytest.raises(UserError, match="batch_size=0 must be 1 or more"):
        classifier.predict([image], batch_size=0)
    with pytest.raises(UserError, match="end point='pool5' is not one of stem, body, pool, top"):
        classifier.features([image], "pool5")


def test_what_cannot_be_read(classifier, tmp_path):
    floating = Image.fromarray(np.full((20, 20), 0.5, np.float32))
    floating.save(tmp_path / "float.tif")
    for image in (tmp_path / "float.tif", floating, np.asarray(floating), np.zeros((20, 20, 3))):
        with pytest.raises(DamagedImage, match="floating-point pixels have no defined white"):
            classifier.predict([image])
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, reason in (
        (tmp_path / "nowhere.jpg", "No such file or directory"),
        (tmp_path, "not a regular file"),
        (tmp_path / "pipe.jpg", "not a regular file"),
    ):
        with pytest.raises(DamagedImage, match=f"^{path}: {reason}"):
            classifier.predict([path])
    few = dataclasses.replace(classifier, geometry=dataclasses.replace(classifier.geometry, max_pixels=399))
    with pytest.raises(DamagedImage, match="20 x 20 pixels are more than 399"):
        few.predict(tmp_path / "float.tif")


def test_averaged_and_raw_weights(classifier, workdir, tiny_config, directory):
    averaged, raw = (inception_jax.load(workdir, weights=kind) for kind in ("ema", "raw"))
    assert averaged.fingerprint == classifier.fingerprint != raw.fingerprint
    np.testing.assert_array_equal(averaged.predict(pictures()), classifier.predict(pictures()))
    assert not np.allclose(raw.predict(pictures()), classifier.predict(pictures()), atol=1e-4)

    tiny_config.train.average_decay = 0.0
    plain = trained(tiny_config, directory / "plain")
    assert inception_jax.load(plain).fingerprint == inception_jax.load(plain, weights="raw").fingerprint
    with pytest.raises(UserError, match="has no moving averages .*; take weights 'raw'"):
        inception_jax.load(plain, weights="ema")


def test_what_cannot_be_loaded(workdir, tmp_path):
    for path, options, message in (
        (tmp_path / "nowhere", {}, f"there is no {tmp_path / 'nowhere'}"),
        (tmp_path, {}, "is neither a workdir with checkpoints nor a checkpoint nor a file of weights"),
        (workdir, {"checkpoint": "7"}, "has no checkpoint '7'; it has best, last, 3"),
        (workdir, {"weights": "average"}, "weights='average' is not one of .*ema, raw"),
    ):
        with pytest.raises(UserError, match=message):
            inception_jax.load(path, **options)


def test_the_fingerprint_is_of_every_weight(classifier, workdir):
    assert inception_jax.load(workdir).fingerprint == classifier.fingerprint
    leaves, tree = jax.tree.flatten(classifier.variables)
    seen = {classifier.fingerprint}
    for i, leaf in enumerate(leaves):
        changed = leaf.copy()
        changed.flat[-1] += 1e-3
        variables = jax.tree.unflatten(tree, [*leaves[:i], changed, *leaves[i + 1 :]])
        seen.add(dataclasses.replace(classifier, variables=variables).fingerprint)
    assert len(seen) == 1 + len(leaves)

"""A trained network as a library has it."""

import dataclasses

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


def test_arrays_images_and_files_are_the_same(classifier, tmp_path):
    arrays = pictures()
    images = [Image.fromarray(array) for array in arrays]
    files = [tmp_path / f"{i}.png" for i in range(len(images))]
    for image, file in zip(images, files, strict=True):
        image.save(file)
    expected = classifier.predict(arrays)
    for same in (images, files, list(map(str, files)), iter(arrays)):
        np.testing.assert_array_equal(classifier.predict(same), expected)
    assert len(np.unique(expected[:, 0])) == len(arrays)


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
    for wrong, found in (
        (image[..., 0], "uint8 [18, 30]"),
        (np.zeros((18, 18, 4), np.uint8), "uint8 [18, 18, 4]"),
        (image / np.float32(255), "float32 [18, 30, 3]"),
    ):
        with pytest.raises(UserError) as error:
            classifier.predict([image, wrong])
        assert str(error.value) == f"an image must be uint8 [H, W, 3], not {found}"
    with pytest.raises(DamagedImage, match="nowhere.jpg: No such file or directory"):
        classifier.predict([tmp_path / "nowhere.jpg"])
    with pytest.raises(UserError, match="end point='pool5' is not one of stem, body, pool, top"):
        classifier.features([image], "pool5")


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

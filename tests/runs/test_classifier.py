"""Trained networks as a library."""

import dataclasses
import io
import json
import os
import shutil
from pathlib import Path

import flax
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

import inception_jax
from experiments import export_weights
from inception_jax import UserError
from inception_jax.data.decoding import DamagedImage
from inception_jax.parallel import DataParallel
from inception_jax.runs.checkpoints import Checkpoints, best_first
from inception_jax.runs.classifier import load_each, load_weights, workdir_of
from inception_jax.training.experiment import Experiment
from inception_jax.weights.files import flatten


@pytest.fixture(scope="module")
def classifier(trained):
    """Its network is built in a test, which knows the tiny one."""
    return inception_jax.load(trained, "last")


def pictures(count=7):
    """Of several sizes."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (18 + 5 * i, 30 - i, 3), np.uint8) for i in range(count)]


def test_it_knows_its_classes_layers_and_preprocessing(classifier, trained):
    assert classifier.name == "tiny"
    assert classifier.source == trained / "checkpoints" / "12"
    assert (classifier.workdir, classifier.title) == (trained, "run/12")
    assert classifier.class_names == ("blue", "green", "red")
    assert classifier.end_points == ("stem", "body", "pool", "top")
    assert (classifier.preprocessing.mean, classifier.preprocessing.std) == ((128.0,) * 3, (64.0,) * 3)
    assert (classifier.crop_config.size, classifier.crop_config.resize) == (16, 18)


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
    with pytest.raises(UserError, match="end_point='pool5' is not one of stem, body, pool, top"):
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
    few = dataclasses.replace(classifier, crop_config=dataclasses.replace(classifier.crop_config, max_pixels=399))
    with pytest.raises(DamagedImage, match="20 x 20 pixels are more than 399"):
        few.predict(tmp_path / "float.tif")


def test_averages_and_raw_weights(classifier, trained, tiny_config, tmp_path):
    saved = ocp.StandardCheckpointer().restore((trained / "checkpoints" / "12" / "state").absolute())
    averaged, raw = (inception_jax.load(trained, "last", kind) for kind in ("ema", "raw"))
    for loaded, state in ((classifier, saved["ema"]), (averaged, saved["ema"]), (raw, saved)):
        parts = ("params", "batch_stats")
        ours, theirs = (flatten({part: tree[part] for part in parts}) for tree in (loaded.variables, state))
        assert ours.keys() == theirs.keys()
        for name, array in theirs.items():
            np.testing.assert_array_equal(ours[name], array, name)
    assert averaged.fingerprint == classifier.fingerprint != raw.fingerprint
    assert not np.allclose(raw.predict(pictures()), classifier.predict(pictures()), atol=1e-4)

    tiny_config.train.ema_decay = 0.0
    parallel = DataParallel()
    experiment = Experiment(tiny_config, parallel)
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1)
    checkpoints.save(0, parallel.replicate(experiment.create_state()), experiment.inference_metadata())
    checkpoints.close()
    assert inception_jax.load(tmp_path).fingerprint == inception_jax.load(tmp_path, weights="raw").fingerprint
    with pytest.raises(UserError, match="has no moving averages, the run did not keep them; take 'raw'"):
        inception_jax.load(tmp_path, weights="ema")


def test_a_saved_file_is_the_same_classifier(classifier, trained, tmp_path, capsys):
    """By the method, and by the command, from which another run starts."""
    measured = {"mean": np.arange(3, dtype=np.float32)}
    whole = dataclasses.replace(classifier, variables=classifier.variables | {"dataset_stats": measured})
    assert whole.save(tmp_path / "whole.npz") == 14 + 1
    with np.load(tmp_path / "whole.npz") as arrays:  # as version 0.1 wrote it
        names = {"metadata": "facts", "dataset_stats/mean": "statistics/mean"}
        np.savez(tmp_path / "old.npz", **{names.get(name, name): array for name, array in arrays.items()})
    for name in ("whole.npz", "old.npz"):
        loaded = inception_jax.load(tmp_path / name)
        assert loaded.fingerprint == whole.fingerprint
        for field in dataclasses.fields(classifier):
            if field.name not in ("source", "variables"):
                assert getattr(loaded, field.name) == getattr(classifier, field.name)

    file = tmp_path / "exported.npz"
    assert export_weights.main([f"--workdir={trained}", "--checkpoint=last", f"--out={file}"]) == 0
    assert capsys.readouterr().out == f"14 arrays of {trained / 'checkpoints' / '12'} written to {file}\n"
    assert inception_jax.load(file).fingerprint == classifier.fingerprint
    expected = flatten({part: classifier.variables[part] for part in ("params", "batch_stats")})
    for place in (trained / "checkpoints" / "12", file, tmp_path / "old.npz"):
        weights = load_weights(place)
        assert weights.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(weights[name], array)
    assert export_weights.main([f"--workdir={tmp_path}", f"--out={file}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} is neither a workdir")


def test_another_size_keeps_all_proportions(classifier):
    assert classifier.resized() is classifier.resized(16, 18) is classifier
    crop = dataclasses.replace(classifier.crop_config, size=16, resize=20, crop="scale", scale=(20, 40))
    larger = dataclasses.replace(classifier, crop_config=crop).resized(24)
    assert (larger.crop_config.size, larger.crop_config.resize, larger.crop_config.scale) == (24, 30, (30, 60))
    assert classifier.resized(24, 25).crop_config.resize == 25
    assert larger.predict(pictures()).shape == (7, 3)


def test_what_cannot_be_loaded(trained, tmp_path):
    (tmp_path / "torn.npz").write_bytes(b"no file of weights")
    np.savez(tmp_path / "bare.npz", **{"params/a": np.zeros(2)})
    for path, options, message in (
        (tmp_path / "nowhere", {}, f"{tmp_path / 'nowhere'} does not exist"),
        (tmp_path, {}, "is neither a workdir with checkpoints nor a checkpoint nor a file of weights"),
        (tmp_path / "torn.npz", {}, "cannot be read as a file of weights"),
        (tmp_path / "bare.npz", {}, "does not say which network its weights belong to"),
        (tmp_path / "bare.npz", {"weights": "raw"}, "weights='raw' is for workdirs"),
        (trained, {"checkpoint": "7"}, "checkpoint='7' is not in .*, which has best, last, 4, 6, 8, 12"),
        (trained, {"weights": "average"}, "weights='average' is not one of .*ema, raw"),
    ):
        with pytest.raises(UserError, match=message):
            inception_jax.load(path, **options)
    with pytest.raises(UserError, match="nowhere does not exist"):
        load_weights("nowhere")


def test_a_home_directory_that_is_missing(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it does without a home directory
    monkeypatch.setattr(Path, "home", None)
    for read in (inception_jax.load, load_weights, workdir_of):
        with pytest.raises(UserError, match="~/run does not exist"):
            read("~/run")


def test_class_names_of_an_older_version_are_made_readable(trained, tmp_path):
    """It kept names as macOS writes them, and in a locale that is not UTF-8 their bytes."""
    shutil.copytree(trained / "checkpoints" / "12", tmp_path / "12")
    [metadata] = [path for path in tmp_path.glob("12/*/metadata") if b'"blue"' in path.read_bytes()]
    content = json.loads(metadata.read_text().replace('"blue", "green"', r'"cafe\u0301", "caf\udcc3\udca9s"'))
    del content["checksum"]  # which that version did not write
    metadata.write_text(json.dumps(content))
    assert inception_jax.load(tmp_path / "12").class_names == ("caf\u00e9", "caf\u00e9s", "red")


def flip_a_byte(checkpoint):
    files = (path for path in (checkpoint / "state").rglob("*") if path.is_file())
    largest = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    largest.write_bytes(bytes(data))


def metadata_of(checkpoint):
    return next(path for path in checkpoint.iterdir() if (path / "metadata").is_file())


def spoil_metadata(checkpoint):
    (metadata_of(checkpoint) / "metadata").write_text("no JSON", encoding="utf-8")


def lose_metadata(checkpoint):
    shutil.rmtree(metadata_of(checkpoint))


def load_all(workdir):
    return list(load_each(workdir, warn=lambda line: None))


def test_another_checkpoint_takes_the_place_of_a_damaged_one(trained, tmp_path):
    """As in training; but not of a step that was asked for."""
    for damage in (flip_a_byte, spoil_metadata, lose_metadata):
        copy = tmp_path / damage.__name__
        shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("4", "8", "evaluation"))
        damage(copy / "checkpoints" / "12")
        for which in ("best", "last"):
            warnings = []
            assert inception_jax.load(copy, which, warn=warnings.append).source == copy / "checkpoints" / "6"
            [line] = warnings
            assert "12 cannot be read as a checkpoint: " in line
            assert line.endswith("; checkpoint 6 takes its place")
        with pytest.raises(UserError, match="12 cannot be read as a checkpoint"):
            inception_jax.load(copy, "12")
        assert [each.title for each in load_each(copy, warn=warnings.append)] == [f"{copy.name}/6"]
        assert warnings[-1].startswith("checkpoint 12 is skipped: ")
        damage(copy / "checkpoints" / "6")
        for read in (inception_jax.load, load_weights, load_all):
            with pytest.raises(UserError, match="cannot be read as a checkpoint"):
                read(copy)


def test_the_best_checkpoint_is_that_of_the_highest_top1():
    metrics = {
        1: {"top1": 0.5, "loss": 2.0},
        2: {"top1": 0.5, "loss": 1.0},
        3: None,
        4: {"top1": 0.1, "loss": 0.1},
        5: None,
    }
    assert best_first(metrics) == [2, 1, 4, 5, 3]


def test_the_fingerprint_is_of_every_weight(classifier, trained):
    assert inception_jax.load(trained, "last").fingerprint == classifier.fingerprint
    leaves, tree = jax.tree.flatten(classifier.variables)
    seen = {classifier.fingerprint}
    for i, leaf in enumerate(leaves):
        changed = leaf.copy()
        changed.flat[-1] += 1e-3
        variables = jax.tree.unflatten(tree, [*leaves[:i], changed, *leaves[i + 1 :]])
        seen.add(dataclasses.replace(classifier, variables=variables).fingerprint)
    half = jax.tree.map(lambda leaf: leaf.astype(jax.numpy.bfloat16), classifier.variables)
    seen.add(dataclasses.replace(classifier, variables=half).fingerprint)
    assert len(seen) == 2 + len(leaves)


def test_a_checkpoint_holds_bfloat16(tmp_path):
    parallel = DataParallel()
    state = parallel.replicate(State(np.arange(3, dtype=jax.numpy.bfloat16)))
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(1, state, {})
    checkpoints.wait()
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=parallel.replicated), state)
    restored = checkpoints.restore(abstract, pytest.fail)
    checkpoints.close()
    assert restored.momentum.dtype == jax.numpy.bfloat16
    assert restored.momentum.tolist() == [0, 1, 2]


@flax.struct.dataclass
class State:
    momentum: jax.Array


def test_a_workdir_may_be_relative(trained, monkeypatch):
    monkeypatch.chdir(trained.parent)
    assert inception_jax.load(trained.name).fingerprint == inception_jax.load(trained).fingerprint

"""Classes of image files as a library."""

import os
import pathlib
import threading

import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

import inception_jax
from inception_jax import UserError, models
from inception_jax.evaluation import predict
from inception_jax.evaluation.predict import ImageFile, find_images, predict_files
from inception_jax.runs.classifier import Classifier

CLASSES = ("blue", "green", "red")
NAMES = ("B.PNG", "a.png", "a[1].png", "a1.png", "b/c.png", "b/deep/d.png", "z.png")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with seven images of 18 x 18, whose evaluation crop is the inner 16 x 16; and their pixels by path."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "b" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = {str(folder / name): rng.integers(0, 256, (18, 18, 3), np.uint8) for name in NAMES}
    for path, image in pixels.items():
        Image.fromarray(image).save(path)
    (folder / "none").mkdir()
    (folder / ".git").mkdir()
    for hidden in (".hidden.png", ".git/e.png", "notes.txt"):
        (folder / hidden).write_bytes((folder / "a.png").read_bytes())
    return folder, {path: pixels[path] for path in sorted(pixels)}


@pytest.fixture(scope="module")
def classifier(trained):
    return inception_jax.load(trained, "last")


def by_hand(workdir, pixels, step, part):
    """Probabilities and end points of the images by the weights of a checkpoint."""
    state = ocp.StandardCheckpointer().restore((workdir / "checkpoints" / str(step) / "state").absolute())
    chosen = state[part] if part else state
    crops = (np.stack(list(pixels.values()))[:, 1:17, 1:17].astype(np.float32) - 128) / 64
    model = models.create_model("tiny", num_classes=3, norm="batch")
    logits, end_points = model.apply({name: chosen[name] for name in ("params", "batch_stats")}, crops)
    exponentials = np.exp(np.asarray(logits, np.float64))
    return exponentials / exponentials.sum(axis=1, keepdims=True), end_points


def test_predictions_are_those_of_the_checkpoint(classifier, trained, images):
    folder, pixels = images
    for network, step, part in ((classifier, 12, "ema"), (inception_jax.load(trained, "6", "raw"), 6, "")):
        expected, end_points = by_hand(trained, pixels, step, part)
        result = list(predict_files(network, [folder], features="pool"))
        assert [prediction.path for prediction in result] == list(pixels)
        for place, (prediction, image) in enumerate(zip(result, pixels.values(), strict=True)):
            best = np.argsort(-expected[place])
            assert (prediction.classes, prediction.error) == (tuple(best), "")
            assert prediction.names == tuple(CLASSES[k] for k in best)
            np.testing.assert_allclose(prediction.probabilities, expected[place, best], atol=1e-5)
            np.testing.assert_allclose(prediction.features, end_points["pool"][place], atol=1e-5)
            np.testing.assert_array_equal(prediction.crop, image[1:17, 1:17])
            assert prediction.features.dtype == np.float32


def test_one_batch_size_is_compiled(classifier, images, monkeypatch):
    folder, _ = images
    seen, run = [], Classifier.run
    monkeypatch.setattr(
        Classifier, "run", lambda self, crops, *names: seen.append((len(crops), names)) or run(self, crops, *names)
    )
    monkeypatch.setattr(predict, "_PATIENCE", 60)  # each batch is full
    paths = ["nowhere.png", folder]
    result = list(predict_files(classifier, paths, batch_size=3, top_k=2, features="pool"))
    assert seen == [(3, ("top", "pool"))] * 3  # of 2 readable ones, 3 and 2; features are of the same pass
    assert [len(prediction.classes) for prediction in result] == [0] + [2] * 7
    seen.clear()
    assert len(list(predict_files(classifier, sorted(folder.glob("a*.png"))))) == 3
    assert seen == [(3, ("top",))]  # fewer images than a batch
    assert list(predict_files(classifier, [])) == []


def test_a_prediction_comes_before_the_next_path(classifier, images):
    taken = threading.Semaphore(0)

    def paths():
        for path in images[1]:
            yield path
            assert taken.acquire(timeout=120), "the prediction did not come"

    seen = []
    for prediction in predict_files(classifier, paths()):
        seen.append(prediction.path)
        taken.release()
    assert seen == list(images[1])


def test_an_error_of_the_paths_is_raised(classifier, images):
    def paths():
        yield images[0] / "a.png"
        raise OSError("the pipe broke")

    with pytest.raises(OSError, match="the pipe broke"):
        list(predict_files(classifier, paths()))


def test_a_damaged_file_has_an_error_in_its_place(classifier, images, tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes((images[0] / "a.png").read_bytes()[:500])
    paths = [images[0] / "a.png", torn, ImageFile("x.png", "not wanted"), str(images[0] / "z.png")]
    result = list(predict_files(classifier, paths))
    assert [(prediction.path, prediction.error) for prediction in result] == [
        (str(paths[0]), ""),
        (str(torn), "image file is truncated"),
        ("x.png", "not wanted"),
        (paths[3], ""),
    ]
    assert [bool(prediction.classes) for prediction in result] == [True, False, False, True]


def test_mistakes_are_raised_at_once(classifier):
    for options, message in (
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"top_k": 0}, "top_k=0 must be 1 or more"),
        ({"features": "pool5"}, "features='pool5' is not one of stem, body, pool, top"),
    ):
        with pytest.raises(UserError, match=f"^{message}$"):
            predict_files(classifier, [], **options)


def test_files_folders_and_patterns(images, tmp_path, monkeypatch):
    folder, pixels = images
    deep = [str(folder / name) for name in ("b/c.png", "b/deep/d.png")]
    monkeypatch.chdir(tmp_path)
    for path, pattern, expected in (
        ("b/c.png", False, deep[:1]),
        ("a.png", True, [str(folder / "a.png")]),
        ("b", False, deep),
        ("", False, list(pixels)),
        ("a[1].png", True, [str(folder / "a[1].png")]),  # such a file exists
        ("a[1-9].png", True, [str(folder / "a1.png")]),
        ("**/*.png", True, [path for path in pixels if path.endswith(".png")]),
        ("**", True, list(pixels)),
        ("?", True, deep),
        ("none", False, "no images in this folder"),
        ("*.txt", True, "no images match this pattern"),
        ("a[1-9].png", False, "no such file or folder"),
        ("nowhere.png", True, "no such file or folder"),
    ):
        path = str(folder / path)
        found = [ImageFile(path, expected)] if isinstance(expected, str) else [ImageFile(one) for one in expected]
        assert find_images(path, pattern) == found, path
    monkeypatch.setenv("HOME", str(folder))
    assert find_images("~/a1*", pattern=True) == [ImageFile(str(folder / "a1.png"))]


def test_a_folder_that_cannot_be_read_is_told(images, monkeypatch):
    folder, pixels = images
    scandir = os.scandir

    def forbidden(path):
        if pathlib.Path(path) == folder / "b":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    result = find_images(str(folder))
    assert [file for file in result if file.error] == [(str(folder / "b"), "Permission denied")]
    assert len(result) == len(pixels) - 2 + 1

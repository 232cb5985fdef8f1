"""From a published file to a workdir, and the sizes of published files."""

import json

import jax
import numpy as np
import pytest

import inception_jax
from experiments import evaluate, import_weights, predict
from inception_jax.runs.classifier import load_weights
from inception_jax.weights.formats.safetensors import write_safetensors
from inception_jax.weights.sources import catalogue, keras, slim, torchvision
from tests.weights.published import random_file


def test_published_counts():
    """Numbers of arrays and of numbers in them, as the publishers count them."""
    for weights, arrays, numbers in (
        (slim.INCEPTION_V4, 608, 46_074_066),  # tf-slim's checkpoints, with auxiliary heads
        (slim.INCEPTION_RESNET_V2, 908, 59_244_594),
        (torchvision.VGG[16, False], 32, 138_357_544),  # torchvision's table
        (keras.INCEPTION_V3, 378, 23_851_784),  # Keras's table: total with the statistics
    ):
        shapes = [array.shape for array in random_file(weights).values()]
        assert (len(shapes), sum(int(np.prod(shape)) for shape in shapes)) == (arrays, numbers), weights.network


def test_numbers_of_keras_layers():
    arrays = {
        "conv2d_95/kernel": 0,
        "conv2d_97/kernel": 1,
        "conv2d_96/kernel": 2,
        "dense/bias": 3,
        "batch_normalization/beta": 4,
    }
    assert keras.renumbered(arrays) == {
        "conv2d_1/kernel": 0,
        "conv2d_3/kernel": 1,
        "conv2d_2/kernel": 2,
        "dense/bias": 3,
        "batch_normalization_1/beta": 4,
    }


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file with torchvision's names of GoogLeNet, and random numbers."""
    file = tmp_path_factory.mktemp("published") / "googlenet.safetensors"
    arrays = random_file(torchvision.GOOGLENET)
    arrays = {name: abs(a) if "running_var" in name else 0.1 * a for name, a in arrays.items()}
    write_safetensors(file, arrays | {"aux1.fc1.weight": np.zeros((2, 2), np.float32)}, {})
    return file


def test_from_a_published_file_to_a_workdir(published, tmp_path, capsys, monkeypatch):
    workdir = tmp_path / "workdir"
    assert import_weights.main([f"--file={published}"]) == 0
    assert "weights     torchvision/googlenet" in capsys.readouterr().out
    assert import_weights.main(["torchvision/googlenet", f"--file={published}", f"--workdir={workdir}"]) == 0
    out = capsys.readouterr().out
    assert "published   top-1 69.78 %, top-5 89.53 %" in out
    assert "auxiliary heads were never trained" in out

    classifier = inception_jax.load(workdir)
    assert (classifier.name, classifier.crop_config.size, classifier.crop_config.resize) == ("googlenet_tv", 224, 256)
    assert classifier.class_names[:2] == ("n01440764 tench", "n01443537 goldfish")
    assert classifier.class_names[-1] == "n15075141 toilet tissue"
    monkeypatch.setattr(catalogue.Source, "fetch", lambda self: published)
    by_name = inception_jax.load("torchvision/googlenet")
    assert by_name.fingerprint == classifier.fingerprint
    assert by_name.preprocessing == classifier.preprocessing
    weights = load_weights("torchvision/googlenet")  # --config.init_from
    for path, leaf in jax.tree_util.tree_leaves_with_path({"params": classifier.variables["params"]}):
        np.testing.assert_array_equal(weights["/".join(part.key for part in path)], leaf)

    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "noise.png")
    assert predict.main([f"--workdir={workdir}", str(tmp_path / "noise.png"), "--format=json"]) == 0
    assert json.loads(capsys.readouterr().out)

    for number in ("n01443537", "n15075141"):  # two of the thousand
        (tmp_path / "images" / "val" / number).mkdir(parents=True)
        (tmp_path / "noise.png").rename(tmp_path / "images" / "val" / number / "noise.png")
        Image.fromarray(image).save(tmp_path / "noise.png")
    data = ("--data=folder", f"--data-dir={tmp_path / 'images'}", "--split=val")
    assert evaluate.main([f"--workdir={workdir}", *data]) == 0
    assert "  2  50.00 %  100.00 %" in capsys.readouterr().out  # one of two classes is right for the same image
    assert import_weights.main(["torchvision/googlenet", f"--file={published}", f"--workdir={workdir}"]) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_errors_of_the_import(published, tmp_path, capsys):
    def error(*arguments):
        assert import_weights.main(list(arguments)) == 2
        return capsys.readouterr().err

    assert "did you mean torchvision/googlenet" in error("torchvision/googlenett")
    assert "a NAME or --file is needed" in error()
    assert "is not torchvision/alexnet: the weights of alexnet_tv have" in error(
        "torchvision/alexnet", f"--file={published}"
    )
    write_safetensors(tmp_path / "other.safetensors", {"a": np.zeros(2, np.float32)}, {})
    assert "no known network has its 1 array" in error(f"--file={tmp_path / 'other.safetensors'}")
    twins = tmp_path / "twins.safetensors"
    write_safetensors(twins, random_file(torchvision.RESNET50), {})
    assert import_weights.main([f"--file={twins}"]) == 0  # a question, and its answer
    out = capsys.readouterr().out
    assert "  torchvision/resnet50: resize=256\n  torchvision/resnet50.v2: resize=232\n" in out
    assert "name one" in error(f"--file={twins}", f"--workdir={tmp_path / 'workdir'}")
    assert not (tmp_path / "workdir").exists()
    assert import_weights.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in catalogue.sources())

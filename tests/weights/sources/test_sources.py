"""Maps of published weights: their layouts by hand, the catalogue, and the way from a file to a workdir."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import inception_jax
from experiments import evaluate, import_weights, predict
from inception_jax.errors import UserError
from inception_jax.runs.classifier import load_weights
from inception_jax.weights.formats.safetensors import write_safetensors
from inception_jax.weights.sources import catalogue, keras, mapping, slim, torchvision
from inception_jax.weights.sources.mapping import KERAS, TORCH, WeightMap


def random_file(weights, classes=1000):
    """The arrays of a file, with random numbers; those of the classifier for `classes`."""
    rng = np.random.default_rng(0)
    shapes = {entry.theirs: entry.shape for entry in mapping.entries(weights)}
    return {
        name: rng.standard_normal([classes + weights.background if n is None else n for n in shape], np.float32)
        for name, shape in shapes.items()
    }


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


# 16x16x3 images: conv 4, conv 8, pool, classifier; an auxiliary head. See tests/conftest.py.
TINY = WeightMap(
    network="tiny",
    options={"norm": "batch"},
    framework=TORCH,
    scopes=torchvision.normalised({"stem/conv3x3": "stem", "body/conv3x3": "body"})
    | {"top/classifier": "fc", "aux1/classifier": "aux"},
    ignored=torchvision.COUNTERS,
)


def test_layouts():
    arrays = random_file(TINY, classes=3)
    variables = mapping.to_ours(TINY, arrays | {"stem.bn.num_batches_tracked": np.array(5)})
    kernel = arrays["stem.conv.weight"]
    assert kernel.shape == (4, 3, 3, 3)
    ours = variables["params"]["stem"]["conv3x3"]["kernel"]
    for o, i, y, x in np.ndindex(kernel.shape):
        assert ours[y, x, i, o] == kernel[o, i, y, x]
    np.testing.assert_array_equal(variables["params"]["top"]["classifier"]["kernel"], arrays["fc.weight"].T)
    np.testing.assert_array_equal(variables["batch_stats"]["body"]["conv3x3_bn"]["var"], arrays["body.bn.running_var"])

    # Blue, green, red: only the first convolution sees the image.
    turned = mapping.to_ours(dataclasses.replace(TINY, bgr=True), arrays)["params"]
    np.testing.assert_array_equal(turned["stem"]["conv3x3"]["kernel"], ours[:, :, ::-1])
    np.testing.assert_array_equal(turned["body"]["conv3x3"]["kernel"], variables["params"]["body"]["conv3x3"]["kernel"])

    # The first class is dropped, and written with a bias that never wins.
    background = dataclasses.replace(TINY, background=1)
    kept = mapping.to_ours(background, random_file(background, 3))
    theirs = random_file(background, 3)
    np.testing.assert_array_equal(kept["params"]["top"]["classifier"]["kernel"], theirs["fc.weight"][1:].T)
    back = mapping.to_theirs(background, kept)
    assert back["fc.bias"].tolist() == [-100.0, *theirs["fc.bias"][1:].tolist()]
    assert not back["fc.weight"][0].any()

    # Biases before batch normalisation: (x + b - mean) is (x - (mean - b)).
    folded = dataclasses.replace(TINY, folded=True)
    with_biases = random_file(folded, 3)
    mean = mapping.to_ours(folded, with_biases)["batch_stats"]["stem"]["conv3x3_bn"]["mean"]
    np.testing.assert_array_equal(mean, with_biases["stem.bn.running_mean"] - with_biases["stem.conv.bias"])

    # A file without the classifier.
    scopes = {scope: name for scope, name in TINY.scopes.items() if not scope.endswith("classifier")}
    headless = dataclasses.replace(TINY, scopes=scopes, absent=("top/classifier", "aux1/classifier"))
    classifier = mapping.to_ours(headless, random_file(headless))["params"]["top"]["classifier"]
    assert classifier["kernel"].shape == (8, 1000)
    assert not classifier["kernel"].any()


def test_a_flattened_grid():
    """PyTorch flattens channels first, Keras channels last; the grid of a small AlexNet is 6x6x16."""
    kernels = {}
    for framework in (TORCH, KERAS):
        weights = dataclasses.replace(torchvision.ALEXNET, options={"width": 1 / 16}, framework=framework)
        name = "classifier.1" + framework.separator + framework.layer["kernel"]
        arrays = random_file(weights, 10)
        grid = np.zeros((256, 16, 6, 6) if framework is TORCH else (6, 6, 16, 256), np.float32)
        grid[(7, 2, 3, 4) if framework is TORCH else (3, 4, 2, 7)] = 1.0  # unit 7 sees channel 2 at row 3, column 4
        arrays[name] = grid.reshape(arrays[name].shape)
        variables = mapping.to_ours(weights, arrays)
        kernels[framework.separator] = variables["params"]["fc6"]["dense"]["kernel"]
        np.testing.assert_array_equal(mapping.to_theirs(weights, variables)[name], arrays[name])
        convolved = dataclasses.replace(weights, convolved={"fc6/dense"})  # as tf-slim and timm store VGG's
        as_kernel = mapping.to_ours(convolved, arrays | {name: grid})["params"]["fc6"]["dense"]["kernel"]
        np.testing.assert_array_equal(as_kernel, kernels[framework.separator])
    np.testing.assert_array_equal(kernels["."], kernels["/"])
    assert kernels["."][(3 * 6 + 4) * 16 + 2, 7] == 1


def test_arrays_that_do_not_fit_are_listed():
    arrays = random_file(TINY, 3)
    del arrays["body.bn.bias"]
    arrays["body.conv.weight"] = np.zeros((8, 4, 5, 5), np.float32)
    arrays["extra.weight"] = np.zeros(2, np.float32)
    with pytest.raises(UserError) as caught:
        mapping.to_ours(TINY, arrays)
    assert str(caught.value).splitlines() == [
        "the weights are not those of tiny; 3 arrays differ:",
        "  body.conv.weight: 8x4x5x5 in place of 8x4x3x3",
        "  body.bn.bias: missing (8)",
        "  extra.weight: not known (2)",
    ]
    with pytest.raises(UserError, match=r"fc\.bias, which is missing|aux\.bias, which is missing"):
        mapping.to_ours(TINY, {})


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

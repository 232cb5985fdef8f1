"""Between a file's arrays and a network's: layouts by hand on tiny networks, the way back, and what is refused."""

import dataclasses

import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.weights.sources import mapping, torchvision
from inception_jax.weights.sources.mapping import KERAS, TORCH, WeightMap
from tests.weights.published import random_file

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
    headless_again = mapping.to_theirs(headless, mapping.to_ours(headless, random_file(headless)))
    assert headless_again.keys() == random_file(headless).keys()


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


@pytest.mark.parametrize("changes", [{}, {"bgr": True}, {"folded": True}], ids=["plain", "bgr", "folded"])
def test_the_way_back(changes):
    weights = dataclasses.replace(TINY, **changes)
    arrays = random_file(weights, 3)
    variables = mapping.to_ours(weights, arrays)
    back = mapping.to_theirs(weights, variables)
    assert back.keys() == arrays.keys()
    assert all(array.flags.c_contiguous for array in back.values())  # writers of files take their bytes
    if weights.folded:  # the biases are in the means now
        means = {name for name in arrays if name.endswith("running_mean")}
        biases = {name.replace("bn.running_mean", "conv.bias") for name in means}
        assert not any(back[name].any() for name in biases)
        again = mapping.to_ours(weights, back)["batch_stats"]["body"]["conv3x3_bn"]["mean"]
        np.testing.assert_array_equal(again, variables["batch_stats"]["body"]["conv3x3_bn"]["mean"])
        arrays = {name: array for name, array in arrays.items() if name not in means | biases}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_half_precision_becomes_float32():
    arrays = {name: array.astype(np.float16) for name, array in random_file(TINY, 3).items()}
    assert mapping.to_ours(TINY, arrays)["params"]["stem"]["conv3x3"]["kernel"].dtype == np.float32


def test_only_whole_names_are_ignored():
    arrays = random_file(TINY, 3) | {"stem.bn.num_batches_tracked_twice": np.zeros(1, np.float32)}
    with pytest.raises(UserError, match="num_batches_tracked_twice: not known"):
        mapping.to_ours(TINY, arrays)


def test_a_classifier_of_another_rank():
    arrays = random_file(TINY, 3)
    name = next(entry.theirs for entry in mapping.entries(TINY) if None in entry.shape)
    with pytest.raises(UserError, match=f"{name}: .* has another number of dimensions than the classifier"):
        mapping.to_ours(TINY, arrays | {name: arrays[name][None]})


def test_variables_of_another_network():
    variables = mapping.to_ours(TINY, random_file(TINY, 3))
    more = {**variables, "params": variables["params"] | {"more": {"bias": np.zeros(1)}}}
    less = {**variables, "params": {name: value for name, value in variables["params"].items() if name != "body"}}
    for different, named in ((more, "params/more/bias"), (less, "params/body/conv3x3/kernel")):
        with pytest.raises(UserError, match=rf"not those of tiny as the file has it: .*{named}"):
            mapping.to_theirs(TINY, different)


def test_a_map_has_the_scopes_of_its_network():
    less = {scope: prefix for scope, prefix in TINY.scopes.items() if scope != "body/conv3x3_bn"}
    for scopes, named in ((less, "body/conv3x3_bn"), (TINY.scopes | {"body/conv5x5": "body5"}, "body/conv5x5")):
        with pytest.raises(KeyError, match=rf"tiny: the map differs in the scopes \['{named}'\]"):
            mapping.entries(dataclasses.replace(TINY, scopes=scopes))

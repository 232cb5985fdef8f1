import dataclasses

import numpy as np
import pytest

import inception_jax
from inception_jax import explain
from inception_jax.errors import UserError
from inception_jax.explain.attribution import class_index
from inception_jax.explain.methods import METHODS, IntegratedGradients
from inception_jax.explain.network import Explained, last_grid
from inception_jax.models import create_model


@pytest.fixture(scope="module")
def classifier(trained):
    return inception_jax.load(trained)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_explains_the_most_probable_class(classifier, images, method):
    found = explain.attribute(classifier, images, method, batch_size=2)
    logits = classifier.features(images, "top")
    assert [one.index for one in found] == logits.argmax(-1).tolist()
    assert [one.title for one in found] == [classifier.class_names[k] for k in logits.argmax(-1)]
    np.testing.assert_allclose([one.number for one in found], logits.max(-1), rtol=1e-5)
    # Each alone, and by its name: the same.
    alone = explain.attribute(classifier, images, method, [one.title for one in found], batch_size=1)
    for one, again in zip(found, alone, strict=True):
        assert one.crop.shape == (16, 16, 3)
        assert one.heat.shape == (16, 16)
        assert one.heat.min() >= 0
        np.testing.assert_allclose(again.values, one.values, rtol=1e-4, atol=1e-6)
    assert any(one.heat.max() > 0 for one in found)


def test_explains_one_class_of_each_image_and_a_unit(classifier, images):
    found = explain.attribute(classifier, images, "gradient", ["red", 0, "green"])
    assert [(one.title, one.index) for one in found] == [("red", 2), ("blue", 0), ("green", 1)]
    [one] = explain.attribute(classifier, images[1], "gradient", "blue")
    np.testing.assert_allclose(one.values, found[1].values, rtol=1e-4, atol=1e-6)
    [unit, *_] = explain.attribute(classifier, images, "deconvnet", unit=explain.Unit("body", 5))
    assert (unit.title, unit.index) == ("body 5", 5)
    assert unit.number == pytest.approx(classifier.features(images[:1], "body")[0, :, :, 5].max(), rel=1e-5)
    assert explain.attribute(classifier, images, "gradcam", unit=explain.Unit("body", 5))[0].values.shape == (8, 8)


def test_says_how_far_integrated_gradients_are_from_complete(classifier, images):
    few, many = (explain.attribute(classifier, images, IntegratedGradients(steps=steps), "red") for steps in (1, 256))
    assert all(one.error < 1e-3 for one in many)
    assert sum(one.error for one in few) > sum(one.error for one in many)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "grad"}, "method='grad' is not one of gradient, deconvnet"),
        ({"classes": "redd"}, "the network has no class 'redd'; did you mean 'red'?"),
        ({"classes": 3}, "the network has no class 3; it has 3, by name or index"),
        ({"unit": explain.Unit("body", 8)}, "channel=8 is not in 0 to 7, which body has"),
        ({"unit": explain.Unit("boddy", 0)}, "layer='boddy' is not one of stem, body"),
        ({"layer": "pool"}, "layer='pool' has no grid of more than one cell"),
        ({"layer": "top"}, "layer='top' has no grid of more than one cell"),
        (
            {"layer": "body", "unit": explain.Unit("stem", 0)},
            "layer='body' must come before stem, which is explained",
        ),
        ({"layer": "body", "method": "guided"}, "layer='body' is for class activation maps"),
        ({"classes": ["red"]}, "classes has 1 entries, but there are more images"),
    ],
)
def test_says_what_is_wrong(classifier, images, arguments, message):
    with pytest.raises(UserError, match=message):
        explain.attribute(classifier, images, **arguments)


def test_a_class_named_by_a_number_comes_before_an_index(classifier):
    named = dataclasses.replace(classifier, class_names=("1", "0", "x"))
    assert class_index(named, "1") == 0
    assert class_index(named, 1) == 1
    with pytest.raises(UserError, match="2 classes are named 'x': give an index, 0 or 1"):
        class_index(dataclasses.replace(classifier, class_names=("x", "x", "y")), "x")


# The last convolutions that the papers of CAM and Grad-CAM take, or the like.
LAST_GRID = {
    "alexnet": "conv5",
    "googlenet": "inception_5b",
    "inception_v3": "mixed_7c",
    "inception_v4": "mixed_7d",
    "lenet5": "c3",
    "nin_imagenet": "cccp8",
    "resnet50": "conv5_3",
    "vgg_d": "conv5_3",
}


@pytest.mark.parametrize("name", LAST_GRID)
def test_the_default_layer_is_the_last_one_with_a_grid(name):
    model = create_model(name)
    explained = Explained(model, model.layers[-1][0], None)
    assert last_grid(explained, model.input_shape) == LAST_GRID[name]

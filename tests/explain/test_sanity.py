import dataclasses

import numpy as np
import pytest
from scipy import stats

import inception_jax
from inception_jax.explain import make_explainer
from inception_jax.explain.sanity import faithfulness, randomise, rank_correlation
from inception_jax.runs.classifier import softmax


@pytest.fixture(scope="module")
def explained(trained):
    """Explanations of three images by the trained network."""
    explainer = make_explainer(inception_jax.load(trained), "gradient")
    crops = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    return explainer, explainer(crops)


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 9, 8)).round(1)  # with ties
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a.ravel(), b.ravel()).statistic, abs=1e-12)
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert rank_correlation(a, np.zeros((9, 8))) == 0


def test_layers_become_random_from_the_last_one_on(explained):
    explainer, explanations = explained
    found = list(randomise(explainer, explanations))
    assert [one.layer for one in found] == ["top", "body", "stem"]
    classifier = explainer.classifier
    start = classifier.model.init(
        inception_jax.explain.sanity.jax.random.key(0), np.zeros((1, *classifier.input_shape), np.float32)
    )
    crops = np.stack([one.crop for one in explanations])
    classes = [one.index for one in explanations]
    mixed = {part: dict(tree) for part, tree in classifier.variables.items()}
    mixed["params"]["top"] = start["params"]["top"]
    for one, expected in zip(found[0].explanations, explainer(crops, classes, mixed), strict=True):
        np.testing.assert_array_equal(one.values, expected.values)
    for one, expected in zip(
        found[2].explanations, explainer(crops, classes, {**start, "dataset_stats": {}}), strict=True
    ):
        np.testing.assert_array_equal(one.values, expected.values)
    assert max(found[2].similarity) < 0.9  # the gradient of another network


def test_deletion_and_insertion_follow_the_heat(explained):
    explainer, explanations = explained
    classifier, one = explainer.classifier, explanations[0]
    halves = np.zeros((16, 16), np.float32)
    halves[:8] = 1  # the upper half first
    found = faithfulness(classifier, [dataclasses.replace(one, heat=halves)], steps=2, batch_size=4)
    grey = np.array(one.crop)
    grey[:8] = 128
    images = np.stack([one.crop, grey, np.full_like(grey, 128)])
    curve = softmax(classifier.run(images, "top")[0])[:, one.index]
    assert found.deletion[0] == pytest.approx((curve[0] + 2 * curve[1] + curve[2]) / 4, abs=1e-6)
    blurred = faithfulness(classifier, [dataclasses.replace(one, heat=1 - halves)], steps=1).insertion
    assert 0 < blurred[0] < 1
    last = softmax(classifier.run(one.crop[None], "top")[0])[0, one.index]
    [first] = 2 * blurred - last  # the blurred image
    assert 0 < first < 1

"""Weights between layers, receptive fields, and the images that excite channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inception_jax
from inception_jax.data import loader
from inception_jax.data.sources import open_source
from inception_jax.errors import UserError
from inception_jax.explain.circuits import Branch, branch_strengths, branches, expanded_weights, linear
from inception_jax.explain.examples import strongest
from inception_jax.explain.network import receptive_field
from inception_jax.runs.classifier import Classifier
from tests.explain.test_methods import UNITS, make
from tests.values import crop_config


def classifier_of(units, size=16, **style):
    explained, variables, _ = make(units, **style)
    names = tuple(map(str, range(5)))
    classifier = Classifier("made", None, {}, variables, names, explained.preprocessing, crop_config(size))
    classifier.__dict__["model"] = explained.model  # in place of a network of `create_model`
    return classifier


@pytest.fixture(scope="module")
def classifier():
    return classifier_of(UNITS[:6])


def test_weights_are_multiplied_through_reductions_and_normalisation(classifier):
    params, stats = classifier.variables["params"]["mixed"], classifier.variables["batch_stats"]["mixed"]

    def factor(name):
        norm = params[f"{name}_bn"]
        return np.asarray(norm["scale"] / np.sqrt(stats[f"{name}_bn"]["var"] + 1e-3))

    found = expanded_weights(classifier, "grouped", "mixed", [4])  # the second filter of conv3x1, behind conv1x3
    first = np.asarray(params["conv1x3"]["kernel"]) * factor("conv1x3")
    second = np.asarray(params["conv3x1"]["kernel"]) * factor("conv3x1")
    expected = np.einsum("axcm,yamo->yxco", first, second)[..., 1]
    assert found.shape == (1, 3, 3, 8)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-6)
    # A max-pool of 3 x 3 counts as a mean.
    pooled = expanded_weights(classifier, "grouped", "mixed", [8])[0]
    np.testing.assert_allclose(pooled[:, :, 0], np.full((3, 3), 1 / 9), rtol=1e-5)
    assert not pooled[:, :, 1:].any()


def test_a_branch_has_its_own_channels(classifier):
    names = ("conv1x1", "conv3x1", "pool_proj", "pool")
    widths = (3, 3, 2, 8)
    ends = np.cumsum((0, *widths))
    expected = [Branch(f"mixed/{name}", range(ends[i], ends[i + 1])) for i, name in enumerate(names)]
    assert branches(classifier, "mixed") == expected
    assert branches(classifier, "norm") == branches(classifier, "stem") == [Branch("stem", range(8))]
    found = branch_strengths(classifier, "grouped", "mixed")
    weights = expanded_weights(classifier, "grouped", "mixed", range(16))
    squares = (weights.astype(np.float64) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(found[0], [np.sqrt(squares[b.channels].mean()) for b in expected])


def test_branches_within_branches_are_named():
    explained, *_ = make(UNITS)
    names = tuple(map(str, range(1000)))
    options = {"name": "inception_v3"}
    classifier = Classifier("v3", None, options, {"params": {}}, names, explained.preprocessing, crop_config(299))
    vars(classifier)["end_point_shape"] = {"mixed_7c": (8, 8, 2048)}.get
    found = branches(classifier, "mixed_7c")
    assert [len(branch.channels) for branch in found] == [320, 384, 384, 384, 384, 192]
    assert len({branch.name for branch in found}) == 6


@pytest.mark.parametrize("padding", ["SAME", "SYMMETRIC"])
def test_a_cell_sees_its_receptive_field_and_no_more(padding):
    classifier = classifier_of(UNITS[:6], size=30, conv_padding=padding, pool_padding=padding)
    layers = ("stem", "grouped", "mixed", "strided")
    network = linear(classifier.model)

    @jax.jit
    def derivatives(variables, image):
        def middle(image):
            grids = [network.apply(variables, image[None])[1][layer][0] for layer in layers]
            return [grid[grid.shape[0] // 2, grid.shape[1] // 2 + 1].sum() for grid in grids]

        return jax.jacrev(middle)(image)

    for layer, derivative in zip(layers, derivatives(classifier.variables, jnp.zeros((30, 30, 3))), strict=True):
        depends = np.abs(derivative).sum(axis=-1) > 0
        rows, columns, _ = classifier.end_point_shape(layer)
        seen = receptive_field(classifier, layer).pixels((rows // 2, columns // 2 + 1), (30, 30))
        for places, axis in zip(seen, (1, 0), strict=True):
            found = np.flatnonzero(depends.any(axis=axis))
            assert (found[0], found[-1] + 1) == (places.start, places.stop), layer


def test_finds_the_images_that_excite_a_channel_most(trained, image_folder):
    classifier = inception_jax.load(trained)
    source = open_source("folder", "val", str(image_folder))
    options = {"batch_size": 8, "shard": loader.ProcessShard(), "threads": 1}
    batches = loader.eval_batches(source, classifier.crop_config, loader.DamageReport(source), **options)
    found = strongest(classifier, "body", [3, 6], batches, 4)
    images = [loader.whole_image(source, i, 10**6) for i in range(len(source))]
    maps = classifier.features(images, "body")
    for examples, channel in zip(found, [3, 6], strict=True):
        order = np.argsort(-maps[..., channel].max(axis=(1, 2)), kind="stable")[:4]
        assert [one.position for one in examples] == order.tolist()
        for one in examples:
            assert one.output == pytest.approx(maps[one.position, *one.cell, channel], rel=1e-5)
            np.testing.assert_array_equal(one.crop, classifier.crop(images[one.position]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stems", "mixed", [0]), "layer='stems' is not one of stem, norm"),
        (("mixed", "stem", [0]), "layer='mixed' must come before stem, which reads it"),
        (("stem", "mixed", [0, 16]), "channel=16 is not in 0 to 15, which mixed has"),
    ],
)
def test_names_what_is_missing(classifier, arguments, message):
    with pytest.raises(UserError, match=message):
        expanded_weights(classifier, *arguments)

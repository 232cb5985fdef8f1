import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import initializers

from inception_jax.errors import UserError
from inception_jax.explain.methods import (
    METHODS,
    ActivationMap,
    Gradient,
    IntegratedGradients,
    Occlusion,
    SmoothGrad,
    Summed,
)
from inception_jax.explain.network import Explained
from inception_jax.models import create_model
from inception_jax.models.network import Network
from inception_jax.models.units import (
    AdaptiveAvgPool,
    AverageLogits,
    AvgPool,
    BatchNorm,
    Chain,
    Concat,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    GlobalAvgPool,
    LocalResponseNorm,
    Logits,
    MaxPool,
    Residual,
    Style,
)
from tests.explain.numpy_network import NumpyNetwork
from tests.values import preprocessing

STYLE = Style(
    conv_padding="SAME",
    pool_padding="SAME",
    kernel_init=initializers.normal(0.5),
    bias_init=initializers.normal(0.1),
    batch_norm=BatchNorm(0.9, 1e-3),
)
# Every unit, and every way that a signal can divide.
UNITS = (
    ("stem", Chain(DepthwiseConv("depthwise", 2, 3, 1), Conv("conv1x1", 8, 1), MaxPool(3, 2))),
    ("norm", LocalResponseNorm(size=4, alpha=0.5, groups=2)),
    ("grouped", Conv("conv3x3", 8, 3, groups=2, batch_norm=False)),
    (
        "mixed",
        Concat(
            Conv("conv1x1", 3, 1),
            Chain(Conv("conv1x3", 4, (1, 3)), Conv("conv3x1", 3, (3, 1))),
            Chain(AvgPool(3, 1, "SAME"), Conv("pool_proj", 2, 1)),
            MaxPool(3, 1),
        ),
    ),
    ("residual", Residual(Conv("branch", 4, 3), projection="expand", scale=0.7)),
    ("strided", Residual(Conv("branch", 6, 3, 2), shortcut=Conv("shortcut", 6, 1, 2, activation=False))),
    ("adaptive", AdaptiveAvgPool(3)),
    ("fc", Chain(Dense("dense", 10, window=2), Dropout(0.5))),
    ("classes", Logits("conv1x1", 5, window=1, activation=True)),
    ("mean", AverageLogits()),
)
GAP_UNITS = (*UNITS[:6], ("pool", GlobalAvgPool()), ("dropout", Dropout(0.5)), ("logits", Logits("classifier", 5)))
PREPROCESSING = preprocessing(mean=(100.0,) * 3, std=(50.0,) * 3)


def make(units, **style):
    model = Network(units, dataclasses.replace(STYLE, **style), input_shape=(13, 12, 3), min_size=4)
    images = jax.random.normal(jax.random.key(1), (2, 13, 12, 3))
    variables = model.init(jax.random.key(0), images)
    # Statistics other than those at the start, where normalisation does nothing.
    keys = iter(jax.random.split(jax.random.key(2), 100))
    noisy = lambda x: x + jax.random.uniform(next(keys), x.shape, minval=0.1, maxval=1.0)  # noqa: E731
    variables = {**variables, "batch_stats": jax.tree.map(noisy, variables["batch_stats"]), "dataset_stats": {}}
    return Explained(model, units[-1][0], PREPROCESSING), variables, images


def run(method, explained, variables, images, channels, **layer):
    def call(variables, images, channels, part):
        parts = {"part": part} if isinstance(method, Summed) else {}
        return method(explained, variables, images, channels, **layer, **parts)

    program, channels = jax.jit(call), jnp.array(channels)
    parts = range(method.parts if isinstance(method, Summed) else 1)
    return sum(np.asarray(program(variables, images, channels, part)) for part in parts)


@pytest.mark.parametrize(("rule", "count_include_pad"), [("backprop", False), ("deconvnet", True), ("guided", False)])
def test_gradients_are_those_of_an_independent_construction(rule, count_include_pad):
    explained, variables, images = make(UNITS, count_include_pad=count_include_pad)
    network = NumpyNetwork(explained.model, variables, rule)
    logits = network.forward(images)
    np.testing.assert_allclose(explained.run(variables, images), logits, atol=1e-5 * np.abs(logits).max())
    channels = logits.argmax(axis=1)
    expected = network.backward(np.eye(5)[channels])
    assert np.abs(expected).max() > 0
    found = run(Gradient(rule), explained, variables, images, channels)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_unit_is_explained_by_its_strongest_place():
    explained, variables, images = make(UNITS[:4])
    channels = [1, 8]
    maps = np.asarray(explained.run(variables, images))
    network = NumpyNetwork(explained.model, variables, "backprop")
    np.testing.assert_allclose(network.forward(images), maps, atol=1e-5 * np.abs(maps).max())
    signal = np.zeros_like(maps)
    for image, channel in enumerate(channels):
        row, column = np.unravel_index(maps[image, :, :, channel].argmax(), maps.shape[1:3])
        signal[image, row, column, channel] = 1
    expected = network.backward(signal)
    found = run(Gradient(), explained, variables, images, channels)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_rule_needs_relus():
    explained = Explained(create_model("lenet5"), "output", PREPROCESSING)
    with pytest.raises(UserError, match="rule='guided' is a rule for ReLUs, which this network has not"):
        Gradient("guided")(explained, {}, jnp.zeros((1, 32, 32, 1)), jnp.zeros(1, int))


def test_gradcam_and_hirescam_are_cam_where_a_mean_follows():
    explained, variables, images = make(GAP_UNITS)
    found = {
        name: run(METHODS[name], explained, variables, images, [3, 0], layer="strided")
        for name in ("cam", "gradcam", "hirescam")
    }
    cells = found["cam"][0].size
    bias = np.asarray(variables["params"]["logits"]["classifier"]["bias"])
    scores = np.asarray(explained.score(variables, images, jnp.array([3, 0])))
    np.testing.assert_allclose(found["cam"].mean((1, 2)), scores - bias[[3, 0]], rtol=1e-5, atol=1e-6)
    scale = np.abs(found["cam"]).max() / cells
    np.testing.assert_allclose(found["gradcam"], found["cam"] / cells, atol=1e-5 * scale)
    np.testing.assert_allclose(found["hirescam"], found["cam"] / cells, atol=1e-5 * scale)


def test_cam_of_class_maps_is_the_map_of_the_class():
    explained, variables, images = make(UNITS)
    maps = explained.model.apply(variables, images)[1]["classes"]
    found = run(ActivationMap("cam"), explained, variables, images, [4, 2], layer="classes")
    np.testing.assert_allclose(found, np.stack([maps[0, :, :, 4], maps[1, :, :, 2]]), rtol=1e-5)


def test_cam_of_a_unit_behind_the_mean_is_the_map_of_its_channel():
    whole, variables, images = make(GAP_UNITS)
    maps = whole.model.apply(variables, images)[1]["strided"]
    found = run(
        ActivationMap("cam"), dataclasses.replace(whole, layer="pool"), variables, images, [1, 5], layer="strided"
    )
    np.testing.assert_allclose(found, np.stack([maps[0, :, :, 1], maps[1, :, :, 5]]), rtol=1e-5)


def test_cam_refuses_what_has_no_linear_layer_behind_a_mean():
    explained, variables, images = make(UNITS)
    with pytest.raises(UserError, match="needs a mean over the grid and at most one linear layer; take 'gradcam'"):
        run(ActivationMap("cam"), explained, variables, images, [0, 0], layer="strided")


@pytest.mark.parametrize("weights", ["gradcam", "gradcam++", "hirescam"])
def test_weights_of_channels_are_those_of_the_papers(weights):
    explained, variables, images = make(UNITS)
    grid = np.asarray(explained.model.apply(variables, images)[1]["mixed"], np.float64)
    above = Network(UNITS[4:], explained.model.style, input_shape=(13, 12, 3), min_size=1)
    network = NumpyNetwork(above, variables, "backprop")
    network.forward(grid)
    slope = network.backward(np.eye(5)[[1, 3]])
    if weights == "hirescam":
        expected = (slope * grid).sum(-1)
    elif weights == "gradcam":
        expected = (slope.mean((1, 2), keepdims=True) * grid).sum(-1)
    else:
        expected = np.zeros(grid.shape[:3])
        for n, k in np.ndindex(2, grid.shape[-1]):
            g, a = slope[n, :, :, k], grid[n, :, :, k]
            alpha = [x**2 / (2 * x**2 + a.sum() * x**3) if x else 0 for x in g.flat]
            expected[n] += a * sum(x * y for x, y in zip(alpha, np.maximum(g, 0).flat, strict=True))
    found = run(ActivationMap(weights), explained, variables, images, [1, 3], layer="mixed")
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_integrated_gradients_are_complete():
    explained, variables, images = make(GAP_UNITS)
    method = IntegratedGradients(steps=2048, baseline="black")
    found = run(method, explained, variables, images, [2, 4])
    black = method.start(explained, variables, images)
    np.testing.assert_array_equal(black, np.full(images.shape, -2.0))  # (0 - 100) / 50
    difference = explained.score(variables, images, jnp.array([2, 4])) - explained.score(
        variables, black, jnp.array([2, 4])
    )
    np.testing.assert_allclose(found.sum((1, 2, 3)), difference, rtol=1e-3)


def test_smoothgrad_is_the_mean_of_gradients_of_noisy_copies():
    explained, variables, images = make(GAP_UNITS)
    found = run(SmoothGrad(samples=3, noise=0.2, seed=5), explained, variables, images, [2, 4])
    noise = np.stack([
        jax.random.normal(jax.random.fold_in(jax.random.key(5), i), images.shape[1:]) for i in range(3)
    ])  # fmt: skip
    for image in range(2):
        copies = np.asarray(images[image]) + 0.2 * np.ptp(images[image]) * noise
        expected = run(Gradient(), explained, variables, copies, [[2, 4][image]] * 3).mean(0)
        np.testing.assert_allclose(found[image], expected, atol=1e-5 * np.abs(expected).max())


def test_occlusion_is_what_one_image_after_another_loses():
    explained, variables, images = make(GAP_UNITS)
    method = Occlusion(patch=4, stride=3)
    found = run(method, explained, variables, images, [2, 4])
    rows, columns = (0, 3, 6, 9), (0, 3, 6, 8)  # the last squares end at the edges of 13 x 12 pixels
    assert found.shape == (2, 4, 4)
    probability = jax.jit(lambda image, k: jax.nn.softmax(explained.run(variables, image[None])[0])[k])
    heat, count = np.zeros((2, 13, 12)), np.zeros((13, 12))
    for image, k in enumerate((2, 4)):
        for i, j in np.ndindex(4, 4):
            grey = np.array(images[image])
            grey[rows[i] : rows[i] + 4, columns[j] : columns[j] + 4] = 0
            loss = probability(images[image], k) - probability(grey, k)
            np.testing.assert_allclose(found[image, i, j], loss, atol=1e-5)
            heat[image, rows[i] : rows[i] + 4, columns[j] : columns[j] + 4] += loss
            count[rows[i] : rows[i] + 4, columns[j] : columns[j] + 4] += image == 0
    np.testing.assert_allclose(method.heat(found, (13, 12)), np.maximum(heat / count, 0), atol=1e-5)


def test_occlusion_of_a_channel_sums_its_grid():
    whole, variables, images = make(UNITS)
    explained = dataclasses.replace(whole, layer="mixed")
    maps = np.asarray(explained.run(variables, images))
    grey = np.array(images)
    grey[:, :5, :5] = 0
    expected = (maps - explained.run(variables, grey))[:, :, :, 3].sum((1, 2))
    found = run(Occlusion(patch=5), explained, variables, images, [3, 3])
    np.testing.assert_allclose(found[:, 0, 0], expected, atol=1e-4 * np.abs(maps).sum())

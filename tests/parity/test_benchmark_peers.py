"""The peers of the benchmark are our networks: with the same variables they give the same logits.

Needs torch and keras of requirements-bench.txt.
"""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

import inception_jax
from inception_jax import models
from inception_jax.models import initializers, trace
from inception_jax.models.network import Network
from inception_jax.models.units import Conv, GlobalAvgPool, Logits, MaxPool, Style

CLASSES = 7


def pooled(padding):
    """A pool of negative values, too, on an even height and an odd width."""
    return Network(
        layers=(
            ("conv1", Conv("conv3x3", 4, 3, activation=False)),
            ("pool", MaxPool(3, 2, padding)),
            ("conv2", Conv("conv3x3", 4, 3)),
            ("average", GlobalAvgPool()),
            ("linear", Logits("classifier", CLASSES)),
        ),
        style=Style("SAME", "SAME", initializers.he_normal(), activation=nn.sigmoid),
        input_shape=(8, 9, 3),
        min_size=1,
    )


# One of each kind: its options, width, size, or the network itself. Even and odd sizes bring out each rule of padding.
CASES = {
    "lenet5_modern": ({"activation": "tanh", "pool": "average"}, 1.0, (32, 37)),
    "alexnet": ({"lrn_by_group": True}, 0.1, (66, 95)),
    "alexnet_tv": ({}, 0.1, (95, 63)),
    "zfnet": ({}, 0.1, (64, 47)),
    "vgg_a": ({"dense_window": 1}, 0.1, (64, 33)),
    "vgg_a_bn": ({}, 0.1, (32, 64)),
    "nin_cifar10": ({}, 0.1, (16, 19)),
    "all_cnn_c": ({}, 0.1, (16, 19)),
    "googlenet": ({"stem": "separable"}, 0.1, (97, 64)),
    "googlenet_tv": ({}, 0.1, (64, 33)),
    "bn_inception": ({"lrn": True}, 0.1, (48, 37)),
    "bn_inception_caffe": ({}, 0.1, (64, 32)),
    "inception_v2": ({}, 0.1, (75, 107)),
    "inception_v3": ({"batch_norm_scale": False}, 0.1, (107, 75)),
    "inception_v4": ({}, 0.1, (75, 75)),
    "inception_resnet_v1": ({}, 0.1, (75, 75)),
    "inception_resnet_v2": ({}, 0.1, (75, 75)),
    "resnet50": ({}, 0.1, (64, 65)),
    "resnet50_slim": ({}, 0.1, (64, 65)),
    "zfnet512": ({}, 0.1, (64, 63)),
    "caffenet": ({}, 0.1, (66, 95)),
    "googlenet_gap": ({}, 0.1, (64, 33)),
    **{f"pool {padding}": pooled(padding) for padding in ("SAME", "VALID", "SYMMETRIC", "CEIL")},
}
WITH_HEADS = ("googlenet", "googlenet_tv", "inception_v2", "inception_v3")


@functools.cache
def build(name):
    """The network without dropout and without layers that repeat the one before, and the shape of its images."""
    if isinstance(CASES[name], Network):
        return CASES[name], CASES[name].input_shape
    options, width, size = CASES[name]
    dropouts = {option: 0.0 for option in models.options_of(name) if option.endswith("dropout")}
    model = inception_jax.create_model(name, CLASSES, width=width, **options, **dropouts)
    units = [unit for _, unit in model.layers]
    kept = [layer for layer, following in zip(model.layers, [*units[1:], None], strict=True) if layer[1] != following]
    return model.clone(layers=tuple(kept)), (*size, model.input_shape[2])


@functools.cache
def data(name):
    """Images and drawn variables."""
    model, shape = build(name)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        spread = (2 / np.prod(leaf.shape[:-1])) ** 0.5 if leaf.ndim > 1 else 0.1
        return rng.normal(0, spread, leaf.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, trace.abstract_variables(model, shape))
    # So large that local response normalisation has an effect.
    return 100 * rng.standard_normal((8, *shape), np.float32), variables


@functools.cache
def inferred(name):
    images, variables = data(name)
    logits = np.asarray(jax.jit(build(name)[0].apply)(variables, images)[0])
    assert logits.std(axis=0).max() > 0.01 * abs(logits).max(), "the logits do not depend on the image"
    return logits


@functools.cache
def trained(name):
    """What each head gives in training, and the running means of its batch normalisation after that."""
    images, variables = data(name)
    model, _ = build(name)

    @jax.jit
    def run(variables, images):
        (_, end_points), updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
        heads = [head.name for head in model.aux_heads]
        normalized = [head for head in heads if model.style.batch_norm]
        means = {head: updates["batch_stats"][head]["conv1x1_bn"]["mean"] for head in normalized}
        return {head: end_points[head] for head in heads}, means

    return jax.tree.map(np.asarray, run(variables, images))


def difference(a, b):
    """The largest, relative to the largest value."""
    assert a.shape == b.shape
    return abs(a - b).max() / abs(b).max()


def size(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


class TorchPeer:
    """Our network with our variables in PyTorch."""

    def __init__(self, network, shape, variables):
        from experiments.benchmark import torch_peer

        self._torch = torch_peer.torch
        self._module = torch_peer.build(network, shape)
        torch_peer.load_variables(self._module, variables)
        self.trainable = sum(x.numel() for x in self._module.parameters() if x.requires_grad)

    def _images(self, images):
        return self._torch.tensor(images).permute(0, 3, 1, 2)

    def infer(self, images):
        return self._module.eval()(self._images(images)).detach().numpy()

    def train(self, images):
        """Logits, heads, and the running means of the heads' batch normalisation."""
        logits, heads = self._module.train()(self._images(images))
        parts = self._module.parts
        means = {
            head: parts[f"{head}/conv1x1_bn"][0].running_mean.numpy() for head in heads if f"{head}/conv1x1_bn" in parts
        }
        return logits.detach().numpy(), {head: value.detach().numpy() for head, value in heads.items()}, means


class KerasPeer:
    """The same in Keras, where the heads of `network` are built for inference too."""

    def __init__(self, network, shape, variables):
        from experiments.benchmark import keras_peer

        self._numpy = keras_peer.keras.ops.convert_to_numpy
        self._model = keras_peer.build(network, shape)
        keras_peer.load_variables(self._model, variables)
        self.trainable = sum(np.prod(x.shape) for x in self._model.trainable_variables)

    def infer(self, images):
        return self._numpy(self._model(images))

    def train(self, images):
        heads = {name: self._numpy(value) for name, value in self._model(images, training=True).items()}
        layers = {layer.name: layer for layer in self._model.layers}
        means = {
            head: self._numpy(layers[f"{head}.conv1x1_bn"].moving_mean)
            for head in heads
            if f"{head}.conv1x1_bn" in layers
        }
        return heads.pop("logits"), heads, means


@pytest.fixture(params=["torch", "keras"])
def peer(request):
    """Builds the peer of a network: (network, image shape, variables)."""
    request.getfixturevalue(request.param)
    return {"torch": TorchPeer, "keras": KerasPeer}[request.param]


@pytest.mark.parametrize("name", CASES)
def test_logits(peer, name):
    network, shape = build(name)
    images, variables = data(name)
    built = peer(network.clone(aux_heads=()), shape, variables)
    assert difference(built.infer(images), inferred(name)) < 1e-4
    heads = {head.name for head in network.aux_heads}
    assert built.trainable == size({layer: tree for layer, tree in variables["params"].items() if layer not in heads})


# Statistics of eight images on a grid of one cell enlarge float32's rounding: double precision is as far from either.
TRAINED = 1e-3


@pytest.mark.parametrize("name", WITH_HEADS)
def test_heads(peer, name):
    network, shape = build(name)
    images, variables = data(name)
    built = peer(network, shape, variables)
    assert built.trainable == size(variables["params"])
    logits, heads, means = built.train(images)
    assert logits.shape == (8, CLASSES)
    expected, expected_means = trained(name)
    assert heads.keys() == expected.keys()
    assert means.keys() == expected_means.keys()
    for head, value in expected.items():
        assert difference(heads[head], value) < TRAINED, head
    for head, mean in expected_means.items():
        assert difference(means[head], mean) < TRAINED, head


def test_a_network_with_units_of_its_own_has_no_peer(peer):
    model = inception_jax.create_model("lenet5")
    with pytest.raises(inception_jax.UserError, match="s2/subsampling, c3/conv5x5, s4/subsampling, output/rbf are"):
        peer(model, model.input_shape, {})

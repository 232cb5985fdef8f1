"""Every block type: each branch is alive, and sees exactly the pixels that it should."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inception_jax
from inception_jax.models import (
    bn_inception,
    googlenet,
    inception_resnet,
    inception_v3,
    inception_v4,
    lenet,
    resnet,
    shared,
    summary,
)
from inception_jax.models.network import Block, Network
from inception_jax.models.units import (
    AdaptiveAvgPool,
    AverageLogits,
    AvgPool,
    BatchNorm,
    Chain,
    Conv,
    Custom,
    Dense,
    DepthwiseConv,
    GlobalAvgPool,
    LocalResponseNorm,
    Logits,
    MaxPool,
    Residual,
)
from inception_jax.models.width import scale_width

#                            name     type         patch stride output 1x1 3x3r 3x3 5x5r 5x5 proj
GOOGLENET = shared.Table1Row("block", "inception", 0, 0, (), 20, 20, 30, 20, 40, 50)
#                              name     output 1x1 3x3r 3x3 d3x3r d3x3 pool proj
BN = bn_inception.Figure5Row("block", (), 20, 20, 20, 20, 20, "avg", 20)
RELEASED, FIGURES = inception_v4.ORDERS["released"], inception_v4.ORDERS["figures"]
STEM = dict(shared.inception_v4_stem(RELEASED.stem))

# The block, and its receptive field's height and width, added up by hand from the figure.
BLOCKS = {
    "googlenet reduced": (shared.reduced_module(GOOGLENET), (5, 5)),
    "googlenet reduced, 3x3 in the third path": (shared.reduced_module(GOOGLENET, large=3), (3, 3)),
    "googlenet naive": (googlenet.naive_module(GOOGLENET), (5, 5)),
    "googlenet separable stem": (shared.separable_stem(), (7, 7)),
    "bn-inception": (bn_inception.module(BN), (5, 5)),
    "bn-inception, max": (bn_inception.module(BN._replace(pool="max")), (5, 5)),
    "bn-inception, stride 2": (bn_inception.module(BN._replace(pool="max", stride=2)), (5, 5)),
    "v3 A": (shared.inception_v3_module_a(conv1x1=64, pool_proj=32), (5, 5)),
    "v3, v4 reduction A": (shared.reduction_a(k=192, l=224, m=256, n=384), (5, 5)),
    "v3 B": (inception_v3.module_b(128), (13, 13)),
    "v3, v4 reduction B": (shared.reduction_b(conv3x3=(192, 192), conv7x7=(256, 256, 320, 320)), (9, 9)),
    "v3 C": (inception_v3.module_c(AvgPool(3, 1, "SAME")), (5, 5)),
    "v3 C, fid": (inception_v3.module_c(MaxPool(3, 1, "SAME")), (5, 5)),
    "v4 stem 3a": (STEM["mixed_3a"], (3, 3)),
    "v4 stem 4a": (STEM["mixed_4a"], (9, 9)),
    "v4 stem 5a": (STEM["mixed_5a"], (3, 3)),
    "v4 A": (inception_v4.MODULE_A, (5, 5)),
    "v4 B": (inception_v4.module_b(RELEASED), (13, 13)),
    "v4 B, figures": (inception_v4.module_b(FIGURES), (13, 13)),
    "v4 C": (inception_v4.module_c(RELEASED), (5, 5)),
    "v4 C, figures": (inception_v4.module_c(FIGURES), (5, 5)),
    "resnet A": (inception_resnet.block35(scale=0.17, filters=(48, 64)), (5, 5)),
    "resnet B": (inception_resnet.block17(scale=0.1, filters=(128, 160, 192)), (7, 7)),
    "resnet C": (inception_resnet.block8(scale=0.2, filters=(224, 256)), (3, 3)),
    "resnet reduction B": (inception_resnet.reduction_b(middle=288, last=(288, 320)), (5, 5)),
    "bottleneck": (Chain(Conv("in", 80, 1), resnet.bottleneck(20)), (3, 3)),
    "bottleneck, projection": (resnet.bottleneck(20, (2, 1)), (5, 5)),
    "bottleneck, projection, v1.5": (resnet.bottleneck(20, (1, 2)), (3, 3)),
    "lenet subsampling": (Custom("subsampling", lenet.Subsampling), (2, 2)),
    "lenet C3": (Chain(Conv("in", 6, 1), Custom("c3", lenet.SparseConv)), (5, 5)),
}


def single(name):
    """A small block of BLOCKS as a network, without batch normalisation and activation, which may hide a reaction."""
    unit, _ = BLOCKS[name]
    styles = {"googlenet": "googlenet", "bn-inception": "bn_inception", "bottleneck": "resnet50"}
    style = inception_jax.create_model(styles.get(name.split(",")[0].split(" ")[0], "inception_v4")).style
    style = dataclasses.replace(style, activation=lambda x: x, batch_norm=None)
    block = Network(layers=(("block", unit),), style=style, input_shape=(0, 0, 3), min_size=1)
    return block if name.startswith("lenet") else scale_width(block, 0.1)


def reactions(model, variables, size, scale):
    """Which pixels each channel of the central cell reacts to, [size, size, channels].

    Images are one for each pixel, in which that pixel is disturbed, and one that is left in peace.
    """
    x = np.random.default_rng(0).uniform(size=(1, size, size, 3)).astype(np.float32)
    images = np.repeat(x, size * size + 1, axis=0)
    for i in range(size * size):
        images[i, i // size, i % size] += 10.0

    @jax.jit
    def centre(images):
        y = model.apply(variables, scale * images)[0]
        return y[:, y.shape[1] // 2, y.shape[2] // 2]

    *disturbed, quiet = np.asarray(centre(images))
    return (abs(disturbed - quiet) > 1e-5 * abs(quiet)).reshape(size, size, -1)  # more than rounding


@pytest.mark.parametrize("name", BLOCKS)
def test_every_channel_sees_the_pixels_of_its_field_and_every_parameter_is_used(name, drawn):
    model, field, size = single(name), BLOCKS[name][1], 17
    main, _ = summary.layers(model, (size, size, 3))
    assert main[0].field.size == field

    variables = drawn(model, (size, size, 3))
    scale = 0.01 if name.startswith("lenet") else 1.0  # away from where tanh is flat
    reacts = reactions(model, jax.tree.map(lambda p: abs(p) + 0.01, variables), size, scale)
    assert reacts.any(axis=(0, 1)).all(), "a dead channel"
    seen = np.argwhere(reacts.any(axis=-1))
    assert tuple(seen.max(axis=0) - seen.min(axis=0) + 1) == field

    x = np.random.default_rng(1).uniform(0.1, 1.0, (1, size, size, 3)).astype(np.float32)
    weigh = np.random.default_rng(2).normal(size=(1, size, size, 210)).astype(np.float32)

    def loss(params):
        y = model.apply({"params": params}, x)[0]
        return jnp.sum(y * weigh[:, : y.shape[1], : y.shape[2], : y.shape[3]])

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    unused = [jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(gradients) if not g.any()]
    assert unused == []


def run(unit, x, **style):
    style = dataclasses.replace(inception_jax.create_model("vgg_a").style, **style)
    block = Block(unit, style, jnp.float32, None)
    variables = block.init(jax.random.key(0), x, train=False)
    return block.apply(variables, x, train=False), variables.get("params", {})


X = np.asarray(jax.random.normal(jax.random.key(0), (2, 5, 7, 4)))


def test_residual_is_scaled_and_added_before_the_activation():
    branch = Conv("conv", 6, 1, activation=False)
    y, params = run(Residual(branch, projection="expand", scale=0.25), X)
    inner = X @ params["conv"]["kernel"][0, 0] + params["conv"]["bias"]
    expanded = inner @ params["expand"]["kernel"][0, 0] + params["expand"]["bias"]
    np.testing.assert_allclose(y, np.maximum(X + 0.25 * expanded, 0), rtol=1e-5, atol=1e-6)
    y, _ = run(Residual(branch, projection="expand", scale=0.25, activation=False), X)
    np.testing.assert_allclose(y, X + 0.25 * expanded, rtol=1e-5, atol=1e-6)
    assert y.min() < 0


def test_residual_without_a_shortcut():
    branch = Conv("conv", 4, 1, activation=False)
    y, params = run(Residual(branch, shortcut=False, scale=0.25), X)
    np.testing.assert_allclose(y, np.maximum(X @ params["conv"]["kernel"][0, 0] + params["conv"]["bias"], 0), rtol=1e-5)


def test_custom_modules_are_told_whether_they_train():
    class Told(nn.Module):
        dtype: object

        def __call__(self, x, train):
            return x + (1.0 if train else 2.0)

    style = inception_jax.create_model("vgg_a").style
    block = Block(Custom("told", Told), style, jnp.float32, None)
    assert [float(block.apply({}, jnp.zeros(()), train=train)) for train in (True, False)] == [1.0, 2.0]


def test_residual_with_a_shortcut():
    unit = Residual(Conv("conv", 6, 1, 2, activation=False), shortcut=Conv("shortcut", 6, 1, 2, activation=False))
    y, params = run(unit, X)
    corners = X[:, ::2, ::2]
    total = sum(corners @ params[name]["kernel"][0, 0] + params[name]["bias"] for name in ("conv", "shortcut"))
    np.testing.assert_allclose(y, np.maximum(total, 0), rtol=1e-5, atol=1e-6)


def test_groups_do_not_mix():
    y, params = run(Conv("conv", 6, 1, groups=2, activation=False), X)
    kernel = params["conv"]["kernel"]
    assert kernel.shape == (1, 1, 2, 6)
    expected = np.concatenate([X[..., :2] @ kernel[0, 0, :, :3], X[..., 2:] @ kernel[0, 0, :, 3:]], axis=-1)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_depthwise_convolution_has_no_bias_and_keeps_channels_apart():
    y, params = run(DepthwiseConv("conv", 2, 1, 1), X)
    assert set(params["conv"]) == {"kernel"}
    kernel = params["conv"]["kernel"][0, 0, 0]  # filter 2 c + m belongs to channel c
    np.testing.assert_allclose(y, np.repeat(X, 2, axis=-1) * kernel, rtol=1e-5, atol=1e-6)


def test_response_norm_by_groups_is_that_of_each_half():
    unit = LocalResponseNorm(alpha=5.0, k=2.0, groups=2)
    y, _ = run(unit, X)
    halves = [run(dataclasses.replace(unit, groups=1), X[..., half])[0] for half in (slice(0, 2), slice(2, 4))]
    np.testing.assert_array_equal(y, np.concatenate(halves, axis=-1))
    assert not np.allclose(y, run(dataclasses.replace(unit, groups=1), X)[0])
    # Channel 0 by hand: both channels of its half lie in the window of 5.
    total = 2.0 + 5.0 / 5 * (X[..., 0] ** 2 + X[..., 1] ** 2)
    np.testing.assert_allclose(y[..., 0], X[..., 0] * total**-0.75, rtol=1e-5)


def test_average_pools_count_padding_if_the_style_says_so():
    ones = np.ones((1, 3, 3, 1), np.float32)
    for counted, corner in ((False, 1.0), (True, 4 / 9)):
        y, _ = run(AvgPool(3, 1, "SAME"), ones, count_include_pad=counted)
        np.testing.assert_allclose(y[0, 0, 0, 0], corner, rtol=1e-6)


AVERAGE, CONV = AvgPool(3, 1, "SAME"), Conv("conv", 2, 1)
NORM = BatchNorm(0.9, 0.001)
#                                     the pool    the convolution    the style                the pool comes last
ORDERS = {
    "bias": (AVERAGE, CONV, {}, True),
    "bias, padding counted": (AVERAGE, CONV, {"count_include_pad": True}, False),
    "bias, nothing padded": (AvgPool(3, 1), CONV, {"count_include_pad": True}, True),
    "batch norm, padding counted": (AVERAGE, CONV, {"count_include_pad": True, "batch_norm": NORM}, True),
    "bias beside batch norm, padding counted": (
        AVERAGE, CONV, {"count_include_pad": True, "batch_norm": NORM, "conv_bias": True}, False
    ),
    "bias in place of batch norm, padding counted": (
        AVERAGE, dataclasses.replace(CONV, batch_norm=False), {"count_include_pad": True, "batch_norm": NORM}, False
    ),
    "stride 2": (AvgPool(3, 2), CONV, {}, False),
    "3x3": (AVERAGE, Conv("conv", 2, 3), {}, False),
    "convolution of stride 2": (AVERAGE, Conv("conv", 2, 1, stride=2), {}, False),
    "convolution of a padded grid": (AVERAGE, Conv("conv", 2, 1, padding=1), {}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_a_1x1_convolution_behind_an_average_pool_comes_first(name, drawn):
    pool, conv, options, pool_last = ORDERS[name]
    style = dataclasses.replace(inception_jax.create_model("nin_cifar10").style, **options)
    joined = Network((("block", Chain(pool, conv, Conv("last", 3, 1))),), style, input_shape=(5, 7, 4), min_size=1)
    apart = joined.clone(layers=(("pool", pool), ("block", Chain(conv, Conv("last", 3, 1)))))
    [layer], _ = summary.layers(joined, (5, 7, 4))
    kinds = ["convolution", "average pool"] if pool_last else ["average pool", "convolution"]
    assert [operation.kind for operation in layer.operations] == [*kinds, "convolution"]
    variables = drawn(joined, (5, 7, 4))
    for train in (False, True):
        found, expected = (
            model.apply(variables, X, train=train, mutable=["batch_stats"])[0][0] for model in (joined, apart)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_1x1_convolutions_at_the_head_of_branches_are_one_on_a_gpu():
    """Parameters, and what they are initially, are those of each convolution by itself."""
    block = shared.inception_v3_module_a(conv1x1=64, pool_proj=32)
    style = dataclasses.replace(inception_jax.create_model("bn_inception").style, bias_init=nn.initializers.normal())
    for batch_norm, rest in ((style.batch_norm, 3), (None, 3)):
        options = dataclasses.replace(style, batch_norm=batch_norm)
        joined = Block(block, options, jnp.bfloat16, None)
        infer = jax.jit(functools.partial(joined.apply, train=False))
        variables = joined.init(jax.random.key(0), X, train=False)
        for platform, heads in (("cuda", 1), ("tpu", 4)):
            text = infer.trace(variables, X).lower(lowering_platforms=(platform,)).as_text()
            assert text.count("stablehlo.convolution") == heads + rest, platform
        for conv in (Conv("conv1x1", 64, 1), Conv("pool_proj", 32, 1)):
            alone = Block(conv, options, jnp.bfloat16, None).init(jax.random.key(0), X, train=False)
            assert conv.name in alone["params"]
            found = {key: {name: variables[key][name] for name in tree} for key, tree in alone.items()}
            jax.tree.map(np.testing.assert_array_equal, found, alone)
            jax.tree.map(lambda a, b: np.testing.assert_equal(a.dtype, b.dtype), found, alone)


def test_sliding_dense_layers_share_the_parameters_of_dense_ones():
    """A network that slides over the grid gives, at each place, what the dense one gives for that window."""
    wide = np.asarray(jax.random.normal(jax.random.key(1), (2, 6, 5, 4)))
    dense = Chain(Dense("fc", 8), Logits("classifier", 3))
    slide = Chain(Dense("fc", 8, window=3), Logits("classifier", 3, window=1))
    style = inception_jax.create_model("vgg_a").style
    blocks = [Block(unit, style, jnp.float32, None) for unit in (dense, slide)]
    trees = [block.init(jax.random.key(0), wide[:, :3, :3], train=False) for block in blocks]
    assert jax.tree.map(jnp.shape, trees[0]) == jax.tree.map(jnp.shape, trees[1])
    scores = blocks[1].apply(trees[0], wide, train=False)
    assert scores.shape == (2, 4, 3, 3)
    for i in range(4):
        for j in range(3):
            expected = blocks[0].apply(trees[0], wide[:, i : i + 3, j : j + 3], train=False)
            np.testing.assert_allclose(scores[:, i, j], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(AverageLogits(), scores)[0], scores.mean(axis=(1, 2)), rtol=1e-5)


def test_adaptive_average_pool_lays_its_windows_as_pytorch_does():
    """On 14 cells four windows begin at 0, 3, 7 and 10 and have four cells each."""
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 14, 5, 3)))
    y, _ = run(AdaptiveAvgPool(4), x)
    rows = [slice(0, 4), slice(3, 7), slice(7, 11), slice(10, 14)]
    columns = [slice(0, 2), slice(1, 3), slice(2, 4), slice(3, 5)]
    expected = np.array([[x[:, r, c].mean(axis=(1, 2)) for c in columns] for r in rows]).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    same, _ = run(AdaptiveAvgPool(5), x[:, :5])
    np.testing.assert_array_equal(same, x[:, :5])


def test_global_average():
    np.testing.assert_allclose(run(GlobalAvgPool(), X)[0], X.mean(axis=(1, 2), keepdims=True), rtol=1e-5, atol=1e-6)


def test_a_narrow_networks_fixed_initialisation_keeps_signals_as_strong():
    """AlexNet's 0.01 is twice that with a quarter of the filters, but not in conv1, which sees three channels still."""
    model = inception_jax.create_model("alexnet", 10, width=0.25)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    for layer, unit, expected in (
        ("conv1", "conv11x11", 0.01), ("conv2", "conv5x5", 0.02), ("fc8", "classifier", 0.02)
    ):  # fmt: skip
        np.testing.assert_allclose(np.std(params[layer][unit]["kernel"]), expected, rtol=0.03, err_msg=layer)
    glorot, narrow = (inception_jax.create_model("vgg_a", 10, width=width) for width in (1.0, 0.5))
    assert narrow.style.kernel_init is glorot.style.kernel_init

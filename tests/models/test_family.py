"""What holds of every network: exact counts, shapes, sizes, and that it can be trained."""

import functools
import pathlib
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inception_jax
from experiments.summary import check_with_xla
from inception_jax import models
from inception_jax.models import summary

NAMES = inception_jax.list_models()

# Trained numbers without auxiliary heads, and multiply-adds at the paper's image size. A count without a source beside
# it is arithmetic over the paper's table, done by hand or by other code than this.
COUNTS = {
    "lenet5": (60_000, 415_680),  # LeCun et al. 1998, section II.B: 60,000; C3's table is a mask on 240,000 products
    "lenet5_modern": (61_706, 416_520),
    "alexnet": (60_965_224, 724_406_816),
    "alexnet_tv": (61_100_840, 714_188_480),  # torchvision's num_params
    "zfnet": (62_357_608, 1_168_032_896),
    "zfnet_wide": (107_627_624, 2_476_704_896),
    "vgg_a": (132_863_336, 7_609_090_048),  # torchvision's num_params and _ops, as all of VGG but A-LRN and C
    "vgg_a_lrn": (132_863_336, 7_609_090_048),
    "vgg_b": (133_047_848, 11_308_466_176),
    "vgg_c": (133_638_952, 11_770_888_192),
    "vgg_d": (138_357_544, 15_470_264_320),
    "vgg_e": (143_667_240, 19_632_062_464),
    "vgg_a_bn": (132_868_840, 7_609_090_048),
    "vgg_b_bn": (133_053_736, 11_308_466_176),
    "vgg_d_bn": (138_365_992, 15_470_264_320),
    "vgg_e_bn": (143_678_248, 19_632_062_464),
    "nin_cifar10": (966_986, 222_486_528),
    "nin_imagenet": (7_595_176, 1_100_188_800),
    "base_cnn_a": (839_242, 138_677_760),
    "base_cnn_b": (885_610, 157_552_128),
    "base_cnn_c": (954_730, 228_331_008),
    "strided_cnn_a": (839_242, 44_674_560),
    "strided_cnn_b": (885_610, 143_396_352),
    "strided_cnn_c": (954_730, 100_929_024),
    "conv_pool_cnn_a": (1_254_250, 308_547_072),
    "conv_pool_cnn_b": (1_300_618, 327_421_440),
    "conv_pool_cnn_c": (1_369_738, 398_200_320),
    "all_cnn_a": (1_254_250, 181_145_088),
    "all_cnn_b": (1_300_618, 200_019_456),
    "all_cnn_c": (1_369_738, 270_798_336),
    "googlenet": (6_998_552, 1_582_671_872),  # BVLC Caffe's deploy.prototxt
    "googlenet_tv": (6_624_904, 1_498_376_192),  # torchvision, without its auxiliary heads
    "googlenet_slim": (5_592_624 + 1_025_000, 1_498_376_192),  # tf-slim's trained base
    # The paper's network; in 4a four 3x3 filters of 96 fewer, and what follows reads four channels less; in 5a 16 more
    # filters of 5x5 reduction; eight classes more.
    "inception5h": (
        6_998_552 - 4 * (864 + 1) - 4 * (160 + 112 + 24 + 64) + 16 * (832 + 1) + 16 * 25 * 128 + 8 * 1025,
        1_582_671_872 - 196 * (4 * 864 + 4 * (160 + 112 + 24 + 64)) + 49 * (16 * 832 + 16 * 25 * 128) + 8 * 1024,
    ),
    "bn_inception": (11_278_528, 1_948_605_440),
    "bn_inception_slim": (11_178_336, 1_934_857_216),
    "bn_inception_caffe": (11_295_240, 2_032_600_064),  # Cadene/pretrained-models.pytorch, bninception
    # As v3, but one 7x7x3x64 convolution on 147x147 in place of three.
    "inception_v2": (
        23_834_568 - 928 - 9_280 - 18_560 + 9_408 + 128,
        5_713_216_096 - 19_181_664 - 199_148_544 - 398_297_088 + 9_408 * 147**2,
    ),
    "inception_v3": (23_834_568, 5_713_216_096),  # timm; torchvision's _ops 5.713
    "inception_v3_fid": (23_834_568 + 8 * 2049, 5_713_216_096 + 8 * 2048),
    "inception_v4": (42_679_816, 12_253_974_624),  # timm
    "inception_resnet_v1": (22_756_328, 6_206_361_696),
    "inception_resnet_v2": (55_843_464, 13_155_794_016),  # timm
    "resnet50": (25_557_032, 3_857_973_248),  # torchvision's num_params; He et al. 2015, Table 1: 3.8 x 10^9
}

# With options: all trained numbers, auxiliary heads included.
VARIANTS = [
    ("googlenet", {}, 13_378_280),  # BVLC Caffe's train_val.prototxt
    ("googlenet", {"stem": "separable", "aux": False}, 6_991_856),
    ("googlenet_tv", {}, 13_004_888),  # torchvision's num_params
    ("inception_v3", {}, 27_161_264),  # torchvision's num_params
    ("inception_v3", {"aux": False, "batch_norm_scale": False}, 23_817_352),  # Keras's trained parameters
    ("inception_v3", {"num_classes": 1001, "batch_norm_scale": False}, 27_145_970),  # tf-slim's checkpoint
    ("inception_v2", {}, 23_815_336 + 3_326_696 - 2 * 768 + 768),  # a bias in place of the head's batch normalisation
    ("inception_v4", {"num_classes": 1001, "aux": True, "batch_norm_scale": False}, 46_009_106),  # tf-slim's
    ("inception_v4", {"order": "figures"}, 42_679_816),
    ("inception_resnet_v2", {"num_classes": 1001, "aux": True, "batch_norm_scale": False}, 59_182_258),  # tf-slim's
    ("inception_resnet_v2", {"variant": "paper"}, 55_284_488),
    ("inception_resnet_v2", {"residual_scale": 0.3}, 55_843_464),
    ("alexnet", {"groups": 1}, 62_378_344),
    ("alexnet", {"lrn": False, "overlapping_pools": False}, 60_965_224),
    ("bn_inception", {"norm": "none"}, 11_278_528 - 10_016),
    ("bn_inception", {"lrn": True}, 11_278_528),
    ("vgg_d", {"dense_window": 7}, 138_357_544),
    ("nin_cifar10", {"num_classes": 100}, 984_356),
    ("all_cnn_c", {"num_classes": 100}, 1_387_108),
    ("resnet50", {"downsample": "conv3x3"}, 25_557_032),
]


# One module each, so that what was traced of it once is known in all tests.
build = functools.cache(inception_jax.create_model)


def trained(model) -> int:
    return sum(summary.parameters(model, model.native).values())


def test_every_network_has_its_counts():
    assert sorted(COUNTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_counts(name, summary_of):
    assert (summary_of(name).parameters, summary_of(name).multiply_adds) == COUNTS[name]


@pytest.mark.parametrize(("name", "options", "expected"), VARIANTS)
def test_counts_with_options(name, options, expected):
    assert trained(inception_jax.create_model(name, **options)) == expected


def test_kerass_total_of_inception_v3():
    """Keras counts the running statistics, and has no gamma."""
    model = inception_jax.create_model("inception_v3", aux=False, batch_norm_scale=False)
    variables = summary.abstract_variables(model, model.native)
    assert sum(x.size for x in jax.tree.leaves(variables)) == 23_851_784


def test_caffes_bn_inception_takes_some_sizes_only():
    """Its strided convolutions and its pools are padded by different rules, which agree on even grids."""
    model = inception_jax.create_model("bn_inception_caffe")
    for size in (224, 256):
        summary.abstract_variables(model, (size, size, 3))
    with pytest.raises(
        inception_jax.UserError, match="this size of images does not work: the branches of inception_3c"
    ):
        summary.abstract_variables(model, (299, 299, 3))


def test_multiply_adds_of_resnet50_with_the_stride_in_its_3x3():
    model = inception_jax.create_model("resnet50", downsample="conv3x3")
    assert sum(summary.multiply_adds(model, model.native).values()) == 4_089_184_256  # torchvision's _ops: 4.089


def test_xlas_cost_analysis_counts_each_convolution_as_we_do(summary_of):
    rows = [row for name in NAMES for row in summary_of(name).convolutions]
    assert len({row.convolution for row in rows}) > 300
    check_with_xla(rows)


# End points at the paper's image size.
SHAPES = {
    "lenet5": "c1 28x28x6, s2 14x14x6, c3 10x10x16, s4 5x5x16, c5 1x1x120, f6 84",
    "lenet5_modern": "c1 28x28x6, s2 14x14x6, c3 10x10x16, s4 5x5x16, c5 1x1x120, f6 84",
    "alexnet": "conv1 55x55x96, norm1 55x55x96, pool1 27x27x96, conv2 27x27x256, norm2 27x27x256, pool2 13x13x256, "
    "conv3 13x13x384, conv4 13x13x384, conv5 13x13x256, pool5 6x6x256, fc6 4096, fc7 4096",
    "alexnet_tv": "conv1 55x55x64, pool1 27x27x64, conv2 27x27x192, pool2 13x13x192, conv3 13x13x384, conv4 13x13x256, "
    "conv5 13x13x256, pool5 6x6x256, avgpool 6x6x256, fc6 4096, fc7 4096",
    "zfnet": "conv1 110x110x96, pool1 55x55x96, conv2 26x26x256, pool2 13x13x256, conv3 13x13x384, conv4 13x13x384, "
    "conv5 13x13x256, pool5 6x6x256, fc6 4096, fc7 4096",
    "zfnet_wide": "conv3 13x13x512, conv4 13x13x1024, conv5 13x13x512, pool5 6x6x512",
    **dict.fromkeys(
        [name for name in NAMES if name.startswith("vgg")],
        "conv1_1 224x224x64, pool1 112x112x64, conv2_1 112x112x128, pool2 56x56x128, conv3_2 56x56x256, "
        "pool3 28x28x256, conv4_2 28x28x512, pool4 14x14x512, conv5_2 14x14x512, pool5 7x7x512, fc6 4096, fc7 4096",
    ),
    "nin_cifar10": "conv1 32x32x192, cccp1 32x32x160, cccp2 32x32x96, pool1 16x16x96, conv2 16x16x192, "
    "cccp4 16x16x192, pool2 8x8x192, conv3 8x8x192, cccp6 8x8x10, pool3 10",
    "nin_imagenet": "conv1 54x54x96, cccp2 54x54x96, pool1 27x27x96, conv2 27x27x256, pool2 13x13x256, "
    "conv3 13x13x384, pool3 6x6x384, conv4 6x6x1024, cccp8 6x6x1000, pool4 1000",
    **dict.fromkeys(
        [name for name in NAMES if name.startswith(("base_cnn", "conv_pool_cnn"))],
        "conv1_1 32x32x96, pool1 16x16x96, conv2_1 16x16x192, pool2 8x8x192, conv3_1 6x6x192, conv3_3 6x6x10",
    ),
    **dict.fromkeys(
        [name for name in NAMES if name.startswith("all_cnn")],
        "conv1_1 32x32x96, conv_pool1 16x16x96, conv2_1 16x16x192, conv_pool2 8x8x192, conv3_1 6x6x192, conv3_3 6x6x10",
    ),
    "strided_cnn_a": "conv1_1 16x16x96, conv2_1 8x8x192, conv3_1 6x6x192, conv3_3 6x6x10",
    "strided_cnn_b": "conv1_1 32x32x96, conv1_2 16x16x96, conv2_1 16x16x192, conv2_2 8x8x192, conv3_1 6x6x192",
    "strided_cnn_c": "conv1_1 32x32x96, conv1_2 16x16x96, conv2_1 16x16x192, conv2_2 8x8x192, conv3_1 6x6x192",
    **dict.fromkeys(
        ["googlenet", "googlenet_tv", "googlenet_slim"],
        "conv1 112x112x64, pool1 56x56x64, conv2 56x56x192, pool2 28x28x192, inception_3a 28x28x256, "
        "inception_3b 28x28x480, pool3 14x14x480, inception_4a 14x14x512, inception_4b 14x14x512, "
        "inception_4c 14x14x512, inception_4d 14x14x528, inception_4e 14x14x832, pool4 7x7x832, inception_5a 7x7x832, "
        "inception_5b 7x7x1024, pool5 1x1x1024",
    ),
    "inception5h": "conv1 112x112x64, pool2 28x28x192, inception_3b 28x28x480, inception_4a 14x14x508, "
    "inception_4b 14x14x512, inception_5a 7x7x832, inception_5b 7x7x1024",
    **dict.fromkeys(
        ["bn_inception", "bn_inception_caffe"],
        "conv1 112x112x64, pool1 56x56x64, conv2 56x56x192, pool2 28x28x192, inception_3a 28x28x256, "
        "inception_3b 28x28x320, inception_3c 14x14x576, inception_4a 14x14x576, inception_4b 14x14x576, "
        "inception_4c 14x14x608, inception_4d 14x14x608, inception_4e 7x7x1056, inception_5a 7x7x1024, "
        "inception_5b 7x7x1024, pool 1x1x1024",
    ),
    "bn_inception_slim": "inception_3c 14x14x576, inception_4c 14x14x576, inception_4d 14x14x576, "
    "inception_4e 7x7x1024, inception_5a 7x7x1024, inception_5b 7x7x1024",
    **dict.fromkeys(
        ["inception_v3", "inception_v3_fid"],
        "conv2d_1a_3x3 149x149x32, conv2d_2a_3x3 147x147x32, conv2d_2b_3x3 147x147x64, maxpool_3a_3x3 73x73x64, "
        "conv2d_3b_1x1 73x73x80, conv2d_4a_3x3 71x71x192, maxpool_5a_3x3 35x35x192, mixed_5b 35x35x256, "
        "mixed_5c 35x35x288, mixed_5d 35x35x288, mixed_6a 17x17x768, mixed_6b 17x17x768, mixed_6c 17x17x768, "
        "mixed_6d 17x17x768, mixed_6e 17x17x768, mixed_7a 8x8x1280, mixed_7b 8x8x2048, mixed_7c 8x8x2048",
    ),
    "inception_v2": "conv2d_1a_7x7 147x147x64, maxpool_3a_3x3 73x73x64, maxpool_5a_3x3 35x35x192, mixed_5d 35x35x288",
    "inception_v4": "conv2d_1a_3x3 149x149x32, conv2d_2a_3x3 147x147x32, conv2d_2b_3x3 147x147x64, mixed_3a 73x73x160, "
    "mixed_4a 71x71x192, mixed_5a 35x35x384, mixed_5b 35x35x384, mixed_5e 35x35x384, mixed_6a 17x17x1024, "
    "mixed_6b 17x17x1024, mixed_6h 17x17x1024, mixed_7a 8x8x1536, mixed_7b 8x8x1536, mixed_7d 8x8x1536, pool 1x1x1536",
    "inception_resnet_v1": "conv2d_1a_3x3 149x149x32, conv2d_4a_3x3 71x71x192, conv2d_4b_3x3 35x35x256, "
    "block35_1 35x35x256, block35_5 35x35x256, mixed_6a 17x17x896, block17_1 17x17x896, block17_10 17x17x896, "
    "mixed_7a 8x8x1792, block8_1 8x8x1792, block8_5 8x8x1792, pool 1x1x1792",
    "inception_resnet_v2": "conv2d_1a_3x3 149x149x32, maxpool_3a_3x3 73x73x64, conv2d_4a_3x3 71x71x192, "
    "maxpool_5a_3x3 35x35x192, mixed_5b 35x35x320, block35_10 35x35x320, mixed_6a 17x17x1088, block17_20 17x17x1088, "
    "mixed_7a 8x8x2080, block8_9 8x8x2080, block8_10 8x8x2080, conv2d_7b_1x1 8x8x1536, pool 1x1x1536",
    "resnet50": "conv1 112x112x64, pool1 56x56x64, conv2_1 56x56x256, conv2_3 56x56x256, conv3_1 28x28x512, "
    "conv3_4 28x28x512, conv4_6 14x14x1024, conv5_3 7x7x2048, pool 1x1x2048",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_end_points(name, summary_of):
    outputs = {layer.name: layer.output for layer in summary_of(name).layers}
    for entry in SHAPES[name].split(", "):
        layer, shape = entry.split()
        assert outputs[layer] == tuple(map(int, shape.split("x"))), layer
    classes = {"lenet5": 10, "lenet5_modern": 10, "nin_cifar10": 10, "inception5h": 1008, "inception_v3_fid": 1008}
    [*_, last] = outputs.values()
    assert last == (10 if "_cnn_" in name else classes.get(name, 1000),)


# Size and stride of the receptive field of the layer, along the longest path.
FIELDS = [
    ("lenet5", "c5", 32, 4),
    *(
        ("alexnet", layer, size, stride)
        for layer, size, stride in (
            ("conv1", 11, 4), ("pool1", 19, 8), ("conv2", 51, 8), ("pool2", 67, 16), ("conv3", 99, 16),
            ("conv4", 131, 16), ("conv5", 163, 16), ("pool5", 195, 32), ("fc6", 355, 32),
        )
    ),
    ("zfnet", "conv2", 27, 8), ("zfnet", "conv5", 139, 16), ("zfnet", "fc6", 331, 32),
    ("vgg_d", "conv3_3", 40, 4), ("vgg_d", "conv5_3", 196, 16), ("vgg_d", "pool5", 212, 32), ("vgg_d", "fc6", 404, 32),
    ("vgg_e", "pool5", 268, 32), ("vgg_c", "conv5_3", 140, 16),
    ("nin_cifar10", "conv3", 27, 4), ("nin_imagenet", "conv4", 195, 32), ("all_cnn_c", "conv3_3", 27, 4),
    ("inception_v4", "mixed_5e", 183, 8), ("inception_v4", "mixed_6h", 1559, 16),
    ("inception_v4", "mixed_7d", 2071, 32),
    ("inception_resnet_v2", "block35_10", 383, 8), ("inception_resnet_v2", "block17_20", 2335, 16),
    ("inception_resnet_v2", "block8_10", 3039, 32),
    ("resnet50", "conv5_3", 483, 32),
    # The head of torchvision pools adaptively: 14 cells 16 apart, of which each sees 107 or 203, make 315 and 411.
    ("googlenet_tv", "aux1", 315, Fraction(160, 3)), ("googlenet_tv", "aux2", 411, Fraction(160, 3)),
    ("googlenet", "aux1", 379, 48), ("inception_v3", "aux", 1183, 48),
]  # fmt: skip


@pytest.mark.parametrize(("name", "layer", "size", "stride"), FIELDS)
def test_receptive_fields(name, layer, size, stride, summary_of):
    entries = (*summary_of(name).layers, *summary_of(name).heads)
    [field] = [entry.field for entry in entries if entry.name == layer]
    assert field.size == (size, size)
    assert field.stride == (stride, stride)


@pytest.mark.parametrize(("size", "field"), [(224, 355), (448, 579), (63, 195)])
def test_the_field_through_an_adaptive_pool_that_changes_the_grid(size, field):
    """alexnet_tv's fc6 sees the whole grid of pool5: 195 pixels and 32 more for each further cell."""
    main, _ = summary.layers(build("alexnet_tv"), (size, size, 3))
    [fc6] = [layer for layer in main if layer.name == "fc6"]
    assert fc6.field.size == (field, field)
    [pool] = [layer for layer in main if layer.name == "avgpool"]
    assert (pool.activations, pool.rows[0].operation) == (6 * 6 * 256, "adaptive average")


def training_step(model):
    """Loss over all heads, gradients and updated statistics, as a training step has them."""

    def step(variables, images, key):
        def loss(params):
            collections = {"params": params} | {k: v for k, v in variables.items() if k != "params"}
            (logits, end_points), updates = model.apply(
                collections, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            outputs = [logits, *(end_points[head.name] for head in model.aux_heads)]
            return sum(-jnp.mean(jax.nn.log_softmax(output)[:, 0]) for output in outputs), (outputs, updates)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    return step


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_of_every_network_can_be_traced(name):
    has_heads = "aux" in models.options_of(name)
    model = inception_jax.create_model(name, aux=True) if has_heads else build(name)
    assert bool(model.aux_heads) == has_heads
    variables = summary.abstract_variables(model, model.native)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype("float32")}
    images = jax.ShapeDtypeStruct((2, *model.native), jnp.float32)
    (loss, (outputs, updates)), gradients = jax.eval_shape(training_step(model), variables, images, jax.random.key(0))
    assert loss.shape == ()
    assert len({(output.shape, output.dtype) for output in outputs}) == 1
    assert outputs[0].dtype == jnp.float32
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, variables["params"])
    assert jax.tree.structure(updates.get("batch_stats", {})) == jax.tree.structure(variables.get("batch_stats", {}))


# One of each kind, small: name, options, width, size.
KINDS = [
    ("lenet5", {}, 1.0, 32),
    ("lenet5_modern", {}, 1.0, 32),
    ("alexnet", {"lrn_by_group": True}, 0.05, 64),
    ("zfnet", {}, 0.05, 47),
    ("vgg_a_bn", {"dense_window": 1}, 0.05, 48),
    ("nin_cifar10", {}, 0.05, 16),
    ("all_cnn_c", {}, 0.1, 16),
    ("googlenet", {"stem": "separable"}, 0.05, 40),
    ("bn_inception", {"activation": "sigmoid"}, 0.05, 32),
    ("inception_v3", {"blocks": 1}, 0.05, 75),
    ("inception_resnet_v1", {"blocks": 1}, 0.05, 75),
    ("resnet50", {}, 0.05, 32),
]


@pytest.mark.parametrize(("name", "options", "width", "size"), KINDS)
def test_one_of_each_kind_takes_a_step(name, options, width, size, drawn):
    model = inception_jax.create_model(name, 5, width=width, **options)
    shape = (size, size, model.native[2])
    variables = drawn(model, shape)
    images = jax.random.normal(jax.random.key(1), (4, *shape))
    (loss, (outputs, updates)), gradients = jax.jit(training_step(model))(variables, images, jax.random.key(2))
    assert np.isfinite(loss)
    assert outputs[0].shape == (4, 5)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    dead = [jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(gradients) if not g.any()]
    assert len(dead) < 0.2 * len(jax.tree.leaves(gradients)), dead
    if "batch_stats" in variables:
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), variables["batch_stats"], updates["batch_stats"])
        assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_image_is_the_smallest_for_which_the_arithmetic_works(name):
    model = inception_jax.create_model(name)

    def grids(size):
        shape = (1, size, size, model.native[2])
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        unguarded = model.clone(smallest=0)
        outputs = jax.eval_shape(lambda: unguarded.init_with_output(keys, jnp.zeros(shape), train=True))
        return [x.size for x in jax.tree.leaves(outputs)]

    assert min(grids(model.smallest)) > 0
    if model.smallest > 1:
        small = (model.smallest - 1, model.smallest, model.native[2])
        message = f"{small[0]}x{small[1]} are too small for this network: {model.smallest} at least"
        with pytest.raises(inception_jax.UserError, match=message):
            summary.abstract_variables(model, small)
        try:
            works = min(grids(model.smallest - 1)) > 0
        except (TypeError, ValueError, ZeroDivisionError, inception_jax.UserError):
            works = False
        assert not works


@pytest.mark.parametrize("name", [name for name, *_ in KINDS if name != "lenet5"])
def test_half_the_width_is_about_a_quarter_of_the_parameters(name):
    options = {"aux": False} if "aux" in models.options_of(name) else {}
    ratio = trained(inception_jax.create_model(name, width=0.5, **options)) / COUNTS[name][0]
    assert 0.24 < ratio < 0.34


def test_lenets_table_has_no_other_width():
    with pytest.raises(
        inception_jax.UserError, match="width=0.5 is not possible: the paper fixes the form of subsampl"
    ):
        inception_jax.create_model("lenet5", width=0.5)


def test_no_file_of_models_is_long():
    folder = pathlib.Path(models.__file__).parent
    lengths = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 250} == {}

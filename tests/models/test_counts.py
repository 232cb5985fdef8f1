"""Counts that others printed or counted, beside those of golden.json, which `test_golden` proves to be ours.

A count without a source beside it is arithmetic over the paper's table, done by hand or by other code than this.
"""

import jax

import inception_jax
from inception_jax.models import bn_inception, googlenet, trace

NAMES = inception_jax.list_models()

# Trained numbers without auxiliary heads, and multiply-adds at the paper's image size.
COUNTS = {
    "lenet5": (60_000, 415_680),  # LeCun et al. 1998, section II.B: 60,000; C3's table is a mask on 240,000 products
    "lenet5_modern": (61_706, 416_520),
    "alexnet": (60_965_224, 724_406_816),
    "alexnet_tv": (61_100_840, 714_188_480),  # torchvision's num_params
    "zfnet": (62_357_608, 1_168_032_896),
    "zfnet_wide": (107_627_624, 2_476_704_896),
    # conv1 to conv5 and the dense layers: 7x7x3x96, 5x5x96x256, 3x3x256x512, two of 3x3x512x512, 6x6x512x4096, ...
    "zfnet512": (
        14_208 + 614_656 + 1_180_160 + 2 * 2_359_808 + 75_501_568 + 4_195_328 + 1_025_000,
        109**2 * 14_112 + 25**2 * 614_400 + 144 * (1_179_648 + 2 * 2_359_296) + 75_497_472 + 4_194_304 + 1_024_000,
    ),
    # AlexNet's filters; on the grids of the ONNX zoo 54, 26 and 12 in place of 55, 27 and 13.
    "alexnet_caffe": (60_965_224, 724_406_816),
    "caffenet": (60_965_224, 724_406_816),
    **dict.fromkeys(
        ["alexnet_onnx", "caffenet_onnx"],
        (60_965_224, 54**2 * 34_848 + 26**2 * 307_200 + 144 * (884_736 + 663_552 + 442_368) + 58_621_952),
    ),
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
    # VGG16's convolutions; 3x3x256x1024 on 14x14 and 1024x1000.
    "vgg_d_gap": (
        14_714_688 + 2_360_320 + 1_025_000,
        15_346_630_656 + 196 * 2_359_296 + 1_024_000,
    ),
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
    # Weights of 5a and 5b, their biases and the classifier go; 3x3x416x1024 on 14x14 and 1024x1000 come.
    "googlenet_gap": (
        6_998_552 - 1_042_432 - 1_442_816 - (1_024 + 1_264) - 1_025_000 + 3_834_880 + 1_025_000,
        1_582_671_872 - 51_079_168 - 49 * 1_442_816 + 196 * 3_833_856,
    ),
    # GoogLeNet's weights by block, on other grids.
    "inception_v1_onnx": (
        6_998_552,
        112**2 * 9_408
        + 55**2 * 114_688
        + 27**2 * (163_328 + 388_096)
        + 13**2 * (375_552 + 448_512 + 509_440 + 604_672 + 867_328)
        + 6**2 * (1_042_432 + 1_442_816)
        + 1_024_000,
    ),
    "bn_inception": (11_278_528, 1_948_605_440),
    "bn_inception_slim": (11_178_336, 1_934_857_216),
    "bn_inception_caffe": (11_295_240, 2_032_600_064),  # Cadene/pretrained-models.pytorch, bninception
    # As Caffe's, without its 10,016 biases of convolutions and with 96 filters in place of 128 in two projections:
    # these have 1x1x576x32 weights and 2 x 32 numbers of batch normalisation fewer, and what follows
    # reads 32 channels less.
    "bn_inception_onnx": (
        11_295_240 - 10_016 - (18_432 + 64) - (32 * (96 + 128 + 160) + 22_528 + 64) - 32 * (320 + 832),
        2_032_600_064 - 196 * (18_432 + 32 * 384 + 22_528 + 32 * 320) - 49 * 32 * 832,
    ),
    # As v3, but one 7x7x3x64 convolution on 147x147 in place of three.
    "inception_v2": (
        23_834_568 - 928 - 9_280 - 18_560 + 9_408 + 128,
        5_713_216_096 - 19_181_664 - 199_148_544 - 398_297_088 + 9_408 * 147**2,
    ),
    "inception_v3": (23_834_568, 5_713_216_096),  # timm; torchvision's _ops 5.713
    "inception_v3_fid": (23_834_568 + 8 * 2049, 5_713_216_096 + 8 * 2048),
    "inception_v4": (42_679_816, 12_253_974_624),  # timm
    "inception_resnet_v1": (22_756_328, 6_206_361_696),
    # Counted on facenet-pytorch's own module, with 8631 classes.
    "inception_resnet_v1_facenet": (27_910_327, 1_422_081_376),
    "inception_resnet_v2": (55_843_464, 13_155_794_016),  # timm
    "resnet50": (25_557_032, 3_857_973_248),  # torchvision's num_params; He et al. 2015, Table 1: 3.8 x 10^9
    # Its strides at the end of a stage: each 1x1 after a 3x3 with the stride has a quarter of the cells, the first 1x1
    # of the next stage too, and so has the projection. The blocks' weights by hand, on 56, 28, 14 and 7.
    "resnet50_slim": (
        25_557_032,
        112**2 * 9_408
        + 56**2 * (4_096 + 36_864 + 16_384 + 16_384 + 69_632 + 16_384)
        + 28**2 * (36_864 + 16_384)
        + 28**2 * (32_768 + 147_456 + 65_536 + 131_072 + 2 * 278_528 + 65_536)
        + 14**2 * (147_456 + 65_536)
        + 14**2 * (131_072 + 589_824 + 262_144 + 524_288 + 4 * 1_114_112 + 262_144)
        + 7**2 * (589_824 + 262_144)
        + 7**2 * (524_288 + 2_359_296 + 1_048_576 + 2_097_152 + 2 * 4_456_448)
        + 2_048_000,
    ),
}

# Trained numbers with auxiliary heads.
WITH_HEADS = {
    "googlenet": 13_378_280,  # BVLC Caffe's train_val.prototxt
    "googlenet_tv": 13_004_888,  # torchvision's num_params
    "inception_v3": 27_161_264,  # torchvision's num_params
    "inception_v2": 23_815_336 + 3_326_696 - 2 * 768 + 768,  # a bias in place of the head's batch normalisation
}

# Trained numbers with options, auxiliary heads included.
VARIANTS = [
    ("googlenet", {"stem": "separable", "aux": False}, 6_991_856),
    # Scale and bias of 7,280 channels in place of as many biases; heads of 3,188,840 and 3,190,888, in each scale and
    # bias of 128 channels and of 1,024 units in place of their biases.
    ("googlenet", {"norm": "batch"}, 6_998_552 + 7_280 + 3_188_840 + 3_190_888 + 2 * 128),
    (
        "googlenet",
        {"norm": "batch", "bn_auxiliary": True},
        6_998_552 + 7_280 + 3_188_840 + 3_190_888 + 2 * 128 + 2 * 1024,
    ),
    # Stem 124,416; weights of the naive blocks 92,451,840, their biases 4,752; 4,944 channels into the classifier.
    ("googlenet", {"aux": False, "module": "naive"}, 124_416 + 92_451_840 + 4_752 + 4_945_000),
    # A dense layer of 1,024 units on 7x7x1024.
    ("googlenet", {"aux": False, "top": "fc"}, 6_998_552 + 7 * 7 * 1024 * 1024 + 1024),
    # Half of the reductions' 814,592 weights and 1,472 biases, and of the 3,585,792 weights of the 3x3 and 5x5.
    ("googlenet", {"aux": False, "reduction_width": 0.5}, 6_998_552 - (814_592 + 1_472 + 3_585_792) // 2),
    ("inception_v4", {"num_classes": 1001, "aux": True, "batch_norm_scale": False}, 46_009_106),  # tf-slim's
    ("inception_resnet_v2", {"num_classes": 1001, "aux": True, "batch_norm_scale": False}, 59_182_258),  # tf-slim's
    ("inception_resnet_v2", {"variant": "paper"}, 55_284_488),
    ("alexnet", {"groups": 1}, 62_378_344),
    ("alexnet", {"lrn": False, "overlapping_pools": False}, 60_965_224),
    ("bn_inception", {"norm": "none", "lrn": True}, 11_278_528 - 10_016),
    ("vgg_d", {"dense_window": 7}, 138_357_544),
    ("nin_cifar10", {"num_classes": 100}, 984_356),
    # 5x5x3x192, 5x5x192x192, 3x3x192x192, 192x10, and their biases.
    ("nin_cifar10", {"mlpconv": False}, 14_592 + 921_792 + 331_968 + 1_930),
    ("all_cnn_c", {"num_classes": 100}, 1_387_108),
]


def total(layers, what):
    return sum(layer[what] for layer in layers.values())


def test_counts(golden):
    assert sorted(COUNTS) == NAMES
    for name, expected in COUNTS.items():
        layers = golden[name]["layers"]
        assert (total(layers, "parameters"), total(layers, "multiply_adds")) == expected, name
    for name, expected in WITH_HEADS.items():
        assert sum(total(golden[name][group], "parameters") for group in ("layers", "heads")) == expected, name


def test_counts_with_options():
    for name, options, expected in VARIANTS:
        model = inception_jax.create_model(name, **options)
        assert sum(trace.parameters(model, model.input_shape).values()) == expected, f"{name} {options}"


def test_inception_v3_without_gamma():
    """tf-slim's checkpoint, of 1001 classes; Keras's numbers, of 1000 without the head, 2048 + 1 a class."""
    model = inception_jax.create_model("inception_v3", num_classes=1001, batch_norm_scale=False)
    variables = trace.abstract_variables(model, model.input_shape)
    sizes = {name: trace.count(tree) for name, tree in variables["params"].items()}
    assert sum(sizes.values()) == 27_145_970
    trained = sum(sizes.values()) - sizes["aux"] - 2049
    assert trained == 23_817_352  # Keras's trained parameters
    running = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in variables["batch_stats"].items()}
    assert trained + sum(running.values()) - running["aux"] == 23_851_784  # Keras's total, with the running statistics


def test_multiply_adds_of_resnet50_with_the_stride_in_its_3x3():
    model = inception_jax.create_model("resnet50", downsample="conv3x3")
    assert sum(trace.multiply_adds(model, model.input_shape).values()) == 4_089_184_256  # torchvision's _ops: 4.089
    assert sum(trace.parameters(model, model.input_shape).values()) == 25_557_032


def test_weights_of_googlenets_blocks(golden):
    """The paper's Table 1 lists other numbers in 4a, 4c, 4d, 4e, 5a, 5b, which its own filters contradict."""
    expected = {
        "conv1": 9_408,
        "conv2": 114_688,
        "inception_3a": 163_328,
        "inception_3b": 388_096,
        "inception_4a": 375_552,
        "inception_4b": 448_512,
        "inception_4c": 509_440,
        "inception_4d": 604_672,
        "inception_4e": 867_328,
        "inception_5a": 1_042_432,
        "inception_5b": 1_442_816,
        "linear": 1_024_000,
        "aux1": 65_536 + 2_097_152 + 1_024_000,
        "aux2": 528 * 128 + 2_097_152 + 1_024_000,
    }
    layers = golden["googlenet"]["layers"] | golden["googlenet"]["heads"]
    assert {name: layer["weights"] for name, layer in layers.items() if layer["weights"]} == expected


def test_multiply_adds_of_googlenets_blocks(golden):
    # The paper's Table 1, column ops, in millions. It says 34 for conv1, which fits a separable convolution alone, and
    # 54 for 5a, which its filters contradict; the rest agrees.
    printed = {
        "conv2": 360,
        "inception_3a": 128,
        "inception_3b": 304,
        "inception_4a": 73,
        "inception_4b": 88,
        "inception_4c": 100,
        "inception_4d": 119,
        "inception_4e": 170,
        "inception_5b": 71,
        "linear": 1,
    }
    layers = golden["googlenet"]["layers"]
    for name, millions in printed.items():
        assert abs(layers[name]["multiply_adds"] / 1e6 - millions) < 0.7, name
    assert layers["conv1"]["multiply_adds"] == 118_013_952
    assert layers["inception_5a"]["multiply_adds"] == 51_079_168


def test_outputs_are_those_of_the_tables(golden):
    """GoogLeNet's Table 1; Figure 5 of BN-Inception, as its filters make them."""
    tables = {
        "googlenet": googlenet.TABLE_1[:-1],
        "bn_inception": bn_inception.FIGURE_5,
        "bn_inception_caffe": bn_inception.FIGURE_5,
    }
    for name, table in tables.items():
        for row in table:
            assert golden[name]["layers"][row.name]["output"] == "x".join(map(str, row.output)), f"{name} {row.name}"

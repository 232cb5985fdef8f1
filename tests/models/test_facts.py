"""What counts and shapes cannot see: paddings, constants, kinds of pools, orders, initial values, options.

Each table is stated by hand; the sources are those that the network's file names.
"""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inception_jax
from inception_jax import models
from inception_jax.models import lenet, shared, trace, vgg
from inception_jax.models.network import Block
from inception_jax.models.units import (
    AvgPool,
    Chain,
    Concat,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    LocalResponseNorm,
    Logits,
    MaxPool,
    Residual,
)

NAMES = inception_jax.list_models()
build = functools.cache(inception_jax.create_model)
VGG = [name for name in NAMES if name.startswith("vgg") and name != "vgg_d_gap"]
CAFFE = ["alexnet_caffe", "alexnet_onnx", "caffenet", "caffenet_onnx"]
ALL_CNN = [name for name in NAMES if "_cnn_" in name]


def leaves(unit):
    """The units without parts that `unit` consists of, in the order in which they are written."""
    match unit:
        case Chain(parts) | Concat(parts):
            return [leaf for part in parts for leaf in leaves(part)]
        case Residual(branch, shortcut):
            return leaves(branch) + ([] if isinstance(shortcut, bool) else leaves(shortcut))
    return [unit]


def of_kind(model, kind):
    return [leaf for _, unit in model.layers for leaf in leaves(unit) if isinstance(leaf, kind)]


# Rules of padding of convolutions and of max-pools; decay, epsilon and gamma of batch normalisation, biases beside it,
# and whether average pools count padding.
SLIM = (0.9997, 1e-3, False)
STYLES = {
    **dict.fromkeys(["lenet5", "lenet5_modern"], ("VALID", "VALID", None)),
    **dict.fromkeys(["alexnet", "alexnet_tv", "zfnet512"], ("SYMMETRIC", "VALID", None)),
    **dict.fromkeys([*CAFFE, "googlenet_gap"], ("SYMMETRIC", "CEIL", None)),
    **dict.fromkeys(["zfnet", "zfnet_wide", "nin_cifar10", "nin_imagenet", *ALL_CNN], ("SYMMETRIC", "CEIL", None)),
    **dict.fromkeys([*VGG, "vgg_d_gap"], ("SYMMETRIC", "VALID", None)),
    # torchvision: PyTorch's defaults of BatchNorm2d.
    **{f"vgg_{letter}_bn": ("SYMMETRIC", "VALID", (0.9, 1e-5, True), "bias") for letter in "abde"},
    "googlenet": ("SYMMETRIC", "CEIL", None),
    "googlenet_tv": ("SYMMETRIC", "CEIL", (0.9, 1e-3, True)),
    "googlenet_slim": ("SAME", "SAME", SLIM),
    "inception5h": ("SAME", "SAME", None),
    "bn_inception": ("SAME", "SAME", (0.9997, 1e-3, True)),
    "bn_inception_slim": ("SAME", "SAME", SLIM),
    "bn_inception_caffe": ("SYMMETRIC", "CEIL", (0.9, 1e-5, True), "bias", "counts padding"),
    "bn_inception_onnx": ("SYMMETRIC", "CEIL", (0.9, 1e-5, True)),
    **dict.fromkeys([name for name in NAMES if name.startswith(("inception_v", "inception_resnet"))],
                    ("SAME", "VALID", (0.9997, 1e-3, True))),
    "inception_resnet_v1_facenet": ("SAME", "VALID", (0.9, 1e-3, True)),
    "resnet50": ("SYMMETRIC", "SYMMETRIC", (0.9, 1e-5, True)),
    "resnet50_slim": ("SYMMETRIC", "SAME", (0.997, 1e-5, True)),
    "inception_v1_onnx": ("SYMMETRIC", "VALID", None),
}  # fmt: skip


def test_styles():
    for name in NAMES:
        style = build(name).style
        norm = style.batch_norm and (style.batch_norm.decay, style.batch_norm.epsilon, style.batch_norm.scale)
        found = [style.conv_padding, style.pool_padding, norm]
        found += ["bias"] * bool(norm and style.conv_bias) + ["counts padding"] * style.count_include_pad
        assert tuple(found) == STYLES[name], name


# Size, alpha (divided by the size), beta, k.
NORMS = {
    **dict.fromkeys(["alexnet", "zfnet", "zfnet_wide"], [(5, 1e-4, 0.75, 2.0)] * 2),
    "vgg_a_lrn": [(5, 1e-4, 0.75, 2.0)],
    "zfnet512": [(5, 5e-4, 0.75, 2.0)] * 2,
    **dict.fromkeys([*CAFFE, "googlenet", "googlenet_gap", "inception_v1_onnx"], [(5, 1e-4, 0.75, 1.0)] * 2),
    "inception5h": [(11, 11e-4, 0.5, 2.0)] * 2,
}


def test_response_norms():
    for name in NAMES:
        norms = of_kind(build(name), LocalResponseNorm)
        assert [(norm.size, norm.alpha, norm.beta, norm.k) for norm in norms] == NORMS.get(name, []), name
        assert all(norm.groups == 1 for norm in norms), name


def test_bn_inceptions_baseline_has_response_norms():
    layers = [name for name, _ in build("bn_inception", lrn=True).layers]
    assert layers[:6] == ["conv1", "pool1", "norm1", "conv2", "norm2", "pool2"]


# Rate, and the layer before.
DROPOUTS = {
    **dict.fromkeys(["lenet5", "lenet5_modern", "resnet50", "resnet50_slim", "googlenet_gap"], ()),
    **dict.fromkeys(["alexnet", *CAFFE, "zfnet", "zfnet_wide", "zfnet512", *VGG], (("fc6", 0.5), ("fc7", 0.5),)),
    "alexnet_tv": (("avgpool", 0.5), ("fc6", 0.5),),
    "vgg_d_gap": (("cam_pool", 0.5),),
    "nin_cifar10": (("pool1", 0.5), ("pool2", 0.5),),
    "nin_imagenet": (("pool3", 0.5),),
    **{name: (("image", 0.2), ("pool1", 0.5), ("pool2", 0.5),) for name in ALL_CNN},
    **{f"all_cnn_{b}": (("image", 0.2), ("conv_pool1", 0.5), ("conv_pool2", 0.5),) for b in "abc"},
    "strided_cnn_a": (("image", 0.2), ("conv1_1", 0.5), ("conv2_1", 0.5),),
    "strided_cnn_b": (("image", 0.2), ("conv1_2", 0.5), ("conv2_2", 0.5),),
    "strided_cnn_c": (("image", 0.2), ("conv1_2", 0.5), ("conv2_2", 0.5),),
    **dict.fromkeys(["googlenet", "inception5h", "inception_v1_onnx"], (("pool5", 0.4),)),
    **dict.fromkeys(["googlenet_tv", "googlenet_slim"], (("pool5", 0.2),)),
    **dict.fromkeys(["bn_inception", "bn_inception_caffe", "bn_inception_onnx", "inception_v3_fid"], (("pool", 0.0),)),
    **dict.fromkeys(["bn_inception_slim", "inception_v2", "inception_v3", "inception_v4", "inception_resnet_v1",
                     "inception_resnet_v2"], (("pool", 0.2),)),
    "inception_resnet_v1_facenet": (("pool", 0.6),),
}  # fmt: skip


def test_dropout():
    for name in NAMES:
        pairs = itertools.pairwise([("image", None), *build(name).layers])
        found = tuple((before, unit.rate) for (before, _), (_, unit) in pairs if isinstance(unit, Dropout))
        assert found == DROPOUTS[name], name


# The layer that each auxiliary head reads, and its rate of dropout.
GOOGLENETS = {"aux1": ("inception_4a", 0.7), "aux2": ("inception_4d", 0.7)}
HEADS = {
    "googlenet": GOOGLENETS,
    "googlenet_tv": GOOGLENETS,
    "inception5h": GOOGLENETS,
    "inception_v2": {"aux": ("mixed_6e", None)},
    "inception_v3": {"aux": ("mixed_6e", None)},
    "inception_v4": {"aux": ("mixed_6h", None)},
    "inception_resnet_v2": {"aux": ("block17_20", None)},
}


def test_auxiliary_heads():
    found = {}
    for name in NAMES:
        if "aux" in models.options_of(name):
            heads = build(name, aux=True).aux_heads
            rates = [[leaf.rate for leaf in leaves(head.unit) if isinstance(leaf, Dropout)] for head in heads]
            pairs = zip(heads, rates, strict=True)
            found[name] = {head.name: (head.after, rate[0] if rate else None) for head, rate in pairs}
            assert build(name, aux=False).aux_heads == ()
    assert found == HEADS


# The pools inside of modules, in order: a for average, m for maximum.
POOLS = {
    **dict.fromkeys(["googlenet", "googlenet_tv", "googlenet_slim", "inception5h", "inception_v1_onnx"], "mmmmmmmmm"),
    # 3c and 4e, of stride 2, and 5b take the maximum.
    **dict.fromkeys(["bn_inception", "bn_inception_slim", "bn_inception_caffe", "bn_inception_onnx"], "aamaaaamam"),
    **dict.fromkeys(["inception_v2", "inception_v3"], "aaamaaaamaa"),
    "inception_v3_fid": "aaamaaaamam",
    "inception_v4": "mmaaaamaaaaaaamaaa",  # mixed_3a and 5a; four A; seven B; three C; a reduction before B and C
    **dict.fromkeys(["inception_resnet_v1", "inception_resnet_v1_facenet"], "mm"),
    "inception_resnet_v2": "amm",
}


def test_pools_of_modules():
    for name, expected in POOLS.items():
        layers = build(name).layers
        inside = [leaf for _, unit in layers if not isinstance(unit, MaxPool | AvgPool) for leaf in leaves(unit)]
        found = ["a" if isinstance(leaf, AvgPool) else "m" for leaf in inside if isinstance(leaf, MaxPool | AvgPool)]
        assert "".join(found) == expected, name


def test_pool4_of_tf_slim_is_2x2():
    for name, window in (("googlenet", 3), ("googlenet_tv", 2), ("googlenet_slim", 2), ("inception5h", 3)):
        assert dict(build(name).layers)["pool4"] == MaxPool(window, 2)


def kernels(chain):
    return [leaf.kernel for leaf in leaves(chain) if isinstance(leaf, Conv) and isinstance(leaf.kernel, tuple)]


# Inception-v4's released code; Figs. 3, 5, 5 and 6. Kernels are height x width.
ORDERS = {
    "released": ("1x7 7x1", "1x7 7x1", "7x1 1x7 7x1 1x7", "3x1 1x3 1x3 3x1"),
    "figures": ("7x1 1x7", "1x7 1x7", "1x7 7x1 1x7 7x1", "1x3 3x1 1x3 3x1"),
}


def test_order_of_inception_v4s_asymmetric_convolutions():
    for order, expected in ORDERS.items():
        layers = dict(build("inception_v4", order=order).layers)
        paths = (
            layers["mixed_4a"].branches[1],
            layers["mixed_6b"].branches[1],
            layers["mixed_6h"].branches[2],
            layers["mixed_7d"].branches[2],
        )
        assert tuple(" ".join(f"{h}x{w}" for h, w in kernels(path)) for path in paths) == expected, order


def test_order_of_branches():
    v4 = dict(build("inception_v4").layers)
    assert [type(branch) for branch in v4["mixed_3a"].branches] == [MaxPool, Conv]
    assert [type(branch) for branch in v4["mixed_5a"].branches] == [Conv, MaxPool]
    first = [next(leaf for leaf in leaves(branch) if isinstance(leaf, Conv)) for branch in v4["mixed_5b"].branches]
    assert [conv.name for conv in first] == ["conv1x1", "conv3x3_reduce", "double3x3_reduce", "pool_proj"]
    paper, figures = build("inception_resnet_v2", variant="paper"), build("inception_v4", order="figures")
    assert dict(paper.layers)["mixed_4a"] == dict(figures.layers)["mixed_4a"]


def test_linear_convolutions_in_place_of_mlpconv():
    linear = build("nin_cifar10", mlpconv=False)
    names = [name for name, unit in linear.layers if isinstance(unit, (Conv, Logits))]
    assert names == ["conv1", "conv2", "conv3", "cccp6"]


@pytest.mark.parametrize("name", ["nin_cifar10", "all_cnn_c"])
def test_classifier_without_relu(name):
    """With the ReLU all scores of an average are 0 or more."""
    images = jax.random.normal(jax.random.key(0), (4, 12, 12, 3))
    with_, without = (build(name, width=0.1, classifier_relu=relu) for relu in (True, False))
    variables = jax.jit(with_.init)(jax.random.key(1), images)
    assert float(with_.apply(variables, images)[0].min()) == 0
    assert float(without.apply(variables, images)[0].min()) < 0


def test_blocks_without_shortcuts():
    """With a projection of zeros a block passes its input on, or nothing without a shortcut; else they are alike."""
    options = {"num_classes": 3, "width": 0.1, "blocks": 1}
    with_, without = (build("inception_resnet_v1", residual=residual, **options) for residual in (True, False))
    of_v2 = build("inception_resnet_v2", residual=False).layers
    assert {unit.shortcut for _, unit in of_v2 if isinstance(unit, Residual)} == {False}
    images = jnp.ones((1, 75, 75, 3))
    variables = jax.jit(with_.init)(jax.random.key(0), images)
    shapes = jax.tree.map(jnp.shape, variables)
    assert shapes == jax.tree.map(jnp.shape, trace.abstract_variables(without, (75, 75, 3)))
    variables["params"]["block17_1"]["conv1x1_expand"] = jax.tree.map(
        jnp.zeros_like, variables["params"]["block17_1"]["conv1x1_expand"]
    )
    _, passing = jax.jit(with_.apply)(variables, images)
    _, blocking = jax.jit(without.apply)(variables, images)
    np.testing.assert_array_equal(passing["block17_1"], passing["mixed_6a"])
    assert passing["block17_1"].any()
    assert not blocking["block17_1"].any()


def test_residual_scales():
    def scales(name, **options):
        layers = build(name, **options).layers
        found = collections.defaultdict(set)
        for layer, unit in layers:
            if isinstance(unit, Residual):
                found[layer.rpartition("_")[0]].add((unit.scale, unit.activation))
        return found

    given = {(0.3, True)}
    for name, last in (("inception_resnet_v1", set()), ("inception_resnet_v2", {(1.0, False)})):
        assert scales(name) == {"block35": {(0.17, True)}, "block17": {(0.1, True)}, "block8": {(0.2, True)} | last}
        assert scales(name, residual_scale=0.3) == {"block35": given, "block17": given, "block8": given | last}


def test_blocks_of_small_experiments():
    """One of each kind, the paper's first; the reductions, mixed_6a for one, and all else stay."""
    for name in ("inception_v2", "inception_v3", "inception_v4", "inception_resnet_v1", "inception_resnet_v2"):
        kinds = ("block35_", "block17_", "block8_") if "resnet" in name else ("mixed_5", "mixed_6", "mixed_7")
        repeated = lambda layer, kinds=kinds: layer.startswith(kinds) and not layer.endswith("a")  # noqa: E731
        paper, small = ([layer for layer, _ in build(name, blocks=blocks).layers] for blocks in (None, 1))
        assert [x for x in small if not repeated(x)] == [x for x in paper if not repeated(x)], name
        for kind in kinds:
            of_paper = [x for x in paper if x.startswith(kind) and repeated(x)]
            assert len(of_paper) > 1, name
            assert [x for x in small if x.startswith(kind) and repeated(x)] == of_paper[:1], name


def test_auxiliary_heads_stay_behind_the_last_block():
    taps = {
        name: build(name, blocks=1, aux=True).aux_heads[0].after
        for name in ("inception_v3", "inception_v4", "inception_resnet_v2")
    }
    assert taps == {"inception_v3": "mixed_6b", "inception_v4": "mixed_6b", "inception_resnet_v2": "block17_1"}


def test_more_blocks_than_the_paper_has_are_refused():
    with pytest.raises(inception_jax.UserError, match="^blocks=3 must be a whole number from 1 to 2$"):
        build("inception_v3", blocks=3)
    with pytest.raises(inception_jax.UserError, match="^blocks=4 must be a whole number from 1 to 3$"):
        build("inception_v4", blocks=4)


def test_the_last_convolution_of_nin_and_all_cnn_is_rectified():
    for name in ["nin_cifar10", "nin_imagenet", *ALL_CNN]:
        [scores] = of_kind(build(name), Logits)
        assert scores.activation


def test_linear_convolutions_are_those_before_a_sum():
    for name in NAMES:
        linear = {leaf.name for leaf in of_kind(build(name), Conv) if not leaf.activation}
        expected = {"resnet50": {"conv1x1_expand", "shortcut"}, "resnet50_slim": {"conv1x1_expand", "shortcut"}}
        assert linear == expected.get(name, set()), name


def test_order_of_pools_and_response_norms_in_caffe():
    for name, order in (
        ("alexnet_caffe", "norm1 pool1"),
        ("caffenet", "pool1 norm1"),
        ("caffenet_onnx", "pool1 norm1"),
    ):
        layers = [layer for layer, _ in build(name).layers]
        assert layers[1:3] == order.split(), name
        assert layers[4:6] == order.replace("1", "2").split(), name


def test_pools_of_the_onnx_zoos_alexnet_round_down_except_the_last():
    for name in ("alexnet_onnx", "caffenet_onnx"):
        assert [pool.padding for pool in of_kind(build(name), MaxPool)] == ["VALID", "VALID", None], name


def test_strides_of_tf_slims_resnet_are_in_the_last_block_of_a_stage():
    blocks = {name: unit for name, unit in build("resnet50_slim").layers if isinstance(unit, Residual)}
    strided = {name for name, unit in blocks.items() if any(conv.stride == 2 for conv in leaves(unit.branch))}
    assert strided == {"conv2_3", "conv3_4", "conv4_6"}
    assert {blocks[name].shortcut for name in strided} == {MaxPool(1, 2)}


def test_tf_slims_first_layer_has_a_bias_and_no_batch_normalisation():
    for name, normalised in (("bn_inception", True), ("bn_inception_slim", False)):
        depthwise, pointwise = leaves(dict(build(name).layers)["conv1"])
        assert isinstance(depthwise, DepthwiseConv)
        assert depthwise.multiplier == 8
        assert pointwise.batch_norm is normalised
    tree = trace.abstract_variables(build("bn_inception_slim"), (224, 224, 3))["params"]
    assert set(tree["conv1"]) == {"conv7x7_depthwise", "conv7x7_pointwise"}
    assert set(tree["conv2"]["conv3x3_bn"]) == {"bias"}


# Layer, unit, and the standard deviation of a kernel of 3x3x64x128 (of a matrix of 576x128 for dense layers) that it
# starts with. Truncated at two standard deviations TensorFlow's normal has 0.88 of its standard deviation; Flax's
# variance scaling makes up for that.
CUT = 0.8796
HE, GLOROT = (2 / 576) ** 0.5, (2 / (576 + 9 * 128)) ** 0.5
INITS = [
    ("alexnet", {}, "conv3", "conv3x3", 0.01),
    ("alexnet", {}, "fc7", "dense", 0.01),
    ("alexnet_tv", {}, "conv3", "conv3x3", (1 / 3 / 576) ** 0.5),
    ("zfnet", {}, "conv3", "conv3x3", 0.01),
    ("vgg_d", {}, "conv3_1", "conv3x3", GLOROT),
    ("vgg_d", {"init": "normal"}, "conv3_1", "conv3x3", 0.1),
    ("vgg_d", {"init": "normal"}, "fc8", "classifier", 0.1),
    ("vgg_d_bn", {}, "conv3_1", "conv3x3", (2 / (9 * 128)) ** 0.5),
    ("vgg_d_bn", {}, "fc6", "dense", 0.01),
    ("nin_cifar10", {}, "conv3", "conv3x3", 0.05),
    ("nin_imagenet", {}, "conv1", "conv11x11", 0.01),
    ("nin_imagenet", {}, "conv2", "conv5x5", 0.05),
    ("nin_imagenet", {}, "conv3", "conv3x3", 0.01),
    ("nin_imagenet", {}, "cccp8", "conv1x1", 0.01),
    ("all_cnn_c", {}, "conv1_2", "conv3x3", GLOROT),
    ("googlenet", {}, "conv2", "conv3x3", (1 / 576) ** 0.5),
    ("googlenet_tv", {}, "conv2", "conv3x3", 0.01),
    ("googlenet_slim", {}, "conv2", "conv3x3", 0.01 * CUT),
    ("googlenet_slim", {}, "linear", "classifier", HE),
    ("bn_inception", {}, "inception_4a", "conv3x3", HE),
    ("bn_inception_slim", {}, "inception_4a", "conv3x3", HE),
    ("bn_inception_slim", {}, "inception_4a", "conv3x3_reduce", 0.09 * CUT),
    ("bn_inception_slim", {}, "inception_4a", "pool_proj", 0.1 * CUT),
    ("bn_inception_slim", {}, "conv1", "conv7x7_pointwise", 1.0 * CUT),
    ("inception_v3", {}, "mixed_5b", "conv5x5", HE),
    ("inception_v3", {}, "aux", "fc", 0.01 * CUT),
    ("inception_v3", {}, "aux", "classifier", 0.001 * CUT),
    ("inception_v4", {"aux": True}, "mixed_5b", "conv3x3", HE),
    ("inception_v4", {"aux": True}, "aux", "fc", HE),
    ("inception_v4", {"aux": True}, "logits", "classifier", (2 / (576 + 128)) ** 0.5),
    ("inception_resnet_v2", {}, "mixed_6a", "conv3x3", GLOROT),
    ("resnet50", {}, "conv3_1", "conv3x3", HE),
]


def test_initial_kernels():
    for name, options, layer, unit, deviation in INITS:
        model = build(name, **options)
        units = dict(model.layers) | {head.name: head.unit for head in model.aux_heads}
        [found] = [leaf for leaf in leaves(units[layer]) if getattr(leaf, "name", None) == unit]
        shape = (576, 128) if isinstance(found, Dense | Logits) else (3, 3, 64, 128)
        kernel = (found.kernel_init or model.style.kernel_init)(jax.random.key(0), shape, jnp.float32)
        np.testing.assert_allclose(np.std(kernel), deviation, rtol=0.02, err_msg=f"{name} {layer}/{unit}")


def test_initial_biases_of_alexnet_are_1_where_the_paper_says():
    model = build("alexnet")
    ones = [layer for layer, unit in model.layers if getattr(unit, "bias_init", None)]
    assert ones == ["conv2", "conv4", "conv5", "fc6", "fc7"]
    for unit in (dict(model.layers)[layer] for layer in ones):
        np.testing.assert_array_equal(unit.bias_init(jax.random.key(0), (3,), jnp.float32), np.ones(3))


def test_units_take_their_own_initialisers():
    def three(key, shape, dtype=jnp.float32):
        return jnp.full(shape, 3.0, dtype)

    def two(key, shape, dtype=jnp.float32):
        return jnp.full(shape, 2.0, dtype)

    style = build("vgg_a").style
    own = {"kernel_init": three, "bias_init": two}
    for unit in (
        Conv("u", 4, 1, **own),
        Dense("u", 4, **own),
        Dense("u", 4, window=2, **own),
        DepthwiseConv("u", 2, 1, 1, kernel_init=three),
        Logits("u", 4, kernel_init=three),
    ):
        params = Block(unit, style, jnp.float32, None).init(jax.random.key(0), jnp.ones((1, 2, 2, 3)), False)["params"][
            "u"
        ]
        assert (params["kernel"] == 3).all()
        if "bias" in params:
            assert (params["bias"] == (0 if isinstance(unit, Logits) else 2)).all()


BFLOAT16 = [
    ("lenet5", {}), ("alexnet", {}), ("vgg_a_bn", {"dense_window": 1}), ("nin_cifar10", {}), ("googlenet_tv", {}),
    ("inception_v3", {"blocks": 1}), ("inception_resnet_v1", {"blocks": 1}),
]  # fmt: skip


def test_bfloat16_is_computed_in_and_float32_kept():
    for name, options in BFLOAT16:
        model = build(name, dtype="bfloat16", **options)
        size = max(model.min_size, 32)
        shape = (size, size, model.input_shape[2])
        variables = trace.abstract_variables(model, shape)
        assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype("float32")}, name
        rngs = {"dropout": jax.random.key(0)}
        apply = lambda v, x, m=model, r=rngs: m.apply(v, x, train=True, rngs=r, mutable=["batch_stats"])  # noqa: E731
        images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
        (logits, end_points), stats = jax.eval_shape(apply, variables, images)
        names = [layer for layer, _ in model.layers]
        classifiers = [layer for layer, unit in model.layers if any(isinstance(u, Logits) for u in leaves(unit))]
        first = classifiers[0] if classifiers else "output"
        scores = {*names[names.index(first) :], *(head.name for head in model.aux_heads)}
        for layer, array in end_points.items():
            assert array.dtype == (jnp.float32 if layer in scores else jnp.bfloat16), f"{name} {layer}"
        assert logits.dtype == jnp.float32, name
        assert {x.dtype for x in jax.tree.leaves(stats)} <= {np.dtype("float32")}, name


def test_vgg_c_ends_its_late_stages_with_1x1():
    for stage, kernels_ in enumerate(vgg.TABLE_1["c"], start=1):
        assert kernels_ == ((3, 3) if stage < 3 else (3, 3, 1))


def test_the_7x7_has_the_output_of_the_three_3x3_that_replace_it():
    three = shared.STEM[:3]
    assert [(unit.kernel, unit.stride, unit.padding) for _, unit in three] == [
        (3, 2, "VALID"), (3, 1, "VALID"), (3, 1, None)
    ]  # fmt: skip
    _, one = build("inception_v2").layers[0]
    assert (one.kernel, one.stride, one.padding, one.features) == (7, 2, "VALID", three[-1][1].features)


def test_lenets_squashing_leaves_1_as_it_is():
    """The reason for its constants: f(1) = 1 and f(-1) = -1."""
    np.testing.assert_allclose(lenet.squash(jnp.array([1.0, -1.0, 0.0])), [1.0, -1.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(lenet.squash(jnp.array(100.0)), 1.7159, rtol=1e-6)


def test_lenets_table():
    table = lenet.TABLE_I
    assert [len(maps) for maps in table] == [3] * 6 + [4] * 9 + [6]
    assert len(set(table)) == 16
    uses = collections.Counter(m for maps in table for m in maps)
    assert uses == dict.fromkeys(range(6), 10)  # 60 kernels over six maps
    # Rows 0-5: neighbours, 6-11: neighbours, 12-14: two pairs that face each other.
    assert table[0] == (0, 1, 2)
    assert table[5] == (0, 1, 5)
    assert table[11] == (0, 1, 2, 5)
    assert table[12:15] == ((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5))


def test_sparse_convolution_sees_the_maps_of_the_table_alone():
    module = lenet.SparseConv(dtype=jnp.float32)
    x = np.zeros((6, 5, 5, 6), np.float32)
    for m in range(6):
        x[m, ..., m] = 1.0
    variables = jax.tree.map(lambda p: jnp.full(p.shape, 0.01), module.init(jax.random.key(0), x))
    y = np.asarray(module.apply(variables, x))[:, 0, 0]
    nothing = np.asarray(module.apply(variables, 0 * x))[0, 0, 0]
    seen = [tuple(m for m in range(6) if y[m, i] != nothing[i]) for i in range(16)]
    assert seen == list(lenet.TABLE_I)


def test_subsampling_is_a_trained_multiple_of_the_sum():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1) / 10
    module = lenet.Subsampling(dtype=jnp.float32)
    variables = {"params": {"coefficient": jnp.array([0.5]), "bias": jnp.array([0.25])}}
    y = module.apply(variables, x)
    total = x[0, 0, 2, 0] + x[0, 0, 3, 0] + x[0, 1, 2, 0] + x[0, 1, 3, 0]
    np.testing.assert_allclose(y[0, 0, 1, 0], 1.7159 * np.tanh(2 / 3 * (0.5 * total + 0.25)), rtol=1e-5)


def test_the_nearest_target_has_the_highest_score():
    targets = lenet.rbf_targets(10)
    assert targets.shape == (10, 84)
    assert set(np.unique(targets)) == {-1.0, 1.0}
    scores = np.asarray(lenet.RadialBasis(10, jnp.float32).apply({}, targets))
    assert (scores.argmax(axis=1) == np.arange(10)).all()
    np.testing.assert_array_equal(np.diag(scores), np.zeros(10))
    # A cell that differs adds (1 - -1)^2; no two digits differ in fewer than 13.
    different = (targets[:, None] != targets[None]).sum(axis=-1)
    np.testing.assert_array_equal(scores, -4.0 * different)
    assert different[~np.eye(10, dtype=bool)].min() == 13
    assert lenet.rbf_targets(100).shape == (100, 84)
    assert (lenet.rbf_targets(100) == lenet.rbf_targets(100)).all()

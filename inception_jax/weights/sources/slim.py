"""Maps of TensorFlow-Slim's checkpoints (tensorflow/models research/slim/nets/*.py, README: Pre-trained Models).

Scopes are as in the code, with its irregular names. Checkpoints have 1001 classes, the first of which is the
background; those of VGG have 1000.
"""

from collections.abc import Mapping

from inception_jax.weights.sources.mapping import SLIM, WeightMap
from inception_jax.weights.sources.torchvision import join

_IGNORED = {
    r"global_step": "the number of training steps",
    r".*/(RMSProp(_1)?|Momentum|ExponentialMovingAverage)": "the optimizer's state",
    r".*/mean_rgb": "the mean of the images, which preprocessing states",
}


def _normalised(root: str, units: Mapping[str, str]) -> dict[str, str]:
    """Returns the scopes of convolutions with batch normalisation, whose arrays stand below the convolution."""
    return {scope: f"{root}/{theirs}" for ours, theirs in units.items() for scope in (ours, f"{ours}_bn")}


def _modules(modules: tuple[tuple[str, str, Mapping[str, str]], ...]) -> dict[str, str]:
    return {
        ours: theirs
        for name, prefix, units in modules
        for ours, theirs in join(f"{name}/", f"{prefix}/", units).items()
    }


def _aux(root: str, classifier: str, second: str = "Conv2d_2a_5x5") -> dict[str, str]:
    prefix = f"{root}/AuxLogits"
    first, fc = f"{prefix}/Conv2d_1b_1x1", f"{prefix}/{second}"
    return {
        "aux/conv1x1": first,
        "aux/conv1x1_bn": first,
        "aux/fc": fc,
        "aux/fc_bn": fc,
        "aux/classifier": f"{prefix}/{classifier}",
    }


# ------------------------------------------- Inception-v1: googlenet_slim

_V1 = {
    "conv1x1": "Branch_0/Conv2d_0a_1x1",
    "conv3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv3x3": "Branch_1/Conv2d_0b_3x3",
    "conv5x5_reduce": "Branch_2/Conv2d_0a_1x1",
    "conv5x5": "Branch_2/Conv2d_0b_3x3",
    "pool_proj": "Branch_3/Conv2d_0b_1x1",
}
_V1_BLOCKS = dict(
    zip(
        ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"),
        ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"),
        strict=True,
    )
)
INCEPTION_V1 = WeightMap(
    network="googlenet_slim",
    options={},
    framework=SLIM,
    scopes=_normalised(
        "InceptionV1",
        {
            "conv1/conv7x7": "Conv2d_1a_7x7",
            "conv2/conv3x3_reduce": "Conv2d_2b_1x1",
            "conv2/conv3x3": "Conv2d_2c_3x3",
        }
        | _modules(
            tuple(
                (
                    f"inception_{ours}",
                    f"Mixed_{theirs}",
                    _V1 | ({"conv5x5": "Branch_2/Conv2d_0a_3x3"} if theirs == "5b" else {}),  # so in the code
                )
                for ours, theirs in _V1_BLOCKS.items()
            )
        ),
    )
    | {"linear/classifier": "InceptionV1/Logits/Conv2d_0c_1x1"},
    convolved={"linear/classifier"},
    ignored=_IGNORED,
    background=1,
)

# ------------------------------------------- Inception-v2: bn_inception_slim

_V2 = {
    "conv1x1": "Branch_0/Conv2d_0a_1x1",
    "conv3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv3x3": "Branch_1/Conv2d_0b_3x3",
    "double3x3_reduce": "Branch_2/Conv2d_0a_1x1",
    "double3x3_1": "Branch_2/Conv2d_0b_3x3",
    "double3x3_2": "Branch_2/Conv2d_0c_3x3",
    "pool_proj": "Branch_3/Conv2d_0b_1x1",
}
_V2_REDUCTION = {
    "conv3x3_reduce": "Branch_0/Conv2d_0a_1x1",
    "conv3x3": "Branch_0/Conv2d_1a_3x3",
    "double3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "double3x3_1": "Branch_1/Conv2d_0b_3x3",
    "double3x3_2": "Branch_1/Conv2d_1a_3x3",
}
_V2_BLOCKS = (
    ("inception_3a", "Mixed_3b", _V2),
    ("inception_3b", "Mixed_3c", _V2),
    ("inception_3c", "Mixed_4a", _V2_REDUCTION),
    *((f"inception_4{ours}", f"Mixed_4{theirs}", _V2) for ours, theirs in zip("abcd", "bcde", strict=True)),
    ("inception_4e", "Mixed_5a", _V2_REDUCTION),
    ("inception_5a", "Mixed_5b", _V2),
    ("inception_5b", "Mixed_5c", _V2),
)
INCEPTION_V2 = WeightMap(
    network="bn_inception_slim",
    options={},
    framework=SLIM,
    scopes=_normalised(
        "InceptionV2",
        {"conv2/conv3x3_reduce": "Conv2d_2b_1x1", "conv2/conv3x3": "Conv2d_2c_3x3"} | _modules(_V2_BLOCKS),
    )
    | {
        "conv1/conv7x7_depthwise": "InceptionV2/Conv2d_1a_7x7",
        "conv1/conv7x7_pointwise": "InceptionV2/Conv2d_1a_7x7",
        "linear/classifier": "InceptionV2/Logits/Conv2d_1c_1x1",
    },
    convolved={"linear/classifier"},
    names={"params/conv1/conv7x7_pointwise/kernel": "InceptionV2/Conv2d_1a_7x7/pointwise_weights"},
    ignored=_IGNORED,
    background=1,
)

# ------------------------------------------- Inception-v3

STEM = {
    "conv2d_1a_3x3/conv3x3": "Conv2d_1a_3x3",
    "conv2d_2a_3x3/conv3x3": "Conv2d_2a_3x3",
    "conv2d_2b_3x3/conv3x3": "Conv2d_2b_3x3",
    "conv2d_3b_1x1/conv1x1": "Conv2d_3b_1x1",
    "conv2d_4a_3x3/conv3x3": "Conv2d_4a_3x3",
}
_V3_A = {
    "conv1x1": "Branch_0/Conv2d_0a_1x1",
    "conv5x5_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv5x5": "Branch_1/Conv2d_0b_5x5",
    "double3x3_reduce": "Branch_2/Conv2d_0a_1x1",
    "double3x3_1": "Branch_2/Conv2d_0b_3x3",
    "double3x3_2": "Branch_2/Conv2d_0c_3x3",
    "pool_proj": "Branch_3/Conv2d_0b_1x1",
}
_V3_B = {
    "conv1x1": "Branch_0/Conv2d_0a_1x1",
    "conv7x7_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv1x7": "Branch_1/Conv2d_0b_1x7",
    "conv7x1": "Branch_1/Conv2d_0c_7x1",
    "double7x7_reduce": "Branch_2/Conv2d_0a_1x1",
    "double7x1_1": "Branch_2/Conv2d_0b_7x1",
    "double1x7_1": "Branch_2/Conv2d_0c_1x7",
    "double7x1_2": "Branch_2/Conv2d_0d_7x1",
    "double1x7_2": "Branch_2/Conv2d_0e_1x7",
    "pool_proj": "Branch_3/Conv2d_0b_1x1",
}
_V3_C = {
    "conv1x1": "Branch_0/Conv2d_0a_1x1",
    "conv3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv1x3": "Branch_1/Conv2d_0b_1x3",
    "conv3x1": "Branch_1/Conv2d_0c_3x1",
    "double3x3_reduce": "Branch_2/Conv2d_0a_1x1",
    "double3x3": "Branch_2/Conv2d_0b_3x3",
    "double1x3": "Branch_2/Conv2d_0c_1x3",
    "double3x1": "Branch_2/Conv2d_0d_3x1",
    "pool_proj": "Branch_3/Conv2d_0b_1x1",
}
_V3_REDUCTION_B = {
    "conv3x3_reduce": "Branch_0/Conv2d_0a_1x1",
    "conv3x3": "Branch_0/Conv2d_1a_3x3",
    "conv7x7_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv1x7": "Branch_1/Conv2d_0b_1x7",
    "conv7x1": "Branch_1/Conv2d_0c_7x1",
    "conv7x7_3x3": "Branch_1/Conv2d_1a_3x3",
}
# The names '1a_1x1' of 3x3 convolutions, '0b_1x1', '1_0c_5x5' and '0b_3x1' are those of the code.
_V3_REDUCTION_A = {
    "conv3x3": "Branch_0/Conv2d_1a_1x1",
    "double3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "double3x3_1": "Branch_1/Conv2d_0b_3x3",
    "double3x3_2": "Branch_1/Conv2d_1a_1x1",
}
_V3_5C = {"conv5x5_reduce": "Branch_1/Conv2d_0b_1x1", "conv5x5": "Branch_1/Conv_1_0c_5x5"}
_V3_MODULES = (
    ("mixed_5b", "Mixed_5b", _V3_A),
    ("mixed_5c", "Mixed_5c", _V3_A | _V3_5C),
    ("mixed_5d", "Mixed_5d", _V3_A),
    ("mixed_6a", "Mixed_6a", _V3_REDUCTION_A),
    *((f"mixed_6{letter}", f"Mixed_6{letter}", _V3_B) for letter in "bcde"),
    ("mixed_7a", "Mixed_7a", _V3_REDUCTION_B),
    ("mixed_7b", "Mixed_7b", _V3_C | {"conv3x1": "Branch_1/Conv2d_0b_3x1"}),
    ("mixed_7c", "Mixed_7c", _V3_C),
)
INCEPTION_V3 = WeightMap(
    network="inception_v3",
    options={"batch_norm_scale": False},
    framework=SLIM,
    scopes=_normalised("InceptionV3", STEM | _modules(_V3_MODULES))
    | _aux("InceptionV3", "Conv2d_2b_1x1")
    | {"logits/classifier": "InceptionV3/Logits/Conv2d_1c_1x1"},
    convolved={"aux/fc", "aux/classifier", "logits/classifier"},
    ignored=_IGNORED,
    background=1,
)

# ------------------------------------------- Inception-v4

_V4_STEM = {
    "conv3x3_reduce": "Branch_0/Conv2d_0a_1x1",
    "conv3x3": "Branch_0/Conv2d_1a_3x3",
    "conv7x7_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv7_1": "Branch_1/Conv2d_0b_1x7",
    "conv7_2": "Branch_1/Conv2d_0c_7x1",
    "conv7x7_3x3": "Branch_1/Conv2d_1a_3x3",
}
_V4_A = {
    "conv1x1": "Branch_0/Conv2d_0a_1x1",
    "conv3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv3x3": "Branch_1/Conv2d_0b_3x3",
    "double3x3_reduce": "Branch_2/Conv2d_0a_1x1",
    "double3x3_1": "Branch_2/Conv2d_0b_3x3",
    "double3x3_2": "Branch_2/Conv2d_0c_3x3",
    "pool_proj": "Branch_3/Conv2d_0b_1x1",
}
_V4_B = {
    "conv1x1": "Branch_0/Conv2d_0a_1x1",
    "conv7x7_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv7_1": "Branch_1/Conv2d_0b_1x7",
    "conv7_2": "Branch_1/Conv2d_0c_7x1",
    "double7x7_reduce": "Branch_2/Conv2d_0a_1x1",
    "double7_1": "Branch_2/Conv2d_0b_7x1",
    "double7_2": "Branch_2/Conv2d_0c_1x7",
    "double7_3": "Branch_2/Conv2d_0d_7x1",
    "double7_4": "Branch_2/Conv2d_0e_1x7",
    "pool_proj": "Branch_3/Conv2d_0b_1x1",
}
_V4_C = {
    "conv1x1": "Branch_0/Conv2d_0a_1x1",
    "conv3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv1x3": "Branch_1/Conv2d_0b_1x3",
    "conv3x1": "Branch_1/Conv2d_0c_3x1",
    "double3x3_reduce": "Branch_2/Conv2d_0a_1x1",
    "double3_1": "Branch_2/Conv2d_0b_3x1",
    "double3_2": "Branch_2/Conv2d_0c_1x3",
    "double1x3": "Branch_2/Conv2d_0d_1x3",
    "double3x1": "Branch_2/Conv2d_0e_3x1",
    "pool_proj": "Branch_3/Conv2d_0b_1x1",
}
_REDUCTION_A = {
    "conv3x3": "Branch_0/Conv2d_1a_3x3",
    "double3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "double3x3_1": "Branch_1/Conv2d_0b_3x3",
    "double3x3_2": "Branch_1/Conv2d_1a_3x3",
}
_V4_MODULES = (
    ("mixed_3a", "Mixed_3a", {"conv3x3": "Branch_1/Conv2d_0a_3x3"}),
    ("mixed_4a", "Mixed_4a", _V4_STEM),
    ("mixed_5a", "Mixed_5a", {"conv3x3": "Branch_0/Conv2d_1a_3x3"}),
    *((f"mixed_5{letter}", f"Mixed_5{letter}", _V4_A) for letter in "bcde"),
    ("mixed_6a", "Mixed_6a", _REDUCTION_A),
    *((f"mixed_6{letter}", f"Mixed_6{letter}", _V4_B) for letter in "bcdefgh"),
    ("mixed_7a", "Mixed_7a", _V3_REDUCTION_B),
    *((f"mixed_7{letter}", f"Mixed_7{letter}", _V4_C) for letter in "bcd"),
)
INCEPTION_V4 = WeightMap(
    network="inception_v4",
    options={"batch_norm_scale": False, "aux": True},
    framework=SLIM,
    scopes=_normalised("InceptionV4", dict(list(STEM.items())[:3]) | _modules(_V4_MODULES))
    | _aux("InceptionV4", "Aux_logits", "Conv2d_2a")
    | {"logits/classifier": "InceptionV4/Logits/Logits"},
    convolved={"aux/fc"},
    ignored=_IGNORED,
    background=1,
)

# ------------------------------------------- Inception-ResNet-v2

_BLOCK35 = {
    "conv1x1": "Branch_0/Conv2d_1x1",
    "conv3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv3x3": "Branch_1/Conv2d_0b_3x3",
    "double3x3_reduce": "Branch_2/Conv2d_0a_1x1",
    "double3x3_1": "Branch_2/Conv2d_0b_3x3",
    "double3x3_2": "Branch_2/Conv2d_0c_3x3",
}
_BLOCK17 = {
    "conv1x1": "Branch_0/Conv2d_1x1",
    "conv7x7_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv1x7": "Branch_1/Conv2d_0b_1x7",
    "conv7x1": "Branch_1/Conv2d_0c_7x1",
}
_BLOCK8 = {
    "conv1x1": "Branch_0/Conv2d_1x1",
    "conv3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv1x3": "Branch_1/Conv2d_0b_1x3",
    "conv3x1": "Branch_1/Conv2d_0c_3x1",
}
_RESNET_REDUCTION_B = {
    "conv3x3_reduce": "Branch_0/Conv2d_0a_1x1",
    "conv3x3": "Branch_0/Conv2d_1a_3x3",
    "conv3x3_b_reduce": "Branch_1/Conv2d_0a_1x1",
    "conv3x3_b": "Branch_1/Conv2d_1a_3x3",
    "double3x3_reduce": "Branch_2/Conv2d_0a_1x1",
    "double3x3_1": "Branch_2/Conv2d_0b_3x3",
    "double3x3_2": "Branch_2/Conv2d_1a_3x3",
}
_BLOCKS = (
    *((f"block35_{i}", f"Repeat/block35_{i}", _BLOCK35) for i in range(1, 11)),
    *((f"block17_{i}", f"Repeat_1/block17_{i}", _BLOCK17) for i in range(1, 21)),
    *((f"block8_{i}", f"Repeat_2/block8_{i}", _BLOCK8) for i in range(1, 10)),
    ("block8_10", "Block8", _BLOCK8),
)
_RESNET_V2 = "InceptionResnetV2"
INCEPTION_RESNET_V2 = WeightMap(
    network="inception_resnet_v2",
    options={"batch_norm_scale": False, "aux": True},
    framework=SLIM,
    scopes=_normalised(
        _RESNET_V2,
        STEM
        | {"conv2d_7b_1x1/conv1x1": "Conv2d_7b_1x1"}
        | _modules(
            (
                ("mixed_5b", "Mixed_5b", _V3_A | {"conv1x1": "Branch_0/Conv2d_1x1"}),
                ("mixed_6a", "Mixed_6a", _REDUCTION_A),
                ("mixed_7a", "Mixed_7a", _RESNET_REDUCTION_B),
                *_BLOCKS,
            )
        ),
    )
    | {f"{ours}/conv1x1_expand": f"{_RESNET_V2}/{theirs}/Conv2d_1x1" for ours, theirs, _ in _BLOCKS}
    | _aux(_RESNET_V2, "Logits")
    | {"logits/classifier": f"{_RESNET_V2}/Logits/Logits"},
    convolved={"aux/fc"},
    ignored=_IGNORED,
    background=1,
)

# ------------------------------------------- VGG, whose dense layers are convolutions


def _vgg(letter: str, depth: int, counts: tuple[int, ...]) -> WeightMap:
    root = f"vgg_{depth}"
    return WeightMap(
        network=f"vgg_{letter}",
        options={},
        framework=SLIM,
        scopes={
            f"conv{stage}_{i}/conv3x3": f"{root}/conv{stage}/conv{stage}_{i}"
            for stage, count in enumerate(counts, start=1)
            for i in range(1, count + 1)
        }
        | {f"{layer}/{unit}": f"{root}/{layer}" for layer, unit in (("fc6", "dense"), ("fc7", "dense"))}
        | {"fc8/classifier": f"{root}/fc8"},
        convolved={"fc6/dense", "fc7/dense", "fc8/classifier"},
        ignored=_IGNORED,
    )


VGG16, VGG19 = _vgg("d", 16, (2, 2, 3, 3, 3)), _vgg("e", 19, (2, 2, 4, 4, 4))

# ------------------------------------------- ResNet-50

_UNITS = {"conv1x1_reduce": "conv1", "conv3x3": "conv2", "conv1x1_expand": "conv3"}


def _resnet50() -> dict[str, str]:
    units = {"conv1/conv7x7": "conv1"}
    for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for i in range(1, count + 1):
            prefix = f"block{stage - 1}/unit_{i}/bottleneck_v1"
            shortcut = {"shortcut": "shortcut"} if i == 1 else {}
            units |= join(f"conv{stage}_{i}/", f"{prefix}/", _UNITS | shortcut)
    return units


RESNET50 = WeightMap(
    network="resnet50_slim",
    options={},
    framework=SLIM,
    scopes=_normalised("resnet_v1_50", _resnet50()) | {"fc/classifier": "resnet_v1_50/logits"},
    convolved={"fc/classifier"},
    ignored=_IGNORED,
)

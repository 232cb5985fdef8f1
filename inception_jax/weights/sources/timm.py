"""Maps of timm's networks (timm/models/*.py). Its VGG and ResNet-50 are torchvision's under partly other names."""

import dataclasses
from collections.abc import Mapping

from inception_jax.weights.sources import torchvision
from inception_jax.weights.sources.mapping import TORCH, WeightMap
from inception_jax.weights.sources.torchvision import COUNTERS, join, normalised

# timm's Inception-v3 counts padding in average pools (`F.avg_pool2d(x, 3, 1, 1)`), also with TensorFlow's weights,
# which were trained without. Its published accuracies are those of this network, so it is the flavour here.
INCEPTION_V3 = dataclasses.replace(
    torchvision.INCEPTION_V3,
    options={"count_include_pad": True, "aux": False},
    scopes=torchvision.v3_scopes(aux=False),
    convolved=(),
)
INCEPTION_V3_AUX = torchvision.INCEPTION_V3  # tv_in1k

# ------------------------------------------- Inception-v4

_V4_A = {
    "conv1x1": "branch0",
    "conv3x3_reduce": "branch1.0",
    "conv3x3": "branch1.1",
    "double3x3_reduce": "branch2.0",
    "double3x3_1": "branch2.1",
    "double3x3_2": "branch2.2",
    "pool_proj": "branch3.1",
}
_V4_B = {
    "conv1x1": "branch0",
    "conv7x7_reduce": "branch1.0",
    "conv7_1": "branch1.1",
    "conv7_2": "branch1.2",
    "double7x7_reduce": "branch2.0",
    "double7_1": "branch2.1",
    "double7_2": "branch2.2",
    "double7_3": "branch2.3",
    "double7_4": "branch2.4",
    "pool_proj": "branch3.1",
}
_V4_C = {
    "conv1x1": "branch0",
    "conv3x3_reduce": "branch1_0",
    "conv1x3": "branch1_1a",
    "conv3x1": "branch1_1b",
    "double3x3_reduce": "branch2_0",
    "double3_1": "branch2_1",
    "double3_2": "branch2_2",
    "double1x3": "branch2_3a",
    "double3x1": "branch2_3b",
    "pool_proj": "branch3.1",
}
_V4_STEM = {
    "conv3x3_reduce": "branch0.0",
    "conv3x3": "branch0.1",
    "conv7x7_reduce": "branch1.0",
    "conv7_1": "branch1.1",
    "conv7_2": "branch1.2",
    "conv7x7_3x3": "branch1.3",
}
REDUCTION_A = {
    "conv3x3": "branch0",
    "double3x3_reduce": "branch1.0",
    "double3x3_1": "branch1.1",
    "double3x3_2": "branch1.2",
}
_V4_REDUCTION_B = {
    "conv3x3_reduce": "branch0.0",
    "conv3x3": "branch0.1",
    "conv7x7_reduce": "branch1.0",
    "conv1x7": "branch1.1",
    "conv7x1": "branch1.2",
    "conv7x7_3x3": "branch1.3",
}
# (our layer, number of `features`, units)
_V4_MODULES = (
    ("mixed_4a", 4, _V4_STEM),
    *((f"mixed_5{letter}", 6 + i, _V4_A) for i, letter in enumerate("bcde")),
    ("mixed_6a", 10, REDUCTION_A),
    *((f"mixed_6{letter}", 11 + i, _V4_B) for i, letter in enumerate("bcdefgh")),
    ("mixed_7a", 18, _V4_REDUCTION_B),
    *((f"mixed_7{letter}", 19 + i, _V4_C) for i, letter in enumerate("bcd")),
)

INCEPTION_V4 = WeightMap(
    network="inception_v4",
    options={"aux": False},
    framework=TORCH,
    scopes=normalised(
        {
            "conv2d_1a_3x3/conv3x3": "features.0",
            "conv2d_2a_3x3/conv3x3": "features.1",
            "conv2d_2b_3x3/conv3x3": "features.2",
            "mixed_3a/conv3x3": "features.3.conv",
            "mixed_5a/conv3x3": "features.5.conv",
        }
        | {
            ours: theirs
            for name, number, units in _V4_MODULES
            for ours, theirs in join(f"{name}/", f"features.{number}.", units).items()
        }
    )
    | {"logits/classifier": "last_linear"},
    ignored=COUNTERS,
)

# ------------------------------------------- Inception-ResNet-v2

_MIXED_5B = {
    "conv1x1": "branch0",
    "conv5x5_reduce": "branch1.0",
    "conv5x5": "branch1.1",
    "double3x3_reduce": "branch2.0",
    "double3x3_1": "branch2.1",
    "double3x3_2": "branch2.2",
    "pool_proj": "branch3.1",
}
BLOCK35 = {
    "conv1x1": "branch0",
    "conv3x3_reduce": "branch1.0",
    "conv3x3": "branch1.1",
    "double3x3_reduce": "branch2.0",
    "double3x3_1": "branch2.1",
    "double3x3_2": "branch2.2",
}
BLOCK17 = {"conv1x1": "branch0", "conv7x7_reduce": "branch1.0", "conv1x7": "branch1.1", "conv7x1": "branch1.2"}
BLOCK8 = {"conv1x1": "branch0", "conv3x3_reduce": "branch1.0", "conv1x3": "branch1.1", "conv3x1": "branch1.2"}
REDUCTION_B = {
    "conv3x3_reduce": "branch0.0",
    "conv3x3": "branch0.1",
    "conv3x3_b_reduce": "branch1.0",
    "conv3x3_b": "branch1.1",
    "double3x3_reduce": "branch2.0",
    "double3x3_1": "branch2.1",
    "double3x3_2": "branch2.2",
}
_RESNET_V2_BLOCKS = (
    *((f"block35_{i + 1}", f"repeat.{i}", BLOCK35) for i in range(10)),
    *((f"block17_{i + 1}", f"repeat_1.{i}", BLOCK17) for i in range(20)),
    *((f"block8_{i + 1}", f"repeat_2.{i}", BLOCK8) for i in range(9)),
    ("block8_10", "block8", BLOCK8),
)


def lower_case(stem: Mapping[str, str]) -> dict[str, str]:
    """Returns 'conv2d_1a' for 'Conv2d_1a_3x3'."""
    return {ours: theirs.removesuffix("_3x3").removesuffix("_1x1").lower() for ours, theirs in stem.items()}


def resnet_v2_scopes(classifier: str) -> dict[str, str]:
    """Returns the scopes of Inception-ResNet-v2; `classifier` is the file's name of the last layer."""
    modules = (
        ("mixed_5b", "mixed_5b", _MIXED_5B),
        ("mixed_6a", "mixed_6a", REDUCTION_A),
        ("mixed_7a", "mixed_7a", REDUCTION_B),
        *_RESNET_V2_BLOCKS,
    )
    return (
        normalised(
            lower_case(torchvision.V3_STEM)
            | {"conv2d_7b_1x1/conv1x1": "conv2d_7b"}
            | {
                ours: theirs
                for name, prefix, units in modules
                for ours, theirs in join(f"{name}/", f"{prefix}.", units).items()
            }
        )
        | {f"{name}/conv1x1_expand": f"{prefix}.conv2d" for name, prefix, _ in _RESNET_V2_BLOCKS}
        | {"logits/classifier": classifier}
    )


INCEPTION_RESNET_V2 = WeightMap(
    network="inception_resnet_v2",
    options={"aux": False},
    framework=TORCH,
    scopes=resnet_v2_scopes("classif"),
    ignored=COUNTERS,
)

# ------------------------------------------- VGG: dense layers 6 and 7 as convolutions

_VGG_DENSE = {"fc6/dense": "pre_logits.fc1", "fc7/dense": "pre_logits.fc2", "fc8/classifier": "head.fc"}
VGG = {
    (depth, norm): torchvision.vgg(depth, norm, _VGG_DENSE, convolved=("fc6/dense", "fc7/dense"))
    for depth in torchvision.VGG_LETTERS
    for norm in (False, True)
}
RESNET50 = torchvision.RESNET50

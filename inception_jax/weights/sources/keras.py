"""Maps of Keras's networks (keras/src/applications/*.py).

The names of layers end in numbers that go on counting through a session; the published files count from 1. Within a
file the order of these numbers is that in which Keras makes the layers, and `renumbered` counts them from 1. VGG and
ResNet-50 came from Caffe (mode 'caffe' of keras/src/applications/imagenet_utils.py): they take blue, green, red.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np

from inception_jax.weights.sources.mapping import KERAS, WeightMap

# The convolutions of each module, in the order in which Keras makes and numbers its own.
_A = ("conv1x1", "conv5x5_reduce", "conv5x5", "double3x3_reduce", "double3x3_1", "double3x3_2", "pool_proj")
_REDUCTION_A = ("conv3x3", "double3x3_reduce", "double3x3_1", "double3x3_2")
_B = (
    *("conv1x1", "conv7x7_reduce", "conv1x7", "conv7x1"),
    *("double7x7_reduce", "double7x1_1", "double1x7_1", "double7x1_2", "double1x7_2", "pool_proj"),
)
_REDUCTION_B = ("conv3x3_reduce", "conv3x3", "conv7x7_reduce", "conv1x7", "conv7x1", "conv7x7_3x3")
_C = (
    *("conv1x1", "conv3x3_reduce", "conv1x3", "conv3x1"),
    *("double3x3_reduce", "double3x3", "double1x3", "double3x1", "pool_proj"),
)
_BLOCK35 = ("conv1x1", "conv3x3_reduce", "conv3x3", "double3x3_reduce", "double3x3_1", "double3x3_2")
_BLOCK17 = ("conv1x1", "conv7x7_reduce", "conv1x7", "conv7x1")
_BLOCK8 = ("conv1x1", "conv3x3_reduce", "conv1x3", "conv3x1")
_RESNET_REDUCTION_B = (
    *("conv3x3_reduce", "conv3x3", "conv3x3_b_reduce", "conv3x3_b"),
    *("double3x3_reduce", "double3x3_1", "double3x3_2"),
)
_STEM = (
    ("conv2d_1a_3x3", ("conv3x3",)),
    ("conv2d_2a_3x3", ("conv3x3",)),
    ("conv2d_2b_3x3", ("conv3x3",)),
    ("conv2d_3b_1x1", ("conv1x1",)),
    ("conv2d_4a_3x3", ("conv3x3",)),
)
_V3 = (
    *_STEM,
    *((f"mixed_5{letter}", _A) for letter in "bcd"),
    ("mixed_6a", _REDUCTION_A),
    *((f"mixed_6{letter}", _B) for letter in "bcde"),
    ("mixed_7a", _REDUCTION_B),
    *((f"mixed_7{letter}", _C) for letter in "bc"),
)
_RESNET_V2 = (
    *_STEM,
    ("mixed_5b", _A),
    *((f"block35_{i}", _BLOCK35) for i in range(1, 11)),
    ("mixed_6a", _REDUCTION_A),
    *((f"block17_{i}", _BLOCK17) for i in range(1, 21)),
    ("mixed_7a", _RESNET_REDUCTION_B),
    *((f"block8_{i}", _BLOCK8) for i in range(1, 11)),
)


def _numbered(rows: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, str]:
    units = [f"{layer}/{unit}" for layer, names in rows for unit in names]
    return {
        scope: name
        for number, unit in enumerate(units, start=1)
        for scope, name in ((unit, f"conv2d_{number}"), (f"{unit}_bn", f"batch_normalization_{number}"))
    }


def renumbered(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays with the numbers of layers that Keras names itself counted from 1."""
    numbers: dict[str, set[int]] = {}
    found = {name: re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?/(\w+)", name) for name in arrays}
    for match in filter(None, found.values()):
        numbers.setdefault(match[1], set()).add(int(match[2] or 0))
    places = {kind: {n: place for place, n in enumerate(sorted(each), start=1)} for kind, each in numbers.items()}

    def new(name: str) -> str:
        match = found[name]
        return f"{match[1]}_{places[match[1]][int(match[2] or 0)]}/{match[3]}" if match else name

    return {new(name): array for name, array in arrays.items()}


def _without_top(weights: WeightMap, *scopes: str) -> WeightMap:
    """Returns the map of the file without the last layers (`include_top=False`)."""
    kept = {scope: prefix for scope, prefix in weights.scopes.items() if scope not in scopes}
    return dataclasses.replace(weights, scopes=kept, absent=scopes)


_TOP = {"logits/classifier": "predictions"}
INCEPTION_V3 = WeightMap(
    network="inception_v3",
    options={"aux": False, "batch_norm_scale": False},
    framework=KERAS,
    scopes=_numbered(_V3) | _TOP,
    prepare=renumbered,
)
INCEPTION_RESNET_V2 = WeightMap(
    network="inception_resnet_v2",
    options={"aux": False, "batch_norm_scale": False},
    framework=KERAS,
    scopes=_numbered(_RESNET_V2)
    | {f"{layer}/conv1x1_expand": f"{layer}_conv" for layer, _ in _RESNET_V2 if layer.startswith("block")}
    | {"conv2d_7b_1x1/conv1x1": "conv_7b", "conv2d_7b_1x1/conv1x1_bn": "conv_7b_bn"}
    | _TOP,
    prepare=renumbered,
)


def _vgg(letter: str, counts: tuple[int, ...]) -> WeightMap:
    convolutions = {
        f"conv{stage}_{i}/conv3x3": f"block{stage}_conv{i}"
        for stage, count in enumerate(counts, start=1)
        for i in range(1, count + 1)
    }
    dense = {"fc6/dense": "fc1", "fc7/dense": "fc2", "fc8/classifier": "predictions"}
    return WeightMap(network=f"vgg_{letter}", options={}, framework=KERAS, scopes=convolutions | dense, bgr=True)


VGG16, VGG19 = _vgg("d", (2, 2, 3, 3, 3)), _vgg("e", (2, 2, 4, 4, 4))


def _resnet50() -> dict[str, str]:
    scopes = {"conv1/conv7x7": "conv1_conv", "conv1/conv7x7_bn": "conv1_bn", "fc/classifier": "predictions"}
    for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for i in range(1, count + 1):
            units = ["conv1x1_reduce", "conv3x3", "conv1x1_expand"]
            for number, unit in enumerate(["shortcut", *units] if i == 1 else units, start=int(i > 1)):
                scopes[f"conv{stage}_{i}/{unit}"] = f"conv{stage}_block{i}_{number}_conv"
                scopes[f"conv{stage}_{i}/{unit}_bn"] = f"conv{stage}_block{i}_{number}_bn"
    return scopes


RESNET50 = WeightMap(
    network="resnet50",
    options={"downsample": "conv1x1", "batch_norm_epsilon": 1.001e-5},
    framework=KERAS,
    scopes=_resnet50(),
    folded=True,
    bgr=True,
)

INCEPTION_V3_NOTOP = _without_top(INCEPTION_V3, "logits/classifier")
INCEPTION_RESNET_V2_NOTOP = _without_top(INCEPTION_RESNET_V2, "logits/classifier")
_VGG_TOP = ("fc6/dense", "fc7/dense", "fc8/classifier")
VGG16_NOTOP, VGG19_NOTOP = _without_top(VGG16, *_VGG_TOP), _without_top(VGG19, *_VGG_TOP)
RESNET50_NOTOP = _without_top(RESNET50, "fc/classifier")

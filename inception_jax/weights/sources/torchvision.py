"""Maps of torchvision's networks (torchvision/models/*.py)."""

from collections.abc import Iterator, Mapping

import numpy as np

from inception_jax.models import create_model
from inception_jax.models.units import Conv, MaxPool
from inception_jax.weights.sources.mapping import TORCH, WeightMap

COUNTERS = {r".*\.num_batches_tracked": "a counter of PyTorch, which inference does not use"}


def normalised(units: Mapping[str, str], conv: str = ".conv", norm: str = ".bn") -> dict[str, str]:
    """Returns the scopes of convolutions with batch normalisation: `conv` and `norm` are appended to the prefixes."""
    return {
        scope: prefix
        for ours, theirs in units.items()
        for scope, prefix in ((ours, theirs + conv), (f"{ours}_bn", theirs + norm))
    }


def join(ours: str, theirs: str, names: Mapping[str, str]) -> dict[str, str]:
    """Returns `names` with a prefix on either side."""
    return {f"{ours}{mine}": f"{theirs}{other}" for mine, other in names.items()}


# ------------------------------------------- GoogLeNet: 3x3 where the paper has 5x5 (torchvision/models/googlenet.py)

_GOOGLENET_MODULE = {
    "conv1x1": "branch1",
    "conv3x3_reduce": "branch2.0",
    "conv3x3": "branch2.1",
    "conv5x5_reduce": "branch3.0",
    "conv5x5": "branch3.1",
    "pool_proj": "branch4.1",
}

GOOGLENET = WeightMap(
    network="googlenet_tv",
    options={"aux": False},
    framework=TORCH,
    scopes=normalised(
        {"conv1/conv7x7": "conv1", "conv2/conv3x3_reduce": "conv2", "conv2/conv3x3": "conv3"}
        | {
            ours: theirs
            for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
            for ours, theirs in join(f"inception_{block}/", f"inception{block}.", _GOOGLENET_MODULE).items()
        }
    )
    | {"linear/classifier": "fc"},
    ignored=COUNTERS | {r"aux[12]\..*": "the auxiliary heads of torchvision's file were never trained"},
)

# ------------------------------------------- Inception-v3 (torchvision/models/inception.py)

V3_STEM = {
    "conv2d_1a_3x3/conv3x3": "Conv2d_1a_3x3",
    "conv2d_2a_3x3/conv3x3": "Conv2d_2a_3x3",
    "conv2d_2b_3x3/conv3x3": "Conv2d_2b_3x3",
    "conv2d_3b_1x1/conv1x1": "Conv2d_3b_1x1",
    "conv2d_4a_3x3/conv3x3": "Conv2d_4a_3x3",
}
_V3_A = {
    "conv1x1": "branch1x1",
    "conv5x5_reduce": "branch5x5_1",
    "conv5x5": "branch5x5_2",
    "double3x3_reduce": "branch3x3dbl_1",
    "double3x3_1": "branch3x3dbl_2",
    "double3x3_2": "branch3x3dbl_3",
    "pool_proj": "branch_pool",
}
_V3_REDUCTION_A = {
    "conv3x3": "branch3x3",
    "double3x3_reduce": "branch3x3dbl_1",
    "double3x3_1": "branch3x3dbl_2",
    "double3x3_2": "branch3x3dbl_3",
}
_V3_B = {
    "conv1x1": "branch1x1",
    "conv7x7_reduce": "branch7x7_1",
    "conv1x7": "branch7x7_2",
    "conv7x1": "branch7x7_3",
    "double7x7_reduce": "branch7x7dbl_1",
    "double7x1_1": "branch7x7dbl_2",
    "double1x7_1": "branch7x7dbl_3",
    "double7x1_2": "branch7x7dbl_4",
    "double1x7_2": "branch7x7dbl_5",
    "pool_proj": "branch_pool",
}
_V3_REDUCTION_B = {
    "conv3x3_reduce": "branch3x3_1",
    "conv3x3": "branch3x3_2",
    "conv7x7_reduce": "branch7x7x3_1",
    "conv1x7": "branch7x7x3_2",
    "conv7x1": "branch7x7x3_3",
    "conv7x7_3x3": "branch7x7x3_4",
}
_V3_C = {
    "conv1x1": "branch1x1",
    "conv3x3_reduce": "branch3x3_1",
    "conv1x3": "branch3x3_2a",
    "conv3x1": "branch3x3_2b",
    "double3x3_reduce": "branch3x3dbl_1",
    "double3x3": "branch3x3dbl_2",
    "double1x3": "branch3x3dbl_3a",
    "double3x1": "branch3x3dbl_3b",
    "pool_proj": "branch_pool",
}
V3_MODULES = (
    *(("mixed_5" + letter, "Mixed_5" + letter, _V3_A) for letter in "bcd"),
    ("mixed_6a", "Mixed_6a", _V3_REDUCTION_A),
    *(("mixed_6" + letter, "Mixed_6" + letter, _V3_B) for letter in "bcde"),
    ("mixed_7a", "Mixed_7a", _V3_REDUCTION_B),
    *(("mixed_7" + letter, "Mixed_7" + letter, _V3_C) for letter in "bc"),
)


def v3_scopes(aux: bool) -> dict[str, str]:
    """Returns the scopes of Inception-v3; `aux`: with those of the auxiliary head."""
    modules = {
        ours: theirs
        for name, prefix, units in V3_MODULES
        for ours, theirs in join(f"{name}/", f"{prefix}.", units).items()
    }
    head = {"aux/conv1x1": "AuxLogits.conv0", "aux/fc": "AuxLogits.conv1"} if aux else {}
    classifiers = {"logits/classifier": "fc"} | ({"aux/classifier": "AuxLogits.fc"} if aux else {})
    return normalised(V3_STEM | modules | head) | classifiers


# `transform_input` of torchvision turns ImageNet's mean and std into 127.5 and 127.5, which the catalogue states.
INCEPTION_V3 = WeightMap(
    network="inception_v3",
    options={"count_include_pad": True},
    framework=TORCH,
    scopes=v3_scopes(aux=True),
    convolved={"aux/fc"},
    ignored=COUNTERS,
)

# ------------------------------------------- AlexNet, VGG, ResNet-50

ALEXNET = WeightMap(
    network="alexnet_tv",
    options={},
    framework=TORCH,
    scopes={
        "conv1/conv11x11": "features.0",
        "conv2/conv5x5": "features.3",
        "conv3/conv3x3": "features.6",
        "conv4/conv3x3": "features.8",
        "conv5/conv3x3": "features.10",
        "fc6/dense": "classifier.1",
        "fc7/dense": "classifier.4",
        "fc8/classifier": "classifier.6",
    },
)
VGG_LETTERS = {11: "a", 13: "b", 16: "d", 19: "e"}
VGG_DENSE = {"fc6/dense": "classifier.0", "fc7/dense": "classifier.3", "fc8/classifier": "classifier.6"}


def vgg(depth: int, batch_norm: bool, dense: Mapping[str, str] = VGG_DENSE, **options) -> WeightMap:
    """Returns the map of VGG with `depth` layers. `features` counts convolutions, normalisations, ReLUs and pools."""
    name = f"vgg_{VGG_LETTERS[depth]}" + ("_bn" if batch_norm else "")
    return WeightMap(
        network=name,
        options={},
        framework=TORCH,
        scopes=dict(_vgg_features(name, batch_norm)) | dict(dense),
        ignored=COUNTERS if batch_norm else {},
        **options,
    )


def _vgg_features(name: str, batch_norm: bool) -> Iterator[tuple[str, str]]:
    number = 0
    for layer, unit in create_model(name).layers:
        if isinstance(unit, Conv):
            yield f"{layer}/{unit.name}", f"features.{number}"
            if batch_norm:
                yield f"{layer}/{unit.name}_bn", f"features.{number + 1}"
            number += 3 if batch_norm else 2
        elif isinstance(unit, MaxPool):
            number += 1


VGG = {(depth, norm): vgg(depth, norm) for depth in VGG_LETTERS for norm in (False, True)}

# jcjohnson/pytorch-vgg: Caffe's weights, for blue, green, red of 0 to 255. Its names are torchvision's of early 2017,
# when the classifier began with dropout. Files that others renamed to today's names circulate too.
_DENSE_OF_2017 = {"fc6/dense": "classifier.1", "fc7/dense": "classifier.4", "fc8/classifier": "classifier.6"}


def names_of_2017(arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Returns the arrays of a VGG under torchvision's names of early 2017."""
    if "classifier.0.weight" not in arrays:
        return arrays
    old = {VGG_DENSE[scope]: prefix for scope, prefix in _DENSE_OF_2017.items()}
    return {
        f"{old.get(prefix, prefix)}.{leaf}": array
        for (prefix, _, leaf), array in ((name.rpartition("."), array) for name, array in arrays.items())
    }


VGG_CAFFE = {depth: vgg(depth, False, _DENSE_OF_2017, bgr=True, prepare=names_of_2017) for depth in (16, 19)}

_BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}  # number of blocks of each stage of ResNet-50
_UNITS = {"conv1x1_reduce": 1, "conv3x3": 2, "conv1x1_expand": 3}

RESNET50 = WeightMap(
    network="resnet50",
    options={"downsample": "conv3x3"},
    framework=TORCH,
    scopes={"conv1/conv7x7": "conv1", "conv1/conv7x7_bn": "bn1", "fc/classifier": "fc"}
    | {
        f"conv{stage}_{block + 1}/{unit}{norm}": f"layer{stage - 1}.{block}.{'bn' if norm else 'conv'}{number}"
        for stage, count in _BLOCKS.items()
        for block in range(count)
        for unit, number in _UNITS.items()
        for norm in ("", "_bn")
    }
    | {
        f"conv{stage}_1/shortcut{norm}": f"layer{stage - 1}.0.downsample.{1 if norm else 0}"
        for stage in _BLOCKS
        for norm in ("", "_bn")
    },
    ignored=COUNTERS,
)

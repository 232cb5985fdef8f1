"""Maps of the ONNX model zoo (onnx/models, validated/vision/classification).

Names of arrays are those of the tools that made the graphs: Caffe2 ('conv1_w_0') and MXNet ('vgg0_conv0_weight').
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from inception_jax.models import create_model
from inception_jax.models.units import Conv
from inception_jax.weights.sources import caffe
from inception_jax.weights.sources.mapping import Framework, WeightMap
from inception_jax.weights.sources.torchvision import VGG_LETTERS, join, normalised

_IGNORED = {
    r"OC2_DUMMY_\d+|.*__SHAPE|reshape_attr_tensor\d*": "a shape",
    r"gpu_0/imagenet1k_blobs_queue_.*": "a queue of images",
}
_FROM_CAFFE = Framework(
    separator="_",
    layer={"kernel": "w_0", "bias": "b_0"},
    norm={"scale": "scale_0", "bias": "bias_0", "mean": "mean_0", "var": "var_0"},
    channels_first=True,
)
_CAFFE2 = Framework(  # `riv` is the variance, in spite of its name (running inverse variance)
    separator="_",
    layer={"kernel": "w_0", "bias": "b_0"},
    norm={"scale": "s_0", "bias": "b_0", "mean": "rm_0", "var": "riv_0"},
    channels_first=True,
)
_MXNET = Framework(
    separator="_",
    layer={"kernel": "weight", "bias": "bias"},
    norm={"scale": "gamma", "bias": "beta", "mean": "running_mean", "var": "running_var"},
    channels_first=True,
)


def merged(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays with the factor and offset that follow a batch normalisation merged into it.

    Caffe's batch normalisation has neither; its layer `Scale` has them, as `sc_w_0` and `sc_b_0` in these graphs.
    """
    found = caffe.without_leading_ones(arrays)
    for name in arrays:
        prefix, last = name[:-7], name[-7:]
        scale, bias, offset = f"{prefix}_scale_0", f"{prefix}_bias_0", f"{prefix}/sc_b_0"
        if last == "/sc_w_0" and {scale, bias, offset} <= found.keys():
            factor = found.pop(name)
            found[scale], found[bias] = found[scale] * factor, found[bias] * factor + found.pop(offset)
    return found


def _zoo(network: str, scopes: Mapping[str, str], **options) -> WeightMap:
    fields: dict[str, Any] = {
        "options": {},
        "framework": _FROM_CAFFE,
        "ignored": _IGNORED,
        "prepare": merged,
        "bgr": True,
    } | options
    return WeightMap(network=network, scopes=scopes, **fields)


# ------------------------------------------- from Caffe's weights

_GOOGLENET = caffe.googlenet_convolutions() | {"linear/classifier": "loss3/classifier"}
GOOGLENET = _zoo("googlenet", _GOOGLENET, options={"aux": False})
INCEPTION_V1 = _zoo("inception_v1_onnx", _GOOGLENET)
ALEXNET = _zoo("alexnet_onnx", caffe.same_names("alexnet_onnx"))
CAFFENET = _zoo("caffenet_onnx", caffe.same_names("caffenet_onnx"))
VGG19_CAFFE2 = _zoo("vgg_e", caffe.same_names("vgg_e"))

_V2_MODULE = {
    "conv1x1": "1x1",
    "conv3x3_reduce": "3x3_reduce",
    "conv3x3": "3x3",
    "double3x3_reduce": "double3x3_reduce",
    "double3x3_1": "double3x3a",
    "double3x3_2": "double3x3b",
    "pool_proj": "pool_proj",
}
_PASSING = ("3c", "4e")  # blocks that halve the grid, which have neither a 1x1 nor a projection
INCEPTION_V2 = _zoo(
    "bn_inception_onnx",
    normalised(
        {
            "conv1/conv7x7": "conv1/7x7_s2",
            "conv2/conv3x3_reduce": "conv2/3x3_reduce",
            "conv2/conv3x3": "conv2/3x3",
        }
        | {
            ours: theirs
            for block in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
            for ours, theirs in join(
                f"inception_{block}/",
                f"inception_{block}/",
                {u: v for u, v in _V2_MODULE.items() if block not in _PASSING or u not in ("conv1x1", "pool_proj")},
            ).items()
        },
        conv="",
        norm="/bn",
    )
    | {"linear/classifier": "loss3/classifier"},
)

# ------------------------------------------- trained in Caffe2

ZFNET512 = _zoo("zfnet512", {ours: f"gpu_0/{name}" for ours, name in caffe.same_names("zfnet512").items()})


def _resnet50() -> dict[str, str]:
    units: dict[str, str] = {}
    for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for i in range(count):
            names = {"conv1x1_reduce": "branch2a", "conv3x3": "branch2b", "conv1x1_expand": "branch2c"}
            names |= {"shortcut": "branch1"} if i == 0 else {}
            units |= join(f"conv{stage}_{i + 1}/", f"gpu_0/res{stage}_{i}_", names)
    return units


RESNET50_CAFFE2 = _zoo(
    "resnet50",
    normalised(_resnet50(), conv="", norm="_bn")
    | {
        "conv1/conv7x7": "gpu_0/conv1",
        "conv1/conv7x7_bn": "gpu_0/res_conv1_bn",
        "fc/classifier": "gpu_0/pred",
    },
    options={"downsample": "conv3x3"},
    framework=_CAFFE2,
)

# ------------------------------------------- trained in MXNet


def _without_counter(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays with the prefix of the first network that a session of MXNet makes."""
    return {re.sub(r"^vgg\d+_", "vgg0_", name): array for name, array in arrays.items()}


def _vgg(depth: int, batch_norm: bool) -> WeightMap:
    network = f"vgg_{VGG_LETTERS[depth]}" + ("_bn" if batch_norm else "")
    convolutions = [f"{layer}/{unit.name}" for layer, unit in create_model(network).layers if isinstance(unit, Conv)]
    scopes = {"fc6/dense": "vgg0_dense0", "fc7/dense": "vgg0_dense1", "fc8/classifier": "vgg0_dense2"}
    for number, scope in enumerate(convolutions):
        scopes[scope] = f"vgg0_conv{number}"
        if batch_norm:
            scopes[f"{scope}_bn"] = f"vgg0_batchnorm{number}"
    return _zoo(network, scopes, framework=_MXNET, prepare=_without_counter, bgr=False)


VGG = {(depth, norm): _vgg(depth, norm) for depth in (16, 19) for norm in (False, True)}

"""Maps of Caffe's networks (BVLC/caffe, models/*; the model zoo's VGG and Network in Network; zhoubolei/CAM).

Their networks take blue, green, red. Old files hold a dense layer's weights as [1, 1, out, in].
"""

from collections.abc import Collection, Mapping

import numpy as np

from inception_jax.models import create_model
from inception_jax.models.units import Conv, Dense, Logits
from inception_jax.weights.sources.mapping import CAFFE, WeightMap
from inception_jax.weights.sources.torchvision import join


def without_leading_ones(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a dense layer without the first two of their four dimensions, which are 1."""
    return {
        name: array.reshape(_used(array.shape)) if array.ndim == 4 and array.shape[:2] == (1, 1) else array
        for name, array in arrays.items()
    }


def _used(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns [out, in] of [1, 1, out, in], and [out] of [1, 1, 1, out]."""
    return shape[3:] if shape[2] == 1 else shape[2:]


def same_names(network: str) -> dict[str, str]:
    """Returns the scopes of a network whose layers have our names: {'conv1/conv11x11': 'conv1'}."""
    model = create_model(network)
    return {f"{layer}/{unit.name}": layer for layer, unit in model.layers if isinstance(unit, Conv | Dense | Logits)}


def _caffe(network: str, scopes: Mapping[str, str], convolved: Collection[str] = ()) -> WeightMap:
    return WeightMap(
        network=network,
        options={},
        framework=CAFFE,
        scopes=scopes,
        convolved=convolved,
        bgr=True,
        prepare=without_leading_ones,
    )


# ------------------------------------------- GoogLeNet, with its auxiliary heads

_MODULE = {
    "conv1x1": "1x1",
    "conv3x3_reduce": "3x3_reduce",
    "conv3x3": "3x3",
    "conv5x5_reduce": "5x5_reduce",
    "conv5x5": "5x5",
    "pool_proj": "pool_proj",
}
_BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


def googlenet_convolutions(blocks: Collection[str] = _BLOCKS) -> dict[str, str]:
    """Returns the scopes of GoogLeNet's convolutions without the heads'."""
    stem = {
        "conv1/conv7x7": "conv1/7x7_s2",
        "conv2/conv3x3_reduce": "conv2/3x3_reduce",
        "conv2/conv3x3": "conv2/3x3",
    }
    return stem | {
        ours: theirs
        for block in blocks
        for ours, theirs in join(f"inception_{block}/", f"inception_{block}/", _MODULE).items()
    }


GOOGLENET = _caffe(
    "googlenet",
    googlenet_convolutions()
    | {
        f"aux{i}/{ours}": f"loss{i}/{theirs}"
        for i in (1, 2)
        for ours, theirs in (("conv1x1", "conv"), ("fc", "fc"), ("classifier", "classifier"))
    }
    | {"linear/classifier": "loss3/classifier"},
)
GOOGLENET_GAP = _caffe(
    "googlenet_gap",
    googlenet_convolutions(_BLOCKS[:7]) | {"cam_conv/conv3x3": "CAM_conv", "cam_fc/classifier": "CAM_fc"},
)

# ------------------------------------------- AlexNet, CaffeNet, VGG, Network in Network

ALEXNET = _caffe("alexnet_caffe", same_names("alexnet_caffe"))
CAFFENET = _caffe("caffenet", same_names("caffenet"))
VGG16, VGG19 = _caffe("vgg_d", same_names("vgg_d")), _caffe("vgg_e", same_names("vgg_e"))
VGG16_GAP = _caffe(
    "vgg_d_gap", same_names("vgg_d_gap") | {"cam_conv/conv3x3": "CAM_conv", "cam_fc/classifier": "CAM_fc"}
)
_NIN = {"conv4": "conv4-1024", "cccp7": "cccp7-1024", "cccp8": "cccp8-1024"}
NIN = _caffe(
    "nin_imagenet",
    {scope: _NIN.get(layer, layer) for scope, layer in same_names("nin_imagenet").items()},
    convolved={"cccp8/conv1x1"},
)

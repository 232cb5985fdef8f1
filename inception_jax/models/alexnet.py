"""AlexNet.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section 3.5
and Fig. 2. The original code is published at github.com/computerhistory/AlexNet-Source-Code. torchvision's network is
the one tower of Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014,
https://arxiv.org/abs/1404.5997 (torchvision/models/alexnet.py). Caffe's two networks are bvlc_alexnet and
bvlc_reference_caffenet (BVLC/caffe, models/*/train_val.prototxt); the ONNX model zoo has their weights on another grid
(onnx/models, alexnet and caffenet).
"""

from typing import Any, Literal

import jax.numpy as jnp

from inception_jax.errors import UserError
from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Flag, Rate
from inception_jax.models.units import (
    AdaptiveAvgPool,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    Logits,
    MaxPool,
    Style,
    Unit,
)

_GAUSSIAN = initializers.normal(0.01)  # section 5; the original code has 0.03 in conv3 to conv5
_ONES = initializers.ones  # section 5: the biases of conv2, conv4, conv5 and of the hidden dense layers


def alexnet(
    num_classes: int = 1000,
    *,
    groups: Literal[1, 2] = 2,
    lrn: Flag = True,
    lrn_by_group: Flag = False,
    overlapping_pools: Flag = True,
    dropout: Rate = 0.5,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds AlexNet as published, for images of 224x224: 60,965,224 parameters (fc6 grows with the image).

    conv1 gives 55x55, as in Fig. 2, because its windows overhang the image by 3 pixels to the right and below, as in
    the original code. 227 pixels without padding, as in Caffe, give the same grid. LRN has k = 2, n = 5, beta = 0.75
    and alpha = 1e-4 divided by n. The paper's formula does not divide; the code that gave the paper's results did.

    Args:
      num_classes: number of classes.
      groups: 2: the halves of two GPUs, within which conv2, conv4 and conv5 stay; 1: one tower, 62,378,344 parameters.
      lrn: whether local response normalisation follows conv1 and conv2 (section 3.3).
      lrn_by_group: with two groups, whether LRN stays within each half of the channels, as in the original code.
      overlapping_pools: windows of 3 (section 3.4); False: of 2, on the same grids at 224x224.
      dropout: rate of dropout after fc6 and after fc7.
      dtype: dtype of the computation.
    """
    if lrn_by_group and not (lrn and groups == 2):
        raise UserError("lrn_by_group=True needs lrn=True and groups=2")
    window = 3 if overlapping_pools else 2
    norm = LocalResponseNorm(k=2.0, groups=groups if lrn_by_group else 1)
    layers: tuple[tuple[str, Unit], ...] = (
        ("conv1", Conv("conv11x11", 96, 11, stride=4, padding="CEIL")),
        *((("norm1", norm),) if lrn else ()),
        ("pool1", MaxPool(window, 2)),
        ("conv2", Conv("conv5x5", 256, 5, groups=groups, bias_init=_ONES)),
        *((("norm2", norm),) if lrn else ()),
        ("pool2", MaxPool(window, 2)),
        ("conv3", Conv("conv3x3", 384, 3)),
        ("conv4", Conv("conv3x3", 384, 3, groups=groups, bias_init=_ONES)),
        ("conv5", Conv("conv3x3", 256, 3, groups=groups, bias_init=_ONES)),
        ("pool5", MaxPool(window, 2)),
        ("fc6", Dense("dense", 4096, bias_init=_ONES)),
        ("dropout6", Dropout(dropout)),
        ("fc7", Dense("dense", 4096, bias_init=_ONES)),
        ("dropout7", Dropout(dropout)),
        ("fc8", Logits("classifier", num_classes)),
    )
    return Network(
        layers=layers,
        style=Style(conv_padding="SYMMETRIC", pool_padding="VALID", kernel_init=_GAUSSIAN),
        input_shape=(224, 224, 3),
        min_size=64 if overlapping_pools else 36,
        dtype=dtype,
    )


def alexnet_tv(num_classes: int = 1000, *, dropout: Rate = 0.5, dtype: Any = jnp.float32) -> Network:
    """Builds torchvision's alexnet, for images of 224x224: 61,100,840 parameters.

    It has no LRN. Dropout stands before fc6 and fc7. Biases are 0 at first; PyTorch's are uniform.

    Args:
      num_classes: number of classes.
      dropout: rate of dropout before fc6 and before fc7.
      dtype: dtype of the computation.
    """
    return Network(
        layers=(
            ("conv1", Conv("conv11x11", 64, 11, stride=4, padding=2)),
            ("pool1", MaxPool(3, 2)),
            ("conv2", Conv("conv5x5", 192, 5)),
            ("pool2", MaxPool(3, 2)),
            ("conv3", Conv("conv3x3", 384, 3)),
            ("conv4", Conv("conv3x3", 256, 3)),
            ("conv5", Conv("conv3x3", 256, 3)),
            ("pool5", MaxPool(3, 2)),
            ("avgpool", AdaptiveAvgPool(6)),
            ("dropout6", Dropout(dropout)),
            ("fc6", Dense("dense", 4096)),
            ("dropout7", Dropout(dropout)),
            ("fc7", Dense("dense", 4096)),
            ("fc8", Logits("classifier", num_classes)),
        ),
        style=Style(
            conv_padding="SYMMETRIC",
            pool_padding="VALID",
            kernel_init=initializers.variance_scaling(1 / 3, "fan_in", "uniform"),  # PyTorch's default
        ),
        input_shape=(224, 224, 3),
        min_size=63,
        dtype=dtype,
    )


def alexnet_caffe(
    num_classes: int = 1000,
    *,
    pool_first: Flag = False,
    geometry: Literal["caffe", "onnx"] = "caffe",
    dropout: Rate = 0.5,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds Caffe's bvlc_alexnet, for images of 227x227: 60,965,224 parameters.

    Caffe pads nothing at conv1; 227 pixels give 55, 27, 13 and 6 cells. LRN has k = 1, not the paper's 2. Biases that
    begin at 1 in the paper begin at 0.1, in CaffeNet at 1. fc6 and fc7 begin with a standard deviation of 0.005.

    Args:
      num_classes: number of classes.
      pool_first: whether pools stand before LRN: CaffeNet.
      geometry: 'caffe', or 'onnx': the ONNX model zoo's, for images of 224x224. Its pools round down, except the last:
        54, 26, 12 and 6 cells.
      dropout: rate of dropout after fc6 and after fc7.
      dtype: dtype of the computation.
    """
    bias = _ONES if pool_first else initializers.constant(0.1)
    norm, small = LocalResponseNorm(), initializers.normal(0.005)
    down = "CEIL" if geometry == "caffe" else "VALID"
    pools = [(name, unit) for i in (1, 2) for name, unit in ((f"norm{i}", norm), (f"pool{i}", MaxPool(3, 2, down)))]
    first, second = (tuple(reversed(pair)) if pool_first else tuple(pair) for pair in (pools[:2], pools[2:]))
    size, min_size = (227, 39) if geometry == "caffe" else (224, 51)
    return Network(
        layers=(
            ("conv1", Conv("conv11x11", 96, 11, stride=4, padding="VALID")),
            *first,
            ("conv2", Conv("conv5x5", 256, 5, groups=2, bias_init=bias)),
            *second,
            ("conv3", Conv("conv3x3", 384, 3)),
            ("conv4", Conv("conv3x3", 384, 3, groups=2, bias_init=bias)),
            ("conv5", Conv("conv3x3", 256, 3, groups=2, bias_init=bias)),
            ("pool5", MaxPool(3, 2)),
            ("fc6", Dense("dense", 4096, kernel_init=small, bias_init=bias)),
            ("dropout6", Dropout(dropout)),
            ("fc7", Dense("dense", 4096, kernel_init=small, bias_init=bias)),
            ("dropout7", Dropout(dropout)),
            ("fc8", Logits("classifier", num_classes)),
        ),
        style=Style(conv_padding="SYMMETRIC", pool_padding="CEIL", kernel_init=_GAUSSIAN),
        input_shape=(size, size, 3),
        min_size=min_size,
        dtype=dtype,
    )

"""AlexNet.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section 3.5
and Fig. 2. The original code is published at github.com/computerhistory/AlexNet-Source-Code. torchvision's network is
the one tower of Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014,
https://arxiv.org/abs/1404.5997 (torchvision/models/alexnet.py).
"""

from typing import Any

import jax.numpy as jnp

from inception_jax.errors import UserError
from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.units import (
    AdaptiveAvgPool,
    Classifier,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Style,
    Unit,
)

_GAUSSIAN = initializers.normal(0.01)  # section 5; the original code has 0.03 in conv3 to conv5
_ONES = initializers.ones  # section 5: the biases of conv2, conv4, conv5 and of the hidden dense layers


def alexnet(
    num_classes: int = 1000,
    *,
    groups: int = 2,
    lrn: bool = True,
    lrn_by_group: bool = False,
    overlapping_pools: bool = True,
    dropout: float = 0.5,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds AlexNet as published, for images of 224x224: 60,965,224 parameters (fc6 grows with the image).

    conv1 gives 55x55, as in Fig. 2, because its windows overhang the image by 3 pixels to the right and below, as in
    the original code; 227 pixels without padding, as in Caffe, give the same grid. LRN has k = 2, n = 5, beta = 0.75
    and alpha = 1e-4 divided by n: the paper's formula does not divide, the code that gave the paper's results did.

    Args:
      num_classes: number of classes.
      groups: 2: the two GPUs' halves, which conv2, conv4 and conv5 do not leave; 1: one tower, 62,378,344 parameters.
      lrn: whether conv1 and conv2 are followed by local response normalisation (section 3.3).
      lrn_by_group: with two groups, whether it stays within each group's half of the channels, as in the original code.
      overlapping_pools: windows of 3 (section 3.4); False: of 2, on the same grids at 224x224.
      dropout: share dropped after fc6 and after fc7.
      dtype: of the computation.
    """
    if groups not in (1, 2):
        raise UserError(f"groups={groups} must be 1 or 2")
    if lrn_by_group and not (lrn and groups == 2):
        raise UserError("lrn_by_group=True needs lrn=True and groups=2")
    window = 3 if overlapping_pools else 2
    norm = LocalResponseNorm(k=2.0, groups=groups if lrn_by_group else 1)
    layers: tuple[tuple[str, Unit], ...] = (
        ("conv1", Conv("conv11x11", 96, 11, 4, "CEIL")),
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
        ("fc8", Classifier("classifier", num_classes)),
    )
    return Network(
        layers=layers,
        style=Style(conv_padding="SYMMETRIC", pool_padding="VALID", kernel_init=_GAUSSIAN),
        native=(224, 224, 3),
        smallest=64 if overlapping_pools else 36,
        dtype=dtype,
    )


def alexnet_tv(num_classes: int = 1000, *, dropout: float = 0.5, dtype: Any = jnp.float32) -> Network:
    """Builds torchvision's alexnet, for images of 224x224: 61,100,840 parameters.

    No LRN; dropout stands before fc6 and fc7. Biases start with 0, PyTorch's with uniform values.

    Args:
      num_classes: number of classes.
      dropout: share dropped before fc6 and before fc7.
      dtype: of the computation.
    """
    return Network(
        layers=(
            ("conv1", Conv("conv11x11", 64, 11, 4, padding=2)),
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
            ("fc8", Classifier("classifier", num_classes)),
        ),
        style=Style(
            conv_padding="SYMMETRIC",
            pool_padding="VALID",
            kernel_init=initializers.variance_scaling(1 / 3, "fan_in", "uniform"),  # PyTorch's default
        ),
        native=(224, 224, 3),
        smallest=63,
        dtype=dtype,
    )

"""ResNet-50, a control for comparisons.

He et al., "Deep Residual Learning for Image Recognition", 2015, https://arxiv.org/abs/1512.03385, Table 1.
Initialisation is He's (section 3.4); padding and the constants of batch normalisation, which the paper leaves open, are
those of torchvision/models/resnet.py. Keras has biases in its convolutions. tf-slim's network is
that of tf_slim/nets/resnet_v1.py.
"""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp

from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Factor, Rate
from inception_jax.models.units import (
    BatchNorm,
    Chain,
    Conv,
    GlobalAvgPool,
    Logits,
    MaxPool,
    Residual,
    Style,
)

# Table 1, 50-layer: name, blocks, filters of the 3x3; the last 1x1 has four times as many.
TABLE_1 = (("conv2", 3, 64), ("conv3", 4, 128), ("conv4", 6, 256), ("conv5", 3, 512))


def bottleneck(filters: int, strides: tuple[int, int] | None = None) -> Residual:
    """Fig. 5, right.

    Args:
      filters: number of filters of the first 1x1 and of the 3x3; the last 1x1 has four times as many.
      strides: strides of the first 1x1 and of the 3x3, with a projection as the shortcut; None: strides of 1, with the
        identity as the shortcut.
    """
    first, second = strides or (1, 1)
    return Residual(
        Chain(
            Conv("conv1x1_reduce", filters, 1, stride=first),
            Conv("conv3x3", filters, 3, stride=second),
            Conv("conv1x1_expand", 4 * filters, 1, activation=False),
        ),
        shortcut=Conv("shortcut", 4 * filters, 1, stride=first * second, activation=False) if strides else True,
    )


def resnet50(
    num_classes: int = 1000,
    *,
    downsample: Literal["conv1x1", "conv3x3"] = "conv1x1",
    batch_norm_decay: Rate = 0.9,
    batch_norm_epsilon: Factor = 1e-5,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds ResNet-50, for images of 224x224: 25,557,032 parameters.

    Args:
      num_classes: number of classes.
      downsample: the convolution with the stride of 2: 'conv1x1' (the paper, Keras; 3.86 billion multiply-adds) or
        'conv3x3' (torchvision, timm, Flax's example: "v1.5"; 4.09 billion).
      batch_norm_decay: decay of the running statistics.
      batch_norm_epsilon: number added to the variance (1.001e-5 in Keras, keras/src/applications/resnet.py).
      dtype: dtype of the computation.
    """
    strides = (2, 1) if downsample == "conv1x1" else (1, 2)
    blocks = []
    for name, count, filters in TABLE_1:
        blocks.append((f"{name}_1", bottleneck(filters, (1, 1) if name == "conv2" else strides)))
        blocks += [(f"{name}_{i}", bottleneck(filters)) for i in range(2, count + 1)]
    return Network(
        layers=(
            ("conv1", Conv("conv7x7", 64, 7, stride=2)),
            ("pool1", MaxPool(3, 2)),
            *blocks,
            ("pool", GlobalAvgPool()),
            ("fc", Logits("classifier", num_classes)),
        ),
        style=Style(
            conv_padding="SYMMETRIC",
            pool_padding="SYMMETRIC",
            kernel_init=initializers.he_normal(),
            batch_norm=BatchNorm(batch_norm_decay, epsilon=batch_norm_epsilon),
        ),
        input_shape=(224, 224, 3),
        min_size=1,
        dtype=dtype,
    )


def resnet50_slim(num_classes: int = 1000, *, batch_norm_decay: Rate = 0.997, dtype: Any = jnp.float32) -> Network:
    """Builds tf-slim's resnet_v1_50, for images of 224x224: 25,557,032 parameters.

    It halves the grid at the end of a stage, in the 3x3 of the last block; that block's shortcut keeps every second
    cell. pool1 has TensorFlow's SAME padding.

    Args:
      num_classes: number of classes.
      batch_norm_decay: decay of the running statistics.
      dtype: dtype of the computation.
    """
    blocks = []
    for name, count, filters in TABLE_1:
        blocks.append((f"{name}_1", bottleneck(filters, (1, 1))))
        blocks += [(f"{name}_{i}", bottleneck(filters)) for i in range(2, count + 1)]
        if name != "conv5":
            last = dataclasses.replace(bottleneck(filters, (1, 2)), shortcut=MaxPool(1, 2))
            blocks[-1] = (f"{name}_{count}", last)
    return Network(
        layers=(
            ("conv1", Conv("conv7x7", 64, 7, stride=2)),
            ("pool1", MaxPool(3, 2)),
            *blocks,
            ("pool", GlobalAvgPool()),
            ("fc", Logits("classifier", num_classes)),
        ),
        style=Style(
            conv_padding="SYMMETRIC",
            pool_padding="SAME",
            kernel_init=initializers.he_normal(),
            batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-5),
        ),
        input_shape=(224, 224, 3),
        min_size=1,
        dtype=dtype,
    )

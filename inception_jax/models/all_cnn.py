"""All-CNN and the networks that it is compared with.

Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for Simplicity: The All Convolutional Net", 2014,
https://arxiv.org/abs/1412.6806, Tables 1 and 2.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Flag, Rate
from inception_jax.models.units import AverageLogits, Conv, Dropout, Logits, MaxPool, Style, Unit

# Table 1: the kernels of the two stages, of 96 and of 192 filters. A max-pool of 3x3/2 follows each.
TABLE_1 = {"a": (5,), "b": (5, 1), "c": (3, 3)}
FILTERS = (96, 192)


def downsampling(variant: str, stage: int) -> tuple[tuple[str, Unit], ...]:
    """Returns the layers after a stage's convolutions. Strided: none, the last convolution has the stride."""
    pool = (f"pool{stage}", MaxPool(3, 2))
    conv = Conv("conv3x3", FILTERS[stage - 1], 3)
    match variant:
        case "base":
            return (pool,)
        case "conv_pool":
            return ((f"conv_pool{stage}", conv), pool)
        case "all":
            return ((f"conv_pool{stage}", dataclasses.replace(conv, stride=2)),)
    return ()


def all_cnn(
    variant: str,
    base: str,
    num_classes: int = 10,
    *,
    dropout: Rate = 0.5,
    input_dropout: Rate = 0.2,
    classifier_relu: Flag = True,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds one of the twelve networks, for images of 32x32; 1,369,738 parameters (All-CNN-C).

    The last 3x3 convolution is unpadded, as the paper's average over 6x6 requires. Initialisation (Glorot's) is not in
    the paper. Nor is the place of dropout in the strided networks; here it stands after the strided convolution.

    Args:
      variant: 'base', 'strided', 'conv_pool' or 'all' (Table 2).
      base: 'a', 'b' or 'c' (Table 1).
      num_classes: number of classes.
      dropout: rate of dropout after each pool or its replacement.
      input_dropout: rate of dropout on the image.
      classifier_relu: False: no ReLU behind the last convolution. Where it is 0 for all images, it passes no gradient,
        so a class may lose its score for good.
      dtype: dtype of the computation.
    """
    layers: list[tuple[str, Unit]] = [("dropout0", Dropout(input_dropout))]
    for stage, filters in enumerate(FILTERS, start=1):
        kernels = TABLE_1[base]
        for i, kernel in enumerate(kernels, start=1):
            stride = 2 if variant == "strided" and i == len(kernels) else 1
            layers.append((f"conv{stage}_{i}", Conv(f"conv{kernel}x{kernel}", filters, kernel, stride=stride)))
        layers += [*downsampling(variant, stage), (f"dropout{stage}", Dropout(dropout))]
    layers += [
        ("conv3_1", Conv("conv3x3", 192, 3, padding="VALID")),
        ("conv3_2", Conv("conv1x1", 192, 1)),
        ("conv3_3", Logits("conv1x1", num_classes, window=1, activation=classifier_relu)),
        ("average", AverageLogits()),
    ]
    return Network(
        layers=tuple(layers),
        style=Style(conv_padding="SYMMETRIC", pool_padding="CEIL", kernel_init=initializers.glorot_uniform()),
        input_shape=(32, 32, 3),
        min_size=9 if variant in ("strided", "all") else 12,
        dtype=dtype,
    )

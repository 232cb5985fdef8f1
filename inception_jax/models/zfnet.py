"""ZFNet.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013, https://arxiv.org/abs/1311.2901, Fig. 3
and Table 2. The grids of Fig. 3 (110, 55, 26, 13, 6; 110, 26 and 13 from memory, unverified) need one pixel of padding
at conv1 and pools that reach past the end. The paper gives no constants for its contrast normalisation; these are
AlexNet's.
"""

from typing import Any

import jax.numpy as jnp

from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Rate
from inception_jax.models.units import Conv, Dense, Dropout, LocalResponseNorm, Logits, MaxPool, Style

# Filters of conv3, conv4 and conv5: Fig. 3, and network (b) of Table 2.
FILTERS = {"zfnet": (384, 384, 256), "zfnet_wide": (512, 1024, 512)}


def zfnet(
    filters: tuple[int, int, int], num_classes: int = 1000, *, dropout: Rate = 0.5, dtype: Any = jnp.float32
) -> Network:
    """Builds ZFNet, for images of 224x224: 62,357,608 parameters, 107,627,624 of the wide one.

    Args:
      filters: numbers of filters of conv3, conv4 and conv5.
      num_classes: number of classes.
      dropout: rate of dropout after fc6 and after fc7.
      dtype: dtype of the computation.
    """
    norm = LocalResponseNorm(k=2.0)
    conv3, conv4, conv5 = filters
    return Network(
        layers=(
            ("conv1", Conv("conv7x7", 96, 7, stride=2, padding=1)),
            ("pool1", MaxPool(3, 2)),
            ("norm1", norm),
            ("conv2", Conv("conv5x5", 256, 5, stride=2, padding="VALID")),
            ("pool2", MaxPool(3, 2)),
            ("norm2", norm),
            ("conv3", Conv("conv3x3", conv3, 3)),
            ("conv4", Conv("conv3x3", conv4, 3)),
            ("conv5", Conv("conv3x3", conv5, 3)),
            ("pool5", MaxPool(3, 2)),
            ("fc6", Dense("dense", 4096)),
            ("dropout6", Dropout(dropout)),
            ("fc7", Dense("dense", 4096)),
            ("dropout7", Dropout(dropout)),
            ("fc8", Logits("classifier", num_classes)),
        ),
        style=Style(conv_padding="SYMMETRIC", pool_padding="CEIL", kernel_init=initializers.normal(0.01)),
        input_shape=(224, 224, 3),
        min_size=47,
        dtype=dtype,
    )

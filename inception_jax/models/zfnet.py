"""ZFNet.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013, https://arxiv.org/abs/1311.2901, Fig. 3
and Table 2. The grids of Fig. 3 (110, 55, 26, 13, 6; 110, 26 and 13 from memory, unverified) need one pixel of padding
at conv1 and pools that reach past the end. The paper gives no constants for its contrast normalisation; these are
AlexNet's. zfnet512 is the network of the only public weights, those of Caffe2 in the ONNX model zoo (onnx/models,
zfnet-512).
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


def zfnet512(num_classes: int = 1000, *, dropout: Rate = 0.5, dtype: Any = jnp.float32) -> Network:
    """Builds the ZFNet-512 of the ONNX model zoo, for images of 224x224: 87,250,536 parameters.

    Nothing is padded, so that its grids are 109, 54, 25, 12 and 6. It normalises before the pools, with five times the
    alpha of AlexNet. conv3 to conv5 have 512 filters, pool5 is 2x2 and fc7 has 1024 units. The inference graph states
    neither dropout nor initialisation; those here are ZFNet's.

    Args:
      num_classes: number of classes.
      dropout: rate of dropout after fc6 and after fc7.
      dtype: dtype of the computation.
    """
    norm = LocalResponseNorm(alpha=5e-4, k=2.0)
    return Network(
        layers=(
            ("conv1", Conv("conv7x7", 96, 7, stride=2, padding="VALID")),
            ("norm1", norm),
            ("pool1", MaxPool(3, 2)),
            ("conv2", Conv("conv5x5", 256, 5, stride=2, padding="VALID")),
            ("norm2", norm),
            ("pool2", MaxPool(3, 2)),
            ("conv3", Conv("conv3x3", 512, 3)),
            ("conv4", Conv("conv3x3", 512, 3)),
            ("conv5", Conv("conv3x3", 512, 3)),
            ("pool5", MaxPool(2, 2)),
            ("fc6", Dense("dense", 4096)),
            ("dropout6", Dropout(dropout)),
            ("fc7", Dense("dense", 1024)),
            ("dropout7", Dropout(dropout)),
            ("fc8", Logits("classifier", num_classes)),
        ),
        style=Style(conv_padding="SYMMETRIC", pool_padding="VALID", kernel_init=initializers.normal(0.01)),
        input_shape=(224, 224, 3),
        min_size=59,
        dtype=dtype,
    )

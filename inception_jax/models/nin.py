"""Network in Network.

Lin, Chen and Yan, "Network In Network", 2013, https://arxiv.org/abs/1312.4400. The network for CIFAR-10 is the author's
configuration (github.com/mavenlin/cuda-convnet, NIN/cifar-10_def), the one for ImageNet that of the Caffe model zoo
(nin_imagenet; not in the paper). cccp: cascaded cross channel parametric pooling, a 1x1 convolution.
"""

from typing import Any

import jax.numpy as jnp

from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Flag, Rate
from inception_jax.models.units import AverageLogits, Conv, Dropout, Logits, MaxPool, Style


def nin_cifar10(
    num_classes: int = 10,
    *,
    mlpconv: Flag = True,
    dropout: Rate = 0.5,
    classifier_relu: Flag = True,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds the network for CIFAR-10, for images of 32x32: 966,986 parameters.

    Args:
      num_classes: number of classes.
      mlpconv: False: linear convolutions instead of the paper's mlpconv layers (its Fig. 1): without the 1x1
        convolutions, except the classifier's.
      dropout: rate of dropout after pool1 and after pool2.
      classifier_relu: False: no ReLU behind the last convolution. Where it is 0 for all images, it passes no gradient,
        so a class may lose its score for good.
      dtype: dtype of the computation.
    """
    layers = (
        ("conv1", Conv("conv5x5", 192, 5)),
        ("cccp1", Conv("conv1x1", 160, 1)),
        ("cccp2", Conv("conv1x1", 96, 1)),
        ("pool1", MaxPool(3, 2)),
        ("dropout1", Dropout(dropout)),
        ("conv2", Conv("conv5x5", 192, 5)),
        ("cccp3", Conv("conv1x1", 192, 1)),
        ("cccp4", Conv("conv1x1", 192, 1)),
        ("pool2", MaxPool(3, 2)),
        ("dropout2", Dropout(dropout)),
        ("conv3", Conv("conv3x3", 192, 3)),
        ("cccp5", Conv("conv1x1", 192, 1)),
        ("cccp6", Logits("conv1x1", num_classes, window=1, activation=classifier_relu)),
        ("pool3", AverageLogits()),
    )
    return Network(
        layers=tuple((name, unit) for name, unit in layers if mlpconv or not (name[:4] == "cccp" and name != "cccp6")),
        style=Style(conv_padding="SYMMETRIC", pool_padding="CEIL", kernel_init=initializers.normal(0.05)),
        input_shape=(32, 32, 3),
        min_size=4,
        dtype=dtype,
    )


def nin_imagenet(num_classes: int = 1000, *, dropout: Rate = 0.5, dtype: Any = jnp.float32) -> Network:
    """Builds the network for ImageNet, for images of 224x224: 7,595,176 parameters.

    Args:
      num_classes: number of classes.
      dropout: rate of dropout after pool3.
      dtype: dtype of the computation.
    """
    small = initializers.normal(0.01)  # conv1, conv3 and cccp8; 0.05 elsewhere
    return Network(
        layers=(
            ("conv1", Conv("conv11x11", 96, 11, stride=4, padding="VALID", kernel_init=small)),
            ("cccp1", Conv("conv1x1", 96, 1)),
            ("cccp2", Conv("conv1x1", 96, 1)),
            ("pool1", MaxPool(3, 2)),
            ("conv2", Conv("conv5x5", 256, 5)),
            ("cccp3", Conv("conv1x1", 256, 1)),
            ("cccp4", Conv("conv1x1", 256, 1)),
            ("pool2", MaxPool(3, 2)),
            ("conv3", Conv("conv3x3", 384, 3, kernel_init=small)),
            ("cccp5", Conv("conv1x1", 384, 1)),
            ("cccp6", Conv("conv1x1", 384, 1)),
            ("pool3", MaxPool(3, 2)),
            ("dropout", Dropout(dropout)),
            ("conv4", Conv("conv3x3", 1024, 3)),
            ("cccp7", Conv("conv1x1", 1024, 1)),
            ("cccp8", Logits("conv1x1", num_classes, window=1, activation=True, kernel_init=small)),
            ("pool4", AverageLogits()),
        ),
        style=Style(conv_padding="SYMMETRIC", pool_padding="CEIL", kernel_init=initializers.normal(0.05)),
        input_shape=(224, 224, 3),
        min_size=39,
        dtype=dtype,
    )

"""The other networks named GoogLeNet, each as public weights need it.

All have Table 1's modules. This file states how they differ from the paper and from each other.
"""

from typing import Any

import jax.numpy as jnp

from inception_jax.models import initializers
from inception_jax.models.googlenet import BIAS, TABLE_1, XAVIER
from inception_jax.models.network import Network
from inception_jax.models.options import Flag, Rate
from inception_jax.models.shared import Table1Row, googlenet_aux_heads, googlenet_layers, reduced_module
from inception_jax.models.units import (
    AdaptiveAvgPool,
    AvgPool,
    BatchNorm,
    Conv,
    GlobalAvgPool,
    LocalResponseNorm,
    Logits,
    Style,
    Unit,
)

_STEM = Conv("conv7x7", 64, 7, stride=2)


def _small_module(row: Table1Row) -> Unit:
    return reduced_module(row, large=3)


def _table(**changes: dict) -> tuple[Table1Row, ...]:
    """Returns Table 1 with the changes to each row named in `changes`."""
    return tuple(row._replace(**changes.get(row.name, {})) for row in TABLE_1)


# tf-slim's pool4 is 2x2, and torchvision took it over.
_TABLE_SLIM = _table(pool4={"patch": 2})

# 508 channels in place of 512 after 4a, and 48 filters in place of 32 in 5a: the shapes of the graph's weights.
_TABLE_INCEPTION5H = _table(inception_4a={"conv3x3": 204, "output": (14, 14, 508)}, inception_5a={"conv5x5_reduce": 48})


def googlenet_tv(
    num_classes: int = 1000,
    *,
    aux: Flag = True,
    dropout: Rate = 0.2,
    aux_dropout: Rate = 0.7,
    batch_norm_decay: Rate = 0.9,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds torchvision's googlenet (torchvision/models/googlenet.py), for images of 224x224.

    It has 6,624,904 parameters, 13,004,888 with the auxiliary heads. It has 3x3 where the paper has 5x5, batch
    normalisation, no LRN and a pool4 of 2x2. The auxiliary heads pool adaptively to 4x4. Biases of dense layers are 0
    at first; PyTorch's are uniform.

    Args:
      num_classes: number of classes.
      aux: whether to build the auxiliary classifiers aux1 and aux2.
      dropout: rate of dropout before the classifier.
      aux_dropout: rate of dropout before each auxiliary classifier.
      batch_norm_decay: decay of the running statistics (1 - PyTorch's momentum).
      dtype: dtype of the computation.
    """
    return Network(
        layers=googlenet_layers(_TABLE_SLIM, num_classes, module=_small_module, stem=_STEM, norm=None, dropout=dropout),
        aux_heads=googlenet_aux_heads(num_classes, pool=AdaptiveAvgPool(4), dropout=aux_dropout) if aux else (),
        style=Style(
            conv_padding="SYMMETRIC",
            pool_padding="CEIL",
            kernel_init=initializers.normal(0.01),  # cut at -2 and 2, which cuts nothing
            batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3),
        ),
        input_shape=(224, 224, 3),
        min_size=15,
        dtype=dtype,
    )


def googlenet_slim(
    num_classes: int = 1000,
    *,
    dropout: Rate = 0.2,
    batch_norm_decay: Rate = 0.9997,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds tf-slim's inception_v1 (tf_slim/nets/inception_v1.py), for images of 224x224.

    It is torchvision's with TensorFlow's SAME padding throughout, batch normalisation without gamma and no auxiliary
    heads: 5,592,624 trained parameters below the classifier. (Slim's checkpoints have 1001 classes, 0 the background.)

    Args:
      num_classes: number of classes.
      dropout: rate of dropout before the classifier.
      batch_norm_decay: decay of the running statistics.
      dtype: dtype of the computation.
    """
    return Network(
        layers=googlenet_layers(
            _TABLE_SLIM,
            num_classes,
            module=_small_module,
            stem=_STEM,
            norm=None,
            dropout=dropout,
            classifier_init=initializers.variance_scaling(2.0, "fan_in", "truncated_normal"),
        ),
        style=Style(
            conv_padding="SAME",
            pool_padding="SAME",
            kernel_init=initializers.truncated_normal(0.01),
            batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3, scale=False),
        ),
        input_shape=(224, 224, 3),
        min_size=1,
        dtype=dtype,
    )


def inception5h(
    num_classes: int = 1008,
    *,
    aux: Flag = True,
    dropout: Rate = 0.4,
    aux_dropout: Rate = 0.7,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds the network of TensorFlow's inception5h graph (DeepDream, Lucid), for images of 224x224.

    It is the paper's network with 508 channels after 4a, 48 filters in 5a's 5x5 reduction, SAME padding throughout and
    other constants of LRN. Widths are those of greentfrapp/lucent (lucent/modelzoo/inceptionv1/InceptionV1.py). LRN has
    TensorFlow's depth radius 5, bias 2, alpha 1e-4 undivided and beta 0.5. These constants are unverified:
    transcriptions of the graph have windows of 9, 10 and 11 channels and a bias of 1 or 2. An inference graph has no
    dropout and no initialisation; GoogLeNet's rates and He's initialisation are our choice. The graph subtracts 117
    from pixels of 0 to 255.

    Args:
      num_classes: number of classes.
      aux: whether to build the auxiliary classifiers aux1 and aux2 (softmax0 and softmax1 of the graph).
      dropout: rate of dropout before the classifier.
      aux_dropout: rate of dropout before each auxiliary classifier.
      dtype: dtype of the computation.
    """
    return Network(
        layers=googlenet_layers(
            _TABLE_INCEPTION5H,
            num_classes,
            module=reduced_module,
            stem=_STEM,
            norm=LocalResponseNorm(size=11, alpha=11e-4, beta=0.5, k=2.0),  # alpha is divided by the size
            dropout=dropout,
        ),
        aux_heads=googlenet_aux_heads(num_classes, pool=AvgPool(5, 3), dropout=aux_dropout) if aux else (),
        style=Style(conv_padding="SAME", pool_padding="SAME", kernel_init=initializers.he_normal()),
        input_shape=(224, 224, 3),
        min_size=1,
        dtype=dtype,
    )


def inception_v1_onnx(num_classes: int = 1000, *, dropout: Rate = 0.4, dtype: Any = jnp.float32) -> Network:
    """Builds the Inception-v1 of the ONNX model zoo, for images of 224x224: 6,998,552 parameters.

    It is Caffe's GoogLeNet with pools that round down: 112, 55, 27, 13 and 6 cells. The 7x7 average of its graph is
    padded to fit 6x6 and does not count the padding, so it is the mean over the grid. It has no auxiliary heads.

    Args:
      num_classes: number of classes.
      dropout: rate of dropout before the classifier.
      dtype: dtype of the computation.
    """
    return Network(
        layers=googlenet_layers(
            TABLE_1, num_classes, module=reduced_module, stem=_STEM, norm=LocalResponseNorm(), dropout=dropout
        ),
        style=Style(conv_padding="SYMMETRIC", pool_padding="VALID", kernel_init=XAVIER, bias_init=BIAS),
        input_shape=(224, 224, 3),
        min_size=61,
        dtype=dtype,
    )


def googlenet_gap(num_classes: int = 1000, *, dtype: Any = jnp.float32) -> Network:
    """Builds GoogLeNet-GAP, for images of 224x224: 8,345,896 parameters.

    Zhou et al., "Learning Deep Features for Discriminative Localization", 2015, https://arxiv.org/abs/1512.04150,
    section 3: what follows inception_4e is replaced by a 3x3 convolution of 1024 filters on 14x14 cells, their mean and
    the classifier. Details are those of zhoubolei/CAM (models/train_val_googlenetCAM.prototxt): two groups, which the
    paper does not mention, and no dropout.

    Args:
      num_classes: number of classes.
      dtype: dtype of the computation.
    """
    last = [row.name for row in TABLE_1].index("inception_4e")
    below = googlenet_layers(
        TABLE_1[: last + 1], num_classes, module=reduced_module, stem=_STEM, norm=LocalResponseNorm(), dropout=0.0
    )
    cam = Conv("conv3x3", 1024, 3, groups=2, kernel_init=initializers.normal(0.01), bias_init=initializers.ones)
    return Network(
        layers=(
            *below,
            ("cam_conv", cam),
            ("cam_pool", GlobalAvgPool()),
            ("cam_fc", Logits("classifier", num_classes)),
        ),
        style=Style(conv_padding="SYMMETRIC", pool_padding="CEIL", kernel_init=XAVIER, bias_init=BIAS),
        input_shape=(224, 224, 3),
        min_size=15,
        dtype=dtype,
    )

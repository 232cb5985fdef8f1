"""BN-Inception.

Ioffe and Szegedy, "Batch Normalization", 2015, https://arxiv.org/abs/1502.03167: the network of Figure 5. tf-slim calls
it Inception-v2. What the paper leaves open (padding, epsilon, decay, initialisation) is tf-slim's, from
tf_slim/nets/inception_v2.py; the network in Caffe's format is that of yjxiong's bn_inception as
Cadene/pretrained-models.pytorch ported it (pretrainedmodels/models/bninception.py). The ONNX model zoo has one more
(onnx/models, inception_v2).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from inception_jax import ops
from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Flag, Rate
from inception_jax.models.shared import separable_stem
from inception_jax.models.units import (
    AvgPool,
    BatchNorm,
    Chain,
    Concat,
    Conv,
    Dropout,
    GlobalAvgPool,
    LocalResponseNorm,
    Logits,
    MaxPool,
    Style,
    Unit,
)


class Figure5Row(NamedTuple):
    """One module of Figure 5. A module of stride 2 has no 1x1 path, and its pool passes its channels on."""

    name: str
    output: tuple[int, int, int]
    conv1x1: int
    conv3x3_reduce: int
    conv3x3: int
    double3x3_reduce: int
    double3x3: int
    pool: str
    pool_proj: int
    stride: int = 1


# Figure 5 of the paper, for images of 224x224. The outputs are those that its filters give: the paper prints 576
# channels for 4c and 4d (tf-slim has 96 filters in their pool projections, which makes them so) and 1024 for 4e.
# fmt: off
FIGURE_5 = (
    #           name            output        1x1  3x3r  3x3  d3x3r d3x3   pool   proj
    Figure5Row("inception_3a", (28, 28, 256),   64,   64,  64,   64,  96, "avg",   32),
    Figure5Row("inception_3b", (28, 28, 320),   64,   64,  96,   64,  96, "avg",   64),
    Figure5Row("inception_3c", (14, 14, 576),    0,  128, 160,   64,  96, "max",    0, 2),
    Figure5Row("inception_4a", (14, 14, 576),  224,   64,  96,   96, 128, "avg",  128),
    Figure5Row("inception_4b", (14, 14, 576),  192,   96, 128,   96, 128, "avg",  128),
    Figure5Row("inception_4c", (14, 14, 608),  160,  128, 160,  128, 160, "avg",  128),
    Figure5Row("inception_4d", (14, 14, 608),   96,  128, 192,  160, 192, "avg",  128),
    Figure5Row("inception_4e", (7, 7, 1056),     0,  128, 192,  192, 256, "max",    0, 2),
    Figure5Row("inception_5a", (7, 7, 1024),   352,  192, 320,  160, 224, "avg",  128),
    Figure5Row("inception_5b", (7, 7, 1024),   352,  192, 320,  192, 224, "max",  128),
)
# fmt: on

_NARROW: dict[str, Any] = {"output": (14, 14, 576), "pool_proj": 96}
_CHANGES = {"inception_4c": _NARROW, "inception_4d": _NARROW, "inception_4e": {"output": (7, 7, 1024)}}
# The filters of tf-slim's and of the ONNX model zoo's network, with which the paper's 576 and 1024 channels hold.
NARROW_ROWS = tuple(row._replace(**_CHANGES.get(row.name, {})) for row in FIGURE_5)

_HE = initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


def module(row: Figure5Row, *, reduce_init: Callable | None = None, pool_init: Callable | None = None) -> Concat:
    """Builds a module of Figure 5: two 3x3 replace the 5x5 of GoogLeNet."""
    # A pool of stride 1 keeps the grid; one of stride 2 is padded by the network's rule.
    padding = "SAME" if row.stride == 1 else None
    pool = AvgPool(3, 1, padding="SAME") if row.pool == "avg" else MaxPool(3, row.stride, padding=padding)
    branches: list[Unit] = [
        Chain(
            Conv("conv3x3_reduce", row.conv3x3_reduce, 1, kernel_init=reduce_init),
            Conv("conv3x3", row.conv3x3, 3, stride=row.stride),
        ),
        Chain(
            Conv("double3x3_reduce", row.double3x3_reduce, 1, kernel_init=reduce_init),
            Conv("double3x3_1", row.double3x3, 3),
            Conv("double3x3_2", row.double3x3, 3, stride=row.stride),
        ),
    ]
    if row.stride == 2:
        return Concat(*branches, pool)
    return Concat(
        Conv("conv1x1", row.conv1x1, 1),
        *branches,
        Chain(pool, Conv("pool_proj", row.pool_proj, 1, kernel_init=pool_init)),
    )


def _network(
    rows: Sequence[Figure5Row],
    num_classes: int,
    *,
    stem: Unit,
    style: Style,
    dropout: float,
    min_size: int,
    dtype: Any,
    reduce_init: Callable | None = None,
    pool_init: Callable | None = None,
    lrn: Flag = False,
) -> Network:
    norm1, norm2 = ((("norm1", LocalResponseNorm()),), (("norm2", LocalResponseNorm()),)) if lrn else ((), ())
    return Network(
        layers=(
            ("conv1", stem),
            ("pool1", MaxPool(3, 2)),
            *norm1,
            ("conv2", Chain(Conv("conv3x3_reduce", 64, 1, kernel_init=pool_init), Conv("conv3x3", 192, 3))),
            *norm2,
            ("pool2", MaxPool(3, 2)),
            *((row.name, module(row, reduce_init=reduce_init, pool_init=pool_init)) for row in rows),
            ("pool", GlobalAvgPool()),  # 7x7 at 224
            ("dropout", Dropout(dropout)),
            ("linear", Logits("classifier", num_classes)),
        ),
        style=style,
        input_shape=(224, 224, 3),
        min_size=min_size,
        dtype=dtype,
    )


def bn_inception(
    num_classes: int = 1000,
    *,
    norm: Literal["batch", "none"] = "batch",
    lrn: Flag = False,
    activation: Literal["relu", "sigmoid"] = "relu",
    dropout: Rate = 0.0,
    batch_norm_decay: Rate = 0.9997,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds BN-Inception as Figure 5 states it, for images of 224x224: 11,278,528 parameters.

    Args:
      num_classes: number of classes.
      norm: 'batch', or 'none': biases instead.
      lrn: whether local response normalisation with GoogLeNet's constants (Caffe's) follows pool1 and conv2. With it
        and dropout of 0.4, norm='none' is the Inception with which the paper begins, and norm='batch' is its
        BN-Baseline. BN-x5 and BN-x30 have neither (section 4.2.1).
      activation: 'relu' or 'sigmoid' (BN-x5-Sigmoid).
      dropout: rate of dropout before the classifier; 0.05 to 0.1 in some members of the paper's ensemble.
      batch_norm_decay: decay of the running statistics.
      dtype: dtype of the computation.
    """
    style = Style(
        conv_padding="SAME",
        pool_padding="SAME",
        kernel_init=_HE,
        activation=ops.relu if activation == "relu" else nn.sigmoid,
        batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3) if norm == "batch" else None,
        count_include_pad=False,
    )
    # The first layer: 'separable convolution with depth multiplier 8' (appendix of the paper).
    return _network(
        FIGURE_5,
        num_classes,
        stem=separable_stem(),
        style=style,
        dropout=dropout,
        min_size=1,
        dtype=dtype,
        lrn=lrn,
    )


def bn_inception_slim(
    num_classes: int = 1000, *, dropout: Rate = 0.2, batch_norm_decay: Rate = 0.9997, dtype: Any = jnp.float32
) -> Network:
    """Builds tf-slim's inception_v2, for images of 224x224: 11,178,336 parameters.

    The pool projections of 4c and 4d have 96 filters, so that the paper's 576 and 1024 channels hold. Batch
    normalisation has no gamma. The first layer has a bias and no batch normalisation. (Slim's checkpoints have 1001
    classes.)

    Args:
      num_classes: number of classes.
      dropout: rate of dropout before the classifier.
      batch_norm_decay: decay of the running statistics.
      dtype: dtype of the computation.
    """
    init = initializers.truncated_normal(1.0)
    style = Style(
        conv_padding="SAME",
        pool_padding="SAME",
        kernel_init=_HE,
        batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3, scale=False),
        count_include_pad=False,
    )
    return _network(
        NARROW_ROWS,
        num_classes,
        stem=separable_stem(depthwise_init=init, pointwise_init=init, batch_norm=False),
        style=style,
        dropout=dropout,
        min_size=1,
        dtype=dtype,
        reduce_init=initializers.truncated_normal(0.09),
        pool_init=initializers.truncated_normal(0.1),
    )


def bn_inception_caffe(
    num_classes: int = 1000, *, dropout: Rate = 0.0, batch_norm_decay: Rate = 0.9, dtype: Any = jnp.float32
) -> Network:
    """Builds the network of the public Caffe and PyTorch weights, for images of 224x224: 11,295,240 parameters.

    It begins with a full 7x7 convolution, and has biases beside batch normalisation and an epsilon of 1e-5. Average
    pools count their padding. Strided convolutions are padded on both sides, max-pools only at the end. So the paths of
    3c and 4e are one pixel apart, as in those weights, and their sizes agree only on even grids: the network takes 224
    and 256, but not 299. Initialisation (He's) is our choice.

    Args:
      num_classes: number of classes.
      dropout: rate of dropout before the classifier.
      batch_norm_decay: decay of the running statistics (1 - PyTorch's momentum).
      dtype: dtype of the computation.
    """
    style = Style(
        conv_padding="SYMMETRIC",
        pool_padding="CEIL",
        kernel_init=_HE,
        batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-5),
        conv_bias=True,
        count_include_pad=True,
    )
    return _network(
        FIGURE_5,
        num_classes,
        stem=Conv("conv7x7", 64, 7, stride=2),
        style=style,
        dropout=dropout,
        min_size=31,
        dtype=dtype,
    )


def bn_inception_onnx(
    num_classes: int = 1000, *, dropout: Rate = 0.0, batch_norm_decay: Rate = 0.9, dtype: Any = jnp.float32
) -> Network:
    """Builds the Inception-v2 of the ONNX model zoo, for images of 224x224: 11,194,984 parameters.

    It is bn_inception_caffe with the filters of tf-slim in 4c and 4d, without biases beside batch normalisation. Its
    average pools do not count padding. Sizes of images are those of bn_inception_caffe.

    Args:
      num_classes: number of classes.
      dropout: rate of dropout before the classifier.
      batch_norm_decay: decay of the running statistics.
      dtype: dtype of the computation.
    """
    style = Style(
        conv_padding="SYMMETRIC",
        pool_padding="CEIL",
        kernel_init=_HE,
        batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-5),
        count_include_pad=False,
    )
    return _network(
        NARROW_ROWS,
        num_classes,
        stem=Conv("conv7x7", 64, 7, stride=2),
        style=style,
        dropout=dropout,
        min_size=31,
        dtype=dtype,
    )

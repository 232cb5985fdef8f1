"""GoogLeNet (Inception-v1).

Szegedy et al., "Going Deeper with Convolutions", 2014, https://arxiv.org/abs/1409.4842. What the paper leaves open is
taken from the only public network with its topology, BVLC Caffe's bvlc_googlenet (train_val.prototxt): the padding of
conv1, the constants and places of LRN, the initialisation. googlenet_flavours has the other networks of that name.
"""

from typing import Any, Literal

import jax.numpy as jnp

from inception_jax.errors import UserError
from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Factor, Flag, Rate
from inception_jax.models.shared import (
    AVERAGE,
    Table1Row,
    googlenet_aux_heads,
    googlenet_layers,
    reduced_module,
    separable_stem,
)
from inception_jax.models.units import (
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    LocalResponseNorm,
    MaxPool,
    Style,
)

# Table 1 of the paper for images of 224x224; output is height x width x channels.
# The convolution of the first row has 64 features, the classifier 1000 classes.
# fmt: off
TABLE_1 = (
    #         name            type           patch stride  output           1x1  3x3r  3x3  5x5r  5x5  proj
    Table1Row("conv1",        "convolution",     7, 2, (112, 112, 64)),
    Table1Row("pool1",        "max pool",        3, 2, (56, 56, 64)),
    Table1Row("conv2",        "convolution",     3, 1, (56, 56, 192),        0,   64, 192),
    Table1Row("pool2",        "max pool",        3, 2, (28, 28, 192)),
    Table1Row("inception_3a", "inception",       0, 0, (28, 28, 256),       64,   96, 128,   16,  32,   32),
    Table1Row("inception_3b", "inception",       0, 0, (28, 28, 480),      128,  128, 192,   32,  96,   64),
    Table1Row("pool3",        "max pool",        3, 2, (14, 14, 480)),
    Table1Row("inception_4a", "inception",       0, 0, (14, 14, 512),      192,   96, 208,   16,  48,   64),
    Table1Row("inception_4b", "inception",       0, 0, (14, 14, 512),      160,  112, 224,   24,  64,   64),
    Table1Row("inception_4c", "inception",       0, 0, (14, 14, 512),      128,  128, 256,   24,  64,   64),
    Table1Row("inception_4d", "inception",       0, 0, (14, 14, 528),      112,  144, 288,   32,  64,   64),
    Table1Row("inception_4e", "inception",       0, 0, (14, 14, 832),      256,  160, 320,   32, 128,  128),
    Table1Row("pool4",        "max pool",        3, 2, (7, 7, 832)),
    Table1Row("inception_5a", "inception",       0, 0, (7, 7, 832),        256,  160, 320,   32, 128,  128),
    Table1Row("inception_5b", "inception",       0, 0, (7, 7, 1024),       384,  192, 384,   48, 128,  128),
    Table1Row("pool5",        "avg pool",        7, 1, (1, 1, 1024)),
    Table1Row("dropout",      "dropout",         0, 0, (1, 1, 1024)),
    Table1Row("linear",       "linear",          0, 0, (1, 1, 1000)),
)
# fmt: on

# Caffe's "xavier" filler: uniform within sqrt(3 / fan_in), whatever the fan-out.
XAVIER = initializers.variance_scaling(1.0, "fan_in", "uniform")
BIAS = initializers.constant(0.2)


def naive_module(row: Table1Row) -> Concat:
    """Fig. 2a: no reductions; the pool passes its channels on. The filters, not in the paper, are Table 1's."""
    return Concat(
        Conv("conv1x1", row.conv1x1, 1),
        Conv("conv3x3", row.conv3x3, 3),
        Conv("conv5x5", row.conv5x5, 5),
        MaxPool(3, 1, padding="SAME"),
    )


def _with_reductions(row: Table1Row, width: float | None) -> Table1Row:
    """Returns `row` with `width` times the filters in the reductions of its module."""
    if width is None or row.type != "inception":
        return row
    small, large = (max(1, round(width * filters)) for filters in (row.conv3x3_reduce, row.conv5x5_reduce))
    return row._replace(conv3x3_reduce=small, conv5x5_reduce=large)


def googlenet(
    num_classes: int = 1000,
    *,
    module: Literal["reduced", "naive"] = "reduced",
    stem: Literal["convolution", "separable"] = "convolution",
    norm: Literal["lrn", "batch", "none"] = "lrn",
    early_reduction: Literal[4, 2, 1] = 4,
    reduction_width: Factor | None = None,
    top: Literal["average", "fc"] = "average",
    aux: Flag = True,
    bn_auxiliary: Flag = False,
    dropout: Rate = 0.4,
    aux_dropout: Rate = 0.7,
    batch_norm_decay: Rate = 0.9997,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds GoogLeNet, for images of 224x224.

    It has 6,998,552 parameters; 13,378,280 with the auxiliary classifiers at 224x224, whose first dense layer grows
    with the image. End points have the names of Table 1, the LRN layers those of Caffe (norm1, norm2).

    Args:
      num_classes: number of classes.
      module: 'reduced' (Fig. 2b, the paper's network) or 'naive' (Fig. 2a).
      stem: kind of conv1: 'convolution' (Caffe) or 'separable' (6,991,856 parameters; fits Table 1's numbers).
      norm: 'lrn' (after pool1 and after conv2, as in Caffe), 'batch' (batch normalisation in each convolution instead
        of its bias, no LRN; not in this paper) or 'none'.
      early_reduction: factor by which conv1 and pool1 together shrink the image: 4 (the paper's); 2: conv1 has
        stride 1; 1: also no pool1. So smaller images cost the same ("Rethinking the Inception Architecture",
        section 7).
      reduction_width: factor on the filters of the 1x1 convolutions before the 3x3 and the 5x5; None: 1.
      top: 'average', or 'fc': 1024 units that see the whole grid, which the average replaced (section 5).
      aux: whether to build the auxiliary classifiers aux1 (on 4a) and aux2 (on 4d); they run in training only.
      bn_auxiliary: with norm='batch', whether to normalise their dense layers too, as in Inception-v3.
      dropout: rate of dropout before the classifier.
      aux_dropout: rate of dropout before each auxiliary classifier.
      batch_norm_decay: decay of the running statistics, for norm='batch'. 0.9997 is tf-slim's for Inception; it needs
        ten thousand steps or more.
      dtype: dtype of the computation.
    """
    if bn_auxiliary and norm != "batch":
        raise UserError("bn_auxiliary=True needs norm='batch'")
    # Stride of conv1, whether pool1 exists, and the smallest image.
    stride, has_pool1, min_size = {4: (2, True, 31), 2: (1, True, 16), 1: (1, False, 8)}[early_reduction]
    # A full convolution as Caffe has it, or the one that the numbers of Table 1's first row fit, 2.7K and 34M: 3 x 8
    # depthwise filters of 7x7, then 64 of 1x1, 2,712 weights. The BN paper says that its first layer is of that kind.
    conv1 = Conv("conv7x7", 64, 7, stride=stride) if stem == "convolution" else separable_stem(stride)
    # At 224 the pool gives 4x4. On a grid under 5x5 its window is the grid.
    heads = googlenet_aux_heads(num_classes, pool=AvgPool(5, 3), dropout=aux_dropout, batch_norm=bn_auxiliary)
    return Network(
        layers=googlenet_layers(
            [_with_reductions(row, reduction_width) for row in TABLE_1 if has_pool1 or row.name != "pool1"],
            num_classes,
            module={"reduced": reduced_module, "naive": naive_module}[module],
            stem=conv1,
            norm=LocalResponseNorm() if norm == "lrn" else None,
            dropout=dropout,
            pool5=AVERAGE if top == "average" else Dense("fc", 1024),
        ),
        aux_heads=heads if aux else (),
        style=Style(
            conv_padding="SYMMETRIC",
            pool_padding="CEIL",
            kernel_init=XAVIER,
            bias_init=BIAS,
            batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3) if norm == "batch" else None,
        ),
        input_shape=(224, 224, 3),
        min_size=min_size,
        dtype=dtype,
    )

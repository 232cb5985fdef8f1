"""GoogLeNet (Inception-v1).

Szegedy et al., "Going Deeper with Convolutions", 2014, https://arxiv.org/abs/1409.4842. What the paper leaves open is
taken from the only public network with its topology, BVLC Caffe's bvlc_googlenet (train_val.prototxt): the padding of
conv1, the constants of LRN and where it stands, the initialisation. Other networks of that name: googlenet_flavours.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from inception_jax.errors import UserError, choose
from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.units import (
    AuxHead,
    AvgPool,
    BatchNorm,
    Chain,
    Classifier,
    Concat,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    GlobalAvgPool,
    LocalResponseNorm,
    MaxPool,
    Style,
    Unit,
)


class Row(NamedTuple):
    """One row of Table 1. `reduce` columns are the 1x1 convolutions in front of the 3x3 and 5x5 ones."""

    name: str
    type: str
    patch: int = 0
    stride: int = 0
    output: tuple[int, int, int] = ()
    conv1x1: int = 0
    conv3x3_reduce: int = 0
    conv3x3: int = 0
    conv5x5_reduce: int = 0
    conv5x5: int = 0
    pool_proj: int = 0


# Table 1 of the paper for images of 224x224; output is height x width x channels.
# The convolution of the first row has 64 features, the classifier 1000 classes.
# fmt: off
TABLE_1 = (
    #   name            type           patch stride  output           1x1  3x3r  3x3  5x5r  5x5  proj
    Row("conv1",        "convolution",     7, 2, (112, 112, 64)),
    Row("pool1",        "max pool",        3, 2, (56, 56, 64)),
    Row("conv2",        "convolution",     3, 1, (56, 56, 192),        0,   64, 192),
    Row("pool2",        "max pool",        3, 2, (28, 28, 192)),
    Row("inception_3a", "inception",       0, 0, (28, 28, 256),       64,   96, 128,   16,  32,   32),
    Row("inception_3b", "inception",       0, 0, (28, 28, 480),      128,  128, 192,   32,  96,   64),
    Row("pool3",        "max pool",        3, 2, (14, 14, 480)),
    Row("inception_4a", "inception",       0, 0, (14, 14, 512),      192,   96, 208,   16,  48,   64),
    Row("inception_4b", "inception",       0, 0, (14, 14, 512),      160,  112, 224,   24,  64,   64),
    Row("inception_4c", "inception",       0, 0, (14, 14, 512),      128,  128, 256,   24,  64,   64),
    Row("inception_4d", "inception",       0, 0, (14, 14, 528),      112,  144, 288,   32,  64,   64),
    Row("inception_4e", "inception",       0, 0, (14, 14, 832),      256,  160, 320,   32, 128,  128),
    Row("pool4",        "max pool",        3, 2, (7, 7, 832)),
    Row("inception_5a", "inception",       0, 0, (7, 7, 832),        256,  160, 320,   32, 128,  128),
    Row("inception_5b", "inception",       0, 0, (7, 7, 1024),       384,  192, 384,   48, 128,  128),
    Row("pool5",        "avg pool",        7, 1, (1, 1, 1024)),
    Row("dropout",      "dropout",         0, 0, (1, 1, 1024)),
    Row("linear",       "linear",          0, 0, (1, 1, 1000)),
)
# fmt: on

# Section 5: the auxiliary classifiers stand on the outputs of 4a and 4d.
AUX_HEADS = {"aux1": "inception_4a", "aux2": "inception_4d"}

# Caffe's "xavier" filler: uniform within sqrt(3 / fan_in), whatever the fan-out.
_XAVIER = initializers.variance_scaling(1.0, "fan_in", "uniform")
_BIAS = initializers.constant(0.2)


# A full convolution as Caffe has it, or the one that the numbers of Table 1's first row fit, 2.7K and 34M: 3 x 8
# depthwise filters of 7x7, then 64 of 1x1, 2,712 weights. The BN paper says that its first layer is of that kind.
AVERAGE = GlobalAvgPool()  # pool5, 7x7 at 224


def stem_unit(stem: str, stride: int = 2) -> Unit:
    """Conv1, of the kind `stem`: 'convolution' or 'separable'."""
    separable = Chain(DepthwiseConv("conv7x7_depthwise", 8, 7, stride), Conv("conv7x7_pointwise", 64, 1))
    return choose("stem", stem, {"convolution": Conv("conv7x7", 64, 7, stride), "separable": separable})


def reduced_module(row: Row, large: int = 5) -> Concat:
    """Fig. 2b: 1x1 convolutions before the 3x3 and the 5x5 and after the pool. `large`: kernel of the third path."""
    return Concat(
        Conv("conv1x1", row.conv1x1, 1),
        Chain(Conv("conv3x3_reduce", row.conv3x3_reduce, 1), Conv("conv3x3", row.conv3x3, 3)),
        Chain(Conv("conv5x5_reduce", row.conv5x5_reduce, 1), Conv("conv5x5", row.conv5x5, large)),
        Chain(MaxPool(3, 1, "SAME"), Conv("pool_proj", row.pool_proj, 1)),
    )


def naive_module(row: Row) -> Concat:
    """Fig. 2a: nothing is reduced, the pool passes its channels on. The filters, not in the paper, are Table 1's."""
    return Concat(
        Conv("conv1x1", row.conv1x1, 1),
        Conv("conv3x3", row.conv3x3, 3),
        Conv("conv5x5", row.conv5x5, 5),
        MaxPool(3, 1, "SAME"),
    )


def _with_reductions(row: Row, width: float | None) -> Row:
    """`row` with `width` times the filters in the reductions of its module."""
    if width is None or row.type != "inception":
        return row
    small, large = (max(1, round(width * filters)) for filters in (row.conv3x3_reduce, row.conv5x5_reduce))
    return row._replace(conv3x3_reduce=small, conv5x5_reduce=large)


def layers_of(
    table: Sequence[Row],
    num_classes: int,
    *,
    module: Callable[[Row], Unit],
    stem: Unit,
    norm: LocalResponseNorm | None,
    dropout: float,
    top: Unit = AVERAGE,
    classifier_init: Callable | None = None,
) -> tuple[tuple[str, Unit], ...]:
    """The layers of `table`; `norm` stands after conv1 and its pool, and after conv2, as in Caffe. `top`: pool5."""
    layers: list[tuple[str, Unit]] = []
    normalised = {"pool1" if any(row.name == "pool1" for row in table) else "conv1": "norm1", "conv2": "norm2"}
    for row in table:
        unit: Unit
        match row.type:
            case "convolution" if row.name == "conv1":
                unit = stem
            case "convolution":
                unit = Chain(Conv("conv3x3_reduce", row.conv3x3_reduce, 1), Conv("conv3x3", row.conv3x3, 3))
            case "max pool":
                unit = MaxPool(row.patch, row.stride)
            case "inception":
                unit = module(row)
            case "avg pool":
                unit = top
            case "dropout":
                unit = Dropout(dropout)
            case "linear":
                unit = Classifier("classifier", num_classes, kernel_init=classifier_init)
        layers.append((row.name, unit))
        if norm is not None and row.name in normalised:
            layers.append((normalised[row.name], norm))
    return tuple(layers)


def aux_heads(num_classes: int, dropout: float, pool: Unit, batch_norm: bool = False) -> tuple[AuxHead, ...]:
    """Section 5: average pool, 128 filters 1x1, 1024 units (normalised if `batch_norm`), dropout, classifier."""
    unit = Chain(
        pool,
        Conv("conv1x1", 128, 1),
        Dense("fc", 1024, batch_norm=batch_norm),
        Dropout(dropout),
        Classifier("classifier", num_classes),
    )
    return tuple(AuxHead(name, after, unit) for name, after in AUX_HEADS.items())


def googlenet(
    num_classes: int = 1000,
    *,
    module: str = "reduced",
    stem: str = "convolution",
    norm: str = "lrn",
    early_reduction: int = 4,
    reduction_width: float | None = None,
    top: str = "average",
    aux: bool = True,
    bn_auxiliary: bool = False,
    dropout: float = 0.4,
    aux_dropout: float = 0.7,
    batch_norm_decay: float = 0.9997,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds GoogLeNet, for images of 224x224.

    6,998,552 parameters, 13,378,280 with the auxiliary classifiers (at 224x224: their first dense layer grows with the
    image). End points bear the names of Table 1, the LRN layers those of Caffe (norm1, norm2).

    Args:
      num_classes: number of classes.
      module: 'reduced' (Fig. 2b, the paper's network) or 'naive' (Fig. 2a).
      stem: conv1 as 'convolution' (Caffe) or 'separable' (6,991,856 parameters; what Table 1's numbers for it fit).
      norm: 'lrn' (after pool1 and after conv2, as in Caffe), 'batch' (batch normalisation in each convolution in place
        of its bias, no LRN; not in this paper) or 'none'.
      early_reduction: by how much conv1 and pool1 shrink the image together: 4 (the paper's); 2: conv1 has stride 1; 1:
        and there is no pool1. So smaller images cost the same ("Rethinking the Inception Architecture", section 7).
      reduction_width: factor on the filters of the 1x1 convolutions before the 3x3 and the 5x5; None: 1.
      top: 'average', or 'fc': 1024 units that see the whole grid, which the average replaced (section 5).
      aux: whether the auxiliary classifiers aux1 (on 4a) and aux2 (on 4d) are there; they are run in training alone.
      bn_auxiliary: with norm='batch', whether their dense layers are normalised too, as Inception-v3's is.
      dropout: share dropped before the classifier.
      aux_dropout: share dropped before each auxiliary classifier.
      batch_norm_decay: of the running statistics, for norm='batch'. 0.9997 is tf-slim's for Inception, right for some
        ten thousand steps and more.
      dtype: of the computation.
    """
    local_norm, batch_norm = choose(
        "norm",
        norm,
        {
            "lrn": (LocalResponseNorm(), None),
            "batch": (None, BatchNorm(batch_norm_decay, epsilon=1e-3)),
            "none": (None, None),
        },
    )
    if bn_auxiliary and norm != "batch":
        raise UserError("bn_auxiliary=True needs norm='batch'")
    # Stride of conv1, whether pool1 is there, and the smallest image.
    stride, pools, smallest = choose(
        "early_reduction", early_reduction, {4: (2, True, 31), 2: (1, True, 16), 1: (1, False, 8)}
    )
    return Network(
        layers=layers_of(
            [_with_reductions(row, reduction_width) for row in TABLE_1 if pools or row.name != "pool1"],
            num_classes,
            module=choose("module", module, {"reduced": reduced_module, "naive": naive_module}),
            stem=stem_unit(stem, stride),
            norm=local_norm,
            dropout=dropout,
            top=choose("top", top, {"average": AVERAGE, "fc": Dense("fc", 1024)}),
        ),
        # At 224 the pool gives 4x4. On a grid under 5x5 its window is the grid.
        aux_heads=aux_heads(num_classes, aux_dropout, AvgPool(5, 3), bn_auxiliary) if aux else (),
        style=Style(
            conv_padding="SYMMETRIC",
            pool_padding="CEIL",
            kernel_init=_XAVIER,
            bias_init=_BIAS,
            batch_norm=batch_norm,
        ),
        native=(224, 224, 3),
        smallest=smallest,
        dtype=dtype,
    )

"""Stems, modules and heads that several networks share. Each is stated as its paper's figure or table.

A kernel is (height, width). GoogLeNet: Szegedy et al. 2014, https://arxiv.org/abs/1409.4842. BN-Inception: Ioffe and
Szegedy 2015, https://arxiv.org/abs/1502.03167. Inception-v3: Szegedy et al. 2015, https://arxiv.org/abs/1512.00567.
Inception-v4 and Inception-ResNet: Szegedy et al. 2016, https://arxiv.org/abs/1602.07261.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from inception_jax.models.units import (
    AuxHead,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    GlobalAvgPool,
    LocalResponseNorm,
    Logits,
    MaxPool,
    Unit,
)

Layers = tuple[tuple[str, Unit], ...]

# ------------------------------------------- GoogLeNet and its flavours; BN-Inception


class Table1Row(NamedTuple):
    """One row of GoogLeNet's Table 1. `reduce` columns are the 1x1 convolutions before the 3x3 and 5x5 ones."""

    name: str
    type: str
    patch: int = 0
    stride: int = 0
    output: tuple[int, ...] = ()
    conv1x1: int = 0
    conv3x3_reduce: int = 0
    conv3x3: int = 0
    conv5x5_reduce: int = 0
    conv5x5: int = 0
    pool_proj: int = 0


def separable_stem(
    stride: int = 2,
    *,
    depthwise_init: Callable | None = None,
    pointwise_init: Callable | None = None,
    batch_norm: bool = True,
) -> Chain:
    """Builds 3 x 8 depthwise filters of 7x7, then 64 of 1x1; `batch_norm`: after the 1x1."""
    return Chain(
        DepthwiseConv("conv7x7_depthwise", multiplier=8, kernel=7, stride=stride, kernel_init=depthwise_init),
        Conv("conv7x7_pointwise", 64, 1, batch_norm=batch_norm, kernel_init=pointwise_init),
    )


def reduced_module(row: Table1Row, large: int = 5) -> Concat:
    """GoogLeNet, Fig. 2b: 1x1 convolutions before the 3x3 and the 5x5 and after the pool.

    `large` is the size of the third path's kernel.
    """
    return Concat(
        Conv("conv1x1", row.conv1x1, 1),
        Chain(Conv("conv3x3_reduce", row.conv3x3_reduce, 1), Conv("conv3x3", row.conv3x3, 3)),
        Chain(Conv("conv5x5_reduce", row.conv5x5_reduce, 1), Conv("conv5x5", row.conv5x5, large)),
        Chain(MaxPool(3, 1, padding="SAME"), Conv("pool_proj", row.pool_proj, 1)),
    )


AVERAGE = GlobalAvgPool()  # pool5, 7x7 at 224


def googlenet_layers(
    table: Sequence[Table1Row],
    num_classes: int,
    *,
    module: Callable[[Table1Row], Unit],
    stem: Unit,
    norm: LocalResponseNorm | None,
    dropout: float,
    pool5: Unit = AVERAGE,
    classifier_init: Callable | None = None,
) -> Layers:
    """Builds the layers of `table`. `norm` follows pool1 (conv1, where there is no pool1) and conv2, as in Caffe."""
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
                unit = pool5
            case "dropout":
                unit = Dropout(dropout)
            case "linear":
                unit = Logits("classifier", num_classes, kernel_init=classifier_init)
        layers.append((row.name, unit))
        if norm is not None and row.name in normalised:
            layers.append((normalised[row.name], norm))
    return tuple(layers)


def googlenet_aux_heads(
    num_classes: int, *, pool: Unit, dropout: float, batch_norm: bool = False
) -> tuple[AuxHead, AuxHead]:
    """GoogLeNet, section 5: average pool, 128 filters 1x1, 1024 units, dropout, classifier, on 4a and on 4d.

    `batch_norm` normalises the 1024 units.
    """
    unit = Chain(
        pool,
        Conv("conv1x1", 128, 1),
        Dense("fc", 1024, batch_norm=batch_norm),
        Dropout(dropout),
        Logits("classifier", num_classes),
    )
    return AuxHead("aux1", after="inception_4a", unit=unit), AuxHead("aux2", after="inception_4d", unit=unit)


# ------------------------------------------- Inception-v2, v3, v4 and Inception-ResNet

# The first convolutions of Inception-v3, Inception-ResNet-v1 and -v2, and the first three of Inception-v4.
STEM = (
    ("conv2d_1a_3x3", Conv("conv3x3", 32, 3, stride=2, padding="VALID")),
    ("conv2d_2a_3x3", Conv("conv3x3", 32, 3, padding="VALID")),
    ("conv2d_2b_3x3", Conv("conv3x3", 64, 3)),
    ("maxpool_3a_3x3", MaxPool(3, 2)),
    ("conv2d_3b_1x1", Conv("conv1x1", 80, 1)),
    ("conv2d_4a_3x3", Conv("conv3x3", 192, 3, padding="VALID")),
)


def inception_v4_stem(kernels: Sequence[tuple[int, int]]) -> Layers:
    """Inception-v4, Fig. 3, the stem of Inception-v4 and Inception-ResNet-v2.

    149x149x32, 147x147x32, 147x147x64, 73x73x160, 71x71x192, 35x35x384. `kernels` are the 7x1 and the 1x7 of the right
    path, in their order.
    """
    first, second = kernels
    return (
        *STEM[:3],
        ("mixed_3a", Concat(MaxPool(3, 2), Conv("conv3x3", 96, 3, stride=2, padding="VALID"))),
        (
            "mixed_4a",
            Concat(
                Chain(Conv("conv3x3_reduce", 64, 1), Conv("conv3x3", 96, 3, padding="VALID")),
                Chain(
                    Conv("conv7x7_reduce", 64, 1),
                    Conv("conv7_1", 64, first),
                    Conv("conv7_2", 64, second),
                    Conv("conv7x7_3x3", 96, 3, padding="VALID"),
                ),
            ),
        ),
        # The figure draws this step without its stride of 2.
        ("mixed_5a", Concat(Conv("conv3x3", 192, 3, stride=2, padding="VALID"), MaxPool(3, 2))),
    )


def inception_v3_module_a(*, conv1x1: int, pool_proj: int) -> Concat:
    """Inception-v3, 35x35: a 5x5 path and a double 3x3 path.

    Fig. 5 has the double 3x3 alone; the released network has both.
    """
    return Concat(
        Conv("conv1x1", conv1x1, 1),
        Chain(Conv("conv5x5_reduce", 48, 1), Conv("conv5x5", 64, 5)),
        Chain(Conv("double3x3_reduce", 64, 1), Conv("double3x3_1", 96, 3), Conv("double3x3_2", 96, 3)),
        Chain(AvgPool(3, 1, padding="SAME"), Conv("pool_proj", pool_proj, 1)),
    )


def reduction_a(*, k: int, l: int, m: int, n: int) -> Concat:  # noqa: E741 - the paper's letters
    """35x35 to 17x17, Fig. 10 of Inception-v3; `k`, `l`, `m`, `n` as in Table 1 of the Inception-v4 paper."""
    return Concat(
        Conv("conv3x3", n, 3, stride=2, padding="VALID"),
        Chain(
            Conv("double3x3_reduce", k, 1),
            Conv("double3x3_1", l, 3),
            Conv("double3x3_2", m, 3, stride=2, padding="VALID"),
        ),
        MaxPool(3, 2),
    )


def reduction_b(*, conv3x3: tuple[int, int], conv7x7: tuple[int, int, int, int]) -> Concat:
    """17x17 to 8x8 of Inception-v3 and Inception-v4 (Fig. 8).

    Args:
      conv3x3: filters of the 1x1 and of the 3x3 of the short path.
      conv7x7: filters of the 1x1, the 1x7, the 7x1 and the 3x3 of the long path.
    """
    return Concat(
        Chain(Conv("conv3x3_reduce", conv3x3[0], 1), Conv("conv3x3", conv3x3[1], 3, stride=2, padding="VALID")),
        Chain(
            Conv("conv7x7_reduce", conv7x7[0], 1),
            Conv("conv1x7", conv7x7[1], (1, 7)),
            Conv("conv7x1", conv7x7[2], (7, 1)),
            Conv("conv7x7_3x3", conv7x7[3], 3, stride=2, padding="VALID"),
        ),
        MaxPool(3, 2),
    )


def aux_head(
    num_classes: int,
    *,
    after: str,
    batch_norm: bool = True,
    dense_init: Callable | None = None,
    classifier_init: Callable | None = None,
) -> tuple[AuxHead]:
    """The auxiliary head of Inception-v3, Inception-v4 and Inception-ResNet-v2: 5x5x768 at 299, then 768 units.

    The released code has a 5x5 convolution on a grid of 5x5, which is a dense layer. `batch_norm` normalises that layer
    ("BN-auxiliary").
    """
    unit = Chain(
        AvgPool(5, 3),
        Conv("conv1x1", 128, 1),
        Dense("fc", 768, batch_norm=batch_norm, kernel_init=dense_init),
        Logits("classifier", num_classes, kernel_init=classifier_init),
    )
    return (AuxHead("aux", after=after, unit=unit),)


def head(num_classes: int, *, dropout: float, kernel_init: Callable | None = None) -> Layers:
    """The head of Inception-v3, v4 and Inception-ResNet: mean over the grid (8x8 at 299), dropout, classifier."""
    return (
        ("pool", GlobalAvgPool()),
        ("dropout", Dropout(dropout)),
        ("logits", Logits("classifier", num_classes, kernel_init=kernel_init)),
    )

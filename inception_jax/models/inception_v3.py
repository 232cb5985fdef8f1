"""Inception-v2 and Inception-v3.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015, https://arxiv.org/abs/1512.00567. The
paper's Table 1 leaves the filters of its modules open and contradicts itself in places (docs/fidelity.md), so the
network is the released one, whose filters agree in tf-slim (tf_slim/nets/inception_v3.py), torchvision and Keras, and
whose layers bear tf-slim's names. Table 3's ladder is one network with options.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from inception_jax.errors import UserError
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
    Dropout,
    GlobalAvgPool,
    MaxPool,
    Style,
    Unit,
)

# The first convolutions of Inception-v3, Inception-ResNet-v1 and -v2.
STEM = (
    ("conv2d_1a_3x3", Conv("conv3x3", 32, 3, 2, "VALID")),
    ("conv2d_2a_3x3", Conv("conv3x3", 32, 3, 1, "VALID")),
    ("conv2d_2b_3x3", Conv("conv3x3", 64, 3)),
    ("maxpool_3a_3x3", MaxPool(3, 2)),
    ("conv2d_3b_1x1", Conv("conv1x1", 80, 1)),
    ("conv2d_4a_3x3", Conv("conv3x3", 192, 3, 1, "VALID")),
)

# Before "Factorized 7x7" of Table 3: one convolution with the output of the three, 147x147x64 at 299. It sees 7 pixels,
# they see 11.
_STEM_7X7 = (("conv2d_1a_7x7", Conv("conv7x7", 64, 7, 2, "VALID")), *STEM[3:])


def module_a(conv1x1: int, pool_proj: int) -> Concat:
    """35x35: a 5x5 path and a double 3x3 path. (Fig. 5 has the double 3x3 alone; the released network has both.)"""
    return Concat(
        Conv("conv1x1", conv1x1, 1),
        Chain(Conv("conv5x5_reduce", 48, 1), Conv("conv5x5", 64, 5)),
        Chain(Conv("double3x3_reduce", 64, 1), Conv("double3x3_1", 96, 3), Conv("double3x3_2", 96, 3)),
        Chain(AvgPool(3, 1, "SAME"), Conv("pool_proj", pool_proj, 1)),
    )


def reduction_a(k: int, l: int, m: int, n: int) -> Concat:  # noqa: E741 - the paper's letters
    """35x35 to 17x17, Fig. 10; `k`, `l`, `m`, `n` as in Table 1 of the Inception-v4 paper."""
    return Concat(
        Conv("conv3x3", n, 3, 2, "VALID"),
        Chain(Conv("double3x3_reduce", k, 1), Conv("double3x3_1", l, 3), Conv("double3x3_2", m, 3, 2, "VALID")),
        MaxPool(3, 2),
    )


def module_b(filters: int) -> Concat:
    """17x17, Fig. 6: n x n factorised into 1 x n and n x 1, with n = 7. A kernel is (height, width)."""
    return Concat(
        Conv("conv1x1", 192, 1),
        Chain(
            Conv("conv7x7_reduce", filters, 1),
            Conv("conv1x7", filters, (1, 7)),
            Conv("conv7x1", 192, (7, 1)),
        ),
        Chain(
            Conv("double7x7_reduce", filters, 1),
            Conv("double7x1_1", filters, (7, 1)),
            Conv("double1x7_1", filters, (1, 7)),
            Conv("double7x1_2", filters, (7, 1)),
            Conv("double1x7_2", 192, (1, 7)),
        ),
        Chain(AvgPool(3, 1, "SAME"), Conv("pool_proj", 192, 1)),
    )


def reduction_b(short: tuple[int, int], long: tuple[int, int, int, int]) -> Concat:
    """17x17 to 8x8 of Inception-v3 and v4 (Fig. 8 of its paper): filters of the two paths' convolutions."""
    return Concat(
        Chain(Conv("conv3x3_reduce", short[0], 1), Conv("conv3x3", short[1], 3, 2, "VALID")),
        Chain(
            Conv("conv7x7_reduce", long[0], 1),
            Conv("conv1x7", long[1], (1, 7)),
            Conv("conv7x1", long[2], (7, 1)),
            Conv("conv7x7_3x3", long[3], 3, 2, "VALID"),
        ),
        MaxPool(3, 2),
    )


def module_c(pool: Unit) -> Concat:
    """8x8, Fig. 7: the last 3x3 of a path is split into 1x3 and 3x1 side by side."""
    return Concat(
        Conv("conv1x1", 320, 1),
        Chain(Conv("conv3x3_reduce", 384, 1), Concat(Conv("conv1x3", 384, (1, 3)), Conv("conv3x1", 384, (3, 1)))),
        Chain(
            Conv("double3x3_reduce", 448, 1),
            Conv("double3x3", 384, 3),
            Concat(Conv("double1x3", 384, (1, 3)), Conv("double3x1", 384, (3, 1))),
        ),
        Chain(pool, Conv("pool_proj", 192, 1)),
    )


# 35x35x256, 288, 288; 17x17x768 five times; 8x8x1280, 2048, 2048. The last 8x8 module follows.
_MODULES = (
    ("mixed_5b", module_a(64, 32)),
    ("mixed_5c", module_a(64, 64)),
    ("mixed_5d", module_a(64, 64)),
    ("mixed_6a", reduction_a(64, 96, 96, 384)),
    ("mixed_6b", module_b(128)),
    ("mixed_6c", module_b(160)),
    ("mixed_6d", module_b(160)),
    ("mixed_6e", module_b(192)),
    ("mixed_7a", reduction_b((192, 320), (192, 192, 192, 192))),
    ("mixed_7b", module_c(AvgPool(3, 1, "SAME"))),
)


def aux_head(
    num_classes: int,
    after: str,
    *,
    batch_norm: bool = True,
    dense_init: Callable | None = None,
    classifier_init: Callable | None = None,
) -> tuple[AuxHead]:
    """The auxiliary head of Inception-v3 and v4 and Inception-ResNet-v2: 5x5x768 at 299, then 768 units.

    Released as a 5x5 convolution on a grid of 5x5: a dense layer. `batch_norm`: of that layer ("BN-auxiliary").
    """
    unit = Chain(
        AvgPool(5, 3),
        Conv("conv1x1", 128, 1),
        Dense("fc", 768, batch_norm=batch_norm, kernel_init=dense_init),
        Classifier("classifier", num_classes, kernel_init=classifier_init),
    )
    return (AuxHead("aux", after, unit),)


def head(num_classes: int, dropout: float, kernel_init=None) -> tuple[tuple[str, Unit], ...]:
    """Mean over the grid (8x8 at 299), dropout, classifier."""
    return (
        ("pool", GlobalAvgPool()),
        ("dropout", Dropout(dropout)),
        ("logits", Classifier("classifier", num_classes, kernel_init=kernel_init)),
    )


def inception_v3(
    num_classes: int = 1000,
    *,
    factorized_7x7: bool = True,
    bn_auxiliary: bool = True,
    blocks: int | None = None,
    aux: bool = True,
    dropout: float = 0.2,
    batch_norm_decay: float = 0.9997,
    batch_norm_scale: bool = True,
    count_include_pad: bool = False,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds Inception-v3, for images of 299x299: 23,834,568 parameters, 27,161,264 with the auxiliary head.

    Without the last two rungs of Table 3 (factorized_7x7, bn_auxiliary) it is Inception-v2; RMSProp and label
    smoothing, the rungs between, are the recipe's.

    Args:
      num_classes: number of classes.
      factorized_7x7: three 3x3 convolutions first; False: the 7x7 that they replace (Table 3).
      bn_auxiliary: batch normalisation of the auxiliary head's dense layer too (Table 3).
      blocks: number of A, of B and of C modules, at most 2, for small experiments; None: 3, 4 and 2.
      aux: whether the auxiliary classifier 'aux' (on the last B module, mixed_6e) is there; it runs in training alone.
      dropout: share dropped before the classifier: tf-slim's 0.2, torchvision's is 0.5, Keras's 0; the paper has none.
      batch_norm_decay: of the running statistics (tf-slim's; Keras's is 0.99, torchvision's 0.9).
      batch_norm_scale: whether batch normalisation has gamma: torchvision's has, tf-slim's and Keras's has not
        (23,851,784 numbers with the running statistics, Keras's total).
      count_include_pad: whether average pools count padding: torchvision's and timm's do, tf-slim's and Keras's do not.
      dtype: of the computation.
    """
    if blocks is not None and blocks > 2:
        raise UserError(f"blocks={blocks} must be 1 or 2")
    heads = aux_head(
        num_classes,
        f"mixed_6{'bcde'[:blocks][-1]}",
        batch_norm=bn_auxiliary,
        dense_init=initializers.truncated_normal(0.01),
        classifier_init=initializers.truncated_normal(0.001),
    )
    return _network(
        num_classes,
        stem=STEM if factorized_7x7 else _STEM_7X7,
        last_pool=AvgPool(3, 1, "SAME"),
        aux_heads=heads if aux else (),
        dropout=dropout,
        batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3, scale=batch_norm_scale),
        count_include_pad=count_include_pad,
        dtype=dtype,
        blocks=blocks,
    )


def inception_v3_fid(num_classes: int = 1008, *, batch_norm_decay: float = 0.9997, dtype: Any = jnp.float32) -> Network:
    """Builds the network of the Frechet Inception distance, for images of 299x299: 23,850,960 parameters.

    The graph of 2015-12-05 as mseitzer/pytorch-fid has it (src/pytorch_fid/inception.py): 1008 classes, no auxiliary
    head, a max-pool in place of the average in mixed_7c. Its features are the end point `pool`, its input is
    (pixel - 128) / 128.

    Args:
      num_classes: number of classes.
      batch_norm_decay: of the running statistics.
      dtype: of the computation.
    """
    batch_norm = BatchNorm(batch_norm_decay, epsilon=1e-3)
    return _network(num_classes, STEM, MaxPool(3, 1, "SAME"), (), 0.0, batch_norm, False, dtype, blocks=None)


def _network(num_classes, stem, last_pool, aux_heads, dropout, batch_norm, count_include_pad, dtype, blocks) -> Network:
    letters = "abcde" if blocks is None else "abc"[: 1 + blocks]  # the reductions are a
    modules = (*_MODULES, ("mixed_7c", module_c(last_pool)))
    return Network(
        layers=(
            *stem,
            ("maxpool_5a_3x3", MaxPool(3, 2)),
            *((name, module) for name, module in modules if name[-1] in letters),
            *head(num_classes, dropout),
        ),
        aux_heads=aux_heads,
        style=Style(
            conv_padding="SAME",
            pool_padding="VALID",
            kernel_init=initializers.variance_scaling(2.0, "fan_in", "truncated_normal"),  # tf-slim; the paper has none
            batch_norm=batch_norm,
            count_include_pad=count_include_pad,
        ),
        native=(299, 299, 3),
        smallest=75,
        dtype=dtype,
    )

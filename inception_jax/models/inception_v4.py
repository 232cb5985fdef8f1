"""Inception-v4.

Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", 2016,
https://arxiv.org/abs/1602.07261, Figures 3 to 9. Layers bear the names of the released network (models/research/slim/
nets/inception_v4.py of github.com/tensorflow), whose weights fit its own order of 1x7 and 7x1 alone.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from inception_jax.errors import UserError, choose
from inception_jax.models import bn_inception, initializers
from inception_jax.models.inception_v3 import STEM, aux_head, head, reduction_a, reduction_b
from inception_jax.models.network import Network
from inception_jax.models.units import AvgPool, BatchNorm, Chain, Concat, Conv, MaxPool, Style


class Order(NamedTuple):
    """The kernels (height, width) of the asymmetric convolutions, where the figures and the released code differ."""

    stem: tuple  # Fig. 3
    b_short: tuple  # Fig. 5, middle path
    b_long: tuple  # Fig. 5, long path
    c_long: tuple  # Fig. 6, long path


# The figures as their readers transcribed them (github.com/titu1994/Inception-v4; tensorflow/models issues 3313, 7041);
# that of Fig. 6 is unverified.
ORDERS = {
    "released": Order(
        stem=((1, 7), (7, 1)),
        b_short=((1, 7), (7, 1)),
        b_long=((7, 1), (1, 7), (7, 1), (1, 7)),
        c_long=((3, 1), (1, 3)),
    ),
    "figures": Order(
        stem=((7, 1), (1, 7)),
        b_short=((1, 7), (1, 7)),
        b_long=((1, 7), (7, 1), (1, 7), (7, 1)),
        c_long=((1, 3), (3, 1)),
    ),
}


# Fig. 4, 35x35x384: BN-Inception's module with other numbers.
MODULE_A = bn_inception.module(bn_inception.Row("A", (35, 35, 384), 96, 64, 96, 64, 96, "avg", 96))


def _chain(reduce: Conv, name: str, filters: tuple[int, ...], kernels: tuple) -> Chain:
    """Asymmetric convolutions one after another: name_1, name_2, ..."""
    pairs = enumerate(zip(filters, kernels, strict=True), start=1)
    return Chain(reduce, *(Conv(f"{name}_{i}", features, kernel) for i, (features, kernel) in pairs))


def stem(order: Order) -> tuple:
    """Fig. 3: 149x149x32, 147x147x32, 147x147x64, 73x73x160, 71x71x192, 35x35x384."""
    return (
        *STEM[:3],
        ("mixed_3a", Concat(MaxPool(3, 2), Conv("conv3x3", 96, 3, 2, "VALID"))),
        (
            "mixed_4a",
            Concat(
                Chain(Conv("conv3x3_reduce", 64, 1), Conv("conv3x3", 96, 3, 1, "VALID")),
                Chain(
                    *_chain(Conv("conv7x7_reduce", 64, 1), "conv7", (64, 64), order.stem).units,
                    Conv("conv7x7_3x3", 96, 3, 1, "VALID"),
                ),
            ),
        ),
        # The figure draws this step without its stride of 2.
        ("mixed_5a", Concat(Conv("conv3x3", 192, 3, 2, "VALID"), MaxPool(3, 2))),
    )


def module_b(order: Order) -> Concat:
    """Fig. 5, 17x17x1024."""
    return Concat(
        Conv("conv1x1", 384, 1),
        _chain(Conv("conv7x7_reduce", 192, 1), "conv7", (224, 256), order.b_short),
        _chain(Conv("double7x7_reduce", 192, 1), "double7", (192, 224, 224, 256), order.b_long),
        Chain(AvgPool(3, 1, "SAME"), Conv("pool_proj", 128, 1)),
    )


def module_c(order: Order) -> Concat:
    """Fig. 6, 8x8x1536."""
    return Concat(
        Conv("conv1x1", 256, 1),
        Chain(Conv("conv3x3_reduce", 384, 1), Concat(Conv("conv1x3", 256, (1, 3)), Conv("conv3x1", 256, (3, 1)))),
        Chain(
            *_chain(Conv("double3x3_reduce", 384, 1), "double3", (448, 512), order.c_long).units,
            Concat(Conv("double1x3", 256, (1, 3)), Conv("double3x1", 256, (3, 1))),
        ),
        Chain(AvgPool(3, 1, "SAME"), Conv("pool_proj", 256, 1)),
    )


def inception_v4(
    num_classes: int = 1000,
    *,
    order: str = "released",
    blocks: int | None = None,
    aux: bool = False,
    dropout: float = 0.2,
    batch_norm_decay: float = 0.9997,
    batch_norm_scale: bool = True,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds Inception-v4, for images of 299x299: 42,679,816 parameters.

    Args:
      num_classes: number of classes.
      order: of the 1x7 and 7x1 (1x3 and 3x1) convolutions in a row, where the two differ: 'released' or 'figures'.
      blocks: number of A, of B and of C modules, at most 3, for small experiments; None: 4, 7 and 3.
      aux: whether the auxiliary classifier 'aux' (on the last B module, mixed_6h) is there; tf-slim has it; that
        the figures have not is unverified.
      dropout: share dropped before the classifier.
      batch_norm_decay: of the running statistics.
      batch_norm_scale: whether batch normalisation has gamma; tf-slim's has not.
      dtype: of the computation.
    """
    if blocks is not None and blocks > 3:
        raise UserError(f"blocks={blocks} must be 1 to 3")
    kernels = choose("order", order, ORDERS)
    glorot = initializers.glorot_uniform()
    return Network(
        layers=(
            *stem(kernels),
            *((f"mixed_5{letter}", MODULE_A) for letter in "bcde"[:blocks]),
            ("mixed_6a", reduction_a(192, 224, 256, 384)),
            *((f"mixed_6{letter}", module_b(kernels)) for letter in "bcdefgh"[:blocks]),
            ("mixed_7a", reduction_b((192, 192), (256, 256, 320, 320))),
            *((f"mixed_7{letter}", module_c(kernels)) for letter in "bcd"[:blocks]),
            *head(num_classes, dropout, glorot),
        ),
        aux_heads=aux_head(num_classes, f"mixed_6{'bcdefgh'[:blocks][-1]}", classifier_init=glorot) if aux else (),
        style=Style(
            conv_padding="SAME",
            pool_padding="VALID",
            kernel_init=initializers.variance_scaling(2.0, "fan_in", "truncated_normal"),
            batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3, scale=batch_norm_scale),
            count_include_pad=False,
        ),
        native=(299, 299, 3),
        smallest=75,
        dtype=dtype,
    )

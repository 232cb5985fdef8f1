"""Inception-v4.

Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", 2016,
https://arxiv.org/abs/1602.07261, Figures 3 to 9. Layers have the names of the released network (models/research/slim/
nets/inception_v4.py of github.com/tensorflow). Its weights fit only its own order of 1x7 and 7x1.
"""

from typing import Annotated, Any, Literal, NamedTuple

import jax.numpy as jnp

from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Flag, Rate, up_to
from inception_jax.models.shared import aux_head, head, inception_v4_stem, reduction_a, reduction_b
from inception_jax.models.units import AvgPool, BatchNorm, Chain, Concat, Conv, Style


class Order(NamedTuple):
    """The kernels (height, width) of the asymmetric convolutions, where the figures and the released code differ."""

    stem: tuple  # Fig. 3
    b_short: tuple  # Fig. 5, middle path
    b_long: tuple  # Fig. 5, long path
    c_long: tuple  # Fig. 6, long path


# The figures as their readers transcribed them (github.com/titu1994/Inception-v4; tensorflow/models issues 3313, 7041).
# The order of Fig. 6 is unverified.
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


def _chain(reduce: Conv, name: str, filters: tuple[int, ...], kernels: tuple) -> Chain:
    """Builds asymmetric convolutions one after another: name_1, name_2, ..."""
    pairs = enumerate(zip(filters, kernels, strict=True), start=1)
    return Chain(reduce, *(Conv(f"{name}_{i}", features, kernel) for i, (features, kernel) in pairs))


# Fig. 4, 35x35x384.
MODULE_A = Concat(
    Conv("conv1x1", 96, 1),
    Chain(Conv("conv3x3_reduce", 64, 1), Conv("conv3x3", 96, 3)),
    Chain(Conv("double3x3_reduce", 64, 1), Conv("double3x3_1", 96, 3), Conv("double3x3_2", 96, 3)),
    Chain(AvgPool(3, 1, padding="SAME"), Conv("pool_proj", 96, 1)),
)


def module_b(order: Order) -> Concat:
    """Fig. 5, 17x17x1024."""
    return Concat(
        Conv("conv1x1", 384, 1),
        _chain(Conv("conv7x7_reduce", 192, 1), "conv7", (224, 256), order.b_short),
        _chain(Conv("double7x7_reduce", 192, 1), "double7", (192, 224, 224, 256), order.b_long),
        Chain(AvgPool(3, 1, padding="SAME"), Conv("pool_proj", 128, 1)),
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
        Chain(AvgPool(3, 1, padding="SAME"), Conv("pool_proj", 256, 1)),
    )


def inception_v4(
    num_classes: int = 1000,
    *,
    order: Literal["released", "figures"] = "released",
    blocks: Annotated[int, up_to(3)] | None = None,
    aux: Flag = False,
    dropout: Rate = 0.2,
    batch_norm_decay: Rate = 0.9997,
    batch_norm_scale: Flag = True,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds Inception-v4, for images of 299x299: 42,679,816 parameters.

    Args:
      num_classes: number of classes.
      order: order of the 1x7 and 7x1 (1x3 and 3x1) convolutions in a row: 'released' or 'figures'.
      blocks: number of A, of B and of C modules, at most 3, for small experiments; None: 4, 7 and 3.
      aux: whether to build the auxiliary classifier 'aux' on the last B module (mixed_6h). tf-slim has it. That the
        figures have none is unverified.
      dropout: rate of dropout before the classifier.
      batch_norm_decay: decay of the running statistics.
      batch_norm_scale: whether batch normalisation has gamma; tf-slim's has not.
      dtype: dtype of the computation.
    """
    kernels = ORDERS[order]
    glorot = initializers.glorot_uniform()
    aux_heads = aux_head(num_classes, after=f"mixed_6{'bcdefgh'[:blocks][-1]}", classifier_init=glorot)
    return Network(
        layers=(
            *inception_v4_stem(kernels.stem),
            *((f"mixed_5{letter}", MODULE_A) for letter in "bcde"[:blocks]),
            ("mixed_6a", reduction_a(k=192, l=224, m=256, n=384)),
            *((f"mixed_6{letter}", module_b(kernels)) for letter in "bcdefgh"[:blocks]),
            ("mixed_7a", reduction_b(conv3x3=(192, 192), conv7x7=(256, 256, 320, 320))),
            *((f"mixed_7{letter}", module_c(kernels)) for letter in "bcd"[:blocks]),
            *head(num_classes, dropout=dropout, kernel_init=glorot),
        ),
        aux_heads=aux_heads if aux else (),
        style=Style(
            conv_padding="SAME",
            pool_padding="VALID",
            kernel_init=initializers.variance_scaling(2.0, "fan_in", "truncated_normal"),
            batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3, scale=batch_norm_scale),
            count_include_pad=False,
        ),
        input_shape=(299, 299, 3),
        min_size=75,
        dtype=dtype,
    )

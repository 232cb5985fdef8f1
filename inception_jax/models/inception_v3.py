"""Inception-v2 and Inception-v3.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015, https://arxiv.org/abs/1512.00567. The
paper's Table 1 leaves the filters of its modules open and contradicts itself in places (docs/fidelity.md). So the
network is the released one, whose filters agree in tf-slim (tf_slim/nets/inception_v3.py), torchvision and Keras.
Layers have tf-slim's names. Table 3's ladder is one network with options.
"""

from typing import Annotated, Any

import jax.numpy as jnp

from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Flag, Rate, up_to
from inception_jax.models.shared import STEM, Layers, aux_head, head, inception_v3_module_a, reduction_a, reduction_b
from inception_jax.models.units import (
    AuxHead,
    AvgPool,
    BatchNorm,
    Chain,
    Concat,
    Conv,
    MaxPool,
    Style,
    Unit,
)

# Before "Factorized 7x7" of Table 3: one convolution with the output of the three, 147x147x64 at 299. It sees 7 pixels;
# the three see 11.
_STEM_7X7 = (("conv2d_1a_7x7", Conv("conv7x7", 64, 7, stride=2, padding="VALID")), *STEM[3:])


def module_b(filters: int) -> Concat:
    """17x17, Fig. 6: n x n is factorised into 1 x n and n x 1, with n = 7. A kernel is (height, width)."""
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
        Chain(AvgPool(3, 1, padding="SAME"), Conv("pool_proj", 192, 1)),
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


# 35x35x256, 288, 288; 17x17x768 five times; 8x8x1280, 2048. The last 8x8 module follows.
_MODULES = (
    ("mixed_5b", inception_v3_module_a(conv1x1=64, pool_proj=32)),
    ("mixed_5c", inception_v3_module_a(conv1x1=64, pool_proj=64)),
    ("mixed_5d", inception_v3_module_a(conv1x1=64, pool_proj=64)),
    ("mixed_6a", reduction_a(k=64, l=96, m=96, n=384)),
    ("mixed_6b", module_b(128)),
    ("mixed_6c", module_b(160)),
    ("mixed_6d", module_b(160)),
    ("mixed_6e", module_b(192)),
    ("mixed_7a", reduction_b(conv3x3=(192, 320), conv7x7=(192, 192, 192, 192))),
    ("mixed_7b", module_c(AvgPool(3, 1, padding="SAME"))),
)


def inception_v3(
    num_classes: int = 1000,
    *,
    factorized_7x7: Flag = True,
    bn_auxiliary: Flag = True,
    blocks: Annotated[int, up_to(2)] | None = None,
    aux: Flag = True,
    dropout: Rate = 0.2,
    batch_norm_decay: Rate = 0.9997,
    batch_norm_scale: Flag = True,
    count_include_pad: Flag = False,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds Inception-v3, for images of 299x299: 23,834,568 parameters, 27,161,264 with the auxiliary head.

    Without the last two rungs of Table 3 (factorized_7x7, bn_auxiliary) it is Inception-v2. RMSProp and label
    smoothing, the rungs between, belong to the recipe.

    Args:
      num_classes: number of classes.
      factorized_7x7: three 3x3 convolutions first; False: the 7x7 that they replace (Table 3).
      bn_auxiliary: batch normalisation also of the auxiliary head's dense layer (Table 3).
      blocks: number of A, of B and of C modules, at most 2, for small experiments; None: 3, 4 and 2.
      aux: whether to build the auxiliary classifier 'aux' on the last B module (mixed_6e); it runs in training only.
      dropout: rate of dropout before the classifier (tf-slim's; torchvision's is 0.5, Keras's 0; the paper has none).
      batch_norm_decay: decay of the running statistics (tf-slim's; Keras's is 0.99, torchvision's 0.9).
      batch_norm_scale: whether batch normalisation has gamma. torchvision's has it; tf-slim's and Keras's have not
        (23,851,784 numbers with the running statistics, Keras's total).
      count_include_pad: whether average pools count padding. torchvision's and timm's do; tf-slim's and Keras's do not.
      dtype: dtype of the computation.
    """
    aux_heads = aux_head(
        num_classes,
        after=f"mixed_6{'bcde'[:blocks][-1]}",
        batch_norm=bn_auxiliary,
        dense_init=initializers.truncated_normal(0.01),
        classifier_init=initializers.truncated_normal(0.001),
    )
    return _network(
        num_classes,
        stem=STEM if factorized_7x7 else _STEM_7X7,
        last_pool=AvgPool(3, 1, padding="SAME"),
        blocks=blocks,
        aux_heads=aux_heads if aux else (),
        dropout=dropout,
        batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3, scale=batch_norm_scale),
        count_include_pad=count_include_pad,
        dtype=dtype,
    )


def inception_v3_fid(num_classes: int = 1008, *, batch_norm_decay: Rate = 0.9997, dtype: Any = jnp.float32) -> Network:
    """Builds the network of the Frechet Inception distance, for images of 299x299: 23,850,960 parameters.

    It is the graph of 2015-12-05 as mseitzer/pytorch-fid has it (src/pytorch_fid/inception.py): 1008 classes, no
    auxiliary head, a max-pool instead of the average in mixed_7c. Its features are the end point `pool`. Its input is
    (pixel - 128) / 128.

    Args:
      num_classes: number of classes.
      batch_norm_decay: decay of the running statistics.
      dtype: dtype of the computation.
    """
    return _network(
        num_classes,
        stem=STEM,
        last_pool=MaxPool(3, 1, padding="SAME"),
        blocks=None,
        aux_heads=(),
        dropout=0.0,
        batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3),
        count_include_pad=False,
        dtype=dtype,
    )


def _network(
    num_classes: int,
    *,
    stem: Layers,
    last_pool: Unit,
    blocks: int | None,
    aux_heads: tuple[AuxHead, ...],
    dropout: float,
    batch_norm: BatchNorm,
    count_include_pad: bool,
    dtype: Any,
) -> Network:
    letters = "abcde" if blocks is None else "abc"[: 1 + blocks]  # the reductions are a
    modules = (*_MODULES, ("mixed_7c", module_c(last_pool)))
    return Network(
        layers=(
            *stem,
            ("maxpool_5a_3x3", MaxPool(3, 2)),
            *((name, module) for name, module in modules if name[-1] in letters),
            *head(num_classes, dropout=dropout),
        ),
        aux_heads=aux_heads,
        style=Style(
            conv_padding="SAME",
            pool_padding="VALID",
            kernel_init=initializers.variance_scaling(2.0, "fan_in", "truncated_normal"),  # tf-slim; the paper has none
            batch_norm=batch_norm,
            count_include_pad=count_include_pad,
        ),
        input_shape=(299, 299, 3),
        min_size=75,
        dtype=dtype,
    )

"""Inception-ResNet-v1 and Inception-ResNet-v2.

Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", 2016,
https://arxiv.org/abs/1602.07261, Figures 10 to 19. Layers have the names of the released Inception-ResNet-v2
(models/research/slim/nets/inception_resnet_v2.py of github.com/tensorflow). No weights of v1 were released. Where its
figures could not be read, this file follows davidsandberg/facenet (src/models/inception_resnet_v1.py) without the sixth
C block that facenet adds.
"""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp

from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Count, Factor, Flag, Rate
from inception_jax.models.shared import (
    STEM,
    Layers,
    aux_head,
    head,
    inception_v3_module_a,
    inception_v4_stem,
    reduction_a,
)
from inception_jax.models.units import (
    AuxHead,
    BatchNorm,
    Chain,
    Concat,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    Logits,
    MaxPool,
    Residual,
    Style,
)

# Factors on the residuals of the A, B and C blocks: tf-slim's and facenet's. The paper says 0.1 to 0.3 (section 3.3).
SCALES = (0.17, 0.10, 0.20)


def block35(*, scale: float, filters: tuple[int, int]) -> Residual:
    """Inception-ResNet-A, 35x35, Figs. 10 and 16. `filters` of the last two 3x3 are 32, 32 and 48, 64."""
    return Residual(
        Concat(
            Conv("conv1x1", 32, 1),
            Chain(Conv("conv3x3_reduce", 32, 1), Conv("conv3x3", 32, 3)),
            Chain(
                Conv("double3x3_reduce", 32, 1),
                Conv("double3x3_1", filters[0], 3),
                Conv("double3x3_2", filters[1], 3),
            ),
        ),
        projection="conv1x1_expand",
        scale=scale,
    )


def block17(*, scale: float, filters: tuple[int, int, int]) -> Residual:
    """Inception-ResNet-B, 17x17, Figs. 11 and 17. `filters` of 1x1, 1x7 and 7x1 are 128, 128, 128 and 128, 160, 192."""
    return Residual(
        Concat(
            Conv("conv1x1", filters[2], 1),
            Chain(
                Conv("conv7x7_reduce", filters[0], 1),
                Conv("conv1x7", filters[1], (1, 7)),
                Conv("conv7x1", filters[2], (7, 1)),
            ),
        ),
        projection="conv1x1_expand",
        scale=scale,
    )


def block8(*, scale: float, filters: tuple[int, int], activation: bool = True) -> Residual:
    """Inception-ResNet-C, 8x8, Figs. 13 and 19. `filters` of 1x3 and 3x1 are 192, 192 and 224, 256."""
    return Residual(
        Concat(
            Conv("conv1x1", 192, 1),
            Chain(
                Conv("conv3x3_reduce", 192, 1),
                Conv("conv1x3", filters[0], (1, 3)),
                Conv("conv3x1", filters[1], (3, 1)),
            ),
        ),
        projection="conv1x1_expand",
        scale=scale,
        activation=activation,
    )


def reduction_b(*, middle: int, last: tuple[int, int]) -> Concat:
    """17x17 to 8x8, Figs. 12 and 18. `middle` is 256 and 288; `last`, of the two last 3x3, is 256, 256 and 288, 320."""
    return Concat(
        Chain(Conv("conv3x3_reduce", 256, 1), Conv("conv3x3", 384, 3, stride=2, padding="VALID")),
        Chain(Conv("conv3x3_b_reduce", 256, 1), Conv("conv3x3_b", middle, 3, stride=2, padding="VALID")),
        Chain(
            Conv("double3x3_reduce", 256, 1),
            Conv("double3x3_1", last[0], 3),
            Conv("double3x3_2", last[1], 3, stride=2, padding="VALID"),
        ),
        MaxPool(3, 2),
    )


def inception_resnet_v1(
    num_classes: int = 1000,
    *,
    residual: Flag = True,
    residual_scale: Factor | None = None,
    blocks: Count | None = None,
    dropout: Rate = 0.2,
    batch_norm_decay: Rate = 0.9997,
    batch_norm_scale: Flag = True,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds Inception-ResNet-v1, for images of 299x299: 22,756,328 parameters.

    Args:
      num_classes: number of classes.
      residual: False: the same blocks without shortcuts, as an ablation (section 4).
      residual_scale: factor on all residuals; None: 0.17, 0.10 and 0.20 in the A, B and C blocks.
      blocks: number of A, of B and of C blocks, for small experiments; None: 5, 10 and 5.
      dropout: rate of dropout before the classifier.
      batch_norm_decay: decay of the running statistics.
      batch_norm_scale: whether batch normalisation has gamma; tf-slim's and facenet's has not.
      dtype: dtype of the computation.
    """
    a, b, c = _scales(residual_scale)
    count_a, count_b, count_c = (blocks or count for count in (5, 10, 5))
    layers: Layers = (
        *STEM,
        ("conv2d_4b_3x3", Conv("conv3x3", 256, 3, stride=2, padding="VALID")),
        *((f"block35_{i}", block35(scale=a, filters=(32, 32))) for i in range(1, count_a + 1)),
        ("mixed_6a", reduction_a(k=192, l=192, m=256, n=384)),
        *((f"block17_{i}", block17(scale=b, filters=(128, 128, 128))) for i in range(1, count_b + 1)),
        ("mixed_7a", reduction_b(middle=256, last=(256, 256))),
        *((f"block8_{i}", block8(scale=c, filters=(192, 192))) for i in range(1, count_c + 1)),
        *head(num_classes, dropout=dropout),
    )
    return _network(
        layers,
        aux_heads=(),
        residual=residual,
        batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3, scale=batch_norm_scale),
        dtype=dtype,
    )


def inception_resnet_v1_facenet(
    num_classes: int = 8631,
    *,
    dropout: Rate = 0.6,
    batch_norm_decay: Rate = 0.9,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds facenet's Inception-ResNet-v1, for faces of 160x160: 23,482,624 parameters without the classifier.

    It is that of timesler/facenet-pytorch (models/inception_resnet_v1.py): a sixth C block without activation and with
    a scale of 1, and an embedding of 512 before the classifier. The published embedding is the end point `embedding`,
    divided by its Euclidean norm.

    Args:
      num_classes: number of classes: 8631 of VGGFace2; CASIA-WebFace has 10575.
      dropout: rate of dropout before the embedding.
      batch_norm_decay: decay of the running statistics (1 - PyTorch's momentum).
      dtype: dtype of the computation.
    """
    a, b, c = SCALES
    layers: Layers = (
        *STEM,
        ("conv2d_4b_3x3", Conv("conv3x3", 256, 3, stride=2, padding="VALID")),
        *((f"block35_{i}", block35(scale=a, filters=(32, 32))) for i in range(1, 6)),
        ("mixed_6a", reduction_a(k=192, l=192, m=256, n=384)),
        *((f"block17_{i}", block17(scale=b, filters=(128, 128, 128))) for i in range(1, 11)),
        ("mixed_7a", reduction_b(middle=256, last=(256, 256))),
        *((f"block8_{i}", block8(scale=c, filters=(192, 192))) for i in range(1, 6)),
        ("block8_6", block8(scale=1.0, filters=(192, 192), activation=False)),
        ("pool", GlobalAvgPool()),
        ("dropout", Dropout(dropout)),
        ("embedding", Dense("dense", 512, batch_norm=True, activation=False)),
        ("logits", Logits("classifier", num_classes)),
    )
    network = _network(
        layers,
        aux_heads=(),
        residual=True,
        batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3),
        dtype=dtype,
    )
    return network.clone(input_shape=(160, 160, 3))


def inception_resnet_v2(
    num_classes: int = 1000,
    *,
    variant: Literal["released", "paper"] = "released",
    residual: Flag = True,
    residual_scale: Factor | None = None,
    blocks: Count | None = None,
    aux: Flag = False,
    dropout: Rate = 0.2,
    batch_norm_decay: Rate = 0.9997,
    batch_norm_scale: Flag = True,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds Inception-ResNet-v2, for images of 299x299: 55,843,464 parameters.

    Args:
      num_classes: number of classes.
      variant: 'released', or 'paper': Inception-v4's stem in the figures' order, 384, 1152 and 2144 channels (the
        figures print 1154 and 2048, which do not add up), no 1x1 convolution at the end and no special last
        block; 55,284,488 parameters. Both repeat the blocks 10, 20 and 10 times. The 5, 10, 5 of Fig. 15 (unverified)
        would cost 9.3 billion multiply-adds; the text says that the cost is that of Inception-v4, 12.3 billion.
      residual: False: the same blocks without shortcuts, as an ablation (section 4).
      residual_scale: factor on all residuals; None: 0.17, 0.10 and 0.20 in the A, B and C blocks. The last block of the
        released network always has 1 and no ReLU.
      blocks: number of A, of B and of C blocks, for small experiments; None: 10, 20 and 10.
      aux: whether to build the auxiliary classifier 'aux' on the last B block. tf-slim has it. That the figures have
        none is unverified.
      dropout: rate of dropout before the classifier.
      batch_norm_decay: decay of the running statistics.
      batch_norm_scale: whether batch normalisation has gamma; tf-slim's and Keras's has not.
      dtype: dtype of the computation.
    """
    a, b, c = _scales(residual_scale)
    count_a, count_b, count_c = (blocks or count for count in (10, 20, 10))
    start: Layers
    end: Layers
    if variant == "released":
        start = (
            *STEM,
            ("maxpool_5a_3x3", MaxPool(3, 2)),
            ("mixed_5b", inception_v3_module_a(conv1x1=96, pool_proj=64)),
        )
        end = (
            (f"block8_{count_c}", block8(scale=1.0, filters=(224, 256), activation=False)),
            ("conv2d_7b_1x1", Conv("conv1x1", 1536, 1)),
        )
    else:
        start = inception_v4_stem(kernels=((7, 1), (1, 7)))  # the order of Fig. 3
        end = ((f"block8_{count_c}", block8(scale=c, filters=(224, 256))),)
    layers: Layers = (
        *start,
        *((f"block35_{i}", block35(scale=a, filters=(48, 64))) for i in range(1, count_a + 1)),
        ("mixed_6a", reduction_a(k=256, l=256, m=384, n=384)),
        *((f"block17_{i}", block17(scale=b, filters=(128, 160, 192))) for i in range(1, count_b + 1)),
        ("mixed_7a", reduction_b(middle=288, last=(288, 320))),
        *((f"block8_{i}", block8(scale=c, filters=(224, 256))) for i in range(1, count_c)),
        *end,
        *head(num_classes, dropout=dropout),
    )
    aux_heads = aux_head(num_classes, after=f"block17_{count_b}") if aux else ()
    return _network(
        layers,
        aux_heads=aux_heads,
        residual=residual,
        batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-3, scale=batch_norm_scale),
        dtype=dtype,
    )


def _scales(residual_scale: Factor | None) -> tuple[float, float, float]:
    return SCALES if residual_scale is None else (residual_scale,) * 3


def _network(
    layers: Layers, *, aux_heads: tuple[AuxHead, ...], residual: bool, batch_norm: BatchNorm, dtype: Any
) -> Network:
    if not residual:
        layers = tuple(
            (name, dataclasses.replace(unit, shortcut=False) if isinstance(unit, Residual) else unit)
            for name, unit in layers
        )
    return Network(
        layers=layers,
        aux_heads=aux_heads,
        style=Style(
            conv_padding="SAME",
            pool_padding="VALID",
            kernel_init=initializers.glorot_uniform(),
            batch_norm=batch_norm,
            count_include_pad=False,
        ),
        input_shape=(299, 299, 3),
        min_size=75,
        dtype=dtype,
    )

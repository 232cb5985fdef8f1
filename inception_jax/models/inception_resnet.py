"""Inception-ResNet-v1 and Inception-ResNet-v2.

Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", 2016,
https://arxiv.org/abs/1602.07261, Figures 10 to 19. Layers bear the names of the released Inception-ResNet-v2
(models/research/slim/nets/inception_resnet_v2.py of github.com/tensorflow). Of v1 no weights were released; where its
figures could not be read, davidsandberg/facenet (src/models/inception_resnet_v1.py) is followed, but for the sixth C
block that it adds.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from inception_jax.errors import choose
from inception_jax.models import inception_v4, initializers
from inception_jax.models.inception_v3 import STEM, aux_head, head, module_a, reduction_a
from inception_jax.models.network import Network
from inception_jax.models.units import (
    BatchNorm,
    Chain,
    Concat,
    Conv,
    MaxPool,
    Residual,
    Style,
)

# Factors on the residuals of the A, B and C blocks: tf-slim's and facenet's. The paper says 0.1 to 0.3 (section 3.3).
SCALES = (0.17, 0.10, 0.20)


def block35(scale: float, filters: tuple[int, int]) -> Residual:
    """Inception-ResNet-A, 35x35, Figs. 10 and 16. `filters` are those of the last two 3x3: 32, 32 and 48, 64."""
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
        expand="conv1x1_expand",
        scale=scale,
    )


def block17(scale: float, filters: tuple[int, int, int]) -> Residual:
    """Inception-ResNet-B, 17x17, Figs. 11 and 17: `filters` are 128, 128, 128 and 128, 160, 192."""
    return Residual(
        Concat(
            Conv("conv1x1", filters[2], 1),
            Chain(
                Conv("conv7x7_reduce", filters[0], 1),
                Conv("conv1x7", filters[1], (1, 7)),
                Conv("conv7x1", filters[2], (7, 1)),
            ),
        ),
        expand="conv1x1_expand",
        scale=scale,
    )


def block8(scale: float, filters: tuple[int, int], activation: bool = True) -> Residual:
    """Inception-ResNet-C, 8x8, Figs. 13 and 19: `filters` of 1x3 and 3x1 are 192, 192 and 224, 256."""
    return Residual(
        Concat(
            Conv("conv1x1", 192, 1),
            Chain(
                Conv("conv3x3_reduce", 192, 1),
                Conv("conv1x3", filters[0], (1, 3)),
                Conv("conv3x1", filters[1], (3, 1)),
            ),
        ),
        expand="conv1x1_expand",
        scale=scale,
        activation=activation,
    )


def reduction_b(middle: int, last: tuple[int, int]) -> Concat:
    """17x17 to 8x8, Figs. 12 and 18: `middle` and `last` are 256; 256, 256 and 288; 288, 320."""
    return Concat(
        Chain(Conv("conv3x3_reduce", 256, 1), Conv("conv3x3", 384, 3, 2, "VALID")),
        Chain(Conv("conv3x3_b_reduce", 256, 1), Conv("conv3x3_b", middle, 3, 2, "VALID")),
        Chain(
            Conv("double3x3_reduce", 256, 1),
            Conv("double3x3_1", last[0], 3),
            Conv("double3x3_2", last[1], 3, 2, "VALID"),
        ),
        MaxPool(3, 2),
    )


def inception_resnet_v1(
    num_classes: int = 1000,
    *,
    residual: bool = True,
    residual_scale: float | None = None,
    blocks: int | None = None,
    dropout: float = 0.2,
    batch_norm_decay: float = 0.9997,
    batch_norm_scale: bool = True,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds Inception-ResNet-v1, for images of 299x299: 22,756,328 parameters.

    Args:
      num_classes: number of classes.
      residual: False: the same blocks without shortcuts, to see what they are worth (section 4).
      residual_scale: factor on all residuals; None: 0.17, 0.10 and 0.20 in the A, B and C blocks.
      blocks: number of A, of B and of C blocks, for small experiments; None: 5, 10 and 5.
      dropout: share dropped before the classifier.
      batch_norm_decay: of the running statistics.
      batch_norm_scale: whether batch normalisation has gamma; tf-slim's and facenet's has not.
      dtype: of the computation.
    """
    a, b, c = _scales(residual_scale)
    count_a, count_b, count_c = (blocks or count for count in (5, 10, 5))
    layers = (
        *STEM,
        ("conv2d_4b_3x3", Conv("conv3x3", 256, 3, 2, "VALID")),
        *((f"block35_{i}", block35(a, (32, 32))) for i in range(1, count_a + 1)),
        ("mixed_6a", reduction_a(192, 192, 256, 384)),
        *((f"block17_{i}", block17(b, (128, 128, 128))) for i in range(1, count_b + 1)),
        ("mixed_7a", reduction_b(256, (256, 256))),
        *((f"block8_{i}", block8(c, (192, 192))) for i in range(1, count_c + 1)),
        *head(num_classes, dropout),
    )
    return _network(layers, (), residual, batch_norm_decay, batch_norm_scale, dtype)


def inception_resnet_v2(
    num_classes: int = 1000,
    *,
    variant: str = "released",
    residual: bool = True,
    residual_scale: float | None = None,
    blocks: int | None = None,
    aux: bool = False,
    dropout: float = 0.2,
    batch_norm_decay: float = 0.9997,
    batch_norm_scale: bool = True,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds Inception-ResNet-v2, for images of 299x299: 55,843,464 parameters.

    Args:
      num_classes: number of classes.
      variant: 'released', or 'paper': Inception-v4's stem in the figures' order, 384, 1152 and 2144 channels (the
        figures print 1154 and 2048, which do not add up), no 1x1 convolution at the end and no special last
        block; 55,284,488 parameters. Both repeat the blocks 10, 20 and 10 times; the 5, 10, 5 of Fig. 15 (unverified)
        would cost 9.3 billion multiply-adds, where the text says that the cost is that of Inception-v4, 12.3 billion.
      residual: False: the same blocks without shortcuts, to see what they are worth (section 4).
      residual_scale: factor on all residuals; None: 0.17, 0.10 and 0.20 in the A, B and C blocks. The last block of the
        released network has 1 and no ReLU whatever it is.
      blocks: number of A, of B and of C blocks, for small experiments; None: 10, 20 and 10.
      aux: whether the auxiliary classifier 'aux' (on the last B block) is there; tf-slim has it; that
        the figures have not is unverified.
      dropout: share dropped before the classifier.
      batch_norm_decay: of the running statistics.
      batch_norm_scale: whether batch normalisation has gamma; tf-slim's and Keras's has not.
      dtype: of the computation.
    """
    a, b, c = _scales(residual_scale)
    count_a, count_b, count_c = (blocks or count for count in (10, 20, 10))
    if choose("variant", variant, {"released": True, "paper": False}):
        start = (*STEM, ("maxpool_5a_3x3", MaxPool(3, 2)), ("mixed_5b", module_a(96, 64)))
        end = (
            (f"block8_{count_c}", block8(1.0, (224, 256), activation=False)),
            ("conv2d_7b_1x1", Conv("conv1x1", 1536, 1)),
        )
    else:
        start = inception_v4.stem(inception_v4.ORDERS["figures"])
        end = ((f"block8_{count_c}", block8(c, (224, 256))),)
    layers = (
        *start,
        *((f"block35_{i}", block35(a, (48, 64))) for i in range(1, count_a + 1)),
        ("mixed_6a", reduction_a(256, 256, 384, 384)),
        *((f"block17_{i}", block17(b, (128, 160, 192))) for i in range(1, count_b + 1)),
        ("mixed_7a", reduction_b(288, (288, 320))),
        *((f"block8_{i}", block8(c, (224, 256))) for i in range(1, count_c)),
        *end,
        *head(num_classes, dropout),
    )
    heads = aux_head(num_classes, f"block17_{count_b}") if aux else ()
    return _network(layers, heads, residual, batch_norm_decay, batch_norm_scale, dtype)


def _scales(residual_scale: float | None) -> tuple[float, float, float]:
    return SCALES if residual_scale is None else (residual_scale,) * 3


def _network(layers, aux_heads, residual, decay, scale, dtype) -> Network:
    return Network(
        layers=tuple(
            (name, dataclasses.replace(unit, adds=residual) if isinstance(unit, Residual) else unit)
            for name, unit in layers
        ),
        aux_heads=aux_heads,
        style=Style(
            conv_padding="SAME",
            pool_padding="VALID",
            kernel_init=initializers.glorot_uniform(),
            batch_norm=BatchNorm(decay, epsilon=1e-3, scale=scale),
            count_include_pad=False,
        ),
        native=(299, 299, 3),
        smallest=75,
        dtype=dtype,
    )

"""VGG.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
https://arxiv.org/abs/1409.1556, Table 1. VGG16-GAP is that of Zhou et al., "Learning Deep Features for Discriminative
Localization", 2015, https://arxiv.org/abs/1512.04150, section 3 (zhoubolei/CAM, models/deploy_vgg16CAM.prototxt).
"""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp

from inception_jax.errors import UserError
from inception_jax.models import initializers
from inception_jax.models.network import Network
from inception_jax.models.options import Count, Rate
from inception_jax.models.units import (
    AverageLogits,
    BatchNorm,
    Boxes,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    LocalResponseNorm,
    Logits,
    MaxPool,
    Style,
    Unit,
)

# Table 1: the kernels of each stage's convolutions. Each stage ends with a max-pool of 2x2/2.
# fmt: off
TABLE_1 = {
    #     64      128     256           512           512
    "a": ((3,),   (3,),   (3, 3),       (3, 3),       (3, 3)),
    "b": ((3, 3), (3, 3), (3, 3),       (3, 3),       (3, 3)),
    "c": ((3, 3), (3, 3), (3, 3, 1),    (3, 3, 1),    (3, 3, 1)),
    "d": ((3, 3), (3, 3), (3, 3, 3),    (3, 3, 3),    (3, 3, 3)),
    "e": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
# fmt: on
FILTERS = (64, 128, 256, 512, 512)

# Of convolutions and of dense layers; None: the same.
_INITS: dict[str, tuple[Callable, Callable | None]] = {
    "glorot": (initializers.glorot_uniform(), None),
    "normal": (initializers.normal(0.1), None),
    "torchvision": (initializers.variance_scaling(2.0, "fan_out", "normal"), initializers.normal(0.01)),
}


def vgg(
    configuration: str,
    norm: str,
    num_classes: int = 1000,
    *,
    dropout: Rate = 0.5,
    init: Literal["glorot", "normal", "torchvision"] = "glorot",
    dense_window: Count | None = None,
    boxes: Literal["none", "single", "per_class"] = "none",
    batch_norm_decay: Rate = 0.9,
    dtype: Any = jnp.float32,
) -> Network:
    """Builds a VGG, for images of 224x224; end points conv1_1 to pool5, fc6 to fc8.

    Parameters in millions, as in the paper's Table 2: A and A-LRN 133, B 133, C 134, D 138, E 144; exactly in
    tests/models/test_counts.py. fc6 has 103 million of them at 224x224 and grows with the image.

    Args:
      configuration: the column of Table 1.
      norm: 'none', 'lrn' (LRN after conv1_1, column A-LRN; AlexNet's constants, as the paper says) or 'batch' (batch
        normalisation of convolutions, beside their biases: torchvision's, not in the paper).
      num_classes: number of classes.
      dropout: rate of dropout after fc6 and after fc7.
      init: 'glorot' (which the authors found later, so that no shallow network need be trained first), 'normal' (the
        paper's: variance 0.01) or 'torchvision', the default with batch normalisation: He's by fan-out in
        convolutions, a standard deviation of 0.01 in dense layers.
      dense_window: for dense evaluation (section 3.2), size of the window as which fc6 slides over the last grid; the
        scores are averaged over the places. 7 has the parameters of a network for 224x224. None: fc6 sees the whole
        grid.
      boxes: for localisation (appendix A), what fc8 predicts in place of class scores: 'single', one box whatever the
        class (SCR), or 'per_class', a box for each class (PCR); see `units.Boxes`.
      batch_norm_decay: decay of the running statistics, with batch normalisation.
      dtype: dtype of the computation.

    Raises:
      UserError: boxes with a `dense_window`.
    """
    if boxes != "none" and dense_window is not None:
        raise UserError(f"boxes={boxes!r} are of one crop: set dense_window to None")
    conv_init, dense_init = _INITS[init]
    layers: list[tuple[str, Unit]] = []
    for stage, (kernels, filters) in enumerate(zip(TABLE_1[configuration], FILTERS, strict=True), start=1):
        for i, kernel in enumerate(kernels, start=1):
            layers.append((f"conv{stage}_{i}", Conv(f"conv{kernel}x{kernel}", filters, kernel)))
            if norm == "lrn" and stage == 1:
                layers.append(("norm1", LocalResponseNorm(k=2.0)))
        layers.append((f"pool{stage}", MaxPool(2, 2)))
    slide = None if dense_window is None else 1
    last: Unit = Logits("classifier", num_classes, window=slide, kernel_init=dense_init)
    if boxes != "none":
        last = Boxes("boxes", num_classes if boxes == "per_class" else 1, kernel_init=dense_init)
    layers += [
        ("fc6", Dense("dense", 4096, window=dense_window, kernel_init=dense_init)),
        ("dropout6", Dropout(dropout)),
        ("fc7", Dense("dense", 4096, window=slide, kernel_init=dense_init)),
        ("dropout7", Dropout(dropout)),
        ("fc8", last),
    ]
    if dense_window is not None:
        layers.append(("average", AverageLogits()))
    return Network(
        layers=tuple(layers),
        style=Style(
            conv_padding="SYMMETRIC",
            pool_padding="VALID",
            kernel_init=conv_init,
            batch_norm=BatchNorm(batch_norm_decay, epsilon=1e-5) if norm == "batch" else None,
            conv_bias=True,
        ),
        input_shape=(224, 224, 3),
        min_size=32 * (dense_window or 1),
        dtype=dtype,
    )


def vgg_d_gap(num_classes: int = 1000, *, dropout: Rate = 0.5, dtype: Any = jnp.float32) -> Network:
    """Builds VGG16-GAP, for images of 224x224: 18,100,008 parameters.

    What follows conv5_3 is replaced by a 3x3 convolution of 1024 filters in two groups on 14x14 cells, their mean and
    the classifier.

    Args:
      num_classes: number of classes.
      dropout: rate of dropout before the classifier.
      dtype: dtype of the computation.
    """
    below = vgg("d", "none")
    end = [name for name, _ in below.layers].index("pool5")
    cam = Conv("conv3x3", 1024, 3, groups=2, kernel_init=initializers.normal(0.01))
    return Network(
        layers=(
            *below.layers[:end],
            ("cam_conv", cam),
            ("cam_pool", GlobalAvgPool()),
            ("dropout", Dropout(dropout)),
            ("cam_fc", Logits("classifier", num_classes)),
        ),
        style=below.style,
        input_shape=(224, 224, 3),
        min_size=16,
        dtype=dtype,
    )

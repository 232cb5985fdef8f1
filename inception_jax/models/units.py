"""The units of which all networks are made, as data.

A model file states its network as the paper's table does: a sequence of named layers, each a unit of this vocabulary.
`network.Network` runs that description. `trace` and `summary` derive all figures from it.

Where a unit leaves an option at None, the network's `Style` sets it.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn

from inception_jax import ops
from inception_jax.models import initializers


@dataclasses.dataclass(frozen=True)
class Conv:
    """Convolution, then bias or batch normalisation, then the activation.

    Attributes:
      name: name of its parameters; those of its batch normalisation are in `<name>_bn`.
      features: number of filters.
      kernel: size of the kernel, or (height, width).
      stride: stride of both dimensions.
      padding: a rule of `ops.explicit_padding`.
      groups: number of groups of channels and filters; each group is convolved on its own.
      batch_norm: False: a bias instead of batch normalisation, even where the network normalises.
      activation: False: no activation, the unit is linear.
      kernel_init: initialiser of the kernel.
      bias_init: initialiser of the bias.
    """

    name: str
    features: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padding: str | int | None = None
    groups: int = 1
    batch_norm: bool = True
    activation: bool = True
    kernel_init: Callable | None = None
    bias_init: Callable | None = None


@dataclasses.dataclass(frozen=True)
class DepthwiseConv:
    """Convolution of each channel with `multiplier` filters of its own; linear, no bias.

    With a 1x1 `Conv` after it, it is a separable convolution.
    """

    name: str
    multiplier: int
    kernel: int
    stride: int
    kernel_init: Callable | None = None


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Maximum over window x window cells."""

    window: int
    stride: int
    padding: str | int | None = None


@dataclasses.dataclass(frozen=True)
class AvgPool:
    """Mean over window x window cells; `Style.count_include_pad` says whether padding counts.

    With VALID padding the window is clipped to the grid, if the grid is smaller.
    """

    window: int
    stride: int
    padding: str = "VALID"


@dataclasses.dataclass(frozen=True)
class AdaptiveAvgPool:
    """Mean over size x size windows laid evenly over the whole grid, as in PyTorch."""

    size: int


@dataclasses.dataclass(frozen=True)
class GlobalAvgPool:
    """Mean over the whole grid, which becomes 1 x 1."""


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm:
    """Normalisation across channels (`ops.local_response_norm`); with `groups`, within each group of channels."""

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0
    groups: int = 1


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Zeroes a fraction `rate` of the values in training."""

    rate: float


@dataclasses.dataclass(frozen=True)
class Dense:
    """Fully connected layer, then bias (or batch normalisation, if `batch_norm`), then the activation.

    Without `window` it sees the flattened input. With `window` it slides over the grid as a window of that size; its
    parameters are those of the layer on a grid of that size. `activation` False: the layer is linear.
    """

    name: str
    features: int
    window: int | None = None
    batch_norm: bool = False
    activation: bool = True
    kernel_init: Callable | None = None
    bias_init: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Logits:
    """Fully connected layer with a bias, initially 0: class scores, always in float32. `window` as in `Dense`."""

    name: str
    num_classes: int
    window: int | None = None
    activation: bool = False
    kernel_init: Callable | None = None


@dataclasses.dataclass(frozen=True)
class AverageLogits:
    """Mean over a grid of class scores, [N, H, W, classes] to [N, classes]."""


@dataclasses.dataclass(frozen=True)
class Custom:
    """A linen module of the network's own, run as `module(dtype=..., name=...)(x, train)`."""

    name: str
    module: Callable[..., nn.Module]


@dataclasses.dataclass(frozen=True)
class Chain:
    """Units one after another."""

    units: tuple["Unit", ...]

    def __init__(self, *units: "Unit"):
        object.__setattr__(self, "units", units)


@dataclasses.dataclass(frozen=True)
class Concat:
    """Branches on the same input, joined on the channels in the order written."""

    branches: tuple["Unit", ...]

    def __init__(self, *branches: "Unit"):
        object.__setattr__(self, "branches", branches)


@dataclasses.dataclass(frozen=True)
class Residual:
    """activation(shortcut(x) + scale * projection(branch(x))).

    Attributes:
      branch: the residual.
      shortcut: True: the input itself; a unit: its output; False: no shortcut and no scale, as an ablation.
      projection: name of a linear 1x1 convolution with bias, which gives the branch as many channels as the shortcut
        has; None: the branch has them already.
      scale: factor on the residual.
      activation: False: no activation after the sum.
    """

    branch: "Unit"
    shortcut: "Unit | bool" = True
    projection: str | None = None
    scale: float = 1.0
    activation: bool = True


Unit = (
    Conv
    | DepthwiseConv
    | MaxPool
    | AvgPool
    | AdaptiveAvgPool
    | GlobalAvgPool
    | LocalResponseNorm
    | Dropout
    | Dense
    | Logits
    | AverageLogits
    | Custom
    | Chain
    | Concat
    | Residual
)


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Constants of batch normalisation.

    Attributes:
      decay: decay of the running statistics (Flax's `momentum`).
      epsilon: number added to the variance.
      scale: whether a trained factor (gamma) stands beside the trained offset (beta).
    """

    decay: float
    epsilon: float
    scale: bool = True


@dataclasses.dataclass(frozen=True)
class Style:
    """Options that all units of one network share.

    Attributes:
      conv_padding: rule of `ops.explicit_padding` for convolutions.
      pool_padding: rule of `ops.explicit_padding` for max-pools.
      kernel_init: initialiser of kernels.
      bias_init: initialiser of biases; those of `Logits` are always 0 at first.
      activation: activation after each convolution and dense layer.
      max_pool: max-pool of inference; training has `ops.max_pool_in_training`.
      batch_norm: batch normalisation after each convolution; None: biases instead.
      conv_bias: whether convolutions keep their bias beside batch normalisation.
      count_include_pad: whether average pools count padding in the divisor.
    """

    conv_padding: str
    pool_padding: str
    kernel_init: Callable
    bias_init: Callable = initializers.zeros
    activation: Callable = ops.relu
    max_pool: Callable = ops.max_pool
    batch_norm: BatchNorm | None = None
    conv_bias: bool = False
    count_include_pad: bool = False


@dataclasses.dataclass(frozen=True)
class AuxHead:
    """An auxiliary classifier on the output of the layer named `after`. It runs in training only."""

    name: str
    after: str
    unit: Unit

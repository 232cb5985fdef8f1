"""The units that all networks are made of, as data.

A model file states its network as the paper's table does: a sequence of named layers, each a unit of this vocabulary.
`network.Network` runs that description, and what is said about a network is derived from the network that results.

Options that a unit leaves at None are its network's own, set in one place of its file (`Style`).
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
      name: of its parameters; those of its batch normalisation are in `<name>_bn`.
      features: number of filters.
      kernel: size, or (height, width).
      stride: of both dimensions.
      padding: a rule of `ops.explicit_padding`.
      groups: the input's channels and the filters are split into so many groups, each convolved on its own.
      batch_norm: whether it is normalised where its network is; False: it has a bias instead.
      activation: False: none, the unit is linear.
      kernel_init, bias_init: initialisers.
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
    """`multiplier` filters on each channel alone; linear, no bias. Before a 1x1 `Conv`: a separable convolution."""

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

    With VALID padding the window is clipped to a grid that is smaller.
    """

    window: int
    stride: int
    padding: str = "VALID"


@dataclasses.dataclass(frozen=True)
class AdaptiveAvgPool:
    """Mean over size x size windows that are laid over the whole grid, as PyTorch lays them."""

    size: int


@dataclasses.dataclass(frozen=True)
class GlobalAvgPool:
    """Mean over the whole grid, which stays as 1 x 1."""


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
    """Zeroes a share `rate` of the values in training."""

    rate: float


@dataclasses.dataclass(frozen=True)
class Dense:
    """Fully connected layer, bias (or batch normalisation, if `batch_norm`), activation.

    Without `window` it sees the flattened input; with it, it slides over the grid as a window of that size, with the
    very parameters that it has on a grid of that size.
    """

    name: str
    features: int
    window: int | None = None
    batch_norm: bool = False
    kernel_init: Callable | None = None
    bias_init: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Fully connected layer with bias, initially 0: class scores, always in float32. `window` as in `Dense`."""

    name: str
    num_classes: int
    window: int | None = None
    activation: bool = False
    kernel_init: Callable | None = None


@dataclasses.dataclass(frozen=True)
class ScoreAverage:
    """Mean over a grid of class scores, [N, H, W, classes] to [N, classes]: the logits."""


@dataclasses.dataclass(frozen=True)
class Custom:
    """A linen module of the network's own: `module(name=..., dtype=...)(x)`."""

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
    """activation(shortcut(x) + scale * expand(branch(x))).

    Attributes:
      branch: the residual.
      shortcut: None: the input itself.
      expand: the name of a linear 1x1 convolution with bias that gives the branch as many channels as the input has;
        None: the branch has them already.
      scale: factor on the residual.
      activation: False: the sum is the result.
      adds: False: there is no shortcut, activation(expand(branch(x))), to see what it is worth.
    """

    branch: "Unit"
    shortcut: "Unit | None" = None
    expand: str | None = None
    scale: float = 1.0
    activation: bool = True
    adds: bool = True


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
    | Classifier
    | ScoreAverage
    | Custom
    | Chain
    | Concat
    | Residual
)


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation's constants. `decay` is that of the running statistics (Flax's `momentum`).

    `scale`: whether it has a trained factor (gamma) beside its trained offset (beta).
    """

    decay: float
    epsilon: float
    scale: bool = True


@dataclasses.dataclass(frozen=True)
class Style:
    """What all units of one network have in common, set in one place of its file.

    Attributes:
      conv_padding, pool_padding: rules of `ops.explicit_padding`, of convolutions and of max-pools.
      kernel_init, bias_init: initialisers; classifiers start with biases of 0 whatever `bias_init` is.
      activation: after each convolution and dense layer.
      batch_norm: None: convolutions have biases instead.
      conv_bias: whether convolutions keep their bias beside batch normalisation.
      count_include_pad: whether average pools count padding in the divisor.
    """

    conv_padding: str
    pool_padding: str
    kernel_init: Callable
    bias_init: Callable = initializers.zeros
    activation: Callable = ops.relu
    batch_norm: BatchNorm | None = None
    conv_bias: bool = False
    count_include_pad: bool = False


@dataclasses.dataclass(frozen=True)
class AuxHead:
    """An auxiliary classifier on the output of the layer named `after`; it exists for training alone."""

    name: str
    after: str
    unit: Unit

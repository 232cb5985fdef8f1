"""The units that all networks are made of, as data, and the one module that runs them.

A model file states its network as the paper's table does: a sequence of named layers, each a unit of this
vocabulary. `Network` turns that description into a linen module, and everything that is said about a network (its
parameters, end points, multiply-adds) is derived from the same description.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax import ops
from inception_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Conv:
    """Convolution, then bias or batch normalisation, then ReLU.

    `kernel` is a size or (height, width); `padding` is the style's unless given (see `ops.explicit_padding`).
    """

    name: str
    features: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padding: str | None = None


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Maximum over window x window cells; `padding` is the style's unless given."""

    window: int
    stride: int
    padding: str | None = None


@dataclasses.dataclass(frozen=True)
class AvgPool:
    """Mean over window x window cells, nothing padded. The window is clipped to a grid that is smaller."""

    window: int
    stride: int


@dataclasses.dataclass(frozen=True)
class GlobalAvgPool:
    """Mean over the whole grid, which stays as 1 x 1."""


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm:
    """Normalisation across channels, with Caffe's constants (`ops.local_response_norm`)."""


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Zeroes a share `rate` of the values in training."""

    rate: float


@dataclasses.dataclass(frozen=True)
class Dense:
    """Fully connected layer on the flattened input, bias, ReLU."""

    name: str
    features: int


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Fully connected layer on the flattened input with bias initialised to 0: logits, always in float32."""

    name: str
    num_classes: int


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


Unit = Conv | MaxPool | AvgPool | GlobalAvgPool | LocalResponseNorm | Dropout | Dense | Classifier | Chain | Concat


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation's constants. `decay` is that of the running statistics (Flax's `momentum`)."""

    decay: float
    epsilon: float
    scale: bool = True


@dataclasses.dataclass(frozen=True)
class Style:
    """What all units of one network have in common, set in one place of its file.

    With `batch_norm` convolutions have no bias of their own.
    """

    conv_padding: str
    pool_padding: str
    kernel_init: Callable
    bias_init: Callable
    batch_norm: BatchNorm | None = None


@dataclasses.dataclass(frozen=True)
class AuxHead:
    """An auxiliary classifier on the output of the layer named `after`; it exists for training alone."""

    name: str
    after: str
    unit: Unit


class Block(nn.Module):
    """Runs one unit, with all it contains, in a scope of its own: `inception_4a/conv5x5_reduce/kernel`."""

    unit: Unit
    style: Style
    dtype: Any
    batch_norm_axis: str | None

    @nn.compact
    def __call__(self, x, train: bool):  # noqa: D102
        return self._run(self.unit, x, train)

    def _run(self, unit: Unit, x, train: bool):
        match unit:
            case Chain(units):
                for part in units:
                    x = self._run(part, x, train)
                return x
            case Concat(branches):
                return jnp.concatenate([self._run(branch, x, train) for branch in branches], axis=-1)
            case Conv():
                return self._convolve(unit, x, train)
            case MaxPool(window, stride, padding):
                return ops.max_pool(x, window, stride, padding or self.style.pool_padding)
            case AvgPool(window, stride):
                return ops.avg_pool(x, min(window, *x.shape[1:3]), stride, "VALID", count_include_pad=False)
            case GlobalAvgPool():
                return jnp.mean(x, axis=(1, 2), keepdims=True)
            case LocalResponseNorm():
                return ops.local_response_norm(x)
            case Dropout(rate):
                return nn.Dropout(rate, deterministic=not train)(x)
            case Dense(name, features):
                dense = nn.Dense(
                    features,
                    dtype=self.dtype,
                    kernel_init=self.style.kernel_init,
                    bias_init=self.style.bias_init,
                    name=name,
                )
                return nn.relu(dense(x.reshape(x.shape[0], -1)))
            case Classifier(name, num_classes):
                dense = nn.Dense(num_classes, dtype=jnp.float32, kernel_init=self.style.kernel_init, name=name)
                return dense(x.reshape(x.shape[0], -1).astype(jnp.float32))
        raise TypeError(f"{unit!r} is no unit of a network")

    def _convolve(self, unit: Conv, x, train: bool):
        kernel = (unit.kernel, unit.kernel) if isinstance(unit.kernel, int) else unit.kernel
        style = self.style
        x = nn.Conv(
            unit.features,
            kernel,
            strides=unit.stride,
            padding=ops.explicit_padding(x.shape[1:3], kernel, unit.stride, unit.padding or style.conv_padding),
            use_bias=style.batch_norm is None,
            dtype=self.dtype,
            kernel_init=style.kernel_init,
            bias_init=style.bias_init,
            name=unit.name,
        )(x)
        if style.batch_norm is not None:
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=style.batch_norm.decay,
                epsilon=style.batch_norm.epsilon,
                use_scale=style.batch_norm.scale,
                dtype=self.dtype,
                axis_name=self.batch_norm_axis,
                name=f"{unit.name}_bn",
            )(x)
        return nn.relu(x)


class Network(nn.Module):
    """A classifier: named layers one after another, the last one giving the logits, and its auxiliary heads.

    Attributes:
      layers: (name, unit) in order.
      aux_heads: the auxiliary classifiers; () where there are none.
      style: what the units have in common.
      smallest: the smallest height and width of an image for which the arithmetic works.
      dtype: of the computation; parameters, batch statistics and logits are float32 always.
      batch_norm_axis: name of the mapped axis over which batch statistics are taken; None: of each device's own batch.
    """

    layers: tuple[tuple[str, Unit], ...]
    style: Style
    smallest: int
    aux_heads: tuple[AuxHead, ...] = ()
    dtype: Any = jnp.float32
    batch_norm_axis: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Classifies `images` [N, H, W, C], already normalised.

        Returns the logits, float32 [N, classes], and the end points: the output of each layer by its name, and with
        `train` the logits of each auxiliary head by its name. Dropout draws from the 'dropout' random stream;
        batch normalisation updates the 'batch_stats' collection.
        """
        if min(images.shape[1:3]) < self.smallest:
            height, width = images.shape[1:3]
            raise UserError(f"images of {height}x{width} are too small for this network: {self.smallest} at least")
        x = images.astype(self.dtype)
        end_points = {}
        for name, unit in self.layers:
            x = end_points[name] = self._block(name, unit, x, train)
            for head in self.aux_heads:
                # Initialisation makes every parameter, whatever `train` is.
                if head.after == name and (train or self.is_initializing()):
                    end_points[head.name] = self._block(head.name, head.unit, x, train)
        return x, end_points

    def _block(self, name: str, unit: Unit, x, train: bool):
        return Block(unit, self.style, self.dtype, self.batch_norm_axis, name=name)(x, train)

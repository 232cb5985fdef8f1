"""The linen modules that run all networks."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from inception_jax import ops
from inception_jax.errors import UserError
from inception_jax.models.units import (
    AdaptiveAvgPool,
    AuxHead,
    AverageLogits,
    AvgPool,
    Boxes,
    Chain,
    Concat,
    Conv,
    Custom,
    Dense,
    DepthwiseConv,
    Dropout,
    GlobalAvgPool,
    LocalResponseNorm,
    Logits,
    MaxPool,
    Residual,
    Style,
    Unit,
)

_PRODUCT = "product"  # name of the outputs of convolutions and dense layers, for `Recompute`


@dataclasses.dataclass(frozen=True)
class Recompute:
    """What the backward pass of a layer computes again instead of keeping it from the forward pass.

    Attributes:
      meaning: what is kept, and what is computed again.
      policy: policy of `jax.checkpoint`, which tells the values to keep besides the layer's input; None: keep none.
      names: whether the policy reads the name `_PRODUCT`.
    """

    meaning: str
    policy: Callable | None = None
    names: bool = False


# Values of `Network.recompute`; the first one keeps all that the gradients need.
RECOMPUTE = {
    "nothing": Recompute("keep all that the gradients need"),
    "activations": Recompute(
        "keep the outputs of convolutions and dense layers; compute normalisation, activation and pooling again",
        policy=jax.checkpoint_policies.save_only_these_names(_PRODUCT),
        names=True,
    ),
    "blocks": Recompute("keep the inputs of the layers; compute each layer again"),
}


class Block(nn.Module):
    """Runs one unit and its parts in a scope of its own: `inception_4a/conv5x5_reduce/kernel`."""

    unit: Unit
    style: Style
    dtype: Any
    batch_norm_axis: str | None
    batch_statistics: bool | None = None
    names_products: bool = False

    @nn.compact
    def __call__(self, x, train: bool):  # noqa: D102
        return self._run(self.unit, x, train)

    def _run(self, unit: Unit, x, train: bool, first: Mapping[str, jax.Array] = MappingProxyType({})):
        """Runs a unit on `x`; `first` are linear outputs of convolutions, by name, that are known already."""
        style = self.style
        match unit:
            case Chain((AvgPool() as average, Conv() as conv, *rest)) if self._commute(average, conv):
                return self._run(Chain(*rest), self._convolve(conv, x, train, first, average), train)
            case Chain(units):
                for part in units:
                    x = self._run(part, x, train, first)
                return x
            case Concat(branches):
                first = self._first_products(branches, x, train)
                outputs = [self._run(branch, x, train, first) for branch in branches]
                grids = dict.fromkeys("x".join(map(str, output.shape[1:3])) for output in outputs)
                if len(grids) > 1:  # padded by different rules
                    found = " and ".join(grids)
                    raise UserError(f"this size of images does not work: the branches of {self.name} give {found}")
                return jnp.concatenate(outputs, axis=-1)
            case Residual():
                return self._add(unit, x, train)
            case Conv():
                return self._convolve(unit, x, train, first)
            case DepthwiseConv(name, multiplier, kernel, stride, kernel_init):
                channels = x.shape[-1]
                options = {"stride": stride, "groups": channels, "kernel_init": kernel_init}
                return self._linear_conv(Conv(name, multiplier * channels, kernel, **options), x, train, use_bias=False)
            case MaxPool(window, stride, padding):
                pool = ops.max_pool_in_training if train else style.max_pool
                return pool(x, window, stride, style.pool_padding if padding is None else padding)
            case AvgPool(window, stride, padding):
                if padding == "VALID":
                    window = min(window, *x.shape[1:3])
                return ops.avg_pool(x, window, stride, padding, style.count_include_pad)
            case AdaptiveAvgPool(size):
                return ops.adaptive_avg_pool(x, size)
            case GlobalAvgPool():
                return jnp.mean(x, axis=(1, 2), keepdims=True)
            case LocalResponseNorm(size, alpha, beta, k, groups):
                parts = [ops.local_response_norm(part, size, alpha, beta, k) for part in jnp.split(x, groups, axis=-1)]
                return jnp.concatenate(parts, axis=-1)
            case Dropout(rate):
                return nn.Dropout(rate, deterministic=not train)(x)
            case Dense(name=name, features=features, batch_norm=normalize):
                bias_init = unit.bias_init or style.bias_init
                x = self._dense(unit, x, features, use_bias=not normalize, bias_init=bias_init, dtype=self.dtype)
                x = self._normalize(x, name, train) if normalize else x
                return style.activation(x) if unit.activation else x
            case Logits(num_classes=num_classes, activation=activation):
                zeros = nn.initializers.zeros
                x = self._dense(unit, x, num_classes, use_bias=True, bias_init=zeros, dtype=jnp.float32)
                return style.activation(x) if activation else x
            case Boxes(count=count):
                zeros = nn.initializers.zeros
                x = self._dense(unit, x, 4 * count, use_bias=True, bias_init=zeros, dtype=jnp.float32)
                return x.reshape(-1, count, 4)
            case AverageLogits():
                return jnp.mean(x, axis=(1, 2))
            case Custom(name, module):
                return module(dtype=self.dtype, name=name)(x, train)
        raise TypeError(f"{unit!r} is no unit of a network")

    def _add(self, unit: Residual, x, train: bool):
        shortcut = x if isinstance(unit.shortcut, bool) else self._run(unit.shortcut, x, train)
        residual = self._run(unit.branch, x, train)
        if unit.projection is not None:
            residual = self._linear_conv(Conv(unit.projection, shortcut.shape[-1], 1), residual, train, use_bias=True)
        total = residual if unit.shortcut is False else shortcut + unit.scale * residual
        return self.style.activation(total) if unit.activation else total

    def _commute(self, pool: AvgPool, conv: Conv) -> bool:
        """Returns whether the pool may follow the linear convolution: one mixes cells, the other channels.

        The convolutions of the networks leave fewer channels, so the pool then reads and writes less. A mean leaves a
        bias as it is, unless padding counts.
        """
        padding_counts = self.style.count_include_pad and pool.padding != "VALID"
        return pool.stride == 1 and _is_1x1(conv) and not (padding_counts and self._has_bias(conv))

    def _normalizes(self, conv: Conv) -> bool:
        return self.style.batch_norm is not None and conv.batch_norm

    def _has_bias(self, conv: Conv) -> bool:
        return self.style.conv_bias or not self._normalizes(conv)

    def _first_products(self, branches: tuple[Unit, ...], x, train: bool) -> dict[str, jax.Array]:
        """Returns the linear outputs of all 1x1 convolutions that read the input of the branches."""
        convs = []
        for branch in branches:
            match branch.units if isinstance(branch, Chain) else (branch,):
                case (Conv() as conv, *_) if _is_1x1(conv):
                    convs.append(conv)
                case (AvgPool() as average, Conv() as conv, *_) if self._commute(average, conv):
                    convs.append(conv)
        if len(convs) < 2:
            return {}
        kernels, biases = {}, {}
        for conv in convs:
            kernels[conv.name], biases[conv.name] = ConvParameters(
                shape=(1, 1, x.shape[-1], conv.features),
                use_bias=self._has_bias(conv),
                dtype=self.dtype,
                kernel_init=conv.kernel_init or self.style.kernel_init,
                bias_init=conv.bias_init or self.style.bias_init,
                name=conv.name,
            )()
        products = ops.convolve_1x1s(x.astype(self.dtype), kernels, ops.convolve_in_training if train else ops.convolve)
        return {name: self._product(y if biases[name] is None else y + biases[name]) for name, y in products.items()}

    def _product(self, x):
        """Names the output of a convolution or dense layer, if `Recompute.policy` asks for the name."""
        return checkpoint_name(x, _PRODUCT) if self.names_products else x

    def _convolve(self, unit: Conv, x, train: bool, first: Mapping[str, jax.Array], pool: AvgPool | None = None):
        x = first[unit.name] if unit.name in first else self._linear_conv(unit, x, train, use_bias=self._has_bias(unit))
        if pool is not None:
            x = self._run(pool, x, train)
        if self._normalizes(unit):
            x = self._normalize(x, unit.name, train)
        return self.style.activation(x) if unit.activation else x

    def _linear_conv(self, unit: Conv, x, train: bool, use_bias: bool):
        kernel = (unit.kernel, unit.kernel) if isinstance(unit.kernel, int) else unit.kernel
        rule = self.style.conv_padding if unit.padding is None else unit.padding
        conv = nn.Conv(
            unit.features,
            kernel,
            strides=unit.stride,
            padding=ops.explicit_padding(x.shape[1:3], kernel, unit.stride, rule),
            feature_group_count=unit.groups,
            use_bias=use_bias,
            dtype=self.dtype,
            kernel_init=unit.kernel_init or self.style.kernel_init,
            bias_init=unit.bias_init or self.style.bias_init,
            conv_general_dilated=ops.convolve_in_training if train else ops.convolve,
            name=unit.name,
        )
        return self._product(conv(x))

    def _dense(self, unit: Dense | Logits | Boxes, x, features: int, **options):
        options |= {"kernel_init": unit.kernel_init or self.style.kernel_init, "name": unit.name}
        if isinstance(unit, Boxes) or unit.window is None:
            return self._product(nn.Dense(features, **options)(x.reshape(x.shape[0], -1)))
        return self._product(SlidingDense(features, unit.window, **options)(x))

    def _normalize(self, x, name: str, train: bool):
        constants: Any = self.style.batch_norm  # no unit is normalised where it is None
        return nn.BatchNorm(
            use_running_average=not (train if self.batch_statistics is None else self.batch_statistics),
            momentum=constants.decay,
            epsilon=constants.epsilon,
            use_scale=constants.scale,
            dtype=self.dtype,
            axis_name=self.batch_norm_axis,
            name=f"{name}_bn",
        )(x)


def _is_1x1(unit: Unit) -> bool:
    """Returns whether each cell of the output sees all channels of the same cell of the input, and no other cell."""
    match unit:
        case Conv(kernel=1 | (1, 1), stride=1, padding=None | 0 | str(), groups=1):
            return True
    return False


class ConvParameters(nn.Module):
    """Makes the kernel and the bias, or None, of an `nn.Conv` of the same name, in the computation's dtype."""

    shape: tuple[int, ...]
    use_bias: bool
    dtype: Any
    kernel_init: Callable
    bias_init: Callable

    @nn.compact
    def __call__(self):  # noqa: D102
        kernel = self.param("kernel", self.kernel_init, self.shape)
        bias = self.param("bias", self.bias_init, self.shape[-1:]) if self.use_bias else None
        return kernel.astype(self.dtype), bias if bias is None else bias.astype(self.dtype)


class SlidingDense(nn.Module):
    """Runs `nn.Dense` on each window x window part of a grid, with the parameters that it has on one such grid.

    [N, H, W, C] becomes [N, H - window + 1, W - window + 1, features].
    """

    features: int
    window: int
    use_bias: bool
    dtype: Any
    kernel_init: Callable
    bias_init: Callable

    @nn.compact
    def __call__(self, x):  # noqa: D102
        channels = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (self.window**2 * channels, self.features))
        kernel = kernel.reshape(self.window, self.window, channels, self.features).astype(self.dtype)
        x = ops.convolve(x.astype(self.dtype), kernel, (1, 1), [(0, 0)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if self.use_bias:
            x += self.param("bias", self.bias_init, (self.features,)).astype(self.dtype)
        return x


class Network(nn.Module):
    """An image classifier: named layers one after another, of which the last gives the logits, and auxiliary heads.

    A network whose last layer is `Boxes` says where the object is, not what it is.

    Attributes:
      layers: pairs (name, unit), in order.
      aux_heads: auxiliary classifiers; () if the network has none.
      style: options that the units share.
      input_shape: (height, width, channels) of the paper's images.
      min_size: smallest height and width of an image for which the arithmetic works.
      dtype: dtype of the computation; parameters, batch statistics and logits are always float32.
      batch_norm_axis: name of the mapped axis over which batch statistics are taken; None: each device's own batch.
      batch_statistics: whether batch normalisation uses the statistics of the batch; None: only in training.
      recompute: what the backward pass of training computes again to save memory, a key of `RECOMPUTE`.
    """

    layers: tuple[tuple[str, Unit], ...]
    style: Style
    input_shape: tuple[int, int, int]
    min_size: int
    aux_heads: tuple[AuxHead, ...] = ()
    dtype: Any = jnp.float32
    batch_norm_axis: str | None = None
    batch_statistics: bool | None = None
    recompute: str = "nothing"

    @property
    def boxes(self) -> int:
        """Number of boxes that it predicts for an image: 1, or one for each class; 0: it predicts classes."""
        _, last = self.layers[-1]
        return last.count if isinstance(last, Boxes) else 0

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Classifies `images` [N, H, W, C], already normalised.

        In training, dropout draws from the 'dropout' random stream, batch normalisation updates the 'batch_stats'
        collection, and forward-mode differentiation is a TypeError. In inference every derivative works.

        Returns:
          The logits, float32 [N, classes], or boxes, float32 [N, boxes, 4] (see `units.Boxes`); and the end points: the
          output of each layer by its name. With `train` the end points include the logits of each auxiliary head.
        """
        if images.ndim != 4:
            raise UserError(f"images must be [N, H, W, C], not of shape {list(images.shape)}")
        if min(images.shape[1:3]) < self.min_size:
            height, width = images.shape[1:3]
            raise UserError(f"images of {height}x{width} are too small for this network: {self.min_size} at least")
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
        kind: Any = Block
        # Nothing but a training step has a backward pass for which it would pay.
        recompute = RECOMPUTE[self.recompute if train and not self.is_initializing() else "nothing"]
        if recompute is not RECOMPUTE["nothing"]:
            kind = nn.remat(Block, policy=recompute.policy, static_argnums=(2,))  # `train`
        block = kind(
            unit,
            style=self.style,
            dtype=self.dtype,
            batch_norm_axis=self.batch_norm_axis,
            batch_statistics=self.batch_statistics,
            names_products=recompute.names,
            name=name,
        )
        return block(x, train)

"""Builds a PyTorch module from the description of any of our networks.

The module is what a PyTorch user would write: eager, in channels_last memory format. Convolutions and pools pad by
themselves if PyTorch has that form (the same on both sides, or `ceil_mode`); otherwise a padding module precedes them.
"""

import math
from collections.abc import Iterable

import flax.linen
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from inception_jax import ops
from inception_jax.errors import UserError
from inception_jax.models import units
from inception_jax.models.network import Network

_ACTIVATIONS = {
    ops.relu: lambda: nn.ReLU(inplace=True),
    flax.linen.sigmoid: nn.Sigmoid,
    jnp.tanh: nn.Tanh,
}


class Peer(nn.Module):
    """A network with its auxiliary heads.

    It takes images, float32 [N, C, H, W]. It returns logits [N, classes], and in training (logits, {head: logits}).

    Attributes:
      parts: modules with parameters by their path in our network ('inception_4a/conv1x1_bn'), each with the (height,
        width) of its kernel. That of a dense layer is the grid that it flattens.
    """

    def __init__(self, layers: dict, heads: dict, parts: dict):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.heads = nn.ModuleDict({after: nn.ModuleDict(modules) for after, modules in heads.items()})
        self.parts = parts

    def forward(self, x):  # noqa: D102
        aux = {}
        for name, layer in self.layers.items():
            x = layer(x)
            if self.training and name in self.heads:
                aux |= {head: module(x) for head, module in self.heads[name].items()}
        return (x, aux) if self.training else x


class _Concat(nn.ModuleList):
    def forward(self, x):
        return torch.cat([branch(x) for branch in self], 1)


class _Residual(nn.Module):
    def __init__(self, branch, shortcut, scale):
        super().__init__()
        self.branch, self.shortcut, self.scale = branch, shortcut, scale

    def forward(self, x):
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return torch.add(shortcut, self.branch(x), alpha=self.scale)


class _ByGroup(nn.Module):
    def __init__(self, module, groups):
        super().__init__()
        self.module, self.groups = module, groups

    def forward(self, x):
        return torch.cat([self.module(part) for part in x.chunk(self.groups, 1)], 1)


def build(network: Network, image_shape: tuple[int, int, int]) -> Peer:
    """Builds the module of `network` for images of (height, width, channels), with PyTorch's initial values.

    It computes in float32, or in the dtype of `torch.autocast`.

    Raises:
      UserError: the network has custom units, as LeNet-5 of 1998.
    """
    own = [f"{name}/{unit.name}" for name, unit in network.layers if isinstance(unit, units.Custom)]
    if own:
        raise UserError(f"no PyTorch peer: {', '.join(own)} are this network's own")
    height, width, channels = image_shape
    shape = (channels, height, width)
    layers, heads, parts = {}, {}, {}
    for name, unit in network.layers:
        layers[name], shape = _layer(name, unit, network.style, parts, shape)
        for head in network.aux_heads:
            if head.after == name:
                heads.setdefault(name, {})[head.name] = _layer(head.name, head.unit, network.style, parts, shape)[0]
    return Peer(layers, heads, parts).to(memory_format=torch.channels_last)


@torch.no_grad()
def load_variables(module: Peer, variables) -> None:
    """Copies the variables of our network, {'params': ..., 'batch_stats': ...}, into the module."""
    for path, (part, grid) in module.parts.items():
        layer, unit = path.split("/")
        values = dict(variables["params"][layer][unit])
        if "kernel" in values:  # [H, W, in, out], for a dense layer [H * W * in, out], to [out, in, H, W]
            kernel = np.asarray(values.pop("kernel"))
            values["weight"] = kernel.reshape(*grid, -1, kernel.shape[-1]).transpose(3, 2, 0, 1)
        else:
            statistics = variables["batch_stats"][layer][unit]
            values["running_mean"], values["running_var"] = statistics["mean"], statistics["var"]
            values["weight"] = values.pop("scale", np.ones_like(statistics["var"]))
        for name, value in values.items():
            target = getattr(part, name)
            target.copy_(torch.tensor(np.asarray(value)).reshape(target.shape))


def _layer(name: str, unit: units.Unit, style: units.Style, parts: dict, shape) -> tuple[nn.Module, tuple]:
    builder = _Builder(name, style, parts, shape)
    modules = list(builder.modules(unit))
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules), builder.shape


class _Builder:
    """Builds the units of a layer in order; `shape` is the shape of the last one's output, without the batch."""

    def __init__(self, layer: str, style: units.Style, parts: dict, shape: tuple[int, ...]):
        self.layer, self.style, self.parts, self.shape = layer, style, parts, shape

    def modules(self, unit: units.Unit) -> Iterable[nn.Module]:
        channels, *grid = self.shape
        match unit:
            case units.Chain(parts):
                for part in parts:
                    yield from self.modules(part)
            case units.Concat(branches):
                built = [_layer(self.layer, branch, self.style, self.parts, self.shape) for branch in branches]
                self.shape = (sum(shape[0] for _, shape in built), *built[0][1][1:])
                yield _Concat([module for module, _ in built])
            case units.Residual():
                yield self.residual(unit)
                if unit.activation:
                    yield self.activation()
            case units.Conv(name=name, features=features):
                normalize = self.style.batch_norm is not None and unit.batch_norm
                yield from self.conv(unit, bias=self.style.conv_bias or not normalize)
                if normalize:
                    yield self.norm(name, features, nn.BatchNorm2d)
                if unit.activation:
                    yield self.activation()
            case units.DepthwiseConv(name, multiplier, kernel, stride):
                conv = units.Conv(name, multiplier * channels, kernel, stride, groups=channels)
                yield from self.conv(conv, bias=False)
            case units.MaxPool(window, stride, padding):
                pads = self.slide((window, window), stride, self.style.pool_padding if padding is None else padding)
                lows = [low for low, _ in pads]
                rounded_up = [-(-(n - window) // stride) + 1 for n in grid]
                if _is_symmetric(pads):
                    yield nn.MaxPool2d(window, stride, lows)
                elif not any(lows) and self.shape[1:] == (*rounded_up,):
                    yield nn.MaxPool2d(window, stride, ceil_mode=True)
                else:
                    yield nn.ConstantPad2d(_last_first(pads), -math.inf)
                    yield nn.MaxPool2d(window, stride)
            case units.AvgPool(window, stride, padding):
                window = min(window, *grid) if padding == "VALID" else window
                pads = self.slide((window, window), stride, padding)
                assert _is_symmetric(pads), unit
                yield nn.AvgPool2d(window, stride, [low for low, _ in pads], False, self.style.count_include_pad)
            case units.AdaptiveAvgPool(size):
                self.shape = (channels, size, size)
                yield nn.AdaptiveAvgPool2d(size)
            case units.GlobalAvgPool():
                self.shape = (channels, 1, 1)
                yield nn.AdaptiveAvgPool2d(1)
            case units.LocalResponseNorm(size, alpha, beta, k, groups):
                norm = nn.LocalResponseNorm(size, alpha, beta, k)
                yield norm if groups == 1 else _ByGroup(norm, groups)
            case units.Dropout(rate):
                yield nn.Dropout(rate)
            case units.Dense(name=name, features=features, batch_norm=normalize):
                yield from self.dense(unit, features, bias=not normalize)
                if normalize:
                    yield self.norm(name, features, nn.BatchNorm1d if unit.window is None else nn.BatchNorm2d)
                if unit.activation:
                    yield self.activation()
            case units.Logits(num_classes=num_classes, activation=activation):
                yield from self.dense(unit, num_classes, bias=True)
                if activation:
                    yield self.activation()
            case units.AverageLogits():
                self.shape = (channels,)
                yield from (nn.AdaptiveAvgPool2d(1), nn.Flatten())
            case _:
                raise TypeError(f"{unit!r} has no counterpart in PyTorch")

    def residual(self, unit: units.Residual) -> nn.Module:
        shape, shortcut = self.shape, None
        if not isinstance(unit.shortcut, bool):
            shortcut, shape = _layer(self.layer, unit.shortcut, self.style, self.parts, shape)
        branch = list(self.modules(unit.branch))
        if unit.projection is not None:
            branch += self.conv(units.Conv(unit.projection, shape[0], 1), bias=True)
        return _Residual(nn.Sequential(*branch), shortcut, unit.scale)

    def conv(self, unit: units.Conv, bias: bool) -> Iterable[nn.Module]:
        kernel = (unit.kernel, unit.kernel) if isinstance(unit.kernel, int) else unit.kernel
        channels = self.shape[0]
        pads = self.slide(kernel, unit.stride, self.style.conv_padding if unit.padding is None else unit.padding)
        self.shape = (unit.features, *self.shape[1:])
        lows = [low for low, _ in pads]
        if not _is_symmetric(pads):
            yield nn.ZeroPad2d(_last_first(pads))
            lows = 0
        conv = nn.Conv2d(channels, unit.features, kernel, unit.stride, lows, groups=unit.groups, bias=bias)
        self.parts[f"{self.layer}/{unit.name}"] = conv, kernel
        yield conv

    def slide(self, window: tuple[int, int], stride: int, rule: str | int) -> list[tuple[int, int]]:
        """Returns the padding of `rule`, and updates `shape` to the grid that `window` gives with it."""
        channels, *grid = self.shape
        pads = ops.explicit_padding(grid, window, stride, rule)
        sizes = zip(grid, window, pads, strict=True)
        self.shape = (channels, *((n + low + high - k) // stride + 1 for n, k, (low, high) in sizes))
        return pads

    def dense(self, unit: units.Dense | units.Logits, features: int, bias: bool) -> Iterable[nn.Module]:
        if unit.window is not None:
            yield from self.conv(units.Conv(unit.name, features, unit.window, padding="VALID"), bias)
            return
        grid = self.shape[1:] or (1, 1)
        if len(self.shape) > 1:
            yield nn.Flatten()
        linear = nn.Linear(math.prod(self.shape), features, bias)
        self.shape = (features,)
        self.parts[f"{self.layer}/{unit.name}"] = linear, grid
        yield linear

    def norm(self, name: str, features: int, kind: type[nn.Module]) -> nn.Module:
        constants = self.style.batch_norm
        norm = kind(features, eps=constants.epsilon, momentum=1 - constants.decay)
        norm.weight.requires_grad_(constants.scale)  # without gamma it stays 1
        self.parts[f"{self.layer}/{name}_bn"] = norm, None
        return norm

    def activation(self) -> nn.Module:
        return _ACTIVATIONS[self.style.activation]()


def _is_symmetric(pads) -> bool:
    return all(low == high for low, high in pads)


def _last_first(pads) -> tuple[int, ...]:
    """Returns (left, right, top, bottom), as PyTorch's padding modules take it."""
    return *pads[1], *pads[0]

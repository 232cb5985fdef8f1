"""Narrower and wider copies of networks, for small experiments."""

import dataclasses
from typing import Any

from inception_jax.errors import UserError
from inception_jax.models.initializers import for_width
from inception_jax.models.network import Network
from inception_jax.models.units import Boxes, Chain, Concat, Conv, Custom, Dense, Dropout, Logits, Residual, Unit


def scale_width(network: Network, width: float) -> Network:
    """Returns the network with `width` times the filters in each layer except the classifiers.

    The numbers of filters are even, for AlexNet's halves.

    Raises:
      UserError: the paper fixes the form of a unit (LeNet-5's table of connections).
    """
    layers: list[tuple[str, Any]] = [(name, _scale_unit(unit, width)) for name, unit in network.layers]
    heads = tuple(dataclasses.replace(head, unit=_scale_unit(head.unit, width)) for head in network.aux_heads)
    style = dataclasses.replace(network.style, kernel_init=for_width(network.style.kernel_init, width))
    # The first convolution sees the channels of the image, whatever the width.
    i, first = next((i, unit) for i, (_, unit) in enumerate(network.layers) if not isinstance(unit, Dropout))
    if isinstance(first, Conv):
        name, scaled = layers[i]
        layers[i] = name, dataclasses.replace(scaled, kernel_init=first.kernel_init or network.style.kernel_init)
    return network.clone(layers=tuple(layers), aux_heads=heads, style=style)


def _scale_unit(unit: Unit, width: float) -> Unit:
    init = getattr(unit, "kernel_init", None)
    init = init and for_width(init, width)
    match unit:
        case Conv(features=features) | Dense(features=features):
            return dataclasses.replace(unit, features=2 * max(1, round(features * width / 2)), kernel_init=init)
        case Logits() | Boxes():
            return dataclasses.replace(unit, kernel_init=init)
        case Chain(parts):
            return Chain(*(_scale_unit(part, width) for part in parts))
        case Concat(branches):
            return Concat(*(_scale_unit(branch, width) for branch in branches))
        case Residual(branch, shortcut):
            shortcut = shortcut if isinstance(shortcut, bool) else _scale_unit(shortcut, width)
            return dataclasses.replace(unit, branch=_scale_unit(branch, width), shortcut=shortcut)
        case Custom(name):
            raise UserError(f"width={width} is not possible: the paper fixes the form of {name}")
    return unit

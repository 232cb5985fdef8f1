"""What the channels of a layer read from those of an earlier layer.

Voss et al. 2021, "Visualizing Weights", https://distill.pub/2020/circuits/visualizing-weights: between two layers that
are not neighbours, such as the inputs of an Inception module and the outputs of its 5x5 branch, stand the products of
all weights on the way, without the activations in between ("expanded weights").
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax import ops
from inception_jax.errors import UserError
from inception_jax.explain.network import check_channels
from inception_jax.models.network import Network
from inception_jax.models.units import Chain, Concat, Conv, Dense, Logits, Unit
from inception_jax.runs.classifier import Classifier

_AT_ONCE = 64  # channels


class Branch(NamedTuple):
    """A branch of a layer, and its channels.

    Attributes:
      name: such as 'inception_4a/conv5x5'; of a layer without branches its own. A pool, a normalisation and a dropout
        have the branches of the layer before.
      channels: of the layer's output.
    """

    name: str
    channels: range


def branches(classifier: Classifier, layer: str) -> list[Branch]:
    """Returns the branches of a layer in the order of their channels.

    Raises:
      UserError: the network has no such layer.
    """
    check_channels(classifier, layer)
    place = classifier.end_points.index(layer)
    widths = _widths(classifier.model.layers[place][1])
    if widths == _POOL and place:
        return branches(classifier, classifier.end_points[place - 1])
    total = classifier.end_point_shape(layer)[-1]
    if len(widths) == 1:
        return [Branch(layer, range(total))]
    rest = total - sum(width for _, width in widths if width)  # of a branch that is a pool: the channels of its input
    found, start = [], 0
    for name, width in widths:
        found.append(Branch(f"{layer}/{name}", range(start, start + (width or rest))))
        start += width or rest
    return found


def _widths(unit: Unit) -> list[tuple[str, int | None]]:
    """Returns the names of a unit's branches and their numbers of channels; None: those of its input."""
    match unit:
        case Concat(parts):
            return [width for part in parts for width in _widths(part)]
        case Chain(units):
            return next((found for part in reversed(units) if (found := _widths(part)) != _POOL), _POOL)
        case Conv(name, features) | Dense(name, features) | Logits(name, features):
            return [(name, features)]
    return _POOL


_POOL: list[tuple[str, int | None]] = [("pool", None)]


def expanded_weights(classifier: Classifier, source: str, layer: str, channels: Sequence[int]) -> np.ndarray:
    """Returns by how much channels of a layer grow with each channel of an earlier one, if no activation intervenes.

    It is the derivative of the unit in the middle of the grid. Batch normalisation counts with its factor, a max-pool
    as the mean of its window, local response normalisation as with all inputs 0, dropout not at all.

    Args:
      classifier: the network.
      source: name of the earlier layer.
      layer: name of the layer.
      channels: of the layer.

    Returns:
      float32 [len(channels), rows, columns, channels of the source]: the cells of the source's grid that the unit sees.

    Raises:
      UserError: the network has no such layer, or they are in the wrong order.
    """
    check_channels(classifier, source)
    check_channels(classifier, layer, channels)
    names = classifier.end_points
    place, end = names.index(source) + 1, names.index(layer) + 1
    if place >= end:
        raise UserError(f"layer={source!r} must come before {layer}, which reads it")
    network = linear(classifier.model.clone(layers=classifier.model.layers[place:end], min_size=1))
    shape = classifier.end_point_shape(source)

    @jax.jit
    def derivatives(variables, channels):
        def unit(inputs, channel):
            output, _ = network.apply(variables, inputs[None])
            grid = output[0].reshape(*(output.shape[1:3] if output.ndim == 4 else (1, 1)), -1)
            return grid[grid.shape[0] // 2, grid.shape[1] // 2, channel].astype(jnp.float32)

        return jax.vmap(jax.grad(unit), (None, 0))(jnp.zeros(shape), channels)

    parts = [
        np.asarray(derivatives(classifier.variables, jnp.array(channels[start : start + _AT_ONCE])))
        for start in range(0, len(channels), _AT_ONCE)
    ]
    weights = np.concatenate(parts).reshape(len(channels), *(shape if len(shape) == 3 else (1, 1, *shape)))
    seen = [np.flatnonzero(np.any(weights, axis=tuple({0, 1, 2, 3} - {axis}))) for axis in (1, 2)]
    rows, columns = (slice(places[0], places[-1] + 1) if places.size else slice(None) for places in seen)
    return weights[:, rows, columns]


@functools.cache
def linear(model: Network) -> Network:
    """Returns a network without activations, whose max-pools are means; its other parts and its variables stay."""
    return model.clone(style=dataclasses.replace(model.style, activation=_same, max_pool=_mean_pool))


def _same(x: jax.Array) -> jax.Array:
    return x


def _mean_pool(x: jax.Array, window: int, stride: int, padding: str | int) -> jax.Array:
    return ops.avg_pool(x, window, stride, padding, count_include_pad=False)


def branch_strengths(classifier: Classifier, source: str, layer: str) -> np.ndarray:
    """Returns how strongly each branch of a layer reads each branch of an earlier one.

    Returns:
      float64 [branches of the source, branches of the layer]: the root of the mean square of the weights between two
      channels, summed over the cells, see `expanded_weights`.

    Raises:
      UserError: as `expanded_weights`.
    """
    channels = range(classifier.end_point_shape(layer)[-1])
    squares = (expanded_weights(classifier, source, layer, channels).astype(np.float64) ** 2).sum(axis=(1, 2))
    return np.array(
        [
            [
                np.sqrt(squares[np.ix_(target.channels, origin.channels)].mean())
                for target in branches(classifier, layer)
            ]
            for origin in branches(classifier, source)
        ]
    )

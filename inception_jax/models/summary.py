"""What a network is made of and what it costs, read off the traced computation, so that it cannot disagree with it."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from inception_jax.models.network import Network
from inception_jax.models.trace import Field, Row, count, trace


@dataclasses.dataclass(frozen=True)
class Layer:
    """A named layer: its operations, and the output that is its end point (without the batch)."""

    name: str
    rows: tuple[Row, ...]
    output: tuple[int, ...]
    parameters: int
    weights: int
    field: Field

    @property
    def multiply_adds(self) -> int:
        """Of all its operations."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def activations(self) -> int:
        """Numbers in the outputs of its operations, for one image."""
        return sum(math.prod(row.output) for row in self.rows)


def layers(model: Network, image_shape: tuple[int, int, int]) -> tuple[list[Layer], list[Layer]]:
    """The network's layers in their order, and its auxiliary heads, at images of (height, width, channels).

    Everything is of inference and for one image; nothing is computed or allocated.
    """
    variables = abstract_variables(model, image_shape)
    main = _layers(model, variables, image_shape)
    heads = []
    for head in model.aux_heads:
        names = [name for name, _ in model.layers]
        below = model.layers[: names.index(head.after) + 1]
        # Inference does not run the heads: one that ends in this head does.
        branch = model.clone(layers=(*below, (head.name, head.unit)), aux_heads=())
        heads.append(_layers(branch, variables, image_shape)[-1])
    return main, heads


def multiply_adds(model: Network, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """Multiply-adds of one image through each layer that has any, by its name, auxiliary heads left out."""
    main = _layers(model, abstract_variables(model, image_shape), image_shape)
    return {layer.name: layer.multiply_adds for layer in main if layer.multiply_adds}


def parameters(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """Number of parameters of each layer, auxiliary heads included, by the layer's name; nothing is allocated."""
    tree = abstract_variables(model, image_shape)["params"]
    return {name: count(layer) for name, layer in tree.items()}


@functools.lru_cache(maxsize=64)
def abstract_variables(model: nn.Module, image_shape: tuple[int, int, int]):
    """Shapes and dtypes of all variables of `model` for images of `image_shape`."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *image_shape))))


def _layers(model: Network, variables, image_shape) -> list[Layer]:
    rows, shapes, fields = trace(model, variables, image_shape)
    return [
        Layer(
            name=name,
            rows=tuple(row for row in rows if row.path.split("/")[0] == name),
            output=shapes[name],
            parameters=count(variables["params"].get(name, {})),
            weights=count(variables["params"].get(name, {}), kernels_only=True),
            field=fields[name],
        )
        for name, _ in model.layers
    ]

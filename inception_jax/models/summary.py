"""What a network costs, derived from the network itself."""

import math
from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core


def multiply_adds(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """Multiply-adds of one image through each layer, by the layer's name, as the papers count them.

    Convolutions and dense layers are counted, in inference (so without auxiliary heads); biases, pooling and
    normalisation are not. The counts are read off the traced computation, so they cannot disagree with the network.

    Args:
      model: any linen module with `(images, train)` and layers in named scopes.
      image_shape: (height, width, channels).
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = abstract_variables(model, image_shape)
    jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, image)
    counts: Counter[str] = Counter()
    _count(jaxpr.jaxpr, "", counts)
    return dict(counts)


def parameters(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """Number of parameters of each layer, auxiliary heads included, by the layer's name; nothing is allocated."""
    tree = abstract_variables(model, image_shape)["params"]
    return {name: sum(x.size for x in jax.tree.leaves(layer)) for name, layer in tree.items()}


def abstract_variables(model: nn.Module, image_shape: tuple[int, int, int]):
    """Shapes and dtypes of all variables of `model` for images of `image_shape`."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *image_shape))))


def _count(jaxpr: core.Jaxpr, scope: str, counts: Counter) -> None:
    for equation in jaxpr.eqns:
        inner_scope = f"{scope}/{equation.source_info.name_stack}"
        name = equation.primitive.name
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            counts[_layer(inner_scope)] += equation.outvars[0].aval.size * math.prod(kernel) // out_features
        elif name == "dot_general":
            (contracting, _), _ = equation.params["dimension_numbers"]
            lhs = equation.invars[0].aval.shape
            counts[_layer(inner_scope)] += equation.outvars[0].aval.size * math.prod(lhs[d] for d in contracting)
        for parameter in equation.params.values():
            inner = getattr(parameter, "jaxpr", parameter)
            if isinstance(inner, core.Jaxpr):
                _count(inner, inner_scope, counts)


def _layer(scope: str) -> str:
    # Linen's scopes read Network/Network._block/conv1/conv1._run/conv7x7: the names with a dot are methods.
    names = [name for name in scope.split("/") if name and "." not in name]
    return names[1] if len(names) > 1 else names[0]

"""Layers of a network, their operations and receptive fields, read off the traced computation.

So they cannot disagree with the network. Nothing is computed or allocated.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from inception_jax.models.network import Network


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """Receptive field: the part of the image that one cell of an output sees.

    Attributes:
      size: (height, width) of the field in pixels, padding included.
      stride: (vertical, horizontal) distance of the fields of neighbouring cells; after an adaptive pool, the mean.
      start: (row, column) of the first pixel that the first cell sees; negative in the padding.
    """

    size: tuple[int, int] = (1, 1)
    stride: tuple[int | Fraction, int | Fraction] = (1, 1)
    start: tuple[int | Fraction, int | Fraction] = (0, 0)

    def through(self, window: tuple[int, int], strides=(1, 1), padding=(0, 0)) -> "ReceptiveField":
        """Returns the field of a cell that sees `window` cells of this field, behind `padding` (above, left)."""
        height, width = (math.ceil(f + (w - 1) * s) for f, w, s in zip(self.size, window, self.stride, strict=True))
        vertical, horizontal = (a * b for a, b in zip(self.stride, strides, strict=True))
        row, column = (first - p * s for first, p, s in zip(self.start, padding, self.stride, strict=True))
        return ReceptiveField((height, width), (vertical, horizontal), (row, column))

    def pixels(self, cell: tuple[int, int], image: tuple[int, int]) -> tuple[slice, slice]:
        """Returns the rows and columns that a cell (row, column) of the grid sees, of an image (height, width)."""
        rows, columns = (
            slice(max(0, math.floor(first + c * s)), min(length, math.ceil(first + c * s) + f))
            for first, c, s, f, length in zip(self.start, cell, self.stride, self.size, image, strict=True)
        )
        return rows, columns


PIXEL = ReceptiveField()


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution as XLA sees it.

    Attributes:
      image: shape [1, height, width, channels] of the input.
      kernel: shape [height, width, channels of a group, filters].
      strides: (vertical, horizontal).
      padding: (before, after) of height and of width.
      groups: number of groups of channels.
    """

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], ...]
    groups: int

    @property
    def products(self) -> int:
        """Multiply-adds of one image, without those on padding: the convention of XLA's cost analysis."""
        height, width, channels, features = self.kernel
        spatial = zip(self.image[1:3], (height, width), self.strides, self.padding, strict=True)
        return math.prod(_taps_inside(*dimension) for dimension in spatial) * channels * features

    def products_by_xla(self) -> float:
        """Returns the same number as XLA's cost analysis counts it, in single precision."""
        convolve = jax.jit(
            lambda x, k: lax.conv_general_dilated(
                x,
                k,
                self.strides,
                self.padding,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=self.groups,
            )
        )
        arguments = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (self.image, self.kernel))
        costs: Any = convolve.lower(*arguments).cost_analysis()  # None on a backend that does not tell
        return costs["flops"] / 2


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation: a convolution, a pool, a dense layer, a normalisation across channels.

    Attributes:
      path: path of its parameters, 'inception_4a/conv5x5_reduce'; without parameters, its layer.
      kind: 'convolution', 'max pool', ...
      window: (height, width) of kernel or pool; () if it has none.
      stride: stride of both dimensions.
      output: shape of the output, without the batch.
      parameters: number of parameters, batch normalisation included.
      weights: number of values in the kernel.
      multiply_adds: multiply-adds as the papers count them: convolutions and dense layers, products with padding
        included.
      field: receptive field of one cell of the output.
      convolution: the convolution as XLA sees it; None: another operation.
    """

    path: str
    kind: str
    window: tuple[int, ...]
    stride: int
    output: tuple[int, ...]
    parameters: int
    weights: int
    multiply_adds: int
    field: ReceptiveField
    convolution: Convolution | None = None


@dataclasses.dataclass(frozen=True)
class Layer:
    """A named layer of a network.

    Attributes:
      name: name of its end point.
      operations: its operations in order.
      output: shape of the end point, without the batch.
      parameters: number of parameters.
      weights: number of parameters without biases and batch normalisation.
      field: receptive field of one cell of the output.
    """

    name: str
    operations: tuple[Operation, ...]
    output: tuple[int, ...]
    parameters: int
    weights: int
    field: ReceptiveField

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image."""
        return sum(operation.multiply_adds for operation in self.operations)

    @property
    def activations(self) -> int:
        """Number of values in the outputs of its operations, for one image."""
        return sum(math.prod(operation.output) for operation in self.operations)


def layers(model: Network, image_shape: tuple[int, ...]) -> tuple[list[Layer], list[Layer]]:
    """Returns the layers of a network in order, and its auxiliary heads, for images of (height, width, channels).

    All numbers are of inference on one image.
    """
    variables = abstract_variables(model, image_shape)
    main = _layers(model, variables, image_shape)
    by_name = {layer.name: layer for layer in main}
    heads = []
    for head in model.aux_heads:
        # Inference does not run the heads, so each is traced as a network on the output of its layer.
        branch = model.clone(layers=((head.name, head.unit),), aux_heads=(), min_size=1)
        below = by_name[head.after]
        heads += _layers(branch, variables, below.output, below.field)
    return main, heads


def multiply_adds(model: Network, image_shape: tuple[int, ...]) -> dict[str, int]:
    """Returns the multiply-adds of each layer for one image by its name; layers without any are left out."""
    main = _layers(model, abstract_variables(model, image_shape), image_shape)
    return {layer.name: layer.multiply_adds for layer in main if layer.multiply_adds}


def parameters(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, int]:
    """Returns the number of parameters of each layer by its name, auxiliary heads included."""
    tree = abstract_variables(model, image_shape)["params"]
    return {name: count(layer) for name, layer in tree.items()}


@functools.lru_cache(maxsize=64)
def abstract_variables(model: nn.Module, image_shape: tuple[int, ...]):
    """Returns the shapes and dtypes of all variables of `model` for images of `image_shape`."""
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *image_shape))))


def _layers(model: Network, variables, image_shape, field: ReceptiveField = PIXEL) -> list[Layer]:
    operations, shapes, fields = _trace(model, variables, image_shape, field)
    return [
        Layer(
            name=name,
            operations=tuple(operation for operation in operations if operation.path.split("/")[0] == name),
            output=shapes[name],
            parameters=count(variables["params"].get(name, {})),
            weights=count(variables["params"].get(name, {}), kernels_only=True),
            field=fields[name],
        )
        for name, _ in model.layers
    ]


def _trace(
    model: Network,
    variables,
    image_shape,
    field: ReceptiveField = PIXEL,
) -> tuple[list[Operation], dict[str, tuple[int, ...]], dict[str, ReceptiveField]]:
    """Traces inference on one image.

    Args:
      model: the network.
      variables: its variables, or their shapes.
      image_shape: (height, width, channels) of its input.
      field: receptive field of one cell of its input, if that is an output of another network.

    Returns:
      The operations in order, the end points' shapes without the batch, and the end points' receptive fields.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    apply = lambda v, x: model.apply(v, x, train=False)[1]  # noqa: E731
    jaxpr, end_points = jax.make_jaxpr(apply, return_shape=True)(variables, image)
    operations: list[Operation] = []
    fields = [None] * (len(jaxpr.jaxpr.invars) - 1) + [field]
    fields = _Walk(variables["params"], operations).run(jaxpr.jaxpr, fields, "")
    shapes = {name: end_point.shape[1:] for name, end_point in end_points.items()}
    return operations, shapes, jax.tree.unflatten(jax.tree.structure(end_points), fields)


def count(tree, kernels_only: bool = False) -> int:
    """Returns the number of values in a tree of parameters; `kernels_only`: without biases and batch normalisation."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return sum(x.size for path, x in leaves if not kernels_only or path[-1].key.startswith("kernel"))


class _Walk:
    """Follows the image through a jaxpr. The field of a value that does not depend on the image is None."""

    def __init__(self, params, operations: list[Operation]):
        self.params, self.operations = params, operations

    def run(self, jaxpr: core.Jaxpr, fields: list[ReceptiveField | None], scope: str) -> list[ReceptiveField | None]:
        """Returns the fields of the jaxpr's outputs, and appends its operations."""
        known = dict(zip(jaxpr.invars, fields, strict=True))

        def field_of(variable):
            return None if isinstance(variable, core.Literal) else known.get(variable)

        for equation in jaxpr.eqns:
            inputs = [field_of(variable) for variable in equation.invars]
            inside = f"{scope}/{equation.source_info.name_stack}"
            inner = [p for p in map(_jaxpr, equation.params.values()) if p is not None]
            if equation.primitive.name == "cond":  # by platform: all branches compute the same, the last one plainly
                outputs = self.run(equation.params["branches"][-1].jaxpr, inputs[1:], inside)
            elif not any(inputs):
                outputs = [None] * len(equation.outvars)
            elif equation.params.get("name") == "adaptive_avg_pool":
                outputs = [self._adaptive_pool(equation, _merge(inputs), inside)]
            elif inner:
                outputs = self.run(inner[0], inputs, inside)
            else:
                outputs = [self._record(equation, _merge(inputs), inside)] * len(equation.outvars)
            known.update(zip(equation.outvars, outputs, strict=True))
        return [field_of(variable) for variable in jaxpr.outvars]

    def _record(self, equation, field: ReceptiveField, scope: str) -> ReceptiveField:
        primitive, shape = equation.primitive.name, equation.invars[0].aval.shape
        add = functools.partial(self._add, equation, scope)
        match primitive:
            case "conv_general_dilated":
                kernel, parameters = equation.invars[1].aval.shape, equation.params
                window, strides = kernel[:2], parameters["window_strides"]
                field = field.through(window, strides, [before for before, _ in parameters["padding"]])
                convolution = Convolution(
                    shape, kernel, strides, parameters["padding"], parameters["feature_group_count"]
                )
                cost = equation.outvars[0].aval.size * math.prod(kernel[:3])
                add("convolution", field, window, strides[0], multiply_adds=cost, convolution=convolution)
            case "reduce_window_max" | "reduce_window_sum" if equation.params["window_dimensions"][-1] == 1:
                window = equation.params["window_dimensions"][1:3]
                strides = equation.params["window_strides"][1:3]
                field = field.through(window, strides, [before for before, _ in equation.params["padding"][1:3]])
                name = "max pool" if primitive == "reduce_window_max" else "average pool"
                add(name, field, window, strides[0])
            case "pad" if len(shape) == 4:
                field = field.through(
                    (1, 1), padding=[before for before, _, _ in equation.params["padding_config"][1:3]]
                )
            case "reduce_window_sum":
                add("response norm", field)
            case "reduce_sum" if len(shape) == 4 and tuple(equation.params["axes"]) == (1, 2):
                field = field.through(shape[1:3])
                add("global average", field, shape[1:3])
            case "reduce_sum" if len(shape) == 3:  # [N, classes, inputs]
                add("radial basis", field)
            case "reshape" if len(shape) == 4 > equation.outvars[0].aval.ndim:
                field = field.through(shape[1:3])
            case "dot_general":
                (contracting, _), _ = equation.params["dimension_numbers"]
                cost = equation.outvars[0].aval.size * math.prod(shape[d] for d in contracting)
                add("dense", field, multiply_adds=cost)
        return field

    def _adaptive_pool(self, equation, field: ReceptiveField, scope: str) -> ReceptiveField:
        cells, size = equation.invars[0].aval.shape[1:3], equation.outvars[0].aval.shape[1]
        windows = tuple(max(-(-(i + 1) * n // size) - i * n // size for i in range(size)) for n in cells)
        # The first and the last window together must cover the grid.
        steps = tuple(Fraction(n - w, max(size - 1, 1)) for n, w in zip(cells, windows, strict=True))
        field = field.through(windows, steps)
        self._add(equation, scope, "adaptive average", field, (size, size))
        return field

    def _add(self, equation, scope, kind, field, window=(), stride=1, *, multiply_adds=0, convolution=None):
        # Linen's scopes read Network/Network._block/conv1/conv1._run/conv7x7: plain names are those of modules.
        names = [name for name in scope.split("/") if re.fullmatch(r"[a-z0-9_]+", name)]
        own: dict = {}
        if len(names) > 1:
            layer = self.params.get(names[0], {})
            own = {name: layer[name] for name in (names[1], f"{names[1]}_bn") if name in layer}
        self.operations.append(
            Operation(
                path="/".join(names),
                kind=kind,
                window=tuple(window),
                stride=stride,
                output=equation.outvars[0].aval.shape[1:],
                parameters=count(own),
                weights=count(own, kernels_only=True),
                multiply_adds=multiply_adds,
                field=field,
                convolution=convolution,
            )
        )


def _merge(fields: Iterable[ReceptiveField | None]) -> ReceptiveField:
    """Returns the field of an operation that sees the same cell of several arrays."""
    known = [field for field in fields if field is not None]
    row, column = (min(field.start[i] for field in known) for i in (0, 1))
    ends = [max(field.start[i] + field.size[i] for field in known) for i in (0, 1)]
    vertical, horizontal = (max(field.stride[i] for field in known) for i in (0, 1))
    return ReceptiveField(
        (math.ceil(ends[0] - row), math.ceil(ends[1] - column)), (vertical, horizontal), (row, column)
    )


def _jaxpr(parameter) -> core.Jaxpr | None:
    parameter = getattr(parameter, "jaxpr", parameter)
    return parameter if isinstance(parameter, core.Jaxpr) else None


def _taps_inside(size: int, window: int, stride: int, padding: tuple[int, int]) -> int:
    """Returns how often cells of a window cover the image and not its padding, over all places along one dimension."""
    starts = range(-padding[0], size + padding[1] - window + 1, stride)
    return sum(min(start + window, size) - max(start, 0) for start in starts)

"""The operations of a network, and what each of its outputs sees of the image, read off the traced computation."""

import dataclasses
import math
import re
from collections.abc import Iterable
from fractions import Fraction

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from inception_jax.models.network import Network


@dataclasses.dataclass(frozen=True)
class Field:
    """What one cell of an output sees of the image.

    Attributes:
      size: (height, width) of its receptive field, in pixels, padding included.
      stride: (vertical, horizontal) distance of neighbouring cells' fields; after an adaptive pool, its mean.
    """

    size: tuple[int, int] = (1, 1)
    stride: tuple[int | Fraction, int | Fraction] = (1, 1)

    def through(self, window: tuple[int, int], strides=(1, 1)) -> "Field":
        """The field of a cell that sees `window` cells of this field."""
        size = tuple(math.ceil(f + (w - 1) * s) for f, w, s in zip(self.size, window, self.stride, strict=True))
        return Field(size, tuple(a * b for a, b in zip(self.stride, strides, strict=True)))


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution as XLA sees it: shapes of image and kernel, strides, (before, after) padding, groups."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], ...]
    groups: int

    @property
    def products(self) -> int:
        """Multiply-adds of one image, without those that meet padding: the convention of XLA's cost analysis."""
        height, width, channels, features = self.kernel
        spatial = zip(self.image[1:3], (height, width), self.strides, self.padding, strict=True)
        return math.prod(_taps_inside(*dimension) for dimension in spatial) * channels * features

    def products_by_xla(self) -> float:
        """The same number as XLA's cost analysis counts it; it does so in single precision."""
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
        return convolve.lower(*arguments).cost_analysis()["flops"] / 2


@dataclasses.dataclass(frozen=True)
class Row:
    """One operation: a convolution, a pool, a dense layer, a normalisation across channels.

    Attributes:
      path: of its parameters, 'inception_4a/conv5x5_reduce'; of an operation without any, its layer's.
      operation: 'convolution', 'max pool', ...
      window: (height, width) of kernel or pool; () where there is none.
      stride: of both dimensions.
      output: shape without the batch.
      parameters: number of them, those of the batch normalisation included.
      weights: those of the kernel alone.
      multiply_adds: as the papers count them: of convolutions and dense layers, products with padding included.
      field: what one cell of the output sees.
      convolution: of a convolution, what to ask XLA about.
    """

    path: str
    operation: str
    window: tuple[int, ...]
    stride: int
    output: tuple[int, ...]
    parameters: int
    weights: int
    multiply_adds: int
    field: Field
    convolution: Convolution | None = None


def trace(model: Network, variables, image_shape) -> tuple[list[Row], dict[str, tuple[int, ...]], dict[str, Field]]:
    """The operations of inference on one image, in order; each end point's shape, without the batch, and its field."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    apply = lambda v, x: model.apply(v, x, train=False)[1]  # noqa: E731
    jaxpr, end_points = jax.make_jaxpr(apply, return_shape=True)(variables, image)
    rows: list[Row] = []
    fields = [None] * (len(jaxpr.jaxpr.invars) - 1) + [Field()]
    fields = _Walk(variables["params"], rows).run(jaxpr.jaxpr, fields, "")
    shapes = {name: end_point.shape[1:] for name, end_point in end_points.items()}
    return rows, shapes, jax.tree.unflatten(jax.tree.structure(end_points), fields)


def count(tree, kernels_only: bool = False) -> int:
    """Numbers in a tree of parameters; `kernels_only`: without biases and batch normalisation."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return sum(x.size for path, x in leaves if not kernels_only or path[-1].key.startswith("kernel"))


class _Walk:
    """Follows the image through a jaxpr: `None` is the field of what does not depend on it."""

    def __init__(self, params, rows: list[Row]):
        self.params, self.rows = params, rows

    def run(self, jaxpr: core.Jaxpr, fields: list[Field | None], scope: str) -> list[Field | None]:
        """Returns the fields of the jaxpr's outputs."""
        known = dict(zip(jaxpr.invars, fields, strict=True))

        def field_of(variable):
            return None if isinstance(variable, core.Literal) else known.get(variable)

        for equation in jaxpr.eqns:
            inputs = [field_of(variable) for variable in equation.invars]
            inside = f"{scope}/{equation.source_info.name_stack}"
            inner = [p for p in map(_jaxpr, equation.params.values()) if p is not None]
            if equation.primitive.name == "cond":  # chosen per platform: all branches compute the same
                outputs = self.run(_jaxpr(equation.params["branches"][-1]), inputs[1:], inside)
            elif not any(inputs):
                outputs = [None] * len(equation.outvars)
            elif equation.params.get("name") == "adaptive_avg_pool":
                outputs = [self._adaptive_pool(equation, _merge(inputs), inside)]
            elif inner:
                outputs = self.run(inner[0], inputs, inside)
            else:
                outputs = [self._operation(equation, _merge(inputs), inside)] * len(equation.outvars)
            known.update(zip(equation.outvars, outputs, strict=True))
        return [field_of(variable) for variable in jaxpr.outvars]

    def _operation(self, equation, field: Field, scope: str) -> Field:
        primitive, shape = equation.primitive.name, equation.invars[0].aval.shape
        match primitive:
            case "conv_general_dilated":
                kernel, parameters = equation.invars[1].aval.shape, equation.params
                window, strides = kernel[:2], parameters["window_strides"]
                field = field.through(window, strides)
                convolution = Convolution(
                    shape, kernel, strides, parameters["padding"], parameters["feature_group_count"]
                )
                cost = equation.outvars[0].aval.size * math.prod(kernel[:3])
                self._row(equation, scope, "convolution", window, strides[0], field, cost, convolution)
            case "reduce_window_max" | "reduce_window_sum" if equation.params["window_dimensions"][-1] == 1:
                window = equation.params["window_dimensions"][1:3]
                strides = equation.params["window_strides"][1:3]
                field = field.through(window, strides)
                name = "max pool" if primitive == "reduce_window_max" else "average pool"
                self._row(equation, scope, name, window, strides[0], field)
            case "reduce_window_sum":
                self._row(equation, scope, "response norm", (), 1, field)
            case "reduce_sum" if len(shape) == 4 and tuple(equation.params["axes"]) == (1, 2):
                field = field.through(shape[1:3])
                self._row(equation, scope, "global average", shape[1:3], 1, field)
            case "reduce_sum" if len(shape) == 3:  # [N, classes, inputs]
                self._row(equation, scope, "radial basis", (), 1, field)
            case "reshape" if len(shape) == 4 > equation.outvars[0].aval.ndim:
                field = field.through(shape[1:3])
            case "dot_general":
                (contracting, _), _ = equation.params["dimension_numbers"]
                cost = equation.outvars[0].aval.size * math.prod(shape[d] for d in contracting)
                self._row(equation, scope, "dense", (), 1, field, cost)
        return field

    def _adaptive_pool(self, equation, field: Field, scope: str) -> Field:
        cells, size = equation.invars[0].aval.shape[1:3], equation.outvars[0].aval.shape[1]
        windows = tuple(max(-(-(i + 1) * n // size) - i * n // size for i in range(size)) for n in cells)
        # So that the first and the last window together reach over the grid.
        steps = tuple(Fraction(n - w, max(size - 1, 1)) for n, w in zip(cells, windows, strict=True))
        field = field.through(windows, steps)
        self._row(equation, scope, "adaptive average", (size, size), 1, field)
        return field

    def _row(self, equation, scope, operation, window, stride, field, cost=0, convolution=None):
        # Linen's scopes read Network/Network._block/conv1/conv1._run/conv7x7: plain names are those of modules.
        names = [name for name in scope.split("/") if re.fullmatch(r"[a-z0-9_]+", name)]
        own: dict = {}
        if len(names) > 1:
            layer = self.params.get(names[0], {})
            own = {name: layer[name] for name in (names[1], f"{names[1]}_bn") if name in layer}
        self.rows.append(
            Row(
                path="/".join(names),
                operation=operation,
                window=tuple(window),
                stride=stride,
                output=equation.outvars[0].aval.shape[1:],
                parameters=count(own),
                weights=count(own, kernels_only=True),
                multiply_adds=cost,
                field=field,
                convolution=convolution,
            )
        )


def _merge(fields: Iterable[Field | None]) -> Field:
    """Of an operation that sees the same cell of several arrays."""
    known = [field for field in fields if field is not None]
    size = tuple(max(field.size[i] for field in known) for i in (0, 1))
    return Field(size, tuple(max(field.stride[i] for field in known) for i in (0, 1)))


def _jaxpr(parameter) -> core.Jaxpr | None:
    parameter = getattr(parameter, "jaxpr", parameter)
    return parameter if isinstance(parameter, core.Jaxpr) else None


def _taps_inside(size: int, window: int, stride: int, padding: tuple[int, int]) -> int:
    """How often a window's cells meet the image, and not its padding, on the window's way along one dimension."""
    starts = range(-padding[0], size + padding[1] - window + 1, stride)
    return sum(min(start + window, size) - max(start, 0) for start in starts)

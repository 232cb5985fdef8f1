"""Writes a network as an ONNX graph, from its description.

The graph computes in float32, channels first. Padding stands in it as numbers, so nothing depends on how a runtime
rounds. Format: onnx/onnx.proto; operators of opset 17, onnx/docs/Operators.md. What ONNX calls LRN divides alpha by the
size, as ours does.
"""

import dataclasses
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from inception_jax import ops
from inception_jax.errors import UserError
from inception_jax.models import units
from inception_jax.models.network import Network

OPSET, _IR_VERSION = 17, 8
_ACTIVATIONS = {ops.relu: "Relu", nn.sigmoid: "Sigmoid", jnp.tanh: "Tanh"}
_FLOAT, _INT64, _UINT8 = 1, 7, 2
_TYPES = {"float32": _FLOAT, "int64": _INT64}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class Input:
    """What the graph takes.

    Attributes:
      size: height and width.
      channels: number of channels that the network sees.
      mean: subtracted from uint8 [N, size, size, 3], red, green, blue. None: the graph takes the network's own input,
        float32 [N, channels, size, size].
      std: divisor of each channel.
    """

    size: int
    channels: int
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


def to_onnx(
    model: Network,
    variables: Mapping[str, Any],
    source: Input,
    *,
    end_points: Sequence[str] = (),
    probabilities: bool = False,
    fold: bool = True,
    metadata: Mapping[str, str] = {},
) -> bytes:
    """Returns an ONNX model that computes what the network computes in inference, for any number of images.

    Args:
      model: the network.
      variables: 'params' and 'batch_stats'.
      source: what the graph takes, as 'images'.
      end_points: layers whose outputs the graph gives too, by their names, channels first.
      probabilities: whether its first output is 'probabilities', the softmax, in place of 'logits'.
      fold: whether batch normalisation becomes part of the convolution before it.
      metadata: texts to keep in the file.

    Raises:
      UserError: the network has layers of its own, or no layer of that name.
    """
    writer = _Writer(model, variables, fold)
    x = writer.image(source)
    outputs = {}
    for name, unit in model.layers:
        writer.scope = name
        x = outputs[name] = writer.run(unit, x)
    if unknown := [name for name in end_points if name not in outputs]:
        raise UserError(f"end_points={unknown[0]!r} is not one of {', '.join(outputs)}")
    result = "probabilities" if probabilities else "logits"
    final = writer.node("Softmax", [x], x.shape, axis=1) if probabilities else x
    named = {result: final} | {name: outputs[name] for name in end_points}
    writer.nodes += [_node("Identity", [value.name], name, {}) for name, value in named.items()]
    return _model(writer, source, named, metadata)


@dataclasses.dataclass(frozen=True)
class _Value:
    """An array of the graph: its name, and its shape without the batch."""

    name: str
    shape: tuple[int, ...]


class _Writer:
    """Collects the nodes and constants of a graph."""

    def __init__(self, model: Network, variables: Mapping[str, Any], fold: bool):
        self.model, self.style, self.variables, self.fold = model, model.style, variables, fold
        self.nodes: list[bytes] = []
        self.constants: dict[str, np.ndarray] = {}
        self.scope = ""

    def node(self, operation: str, inputs: Sequence[_Value | str], shape: tuple[int, ...], **attributes) -> _Value:
        """Adds a node, and returns its output."""
        names = [value if isinstance(value, str) else value.name for value in inputs]
        name = f"{self.scope}/{operation}_{len(self.nodes)}"
        self.nodes.append(_node(operation, names, name, attributes))
        return _Value(name, shape)

    def constant(self, name: str, array: Any) -> str:
        """Adds a constant, and returns its name."""
        name = f"{self.scope}/{name}"
        if name in self.constants:
            name = f"{name}_{len(self.constants)}"
        array = np.asarray(array)
        self.constants[name] = array if array.dtype == np.int64 else array.astype(np.float32)
        return name

    def image(self, source: Input) -> _Value:
        """Adds the preprocessing; returns the network's input."""
        self.scope = "preprocessing"
        shape = (source.channels, source.size, source.size)
        if source.mean is None:
            return _Value("images", shape)
        x = self.node("Cast", ["images"], (source.size, source.size, 3), to=_FLOAT)
        mean, std = np.array(source.mean), np.array(source.std)
        if source.channels == 1:
            luma = self.constant("luma", np.array(_LUMA).reshape(3, 1))
            x = self.node("MatMul", [x, luma], (source.size, source.size, 1))
            mean, std = mean @ _LUMA, std @ _LUMA
        x = self.node("Sub", [x, self.constant("mean", mean.reshape(-1))], x.shape)
        x = self.node("Div", [x, self.constant("std", std.reshape(-1))], x.shape)
        return self.node("Transpose", [x], shape, perm=(0, 3, 1, 2))

    def run(self, unit: units.Unit, x: _Value) -> _Value:
        """Adds a unit of the layer `scope`."""
        style = self.style
        match unit:
            case units.Chain(parts):
                for part in parts:
                    x = self.run(part, x)
                return x
            case units.Concat(branches):
                outputs = [self.run(branch, x) for branch in branches]
                channels = sum(output.shape[0] for output in outputs)
                return self.node("Concat", outputs, (channels, *outputs[0].shape[1:]), axis=1)
            case units.Residual():
                return self._residual(unit, x)
            case units.Conv():
                normalized = style.batch_norm is not None and unit.batch_norm
                x = self._conv(
                    unit, x, self._kernel(unit.name), self._bias(unit.name), unit.name if normalized else None
                )
                return self._activation(x) if unit.activation else x
            case units.DepthwiseConv(name, multiplier, kernel, stride):
                channels = x.shape[0]
                conv = units.Conv(name, multiplier * channels, kernel, stride, groups=channels)
                return self._conv(conv, x, self._kernel(name), None, None)
            case units.MaxPool(window, stride, padding):
                rule = style.pool_padding if padding is None else padding
                return self._slide("MaxPool", x, (window, window), stride, rule, x.shape[0])
            case units.AvgPool(window, stride, padding):
                window = min(window, *x.shape[1:]) if padding == "VALID" else window
                counted = int(style.count_include_pad)
                more = {"count_include_pad": counted}
                return self._slide("AveragePool", x, (window, window), stride, padding, x.shape[0], **more)
            case units.AdaptiveAvgPool(size):
                rows, columns = (self._means(n, size) for n in x.shape[1:])
                x = self.node("MatMul", [self.constant("rows", rows), x], (x.shape[0], size, x.shape[2]))
                return self.node("MatMul", [x, self.constant("columns", columns.T)], (x.shape[0], size, size))
            case units.GlobalAvgPool():
                return self.node("GlobalAveragePool", [x], (x.shape[0], 1, 1))
            case units.LocalResponseNorm(size, alpha, beta, k, groups):
                return self._response_norm(x, groups, size=size, alpha=alpha, beta=beta, bias=k)
            case units.Dropout():
                return x
            case units.Dense():
                x = self._dense(unit, x, unit.features, unit.name if unit.batch_norm else None)
                return self._activation(x) if unit.activation else x
            case units.Logits():
                x = self._dense(unit, x, unit.num_classes, None)
                return self._activation(x) if unit.activation else x
            case units.AverageLogits():
                x = self.node("GlobalAveragePool", [x], (x.shape[0], 1, 1))
                return self.node("Flatten", [x], (x.shape[0],), axis=1)
        raise self._unknown()

    def _parameters(self, name: str) -> Mapping[str, Any]:
        return self.variables["params"][self.scope][name]

    def _kernel(self, name: str) -> np.ndarray:
        return np.asarray(self._parameters(name)["kernel"], np.float32)

    def _bias(self, name: str) -> np.ndarray | None:
        bias = self._parameters(name).get("bias")
        return None if bias is None else np.asarray(bias, np.float32)

    def _activation(self, x: _Value) -> _Value:
        if self.style.activation not in _ACTIVATIONS:
            raise self._unknown()
        return self.node(_ACTIVATIONS[self.style.activation], [x], x.shape)

    def _unknown(self) -> UserError:
        return UserError(f"the layer {self.scope} is this network's own, which is not exported to ONNX; take StableHLO")

    def _slide(self, operation: str, x: _Value, window, stride: int, rule, features: int, inputs=(), **more) -> _Value:
        """Adds an operation with windows over the grid."""
        _, height, width = x.shape
        pads = ops.explicit_padding((height, width), window, stride, rule)
        sizes = zip((height, width), window, pads, strict=True)
        grid = ((n + low + high - k) // stride + 1 for n, k, (low, high) in sizes)
        more |= {"kernel_shape": window, "strides": (stride, stride)}
        more["pads"] = tuple(low for low, _ in pads) + tuple(high for _, high in pads)
        return self.node(operation, [x, *inputs], (features, *grid), **more)

    def _conv(self, unit: units.Conv, x: _Value, kernel: np.ndarray, bias, norm: str | None) -> _Value:
        """Adds a convolution of a kernel [h, w, in, out], with the batch normalisation of the unit `norm`."""
        if norm and self.fold:
            factor, offset = self._affine(norm)
            kernel, bias = kernel * factor, (0 if bias is None else bias * factor) + offset
        window = (unit.kernel, unit.kernel) if isinstance(unit.kernel, int) else unit.kernel
        rule = self.style.conv_padding if unit.padding is None else unit.padding
        inputs = [self.constant(f"{unit.name}/kernel", kernel.transpose(3, 2, 0, 1))]
        inputs += [] if bias is None else [self.constant(f"{unit.name}/bias", bias)]
        x = self._slide("Conv", x, window, unit.stride, rule, kernel.shape[-1], inputs, group=unit.groups)
        return self._normalize(x, norm) if norm and not self.fold else x

    def _statistics(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns scale, bias, mean and variance."""
        params, stats = self._parameters(f"{name}_bn"), self.variables["batch_stats"][self.scope][f"{name}_bn"]
        mean, var = (np.asarray(stats[part], np.float32) for part in ("mean", "var"))
        return np.asarray(params.get("scale", np.ones_like(var))), np.asarray(params["bias"]), mean, var

    def _affine(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the factor and the offset that batch normalisation is."""
        scale, bias, mean, var = (array.astype(np.float64) for array in self._statistics(name))
        factor = scale / np.sqrt(var + self.style.batch_norm.epsilon)  # type: ignore[union-attr]  # it normalises
        return factor, bias - mean * factor

    def _normalize(self, x: _Value, name: str) -> _Value:
        parts = zip(("scale", "bias", "mean", "var"), self._statistics(name), strict=True)
        constants = [self.constant(f"{name}_bn/{part}", array) for part, array in parts]
        epsilon = self.style.batch_norm.epsilon  # type: ignore[union-attr]  # it normalises
        return self.node("BatchNormalization", [x, *constants], x.shape, epsilon=float(epsilon))

    def _dense(self, unit: units.Dense | units.Logits, x: _Value, features: int, norm: str | None) -> _Value:
        kernel, bias = self._kernel(unit.name), self._bias(unit.name)
        if unit.window is not None:
            window = (unit.window, unit.window)
            conv = units.Conv(unit.name, features, window, padding="VALID")
            return self._conv(conv, x, kernel.reshape(*window, -1, features), bias, norm)
        if norm and self.fold:
            factor, offset = self._affine(norm)
            kernel, bias = kernel * factor, (0 if bias is None else bias * factor) + offset
        if len(x.shape) == 3:  # the graph flattens channels first, the kernel is for channels last
            channels, height, width = x.shape
            kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(len(kernel), -1)
            x = self.node("Flatten", [x], (len(kernel),), axis=1)
        inputs = [self.constant(f"{unit.name}/kernel", kernel)]
        inputs += [] if bias is None else [self.constant(f"{unit.name}/bias", bias)]
        x = self.node("Gemm", [x, *inputs], (features,))
        return self._normalize(x, norm) if norm and not self.fold else x

    def _residual(self, unit: units.Residual, x: _Value) -> _Value:
        shortcut = x if isinstance(unit.shortcut, bool) else self.run(unit.shortcut, x)
        y = self.run(unit.branch, x)
        if unit.projection is not None:
            conv = units.Conv(unit.projection, shortcut.shape[0], 1)
            y = self._conv(conv, y, self._kernel(unit.projection), self._bias(unit.projection), None)
        if unit.shortcut is not False:
            if unit.scale != 1:
                y = self.node("Mul", [y, self.constant("scale", np.float32(unit.scale))], y.shape)
            y = self.node("Add", [shortcut, y], y.shape)
        return self._activation(y) if unit.activation else y

    def _response_norm(self, x: _Value, groups: int, **attributes) -> _Value:
        attributes = {name: value if name == "size" else float(value) for name, value in attributes.items()}
        if groups == 1:
            return self.node("LRN", [x], x.shape, **attributes)
        part = (x.shape[0] // groups, *x.shape[1:])
        axis = self.constant("axis", np.array([1], np.int64))
        parts = []
        for i in range(groups):
            bounds = (self.constant("bound", np.array([n * part[0]], np.int64)) for n in (i, i + 1))
            parts.append(self.node("LRN", [self.node("Slice", [x, *bounds, axis], part)], part, **attributes))
        return self.node("Concat", parts, x.shape, axis=1)

    @staticmethod
    def _means(cells: int, size: int) -> np.ndarray:
        """Returns the matrix [size, cells] of an adaptive mean, see `ops.adaptive_avg_pool`."""
        matrix = np.zeros((size, cells))
        for i in range(size):
            start, stop = i * cells // size, -(-(i + 1) * cells // size)
            matrix[i, start:stop] = 1 / (stop - start)
        return matrix


# ------------------------------------------- The wire format: https://protobuf.dev/programming-guides/encoding


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _field(number: int, value: Any) -> bytes:
    """Encodes an integer, a float (single), a text, or bytes (a message)."""
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _message(*fields: tuple[int, Any]) -> bytes:
    return b"".join(_field(number, value) for number, value in fields)


def _node(operation: str, inputs: Iterable[str], output: str, attributes: Mapping[str, Any]) -> bytes:
    encoded = [_attribute(name, value) for name, value in attributes.items()]
    return _message(
        *((1, name) for name in inputs), (2, output), (3, output), (4, operation), *((5, each) for each in encoded)
    )


def _attribute(name: str, value: Any) -> bytes:
    if isinstance(value, float):
        return _message((1, name), (2, value), (20, 1))
    if isinstance(value, int):
        return _message((1, name), (3, value), (20, 2))
    return _message((1, name), *((8, int(each)) for each in value), (20, 7))


def _tensor(name: str, array: np.ndarray) -> bytes:
    dims = ((1, n) for n in array.shape)
    return _message(*dims, (2, _TYPES[array.dtype.name]), (8, name), (9, np.ascontiguousarray(array).tobytes()))


def _value_info(name: str, kind: int, shape: Iterable[int]) -> bytes:
    dimensions = [_message((2, "N")), *(_message((1, n)) for n in shape)]
    tensor = _message((1, kind), (2, _message(*((1, each) for each in dimensions))))
    return _message((1, name), (2, _message((1, tensor))))


def _model(writer: _Writer, source: Input, outputs: Mapping[str, _Value], metadata) -> bytes:
    size = (source.size, source.size)
    given = (_FLOAT, (source.channels, *size)) if source.mean is None else (_UINT8, (*size, 3))
    graph = _message(
        *((1, node) for node in writer.nodes),
        (2, "inception_jax"),
        *((5, _tensor(name, array)) for name, array in writer.constants.items()),
        (11, _value_info("images", *given)),
        *((12, _value_info(name, _FLOAT, value.shape)) for name, value in outputs.items()),
    )
    notes = [_message((1, key), (2, value)) for key, value in metadata.items()]
    return _message(
        (1, _IR_VERSION),
        (2, "inception_jax"),
        (7, graph),
        (8, _message((1, ""), (2, OPSET))),
        *((14, note) for note in notes),
    )

"""Describes a network as a table: its layers, what they cost, and what its paper prints about them."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from inception_jax import console
from inception_jax.errors import UserError
from inception_jax.models import create_model
from inception_jax.models.network import Network
from inception_jax.models.trace import Layer, Operation, layers
from inception_jax.reference import PRINTED, Printed

# The columns of `Summary.rows`; those of text come first, and last.
COLUMNS = ("layer", "operation", "output", "parameters", "multiply-adds", "memory", "field", "stride", "printed")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A printed number, or shape, beside `ours`, an int or a tuple."""

    printed: Printed
    ours: Any

    @property
    def agrees(self) -> bool:
        """See `Printed.agrees`."""
        return self.printed.agrees(self.ours)

    @property
    def difference(self) -> str:
        """'' if they agree; otherwise ours minus the printed, exactly, or our shape."""
        if self.agrees:
            return ""
        if self.printed.what == "output":
            return shape_text(self.ours)
        return f"{round(self.ours - self.printed.value, 3):+,}".removesuffix(".0")


@dataclasses.dataclass(frozen=True, repr=False)
class Summary:
    """A network at one image size; as text it is a table.

    Attributes:
      name: name of the network; '' if it has none.
      image_shape: (height, width, channels).
      layers: layers in order, without auxiliary heads.
      aux_heads: the auxiliary heads.
      comparisons: what was printed about the network, beside ours.
      as_published: whether the network is the published one, unchanged by options. Only then the reasons for
        differences hold.
    """

    name: str
    image_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    aux_heads: tuple[Layer, ...]
    comparisons: tuple[Comparison, ...]
    as_published: bool

    @property
    def parameters(self) -> int:
        """Number of parameters; auxiliary heads are left out, as in the other totals."""
        return _value("parameters", self.layers, self.image_shape)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image."""
        return _value("multiply-adds", self.layers, self.image_shape)

    @property
    def activation_bytes(self) -> int:
        """Bytes of the image and of the outputs of all operations in float32."""
        return _value("activation bytes", self.layers, self.image_shape)

    @property
    def aux_parameters(self) -> int:
        """Number of parameters of the auxiliary heads."""
        return sum(head.parameters for head in self.aux_heads)

    @property
    def operations(self) -> list[Operation]:
        """All operations, those of auxiliary heads last."""
        return [operation for layer in (*self.layers, *self.aux_heads) for operation in layer.operations]

    @property
    def notes(self) -> list[str]:
        """Reasons for the differences; `[1]` in the table stands for the first."""
        if not self.as_published:
            return []
        ordered = [entry for layer in (*self.layers, None) for entry in self._compared(layer)]
        return list(dict.fromkeys(entry.printed.reason for entry in ordered if not entry.agrees))

    def rows(self) -> list[tuple[str, ...]]:
        """Returns a row of text for each layer and, if it has several, for each of its operations; see COLUMNS."""
        rows, notes = [], self.notes
        for layer in (*self.layers, *self.aux_heads):
            single = layer.operations[0] if len(layer.operations) == 1 else None
            printed = ", ".join(_comparison_text(entry, notes) for entry in self._compared(layer))
            rows.append((layer.name, _operation_text(single), *_numbers(layer, layer.activations), printed))
            for operation in () if single else layer.operations:
                name = operation.path.partition("/")[2]
                numbers = _numbers(operation, math.prod(operation.output))
                rows.append((f"  {name}", _operation_text(operation), *numbers, ""))
        return rows

    def lines(self) -> list[str]:
        """Returns the totals, what was printed for the whole network, and the notes."""
        aux = self.aux_parameters
        convolutions = [operation.convolution for operation in self.operations if operation.convolution]
        products = sum(convolution.products for convolution in convolutions)
        notes = self.notes
        whole = ", ".join(_comparison_text(entry, notes) for entry in self._compared(None))
        name, classes = self.name or "network", self.layers[-1].output[-1]
        changed = self.comparisons and not self.as_published
        return [
            f"{name}, images of {shape_text(self.image_shape)}, {classes} classes",
            f"{self.parameters:,} parameters" + (f", {self.parameters + aux:,} with auxiliary heads" if aux else ""),
            f"{self.multiply_adds:,} multiply-adds, {size_text(self.activation_bytes)} of activations in float32",
            f"{console.plural(len(convolutions), 'convolution')}{', with auxiliary heads' if aux else ''}: "
            f"{products:,} products without padding, as XLA counts them",
            *([f"printed for the whole network: {whole}"] if whole else []),
            *(["the printed numbers are of the network without these options"] if changed else []),
            *(f"[{number}] {note}" for number, note in enumerate(notes, start=1)),
        ]

    def __str__(self) -> str:
        rows = self.rows()
        table = console.table(COLUMNS[:-1], [row[:-1] for row in rows], left=3).splitlines()
        # Printed numbers stand on the left; every line before them ends with a stride, at the same place.
        printed = (COLUMNS[-1], *(row[-1] for row in rows))
        lines = [f"{line}  {text}".rstrip() for line, text in zip(table, printed, strict=True)]
        return "\n".join([*lines, "", *self.lines()])

    __repr__ = __str__  # an interactive session shows the table

    def to_dict(self) -> dict:
        """Returns everything as plain data; strides after an adaptive pool are of type Fraction."""
        return {
            "network": self.name,
            "image_shape": self.image_shape,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "activation_bytes": self.activation_bytes,
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "aux_heads": [dataclasses.asdict(head) for head in self.aux_heads],
            "printed": [
                dataclasses.asdict(entry.printed) | {"ours": entry.ours, "agrees": entry.agrees}
                for entry in self.comparisons
            ],
        }

    def _compared(self, layer: Layer | None) -> list[Comparison]:
        """Returns the comparisons of a layer; None: those of the whole network."""
        return [entry for entry in self.comparisons if entry.printed.layer == (layer.name if layer else "")]


def summary(network: str | Network, image_shape: Sequence[int] = (), **options) -> Summary:
    """Describes a network: its layers, what they cost, and beside them the numbers that its paper prints.

    >>> print(inception_jax.summary("googlenet", stem="separable"))

    Args:
      network: name of a network, see `list_models`, or a network. Only a name is compared with printed numbers.
      image_shape: (height, width) or (height, width, channels) of the images; the paper's unless given. Printed
        numbers are compared at the paper's shape only.
      **options: options of `create_model`, with a name.

    Raises:
      UserError: unknown name or option, or images that are too small.
    """
    if isinstance(network, Network):
        if options:
            raise UserError(f"options={options} are of a network that is given by its name")
        name, model = "", network
    else:
        name, model = network, create_model(network, **options)
    shape = (*image_shape, *model.input_shape[len(image_shape) :])
    main, aux_heads = layers(model, shape)
    printed = PRINTED.get(name, ()) if shape == model.input_shape else ()
    by_name = {layer.name: (layer,) for layer in main} | {"": main}
    comparisons = tuple(
        Comparison(entry, _value(entry.what, by_name[entry.layer], shape))
        for entry in printed
        if entry.layer in by_name
    )
    as_published = not name or model.layers == create_model(name).layers
    return Summary(name, shape, tuple(main), tuple(aux_heads), comparisons, as_published)


def check_with_xla(operations: Iterable[Operation]) -> None:
    """Checks that XLA's cost analysis counts the products of each convolution as this module does.

    Raises:
      RuntimeError: the counts of a convolution differ, which is a defect of this package.
    """
    paths = {operation.convolution: operation.path for operation in operations if operation.convolution}
    for convolution, path in paths.items():
        ours, theirs = np.float32(convolution.products), np.float32(convolution.products_by_xla())
        if ours != theirs:
            raise RuntimeError(f"{path}: {ours:.0f} products by our count, {theirs:.0f} by XLA's")


def shape_text(sizes: Sequence[int]) -> str:
    """Returns '112x112x64' for (112, 112, 64)."""
    return "x".join(map(str, sizes))


def size_text(count: int) -> str:
    """Returns '3.21 MB' or '802.8 kB' for a number of bytes, '' for 0."""
    return "" if not count else f"{count / 1e6:,.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def pair_text(pair: Sequence[float | Fraction]) -> str:
    """Returns '3' for (3, 3), '3x5' for (3, 5); fractions have one digit."""
    sizes = [f"{float(size):.1f}".removesuffix(".0") for size in pair]
    return sizes[0] if sizes[0] == sizes[1] else "x".join(sizes)


def _value(what: str, part: Sequence[Layer], image_shape) -> Any:
    """Returns our value of the kind `what` (see `Printed`) for one layer, or for all."""
    match what:
        case "output":
            return part[0].output
        case "neurons":
            return math.prod(part[0].output)
        case "activation bytes":
            return 4 * (math.prod(image_shape) + sum(layer.activations for layer in part))
    return sum(getattr(layer, what.replace("-", "_")) for layer in part)


def _comparison_text(entry: Comparison, notes: Sequence[str]) -> str:
    """Returns '159K parameters ✓', or '2.7K parameters ✗ +6,707.2 [1]' with the number of its note, if it has one."""
    kind = "" if entry.printed.what == "output" else f" {entry.printed.what}"
    text = f"{entry.printed.text}{kind} " + ("✓" if entry.agrees else f"✗ {entry.difference}")
    noted = not entry.agrees and entry.printed.reason in notes
    return text + (f" [{notes.index(entry.printed.reason) + 1}]" if noted else "")


def _operation_text(operation: Operation | None) -> str:
    if operation is None:
        return ""
    window, stride = shape_text(operation.window), operation.stride
    if operation.kind in ("max pool", "average pool"):
        return f"{operation.kind} {window}/{stride}"
    if operation.convolution is None:
        return f"{operation.kind} {window}".rstrip()
    groups = operation.convolution.groups
    return f"{window}/{stride}" + (f", {groups} groups" if groups > 1 else "")


def _numbers(part: Layer | Operation, activations: int) -> tuple[str, ...]:
    """Returns the texts of all columns of numbers."""
    counts = (f"{count:,}" if count else "" for count in (part.parameters, part.multiply_adds))
    field = part.field
    return shape_text(part.output), *counts, size_text(4 * activations), pair_text(field.size), pair_text(field.stride)

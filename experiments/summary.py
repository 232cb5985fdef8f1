"""A network layer by layer, and beside it what its paper prints.

python -m experiments.summary --model=googlenet [stem=separable] [num_classes=10]
python -m experiments.summary --config=configs/googlenet.py [--config.model.stem=separable]
python -m experiments.summary --fidelity > docs/fidelity.md
"""

import ast
import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments.command_line import parse_flags
from inception_jax import UserError, create_model, list_models
from inception_jax.models.network import Network
from inception_jax.models.summary import Layer, layers
from inception_jax.models.trace import Row
from inception_jax.reference import NOTES, PRINTED, Printed
from inception_jax.training.config import validate

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe whose network is shown, a file of configs/.")
_MODEL = flags.DEFINE_string("model", None, "Or the network's name; its options follow as NAME=VALUE.")
_SIZE = flags.DEFINE_integer("size", None, "Height and width of the images (the config's or the paper's).", 1)
_MARKDOWN = flags.DEFINE_bool("markdown", False, "Print Markdown.")
_JSON = flags.DEFINE_string("json", None, "File to write everything to as JSON.")
_FIDELITY = flags.DEFINE_bool("fidelity", False, "Print docs/fidelity.md: paper against code, all networks.")

_COLUMNS = ("layer", "operation", "output", "parameters", "multiply-adds", "memory", "field", "stride", "printed")
_LEFT = ("layer", "operation", "output", "printed", "network", "what", "source", "why")


@dataclasses.dataclass(frozen=True)
class Summary:
    """A network at one image size: its layers, its auxiliary heads, and what was printed about it beside ours."""

    name: str
    image_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    heads: tuple[Layer, ...]
    comparisons: tuple["Comparison", ...]
    is_papers: bool

    @classmethod
    def of(cls, name: str, model: Network, image_shape=None) -> "Summary":
        """Traces `model` at `image_shape`; printed numbers are compared at the paper's alone, the default.

        Their reasons hold for the network without options: `is_papers`.
        """
        image_shape = image_shape or model.native
        main, heads = layers(model, image_shape)
        names = {layer.name for layer in main} | {""}
        printed = [entry for entry in PRINTED.get(name, ()) if entry.layer in names and image_shape == model.native]
        comparisons = tuple(Comparison(entry, _ours(entry.what, entry.layer, main, image_shape)) for entry in printed)
        is_papers = model.layers == create_model(name).layers
        return cls(name, image_shape, tuple(main), tuple(heads), comparisons, is_papers)

    @property
    def parameters(self) -> int:
        """Without auxiliary heads, as are the other totals."""
        return _ours("parameters", "", self.layers, self.image_shape)

    @property
    def multiply_adds(self) -> int:
        """Of one image."""
        return _ours("multiply-adds", "", self.layers, self.image_shape)

    @property
    def activation_bytes(self) -> int:
        """The image's and all outputs' of operations, four bytes a number."""
        return _ours("activation bytes", "", self.layers, self.image_shape)

    @property
    def convolutions(self) -> list[Row]:
        """All convolutions, those of auxiliary heads last."""
        return [row for layer in (*self.layers, *self.heads) for row in layer.rows if row.convolution]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A printed number beside ours."""

    printed: Printed
    ours: int | tuple[int, ...]

    @property
    def agrees(self) -> bool:
        """See `Printed.agrees`."""
        return self.printed.agrees(self.ours)

    @property
    def difference(self) -> str:
        """'' if they agree; else ours minus the printed, exactly, or our shape."""
        if self.agrees:
            return ""
        if self.printed.what == "output":
            return _shape(self.ours)
        return f"{round(self.ours - self.printed.value, 3):+,}".removesuffix(".0")

    def text(self, mark: str = "") -> str:
        """'159K parameters ✓', or '2.7K parameters ✗ +6,707.2'; `mark` follows a difference."""
        kind = "" if self.printed.what == "output" else f" {self.printed.what}"
        return f"{self.printed.text}{kind} " + ("✓" if self.agrees else f"✗ {self.difference}{mark}")


def _ours(what: str, layer: str, main, image_shape) -> int | tuple[int, ...]:
    """Our value for a `Printed` of that kind."""
    part = [entry for entry in main if entry.name == layer] if layer else main
    match what:
        case "output":
            return part[0].output
        case "neurons":
            return math.prod(part[0].output)
        case "activation bytes":
            return 4 * (math.prod(image_shape) + sum(entry.activations for entry in part))
    return sum(getattr(entry, what.replace("-", "_")) for entry in part)


def layer_table(summary: Summary) -> tuple[list[tuple[str, ...]], list[str]]:
    """The rows of the table, each layer and under it its operations if it has several; and the notes it refers to."""
    table: list[tuple[str, ...]] = []
    notes: list[str] = []
    for layer in (*summary.layers, *summary.heads):
        single = layer.rows[0] if len(layer.rows) == 1 else None
        of_layer = [entry for entry in summary.comparisons if entry.printed.layer == layer.name]
        printed = [_marked(entry, notes if summary.is_papers else None) for entry in of_layer]
        table.append((layer.name, _operation(single), *_numbers(layer, layer.activations), ", ".join(printed)))
        for row in () if single else layer.rows:
            name = row.path.partition("/")[2]
            table.append((f"  {name}", _operation(row), *_numbers(row, math.prod(row.output)), ""))
    return table, notes


def _marked(comparison: Comparison, notes: list[str] | None) -> str:
    """The comparison, with the number of its reason in `notes`, if there are notes."""
    reason = comparison.printed.reason
    if comparison.agrees or notes is None:
        return comparison.text()
    if reason not in notes:
        notes.append(reason)
    return comparison.text(f" [{notes.index(reason) + 1}]")


def _operation(row: Row | None) -> str:
    if row is None:
        return ""
    window = "x".join(map(str, row.window))
    if row.convolution is None:
        return f"{row.operation} {window}" + (f"/{row.stride}" if row.operation in ("max pool", "average pool") else "")
    groups = row.convolution.groups
    return f"{window}/{row.stride}" + (f", {groups} groups" if groups > 1 else "")


def _numbers(of: Layer | Row, activations: int) -> tuple[str, ...]:
    counts = (f"{count:,}" if count else "" for count in (of.parameters, of.multiply_adds))
    return _shape(of.output), *counts, _megabytes(4 * activations), _pair(of.field.size), _pair(of.field.stride)


def _megabytes(count: int) -> str:
    return "" if not count else f"{count / 1e6:,.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _pair(pair: tuple[int, int]) -> str:
    # The stride after an adaptive pool is a fraction.
    sizes = [f"{float(size):.1f}".removesuffix(".0") for size in pair]
    return sizes[0] if sizes[0] == sizes[1] else "x".join(sizes)


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def render(header: tuple[str, ...], rows: list[tuple[str, ...]], markdown: bool) -> str:
    """A table as text or as Markdown."""
    if markdown:
        rules = ["---" if name in _LEFT else "--:" for name in header]
        indented = [(row[0].replace("  ", "&nbsp;&nbsp;"), *row[1:]) for row in rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in [header, rules, *indented])
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in [header, *rows]:
        cells = zip(row, widths, header, strict=True)
        lines.append(
            "  ".join(f"{cell:{'<' if name in _LEFT else '>'}{width}}" for cell, width, name in cells).rstrip()
        )
    return "\n".join(lines)


def report(summary: Summary, markdown: bool) -> str:
    """Everything about one network as text or Markdown."""
    table, notes = layer_table(summary)
    whole = [
        _marked(entry, notes if summary.is_papers else None) for entry in summary.comparisons if not entry.printed.layer
    ]
    of_heads = sum(head.parameters for head in summary.heads)
    left_out = sum(row.convolution.products for row in summary.convolutions)
    lines = [
        f"{summary.name}, images of {_shape(summary.image_shape)}, {summary.layers[-1].output[-1]} classes",
        f"{summary.parameters:,} parameters" + (f", {summary.parameters + of_heads:,} with heads" if of_heads else ""),
        f"{summary.multiply_adds:,} multiply-adds, {_megabytes(summary.activation_bytes)} of activations in float32",
        f"{len(summary.convolutions)} convolutions{', heads included' if of_heads else ''}: "
        f"{left_out:,} products without padding, as XLA counts them",
        *(["printed about the whole: " + ", ".join(whole)] if whole else []),
        *(["with these options it is not the network that was printed about"] if not summary.is_papers else []),
        *(f"[{i}] {note}" for i, note in enumerate(notes, start=1)),
    ]
    return render(_COLUMNS, table, markdown) + "\n\n" + "\n".join(f"- {line}" if markdown else line for line in lines)


def check_with_xla(convolutions: list[Row]) -> None:
    """Checks that XLA's cost analysis counts the products of each convolution as we do.

    Raises:
      RuntimeError: it does not, which is a defect of ours; the convolution is named.
    """
    for convolution, path in {row.convolution: row.path for row in convolutions}.items():
        ours, theirs = np.float32(convolution.products), np.float32(convolution.products_by_xla())
        if ours != theirs:
            raise RuntimeError(f"{path}: {ours:.0f} products by our count, {theirs:.0f} by XLA's")


def to_json(summary: Summary) -> dict:
    """Everything about one network as plain data; strides after an adaptive pool are fractions."""
    return {
        "network": summary.name,
        "image_shape": summary.image_shape,
        "parameters": summary.parameters,
        "multiply_adds": summary.multiply_adds,
        "activation_bytes": summary.activation_bytes,
        "layers": [dataclasses.asdict(layer) for layer in summary.layers],
        "aux_heads": [dataclasses.asdict(head) for head in summary.heads],
        "printed": [
            dataclasses.asdict(entry.printed) | {"ours": entry.ours, "agrees": entry.agrees}
            for entry in summary.comparisons
        ],
    }


def fidelity(summary_of: Callable[[str], Summary]) -> str:
    """docs/fidelity.md: totals of all networks, then what was printed about each beside ours."""
    names = list_models()
    totals, sections = [], []
    for name in names:
        summary = summary_of(name)
        last = summary.layers[-1].field
        of_heads = sum(head.parameters for head in summary.heads)
        totals.append(
            (
                f"[{name}](#{name})" if name in PRINTED or name in NOTES else name,
                _shape(summary.image_shape),
                f"{summary.parameters:,}",
                f"{summary.parameters + of_heads:,}" if of_heads else "",
                f"{summary.multiply_adds:,}",
                _megabytes(summary.activation_bytes),
                _pair(last.size),
            )
        )
        if name not in PRINTED and name not in NOTES:
            continue
        rows = [
            (
                entry.printed.layer or "whole network",
                entry.printed.what,
                entry.printed.text,
                entry.printed.source,
                _shape(entry.ours) if entry.printed.what == "output" else f"{entry.ours:,}",
                "✓" if entry.agrees else f"✗ {entry.difference}",
                "" if entry.agrees else entry.printed.reason,
            )
            for entry in summary.comparisons
        ]
        table = render(("layer", "what", "printed", "source", "ours", "", "why"), rows, True) if rows else ""
        notes = "\n".join(f"- {note}" for note in NOTES.get(name, ()))
        sections.append("\n\n".join(part for part in (f"## {name}", notes, table) if part))
    header = ("network", "images", "parameters", "with heads", "multiply-adds", "activations", "field")
    return "\n\n".join([_INTRODUCTION, render(header, totals, True), *sections]) + "\n"


_INTRODUCTION = """# Paper against code

What each paper, or the code released with it, prints, and what this code has. Written by
`python -m experiments.summary --fidelity`; a test fails when it is stale.

A printed number agrees (✓) if ours, rounded or cut to its digits, is the same: papers do both. A number printed in full
must be equal. A difference is ours minus the printed. Parameters are those of the network without
auxiliary heads unless said otherwise, batch normalisation's running statistics not among them; weights are parameters
without biases and batch normalisation. Multiply-adds are of convolutions and dense layers, for one image, products with
padding included. Activations are the image and the outputs of all operations in float32. The field is what one score
sees of the image, in pixels, padding included."""


def _options(arguments: list[str]) -> dict:
    """The options that the command line gives as NAME=VALUE."""
    options = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name == "name" or name in options:
            raise UserError(f"{argument!r} is no option of the form NAME=VALUE, given once")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):  # a word
            options[name] = value
    return options


def _summary(options: dict) -> Summary:
    """Of the network that the flags ask for."""
    if _MODEL.value is not None:
        options = {"name": _MODEL.value} | options
        model = create_model(**options)
        shape = (_SIZE.value, _SIZE.value, model.native[2]) if _SIZE.value else model.native
    else:
        validate(_CONFIG.value)
        options = _CONFIG.value.model.to_dict() | options
        model = create_model(**options)
        shape = (_SIZE.value or _CONFIG.value.data.image_size,) * 2 + (_CONFIG.value.data.channels,)
    return Summary.of(options["name"], model, shape)


def main(argv: list[str]) -> int:
    """Returns the exit status: 0, 2 for bad input."""
    try:
        chosen = [_CONFIG.value is not None, _MODEL.value is not None, _FIDELITY.value]
        if sum(chosen) != 1 or (_FIDELITY.value and argv[1:]):
            raise UserError("give one of --config, --model and --fidelity, the last without options")
        if _FIDELITY.value:
            print(fidelity(lambda name: Summary.of(name, create_model(name))), end="")
            return 0
        summary = _summary(_options(argv[1:]))
        check_with_xla(summary.convolutions)
        if _JSON.value:
            Path(_JSON.value).write_text(json.dumps(to_json(summary), indent=2, default=float) + "\n", encoding="utf-8")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(summary, _MARKDOWN.value))
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: parse_flags(argv, "-m experiments.summary", positional=True))

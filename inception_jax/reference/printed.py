"""A printed number: how it is stated, and compared with ours."""

import dataclasses
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

KINDS = ("output", "parameters", "weights", "multiply-adds", "neurons", "activation bytes")


@dataclasses.dataclass(frozen=True)
class Printed:
    """A number, or a shape, as a paper or its released code prints it.

    Attributes:
      what: one of KINDS. `output` is height x width x channels of an end point. `weights` are parameters without biases
        and batch normalisation. `neurons` is the number of values in a layer's output. `activation bytes` are those
        of the image and of the outputs of all operations, four for each value.
      layer: name of the end point; '' for the whole network without its auxiliary heads.
      text: the printed text: '2.7K', '60,965,224', '112x112x64'.
      source: place in the paper or code: 'Table 1, column params'.
      unit: factor that the text's unit stands for: 1024 where a table's K means that.
      reason: why ours differs; '' if it agrees.
    """

    what: str
    layer: str
    text: str
    source: str
    unit: int = 1
    reason: str = ""

    @property
    def value(self) -> Any:
        """The printed number in units of one, a float; of `output` the sizes of the shape, a tuple."""
        if self.what == "output":
            return tuple(int(size) for size in self.text.split("x"))
        return float(self._digits.replace(",", "")) * self.unit

    def agrees(self, ours: Any) -> bool:
        """Returns whether `ours` is the printed shape, or the printed number after rounding or truncation.

        Papers do both. A number printed in full must be equal.
        """
        if self.what == "output" or self.unit == 1:
            return ours == self.value
        digits = self._digits.replace(",", "")
        scale = Fraction(10 ** len(digits.partition(".")[2]), self.unit)
        return int(digits.replace(".", "")) in (math.floor(ours * scale), math.floor(ours * scale + Fraction(1, 2)))

    @property
    def _digits(self) -> str:
        match = re.match(r"[\d.,]+", self.text)
        if match is None:
            raise ValueError(f"{self.text!r} does not begin with a number")
        return match.group()


def column(
    what: str, source: str, cells: Mapping[str, str], unit: int = 1, reasons: Mapping[str, str] | None = None
) -> tuple[Printed, ...]:
    """Returns the cells of a table's column.

    Args:
      what: one of KINDS.
      source: place of the column.
      cells: the printed texts by layer.
      unit: factor that their unit stands for.
      reasons: why ours differs, by layer; layers that agree have none.
    """
    return tuple(
        Printed(what, layer, text, source, unit, (reasons or {}).get(layer, "")) for layer, text in cells.items()
    )


def torchvision(file: str, num_params: str, ops: str, ops_reason: str = "") -> tuple[Printed, ...]:
    """Returns the metadata of torchvision's weights; its operations are multiply-adds."""
    source = f"torchvision/models/{file}, weights' metadata"
    return (
        Printed("parameters", "", num_params, f"{source}, num_params"),
        Printed("multiply-adds", "", f"{ops} G", f"{source}, _ops", 10**9, ops_reason),
    )


def imgclsmob(params: str, name: str) -> tuple[Printed, ...]:
    """Returns a row of the collection osmr/imgclsmob, which transcribes networks from many sources."""
    return (Printed("parameters", "", params, f"osmr/imgclsmob, pytorch/README.md, {name}"),)

"""How a number that was printed somewhere is written down here, and compared."""

import dataclasses
import math
import re
from collections.abc import Mapping
from fractions import Fraction

KINDS = ("output", "parameters", "weights", "multiply-adds", "neurons", "activation bytes")


@dataclasses.dataclass(frozen=True)
class Printed:
    """One number, or one shape, as a paper or its released code prints it.

    Attributes:
      what: one of KINDS. `output` is height x width x channels of an end point; `weights` are parameters without biases
        and batch normalisation; `neurons` are the numbers in a layer's output; `activation bytes` are those of
        the image and of the outputs of all operations, four for each number.
      layer: the end point; '' for the whole network without its auxiliary heads.
      text: as printed: '2.7K', '60,965,224', '112x112x64'.
      source: where: 'Table 1, column params'.
      unit: what its letter stands for: 1024 where a table's K are such.
      reason: why ours differs, where it does: shown beside the difference.
    """

    what: str
    layer: str
    text: str
    source: str
    unit: int = 1
    reason: str = ""

    @property
    def value(self) -> float | tuple[int, ...]:
        """The number printed, in ones; of a shape its sizes."""
        if self.what == "output":
            return tuple(int(size) for size in self.text.split("x"))
        return float(self._digits.replace(",", "")) * self.unit

    def agrees(self, ours: int | tuple[int, ...]) -> bool:
        """Whether `ours` is the shape printed, or the number rounded or cut to the printed digits: papers do both."""
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
    """A column of a table: what it prints by the layer, and why ours differs, by the layer, where it does."""
    return tuple(
        Printed(what, layer, text, source, unit, (reasons or {}).get(layer, "")) for layer, text in cells.items()
    )


def torchvision(file: str, num_params: str, ops: str, ops_reason: str = "") -> tuple[Printed, ...]:
    """The metadata of torchvision's weights; its operations are multiply-adds."""
    source = f"torchvision/models/{file}, weights' metadata"
    return (
        Printed("parameters", "", num_params, f"{source}, num_params"),
        Printed("multiply-adds", "", f"{ops} G", f"{source}, _ops", 10**9, ops_reason),
    )


def imgclsmob(params: str, name: str) -> tuple[Printed, ...]:
    """A row of the collection osmr/imgclsmob, which transcribes networks from many sources."""
    return (Printed("parameters", "", params, f"osmr/imgclsmob, pytorch/README.md, {name}"),)

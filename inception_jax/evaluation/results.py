"""Results of an evaluation: networks by protocols, as a table, JSON and CSV."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from inception_jax import console
from inception_jax.evaluation.analysis import Analysis
from inception_jax.evaluation.protocols import Protocol
from inception_jax.paths import AnyPath, written
from inception_jax.reference.printed_results import Result
from inception_jax.spreadsheet import row_writer


@dataclasses.dataclass(frozen=True)
class ProtocolResult:
    """Result of a network, or of an ensemble, by one protocol: a row of the table.

    Attributes:
      members: titles of the networks.
      protocols: protocol of each network; scales differ if the networks' input sizes do.
      analysis: metrics over the images that count.
      base: metrics that the gain is measured against; None for the first row itself.
      printed: what a paper prints for the same networks and protocol; None if nothing.
      classes: int64 [n, min(5, K)], the most probable classes of each image that counts, the best first.
      probabilities: float32 [n, min(5, K)], their probabilities.
      losses: float64 [n], negative log-probability of the label, or of all right classes together.
    """

    members: tuple[str, ...]
    protocols: tuple[Protocol, ...]
    analysis: Analysis
    base: Analysis | None
    printed: Result | None
    classes: np.ndarray
    probabilities: np.ndarray
    losses: np.ndarray

    @property
    def name(self) -> str:
        """Title of the network, or the number of networks."""
        return self.members[0] if len(self.members) == 1 else f"{len(self.members)} networks"

    @property
    def protocol(self) -> str:
        """Name of the protocol, with its scales if all networks have the same."""
        described = dict.fromkeys(protocol.describe() for protocol in self.protocols)
        return self.protocols[0].name if len(described) > 1 else next(iter(described))

    @property
    def passes(self) -> int:
        """Number of forward passes per image; those of 'dense' see larger images than others."""
        return sum(protocol.windows for protocol in self.protocols)

    def cells(self) -> dict[str, str]:
        """Returns the text of each column of the table; '' where the row has no value."""
        own, base, printed = self.analysis, self.base, self.printed
        return {
            "network": self.name,
            "protocol": self.protocol,
            "passes": f"{self.passes:,}",
            "images": f"{own.count:,}",
            "top-1": console.percent(own.top1),
            "top-5": console.percent(own.top5),
            "loss": "" if own.loss is None else f"{own.loss:.4f}",
            "calibration error": console.percent(own.calibration_error),
            "gain top-1": "" if base is None else f"{100 * (own.top1 - base.top1):+.2f}",
            "gain top-5": "" if base is None else f"{100 * (own.top5 - base.top5):+.2f}",
            "paper top-1": "" if printed is None or printed.top1 is None else console.percent(1 - printed.top1 / 100),
            "paper top-5": "" if printed is None or printed.top5 is None else console.percent(1 - printed.top5 / 100),
        }

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Returns all numbers, accuracies as fractions.

        'confusion' lists the entries of the matrix that are not 0 as [true class, predicted class, number of images].
        """
        own, base = self.analysis, self.base
        described = [{"name": p.name, "size": p.size, "scales": p.scales, "windows": p.windows} for p in self.protocols]
        result = {"networks": self.members, "protocols": described, "passes": self.passes} | own.summary()
        if base is not None:
            result["gain"] = {"top1": own.top1 - base.top1, "top5": own.top5 - base.top5}
        if self.printed is not None:
            result["printed_error_percent"] = {
                "top1": self.printed.top1,
                "top5": self.printed.top5,
                "source": self.printed.source,
            }
        result["reliability"] = [
            {"images": int(images), "confidence": confidence, "accuracy": accuracy}
            for images, confidence, accuracy in own.bins.tolist()
        ]
        if own.confusion is not None:
            known = ~np.isnan(own.per_class)
            result["per_class"] = {class_names[k]: float(own.per_class[k]) for k in np.flatnonzero(known).tolist()}
            places = np.argwhere(own.confusion)
            result["confusion"] = [[*place, int(own.confusion[tuple(place)])] for place in places.tolist()]
        return result


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Result of `evaluate`.

    Attributes:
      rows: each network by each protocol, then all networks together by each protocol if there are several.
      aggregate: how windows and networks were combined, see `scoring.combine`.
      class_names: names by class index.
      positions: int64 [n], positions in the split of the images that count.
      names: names of these n images.
      labels: right classes of these n images.
      images: number of images of the split.
      damaged: name and reason of each image that could not be decoded.
    """

    rows: tuple[ProtocolResult, ...]
    aggregate: str
    class_names: tuple[str, ...]
    positions: np.ndarray
    names: tuple[str, ...]
    labels: tuple[frozenset[int], ...]
    images: int
    damaged: tuple[str, ...]

    def table(self) -> str:
        """Returns the table for a terminal, and where the paper's columns come from."""
        shown = columns(self.rows)
        table = console.table(list(shown), list(zip(*shown.values(), strict=True)), left=2)
        return "\n".join([table, *notes(self.rows)])

    def to_json(self) -> dict[str, Any]:
        """Returns all numbers as JSON."""
        return {
            "aggregate": self.aggregate,
            "images": self.images,
            "count": len(self.positions),
            "damaged": self.damaged,
            "rows": [row.to_json(self.class_names) for row in self.rows],
        }

    def write_predictions(self, file: AnyPath, raw_csv: bool = False) -> None:
        """Writes a CSV line for each row and image: right classes, loss, and the five most probable classes.

        Args:
          file: file to write.
          raw_csv: see `spreadsheet.row_writer`.
        """
        best = min(5, len(self.class_names))
        head = [f"{what}_{rank}" for rank in range(1, best + 1) for what in ("class", "probability")]
        with written(file) as local, open(local, "w", encoding="utf-8", newline="") as target:
            write = row_writer(target, raw_csv)
            write(["networks", "protocol", "image", "label", "loss", *head])
            for row in self.rows:
                about = [" + ".join(row.members), row.protocol]
                predictions = zip(self.names, self.labels, row.losses, row.classes, row.probabilities, strict=True)
                for name, right, loss, classes, probabilities in predictions:
                    label = " | ".join(self.class_names[label] for label in sorted(right))
                    guesses = zip(classes.tolist(), probabilities.tolist(), strict=True)
                    listed = [cell for k, p in guesses for cell in (self.class_names[k], f"{p:.6f}")]
                    write([*about, name, label, f"{loss:.6f}", *listed])


def columns(rows: Sequence[ProtocolResult]) -> dict[str, list[str]]:
    """Returns the columns of the table by name; those without a value are left out."""
    cells = [row.cells() for row in rows]
    shown = {name: [line[name] for line in cells] for name in cells[0]}
    return {name: column for name, column in shown.items() if any(column)}


def notes(rows: Sequence[ProtocolResult]) -> list[str]:
    """Returns the lines below the table: the sources of the paper's columns, and what a dense pass is."""
    sources = dict.fromkeys(row.printed.source for row in rows if row.printed)
    lines = [f"paper: 100 % minus the error of {source}" for source in sources]
    if any(protocol.is_dense for row in rows for protocol in row.protocols):
        lines.append("passes of the dense protocol see whole images")
    return lines

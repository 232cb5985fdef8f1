"""The rows of an evaluation, networks by protocols: for a terminal, as JSON and CSV, and in the report."""

import csv
import dataclasses
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from inception_jax.evaluation.analysis import Analysis
from inception_jax.evaluation.page import (
    LIGHT,
    Sample,
    confusion_section,
    drawing,
    percent,
    plural,
    samples_section,
    section,
)
from inception_jax.evaluation.protocols import Protocol
from inception_jax.reference.results import Result

_LOWEST_CLASSES = 20


@dataclasses.dataclass(frozen=True)
class Row:
    """What an ensemble of one or more networks makes of the images by a protocol.

    Attributes:
      members: what to call the networks.
      protocols: of each network; they differ where the sizes of the images do.
      analysis: of the images that count.
      base: the row that this one is compared with, None for the base itself.
      printed: what a paper prints of the same, None if nothing.
      classes: int64 [n, 5], the most probable classes of each image that counts, the best first.
      probabilities: float32 [n, 5], theirs.
      losses: float64 [n], -log of the probability of the label, or of all that are right.
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
        """Of the network, or the number of networks."""
        return self.members[0] if len(self.members) == 1 else f"{len(self.members)} networks"

    @property
    def protocol(self) -> str:
        """For a person."""
        described = dict.fromkeys(protocol.describe() for protocol in self.protocols)
        return self.protocols[0].name if len(described) > 1 else next(iter(described))

    @property
    def passes(self) -> int:
        """Forward passes an image; those of 'dense' see larger images than others."""
        return sum(protocol.windows for protocol in self.protocols)

    def cells(self) -> dict[str, str]:
        """What the table shows, by column."""
        own, base, printed = self.analysis, self.base, self.printed
        return {
            "network": self.name,
            "protocol": self.protocol,
            "passes": f"{self.passes:,}",
            "images": f"{own.count:,}",
            "top-1": _percent(own.top1),
            "top-5": _percent(own.top5),
            "loss": "" if own.loss is None else f"{own.loss:.4f}",
            "calibration error": _percent(own.calibration_error),
            "gain top-1": "" if base is None else f"{100 * (own.top1 - base.top1):+.2f}",
            "gain top-5": "" if base is None else f"{100 * (own.top5 - base.top5):+.2f}",
            "paper top-1": "" if printed is None or printed.top1 is None else _percent(1 - printed.top1 / 100),
            "paper top-5": "" if printed is None or printed.top5 is None else _percent(1 - printed.top5 / 100),
        }

    def as_json(self, class_names: Sequence[str]) -> dict:
        """All numbers, shares of 1; the confusion matrix as the triples [true, predicted, images] that are not 0."""
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
            result["per_class"] = {class_names[k]: float(own.per_class[k]) for k in np.flatnonzero(known)}
            places = np.argwhere(own.confusion)
            result["confusion"] = [[*place, int(own.confusion[tuple(place)])] for place in places.tolist()]
        return result


def table(rows: Sequence[Row]) -> str:
    """The rows for a terminal; columns in which nothing stands are left out."""
    columns = _columns(rows)
    widths = [max(len(cell) for cell in (name, *cells)) for name, cells in columns.items()]
    lines = zip(*([name, *cells] for name, cells in columns.items()), strict=True)
    text = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*text, *_sources(rows)])


def write_predictions(
    file: Path, rows: Sequence[Row], images: Sequence[str], labels: Sequence[Iterable[int]], class_names: Sequence[str]
) -> None:
    """Writes a line for each row and image: its right classes and the five most probable ones, as CSV.

    Args:
      file: to write.
      rows: of the same images.
      images: what to call those that count.
      labels: their right classes.
      class_names: by class.
    """
    best = min(5, len(class_names))
    head = [f"{what}_{rank}" for rank in range(1, best + 1) for what in ("class", "probability")]
    with open(file, "w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["networks", "protocol", "image", "label", "loss", *head])
        for row in rows:
            about = [" + ".join(row.members), row.protocol]
            predictions = zip(images, labels, row.losses, row.classes, row.probabilities, strict=True)
            for image, right, loss, classes, probabilities in predictions:
                label = " | ".join(class_names[label] for label in sorted(right))
                guesses = zip(classes.tolist(), probabilities.tolist(), strict=True)
                listed = [cell for k, p in guesses for cell in (class_names[k], f"{p:.6f}")]
                writer.writerow([*about, image, label, f"{loss:.6f}", *listed])


def evaluation_section(
    rows: Sequence[Row], about: str, command: str, class_names: Sequence[str], worst: Sequence[Sample]
) -> str:
    """The part of the report: the table; of its last row the rest.

    Args:
      rows: of the table.
      about: the data and how it was counted, a sentence.
      command: that made it.
      class_names: by class.
      worst: images with the highest loss by the last row.
    """
    last = rows[-1]
    columns = _columns(rows)
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>\n"
        for line in zip(*columns.values(), strict=True)
    )
    notes = "".join(f"<p>{html.escape(line)}</p>\n" for line in _sources(rows))
    shown = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Results">\n<table class="rows">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n{notes}"
        f"<p><code>{html.escape(command)}</code></p>"
    )
    parts = [section("Evaluation", about, shown), _reliability(last)]
    if last.analysis.confusion is not None:
        heading = f"Confusion of {last.name} by {last.protocol}"
        parts.append(confusion_section(last.analysis.confusion, class_names, heading))
        parts.append(_lowest_classes(last.analysis, class_names))
    if worst:
        parts.append(samples_section(f"The {plural(len(worst), 'image')} of the highest loss", worst, class_names))
    return "\n".join(filter(None, parts))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    cells = [row.cells() for row in rows]
    columns = {name: [line[name] for line in cells] for name in cells[0]}
    return {name: column for name, column in columns.items() if any(column)}


def _sources(rows: Sequence[Row]) -> list[str]:
    """Where the paper's columns are from, a line for each."""
    sources = dict.fromkeys(row.printed.source for row in rows if row.printed)
    lines = [f"paper: 100 % less the error of {source}" for source in sources]
    if any(protocol.is_dense for row in rows for protocol in row.protocols):
        lines.append("passes of the dense protocol see whole images")
    return lines


def _reliability(row: Row) -> str:
    sizes, confidence, accuracy = row.analysis.bins.T
    filled = sizes > 0

    def draw(axes):
        edges = np.linspace(0, 1, len(sizes) + 1)
        axes.bar(edges[:-1][filled], accuracy[filled], 1 / len(sizes), align="edge", color=LIGHT["train"], alpha=0.45)
        axes.plot([0, 1], [0, 1], color=LIGHT["quiet"], linestyle="--", linewidth=1)
        axes.plot(confidence[filled], accuracy[filled], color=LIGHT["eval"], marker="o", label="accuracy")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")

    description = "Accuracy over confidence: " + ", ".join(
        f"{c:.0%} confident {a:.0%} right" for c, a in zip(confidence[filled], accuracy[filled], strict=True)
    )
    shown = drawing("reliability", description, 300, draw)
    figure = f'<div class="curves"><figure style="max-width: 30rem">\n{shown}\n</figure></div>'
    note = (
        f"{row.name}, {row.protocol}: accuracy of the images in 15 bins by the confidence of their prediction; on the "
        f"dashed line it would be as large. Expected calibration error {percent(row.analysis.calibration_error)}."
    )
    return section("Reliability", note, figure)


def _lowest_classes(analysis: Analysis, class_names: Sequence[str]) -> str:
    """The classes of the lowest accuracy; nothing where the confusion matrix shows all of them."""
    known = np.flatnonzero(~np.isnan(analysis.per_class))
    if len(known) <= _LOWEST_CLASSES:
        return ""
    lowest = known[np.argsort(analysis.per_class[known], kind="stable")[:_LOWEST_CLASSES]]
    totals = analysis.confusion.sum(axis=1)
    body = "".join(
        f'<tr><td class="name">{html.escape(class_names[k])}</td><td>{totals[k]}</td>'
        f"<td>{percent(analysis.per_class[k])}</td></tr>\n"
        for k in lowest
    )
    head = '<th scope="col">class</th><th scope="col">images</th><th scope="col">right</th>'
    shown = f'<table class="pairs">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>'
    mean = float(np.mean(analysis.per_class[known]))
    note = f"The {len(lowest)} lowest of {len(known):,} classes; the mean over all is {percent(mean)}."
    return section("Accuracy by class", note, shown)

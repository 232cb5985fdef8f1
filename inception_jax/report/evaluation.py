"""The section of a report about an evaluation."""

import html
from collections.abc import Sequence

import numpy as np

from inception_jax.data.loader import whole_image
from inception_jax.data.sources import Source
from inception_jax.evaluation.analysis import Analysis
from inception_jax.evaluation.results import EvaluationResult, ProtocolResult, columns, notes
from inception_jax.paths import AnyPath
from inception_jax.report.page import (
    LIGHT,
    Sample,
    confusion_section,
    drawing,
    percent,
    plural,
    put_section,
    samples_section,
    section,
)

_LOWEST_CLASSES = 20
_AGGREGATES = {
    "probabilities": "the mean of their probabilities",
    "logits": "the mean of their logits",
    "max": "the largest probability of each class",
}


def put_evaluation(
    path: AnyPath, result: EvaluationResult, source: Source, *, data: str, command: str, worst: int = 16
) -> None:
    """Puts an evaluation into a page, in place of an earlier one; see `page.put_section`.

    Args:
      path: the page; written if it does not exist.
      result: to show.
      source: the images that were evaluated.
      data: what to call them.
      command: the command that evaluated.
      worst: number of images with the highest loss to show.
    """
    about = f"{data}: {len(result.positions):,} of {result.images:,} images count, each once"
    if result.damaged:
        about += f"; {plural(len(result.damaged), 'image')} could not be decoded"
    about += f". Windows and networks are combined by {_AGGREGATES[result.aggregate]}."
    samples = _highest_losses(result, source, worst)
    text = evaluation_section(result.rows, about, command, result.class_names, samples)
    put_section(path, text, f"Evaluation on {data}")


def evaluation_section(
    rows: Sequence[ProtocolResult], about: str, command: str, class_names: Sequence[str], worst: Sequence[Sample]
) -> str:
    """Returns the section as HTML: the table, then details of its last row.

    Args:
      rows: rows of the table.
      about: the data and how the images were counted.
      command: the command that evaluated.
      class_names: names by class index.
      worst: images with the highest loss by the last row.
    """
    last = rows[-1]
    shown = columns(rows)
    head = "".join(f'<th scope="col">{name}</th>' for name in shown)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>\n"
        for line in zip(*shown.values(), strict=True)
    )
    below = "".join(f"<p>{html.escape(line)}</p>\n" for line in notes(rows))
    table = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Results">\n<table class="rows">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n{below}"
        f"<p><code>{html.escape(command)}</code></p>"
    )
    parts = [section("Evaluation", about, table), _reliability(last)]
    if last.analysis.confusion is not None:
        heading = f"Confusion of {last.name} by {last.protocol}"
        parts.append(confusion_section(last.analysis.confusion, class_names, heading))
        parts.append(_lowest_classes(last.analysis, class_names))
    if worst:
        parts.append(samples_section(f"The {plural(len(worst), 'image')} of the highest loss", worst, class_names))
    return "\n".join(filter(None, parts))


def _highest_losses(result: EvaluationResult, source: Source, count: int) -> list[Sample]:
    last = result.rows[-1]
    return [
        Sample(
            image=whole_image(source, int(result.positions[place]), last.protocols[0].crop_config.max_pixels),
            label=min(result.labels[place]),
            predicted=tuple(last.classes[place].tolist()),
            probabilities=tuple(last.probabilities[place].tolist()),
            name=result.names[place],
        )
        for place in np.argsort(-last.losses, kind="stable")[: max(0, count)]
    ]


def _reliability(row: ProtocolResult) -> str:
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
        f"{row.name}, {row.protocol}: accuracy of the images in 15 bins by the confidence of their prediction. On the "
        f"dashed line both are equal. Expected calibration error {percent(row.analysis.calibration_error)}."
    )
    return section("Reliability", note, figure)


def _lowest_classes(analysis: Analysis, class_names: Sequence[str]) -> str:
    """The classes of the lowest accuracy; '' if the confusion matrix shows all of them."""
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

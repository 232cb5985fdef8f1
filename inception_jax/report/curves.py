"""The curves of a training over its steps, as a section of a page."""

import dataclasses
import itertools
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inception_jax.console import plural
from inception_jax.report.page import LIGHT, drawing, section

_POINTS = 300  # of a curve; more cannot be told apart at the width of the page


@dataclasses.dataclass(frozen=True)
class _Line:
    """A curve: float64 [n, 2] points (step, value), and the style in which matplotlib draws it."""

    label: str
    points: np.ndarray
    style: dict[str, object]


def curves_section(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Draws loss, top-1 accuracy (or that of boxes) and learning rate over steps.

    Args:
      metrics: rows of metrics.jsonl: "step", "split" and what was measured, such as "loss", "top1" (a fraction),
        "learning_rate", "aux1_loss". Values that are not finite are left out and counted.
    """
    splits = list(dict.fromkeys(row["split"] for row in metrics))
    auxiliary = sorted({key for row in metrics for key in row if re.fullmatch("aux.*_loss", key)})
    # Evaluations have markers and auxiliary losses are thin, because not everybody can tell colours apart.
    styles = {split: {"color": LIGHT["eval"], "marker": "o", "zorder": 3} for split in splits}
    # The check of batch normalisation logs "train (running statistics)" and "train (batch statistics)".
    styles |= {split: {"color": LIGHT["train"], "marker": "."} for split in splits if split.startswith("train ")}
    styles["train"] = {"color": LIGHT["train"]}
    thin = {"color": LIGHT["aux"], "linewidth": 0.9}
    losses = [_Line(split, _points(metrics, split, "loss"), styles[split]) for split in splits]
    losses += [
        _Line(key.removesuffix("_loss"), _points(metrics, "train", key), thin | {"linestyle": dash})
        for key, dash in zip(auxiliary, itertools.cycle(["-", "--", ":"]), strict=False)
    ]
    accuracies = {"top1": "Top-1 accuracy", "box_accuracy": "Box accuracy"}
    scores = {
        key: [_Line(split, _points(metrics, split, key), styles[split]) for split in splits] for key in accuracies
    }
    rate = [_Line("", _points(metrics, "train", "learning_rate"), {"color": LIGHT["quiet"]})]
    figures = (
        _plot("Loss", losses, height=310)
        + "".join(_plot(accuracies[key], scores[key], height=185, factor=100, unit=" %") for key in accuracies)
        + _plot("Learning rate", rate, height=95)
    )
    note = "Nothing was measured."
    if figures:
        note = "The legend shows each curve's last value."
        if any(len(line.points) for line in scores["top1"]):
            note += " Training loss includes auxiliary heads and label smoothing."
    shown = {"loss", *accuracies, "learning_rate", *auxiliary}
    lost = [row["step"] for row in metrics for key in shown & row.keys() if not _is_finite(row[key])]
    if lost:
        note += f" Left out: {plural(len(lost), 'value')} not finite, the first at step {min(lost):,}."
    return section("Training", note, f'<div class="curves">\n{figures}</div>')


def _is_finite(value: object) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _points(metrics: Sequence[Mapping[str, Any]], split: str, key: str) -> np.ndarray:
    """Returns the finite values of a curve, float64 [n, 2] by step. Of rows of the same step the last one counts."""
    rows = (row for row in metrics if row["split"] == split and _is_finite(row.get(key)))
    points = sorted({row["step"]: row[key] for row in rows}.items())
    return np.array(points, np.float64).reshape(-1, 2)


def _thin(points: np.ndarray) -> np.ndarray:
    """Float64 [n, 2] -> [min(n, _POINTS), 2]: means of equally many neighbours."""
    if len(points) <= _POINTS:
        return points
    return np.stack([part.mean(axis=0) for part in np.array_split(points, _POINTS)])


def _plot(title: str, lines: Sequence[_Line], *, height: int, factor: float = 1, unit: str = "") -> str:
    """Draws lines over steps as a <figure>; '' if no line has a point.

    Values are shown times `factor`, with `unit`. Lines without a label are not in the legend. `height` is in units of
    1/400 of the width.
    """
    lines = [line for line in lines if len(line.points)]
    if not lines:
        return ""
    from matplotlib.ticker import MaxNLocator

    def number(value: float, _: int = 0) -> str:
        return f"{factor * value:.4g}{unit}"

    labels = [line.label and f"{line.label} {number(line.points[-1, 1])}" for line in lines]

    def draw(axes):
        for line, label in zip(lines, labels, strict=True):
            lone = {"marker": "o"} if len(line.points) == 1 else {}  # a line of one point is invisible
            axes.plot(*_thin(line.points).T, label=label, **line.style | lone)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=1 + height // 45, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(number)
        if any(labels):
            axes.legend()

    name = title.lower().replace(" ", "-")
    element = drawing(name, f"{title} over steps. {', '.join(filter(None, labels))}", height, draw)
    return f"<figure>\n<figcaption>{title}</figcaption>\n{element}\n</figure>\n"

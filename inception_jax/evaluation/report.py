"""One self-contained HTML page about a finished run: numbers, curves, confusions, what was seen and learnt."""

import dataclasses
import html
import itertools
import math
import numbers
import os
import re
from collections.abc import Sequence

import numpy as np

from inception_jax.evaluation.page import (
    LIGHT,
    Sample,
    confusion_section,
    data_uri,
    drawing,
    picture,
    plural,
    samples_section,
    section,
    write_page,
)

_CURVE_POINTS = 300  # more cannot be told apart at the width of the page and only make the file larger


@dataclasses.dataclass(frozen=True)
class _Line:
    """A curve: its float64 [n, 2] points (step, value), and how matplotlib draws it."""

    label: str
    points: np.ndarray
    style: dict[str, object]


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    facts: dict[str, str],
    history: list[dict],
    confusion: np.ndarray,
    class_names: Sequence[str],
    samples: Sequence[Sample],
    filters: np.ndarray,
    batch: Sequence[tuple[np.ndarray, str]] = (),
) -> None:
    """Writes the report of one run as a single HTML file that loads nothing; the file appears whole or not at all.

    Args:
      path: the file to write; its directory exists.
      title: e.g. "googlenet on digits".
      facts: names and values, in the order they are shown; the first three are shown large.
      history: the objects of `metrics.jsonl`: "step" and "split", and of "loss", "top1" (a fraction), "learning_rate",
        "aux1_loss", ... those that were measured. Values that are not finite are left out and counted.
      confusion: int [K, K], the number of images by true (row) and predicted (column) class.
      class_names: K names.
      samples: the images to show, in this order.
      filters: float [kh, kw, cin, cout], the kernels of the first convolution.
      batch: images as training shows them to the network, uint8 [H, W, 3], with their captions.
    """
    sections = [
        _curves(history),
        confusion_section(confusion, class_names),
        samples_section("Test images", samples, class_names),
        *([_batch(batch)] if batch else []),
        _filters(filters),
    ]
    write_page(path, title, facts, sections)


def _curves(history: list[dict]) -> str:
    splits = list(dict.fromkeys(row["split"] for row in history))
    auxiliary = sorted({key for row in history for key in row if re.fullmatch("aux.*_loss", key)})
    # Evaluations have markers and auxiliary losses are thin: colour alone does not tell lines apart for everybody.
    styles = {split: {"color": LIGHT["eval"], "marker": "o", "zorder": 3} for split in splits}
    # Two more of the check of batch statistics.
    styles |= {split: {"color": LIGHT["train"], "marker": "."} for split in splits if split.startswith("train ")}
    styles["train"] = {"color": LIGHT["train"]}
    thin = {"color": LIGHT["aux"], "linewidth": 0.9}
    losses = [_Line(split, _points(history, split, "loss"), styles[split]) for split in splits]
    losses += [
        _Line(key.removesuffix("_loss"), _points(history, "train", key), thin | {"linestyle": dash})
        for key, dash in zip(auxiliary, itertools.cycle(["-", "--", ":"]), strict=False)
    ]
    top1 = [_Line(split, _points(history, split, "top1"), styles[split]) for split in splits]
    rate = [_Line("", _points(history, "train", "learning_rate"), {"color": LIGHT["quiet"]})]
    figures = (
        _plot("Loss", losses, height=310)
        + _plot("Top-1 accuracy", top1, height=185, factor=100, unit="\N{NO-BREAK SPACE}%")
        + _plot("Learning rate", rate, height=95)
    )
    note = "Nothing was measured."
    if figures:
        note = "Beside each name is its last value. The loss of training includes auxiliary heads and label smoothing."
    shown = {"loss", "top1", "learning_rate", *auxiliary}
    lost = [row["step"] for row in history for key in shown & row.keys() if not _is_finite(row[key])]
    if lost:
        note += f" Left out: {plural(len(lost), 'value')} not finite, the first at step {min(lost):,}."
    return section("Training", note, f'<div class="curves">\n{figures}</div>')


def _is_finite(value: object) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _points(history: list[dict], split: str, key: str) -> np.ndarray:
    """The finite values of one curve, float64 [n, 2] by step. A resumed run repeats steps: the later row counts."""
    rows = (row for row in history if row["split"] == split and _is_finite(row.get(key)))
    points = sorted({row["step"]: row[key] for row in rows}.items())
    return np.array(points, np.float64).reshape(-1, 2)


def _thin(points: np.ndarray) -> np.ndarray:
    """Float64 [n, 2] -> [min(n, _CURVE_POINTS), 2]: the means of equally long runs of neighbours."""
    if len(points) <= _CURVE_POINTS:
        return points
    return np.stack([run.mean(axis=0) for run in np.array_split(points, _CURVE_POINTS)])


def _plot(title: str, lines: Sequence[_Line], *, height: int, factor: float = 1, unit: str = "") -> str:
    """A <figure> of the lines over steps, 400 units wide and as wide as its column; "" where no line has a point.

    Values are shown times `factor`, with `unit`. Lines without a label stay out of the legend.
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
            lone = {"marker": "o"} if len(line.points) == 1 else {}  # one point has no line to be seen by
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


def _batch(batch: Sequence[tuple[np.ndarray, str]]) -> str:
    captions = [html.escape(caption) for _, caption in batch]
    figures = [
        picture("sample", image, f"Training image of {caption}", f"<span>{caption}</span>")
        for (image, _), caption in zip(batch, captions, strict=True)
    ]
    note = "The first images of training, cropped and augmented as the network got them."
    return section("A training batch", note, f'<div class="samples">\n{"".join(figures)}</div>')


def _filters(filters: np.ndarray) -> str:
    height, width, inputs, count = filters.shape
    tiles = _tiles(filters)
    averaged = "" if inputs in (1, 3) else f", averaged over its {inputs} input channels and"
    note = (
        f"{plural(count, 'filter')} of {height} × {width}, each{averaged} shown from its own smallest weight "
        "to its own largest."
    )
    body = (
        f'<img class="filters crisp" style="width: {8 * tiles.shape[1]}px" src="{data_uri(tiles)}" '
        f'alt="{plural(count, "filter")} as small images">'
    )
    return section("First convolution", note, body)


def _tiles(filters: np.ndarray) -> np.ndarray:
    """Kernels [kh, kw, cin, cout] -> uint8 [H, W, 4]: tiles row by row with a transparent pixel between them.

    Each tile is scaled from its own smallest to its own largest weight; a constant one is mid-grey. Three input
    channels are red, green and blue, any other number is averaged into grey.
    """
    height, width, inputs, count = filters.shape
    tiles = np.moveaxis(np.nan_to_num(filters.astype(np.float64), posinf=0, neginf=0), -1, 0)
    if inputs != 3:
        tiles = tiles.mean(axis=-1, keepdims=True)
    low = tiles.min(axis=(1, 2, 3), keepdims=True)
    span = tiles.max(axis=(1, 2, 3), keepdims=True) - low
    tiles = np.where(span > 0, (tiles - low) / np.where(span > 0, span, 1), 0.5)
    columns = min(count, 8 if count <= 32 else 16)
    rows = math.ceil(count / columns)
    picture = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 4), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        picture[top : top + height, left : left + width, :3] = np.round(255 * tile)
        picture[top : top + height, left : left + width, 3] = 255
    return picture

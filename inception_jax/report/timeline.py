"""Sections of a report that show what changes from one evaluation to the next, made from snapshots of the run."""

import functools
import html
import math
from collections.abc import Callable, Sequence

import numpy as np

from inception_jax.console import plural
from inception_jax.report.page import data_uri, percent, section
from inception_jax.report.pictures import filters_picture, tiles
from inception_jax.runs.snapshots import Snapshot

PREDICTIONS = "Predictions that change"
_ROWS = 12  # images whose predictions are shown
_SIDE = 16  # pixels to which a channel is enlarged before the gaps are added
_GREY = np.full((1, 1, 3), 128, np.uint8)  # shown for an image that cannot be decoded

STYLE = """
.latest { display: flex; flex-direction: row-reverse; }
.timeline { border-spacing: 0; border-collapse: separate; margin-right: auto; }
.timeline :is(th, td) { padding: .15rem; text-align: center; white-space: nowrap; }
.timeline :is(tbody th, thead th:first-child) { position: sticky; left: 0; z-index: 1; padding-right: .75rem;
  background: var(--page); text-align: left; }
.timeline tbody th { color: var(--ink); max-width: 10rem; overflow: hidden; text-overflow: ellipsis; }
.timeline th img { width: 2.25rem; height: 2.25rem; object-fit: contain; vertical-align: middle; margin-right: .5rem;
  background: var(--card); }
.timeline td img { display: block; width: 5.5rem; }
.timeline .class { padding: .25rem .45rem; max-width: 6rem; overflow: hidden; text-overflow: ellipsis;
  border: 1px solid var(--page); }
.sample .plain { background: none; aspect-ratio: auto; }
@media (max-width: 30rem) {
  .timeline { font-size: .75rem; }
  .timeline tbody th { max-width: 6.5rem; }
  .timeline td img { width: 4.5rem; }
}
"""


def predictions_section(
    snapshots: Sequence[Snapshot], image: Callable[[int], np.ndarray | None], class_names: Sequence[str]
) -> str:
    """Shows the test images whose most probable class changed most often, one row each.

    Args:
      snapshots: at least one, by step.
      image: returns the test image at a place of the split, uint8 [h, w, 3]; None if it cannot be decoded.
      class_names: names by class index.
    """
    places = functools.reduce(np.intersect1d, [snapshot.places for snapshot in snapshots])
    here = [np.searchsorted(snapshot.places, places) for snapshot in snapshots]
    known = list(zip(snapshots, here, strict=True))
    classes = np.stack([snapshot.classes[at] for snapshot, at in known])  # [evaluations, images]
    probabilities = np.stack([snapshot.probabilities[at] for snapshot, at in known])
    labels = snapshots[-1].labels[here[-1]]
    changes = (classes[1:] != classes[:-1]).sum(axis=0)
    chosen = [column for column in np.argsort(-changes, kind="stable")[:_ROWS].tolist() if changes[column]]
    note = (
        f"Of {plural(len(places), 'test image')}, spread over the split, {np.count_nonzero(changes):,} changed their "
        f"most probable class over {plural(len(snapshots), 'evaluation')}. "
    )
    if not chosen:
        return section(PREDICTIONS, note)
    note += "These changed most often. Blue is right, orange and ✗ are wrong; the stronger, the more probable."
    rows = []
    for column in chosen:
        cells = []
        for guess, probability in zip(classes[:, column], probabilities[:, column], strict=True):
            name, is_right = html.escape(class_names[guess]), guess == labels[column]
            cells.append(
                f'<td class="class {"right" if is_right else "error"}" style="--fraction: {probability:.2f}" '
                f'title="{name} {percent(probability)}">{"" if is_right else "✗ "}{name}</td>'
            )
        shown, true = image(int(places[column])), html.escape(class_names[labels[column]])
        look = "crisp" if shown is None or max(shown.shape[:2]) <= 64 else "smooth"
        picture = data_uri(_GREY if shown is None else shown, 72)
        heading = f'<img class="{look}" src="{picture}" alt="">{true}'
        rows.append(_row(heading, f"Image of class {true}", cells))
    return section(PREDICTIONS, note, _table(PREDICTIONS, snapshots, rows))


def activations_section(snapshots: Sequence[Snapshot]) -> str:
    """Shows some channels of the layers for one image, a row for each layer, a column for each evaluation."""
    heading, last = "Activations over time", snapshots[-1]
    rows = []
    for name in last.activations:
        cells = []
        for snapshot in snapshots:
            values = snapshot.activations.get(name)
            picture = "" if values is None or not values.size else _mosaic(values.tobytes(), values.shape)
            about = f"{html.escape(name)} at step {snapshot.step:,}"
            cells.append(f'<td><img class="crisp" src="{picture}" alt="{about}"></td>' if picture else "<td></td>")
        rows.append(_row(html.escape(name), html.escape(name), cells))
    note = (
        "One test image, seen by each layer. Of a layer up to eight channels are shown, spread over all; of a vector "
        "each pixel is a unit. Each picture is scaled from its smallest (black) to its largest value (white)."
    )
    image = f'<figure><img class="crisp seen" src="{data_uri(last.image)}" alt="The test image"></figure>\n'
    return section(heading, note, image + _table(heading, snapshots, rows))


def filters_section(snapshots: Sequence[Snapshot]) -> str:
    """Shows the kernels of the first convolution at each evaluation; "" if the network has none."""
    figures = [
        f'<figure class="sample"><img class="crisp plain" src="{_filters(snapshot.filters)}" '
        f'alt="The first filters at step {snapshot.step:,}"><figcaption>step {snapshot.step:,}</figcaption></figure>\n'
        for snapshot in snapshots
        if snapshot.filters.size
    ]
    note = "The filters of the first convolution, each scaled from its smallest to its largest weight."
    body = f'<div class="samples">\n{"".join(figures)}</div>'
    return section("First filters over time", note, body) if figures else ""


def _filters(filters: np.ndarray) -> str:
    return data_uri(filters_picture(filters, math.ceil(filters.shape[-1] ** 0.5)))


def _row(heading: str, title: str, cells: Sequence[str]) -> str:
    return f'<tr><th scope="row" title="{title}">{heading}</th>{"".join(cells)}</tr>\n'


def _table(label: str, snapshots: Sequence[Snapshot], rows: Sequence[str]) -> str:
    steps = "".join(f'<th scope="col">{snapshot.step:,}</th>' for snapshot in snapshots)
    # Scrolled to the latest evaluation at first, by the reversed row; focusable, so that the keyboard can scroll it.
    return (
        f'<div class="scroll latest" tabindex="0" role="region" aria-label="{label}">\n<table class="timeline">\n'
        f'<thead><tr><th scope="col">step</th>{steps}</tr></thead>\n<tbody>\n{"".join(rows)}</tbody>\n</table>\n</div>'
    )


@functools.lru_cache(2048)  # most pictures of a page were on the page before
def _mosaic(content: bytes, shape: tuple[int, int, int]) -> str:
    """Channels, uint8 [h, w, channels], as tiles in two rows; of a vector [1, 1, units] a rectangle of pixels."""
    values = np.frombuffer(content, np.uint8).reshape(shape)
    height, width, count = shape
    if (height, width) != (1, 1):
        factor = max(1, _SIDE // max(height, width))
        channels = np.moveaxis(values, -1, 0)[..., None].repeat(factor, axis=1).repeat(factor, axis=2)
        return data_uri(tiles(channels, -(-count // 2)))
    columns = max(1, round((2 * count) ** 0.5))
    image = np.zeros((-(-count // columns) * columns, 2), np.uint8)
    image[:count, 0], image[:count, 1] = values[0, 0], 255
    return data_uri(image.reshape(-1, columns, 2))

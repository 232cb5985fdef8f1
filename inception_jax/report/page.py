"""A self-contained HTML page: its look, and the sections that several reports share.

The page loads nothing: images are data URIs and drawings are inline SVG. Drawings are made in the colours of `LIGHT`,
which are then replaced by the page's CSS variables. So they follow the reader's light or dark scheme. The page runs
only the scripts that it is written with.
"""

import base64
import dataclasses
import hashlib
import html
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from inception_jax import console
from inception_jax.console import plural
from inception_jax.errors import needs_extra
from inception_jax.paths import AnyPath, write_whole

_BIG_FACTS = 3  # number of facts shown large, the first ones
_TABLE_CLASSES = 20  # up to this number of classes the confusion matrix is a table
_CONFUSED_PAIRS = 20
_HEAT_MAP_SIDE = 250  # pixels, fewer than a phone shows; with more classes a pixel stands for several
_CRISP_SIDE = 64  # pixels; images up to this size are enlarged pixel by pixel
_THUMBNAIL_SIDE = 160  # pixels
_GREY = np.full((1, 1, 3), 128, np.uint8)  # shown for an image that cannot be decoded

# The colours of both schemes by the name of their CSS variable. `_inline_svg` finds those of `LIGHT` by value, so no
# two of them are equal.
LIGHT = {
    "page": "#fcfcfb",
    "card": "#f3f3f0",
    "ink": "#1c1e21",
    "quiet": "#63676e",
    "rule": "#dcdcd7",
    "train": "#1f66b0",
    "eval": "#c4500f",
    "aux": "#8d7fa8",
    "wrong": "#b3261e",
}
_DARK = {
    "page": "#141619",
    "card": "#1e2125",
    "ink": "#e8e8e4",
    "quiet": "#a0a5ad",
    "rule": "#34383e",
    "train": "#6eb0f2",
    "eval": "#f09a5b",
    "aux": "#a597c4",
    "wrong": "#ff8a80",
}
# The heat map is an image and cannot follow the scheme: these two mid tones are visible in both.
_RIGHT_RGB, _WRONG_RGB = (58, 133, 208), (224, 92, 52)

_RC: dict[Any, Any] = {
    "font.size": 11,
    "text.color": LIGHT["ink"],
    "text.parse_math": False,
    "axes.labelcolor": LIGHT["quiet"],
    "axes.edgecolor": LIGHT["quiet"],
    "axes.spines.left": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LIGHT["rule"],
    "xtick.color": LIGHT["quiet"],
    "ytick.color": LIGHT["quiet"],
    "ytick.major.size": 0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
}

_CSS = """
* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 1.5rem; }
h2 { font-size: 1.125rem; margin: 3rem 0 .25rem; }
p { margin: 0 0 1rem; max-width: 44rem; color: var(--quiet); font-size: .9375rem; }
dl, dd, figure { margin: 0; }
dt { color: var(--quiet); font-size: .8125rem; }
code { font: .875em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.big { display: flex; flex-wrap: wrap; gap: .75rem 3.5rem; }
.big dd { font-size: 2.5rem; font-weight: 600; line-height: 1.15; letter-spacing: -.02em; }
.big div:not(:first-child) dd { font-weight: 400; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem 1.5rem;
  margin-top: 1.75rem; padding-top: 1.25rem; border-top: 1px solid var(--rule); }
.facts dd { font-size: .9375rem; white-space: pre-line; }
.facts .long { grid-column: 1 / -1; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem 2rem;
  margin-top: 1rem; }
.curves svg { display: block; width: 100%; height: auto; stroke-linejoin: round; }
.curves figure:first-child { grid-row: span 2; }
figcaption { font-size: .875rem; }
.curves figcaption { font-weight: 600; margin-bottom: .25rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; }
th { font-weight: 400; color: var(--quiet); text-align: left; padding: .25rem .6rem .25rem 0; }
td { padding: .25rem .5rem; text-align: right; }
.matrix tbody td { min-width: 2.4rem; height: 2.1rem; text-align: center; border: 1px solid var(--page); }
.right { background: color-mix(in srgb, var(--train) calc(12% + 36% * var(--fraction)), var(--card)); }
.error { background: color-mix(in srgb, var(--eval) calc(24% + 50% * var(--fraction)), var(--card)); }
.zero { background: var(--card); color: color-mix(in srgb, var(--quiet) 50%, var(--card)); }
.matrix tbody .recall { text-align: right; padding-left: 1rem; white-space: nowrap; }
.matrix th { max-width: 11rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.matrix thead th { padding: .25rem; text-align: center; vertical-align: bottom; }
.matrix thead th:last-child { text-align: right; padding-right: .5rem; }
.matrix .upright span { display: inline-block; writing-mode: vertical-rl; transform: rotate(180deg);
  max-height: 9rem; overflow: hidden; text-overflow: ellipsis; }
.matrix tbody th { position: sticky; left: 0; background: var(--page); color: var(--ink); text-align: right; }
.confused { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1.5rem 2.5rem;
  align-items: start; }
.heat { display: block; width: 100%; background: var(--card); }
.pairs { width: 100%; }
.pairs tr { border-bottom: 1px solid var(--rule); }
.pairs .name { text-align: left; padding-left: 0; width: 50%; }
.pairs th, .pairs td:not(.name) { white-space: nowrap; }
.pairs th:nth-child(n + 3) { text-align: right; padding: .25rem .5rem; }
.rows { width: 100%; }
.rows tr { border-bottom: 1px solid var(--rule); }
.rows th, .rows td { white-space: nowrap; text-align: right; padding: .25rem .5rem; }
.rows :is(th, td):nth-child(-n + 2) { text-align: left; padding-left: 0; }
.crisp { image-rendering: pixelated; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); gap: 1.4rem 1.1rem; }
.sample img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--card); }
.sample figcaption { margin-top: .35rem; line-height: 1.35; font-size: .8125rem; }
.sample span { color: var(--quiet); }
.wrong { outline: 2px solid var(--wrong); outline-offset: .3rem; }
.wrong b { color: var(--wrong); }
.filters { display: block; max-width: 100%; }
@media (max-width: 30rem) {
  body { padding: 1.5rem 1rem 3rem; }
  .big { gap: .5rem 1.5rem; }
  .big dd { font-size: 1.625rem; }
  .matrix { font-size: .75rem; }
  .matrix th { max-width: 7rem; }
  .matrix tbody td { min-width: 1.55rem; padding: 0; }
  .matrix tbody .recall { padding-left: .5rem; }
}
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'{csp}">
<link rel="icon" href="data:,">{refresh}
<title>{title}</title>
<style>
:root {{ {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
{css}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{facts}
</header>
<main>
{sections}
</main>{scripts}
</body>
</html>
"""

_ADDED, _ADDED_END = "<!-- put here later -->", "<!-- until here -->"  # around the section of `put_section`


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image with its prediction.

    Attributes:
      image: uint8 [H, W, 3]; None if it cannot be decoded.
      label: index of the true class.
      predicted: indices of the most probable classes, best first.
      probabilities: of the classes in `predicted`.
      name: of the image; shown if the image cannot be.
    """

    image: np.ndarray | None
    label: int
    predicted: tuple[int, ...]
    probabilities: tuple[float, ...]
    name: str = ""


def write_page(
    path: AnyPath,
    title: str,
    facts: Mapping[str, str],
    sections: Sequence[str],
    *,
    style: str = "",
    scripts: Sequence[str] = (),
    refresh: int | None = None,
) -> None:
    """Writes a page, whole or not at all. A section that `put_section` added to an earlier page is kept.

    Args:
      path: file to write; its directory exists.
      title: plain text.
      facts: names and values as plain text, in the order shown; the first three are shown large.
      sections: HTML, see `section`.
      style: CSS, added to that of all pages.
      scripts: JavaScript, run in this order once the page is loaded. No other script may run.
      refresh: seconds after which a browser reads the page again; None: never.
    """
    sections = [*sections, *_added_sections(path)]
    _write(path, render(title, facts, sections, style=style, scripts=scripts, refresh=refresh))


def render(
    title: str,
    facts: Mapping[str, str],
    sections: Sequence[str],
    *,
    style: str = "",
    scripts: Sequence[str] = (),
    refresh: int | None = None,
) -> str:
    """Returns the page that `write_page` writes."""
    # A browser reads every end of line as \n before it hashes a script.
    scripts = [re.sub("\r\n?", "\n", script) for script in scripts]
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts)
    return _PAGE.format(
        title=html.escape(title),
        csp="; script-src " + " ".join(f"'sha256-{digest}'" for digest in hashes) if scripts else "",
        light=_variables(LIGHT),
        dark=_variables(_DARK),
        css=_CSS.lstrip() + style,
        facts=_facts(facts),
        sections="\n".join(sections),
        scripts="".join(f"\n<script>{script}</script>" for script in scripts),
        refresh=f'\n<meta http-equiv="refresh" content="{refresh}">' if refresh else "",
    )


def put_section(path: AnyPath, section: str, title: str) -> None:
    """Adds a section to the end of a page, in place of the section that an earlier call added.

    Args:
      path: of the page. If it is missing, a page with this section alone is written.
      section: HTML, see `section`.
      title: of a new page, plain text.
    """
    if not path.exists():
        write_page(path, title, {}, [])
    page = path.read_text(encoding="utf-8")
    for added in _added_sections(path):
        page = page.replace(f"{added}\n", "")
    _write(path, page.replace("\n</main>", f"\n{_ADDED}\n{section}\n{_ADDED_END}\n</main>"))


def _added_sections(path: AnyPath) -> list[str]:
    """The section that `put_section` added to a page, with its marks; empty if there is none."""
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    return re.findall(f"{_ADDED}.*?{_ADDED_END}", page, flags=re.DOTALL)


def _write(path: AnyPath, page: str) -> None:
    # A path in the page, for instance in a command, may not be valid Unicode.
    write_whole(path, page.encode("utf-8", "backslashreplace"))


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def _facts(facts: Mapping[str, str]) -> str:
    items = []
    for name, value in facts.items():
        shown = html.escape(value)
        if name == "Command":
            shown = f"<code>{shown}</code>"
        size = ' class="long"' if len(value) > 30 else ""
        items.append(f"<div{size}><dt>{html.escape(name)}</dt><dd>{shown}</dd></div>")
    groups = {"big": items[:_BIG_FACTS], "facts": items[_BIG_FACTS:]}
    return "\n".join(f'<dl class="{name}">\n' + "\n".join(rows) + "\n</dl>" for name, rows in groups.items() if rows)


def section(heading: str, note: str, body: str = "") -> str:
    """Returns a section of a page; heading and note are plain text, `body` is HTML."""
    return f"<section>\n<h2>{html.escape(heading)}</h2>\n<p>{html.escape(note)}</p>\n{body}\n</section>"


def percent(part: float, whole: float = 1) -> str:
    """'12.3 %', never broken into two lines; '–' if it is undefined."""
    if not whole or not math.isfinite(part):
        return "–"
    return console.percent(part / whole, 1).replace(" ", "\N{NO-BREAK SPACE}")


def data_uri(image: np.ndarray, side: int | None = None, image_format: str = "png") -> str:
    """Returns an image as a data URI.

    Args:
      image: uint8 [H, W, 2 to 4]: grey with opacity, RGB, or RGB with opacity.
      side: a larger image is scaled down to this number of pixels.
      image_format: 'png' or 'jpeg'.
    """
    from PIL import Image

    picture = Image.fromarray(image)
    if side is not None:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, format=image_format, optimize=True)
    return f"data:image/{image_format};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Returns an image, uint8 [H, W, 3], no larger than `picture` shows it."""
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(small)


def drawing(name: str, description: str, height: int, draw: Callable[[Any], None]) -> str:
    """Draws an <svg> that is as wide as its column.

    Args:
      name: prefix of the ids in it; unique on the page.
      description: for screen readers, plain text.
      height: of the drawing, in units of 1/400 of its width.
      draw: called with matplotlib's axes; draws in the colours of `LIGHT`.
    """
    with needs_extra("report"):
        import matplotlib.figure
        import matplotlib.style

    # The default style first, so that the page does not depend on a matplotlibrc.
    with matplotlib.style.context("default"), matplotlib.rc_context(_RC | {"svg.hashsalt": name}):
        figure = matplotlib.figure.Figure(figsize=(400 / 72, height / 72), layout="constrained")
        draw(figure.subplots())
        svg = io.StringIO()
        metadata = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        figure.savefig(svg, format="svg", transparent=True, metadata=metadata)
    return _inline_svg(svg.getvalue(), name, description)


def _inline_svg(document: str, name: str, description: str) -> str:
    """Turns matplotlib's SVG document into an element of the page, with the page's colours and font and unique ids."""
    box = re.search('viewBox="[^"]*"', document)[0]
    body = document[document.index(">", document.index(box)) + 1 :]
    body = re.sub("<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)  # the style would apply to the whole page
    body = re.sub(r"[ \n]+", " ", body).replace("> <", "><")
    body = re.sub('font-family: [^;"]*;? ?', "", body)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\1{name}-", body)
    for variable, colour in LIGHT.items():
        body = body.replace(colour, f"var(--{variable})")
    return f'<svg role="img" aria-label="{html.escape(description)}" {box}>{body.strip()}'


def confusion_section(confusion: np.ndarray, class_names: Sequence[str], heading: str = "Confusion") -> str:
    """Shows a confusion matrix: of few classes as a table, of many as a heat map with the most confused pairs.

    Args:
      confusion: int [K, K], number of images by true (row) and predicted (column) class.
      class_names: K names.
      heading: of the section.

    Raises:
      ValueError: the number of names is not K.
    """
    if confusion.shape != (len(class_names), len(class_names)):
        raise ValueError(f"a confusion matrix of shape {confusion.shape} for {len(class_names)} class names")
    confused = _confusion_table if len(class_names) <= _TABLE_CLASSES else _confusion_overview
    return section(heading, *confused(confusion, class_names))


def _confusion_table(confusion: np.ndarray, class_names: Sequence[str]) -> tuple[str, str]:
    """Returns a note, and the matrix as a table."""
    names = [html.escape(name) for name in class_names]
    upright = ' class="upright"' if max(map(len, class_names)) > 4 else ""
    head = "".join(f'<th scope="col"{upright} title="{name}"><span>{name}</span></th>' for name in names)
    rows = []
    for true, (name, counts) in enumerate(zip(names, confusion, strict=True)):
        total = counts.sum()
        cells = []
        for predicted, count in enumerate(counts):
            kind = "zero" if count == 0 else "right" if predicted == true else "error"
            cells.append(f'<td class="{kind}" style="--fraction:{count / max(total, 1):.3f}">{count}</td>')
        cells.append(f'<td class="recall">{percent(counts[true], total)}</td>')
        rows.append(f'<tr><th scope="row" title="{name}">{name}</th>{"".join(cells)}</tr>\n')
    body = (
        # Focusable, so that it can be scrolled by keyboard.
        '<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix">\n<table class="matrix">\n'
        f'<thead><tr><td></td>{head}<th scope="col">recall</th></tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>\n</div>"
    )
    note = f"{plural(confusion.sum(), 'image')} by true class (row) and predicted class (column)."
    return note, body


def _confusion_overview(confusion: np.ndarray, class_names: Sequence[str]) -> tuple[str, str]:
    """Returns a note, and the matrix as a heat map beside the most confused pairs."""
    totals = confusion.sum(axis=1)
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    true, predicted = np.nonzero(errors)
    counts = errors[true, predicted]
    order = np.lexsort((-counts / totals[true], -counts))[:_CONFUSED_PAIRS]
    rows = [
        f'<tr><td class="name">{html.escape(class_names[t])}</td><td class="name">{html.escape(class_names[p])}</td>'
        f"<td>{n}</td><td>{percent(n, totals[t])}</td></tr>\n"
        for t, p, n in zip(true[order], predicted[order], counts[order], strict=True)
    ]
    table = (
        '<table class="pairs">\n<thead><tr><th scope="col">true</th><th scope="col">predicted</th>'
        '<th scope="col">images</th><th scope="col">of class</th></tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>"
    )
    body = (
        f'<div class="confused">\n<img class="heat crisp" src="{data_uri(_heat_map(confusion))}" '
        f'alt="Heat map of the confusion matrix of {len(class_names)} classes">\n{table}\n</div>'
    )
    note = (
        f"{plural(confusion.sum(), 'image')} by true class (row, the first at the top) and predicted class (column). "
        "Blue is right, orange is wrong; the opacity is the square root of the fraction of the true class. "
        f"The table lists the {plural(len(rows), 'pair')} confused most often."
    )
    return note, body


def _heat_map(confusion: np.ndarray) -> np.ndarray:
    """Counts [K, K] -> uint8 [n, n, 4], transparent where they are 0; beyond `_HEAT_MAP_SIDE` neighbours are summed."""
    edges = np.arange(0, len(confusion), math.ceil(len(confusion) / _HEAT_MAP_SIDE))
    counts = np.add.reduceat(np.add.reduceat(confusion, edges, axis=0), edges, axis=1)
    picture = np.empty((*counts.shape, 4), np.uint8)
    picture[..., :3] = np.where(np.eye(len(counts), dtype=bool)[..., None], _RIGHT_RGB, _WRONG_RGB)
    # The root: the errors of a class are spread over many others, so on a linear scale they would be invisible.
    picture[..., 3] = np.round(255 * np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)))
    return picture


def samples_section(heading: str, samples: Sequence[Sample], class_names: Sequence[str]) -> str:
    """Shows images with their predictions; `class_names` are by class index."""
    figures = []
    errors = 0
    for sample in samples:
        guess, true = (html.escape(class_names[index]) for index in (sample.predicted[0], sample.label))
        probability = f"<span>{percent(sample.probabilities[0])}</span>"
        if sample.predicted[0] == sample.label:
            kind, caption = "sample", f"<b>{guess}</b> {probability}"
        else:
            errors += 1
            kind, caption = "sample wrong", f"<b>✗ {guess}</b> {probability}<br>true: {true}"
            if sample.label in sample.predicted:
                caption += f" <span>{percent(sample.probabilities[sample.predicted.index(sample.label)])}</span>"
        image = sample.image
        if image is None:
            image, caption = _GREY, f"{caption}<br><span>{html.escape(sample.name)} cannot be shown</span>"
        figures.append(picture(kind, image, f"Image of class {true}, predicted {guess}", caption))
    note = f"{plural(len(samples), 'image')}, {errors} of them misclassified (✗)." if samples else "No images."
    return section(heading, note, f'<div class="samples">\n{"".join(figures)}</div>')


def picture(kind: str, image: np.ndarray, description: str, caption: str) -> str:
    """Shows a small image with its caption.

    Args:
      kind: CSS classes of the figure.
      image: uint8 [H, W, 3].
      description: for screen readers, HTML.
      caption: HTML.
    """
    if max(image.shape[:2]) <= _CRISP_SIDE:
        look, source = "crisp", data_uri(image)
    else:
        look, source = "smooth", data_uri(image, _THUMBNAIL_SIDE, "jpeg")
    return (
        f'<figure class="{kind}"><img class="{look}" src="{source}" alt="{description}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )

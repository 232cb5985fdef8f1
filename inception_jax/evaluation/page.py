"""A self-contained HTML page: its look, and the pieces that reports are put together from.

The page loads nothing: images are data URIs and drawings are inline SVG. They are drawn in the colours of `LIGHT` and
then made to refer to the page's CSS variables, so they follow the reader's light or dark scheme. It runs no script but
those that it is written with.
"""

import base64
import dataclasses
import hashlib
import html
import io
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

_BIG_FACTS = 3  # the first facts, shown large
_TABLE_CLASSES = 20  # up to here the confusion matrix is a table that can be read cell by cell
_CONFUSED_PAIRS = 20
_HEAT_MAP_SIDE = 250  # pixels, fewer than a phone has, so that none is lost; beyond it one stands for several classes
_CRISP_SIDE = 64  # pixels; images up to here are shown pixel by pixel
_THUMBNAIL_SIDE = 160  # pixels
_GREY = np.full((1, 1, 3), 128, np.uint8)  # in place of an image that cannot be shown

# The colours of both schemes by the name of their CSS variable. Those of `LIGHT`
# differ from each other: `_inline_svg` finds them by value.
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
# The heat map is a picture and cannot follow the scheme: two mid tones that read on either page.
_RIGHT_RGB, _WRONG_RGB = (58, 133, 208), (224, 92, 52)

_RC = {
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
.right { background: color-mix(in srgb, var(--train) calc(12% + 36% * var(--share)), var(--card)); }
.error { background: color-mix(in srgb, var(--eval) calc(24% + 50% * var(--share)), var(--card)); }
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
.pairs .name { text-align: left; padding-left: 0; }
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
<link rel="icon" href="data:,">
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

_PUT = "<!-- put here later -->", "<!-- until here -->"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One test image with its prediction.

    Attributes:
      image: uint8 [H, W, 3]; None if it cannot be shown.
      label: the index of the true class.
      predicted: class indices, the most probable first; one to five of them.
      probabilities: float, one for each entry of `predicted`.
      name: of the image, shown where the image cannot be.
    """

    image: np.ndarray | None
    label: int
    predicted: tuple[int, ...]
    probabilities: tuple[float, ...]
    name: str = ""


def write_page(
    path: str | os.PathLike[str],
    title: str,
    facts: dict[str, str],
    sections: Sequence[str],
    *,
    style: str = "",
    scripts: Sequence[str] = (),
) -> None:
    """Writes the file; it appears whole or not at all. What `put_section` has put into an earlier one stays.

    Args:
      path: the file; its directory exists.
      title: of the page, plain text.
      facts: names and values, in the order they are shown; the first three are shown large.
      sections: HTML, of `section`.
      style: CSS, after that of all pages.
      scripts: JavaScript, run in this order after the page is read; the page lets no other run.
    """
    # A browser reads every end of line as \n before it computes a script's hash.
    scripts = [re.sub("\r\n?", "\n", script) for script in scripts]
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts)
    page = _PAGE.format(
        title=html.escape(title),
        csp="; script-src " + " ".join(f"'sha256-{one}'" for one in hashes) if scripts else "",
        light=_variables(LIGHT),
        dark=_variables(_DARK),
        css=_CSS.lstrip() + style,
        facts=_facts(facts),
        sections="\n".join([*sections, *_put(path)]),
        scripts="".join(f"\n<script>{script}</script>" for script in scripts),
    )
    _replace(path, page)


def put_section(path: str | os.PathLike[str], section: str, title: str) -> None:
    """Puts a section, HTML, at the end of a page, in the place of the one that was put there before.

    Where there is no such page, one with that section alone is written, under `title`.
    """
    path = Path(path)
    if not path.exists():
        write_page(path, title, {}, [])
    page = path.read_text(encoding="utf-8")
    for old in _put(path):
        page = page.replace(f"{old}\n", "")
    _replace(path, page.replace("\n</main>", f"\n{_PUT[0]}\n{section}\n{_PUT[1]}\n</main>"))


def _put(path: str | os.PathLike[str]) -> list[str]:
    """The section that was put into the page, with its marks; none if there is none."""
    try:
        page = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    return re.findall(f"{_PUT[0]}.*?{_PUT[1]}", page, flags=re.DOTALL)


def _replace(path: str | os.PathLike[str], page: str) -> None:
    path = Path(path)
    # Not tempfile: its files are readable by their owner only, and os.replace would keep that.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # A path in it, for instance of a command, may be no text.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def section(heading: str, note: str, body: str) -> str:
    """A section of the page; heading and note are plain text, `body` is HTML."""
    return f"<section>\n<h2>{html.escape(heading)}</h2>\n<p>{html.escape(note)}</p>\n{body}\n</section>"


def percent(part: float, whole: float = 1) -> str:
    """A share, as '12.3 %'; '–' of nothing."""
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole and math.isfinite(part) else "–"


def plural(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def data_uri(image: np.ndarray, side: int | None = None, image_format: str = "png") -> str:
    """A uint8 image [H, W, 3 or 4], scaled down to at most `side` pixels, as a data URI."""
    from PIL import Image

    picture = Image.fromarray(image)
    if side is not None:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, format=image_format, optimize=True)
    return f"data:image/{image_format};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _facts(facts: dict[str, str]) -> str:
    items = []
    for name, value in facts.items():
        shown = html.escape(value)
        if name == "Command":
            shown = f"<code>{shown}</code>"
        size = ' class="long"' if len(value) > 30 else ""
        items.append(f"<div{size}><dt>{html.escape(name)}</dt><dd>{shown}</dd></div>")
    groups = {"big": items[:_BIG_FACTS], "facts": items[_BIG_FACTS:]}
    return "\n".join(f'<dl class="{name}">\n' + "\n".join(rows) + "\n</dl>" for name, rows in groups.items() if rows)


def drawing(name: str, description: str, height: int, draw: Callable) -> str:
    """An <svg> 400 units wide and `height` high, as wide as its column.

    Args:
      name: of its ids; another one for each drawing of a page.
      description: for those who do not see it.
      height: in units.
      draw: called with matplotlib's axes, in the colours of `LIGHT`.
    """
    import matplotlib.figure
    import matplotlib.style

    # The default style first: the page does not depend on the matplotlibrc of whoever makes it.
    with matplotlib.style.context("default"), matplotlib.rc_context(_RC | {"svg.hashsalt": name}):
        figure = matplotlib.figure.Figure(figsize=(400 / 72, height / 72), layout="constrained")
        draw(figure.subplots())
        svg = io.StringIO()
        metadata = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        figure.savefig(svg, format="svg", transparent=True, metadata=metadata)
    return _inline_svg(svg.getvalue(), name, description)


def _inline_svg(document: str, name: str, description: str) -> str:
    """Matplotlib's SVG document as an element of the page: in the page's colours and font, its ids its own."""
    box = re.search('viewBox="[^"]*"', document)[0]
    body = document[document.index(">", document.index(box)) + 1 :]
    body = re.sub("<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)  # the style would reach the whole page
    body = re.sub(r"[ \n]+", " ", body).replace("> <", "><")
    body = re.sub('font-family: [^;"]*;? ?', "", body)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\1{name}-", body)
    for variable, colour in LIGHT.items():
        body = body.replace(colour, f"var(--{variable})")
    return f'<svg role="img" aria-label="{html.escape(description)}" {box}>{body.strip()}'


def confusion_section(confusion: np.ndarray, class_names: Sequence[str], heading: str = "Confusion") -> str:
    """The confusion matrix: of few classes as a table, of many as a picture and the pairs confused most.

    Args:
      confusion: int [K, K], the number of images by true (row) and predicted (column) class.
      class_names: K names.
      heading: of the section.
    """
    if confusion.shape != (len(class_names), len(class_names)):
        raise ValueError(f"a confusion matrix of shape {confusion.shape} for {len(class_names)} class names")
    confused = _confusion_table if len(class_names) <= _TABLE_CLASSES else _confusion_overview
    return section(heading, *confused(confusion, class_names))


def _confusion_table(confusion: np.ndarray, class_names: Sequence[str]) -> tuple[str, str]:
    """For few classes: a note, and the matrix."""
    names = [html.escape(name) for name in class_names]
    upright = ' class="upright"' if max(map(len, class_names)) > 4 else ""
    head = "".join(f'<th scope="col"{upright} title="{name}"><span>{name}</span></th>' for name in names)
    rows = []
    for true, (name, counts) in enumerate(zip(names, confusion, strict=True)):
        total = counts.sum()
        cells = []
        for predicted, count in enumerate(counts):
            kind = "zero" if count == 0 else "right" if predicted == true else "error"
            cells.append(f'<td class="{kind}" style="--share:{count / max(total, 1):.3f}">{count}</td>')
        cells.append(f'<td class="recall">{percent(counts[true], total)}</td>')
        rows.append(f'<tr><th scope="row" title="{name}">{name}</th>{"".join(cells)}</tr>\n')
    body = (
        # Focusable, so that the keyboard can scroll it.
        '<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix">\n<table class="matrix">\n'
        f'<thead><tr><td></td>{head}<th scope="col">recall</th></tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>\n</div>"
    )
    note = f"{plural(confusion.sum(), 'image')} by true class (row) and predicted class (column)."
    return note, body


def _confusion_overview(confusion: np.ndarray, class_names: Sequence[str]) -> tuple[str, str]:
    """For many classes: a note, and the matrix as a picture with the pairs that are confused most."""
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
        '<th scope="col">images</th><th scope="col">share</th></tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>"
    )
    body = (
        f'<div class="confused">\n<img class="heat crisp" src="{data_uri(_heat_map(confusion))}" '
        f'alt="Heat map of the confusion matrix of {len(class_names)} classes">\n{table}\n</div>'
    )
    note = (
        f"{plural(confusion.sum(), 'image')} by true class (row, the first at the top) and predicted class (column): "
        "blue where right, orange where wrong, by the square root of the share of the true class. "
        f"The table has the {plural(len(rows), 'pair')} confused most often."
    )
    return note, body


def _heat_map(confusion: np.ndarray) -> np.ndarray:
    """Counts [K, K] -> uint8 [n, n, 4]: transparent where nothing is. Beyond `_HEAT_MAP_SIDE` neighbours are summed."""
    edges = np.arange(0, len(confusion), math.ceil(len(confusion) / _HEAT_MAP_SIDE))
    counts = np.add.reduceat(np.add.reduceat(confusion, edges, axis=0), edges, axis=1)
    picture = np.empty((*counts.shape, 4), np.uint8)
    picture[..., :3] = np.where(np.eye(len(counts), dtype=bool)[..., None], _RIGHT_RGB, _WRONG_RGB)
    # The root, because a class is rarely taken for one other class only: linear, all errors would be invisible.
    picture[..., 3] = np.round(255 * np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)))
    return picture


def samples_section(heading: str, samples: Sequence[Sample], class_names: Sequence[str]) -> str:
    """Images with their predictions."""
    figures = []
    errors = 0
    for sample in samples:
        guess, true = (html.escape(class_names[index]) for index in (sample.predicted[0], sample.label))
        share = f"<span>{percent(sample.probabilities[0])}</span>"
        if sample.predicted[0] == sample.label:
            kind, caption = "sample", f"<b>{guess}</b> {share}"
        else:
            errors += 1
            kind, caption = "sample wrong", f"<b>✗ {guess}</b> {share}<br>true: {true}"
            if sample.label in sample.predicted:
                caption += f" <span>{percent(sample.probabilities[sample.predicted.index(sample.label)])}</span>"
        image = sample.image
        if image is None:
            image, caption = _GREY, f"{caption}<br><span>{html.escape(sample.name)} cannot be shown</span>"
        figures.append(picture(kind, image, f"Image of class {true}, predicted {guess}", caption))
    note = f"{plural(len(samples), 'image')}, {errors} of them predicted wrong (✗)." if samples else "No images."
    return section(heading, note, f'<div class="samples">\n{"".join(figures)}</div>')


def picture(kind: str, image: np.ndarray, description: str, caption: str) -> str:
    """A small image with its caption; both texts are HTML."""
    if max(image.shape[:2]) <= _CRISP_SIDE:
        look, source = "crisp", data_uri(image)
    else:
        look, source = "smooth", data_uri(image, _THUMBNAIL_SIDE, "jpeg")
    return (
        f'<figure class="{kind}"><img class="{look}" src="{source}" alt="{description}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )

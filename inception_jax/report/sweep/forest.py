"""The forest plot: the estimate of every claim with its corrected interval, as an SVG.

It is narrow, with the text above the intervals, so that it can be read on a phone too. It follows the reader's light or
dark scheme, as a file and as a part of a page.
"""

import html
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence

from inception_jax.report.sweep.analysis import VERDICTS, Claim, ratio, signed

_WIDTH = 452  # units of the drawing; the right part holds the numbers
_LEFT, _RIGHT = 12, 296  # of the axes
_MIDDLE, _HALF = (_LEFT + _RIGHT) / 2, (_RIGHT - _LEFT) / 2
_LINE = 16  # height of a line of text
_CHARACTERS = 60  # of a line
_STYLE = """
.forest { --f-page: #fcfcfb; --f-ink: #1c1e21; --f-quiet: #63676e; --f-track: #f0f0ec; --f-band: #d9d9d2;
  --f-agrees: #1f66b0; --f-disagrees: #b3261e; --f-equivalent: #1b7f4d; --f-inconclusive: #63676e; }
@media (prefers-color-scheme: dark) { .forest { --f-page: #141619; --f-ink: #e8e8e4; --f-quiet: #a0a5ad;
  --f-track: #212429; --f-band: #3c4148; --f-agrees: #6eb0f2; --f-disagrees: #ff8a80; --f-equivalent: #5fd39a;
  --f-inconclusive: #a0a5ad; } }
.forest text { fill: var(--f-ink); }
.forest .f-small { fill: var(--f-quiet); font-size: 11px; }
.forest .f-head { font-weight: bold; }
.forest .f-page { fill: var(--f-page); }
.forest .f-track { fill: var(--f-track); }
.forest .f-band { fill: var(--f-band); }
.forest .f-zero { stroke: var(--f-quiet); }
"""
_STYLE += "".join(
    f".forest .f-{verdict} {{ stroke: var(--f-{verdict}); fill: var(--f-{verdict}); stroke-width: 2; }}\n"
    for verdict in VERDICTS
)
_STYLE += ".forest .f-inconclusive { fill: var(--f-page); }\n"
# Around the origin.
_SHAPES = {
    "agrees": "M4.5 0A4.5 4.5 0 1 1 -4.5 0A4.5 4.5 0 1 1 4.5 0Z",
    "disagrees": "M-4 -4H4V4H-4Z",
    "equivalent": "M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
    "inconclusive": "M4 0A4 4 0 1 1 -4 0A4 4 0 1 1 4 0Z",
}


def forest(groups: Mapping[str, Sequence[Claim]]) -> str:
    """Returns the SVG over the claims of sweeps, by heading; "" without a claim.

    Claims about accuracy are in the first panel, in points; those about steps in the second, on a logarithmic axis
    that is turned round, so that in both a claim's own side is on the right.
    """
    accuracy = {name: [one for one in claims if one.measure != "steps"] for name, claims in groups.items()}
    speed = {name: [one for one in claims if one.measure == "steps"] for name, claims in groups.items()}
    panels = [
        ("Top-1, in points", accuracy, lambda value: value, _points, (2, 5, 10)),
        ("Steps, as a ratio", speed, lambda value: -math.log(value), ratio, (2, 4, 10)),
    ]
    drawing = _Drawing()
    for title, by_name, scale, form, reaches in panels:
        if any(by_name.values()):
            if not drawing.height:
                _legend(drawing)
            _panel(drawing, title, {name: claims for name, claims in by_name.items() if claims}, scale, form, reaches)
    return drawing.svg() if drawing.height else ""


def _points(value: float) -> str:
    return signed(value) if abs(value) < 100 else f"{value:+.0f}"


class _Drawing:
    """Elements of an SVG from top to bottom."""

    def __init__(self):
        self.height = 0.0
        self._parts: list[str] = []

    def add(self, part: str) -> None:
        self._parts.append(part)

    def text(self, x: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Writes on the line that ends at the present height."""
        self.add(
            f'<text x="{x:g}" y="{self.height - 4:g}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""} '
            f'text-anchor="{anchor}">{html.escape(text)}</text>'
        )

    def lines(self, text: str, kind: str = "", width: int = _CHARACTERS) -> None:
        for line in textwrap.wrap(text.replace("`", ""), width):
            self.height += _LINE
            self.text(_LEFT, line, kind)

    def svg(self) -> str:
        height = self.height + 8
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="forest" viewBox="0 0 {_WIDTH} {height:g}" '
            f'width="560" height="{height * 560 / _WIDTH:.0f}" style="max-width: 100%; height: auto" '
            f'font-family="system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif" font-size="13" '
            f'role="img" aria-label="Forest plot of the claims">\n<style>{_STYLE}</style>\n'
            f'<rect class="f-page" width="{_WIDTH}" height="{height:g}"/>\n' + "\n".join(self._parts) + "\n</svg>\n"
        )


def _legend(drawing: _Drawing) -> None:
    drawing.height += 4
    for first in (0, 2):
        drawing.height += 1.25 * _LINE
        for column, verdict in enumerate(VERDICTS[first : first + 2]):
            x = _LEFT + 6 + 130 * column
            drawing.add(_marker(verdict, x, drawing.height - 8.5))
            drawing.text(x + 12, verdict)
    drawing.height += 4
    drawing.lines("Lines: intervals, corrected for the number of claims; arrows: beyond the axis.", "f-small", 80)
    drawing.lines("Dark band: the margin, within which a difference does not matter.", "f-small", 80)


def _panel(
    drawing: _Drawing,
    title: str,
    by_name: Mapping[str, Sequence[Claim]],
    scale: Callable[[float], float],
    form: Callable[[float], str],
    reaches: Sequence[float],
) -> None:
    """Draws claims below each other.

    Args:
      drawing: what they are added to.
      title: what the axis is of.
      by_name: claims by their sweep's heading.
      scale: from a value to a length, larger to the right.
      form: writes a value.
      reaches: how far the axis may reach; the first that holds nine of ten means is taken, else the last: a longer
        axis would hide the margin. What is beyond it has an arrow.
    """
    claims = [claim for group in by_name.values() for claim in group]
    means = sorted(abs(scale(claim.mean)) for claim in claims if claim.mean is not None)
    wanted = means[math.ceil(0.9 * len(means)) - 1] if means else 0
    wanted = max([wanted, *(2 * abs(scale(claim.margin)) for claim in claims)])
    reach = next((reach for reach in reaches if abs(scale(reach)) >= wanted), reaches[-1])
    length = abs(scale(reach))

    def x_of(value: float) -> float:
        return _MIDDLE + _HALF * scale(value) / length

    if scale(1) == 0:  # a ratio
        ticks = [(reach, f"{reach:g}"), (1.0, "1"), (1 / reach, f"1/{reach:g}")]
    else:
        ticks = [(value, f"{value:+g}" if value else "0") for value in (-reach, -reach / 2, 0.0, reach / 2, reach)]
    drawing.height += 2 * _LINE
    drawing.text(_LEFT, title, "f-head")
    drawing.text(_WIDTH - 8, "to the right: for the claim", "f-small", "end")
    _ticks(drawing, ticks, x_of)
    for name, group in by_name.items():
        drawing.height += 0.75 * _LINE
        drawing.lines(name, "f-head", _CHARACTERS - 10)
        for claim in group:
            drawing.height += 4
            _row(drawing, claim, x_of, form, 1.0 if scale(1) == 0 else 0.0)
    _ticks(drawing, ticks, x_of)


def _ticks(drawing: _Drawing, ticks: Sequence[tuple[float, str]], x_of: Callable[[float], float]) -> None:
    drawing.height += _LINE
    ends = {_LEFT: "start", _RIGHT: "end"}
    for value, text in ticks:
        x = x_of(value)
        drawing.text(x, text, "f-small", ends.get(round(x), "middle"))


def _row(
    drawing: _Drawing, claim: Claim, x_of: Callable[[float], float], form: Callable[[float], str], none: float
) -> None:
    """A claim: its text, below it the interval; `none` is the value of no difference."""
    drawing.add(f'<g class="f-claim"><title>{html.escape(claim.words.replace("`", ""))}</title>')
    drawing.lines(claim.text)
    drawing.height += _LINE
    y = drawing.height - _LINE / 2
    margins = [1 / claim.margin, claim.margin] if none else [-claim.margin, claim.margin]
    low, high = sorted(min(max(x_of(value), _LEFT), _RIGHT) for value in margins)
    drawing.add(
        f'<rect class="f-track" x="{_LEFT}" y="{y - 7:g}" width="{_RIGHT - _LEFT}" height="14"/>'
        f'<rect class="f-band" x="{low:.1f}" y="{y - 7:g}" width="{high - low:.1f}" height="14"/>'
        f'<path class="f-zero" d="M{_MIDDLE:g} {y - 7:g}v14"/>'
    )
    numbers = "no test"
    if claim.interval is not None:
        numbers = f"{form(claim.mean)} ({form(claim.interval[0])} to {form(claim.interval[1])})"
        drawing.add(_interval(claim.verdict, sorted(map(x_of, claim.interval)), y))
    elif claim.mean is not None:
        numbers = f"{form(claim.mean)} (no test)"
    elif claim.verdict == "disagrees":
        numbers = "never"
    at = _LEFT if claim.mean is None else min(max(x_of(claim.mean), _LEFT), _RIGHT)
    if claim.mean is not None or claim.verdict == "disagrees":
        drawing.add(_marker(claim.verdict, at, y))
    drawing.text(_WIDTH - 8, numbers, "f-small", "end")
    drawing.add("</g>")


def _marker(verdict: str, x: float, y: float) -> str:
    return f'<path class="f-{verdict}" transform="translate({x:.1f} {y:g})" d="{_SHAPES[verdict]}"/>'


def _interval(verdict: str, ends: Sequence[float], y: float) -> str:
    """A line, with an arrow where the axis is too short."""
    start, end = (min(max(x, _LEFT), _RIGHT) for x in ends)
    path = f"M{start:.1f} {y:g}H{end:.1f}"
    path += f"M{_LEFT + 5} {y - 4:g}L{_LEFT} {y:g}L{_LEFT + 5} {y + 4:g}" if ends[0] < _LEFT else ""
    path += f"M{_RIGHT - 5} {y - 4:g}L{_RIGHT} {y:g}L{_RIGHT - 5} {y + 4:g}" if ends[1] > _RIGHT else ""
    return f'<path class="f-{verdict}" style="fill: none" d="{path}"/>'

"""Writes networks beside their papers in Markdown: docs/fidelity.md, and the page of one network."""

from collections.abc import Iterable

from inception_jax import markdown
from inception_jax.models.summary import COLUMNS, Comparison, Summary, pair_text, shape_text, size_text
from inception_jax.reference import NOTES

_INTRODUCTION = """# Paper against code

What each paper, or the code released with it, prints, and what this code has. Written by
`python -m experiments.summary --fidelity`; a test fails when it is out of date.

A printed number agrees (✓) if ours is the same after rounding or truncation to its digits: papers do both. A number
printed in full must be equal. A difference is ours minus the printed number. Parameters are those of the network
without auxiliary heads unless stated otherwise, and without the running statistics of batch normalisation. Weights are
parameters without biases and batch normalisation. Multiply-adds are those of convolutions and dense layers for one
image, products with padding included. Activations are the image and the outputs of all operations in float32. The field
is the part of the image that one score depends on, in pixels, padding included."""


def network_page(summary: Summary) -> str:
    """Returns the table of one network, its totals and notes."""
    rows = [(name.replace("  ", "&nbsp;&nbsp;"), *cells) for name, *cells in summary.rows()]
    lines = "\n".join(f"- {line}" for line in summary.lines())
    return f"{markdown.table(COLUMNS, rows, right=COLUMNS[3:-1])}\n\n{lines}\n"


def fidelity_page(summaries: Iterable[Summary]) -> str:
    """Returns docs/fidelity.md: the totals of all networks, then for each what was printed beside ours."""
    totals, sections = [], []
    for summary in summaries:
        name, notes = summary.name, NOTES.get(summary.name, ())
        described = bool(summary.comparisons or notes)
        aux = summary.aux_parameters
        totals.append(
            (
                f"[{name}](#{name})" if described else name,
                shape_text(summary.image_shape),
                f"{summary.parameters:,}",
                f"{summary.parameters + aux:,}" if aux else "",
                f"{summary.multiply_adds:,}",
                size_text(summary.activation_bytes),
                pair_text(summary.layers[-1].field.size),
            )
        )
        if described:
            sections += [f"## {name}"]
            sections += ["\n".join(f"- {note}" for note in notes)] if notes else []
            sections += [_comparison_table(summary.comparisons)] if summary.comparisons else []
    header = ("network", "images", "parameters", "with heads", "multiply-adds", "activations", "field")
    return "\n\n".join([_INTRODUCTION, markdown.table(header, totals, right=header[1:]), *sections]) + "\n"


def _comparison_table(comparisons: Iterable[Comparison]) -> str:
    rows = [
        (
            entry.printed.layer or "whole network",
            entry.printed.what,
            entry.printed.text,
            entry.printed.source,
            shape_text(entry.ours) if entry.printed.what == "output" else f"{entry.ours:,}",
            "✓" if entry.agrees else f"✗ {entry.difference}",
            "" if entry.agrees else entry.printed.reason,
        )
        for entry in comparisons
    ]
    return markdown.table(("layer", "what", "printed", "source", "ours", "", "why"), rows, right=("ours", ""))

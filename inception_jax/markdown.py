"""Tables in Markdown."""

from collections.abc import Collection, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """Returns a Markdown table; the columns whose heading is in `right` are aligned to the right."""
    rules = ["--:" if name in right else "---" for name in header]
    cells = [[text.replace("|", "\\|") for text in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rules, *cells))

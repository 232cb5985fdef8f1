"""The notebooks of the documentation run from beginning to end, and their stored outputs are what they print today."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted(Path(__file__).parent.parent.glob("docs/notebooks/*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")  # on one device, as for its readers
    if path.stem == "published_weights":  # it trains for longer than it compiles
        monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    notebook = nbformat.read(path, as_version=4)
    stored = [_printed(cell) for cell in notebook.cells]
    resources = {"metadata": {"path": str(path.parent)}}  # where Jupyter starts it
    NotebookClient(notebook, timeout=300, kernel_name="python3", coalesce_streams=True, resources=resources).execute()
    assert [_printed(cell) for cell in notebook.cells] == stored, "run it again, see CONTRIBUTING.md"


def _printed(cell) -> list[str]:
    """The text that a cell prints or returns; none of a cell with the tag 'varies', such as accuracies."""
    if cell.cell_type != "code" or "varies" in cell.metadata.get("tags", ()):
        return []
    printed = (output for output in cell.outputs if output.get("name") != "stderr")
    return [text for output in printed if (text := output.get("text") or output.get("data", {}).get("text/plain"))]

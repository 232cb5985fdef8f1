from pathlib import Path

from inception_jax.report.weights import weights_page
from inception_jax.weights.sources import catalogue


def test_docs_weights_is_fresh():
    file = Path(__file__).parents[2] / "docs" / "weights.md"
    page = weights_page(catalogue.sources().values())
    assert file.read_text(encoding="utf-8") == page, (
        "run: python -m experiments.import_weights --page > docs/weights.md"
    )

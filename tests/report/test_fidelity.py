"""Paper against code: docs/fidelity.md is fresh, and each difference is known and has a reason."""

import pathlib

import inception_jax
from inception_jax.report.fidelity import fidelity_page, network_page

ROOT = pathlib.Path(__file__).parent.parent.parent
NAMES = inception_jax.list_models()

# Some known differences of these networks, as layers or printed texts; '' if they have none.
DIFFERENT = {
    "googlenet": "conv1 4a 4b 4c 4d 4e 5a 5b",
    "bn_inception": "3c 4c 4d 4e 13.6M",
    "inception_resnet_v2": "block35_10 block17_20 block8_10",
    "vgg_d": "96MB",
    "base_cnn_c": "1.3",
    "strided_cnn_c": "1.3",
    "alexnet": "253,440",
    "all_cnn_c": "",
    "vgg_e": "",
}


def test_the_page_is_fresh(summary_of):
    page = fidelity_page(map(summary_of, NAMES))
    assert (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8") == page, (
        "run: python -m experiments.summary --fidelity > docs/fidelity.md"
    )


def test_what_differs_has_a_reason_and_what_agrees_has_none(summary_of):
    for name in NAMES:
        for entry in summary_of(name).comparisons:
            assert bool(entry.printed.reason) != entry.agrees, (name, entry)


def test_known_differences(summary_of):
    for name, parts in DIFFERENT.items():
        different = [entry.printed for entry in summary_of(name).comparisons if not entry.agrees]
        assert bool(different) == bool(parts), name
        for part in parts.split():
            named = [entry for entry in different if part in (entry.layer, *entry.text.split())]
            assert named or any(entry.layer.endswith(f"_{part}") for entry in different), (name, part)


def test_the_page_of_one_network(summary_of):
    lines = network_page(summary_of("bn_inception")).splitlines()
    table = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert len({len(cells) for cells in table}) == 1
    assert lines[1] == "| --- | --- | --- | --: | --: | --: | --: | --: | --- |"
    assert any(line.startswith("| &nbsp;&nbsp;conv1x1 | 1x1/1 | 28x28x64 | 12,4") for line in lines)
    assert "- 11,278,528 parameters" in lines
    whole = "13.6M parameters ✗ -2,321,472 [4], 2.0 Bn multiply-adds ✗ -51,394,560 [5]"
    assert f"- printed for the whole network: {whole}" in lines

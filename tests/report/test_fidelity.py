"""The page of one network beside its paper. That of all networks is in tests/models/test_golden.py."""

from inception_jax.report.fidelity import network_page


def test_the_page_of_one_network(summary_of):
    lines = network_page(summary_of("bn_inception")).splitlines()
    table = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert len({len(cells) for cells in table}) == 1
    assert lines[1] == "| --- | --- | --- | --: | --: | --: | --: | --: | --- |"
    assert any(line.startswith("| &nbsp;&nbsp;conv1x1 | 1x1/1 | 28x28x64 | 12,4") for line in lines)
    assert "- 11,278,528 parameters" in lines
    whole = "13.6M parameters ✗ -2,321,472 [4], 2.0 Bn multiply-adds ✗ -51,394,560 [5]"
    assert f"- printed for the whole network: {whole}" in lines

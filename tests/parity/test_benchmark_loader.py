"""The loader's benchmark with its peers. Needs TensorFlow and torch of requirements-bench.txt."""

from experiments.benchmark import loader


def test_the_peers_of_the_loader_are_measured(torch, monkeypatch):
    monkeypatch.setattr(loader, "FILES", 4)
    pipelines = ("ours", "tf.data", "PyTorch DataLoader")
    monkeypatch.setattr(loader, "PIPELINES", {name: loader.PIPELINES[name] for name in pipelines})
    rows = {row["what"]: row for row in loader.measure(repeats=1, images=32)}
    assert rows.keys() == set(pipelines)
    for row in rows.values():
        assert "skipped" not in row, row
        assert row["ratio"] > 0

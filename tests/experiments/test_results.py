import json

from experiments import results


def test_a_row_is_read_from_the_artefacts(tmp_path, capsys, monkeypatch):
    config = {"model": {"name": "googlenet"}, "data": {"name": "digits", "image_size": 64}, "seed": 3}
    (tmp_path / "config.json").write_text(json.dumps({"config": config}))
    last = {"step": 9, "top1": 0.975, "top5": 1.0, "loss": 0.1, "count": 40}
    best = {"step": 6, "top1": 0.9875, "top5": 1.0, "loss": 0.1, "count": 40}
    (tmp_path / "results.json").write_text(json.dumps({"last": last, "best": best}))
    lines = [{"step": s, "split": "train", "images_per_second": v} for s, v in ((3, 90.0), (6, 110.2), (9, 300.0))]
    lines.append({"step": 9, "split": "test", "top1": 0.975})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr("sys.argv", ["results", str(tmp_path), "--json", str(tmp_path / "out.json")])
    assert results.main() == 0
    table = capsys.readouterr().out.splitlines()
    assert table[2].split(" | ")[1:] == [
        "googlenet",
        "digits",
        "64",
        "9",
        "3",
        "40",
        "97.50 %",
        "100.00 %",
        "98.75 %",
        "110 |",
    ]
    assert json.loads((tmp_path / "out.json").read_text())[0]["best_top1"] == 0.9875


def test_an_unfinished_run_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["results", str(tmp_path)])
    assert results.main() == 2
    assert f"error: {tmp_path} holds no evaluated run" in capsys.readouterr().err

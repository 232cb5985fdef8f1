import json
import pathlib

import pytest

from configs import common
from configs.digits import NETWORKS
from experiments import results

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def workdir(tmp_path):
    config = common.get_config()
    config.seed = 3
    config.model.width = 0.25
    config.data.update(name="digits", image_size=64, eval_split="test")
    command = ["main.py", "--config=configs/digits.py:vgg_a", "--workdir=x"]
    (tmp_path / "config.json").write_text(json.dumps({"config": config.to_dict(), "commands": [["old"], command]}))
    last = {"step": 9, "top1": 0.975, "top5": 1.0, "loss": 0.1, "count": 40}
    best = {"step": 6, "top1": 0.9875, "top5": 1.0, "loss": 0.1, "count": 40}
    (tmp_path / "results.json").write_text(json.dumps({"last": last, "best": best}))
    lines = [{"step": s, "split": "train", "images_per_second": v} for s, v in ((3, 90.0), (6, 110.2), (9, 300.0))]
    lines += [{"step": 6, "split": "test", "top1": 0.9875}, {"step": 9, "split": "test", "top1": 0.975}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "parameters.txt").write_text("| kernel | (256, 10) |\nTotal: 411,350 -- 1,645,400 bytes\n")
    return tmp_path


def test_a_row_is_read_from_the_artefacts(workdir, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["results", str(workdir), "--json", str(workdir / "out.json")])
    assert results.main() == 0
    table = capsys.readouterr().out.splitlines()
    expected = "googlenet | digits | 64 | 9 | 3 | 40 | 97.50 % | 100.00 % | 98.75 % | 110 |"
    assert table[2].split(" | ", 1)[1] == expected
    [row] = json.loads((workdir / "out.json").read_text())
    more = {"recipe": "digits:vgg_a", "width": 0.25, "parameters": 411350, "batch": 32, "lr": 0.01, "aux": None}
    assert row | more == row
    assert row["evaluations"] == [[6, 0.9875], [9, 0.975]]


def test_an_unfinished_run_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["results", str(tmp_path)])
    assert results.main() == 2
    assert f"error: {tmp_path} holds no evaluated run" in capsys.readouterr().err


def runs(recipe, *top1s, evaluations=((), ()), aux=None):
    one = {"recipe": recipe, "data": recipe.split(":")[0], "size": 64, "width": 0.25, "parameters": 411350, "aux": aux}
    one |= {"steps": 300, "batch": 64, "lr": 0.1, "images_per_second": 480}
    runs = zip(range(len(top1s)), top1s, evaluations, strict=True)
    return [one | {"seed": seed, "top1": top1, "evaluations": list(e)} for seed, top1, e in runs]


# Plain Inception reaches what it ends with at steps 200 and 300; BN-Inception reaches that at 50 and 150.
PLAIN = ([100, 0.5], [200, 0.63], [300, 0.62]), ([100, 0.4], [200, 0.5], [300, 0.6])
ROWS = [
    *runs("digits", 0.98, 0.99, aux=True),
    *runs("digits:inception", 0.62, 0.6, evaluations=PLAIN),
    *reversed(runs("digits:bn_inception", 0.8, 0.9, evaluations=(([50, 0.62],), ([50, 0.59], [150, 0.9])))),
    *runs("digits:googlenet_no_aux", 0.97, 0.97, aux=False),
    *runs("glyphs", 0.75, 0.77, aux=True),
    *runs("glyphs:inception", 0.62, 0.6, evaluations=PLAIN),
    *runs("glyphs:bn_inception", 0.5, 0.6, evaluations=(([50, 0.5],), ([50, 0.6],))),
    *runs("glyphs:googlenet_no_aux", 0.7, 0.7, aux=False),
]


def test_the_document():
    lines = results.document(ROWS).splitlines()
    # The sample's standard deviation of 98 and 99 is 1 / sqrt(2).
    assert "| `digits` | 64 | 0.25 | 411,350 | 300 x 64 | 40 | 2 | 98.50 ± 0.71 % | 98.00 % |" in lines
    assert "| `digits:inception` | 0.1 | 62.00 %, 60.00 % | 200, 300 | 250 |" in lines
    assert "| `digits:bn_inception` | 0.1 | 80.00 %, 90.00 % | 50, 150 | 100 |" in lines
    assert "On the digits, evaluated every 100 steps: 2.5 times fewer steps." in lines
    assert "| `glyphs:bn_inception` | 0.1 | 50.00 %, 60.00 % | never, 50 | – |" in lines
    assert "On the glyphs, evaluated every 100 steps: no ratio, for not every run got there." in lines
    assert "| `glyphs:googlenet_no_aux` | none | 411,350 | 70.00 ± 0.00 % |" in lines


def test_the_document_that_is_committed_is_that_of_the_runs():
    rows = json.loads((ROOT / "docs" / "results.json").read_text())
    assert results.document(rows) == (ROOT / "docs" / "results.md").read_text()
    for data, least in (("digits", 0.98), ("glyphs", 0)):
        for words in ("", *(f":{name}" for name in NETWORKS if name != "googlenet")):
            runs = [row for row in rows if row["recipe"] == data + words]
            assert sorted(row["seed"] for row in runs) == [0, 1, 2]
            assert sum(row["top1"] for row in runs) / 3 >= least, data + words

"""Evaluation of checkpoints by the command."""

import csv
import dataclasses
import json
import math
import shutil

import jax
import numpy as np
import pytest

import inception_jax
from experiments.evaluate import main
from inception_jax.evaluation import evaluate
from inception_jax.evaluation.protocols import NAMES
from inception_jax.evaluation.scoring import Scorer
from inception_jax.runs import classifier


@pytest.fixture
def other(trained, tmp_path):
    """Another network: one with its weights of six steps alone."""
    shutil.copytree(trained, tmp_path / "other", ignore=shutil.ignore_patterns("evaluation", "4", "8", "12"))
    return tmp_path / "other"


def run(out, *arguments):
    """Evaluates, and reads the JSON file and the predictions."""
    assert main([*map(str, arguments), f"--out={out}"]) == 0
    with open(out / "predictions.csv", encoding="utf-8", newline="") as file:
        return json.loads((out / "evaluation.json").read_text()), list(csv.DictReader(file))


def numbers(record):
    names = ("top1", "top5", "loss", "calibration_error", "count")
    return [[row[name] for name in names] for row in record["rows"]]


def test_the_single_crop_repeats_the_evaluation_of_training(trained, tmp_path, capsys):
    record, predictions = run(tmp_path, f"--workdir={trained}", "--checkpoint=last")
    expected = json.loads((trained / "results.json").read_text())["last"]
    [row] = record["rows"]
    assert (row["count"], row["top1"], row["top5"]) == (21, expected["top1"], expected["top5"])
    assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert len({line["image"] for line in predictions}) == len(predictions) == 21
    assert np.mean([line["label"] == line["class_1"] for line in predictions]) == row["top1"]
    assert np.mean([float(line["loss"]) for line in predictions]) == pytest.approx(row["loss"], abs=1e-5)
    assert sum(bin["images"] for bin in row["reliability"]) == sum(n for _, _, n in row["confusion"]) == 21
    assert np.mean(list(row["per_class"].values())) == pytest.approx(row["top1"])  # as many images of each class
    head, line, *_ = capsys.readouterr().out.splitlines()
    assert head.startswith("network  protocol  passes  images ")
    assert line.split()[:6] == ["run/12", "single", "1", "21", f"{100 * row['top1']:.2f}", "%"]


def test_a_network_by_every_protocol(trained, tmp_path):
    record, predictions = run(
        tmp_path, f"--workdir={trained}", "--split=val", f"--protocol={','.join(NAMES)}", "--batch-size=8"
    )
    windows = {"single": 1, "anisotropic": 1, "10crop": 10, "12crop": 12, "144crop": 144, "multicrop": 150, "dense": 6}
    assert {row["protocols"][0]["name"]: row["passes"] for row in record["rows"]} == windows
    assert all(row["count"] == 21 for row in record["rows"])
    assert all(math.isfinite(row["loss"]) for row in record["rows"])
    assert len({row["loss"] for row in record["rows"]}) == len(windows)
    assert len(predictions) == 21 * len(windows)


def test_members_and_their_ensemble(trained, other, tmp_path, monkeypatch):
    protocols = "--protocol=single,10crop"
    alone, _ = run(tmp_path / "alone", f"--workdir={trained}", protocols)
    both, predictions = run(tmp_path / "both", f"--workdir={trained}", f"--workdir={other}", protocols)
    assert numbers(both)[:2] == numbers(alone)
    rows = both["rows"]
    assert [row["networks"] for row in rows] == [["run/12"]] * 2 + [["other/6"]] * 2 + [["run/12", "other/6"]] * 2
    assert [row["passes"] for row in rows] == [1, 10, 1, 10, 2, 20]
    assert "gain" not in rows[0]
    for row in rows[1:]:
        assert row["gain"] == {key: row[key] - rows[0][key] for key in ("top1", "top5")}
    by_row = {}
    for line in predictions:
        order = sorted(range(1, 4), key=lambda k: line[f"class_{k}"])
        values = [float(line[f"probability_{k}"]) for k in order]
        by_row.setdefault((line["networks"], line["protocol"]), []).append(values)
    ours, theirs, together = (np.array(by_row[name, "single"]) for name in ("run/12", "other/6", "run/12 + other/6"))
    assert np.abs(ours - theirs).max() > 1e-3
    np.testing.assert_allclose(together, (ours + theirs) / 2, atol=2e-6)

    # Another aggregation costs no forward pass.
    monkeypatch.setattr(Scorer, "__init__", None)
    for aggregate in ("logits", "max"):
        again, _ = run(
            tmp_path / aggregate, f"--workdir={trained}", f"--workdir={other}", protocols, f"--aggregate={aggregate}"
        )
        assert numbers(again)[1] != numbers(both)[1]


def test_an_ensemble_of_one_network_twice_is_that_network(trained, tmp_path):
    one, _ = run(tmp_path / "one", f"--workdir={trained}")
    two, _ = run(tmp_path / "two", f"--workdir={trained}", f"--workdir={trained}")
    assert numbers(two) == numbers(one) * 3


def test_every_checkpoint_and_those_to_come(trained, tmp_path, monkeypatch, capsys):
    every, _ = run(tmp_path / "all", f"--workdir={trained}", "--checkpoint=all")
    assert [row["networks"] for row in every["rows"]] == [[f"run/{step}"] for step in (4, 6, 8, 12)]

    # A run that is at its sixth step; while the command waits it goes on to its last.
    running = tmp_path / "run"
    shutil.copytree(trained, running, ignore=shutil.ignore_patterns("evaluation", "8", "12"))
    waits = []

    def wait(seconds):
        waits.append(seconds)
        shutil.copytree(trained / "checkpoints" / "12", running / "checkpoints" / "12")
        shutil.rmtree(running / "checkpoints" / "4")

    monkeypatch.setattr(classifier.time, "sleep", wait)
    so_far, _ = run(tmp_path / "so far", f"--workdir={running}", "--checkpoint=all")
    assert [row["networks"] for row in so_far["rows"]] == [["run/4"], ["run/6"]]
    assert not waits
    followed, _ = run(tmp_path / "followed", f"--workdir={running}", "--follow")
    assert [row["networks"] for row in followed["rows"]] == [[f"run/{step}"] for step in (4, 6, 12)]
    assert len(waits) == 1
    assert [n for n in numbers(followed)] == [numbers(every)[place] for place in (0, 1, 3)]


def test_scores_of_other_scales_are_others(trained, tmp_path):
    by_default, chosen = (
        run(tmp_path / name, f"--workdir={trained}", "--protocol=10crop", *scales)[0]
        for name, scales in (("default", []), ("chosen", ["--scales=20,24"]))
    )
    assert [row["rows"][0]["protocols"][0]["scales"] for row in (by_default, chosen)] == [[18], [20, 24]]
    assert [row["rows"][0]["passes"] for row in (by_default, chosen)] == [10, 20]
    assert numbers(by_default) != numbers(chosen)


def test_lists_choose_the_images(trained, tmp_path):
    (tmp_path / "few.txt").write_text("0\n7\n14\n20\n")
    (tmp_path / "bad.txt").write_text("7\n")
    # Of one image both classes are right, of one no class is.
    labels = [[0, 1]] + [[0]] * 6 + [[1]] * 7 + [[2]] * 6 + [[]]
    (tmp_path / "real.json").write_text(json.dumps(labels))
    lists = (f"--subset={tmp_path / 'few.txt'}", f"--exclude={tmp_path / 'bad.txt'}")
    record, predictions = run(tmp_path / "few", f"--workdir={trained}", *lists)
    assert record["rows"][0]["count"] == record["count"] == 3
    assert [line["label"] for line in predictions] == ["blue", "red", "red"]
    record, predictions = run(tmp_path / "real", f"--workdir={trained}", f"--multilabels={tmp_path / 'real.json'}")
    assert record["rows"][0]["count"] == 20
    assert record["rows"][0]["loss"] is None
    assert predictions[0]["label"] == "blue | green"
    assert np.mean([line["class_1"] in line["label"].split(" | ") for line in predictions]) == record["rows"][0]["top1"]


def test_another_size_is_said_aloud(trained, tmp_path, capsys):
    record, _ = run(tmp_path, f"--workdir={trained}", "--image-size=24")
    assert record["rows"][0]["protocols"][0]["size"] == 24
    assert "tiny: images of 24 pixels, resized to 27; its own are 16 and 18" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_left_out(trained, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "run"
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("evaluation"))
    metadata = copy / "checkpoints" / "12" / "facts" / "metadata"
    metadata.write_text("no JSON", encoding="utf-8")
    every, _ = run(tmp_path / "all", f"--workdir={copy}", "--checkpoint=all")
    assert [row["networks"] for row in every["rows"]] == [[f"run/{step}"] for step in (4, 6, 8)]
    monkeypatch.setattr(classifier.time, "sleep", None)  # the others say how long the training is
    followed, _ = run(tmp_path / "followed", f"--workdir={copy}", "--follow")
    assert numbers(followed) == numbers(every)
    assert capsys.readouterr().err.count("warning: checkpoint 12 is skipped: ") == 2
    run(tmp_path / "last", f"--workdir={copy}", "--checkpoint=last")
    assert "; checkpoint 8 takes its place\n" in capsys.readouterr().err
    assert main([f"--workdir={copy}", "--checkpoint=12"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_image_that_cannot_be_shown_is_named(trained, tmp_path, image_folder, monkeypatch):
    shutil.copytree(image_folder, tmp_path / "data")
    combine = evaluate.combine

    def lose(*arguments):
        (tmp_path / "data" / "val" / "red" / "3.png").write_bytes(b"torn")
        return combine(*arguments)

    monkeypatch.setattr(evaluate, "combine", lose)
    options = (f"--workdir={trained}", f"--data-dir={tmp_path / 'data'}", "--worst=30", f"--cache={tmp_path / 'cache'}")
    run(tmp_path / "out", *options)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("cannot be shown") == 1
    assert "val/red/3.png cannot be shown" in page


def test_exported_weights_are_evaluated_on_data_that_is_named(trained, tmp_path, image_folder, capsys):
    file = tmp_path / "weights.npz"
    inception_jax.load(trained, "last").save(file)
    data = ("--data=folder", f"--data-dir={image_folder}", "--split=val")
    exported, _ = run(tmp_path / "out", f"--workdir={file}", *data)
    expected, _ = run(tmp_path / "expected", f"--workdir={trained}", "--checkpoint=last")
    assert numbers(exported) == numbers(expected)
    assert main([f"--workdir={file}"]) == 2
    assert "name the data and the split" in capsys.readouterr().err


def test_the_report_has_one_section_of_it(trained, tmp_path):
    report = tmp_path / "report.html"
    report.write_text("<main>\n<h2>Training</h2>\n</main>")
    for protocol in ("single", "10crop"):
        run(tmp_path, f"--workdir={trained}", f"--protocol={protocol}")
    page = report.read_text()
    assert page.startswith("<main>\n<h2>Training</h2>\n")
    assert page.endswith("</main>")
    assert page.count("<h2>Evaluation</h2>") == page.count("<h2>Reliability</h2>") == 1
    assert "10crop at 18" in page
    assert "single" not in page
    assert page.count('<figure class="sample') == 16


def test_mistakes_are_one_line(trained, tmp_path, capsys):
    for arguments, message in (
        (["--protocol=11crop"], "--protocol='11crop' is not one of single, anisotropic"),
        (["--aggregate=mode"], "--aggregate='mode' is not one of probabilities, logits, max"),
        (["--batch-size=0"], "argument --batch-size: 0 must be a whole number, 1 or more"),
        (["--checkpoint=7"], f"--checkpoint='7' is not in {trained}, which has best, last, 4, 6, 8, 12"),
        (["--protocol=10crop", "--scales=big"], "argument --scales: big must be a whole number, 1 or more"),
        (["--protocol=10crop", "--scales=8"], "--scales=(8,) must not be less than the network's 16 pixels"),
        (["--split=test"], "test"),
        (["--subset=none.txt"], "none.txt cannot be read"),
        (["--data=digits", "--split=test"], "unknown to the network: 0, 1, 2, 3, 4 ..."),
        (["--label-map=drop_first"], "--label-map=drop_first: 3 outputs are not one more than 3 classes"),
        (["--cache=/proc/none"], "--cache=/proc/none cannot be written"),
        (["--follow", "--workdir=elsewhere"], "--checkpoint=all and --follow are for one --workdir"),
        (["--workdir=elsewhere"], "elsewhere does not exist"),
    ):
        try:
            status = main([f"--workdir={trained}", f"--out={tmp_path}", *arguments])
        except SystemExit as exit:
            status = exit.code
        assert status == 2, arguments
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert message in line
        assert not list(tmp_path.iterdir())


def test_outputs_that_are_not_numbers_are_an_error(trained, tmp_path, capsys, monkeypatch):
    load = classifier.load

    def broken(*arguments):
        loaded = load(*arguments)
        params = jax.tree.map(lambda leaf: leaf * np.nan, loaded.variables["params"])
        return dataclasses.replace(loaded, variables=loaded.variables | {"params": params})

    monkeypatch.setattr(classifier, "load", broken)
    assert main([f"--workdir={trained}", f"--out={tmp_path}"]) == 2
    assert "error: run/12: the outputs of the network are not finite" in capsys.readouterr().err

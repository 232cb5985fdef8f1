import csv

import numpy as np
import pytest

from inception_jax.data.loader import Geometry
from inception_jax.evaluation import page
from inception_jax.evaluation.analysis import analyse, log_loss, ranking, right_probability
from inception_jax.evaluation.page import Sample
from inception_jax.evaluation.protocols import make_protocol
from inception_jax.evaluation.results import Row, evaluation_section, table, write_predictions
from inception_jax.reference.results import printed_result

GEOMETRY = Geometry(224, 256, (0.08, 1.0), (3 / 4, 4 / 3))
CLASSES = ("ant", "b<e>e", "cat")
LABELS = (0, 1, 2, 2)
GOOD = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5], [0.25, 0.25, 0.5]], np.float32)
BAD = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.25, 0.5, 0.25]], np.float32)


def row(probabilities, protocol, members, base=None, networks=(), labels=LABELS):
    best = ranking(probabilities)
    return Row(
        members=members,
        protocols=tuple(make_protocol(protocol, GEOMETRY) for _ in members),
        analysis=analyse(probabilities, labels),
        base=base,
        printed=printed_result(networks, protocol),
        classes=best,
        probabilities=np.take_along_axis(probabilities, best, axis=1),
        losses=log_loss(right_probability(probabilities, labels)),
    )


def rows():
    first = row(BAD, "single", ("run/1",), networks=["inception_v3"])
    return [first, row(GOOD, "144crop", ("run/1", "run/2"), first.analysis, networks=["googlenet"] * 7)]


def test_the_table():
    # Losses: (log 2 + log 4 + log 2 + log 4) / 4 and log 2. All are confident by one half, and 2 and 4 of 4 are right.
    # Rethinking Inception, Table 3: errors 21.2 and 5.6; GoogLeNet, Table 3: 6.67.
    assert table(rows()).splitlines() == [
        "network     protocol                       passes  images     top-1     top-5    loss  calibration error"
        "  gain top-1  gain top-5  paper top-1  paper top-5",
        "run/1       single                              1       4   50.00 %  100.00 %  1.0397             0.00 %"
        "                              78.80 %      94.40 %",
        "2 networks  144crop at 256, 288, 320, 352     288       4  100.00 %  100.00 %  0.6931            50.00 %"
        "      +50.00       +0.00                   93.33 %",
        "paper: 100 % less the error of Rethinking the Inception Architecture, Table 3, 48,238 images",
        "paper: 100 % less the error of Going Deeper with Convolutions, Table 3",
    ]


def test_columns_without_a_value_are_left_out():
    [first, _] = rows()
    head = table([row(GOOD, "dense", ("run/1",))]).splitlines()
    assert "gain" not in head[0]
    assert "paper" not in head[0]
    assert head[-1] == "passes of the dense protocol see whole images"
    several = row(GOOD, "single", ("run/1",), labels=[frozenset((label,)) for label in LABELS])
    assert "loss" not in table([several])
    assert "loss" in table([first])


def test_json_has_all_numbers():
    first, second = (each.as_json(CLASSES) for each in rows())
    assert first["networks"] == ("run/1",)
    assert first["protocols"] == [{"name": "single", "size": 224, "scales": (), "windows": 1}]
    assert (first["top1"], first["top5"], first["count"], first["passes"]) == (0.5, 1.0, 4, 1)
    assert first["loss"] == pytest.approx(1.5 * np.log(2))
    assert first["per_class"] == {"ant": 1.0, "b<e>e": 0.0, "cat": 0.5}
    assert first["confusion"] == [[0, 0, 1], [1, 0, 1], [2, 1, 1], [2, 2, 1]]
    assert [bin for bin in first["reliability"] if bin["images"]] == [{"images": 4, "confidence": 0.5, "accuracy": 0.5}]
    assert second["gain"] == {"top1": 0.5, "top5": 0.0}
    assert second["printed_error_percent"] == {
        "top1": None,
        "top5": 6.67,
        "source": "Going Deeper with Convolutions, Table 3",
    }
    assert second["passes"] == 2 * 144
    assert "gain" not in first


def test_predictions_are_a_line_an_image(tmp_path):
    right = [{0}, {1}, {2}, {1, 2}]
    write_predictions(tmp_path / "out.csv", rows(), ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], right, CLASSES)
    lines = list(csv.DictReader((tmp_path / "out.csv").open(newline="")))
    assert len(lines) == 8
    assert list(lines[7].values()) == [
        *["run/1 + run/2", "144crop at 256, 288, 320, 352", "d.jpg", "b<e>e | cat", "0.693147"],
        *["cat", "0.500000", "ant", "0.250000", "b<e>e", "0.250000"],
    ]


def section(**changes):
    worst = [Sample(np.zeros((9, 9, 3), np.uint8), 1, (0, 1, 2), (0.5, 0.25, 0.25))]
    inputs = {"rows": rows(), "about": "Of <4> images.", "command": "a <b>", "class_names": CLASSES, "worst": worst}
    return evaluation_section(**inputs | changes)


def test_the_section_shows_the_table_and_the_last_row():
    text = section()
    for cell in ("run/1", "144crop at 256, 288, 320, 352", "50.00 %", "+50.00", "93.33 %"):
        assert f"<td>{cell}</td>" in text
    assert "Of &lt;4&gt; images." in text
    assert "<code>a &lt;b&gt;</code>" in text
    assert "Expected calibration error 50.0\N{NO-BREAK SPACE}%" in text
    assert "<h2>Confusion of 2 networks by 144crop" in text
    assert "b&lt;e&gt;e" in text
    assert "<h2>The 1 image of the highest loss</h2>" in text
    assert 'aria-label="Accuracy over confidence: 50% confident 100% right"' in text
    several = [frozenset((label,)) for label in LABELS]
    assert "Confusion" not in section(rows=[row(GOOD, "single", ("run/1",), labels=several)])


def test_of_many_classes_the_lowest_are_listed():
    names = [f"class {k}" for k in range(30)]
    labels = [k for k in range(30) for _ in range(4)]
    guesses = [0 if place % 4 < k % 4 else k for place, k in enumerate(labels)]  # of class k k % 4 are wrong
    text = section(
        rows=[row(np.eye(30, dtype=np.float32)[guesses], "single", ("run/1",), labels=labels)], class_names=names
    )
    listed = text[text.index("<h2>Accuracy by class</h2>") : text.index("of the highest loss")]
    assert listed.count("<tr><td") == 20
    assert '<td class="name">class 3</td><td>4</td><td>25.0\N{NO-BREAK SPACE}%</td>' in listed
    assert "class 28" not in listed  # all four are right


def test_a_section_is_put_into_a_page_once(tmp_path):
    file = tmp_path / "report.html"
    page.put_section(file, "<p>alone</p>", "Title & more")
    assert "<h1>Title &amp; more</h1>" in file.read_text()
    page.write_page(file, "Run", {}, ["<p>training</p>"])
    page.put_section(file, "<p>first</p>", "")
    page.put_section(file, "<p>second</p>", "")
    for text in (file.read_text(), page.write_page(file, "Again", {}, ["<p>training</p>"]) or file.read_text()):
        assert text.count("<p>training</p>") == text.count("<p>second</p>") == text.count("</main>") == 1
        assert text.index("<p>training</p>") < text.index("<p>second</p>") < text.index("</main>")
        assert "<p>alone" not in text
        assert "<p>first" not in text
    assert "<h1>Again</h1>" in file.read_text()

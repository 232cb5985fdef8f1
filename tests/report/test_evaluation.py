"""The section of a report about an evaluation."""

import numpy as np

from inception_jax.report import page
from inception_jax.report.evaluation import evaluation_section
from inception_jax.report.page import Sample
from tests.values import BAD, GOOD, LABELS, protocol_result


def section(rows, class_names=("ant", "b<e>e", "cat")):
    worst = [Sample(np.zeros((9, 9, 3), np.uint8), 1, (0, 1, 2), (0.5, 0.25, 0.25))]
    return evaluation_section(rows, "Of <4> images.", "a <b>", class_names, worst)


def test_the_section_shows_the_table_and_the_last_row():
    first = protocol_result(BAD)
    text = section([first, protocol_result(GOOD, "144crop", ("run/1", "run/2"), first.analysis, ["googlenet"] * 7)])
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
    assert "Confusion" not in section([protocol_result(GOOD, labels=several)])


def test_of_many_classes_the_lowest_are_listed():
    names = [f"class {k}" for k in range(30)]
    labels = [k for k in range(30) for _ in range(4)]
    guesses = [0 if place % 4 < k % 4 else k for place, k in enumerate(labels)]  # of class k k % 4 are wrong
    text = section([protocol_result(np.eye(30, dtype=np.float32)[guesses], labels=labels)], names)
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

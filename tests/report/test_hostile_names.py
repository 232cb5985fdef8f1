"""Classes, files, splits and variants with names in HTML: no name becomes an element or an attribute of a page."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from inception_jax.report import page, timeline
from inception_jax.report.curves import curves_section
from inception_jax.report.evaluation import evaluation_section
from inception_jax.report.page import Sample, confusion_section, samples_section
from inception_jax.report.pictures import Picture
from inception_jax.report.sweep import data as sweep_data
from inception_jax.report.sweep import page as sweep_page
from inception_jax.report.training import batch_section
from tests.report import test_sweep as sweeps
from tests.values import GOOD, protocol_result, snapshot

NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</script></style></title><script>alert(1)//",
    "<!-- put here later --></main><svg onload=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
]
BLACK = np.zeros((8, 8, 3), np.uint8)


class Elements(HTMLParser):
    """Elements with the names of their attributes, and the content of scripts of JSON."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self.scripts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, *sorted(name for name, _ in attributes)))
        if tag == "script":
            self.scripts.append((dict(attributes).get("type"), ""))

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts and data.strip():
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] or data)
        else:
            self.texts.append(data)


def harmless(name):
    return "x" * len(name)


def report(path, names):
    """A report with the names as everything that a name can be; returns its elements."""
    samples = [Sample(BLACK, 0, (1, 0), (0.5, 0.25), names[2]), Sample(None, 3, (4,), (1.0,), names[0])]
    row = protocol_result(GOOD, members=(names[0],))
    many = [*names, *map(str, range(25))]  # as a heat map and a table of pairs
    metrics = [{"step": step, "split": name, "top1": 0.5, "loss": 1.0} for step in (1, 2) for name in names]
    changing = [
        snapshot(step, classes=np.array([step, 0]), activations=dict.fromkeys(names, BLACK[..., :1])) for step in (1, 2)
    ]
    sections = [
        page.section(names[0], names[1]),
        timeline.predictions_section(changing, lambda _: BLACK, names),
        timeline.activations_section(changing),
        confusion_section(np.ones((6, 6), np.int64), names, names[1]),
        confusion_section(np.ones((31, 31), np.int64), many),
        samples_section(names[3], samples, names),
        batch_section([Picture(BLACK, name) for name in names]),
        curves_section([*metrics, {"step": 1, "split": "train", f"aux{names[0]}_loss": 1.0}]),
    ]
    page.write_page(path, names[3], {name: name for name in names} | {"Command": names[0]}, sections)
    about = evaluation_section([row], names[0], names[1], names[:3], [Sample(BLACK, 1, (0, 2), (0.5, 0.25), names[4])])
    page.put_section(path, about, names[0])
    page.put_section(path, about, names[0])  # finds what it put before
    return Elements(path.read_text(encoding="utf-8"))


def test_names_are_text_in_a_report(tmp_path):
    shown = report(tmp_path / "names.html", NAMES)
    assert shown.found == report(tmp_path / "plain.html", list(map(harmless, NAMES))).found
    assert not shown.scripts
    assert set(NAMES) <= set(shown.texts)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text_on_the_page_of_a_sweep(tmp_path, name):
    data = sweep_data.read(sweeps.write_sweep(tmp_path))

    def page_with(name):
        def put(value):
            if isinstance(value, dict):
                return {(name if key in ("both", "late") else key): put(each) for key, each in value.items()}
            if isinstance(value, list):
                return [put(each) for each in value]
            return name if value in ("both", "late", "failed", "Heads", "section 5", "heads help", "glyphs") else value

        sweep_page.write(tmp_path / "page.html", put(data | {"runs": data["runs"][:6]}))
        return Elements((tmp_path / "page.html").read_text(encoding="utf-8"))

    shown = page_with(name)
    assert shown.found == page_with(harmless(name)).found
    (block,) = [json.loads(text) for kind, text in shown.scripts if kind == "application/json"]
    (group,) = block.values()  # of the only set of images
    assert group["baseline"] == name
    assert name in group["curves"]
    assert len(shown.scripts) == 3  # the data, Plotly, page.js

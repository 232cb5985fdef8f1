import errno
import math
import os
import pathlib
import re
import runpy
import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.report import curves, page
from inception_jax.report.page import Sample, confusion_section, drawing, put_section, samples_section, write_page

NASTY = "<b class='x'>R&D</b> \"5 > 4\" & it's &amp; {name} ümlaut " + "long " * 30
BLACK = np.zeros((8, 8, 3), np.uint8)
DIGITS = [str(digit) for digit in range(10)]


def text_of(element):
    return "".join(element.itertext())


def samples():
    """Of 24 images three are predicted wrong."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    return [
        Sample(image, i % 10, ((i + (i < 3)) % 10, (i + 2) % 10, i % 10), (0.625, 0.25, 0.125))
        for i, image in enumerate(pixels)
    ]


def many_classes():
    """A matrix of 1000 classes with 20 images each, 14 of them right; three confusions stand out."""
    confusion = 14 * np.eye(1000, dtype=np.int64) + 6 * np.roll(np.eye(1000, dtype=np.int64), 500, axis=1)
    confusion[7, 3] = 12
    confusion[41, 40], confusion[42, 40] = 9, 9
    confusion[41, 41] = 0  # fewer images of class 41: the same 9 are a larger fraction
    confusion[8] = 0
    return confusion_section(confusion, [f"{NASTY}{index}" for index in range(1000)])


def wave(name="wave", colour="train"):
    def draw(axes):
        axes.plot([0, 1, 2], [0, 1, 0], color=page.LIGHT[colour], label="one & two")
        axes.legend()

    return drawing(name, f"{name} & more", 100, draw)


def test_a_page_is_well_formed_and_loads_nothing(tmp_path, parse):
    path = tmp_path / "report.html"
    names = [NASTY] * 10
    pages = {
        "empty": [page.section("Nothing", "Left out")],
        "nasty": [confusion_section(np.eye(10, dtype=np.int64), names), samples_section(NASTY, samples(), names)],
        "large": [many_classes(), page.section("Waves", "", wave() + wave("other"))],
    }
    for title, sections in pages.items():
        write_page(path, title, {NASTY: NASTY}, sections)
        text = path.read_text(encoding="utf-8")
        tree = parse(text)
        elements = list(tree.iter())
        assert tree.get("lang") == "en"
        assert tree.find("head/title").text == title
        assert tree.find("head/meta[@name='viewport']").get("content").startswith("width=device-width")
        ids = [element.get("id") for element in elements if element.get("id")]
        assert len(ids) == len(set(ids)), title
        references = [element.get(name) for element in elements for name in ("src", "href", "xlink:href")]
        references += [url.strip("'\"") for url in re.findall(r"url\(([^)]*)\)", text)]
        for reference in filter(None, references):
            assert reference.startswith("data:") or reference.removeprefix("#") in ids, title
        assert not tree.findall(".//script")
        assert "@import" not in text
        assert all(image.get("alt") for image in tree.iter("img"))
        assert len(text.encode()) < 500_000


def test_facts_are_in_order_and_the_first_three_are_large(tmp_path, parse):
    facts = {"Top-1": "98.3 %", "Top-5": "99.9 %", "Images counted": "360", "Loss": "0.061", "Command": "main.py"}
    write_page(tmp_path / "report.html", "Run", facts, [])
    big, rest = parse((tmp_path / "report.html").read_text(encoding="utf-8")).findall("body/header/dl")
    assert (big.get("class"), len(big), len(rest)) == ("big", 3, 2)
    assert [[text_of(part) for part in item] for item in [*big, *rest]] == [list(pair) for pair in facts.items()]


def test_every_text_is_escaped(tmp_path, parse):
    names = [f"{NASTY}{index}" for index in range(10)]
    sections = [confusion_section(np.eye(10, dtype=np.int64), names, NASTY), samples_section(NASTY, samples(), names)]
    write_page(tmp_path / "report.html", NASTY, {NASTY: NASTY, "Command": NASTY}, sections)
    tree = parse((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert tree.find("head/title").text == tree.find("body/header/h1").text == NASTY
    assert [text_of(part) for item in tree.findall(".//dl/div") for part in item] == [NASTY, NASTY, "Command", NASTY]
    assert [heading.text for heading in tree.iter("h2")] == [NASTY, NASTY]
    rows = tree.findall(".//table[@class='matrix']/tbody/tr/th")
    assert [row.text for row in rows] == [row.get("title") for row in rows] == names
    assert [head.find("span").text for head in tree.findall(".//th[@class='upright']")] == names
    wrong = tree.find(".//figure[@class='sample wrong']")
    assert wrong.find("img").get("alt") == f"Image of class {names[0]}, predicted {names[1]}"
    assert wrong.find("figcaption/b").text == f"✗ {names[1]}"
    assert f"true: {names[0]}" in text_of(wrong)


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the old one")

    def fail(source, target):
        assert source.parent == tmp_path
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "replace", fail)
        with pytest.raises(UserError, match="report.html cannot be written: no space left"):
            write_page(path, "Run", {}, [])
    assert path.read_text() == "the old one"
    assert os.listdir(tmp_path) == ["report.html"]

    previous = os.umask(0o022)
    try:
        write_page(path, "\udcff", {}, [])  # a byte of a file name that is not UTF-8
    finally:
        os.umask(previous)
    assert os.listdir(tmp_path) == ["report.html"]
    assert path.stat().st_mode & 0o777 == 0o644
    assert r"<h1>\udcff</h1>" in path.read_text()


def test_a_section_is_added_once_and_kept_by_a_new_page(tmp_path):
    path = tmp_path / "report.html"
    put_section(path, "<p>alone</p>", "Title & more")
    assert "<h1>Title &amp; more</h1>" in path.read_text()
    write_page(path, "Run", {}, ["<p>training</p>"])
    put_section(path, "<p>first</p>", "")
    put_section(path, "<p>second</p>", "")
    for title in ("Run", "Again"):
        text = path.read_text()
        assert f"<h1>{title}</h1>" in text
        assert text.count("<p>training</p>") == text.count("<p>second</p>") == text.count("</main>") == 1
        assert text.index("<p>training</p>") < text.index("<p>second</p>") < text.index("</main>")
        assert "<p>alone" not in text
        assert "<p>first" not in text
        write_page(path, "Again", {}, ["<p>training</p>"])


def test_drawings_take_colours_and_font_from_the_page_whatever_the_matplotlibrc(tmp_path, parse):
    write_page(tmp_path / "report.html", "Run", {}, [wave()])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    drawn = "".join(ElementTree.tostring(svg, encoding="unicode") for svg in parse(text).iter("svg"))
    assert "stroke: var(--train)" in drawn
    assert not re.search("#[0-9a-f]{6}", drawn)
    assert "font-family" not in drawn
    assert "<style" not in drawn  # it would apply to the whole page
    light, dark = (set(re.findall(r"(--\w+):", block)) for block in re.findall(r":root \{(.*?)\}", text))
    assert set(re.findall(r"var\((--\w+)\)", text)) - {"--fraction"} <= light == dark

    plain = wave()
    ours = {"axes.facecolor": "red", "lines.linewidth": 9, "svg.fonttype": "path", "xtick.labelsize": 30}
    with matplotlib.rc_context(ours):
        before = dict(matplotlib.rcParams)
        assert wave() == plain
        assert dict(matplotlib.rcParams) == before


def test_import_is_light_and_pyplot_stays_out(monkeypatch):
    with monkeypatch.context() as patch:
        for missing in ("matplotlib", "PIL"):
            patch.setitem(sys.modules, missing, None)
        for module in (page, curves):
            runpy.run_path(module.__file__)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert "<svg" in wave()


def test_a_confusion_table_has_the_counts_and_the_recall(parse):
    confusion = np.array([[6, 2, 0], [1, 11, 3], [0, 0, 0]])
    tree = parse(confusion_section(confusion, ["cat", "dog", "emu"]))
    table = tree.find("div[@class='scroll']/table[@class='matrix']")
    assert [text_of(cell) for cell in table.find("thead/tr")] == ["", "cat", "dog", "emu", "recall"]
    rows = [[text_of(cell) for cell in row] for row in table.find("tbody")]
    assert rows == [
        ["cat", "6", "2", "0", "75.0\xa0%"],
        ["dog", "1", "11", "3", "73.3\xa0%"],
        ["emu", "0", "0", "0", "–"],
    ]
    cells = [[(cell.get("class"), cell.get("style")) for cell in row.findall("td")[:3]] for row in table.find("tbody")]
    assert cells[0] == [("right", "--fraction:0.750"), ("error", "--fraction:0.250"), ("zero", "--fraction:0.000")]
    assert [kind for kind, _ in cells[2]] == ["zero"] * 3
    assert tree.find("h2").text == "Confusion"
    assert "23 images" in tree.find("p").text
    with pytest.raises(ValueError, match=r"\(3, 3\) for 2 class names"):
        confusion_section(confusion, ["cat", "dog"])


def test_a_confusion_table_has_at_most_twenty_classes(parse):
    for count, tables in ((20, 1), (21, 0)):
        tree = parse(confusion_section(np.eye(count, dtype=np.int64), [str(i) for i in range(count)]))
        assert len(tree.findall(".//table[@class='matrix']")) == tables
        assert len(tree.findall(".//img[@class='heat crisp']")) == 1 - tables
    assert tree.findall(".//table[@class='pairs']/tbody/tr") == []  # without an error
    assert "0 pairs" in tree.find("p").text


def test_many_classes_show_a_heat_map_and_the_most_confused_pairs(parse, decode):
    tree = parse(many_classes())
    rows = [[text_of(cell) for cell in row] for row in tree.findall(".//table[@class='pairs']/tbody/tr")]
    assert len(rows) == 20
    assert rows[:5] == [
        [f"{NASTY}7", f"{NASTY}3", "12", "37.5\xa0%"],
        [f"{NASTY}41", f"{NASTY}40", "9", "60.0\xa0%"],
        [f"{NASTY}42", f"{NASTY}40", "9", "31.0\xa0%"],
        [f"{NASTY}41", f"{NASTY}541", "6", "40.0\xa0%"],
        [f"{NASTY}0", f"{NASTY}500", "6", "30.0\xa0%"],
    ]
    heat = decode(tree.find(".//img[@class='heat crisp']"))
    assert heat.shape == (250, 250, 4)  # four classes to a pixel
    np.testing.assert_array_equal(heat[5, 5], [*page._RIGHT_RGB, round(255 * math.sqrt(0.7))])
    np.testing.assert_array_equal(heat[5, 130], [*page._WRONG_RGB, round(255 * math.sqrt(0.3))])
    # Classes 4 to 7 have 3 * 20 + 32 images; the 12 of class 7 taken for class 3 are all that this pixel stands for.
    assert heat[1, 0, 3] == round(255 * math.sqrt(12 / 92))
    assert heat[5, 6, 3] == 0


def test_wrong_predictions_are_marked_and_counted(parse):
    tree = parse(samples_section("Test images", samples(), DIGITS))
    shown = tree.findall("div[@class='samples']/figure")
    assert [figure.get("class") for figure in shown] == ["sample wrong"] * 3 + ["sample"] * 21
    assert [text_of(figure) for figure in shown[:4]] == [
        "✗ 1 62.5\xa0%true: 0 12.5\xa0%",
        "✗ 2 62.5\xa0%true: 1 12.5\xa0%",
        "✗ 3 62.5\xa0%true: 2 12.5\xa0%",
        "3 62.5\xa0%",
    ]
    assert tree.find("p").text == "24 images, 3 of them misclassified (✗)."
    assert parse(samples_section("Test images", [], DIGITS)).find("p").text == "No images."


def test_a_sample_may_lack_its_image_its_label_and_its_probability(parse, decode):
    sample = Sample(None, label=4, predicted=(5, 6), probabilities=(math.nan, math.nan), name="val/<p>.png")
    tree = parse(samples_section("Test images", [sample], DIGITS))
    figure = tree.find(".//figure[@class='sample wrong']")
    assert text_of(figure) == "✗ 5 –true: 4val/<p>.png cannot be shown"
    assert (decode(figure.find("img")) == 128).all()


def test_small_images_are_exact_and_large_ones_are_thumbnails(parse, decode):
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((8, 8), (64, 48), (65, 60))]
    images.append(np.full((300, 400, 3), (200, 30, 90), np.uint8))
    tree = parse(samples_section("", [Sample(image, 0, (0,), (1.0,)) for image in images], DIGITS))
    shown = tree.findall(".//img")
    assert [image.get("class") for image in shown] == ["crisp", "crisp", "smooth", "smooth"]
    for image, element in zip(images[:2], shown, strict=False):
        np.testing.assert_array_equal(decode(element), image)
    assert decode(shown[2]).shape == (65, 60, 3)
    thumbnail = decode(shown[3])
    assert thumbnail.shape == (120, 160, 3)
    assert np.abs(thumbnail.astype(int) - images[3][0, 0]).max() <= 3

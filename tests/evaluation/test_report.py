import base64
import io
import itertools
import math
import os
import re
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from inception_jax.evaluation import page
from inception_jax.evaluation.page import Sample
from inception_jax.evaluation.report import write_report

VOID = {"meta", "link", "img", "br"}
NASTY = "<b class='x'>R&D</b> \"5 > 4\" & it's &amp; {name} ümlaut " + "long " * 30


class Page(HTMLParser):
    """Reads a page into an ElementTree and refuses one whose tags are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self._builder, self._open = ElementTree.TreeBuilder(), []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"
        self.tree = self._builder.close()

    def handle_starttag(self, tag, attributes):
        self._builder.start(tag, dict(attributes))
        if tag in VOID:
            self._builder.end(tag)
        else:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self._builder.start(tag, dict(attributes))
        self._builder.end(tag)

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        assert tag == self._open.pop()
        self._builder.end(tag)

    def handle_data(self, data):
        if self._open:
            self._builder.data(data)


def train_row(step, **values):
    return {"step": step, "split": "train", **values}


def inputs(**changes):
    """A run on ten digits with noisy curves and three images predicted wrong out of 24."""
    rng = np.random.default_rng(0)
    history = []
    for step in range(10, 3010, 10):
        noise = rng.uniform(0.8, 1.2)
        loss = noise * 2.3 * math.exp(-step / 500)
        history.append(
            train_row(step, loss=loss, top1=1 - loss / 3, learning_rate=0.1, aux1_loss=1.5 * loss, aux2_loss=1.2 * loss)
        )
        if step % 300 == 0:
            history.append({"step": step, "split": "test", "loss": loss + 0.02, "top1": 0.97 - loss / 3, "top5": 0.99})
    samples = [
        Sample(
            image=rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
            label=index % 10,
            predicted=((index + (index < 3)) % 10, (index + 2) % 10, index % 10),
            probabilities=(0.625, 0.25, 0.125),
        )
        for index in range(24)
    ]
    confusion = rng.integers(0, 3, (10, 10)) + 30 * np.eye(10, dtype=np.int64)
    return {
        "title": "googlenet on digits",
        "facts": {"Top-1": "98.3 %", "Top-5": "99.9 %", "Images counted": "360", "Loss": "0.061", "Command": "main.py"},
        "history": history,
        "confusion": confusion,
        "class_names": [str(digit) for digit in range(10)],
        "samples": samples,
        "filters": rng.normal(size=(7, 7, 3, 16)).astype(np.float32),
    } | changes


def many_classes():
    """1000 classes of 20 images, 14 of them right; three confusions stand out."""
    confusion = 14 * np.eye(1000, dtype=np.int64) + 6 * np.roll(np.eye(1000, dtype=np.int64), 500, axis=1)
    confusion[7, 3] = 12
    confusion[41, 40], confusion[42, 40] = 9, 9
    confusion[41, 41] = 0  # fewer images of class 41: the same 9 are a larger share
    confusion[8] = 0
    return inputs(confusion=confusion, class_names=[f"{NASTY}{index}" for index in range(1000)])


@pytest.fixture
def render(tmp_path):
    """Writes a report with some inputs changed; returns its text and its tree."""

    def render(**changes):
        path = tmp_path / "report.html"
        write_report(path, **inputs(**changes))
        text = path.read_text(encoding="utf-8")
        return text, Page(text).tree

    return render


def text_of(element):
    return "".join(element.itertext())


def decode(image) -> np.ndarray:
    kind, data = re.fullmatch("data:image/(png|jpeg);base64,(.*)", image.get("src")).groups()
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.format.lower() == kind
    return np.asarray(picture)


def vertices(figure, colour):
    """The vertices [n, 2] of the curves drawn in a colour, without the samples in the legend."""
    legend = figure.find(".//g[@id='" + figure.find("figcaption").text.lower().replace(" ", "-") + "-legend_1']")
    inside = set(legend.iter("path")) if legend is not None else set()
    paths = [
        path
        for path in figure.iter("path")
        if path not in inside and re.match(f"fill: none;.* stroke: var\\(--{colour}\\)", path.get("style", ""))
    ]
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", path.get("d")), float) for path in paths]


def figures(tree):
    return {figure.find("figcaption").text: figure for figure in tree.findall(".//div[@class='curves']/figure")}


def note(tree, heading):
    return next(section.find("p").text for section in tree.iter("section") if section.find("h2").text == heading)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        many_classes(),
        {"history": [], "samples": [], "facts": {}},
        {"title": NASTY, "facts": {NASTY: NASTY}, "class_names": [NASTY] * 10},
    ],
    ids=["digits", "thousand", "empty", "nasty"],
)
def test_page_is_well_formed_and_loads_nothing(render, changes):
    text, tree = render(**changes)
    elements = list(tree.iter())
    assert tree.get("lang") == "en"
    assert tree.find("head/title").text
    assert tree.find("head/meta[@name='viewport']").get("content").startswith("width=device-width")
    ids = [element.get("id") for element in elements if element.get("id")]
    assert len(ids) == len(set(ids))
    references = [element.get(name) for element in elements for name in ("src", "href", "xlink:href")]
    references += [url.strip("'\"") for url in re.findall(r"url\(([^)]*)\)", text)]
    for reference in filter(None, references):
        assert reference.startswith("data:") or reference.removeprefix("#") in ids
    assert not tree.findall(".//script")
    assert "@import" not in text
    assert all(image.get("alt") for image in tree.iter("img"))
    assert len(text.encode()) < 500_000


def test_digits_page_is_small(render):
    text, tree = render()
    assert len(text.encode()) < 150_000
    assert len(figures(tree)) == 3


def test_facts_are_in_order_and_the_first_three_are_big(render):
    _, tree = render()
    big, rest = tree.findall("body/header/dl")
    assert big.get("class") == "big"
    pairs = [[text_of(part) for part in item] for item in [*big, *rest]]
    assert pairs == [list(pair) for pair in inputs()["facts"].items()]
    assert (len(big), len(rest)) == (3, 2)


def test_every_text_is_escaped(render):
    names = [f"{NASTY}{index}" for index in range(10)]
    _, tree = render(title=NASTY, facts={NASTY: NASTY, "Command": NASTY}, class_names=names)
    assert tree.find("head/title").text == tree.find("body/header/h1").text == NASTY
    assert [text_of(part) for part in tree.find(".//dl/div")] == [NASTY, NASTY]
    rows = tree.findall(".//table[@class='matrix']/tbody/tr/th")
    assert [row.text for row in rows] == [row.get("title") for row in rows] == names
    assert [head.find("span").text for head in tree.findall(".//th[@class='upright']")] == names
    wrong = tree.find(".//figure[@class='sample wrong']")
    assert wrong.find("img").get("alt") == f"Image of class {names[0]}, predicted {names[1]}"
    assert wrong.find("figcaption/b").text == f"✗ {names[1]}"
    assert f"true: {names[0]}" in text_of(wrong)


def test_confusion_table_has_the_counts_and_the_recall(render):
    confusion = np.array([[6, 2, 0], [1, 11, 3], [0, 0, 0]])
    samples = [Sample(np.zeros((8, 8, 3), np.uint8), 0, (0,), (1.0,))]
    _, tree = render(confusion=confusion, class_names=["cat", "dog", "emu"], samples=samples)
    table = tree.find(".//div[@class='scroll']/table[@class='matrix']")
    assert [text_of(cell) for cell in table.find("thead/tr")] == ["", "cat", "dog", "emu", "recall"]
    rows = [[text_of(cell) for cell in row] for row in table.find("tbody")]
    assert rows == [
        ["cat", "6", "2", "0", "75.0\xa0%"],
        ["dog", "1", "11", "3", "73.3\xa0%"],
        ["emu", "0", "0", "0", "–"],
    ]
    cells = [[(cell.get("class"), cell.get("style")) for cell in row.findall("td")[:3]] for row in table.find("tbody")]
    assert cells[0] == [("right", "--share:0.750"), ("error", "--share:0.250"), ("zero", "--share:0.000")]
    assert [kind for kind, _ in cells[2]] == ["zero"] * 3
    assert "23 images" in note(tree, "Confusion")


def test_table_up_to_twenty_classes(render):
    for count, matrices in ((20, 1), (21, 0)):
        _, tree = render(confusion=np.eye(count, dtype=np.int64), class_names=[str(i) for i in range(count)])
        assert len(tree.findall(".//table[@class='matrix']")) == matrices
        assert len(tree.findall(".//img[@class='heat crisp']")) == 1 - matrices


def test_many_classes_show_the_most_confused_pairs(render):
    _, tree = render(**many_classes())
    rows = [[text_of(cell) for cell in row] for row in tree.findall(".//table[@class='pairs']/tbody/tr")]
    assert len(rows) == 20
    assert rows[:4] == [
        [f"{NASTY}7", f"{NASTY}3", "12", "37.5\xa0%"],
        [f"{NASTY}41", f"{NASTY}40", "9", "60.0\xa0%"],
        [f"{NASTY}42", f"{NASTY}40", "9", "31.0\xa0%"],
        [f"{NASTY}41", f"{NASTY}541", "6", "40.0\xa0%"],
    ]
    assert rows[4] == [f"{NASTY}0", f"{NASTY}500", "6", "30.0\xa0%"]


def test_many_classes_without_an_error(render):
    _, tree = render(confusion=np.eye(30, dtype=np.int64), class_names=[str(i) for i in range(30)])
    assert tree.findall(".//table[@class='pairs']/tbody/tr") == []
    assert "0 pairs" in note(tree, "Confusion")


def test_heat_map_shades_by_the_root_of_the_share(render):
    _, tree = render(**many_classes())
    picture = decode(tree.find(".//img[@class='heat crisp']"))
    assert picture.shape == (250, 250, 4)  # four classes to a pixel
    np.testing.assert_array_equal(picture[5, 5], [*page._RIGHT_RGB, round(255 * math.sqrt(0.7))])
    np.testing.assert_array_equal(picture[5, 130], [*page._WRONG_RGB, round(255 * math.sqrt(0.3))])
    # Classes 4 to 7 have 3 * 20 + 32 images; the 12 of class 7 taken for 3 are all that falls on this pixel.
    assert picture[1, 0, 3] == round(255 * math.sqrt(12 / 92))
    assert picture[5, 6, 3] == 0


def test_wrong_predictions_are_marked_and_counted(render):
    _, tree = render()
    shown = tree.findall(".//div[@class='samples']/figure")
    assert len(shown) == 24
    marked = [figure.get("class") == "sample wrong" for figure in shown]
    assert marked == [True] * 3 + [False] * 21
    assert [text_of(figure) for figure in shown[:4]] == [
        "✗ 1 62.5\xa0%true: 0 12.5\xa0%",
        "✗ 2 62.5\xa0%true: 1 12.5\xa0%",
        "✗ 3 62.5\xa0%true: 2 12.5\xa0%",
        "3 62.5\xa0%",
    ]
    assert note(tree, "Test images") == "24 images, 3 of them predicted wrong (✗)."


def test_true_label_beyond_the_predictions_and_a_probability_that_is_not_finite(render):
    _, tree = render(samples=[Sample(np.zeros((8, 8, 3), np.uint8), 4, (5, 6), (math.nan, math.nan))])
    assert text_of(tree.find(".//figure[@class='sample wrong']")) == "✗ 5 –true: 4"


def test_small_images_are_exact_and_big_ones_are_thumbnails(render):
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((8, 8), (64, 48), (65, 60))]
    images.append(np.full((300, 400, 3), (200, 30, 90), np.uint8))
    _, tree = render(samples=[Sample(image, 0, (0,), (1.0,)) for image in images])
    shown = tree.findall(".//div[@class='samples']//img")
    assert [image.get("class") for image in shown] == ["crisp", "crisp", "smooth", "smooth"]
    for image, element in zip(images[:2], shown, strict=False):
        np.testing.assert_array_equal(decode(element), image)
    assert decode(shown[2]).shape == (65, 60, 3)
    thumbnail = decode(shown[3])
    assert thumbnail.shape == (120, 160, 3)
    assert np.abs(thumbnail.astype(int) - images[3][0, 0]).max() <= 3


def test_curves_draw_every_finite_value_to_scale(render):
    losses = [5.0, 4.0, math.nan, 2.0, math.inf, None, 1.0]
    history = [train_row(step, loss=loss) for step, loss in enumerate(losses, start=1)]
    history += [{"step": step, "split": "val", "loss": 3.0, "top1": step / 10} for step in (2, 5, 7)]
    _, tree = render(history=history)
    assert list(figures(tree)) == ["Loss", "Top-1 accuracy"]
    loss = figures(tree)["Loss"]
    (line,) = vertices(loss, "train")
    x, y = line.T
    np.testing.assert_allclose((x - x[0]) / (x[-1] - x[0]), [0, 1 / 6, 3 / 6, 1], atol=1e-4)
    np.testing.assert_allclose((y - y[-1]) / (y[0] - y[-1]), [1, 0.75, 0.25, 0], atol=1e-4)
    assert y[0] < y[-1]  # SVG counts downwards
    legend = [text.text for text in loss.iter("text")][-2:]
    assert legend == ["train 1", "val 3"]
    assert loss.find("svg").get("aria-label") == "Loss over steps. train 1, val 3"
    (top1,) = vertices(figures(tree)["Top-1 accuracy"], "eval")
    assert len(top1) == 3
    assert "val 70\xa0%" in text_of(figures(tree)["Top-1 accuracy"])
    assert "3 values not finite, the first at step 3." in note(tree, "Training")


def test_auxiliary_losses_and_the_learning_rate_are_drawn(render):
    history = [train_row(s, loss=2.0, aux1_loss=3.0, aux2_loss=4.0, learning_rate=0.1 / s) for s in (1, 2, 3)]
    _, tree = render(history=history)
    assert list(figures(tree)) == ["Loss", "Learning rate"]
    assert figures(tree)["Loss"].find("svg").get("aria-label").endswith("train 2, aux1 3, aux2 4")
    aux1, aux2 = vertices(figures(tree)["Loss"], "aux")
    assert len(aux1) == len(aux2) == 3
    assert aux2[0, 1] < aux1[0, 1]
    (rate,) = (line for line in vertices(figures(tree)["Learning rate"], "quiet") if len(line) == 3)
    np.testing.assert_allclose((rate[:, 1] - rate[-1, 1]) / (rate[0, 1] - rate[-1, 1]), [1, 0.25, 0], atol=1e-4)


def test_single_point_is_visible_and_without_evaluation_there_is_no_line_for_it(render):
    _, tree = render(history=[train_row(10, loss=2.0, top1=0.1)])
    loss = figures(tree)["Loss"]
    assert vertices(loss, "eval") == []
    markers = [use for use in loss.iter("use") if "var(--train)" in use.get("style", "")]
    assert len(markers) == 2  # the point and its sample in the legend
    ticks = [text.text for text in loss.iter("text")]
    assert ticks.count("10") == 1


def test_without_any_finite_value_there_is_no_curve(render):
    for history, said in (([], "Nothing was measured."), ([train_row(1, loss=math.nan)], "1 value not finite")):
        _, tree = render(history=history)
        assert figures(tree) == {}
        assert said in note(tree, "Training")


def test_resumed_run_repeats_steps_and_the_later_value_counts(render):
    losses = {1: 5.0, 2: 4.0, 3: 9.0}
    resumed = {2: 3.0, 3: 1.0}
    history = [train_row(step, loss=loss) for step, loss in itertools.chain(losses.items(), resumed.items())]
    _, tree = render(history=history)
    ((_, y),) = (line.T for line in vertices(figures(tree)["Loss"], "train"))
    np.testing.assert_allclose((y - y[-1]) / (y[0] - y[-1]), [1, 0.5, 0], atol=1e-4)


def test_long_history_keeps_the_page_small(render):
    rng = np.random.default_rng(2)
    history = [
        train_row(s, loss=rng.uniform(1, 2), top1=rng.uniform(), learning_rate=1.0, aux1_loss=rng.uniform())
        for s in range(20_000)
    ]
    text, tree = render(history=history)
    (line,) = vertices(figures(tree)["Loss"], "train")
    assert 250 < len(line) <= 300  # matplotlib drops points on a straight line
    assert len(text.encode()) < 150_000
    # Means of 66 or 67 neighbours: around the middle, where every 66th value alone would fill the range.
    (aux,) = vertices(figures(tree)["Loss"], "aux")
    assert abs(aux[:, 1].mean() - line[:, 1].mean()) > 4 * (line[:, 1].std() + aux[:, 1].std())


def test_curves_take_all_colours_from_the_page(render):
    text, tree = render()
    drawn = "".join(ElementTree.tostring(svg, encoding="unicode") for svg in tree.iter("svg"))
    assert not re.search("#[0-9a-f]{6}", drawn)
    assert "font-family" not in drawn
    assert tree.findall("body//style") == []  # it would reach the whole page
    light, dark = (set(re.findall(r"(--\w+):", block)) for block in re.findall(r":root \{(.*?)\}", text))
    assert set(re.findall(r"var\((--\w+)\)", text)) - {"--share"} <= light == dark


def test_filters_are_rgb_tiles_of_their_own_range(render):
    filters = np.zeros((2, 1, 3, 20), np.float32)
    filters[..., 0] = [[[-1.0, 0.0, 1.0]], [[3.0, 1.0, -0.2]]]
    filters[..., 9] = 0.3
    filters[0, 0, 0, 9] = np.nan
    filters[..., 19] = -5.0
    _, tree = render(filters=filters)
    image = tree.find(".//img[@class='filters crisp']")
    picture = decode(image)
    assert picture.shape == (3 * 3 - 1, 8 * 2 - 1, 4)  # 20 tiles, 8 to a row
    np.testing.assert_array_equal(picture[:2, 0, :3], [[0, 64, 128], [255, 128, 51]])
    np.testing.assert_array_equal(picture[3:5, 2], [[0, 255, 255, 255], [255, 255, 255, 255]])  # not finite: zero
    np.testing.assert_array_equal(picture[6:, 6], [[128, 128, 128, 255]] * 2)  # constant: mid-grey
    assert not picture[2].any()  # gaps are transparent
    assert not picture[:, 1].any()
    assert not picture[6:, 8:].any()
    assert note(tree, "First convolution").startswith("20 filters of 2 × 1, each shown")


@pytest.mark.parametrize("channels", [1, 2])
def test_filters_of_other_inputs_are_grey(render, channels):
    mean, around = np.array([0.0, 1.0, 4.0, 2.0]), np.array([3.0, -1.0, 0.0, 5.0])
    filters = {1: mean, 2: np.stack([mean + around, mean - around], axis=-1)}[channels].reshape(2, 2, channels, 1)
    _, tree = render(filters=filters)
    picture = decode(tree.find(".//img[@class='filters crisp']"))
    np.testing.assert_array_equal(picture[..., :3], np.repeat([[[0], [64]], [[255], [128]]], 3, axis=-1))
    assert ("averaged over its 2 input channels" in note(tree, "First convolution")) == (channels == 2)


def test_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the old one")

    def fail(source, target):
        assert os.path.dirname(source) == str(tmp_path)
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            write_report(path, **inputs())
    assert path.read_text() == "the old one"
    assert os.listdir(tmp_path) == ["report.html"]

    previous = os.umask(0o022)
    try:
        write_report(path, **inputs())
    finally:
        os.umask(previous)
    assert os.listdir(tmp_path) == ["report.html"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_same_run_gives_the_same_bytes_whatever_the_matplotlibrc(render):
    plain, _ = render()
    ours = {"axes.facecolor": "red", "lines.linewidth": 9, "svg.fonttype": "path", "xtick.labelsize": 30}
    with matplotlib.rc_context(ours):
        before = dict(matplotlib.rcParams)
        styled, _ = render()
        assert dict(matplotlib.rcParams) == before
    assert styled == plain


def test_import_is_light_and_pyplot_stays_out(tmp_path):
    script = f"""
        import sys
        from inception_jax.evaluation import report
        heavy = {{"matplotlib", "PIL"}} & sys.modules.keys()
        assert not heavy, heavy
        import numpy as np
        report.write_report(
            {str(tmp_path / "report.html")!r}, title="", facts={{}}, history=[dict(step=1, split="train", loss=1.0)],
            confusion=np.ones((1, 1), int), class_names=["a"], samples=[], filters=np.ones((1, 1, 1, 1)),
        )
        assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_class_names_must_fit_the_confusion_matrix(tmp_path):
    with pytest.raises(ValueError, match=r"\(10, 10\) for 9 class names"):
        write_report(tmp_path / "report.html", **inputs(class_names=list("123456789")))
    assert os.listdir(tmp_path) == []

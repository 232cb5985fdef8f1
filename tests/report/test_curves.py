import itertools
import math
import re

import numpy as np
import pytest

from inception_jax.report.curves import curves_section


def train_row(step, **values):
    return {"step": step, "split": "train", **values}


@pytest.fixture
def draw(parse):
    """Draws the curves of rows of metrics; returns the section's note, and the figures by their caption."""

    def draw(metrics):
        tree = parse(curves_section(metrics))
        figures = tree.findall("div[@class='curves']/figure")
        return tree.find("p").text, {figure.find("figcaption").text: figure for figure in figures}

    return draw


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


def test_every_finite_value_is_drawn_to_scale(draw):
    losses = [5.0, 4.0, math.nan, 2.0, math.inf, None, 1.0]
    metrics = [train_row(step, loss=loss) for step, loss in enumerate(losses, start=1)]
    metrics += [{"step": step, "split": "val", "loss": 3.0, "top1": step / 10} for step in (2, 5, 7)]
    note, figures = draw(metrics)
    assert list(figures) == ["Loss", "Top-1 accuracy"]
    loss = figures["Loss"]
    (line,) = vertices(loss, "train")
    x, y = line.T
    np.testing.assert_allclose((x - x[0]) / (x[-1] - x[0]), [0, 1 / 6, 3 / 6, 1], atol=1e-4)
    np.testing.assert_allclose((y - y[-1]) / (y[0] - y[-1]), [1, 0.75, 0.25, 0], atol=1e-4)
    assert y[0] < y[-1]  # SVG counts downwards
    legend = [text.text for text in loss.iter("text")][-2:]
    assert legend == ["train 1", "val 3"]
    assert loss.find("svg").get("aria-label") == "Loss over steps. train 1, val 3"
    (top1,) = vertices(figures["Top-1 accuracy"], "eval")
    assert len(top1) == 3
    assert "val 70 %" in "".join(figures["Top-1 accuracy"].itertext())
    assert "3 values not finite, the first at step 3." in note


def test_auxiliary_losses_and_the_learning_rate_are_drawn(draw):
    metrics = [train_row(s, loss=2.0, aux1_loss=3.0, aux2_loss=4.0, learning_rate=0.1 / s) for s in (1, 2, 3)]
    _, figures = draw(metrics)
    assert list(figures) == ["Loss", "Learning rate"]
    assert figures["Loss"].find("svg").get("aria-label").endswith("train 2, aux1 3, aux2 4")
    aux1, aux2 = vertices(figures["Loss"], "aux")
    assert len(aux1) == len(aux2) == 3
    assert aux2[0, 1] < aux1[0, 1]
    (rate,) = (line for line in vertices(figures["Learning rate"], "quiet") if len(line) == 3)
    np.testing.assert_allclose((rate[:, 1] - rate[-1, 1]) / (rate[0, 1] - rate[-1, 1]), [1, 0.25, 0], atol=1e-4)


def test_a_single_point_is_visible_and_without_evaluation_there_is_no_line_for_it(draw):
    loss = draw([train_row(10, loss=2.0)])[1]["Loss"]
    assert vertices(loss, "eval") == []
    markers = [use for use in loss.iter("use") if "var(--train)" in use.get("style", "")]
    assert len(markers) == 2  # the point and its sample in the legend
    assert [text.text for text in loss.iter("text")].count("10") == 1


def test_without_any_finite_value_there_is_no_curve(draw):
    for metrics, said in (([], "Nothing was measured."), ([train_row(1, loss=math.nan)], "1 value not finite")):
        note, figures = draw(metrics)
        assert figures == {}
        assert said in note


def test_of_rows_of_the_same_step_the_last_one_counts(draw):
    losses, resumed = {1: 5.0, 2: 4.0, 4: 9.0}, {2: 4.0, 3: 3.0, 4: 1.0}
    metrics = [train_row(step, loss=loss) for step, loss in itertools.chain(losses.items(), resumed.items())]
    ((_, y),) = (line.T for line in vertices(draw(metrics)[1]["Loss"], "train"))
    np.testing.assert_allclose((y - y[-1]) / (y[0] - y[-1]), [1, 0.75, 0.5, 0], atol=1e-4)


def test_many_rows_make_a_small_section(parse):
    rng = np.random.default_rng(2)
    values = rng.uniform(size=(6000, 3)).tolist()
    metrics = [train_row(s, loss=1 + a, aux1_loss=b, top1=c, learning_rate=1.0) for s, (a, b, c) in enumerate(values)]
    section = curves_section(metrics)
    assert len(section.encode()) < 130_000
    loss = parse(section).find("div[@class='curves']/figure")
    (line,) = vertices(loss, "train")
    assert 250 < len(line) <= 300  # matplotlib drops points on a straight line
    # Means of 20 neighbours: around the middle, where every 20th value alone would fill the range.
    (aux,) = vertices(loss, "aux")
    assert abs(aux[:, 1].mean() - line[:, 1].mean()) > 4 * (line[:, 1].std() + aux[:, 1].std())

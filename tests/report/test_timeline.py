"""What a report shows of the evaluations of a run, while it goes on."""

import jax
import numpy as np
import pytest

from configs.common import validate
from inception_jax.report import timeline
from inception_jax.report.training import Report
from inception_jax.training import loop
from tests.training import test_recorder
from tests.values import snapshot

patient = test_recorder.patient  # a fixture
CLASSES = ("cat", "dog", "cow")


def test_a_page_at_each_evaluation_and_the_same_weights(tiny_config, tmp_path, uninterrupted, patient, parse):
    report, pages = Report(tmp_path), []

    def write():
        pages.append(report.write().read_text(encoding="utf-8"))

    tiny_config.eval.every = "4 steps"
    validate(tiny_config)
    state = jax.device_get(loop.train_and_evaluate(tiny_config, str(tmp_path), on_evaluation=write))
    jax.tree.map(np.testing.assert_array_equal, state, uninterrupted[0])  # which wrote no report
    assert len(pages) == 2  # after steps 4 and 8; who trains writes the last one
    pages.append(report.write().read_text(encoding="utf-8"))
    for step, page in zip((4, 8, 12), pages, strict=True):
        tree = parse(page)
        sections = {section.find("h2").text: section for section in tree.iter("section")}
        assert list(sections) == [
            "Training",
            f"Confusion after step {step}",
            "Test images",
            "Predictions that change",
            "Activations over time",
            "First filters over time",
            "A training batch",
            "First convolution",
        ]
        assert "Left out" not in page
        steps = [str(each) for each in range(4, step + 1, 4)]
        heads = [cell.text for cell in sections["Activations over time"].findall(".//thead//th")]
        assert heads == ["step", *steps]
        captions = [caption.text for caption in sections["First filters over time"].iter("figcaption")]
        assert captions == [f"step {each}" for each in steps]
        refresh = [meta.get("content") for meta in tree.iter("meta") if meta.get("http-equiv") == "refresh"]
        assert refresh == ([] if step == 12 else ["15"])


def table(tree):
    """The rows of a table: heading and cells."""
    return [["".join(cell.itertext()) for cell in row] for row in tree.findall(".//tbody/tr")]


def test_images_whose_predictions_change_most_come_first(parse, decode):
    labels = np.array([0, 1, 2, 2], np.int32)
    of = {
        10: ([0, 1, 2, 0], [0.5, 0.5, 0.5, 0.9]),
        20: ([0, 0, 1, 0], [0.5, 0.6, 0.4, 0.9]),
        30: ([0, 0, 2, 0], [0.5, 0.7, 0.25, 0.9]),
    }
    places = np.array([2, 4, 6, 8])
    recorded = [
        snapshot(
            step,
            places=places,
            labels=labels,
            classes=np.array(classes, np.int32),
            probabilities=np.array(probabilities, np.float32),
        )
        for step, (classes, probabilities) in of.items()
    ]
    # The last one lacks an image, as after a start with another number of processes.
    fewer = {"labels": labels[:3], "classes": recorded[-1].classes[:3], "probabilities": recorded[-1].probabilities[:3]}
    recorded[-1] = snapshot(30, places=places[:3], **fewer)
    seen = []

    def image(place):
        seen.append(place)
        return np.full((8, 8, 3), place, np.uint8) if place != 4 else None

    tree = parse(timeline.predictions_section(recorded, image, CLASSES))
    assert tree.find("p").text.startswith(
        "Of 3 test images, spread over the split, 2 changed their most probable class "
    )
    assert [cell.text for cell in tree.findall(".//thead//th")] == ["step", "10", "20", "30"]
    assert table(tree) == [["cow", "cow", "✗ dog", "cow"], ["dog", "dog", "✗ cat", "✗ cat"]]
    assert seen == [6, 4]
    assert [decode(each)[0, 0, 0] for each in tree.iter("img")] == [6, 128]
    cells = tree.findall(".//tbody/tr[1]/td")
    assert [cell.get("class") for cell in cells] == ["class right", "class error", "class right"]
    assert [cell.get("style") for cell in cells] == ["--fraction: 0.50", "--fraction: 0.40", "--fraction: 0.25"]
    assert cells[1].get("title") == "dog 40.0\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize("count", [1, 2])
def test_nothing_has_changed_yet(count, parse):
    tree = parse(timeline.predictions_section([snapshot(step) for step in range(count)], pytest.fail, CLASSES))
    assert "0 changed" in tree.find("p").text
    assert tree.find(".//table") is None


def test_activations_are_tiles_of_their_layer(parse, decode):
    grid = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)  # two channels of 2 x 2
    vector = np.arange(5, dtype=np.uint8).reshape(1, 1, 5)
    first = snapshot(5, activations={"grid": grid})
    tree = parse(timeline.activations_section([first, snapshot(9, activations={"grid": grid, "vector": vector})]))
    assert table(tree) == [["grid", "", ""], ["vector", "", ""]]
    pictures = tree.findall(".//td/img")
    assert [each.get("alt") for each in pictures] == ["grid at step 5", "grid at step 9", "vector at step 9"]
    tiles = decode(pictures[0])
    assert tiles.shape == (2 * 16 + 1, 16, 2)  # a channel above the other
    assert tiles[16].tolist() == [[0, 0]] * 16
    assert tiles[[0, 0, 15, 17, 32], [0, 8, 0, 0, 15]].tolist() == [[0, 255], [2, 255], [4, 255], [1, 255], [7, 255]]
    pixels = decode(pictures[2])
    assert pixels.tolist() == [[[0, 255], [1, 255], [2, 255]], [[3, 255], [4, 255], [0, 0]]]


def test_filters_at_each_evaluation(parse, decode):
    filters = np.zeros((1, 1, 1, 3), np.uint8)
    tree = parse(timeline.filters_section([snapshot(step, filters=filters) for step in (5, 9)]))
    assert [caption.text for caption in tree.iter("figcaption")] == ["step 5", "step 9"]
    assert decode(tree.find(".//img")).shape == (3, 3, 4)  # of 1 x 1, two in a row
    assert timeline.filters_section([snapshot(5, filters=filters[..., :0])]) == ""

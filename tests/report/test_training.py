"""Reports of trainings, from what they have written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from configs import googlenet
from inception_jax.errors import UserError
from inception_jax.report.page import put_section
from inception_jax.report.training import choose_places, facts, filters_section, write_report
from inception_jax.runs.checkpoints import read_weights
from inception_jax.training.loop import train_and_evaluate

RESULTS = {
    "last": {"step": 300, "top1": 0.98056, "top5": 1.0, "loss": 0.06123, "count": 1360},
    "best": {"step": 1200, "top1": 0.99, "top5": 1.0, "loss": 0.05, "count": 1360},
}
RECORD = {
    "config": {
        "model": {"name": "googlenet"},
        "data": {"name": "digits", "eval_split": "test"},
        "train": {"batch_size": 32},
    },
    "versions": {"python": "3.11.7", "jax": "0.10.2"},
    "commands": [["main.py"], ["main.py", "--workdir=a b"]],
}
NETWORK = {"parameters": 60000, "multiply_adds": 415680, "total_steps": 300, "device": "4 x cpu", "train_images": 1437}


@pytest.fixture(scope="module")
def _home(tmp_path_factory):
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def trained(tiny_config, image_folder, _home, tmp_path) -> Path:
    """A copy of the workdir of a finished training of 12 steps, and of its data beside it."""
    if not (_home / "run").exists():
        shutil.copytree(image_folder, _home / "data")
        tiny_config.data.dir = str(_home / "data")
        train_and_evaluate(tiny_config, str(_home / "run"))
    shutil.copytree(_home, tmp_path, dirs_exist_ok=True)
    workdir = tmp_path / "run"
    record = (workdir / "config.json").read_text()
    (workdir / "config.json").write_text(record.replace(str(_home), str(tmp_path)))
    return workdir


def text_of(element) -> str:
    return "".join(element.itertext())


def notes(tree) -> dict[str, str]:
    """The sections of a page: heading and note."""
    return {section.find("h2").text: section.find("p").text for section in tree.iter("section")}


@pytest.fixture
def report(parse):
    """Writes the report of a workdir; returns its tree."""
    return lambda workdir: parse(write_report(workdir).read_text(encoding="utf-8"))


def test_the_report_shows_what_the_training_left(trained, report, decode):
    tree = report(trained)
    assert not [note for note in notes(tree).values() if "Left out" in note]
    assert list(notes(tree)) == [
        "Training",
        "Confusion after step 12",
        "Test images",
        "A training batch",
        "First convolution",
    ]
    assert tree.find("head/title").text == "tiny on folder"
    names, values = ([text_of(part) for part in tree.iter(tag)] for tag in ("dt", "dd"))
    shown = dict(zip(names, values, strict=True))
    assert facts(trained).items() <= shown.items()
    assert list(shown)[-4:] == ["Parameters", "Multiply-adds", "Command", "Versions"]
    captions = [figure.find("figcaption").text for figure in tree.findall(".//div[@class='curves']/figure")]
    assert captions == ["Loss", "Top-1 accuracy", "Learning rate"]

    predictions = np.load(trained / "predictions.npz")
    rows = [[cell.text for cell in row] for row in tree.findall(".//table[@class='matrix']/tbody/tr")]
    assert [row[0] for row in rows] == ["blue", "green", "red"]
    np.testing.assert_array_equal(np.array([row[1:4] for row in rows], int), predictions["confusion"])
    images, batch = tree.findall(".//div[@class='samples']")
    wrong = int((predictions["classes"][:, 0] != predictions["labels"]).sum())
    assert notes(tree)["Test images"] == f"21 images, {wrong} of them misclassified (✗)."
    assert len(images) == 21
    assert len(batch) == 16
    assert {figure.find("figcaption/span").text for figure in batch} <= {"blue", "green", "red"}
    assert decode(batch.find(".//img")).shape == (16, 16, 3)
    variables, _ = read_weights(trained / "checkpoints" / "12")
    kernel = variables["params"]["stem"]["conv3x3"]["kernel"]
    np.testing.assert_array_equal(
        decode(tree.find(".//img[@class='filters crisp']"))[:3, :3, :3],
        np.round(255 * (kernel[..., 0] - kernel[..., 0].min()) / np.ptp(kernel[..., 0])),
    )


def test_what_is_missing_leaves_out_its_section_and_says_why(trained, report):
    def left_out(tree):
        return {heading: note for heading, note in notes(tree).items() if note.startswith("Left out: ")}

    def shrink():
        for image in (trained.parent / "data" / "val" / "red").glob("[1-9].png"):
            image.unlink()

    data, checkpoints = trained.parent / "data", trained / "checkpoints"
    (data / "val" / "red" / "3.png").write_bytes(b"torn")
    tree = report(trained)
    assert left_out(tree) == {}
    lost = [
        text_of(sample) for sample in tree.findall(".//div[@class='samples']/figure") if "cannot" in text_of(sample)
    ]
    assert len(lost) == 1
    assert lost[0].endswith("val/red/3.png cannot be shown")

    older = "the run's config is of an older version: it lacks 'boxes'"
    content = (trained / "config.json").read_text(encoding="utf-8")
    record = json.loads(content)
    del record["config"]["data"]["boxes"]
    (trained / "config.json").write_text(json.dumps(record), encoding="utf-8")
    assert left_out(report(trained)) == dict.fromkeys(("Test images", "A training batch"), f"Left out: {older}")
    (trained / "config.json").write_text(content, encoding="utf-8")
    steps = [
        (shrink, {"Test images": "the data set has changed: 21 images were evaluated, now it has 15"}),
        (
            lambda: shutil.rmtree(data),
            {"Test images": f"there is no directory {data}", "A training batch": f"there is no directory {data}"},
        ),
        (
            lambda: (trained / "predictions.npz").write_bytes((trained / "predictions.npz").read_bytes()[:100]),
            {"Confusion": "predictions.npz is damaged", "Test images": "predictions.npz is damaged"},
        ),
        (
            lambda: (trained / "predictions.npz").unlink(),
            {"Confusion": "predictions.npz is missing", "Test images": "predictions.npz is missing"},
        ),
        (
            lambda: shutil.rmtree(checkpoints),
            {"First convolution": "with checkpoints"},
        ),
    ]
    expected = {}
    for remove, reasons in steps:
        remove()
        expected |= reasons
        found = left_out(report(trained))
        assert found.keys() == expected.keys()
        for heading, reason in expected.items():
            assert reason in found[heading]


def test_a_training_that_has_just_begun_has_a_report(tmp_path, report):
    config = googlenet.get_config()
    config.data.update(name="folder", dir=str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text(json.dumps(RECORD | {"config": config.to_dict()}))
    tree = report(tmp_path)
    assert tree.find("body/header/h1").text == "googlenet on folder"
    assert notes(tree).pop("Training") == "Nothing was measured."
    assert [note.partition(":")[0] for note in notes(tree).values()].count("Left out") == 4
    assert tree.find(".//code").text == "python main.py '--workdir=a b'"
    assert facts(tmp_path) == {"Trained": "0 steps"}
    put_section(tmp_path / "report.html", "<section><h2>Evaluation</h2><p></p></section>", "")
    assert list(notes(report(tmp_path)))[-1] == "Evaluation"  # an added section is kept


def test_other_directories_are_refused(tmp_path):
    for command in (write_report, facts):
        with pytest.raises(UserError, match=f"{tmp_path} holds no training"):
            command(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_facts(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(RECORD | {"network": NETWORK}))
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    # The first step is not timed. Then 99 steps at 1000 images a second and 200 at 500.
    rows = [(1, "train", None), (100, "train", 1000.0), (200, "test", None), (300, "train", 500.0)]
    lines = [json.dumps({"step": step, "split": split, "images_per_second": speed}) for step, split, speed in rows]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    expected = {
        "Top-1": "98.06 %",
        "Top-5": "100.00 %",
        "Images counted": "1,360",
        "Split": "test",
        "Loss": "0.0612",
        "Best top-1": "99.00 % at step 1,200",
        "Trained": "300 steps, 6.7 epochs",
        "Devices": "4 x cpu",
        "Training speed": f"{299 / (99 / 1000 + 200 / 500):.0f} img/s",
    }
    assert facts(tmp_path) == expected
    assert list(facts(tmp_path)) == list(expected)
    (tmp_path / "results.json").unlink()  # still running
    (tmp_path / "metrics.jsonl").write_text(lines[0] + "\n" + lines[1] + "\n" + '{"step": 2')
    running = {"Trained": "100 of 300 steps, 2.2 epochs", "Devices": "4 x cpu", "Training speed": "1000 img/s"}
    assert facts(tmp_path) == running


def test_samples_are_the_most_confident_mistakes_and_then_right_images_of_the_whole_split():
    labels = np.arange(100, dtype=np.int32) % 2
    classes = np.stack([labels, 1 - labels], axis=1)
    probabilities = np.tile(np.array([0.75, 0.25], np.float32), (100, 1))
    for place, index in enumerate([10, 20, 30, 40, 50, 60]):  # wrong, with growing confidence
        classes[index] = classes[index, ::-1]
        probabilities[index] = 0.6 + 0.05 * place, 0.4 - 0.05 * place
    labels[[0, 60]] = classes[[0, 60]] = -1  # not decoded, or seen by another process
    predictions = {"labels": labels, "classes": classes, "probabilities": probabilities}
    assert choose_places(predictions, count=8) == [50, 40, 30, 20, 1, 34, 68, 99]
    few = {name: array[1:4] for name, array in predictions.items()}
    assert choose_places(few, count=8) == [0, 1, 2]


def test_filters_are_tiles_of_their_own_range(parse, decode):
    filters = np.zeros((2, 1, 3, 20), np.float32)
    filters[..., 0] = [[[-1.0, 0.0, 1.0]], [[3.0, 1.0, -0.2]]]
    filters[..., 9] = 0.3
    filters[0, 0, 0, 9] = np.nan
    filters[..., 19] = -5.0
    tree = parse(filters_section(filters))
    tiles = decode(tree.find(".//img[@class='filters crisp']"))
    assert tiles.shape == (3 * 3 - 1, 8 * 2 - 1, 4)  # 20 tiles, 8 to a row
    np.testing.assert_array_equal(tiles[:2, 0, :3], [[0, 64, 128], [255, 128, 51]])
    np.testing.assert_array_equal(tiles[3:5, 2], [[0, 255, 255, 255], [255, 255, 255, 255]])  # not finite: zero
    np.testing.assert_array_equal(tiles[6:, 6], [[128, 128, 128, 255]] * 2)  # constant: mid-grey
    for gap in (tiles[2], tiles[:, 1], tiles[6:, 8:]):
        assert not gap.any()  # transparent
    assert tree.find("p").text.startswith("20 filters of 2 × 1, each scaled")
    grey = decode(parse(filters_section(np.array([0.0, 1.0, 4.0, 2.0]).reshape(2, 2, 1, 1))).find(".//img"))
    np.testing.assert_array_equal(grey[..., :3], np.repeat([[[0], [64]], [[255], [128]]], 3, axis=-1))

"""The command that finds objects; the metrics are tested in tests/localization."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from experiments import localize
from inception_jax.reference.printed_results import LOCALIZATION


@pytest.fixture
def command(on_trained):
    return functools.partial(on_trained, localize.main)


@pytest.fixture
def boxes(tmp_path):
    """A directory of XML; the objects are the whole images."""
    directory = tmp_path / "annotations"
    for label in ("blue", "green", "red"):
        for i in range(7):
            sides = f"<xmin>0</xmin><ymin>0</ymin><xmax>23</xmax><ymax>{19 + i % 3}</ymax>"
            file = directory / "val" / label / f"{i}.xml"
            file.parent.mkdir(parents=True, exist_ok=True)
            xml = f"<annotation><object><name>{label}</name><bndbox>{sides}</bndbox></object></annotation>"
            file.write_text(xml, encoding="utf-8")
    return directory


def test_prints_numbers_and_writes_pictures_arrays_and_json(command, boxes, tmp_path):
    out, record = tmp_path / "out", tmp_path / "out.json"
    status, said, errors = command(
        f"--boxes={boxes}", "--method=cam", "--limit=6", f"--out={out}", f"--json={record}", "--npz", "--threshold=0"
    )
    assert status == 0
    assert f"6 images localised in {out}" in errors
    content = json.loads(record.read_text(encoding="utf-8"))
    assert (content["images"], content["counted"], content["method"], content["threshold"]) == (6, 6, "cam", 0)
    assert "printed" not in content  # it is not ImageNet
    names = ["val/blue/0.png", "val/blue/3.png", "val/green/0.png", "val/green/3.png", "val/red/0.png", "val/red/3.png"]
    assert [row["name"] for row in content["localised"]] == names  # evenly spread
    lines = [line.split("  ") for line in said.splitlines()]
    values = {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines if line[0]}
    assert values["class. error, top-1"] == [f"{100 * content['top1_class_error']:.2f} %", "6"]
    assert values["loc. error, top-5"] == [f"{100 * content['top5_error']:.2f} %", "6", "0"]
    assert values["GT-known"] == [f"{100 * content['known']:.2f} %", "6", "0"]
    assert values["MaxBoxAccV2"] == [f"{100 * content['max_box_acc']['mean']:.2f} %", "6"]
    for number, row in enumerate(content["localised"]):
        with Image.open(out / f"{number:04d}_{row['name'][-5]}.png") as picture:
            assert picture.size == (256, 256)
        with np.load(out / f"{number:04d}_{row['name'][-5]}.npz") as arrays:
            assert arrays["heat"].shape == (16, 16)
            np.testing.assert_allclose(arrays["found"], row["known"], atol=0.005)
            assert arrays["true"].tolist() == row["true"] == [[0, 0, 23, 19]]
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 6 * 256


def test_the_blacklist(command, boxes, image_folder, tmp_path):
    # Numbers are positions here, because the files' numbers are not all different.
    (tmp_path / "blacklist.txt").write_text("0\n20\n", encoding="utf-8")
    record = tmp_path / "out.json"
    status, _, _ = command(f"--boxes={boxes}", f"--blacklist={tmp_path / 'blacklist.txt'}", f"--json={record}")
    content = json.loads(record.read_text(encoding="utf-8"))
    assert (status, content["images"], content["counted"]) == (0, 21, 19)
    assert [i for i, row in enumerate(content["localised"]) if not row["counts"]] == [0, 20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "has no boxes; give --boxes"),
        (["--boxes=MISSING"], "MISSING does not exist"),
        (["--boxes=BOXES", "--npz"], "--npz needs --out"),
        (["--boxes=BOXES", "--threshold=2"], "--threshold=2.0 must be from 0 to below 1"),
        (["--boxes=BOXES", "--layer=nowhere"], "--layer='nowhere' is not one of"),
        (["--boxes=BOXES", "--blacklist=MISSING"], "MISSING cannot be read"),
    ],
)
def test_invalid_input_is_one_line(command, boxes, arguments, message):
    status, said, errors = command(*(argument.replace("BOXES", str(boxes)) for argument in arguments))
    assert (status, said) == (2, "")
    assert message in errors
    assert "Traceback" not in errors
    assert errors.startswith("error: ")


def test_the_papers_rows_have_a_source_and_a_number():
    for one in LOCALIZATION:
        errors = [error for error in (one.top5, one.top1, one.known) if error is not None]
        assert errors, one
        assert all(20 < error < 70 for error in errors), one
        assert one.images in ("validation", "test"), one
        assert one.source, one
    said = localize._printed()
    assert "GoogLeNet-GAP" in said
    assert "37.1 %" in said
    assert len(said.splitlines()) == 1 + len(LOCALIZATION)


def test_hostile_annotations_are_one_line(command, boxes):
    (boxes / "val" / "red" / "6.xml").write_text('<!DOCTYPE a [<!ENTITY a "aa">]><annotation>&a;</annotation>', "utf-8")
    status, _, errors = command(f"--boxes={boxes}")
    assert status == 2
    assert errors.startswith(f"error: {boxes}/val/red/6.xml is no annotation in PASCAL VOC's format: it has a document")
    assert len(errors.splitlines()) == 1

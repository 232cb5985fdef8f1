"""The command that explains images; the methods are tested in tests/explain."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from experiments import explain
from inception_jax.console import percent
from inception_jax.explain import METHODS


@pytest.fixture
def command(on_trained):
    return functools.partial(on_trained, explain.main)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in zip("abc", np.random.default_rng(0).integers(0, 256, (3, 18, 18, 3), np.uint8), strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


def test_writes_pictures_arrays_and_json(command, folder, tmp_path):
    (folder / "torn.png").write_bytes(b"no image")
    out, record = tmp_path / "out", tmp_path / "out.json"
    arguments = ("--method=gradcam,guided,integrated", "--steps=8", "--class=red", "--npz", "--sanity")
    status, said, errors = command(folder, f"--out={out}", f"--json={record}", "--batch-size=2", *arguments)
    assert status == 1
    assert "torn.png: " in errors
    assert "3 images explained" in errors
    content = json.loads(record.read_text())
    assert [row["path"] for row in content["images"]] == [str(folder / f"{name}.png") for name in "abc"]
    assert {row["title"] for row in content["images"]} == {"red"}
    for number, (row, name) in enumerate(zip(content["images"], "abc", strict=True)):
        scores = f"red {row['number']:.4g}, classified as {row['predicted']} {percent(row['probability'])}"
        assert f"{folder / name}.png: {scores}, integrated gradients incomplete by" in said
        assert row["files"]["guided"] == f"000{number}_{name}.guided.png"
        for file in row["files"].values():
            with Image.open(out / file) as written:
                assert written.size == (16, 16)
        with np.load(out / f"000{number}_{name}.integrated.npz") as arrays:
            assert arrays["values"].shape == (16, 16, 3)
            with Image.open(row["path"]) as image:
                np.testing.assert_array_equal(arrays["crop"], np.array(image)[1:17, 1:17])
            np.testing.assert_allclose(arrays["heat"], np.abs(arrays["values"].sum(-1)))
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 4 * 128
    assert list(content["sanity"]["guided"]) == ["top", "body", "stem"]
    assert "random from  gradcam  guided  integrated" in said
    assert (out / "guided.sanity.png").exists()


def test_help_names_every_method():
    assert explain._METHODS.keys() == METHODS.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method=grad"], "--method='grad' is not one of gradient"),
        (["--class=redd"], "the network has no class 'redd'; did you mean 'red'?"),
        (["--unit=body:1", "--class=red"], "--class and --unit are two things to explain: give one"),
        (["--unit=body"], "--unit='body' must be LAYER:CHANNEL, such as stem:0"),
        (["--unit=body:99"], "channel=99 is not in 0 to 7, which body has"),
        (["--layer=boddy"], "--layer='boddy' is not one of stem, body"),
        (["--layer=body", "--method=guided"], "--layer='body' is for class activation maps; for a channel give --unit"),
        (["--patch=3", "--method=guided"], "--patch=3 is no option of guided"),
    ],
)
def test_says_what_is_wrong(command, folder, tmp_path, arguments, message):
    status, _, errors = command(folder, f"--out={tmp_path / 'out'}", *arguments)
    assert status == 2
    assert message in errors

"""The command that makes images; how they are made is tested in tests/explain."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from experiments import visualize


@pytest.fixture
def command(on_trained):
    return functools.partial(on_trained, visualize.main)


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(file)
    return file


def test_shows_channels_with_examples_and_weights(command, tmp_path):
    out, record = tmp_path / "out", tmp_path / "out.json"
    options = ("--copies=2", "--examples=3", "--circuit", "--steps=2", f"--json={record}", f"--out={out}")
    status, said, errors = command("--layer=body", "--channel=6,1-2", "--batch-size=2", *options)
    assert status == 0, errors
    content = json.loads(record.read_text())
    assert [one["channel"] for one in content["channels"]] == [6, 1, 2]
    for one in content["channels"]:
        for file in one["files"]:
            with Image.open(out / file) as image:
                assert image.size == (15, 15)
        outputs = [example["output"] for example in one["examples"]]
        assert len(outputs) == 3
        assert outputs == sorted(outputs, reverse=True)
        assert one["examples"][0]["image"].endswith(".png")
    with Image.open(out / "body.png") as sheet, Image.open(out / "body.circuit.png") as circuit:
        assert sheet.width == 8 + 5 * (8 * 15 + 8)  # two copies and three examples, enlarged
        assert circuit.width == 8 + (1 + 4) * (8 * 15 + 8)  # stem has four channels
    assert content["circuit"]["source"] == "stem"
    assert set(content["circuit"]["strongest"][0]) == {f"stem {k}" for k in range(4)}
    assert "root mean square of the weights from stem   body\nstem  " in said


def test_shows_every_class_by_default(command, tmp_path):
    status, said, _ = command("--layer=top", "--steps=1", f"--out={tmp_path / 'out'}")
    assert (status, said) == (0, f"{tmp_path / 'out' / 'top.png'}\n")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "top.0000.png", "top.0001.png", "top.0002.png", "top.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "file", "size"),
    [
        (["--layer=stem,body", "--dream={photo}"], "photo.stem_body.png", (30, 20)),
        (["--layer=body", "--dream={photo}", "--size=15"], "photo.body.png", (15, 10)),
        (["--layer=body", "--caricature={photo}"], "photo.body.png", (15, 15)),
        (["--layer=body", "--caricature={photo}", "--style={photo}"], "photo_photo.body.png", (15, 15)),
    ],
)
def test_changes_and_exaggerates_photographs(command, photo, tmp_path, options, file, size):
    options = [option.format(photo=photo) for option in options]
    status, said, errors = command(*options, "--steps=2", f"--out={tmp_path / 'out'}")
    assert status == 0, errors
    assert said == f"{tmp_path / 'out' / file}\n"
    with Image.open(tmp_path / "out" / file) as image:
        assert image.size == size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer=boddy"], "--layer='boddy' is not one of stem, body"),
        (["--layer=body", "--channel=3-9"], "--channel=8 is not in 0 to 7, which body has"),
        (["--layer=body", "--channel=a"], "a does not name channels; write for instance 3,8-15"),
        (["--layer=stem", "--circuit"], "--circuit: no layer comes before stem"),
        (["--layer=body", "--circuit=top"], "--circuit=top does not come before body"),
        (["--layer=body", "--dream=x.png", "--channel=1"], "--dream shows a whole layer: leave out --channel"),
        (["--layer=body", "--dream=x.png", "--style=x.png"], "give only one of them"),
        (["--layer=body", "--dream=x.png"], "x.png: No such file or directory"),
    ],
)
def test_mistakes_are_one_line(command, tmp_path, arguments, message):
    status, _, errors = command(*arguments, f"--out={tmp_path}")
    assert status == 2
    assert message in errors
    assert "Traceback" not in errors

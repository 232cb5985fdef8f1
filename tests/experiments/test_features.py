"""The commands that divide images over machines; shards are tested in tests/evaluation/test_features.py."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import features, predict


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for k, image in enumerate(np.random.default_rng(0).integers(0, 256, (7, 18, 18, 3), np.uint8)):
        Image.fromarray(image).save(folder / f"{k}.png")
    (folder / "torn.jpg").write_bytes(b"x")
    return folder


@pytest.fixture
def command(capsys):
    """Runs a command; returns exit status, standard output and standard error."""

    def run(module, *arguments):
        status = module.main(list(map(str, arguments)))
        return status, *capsys.readouterr()

    return run


def test_two_machines_then_a_merge(command, folder, trained, tmp_path):
    out = tmp_path / "out"
    common = [folder, f"--workdir={trained}", "--end-point=pool", f"--out={out}", "--shard-size=3", "--batch-size=2"]
    status, _, err = command(features, *common, "--shard=1/2")
    assert status == 1  # the torn image is in the third shard
    assert f"left out {folder}/torn.jpg: not an image" in err
    status, _, err = command(features, f"--out={out}", "--check")
    assert (status, "1 of 3 shards are missing (2)" in err) == (2, True)
    assert command(features, *common, "--shard=2/2")[0] == 0
    status, text, _ = command(features, f"--out={out}", "--check")
    assert (status, text) == (1, f"{out}: 3 shards, 8 images\n")
    status, _, err = command(features, f"--out={out}", f"--merge={tmp_path}/all.npz")
    assert (status, err.splitlines()) == (1, [f"written: {tmp_path}/all.npz, 7 images", "1 image could not be read"])
    with np.load(tmp_path / "all.npz") as arrays:
        assert arrays["features"].shape == (7, 1, 1, 8)


def test_predictions_are_divided_too(command, folder, trained, tmp_path):
    out, alone = tmp_path / "out", tmp_path / "alone.jsonl"
    assert command(predict, folder, f"--workdir={trained}", f"--out={alone}", "--batch-size=4")[0] == 1
    for machine in ("2/2", "1/2"):
        common = [folder, f"--workdir={trained}", f"--out={out}", "--shard-size=4", "--batch-size=4"]
        command(predict, *common, f"--shard={machine}")
    lines = [line for file in sorted(out.glob("*.jsonl")) for line in file.read_text().splitlines()]
    assert [json.loads(line)["path"] for line in lines] == [f"{folder}/{k}.png" for k in range(7)] + [
        f"{folder}/torn.jpg"
    ]
    assert lines == alone.read_text().splitlines()
    assert command(predict, *common, "--shard=1/1")[1:] == ("", "")  # nothing is left to do


def test_invalid_input_is_one_line(command, folder, trained, tmp_path):
    needed = [folder, f"--workdir={trained}", "--end-point=pool", f"--out={tmp_path}/out"]
    for module, arguments, message in (
        (
            features,
            [f"--out={tmp_path}"],
            "error: give PATH, --workdir and --end-point; or --check or --merge=",
        ),
        (features, [*needed, "--shard=1/2", "--distributed"], "error: --shard and --distributed are two ways"),
        (features, [*needed, "--format=csv"], "error: --format='csv' is not one of npz, parquet"),
        (features, [*needed[:2], "--end-point=x", needed[3]], "error: --end-point='x' is not one of stem, body, pool"),
        (features, [f"--out={tmp_path}", "--check"], f"error: {tmp_path} has no readable manifest.json"),
        (predict, [folder, f"--workdir={trained}", "--shard=1/2"], "error: --shard and --distributed need --out=DIR"),
    ):
        status, out, err = command(module, *arguments)
        assert (status, out) == (2, "")
        assert err.splitlines()[-1].startswith(message)
    for wrong in ("0/2", "3/2", "2", "a/b"):
        with pytest.raises(SystemExit):
            features.main([*map(str, needed), f"--shard={wrong}"])

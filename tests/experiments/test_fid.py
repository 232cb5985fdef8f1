"""The command that compares sets of images; the numbers are tested in tests/fid."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import fid
from inception_jax import fid as library


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for seed, name in enumerate(("real", "generated")):
        (root / name).mkdir()
        for k, image in enumerate(np.random.default_rng(seed).integers(0, 256, (12, 18, 18, 3), np.uint8)):
            Image.fromarray(image).save(root / name / f"{k}.png")
    return root


@pytest.fixture
def command(trained, capsys):
    """Runs the command; returns exit status, standard output and standard error."""

    def run(*arguments):
        status = fid.main([*map(str, arguments), f"--weights={trained}", "--batch-size=4"])
        return status, *capsys.readouterr()

    return run


def test_results_say_how_they_were_made(command, folders, tmp_path):
    file = tmp_path / "out.json"
    arguments = ["--metrics=fid,kid,is,prc", "--subset-size=10", "--subsets=2", "--splits=2", f"--json={file}"]
    status, out, err = command(folders / "real", folders / "generated", "--protocol=pytorch_fid", *arguments)
    assert status == 0
    assert "protocol pytorch_fid: PyTorch bilinear, x / 127.5 - 1" in out
    assert "FID-like, network tiny, pool" in out
    assert err.count("warning: 12 images") == 0  # 8 dimensions
    record = json.loads(file.read_text())
    assert record["identity"]["protocol"] == "pytorch_fid"
    assert [each["count"] for each in record["sets"]] == [12, 12]
    assert f"{record['values']['fid']:.4f}" in out
    assert set(record["values"]) == {
        "fid", "kid", "kid_deviation", "inception_score", "inception_score_deviation", "precision", "recall",
    }  # fmt: skip


def test_saved_statistics_give_the_same_distance(command, folders, tmp_path):
    file = tmp_path / "real.npz"
    assert command(folders / "real", f"--save={file}")[0] == 0
    assert library.read(file).count == 12
    status, out, _ = command(file, folders / "generated")
    assert (status, out.splitlines()[-1]) == (0, command(folders / "real", folders / "generated")[1].splitlines()[-1])
    status, _, err = command(file, folders / "generated", "--protocol=clean")
    assert (status, err.splitlines()[-1].startswith("error: these statistics must not be compared")) == (2, True)


def test_a_damaged_image_is_named_and_the_status_is_1(command, folders, tmp_path):
    (tmp_path / "mixed").mkdir()
    for k in range(3):
        (tmp_path / "mixed" / f"{k}.png").write_bytes((folders / "real" / f"{k}.png").read_bytes())
    (tmp_path / "mixed" / "torn.png").write_bytes(b"")
    status, out, err = command(folders / "real", tmp_path / "mixed")
    assert status == 1
    assert f"left out {tmp_path}/mixed/torn.png: empty file\n1 image could not be read" in err
    assert "mixed: 3 images" in out


def test_invalid_input_is_one_line(command, folders):
    real = folders / "real"
    for arguments, message in (
        ((real,), "error: give REAL and GENERATED; one set alone needs --save=FILE.npz or --metrics=is"),
        ((real, real, "--save=x.npz"), "error: --save is for one set"),
        ((real, real, "--metrics=fid,lpips"), "error: --metrics='lpips' is not one of fid, sfid"),
        ((real, real, "--protocol=x"), "error: --protocol='x' is not one of tf, pytorch_fid, clean"),
        ((real, folders / "none"), f"error: {folders}/none: no such file or folder"),
        ((real, real, "--metrics=kid"), "error: --subset-size=1000 must be from 2 to 12"),
        ((real, real, "--end-point=x"), "error: --end-point='x' is not one of stem, body, pool, top"),
    ):
        status, out, err = command(*arguments)
        assert (status, out) == (2, "")
        assert err.splitlines()[-1].startswith(message)

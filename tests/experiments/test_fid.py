"""The command that compares sets of images; the numbers are tested in tests/fid."""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import fid
from inception_jax import create_model
from inception_jax import fid as library
from inception_jax.weights import files
from tests.values import crop_config, preprocessing


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
        ((real, "--save=x.npz", "--metrics=kid"), "error: --save writes statistics for fid and sfid; other metrics"),
        ((real, "--save=none/x.npz"), "error: none/x.npz cannot be written"),
        ((real, real, "--metrics=fid,lpips"), "error: --metrics='lpips' is not one of fid, sfid"),
        ((real, real, "--protocol=x"), "error: --protocol='x' is not one of tf, pytorch_fid, clean"),
        ((real, folders / "none"), f"error: {folders}/none: no such file or folder"),
        ((real, real, "--metrics=kid"), "error: --subset-size=1000 must be from 2 to 12"),
        ((real, real, "--end-point=x"), "error: --end-point='x' is not one of stem, body, pool, top"),
    ):
        status, out, err = command(*arguments)
        assert (status, out) == (2, "")
        assert err.splitlines()[-1].startswith(message)


def _free_slurm_job() -> int:
    """A job's number for which the port that JAX derives from it is free (jax/_src/clusters/slurm_cluster.py)."""
    for job in range(os.getpid() % 4000, 4096):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", 61440 + job % 4096))
            return job
    raise RuntimeError("no port is free")


def test_two_processes_give_what_one_gives(folders, tmp_path):
    """Processes of their own, joined by JAX; each has a part of the images, and a damaged one is counted once."""
    model = create_model("lenet5_modern", num_classes=3)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 32, 32, 1), np.float32))
    looks = dataclasses.asdict(preprocessing(channels=1, std=(64.0,) * 3)) | dataclasses.asdict(crop_config(32))
    metadata = {"model": {"name": "lenet5_modern"}, "class_names": list("abc"), "preprocessing": looks}
    files.write(tmp_path / "lenet.npz", variables, metadata)
    (folders / "real" / "torn.png").write_bytes(b"")
    command = [sys.executable, "-m", "experiments.fid", folders / "real", folders / "generated", "--batch-size=4"]
    command += [f"--weights={tmp_path}/lenet.npz", f"--end-point={model.layers[-2][0]}"]
    command += ["--metrics=fid,prc,is,kid", "--subset-size=8", "--subsets=3", "--splits=2"]
    job = {"SLURM_JOB_ID": str(_free_slurm_job()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    begun = []
    for name, joined in (("alone", ()), ("0", ("0",)), ("1", ("1",))):
        environment = dict(os.environ)
        if joined:
            environment |= job | {"SLURM_PROCID": name, "SLURM_LOCALID": name}
        more = [f"--json={tmp_path}/{name}.json", *(["--distributed"] if joined else [])]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen([*map(str, command), *more], env=environment, **pipes))
    ended = [(process.communicate(timeout=240), process.returncode) for process in begun]
    assert [status for _, status in ended] == [1, 1, 1], ended
    alone, together = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("alone", "0"))
    assert [each["count"] for each in together["sets"]] == [12, 12]
    assert together["values"] == pytest.approx(alone["values"], rel=1e-5)
    assert not (tmp_path / "1.json").exists()
    named = "".join(err for (_, err), _ in ended[1:])
    assert named.count("torn.png: empty file") == 1
    assert named.count("1 image could not be read") == 2

"""Folders with pipes, sockets, loops of links and odd names: no command waits for ever, each ends in plain lines."""

import contextlib
import csv
import io
import json
import os
import signal
import socket

import numpy as np
import pytest
from PIL import Image

from experiments import features, fid, predict, prepare
from inception_jax.data.decoding import DamagedImage, read_file
from inception_jax.errors import UserError
from inception_jax.evaluation.evaluate import open_data
from inception_jax.evaluation.predict import find_images
from inception_jax.runs.listing import find

ODD = "=1+1\n\x1b[2J.png"  # a formula, another line, and an escape that clears the screen
NO_TEXT = "\udcff\udc1b.png".replace("\udc1b", "\udc9b")  # bytes that are not UTF-8, one of them CSI


@pytest.fixture(autouse=True)
def _limited():
    """Ends a test that waits for ever."""

    def fail(*_):
        raise TimeoutError("it waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A folder with four images in two classes, and all that is none; it is the current directory."""
    root = tmp_path / "root"
    for name in ("a/1.png", f"a/{ODD}", "b/1.png", f"b/{NO_TEXT}"):
        (root / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (18, 18), (200, 100, 50)).save(root / "train" / name)
    monkeypatch.chdir(root)
    os.mkfifo("train/a/pipe.png")
    os.symlink("pipe.png", "train/a/to_pipe.png")
    os.mkdir("train/b/folder.png")
    os.symlink("..", "train/b/up")
    os.symlink("..", "train/b/up.png")
    os.symlink("up", "train/b/up2")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind("train/a/socket.png")
        yield root


@pytest.fixture
def command(capfd):
    """Runs a command; returns exit status, standard output and standard error, of which every line is printable."""

    def run(module, *arguments):
        try:
            status = module.main(list(map(str, arguments)))
        except SystemExit as exit:
            status = exit.code
        out, err = capfd.readouterr()
        for line in [*out.split("\n"), *err.split("\n")]:
            assert line.encode(errors="surrogateescape").isascii() or line.isprintable()
            assert "\x1b" not in line
            assert "Traceback" not in line
        return status, out, err

    return run


def test_folders_and_patterns_end(hostile):
    images = [f"train/a/{name}" for name in ("1.png", ODD)] + [f"train/b/{name}" for name in ("1.png", NO_TEXT)]
    assert [image.path for image in find_images("train")] == sorted(images)
    everything = [image.path for image in find_images("**/*.png", pattern=True)]
    pipes = ["train/a/pipe.png", "train/a/socket.png", "train/a/to_pipe.png"]
    assert set(images + pipes) <= set(everything)  # what a pattern names is reported, not left out
    assert len(everything) == len(set(everything)) < 20
    assert {image.path for image in find_images("**", pattern=True)} == {*images, *pipes}


def test_a_pipe_that_takes_the_place_of_an_image_after_it_was_looked_at(hostile, monkeypatch):
    before = os.stat("train/a/1.png")
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda _: before)
        with pytest.raises(DamagedImage, match="x: not a regular file"):
            read_file("train/a/pipe.png", "x")


def test_predictions(hostile, command, trained):
    named = ["train/a/pipe.png", "train/a/socket.png", "train/a/to_pipe.png"]
    status, out, err = command(predict, f"--workdir={trained}", "train", *named)
    lines = out.splitlines()
    assert (status, err) == (1, "7 images, 3 of them could not be read\n")
    assert [line.partition(": ")[0] for line in lines[:2]] == ["train/a/1.png", "train/a/=1+1\\n\\x1b[2J.png"]
    assert lines[4:] == [f"{name}: error: not a regular file" for name in named]

    for option, cell in (("--format=csv", f"'{ODD}"), ("--raw-csv", ODD)):
        os.chdir(hostile / "train" / "a")
        _, _, err = command(predict, f"--workdir={trained}", "--out=../out.csv", option, "[=1]*")
        rows = list(csv.reader(io.StringIO((hostile / "train" / "out.csv").read_bytes().decode(), newline="")))
        assert [row[0] for row in rows] == ["path", "1.png", cell], err


def test_a_terminal_gets_no_escapes(hostile, command, trained, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for form in ("text", "csv"):
        _, out, _ = command(predict, f"--workdir={trained}", f"--format={form}", f"train/a/{ODD}")
        assert "train/a/=1+1\\n\\x1b[2J.png" in out


def test_features(hostile, command, trained):
    out = hostile / "features"
    options = [f"--workdir={trained}", "--end-point=pool", f"--out={out}"]
    status, _, err = command(features, "train", "train/a/pipe.png", "nowhere\x1b\n.png", *options)
    assert status == 1
    assert "left out train/a/pipe.png: not a regular file\n" in err
    assert "left out nowhere\\x1b\\n.png: no such file or folder\n" in err
    status, _, _ = command(features, f"--merge={out / 'all.npz'}", f"--out={out}")
    with np.load(out / "all.npz") as arrays:
        assert len(arrays["paths"]) == 4


def test_sets_of_images(hostile, command, trained):
    status, out, err = command(fid, "train", "train/a/*.png", f"--weights={trained}", "--batch-size=4")
    assert status == 1
    assert "train: 4 images" in out
    assert err.count("not a regular file") == 3
    os.mkfifo("train/images.npz")
    os.mkfifo("train/images.npy")
    (hostile / "torn.npy").write_bytes(b"\x93NUMPY\x01\0")
    for name, reason in (("train/images.npz", "not a reg"), ("train/images.npy", "not a reg"), ("torn.npy", "cannot")):
        status, _, err = command(fid, name, "train", f"--weights={trained}")
        assert (status, err.count("error: ")) == (2, 1)
        assert reason in err.splitlines()[-1]


def test_networks_and_runs(hostile, command):
    for name in ("weights.npz", "run/config.json", "run/metrics.jsonl", "run/results.json"):
        (hostile / name).parent.mkdir(exist_ok=True)
        os.mkfifo(name)
    for workdir in ("weights.npz", "run"):
        status, _, err = command(predict, f"--workdir={workdir}", "train")
        assert (status, err.count("\n")) == (2, 1)
        assert f"error: {workdir} is neither a" in err
    found = find(hostile)["run"]
    names = ("config.json", "metrics.jsonl", "results.json")
    assert (found.state, found.error) == (
        "damaged",
        "; ".join(f"{name} cannot be read: not a regular file" for name in names),
    )
    with pytest.raises(UserError, match="run does not say which data"):
        open_data(["run"])


def test_prepared_images(hostile, command):
    options = ["--name=folder", f"--dir={hostile}", "--split=train", "--short-side=8", "--processes=1"]
    status, _, err = command(prepare, *options, f"--out={hostile / 'out'}", f"--json={hostile / 'out.json'}")
    assert status == 0, err
    summary = json.loads((hostile / "out.json").read_text())
    assert (summary["splits"]["train"]["images"], summary["splits"]["train"]["damaged"]) == (4, {})
    os.symlink("loop.png", "train/a/loop.png")
    status, _, err = command(prepare, *options, f"--out={hostile / 'more'}")
    assert status == 2
    assert "train/a/loop.png: Too many levels of symbolic links" in err

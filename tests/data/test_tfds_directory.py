import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import inception_jax
from inception_jax.data.digits import Digits
from inception_jax.data.sources import open_source
from inception_jax.data.tfds_directory import default_directory, prepared
from inception_jax.errors import UserError


def test_the_default(monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert default_directory() == "/home/me/tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", "~/tfds")
    assert default_directory() == "/home/me/tfds"


@pytest.mark.usefixtures("homeless")
def test_without_a_home_the_digits_are_written_to_one_temporary_directory(capsys, monkeypatch):
    counts = [len(open_source("digits", "train"))]
    monkeypatch.setattr(Digits, "download_and_prepare", None)  # not once more
    counts.append(len(open_source("digits", "test")))
    assert counts == [1437, 360]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ~/tensorflow_datasets cannot be used (there is no home directory);")
    assert line.endswith("set TFDS_DATA_DIR")


@pytest.mark.usefixtures("homeless")
def test_without_a_home_other_datasets_need_a_directory():
    for name, data_dir in (("mnist", ""), ("mnist", "~/data"), ("digits", "~/data")):
        with pytest.raises(UserError, match="^~/.* needs a home directory, but there is none; give a directory or set"):
            open_source(name, "train", data_dir)


def test_a_directory_that_array_record_would_misread(tmp_path):
    for name in ("mnist", "digits"):
        with pytest.raises(UserError, match="PYTHONUTF8=1"):
            open_source(name, "train", str(tmp_path / "caf\udce9"))
        assert not list(tmp_path.iterdir())


def test_an_existing_dataset_is_read_where_nothing_can_be_written(digits_dir, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", digits_dir)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert len(open_source("digits", "test")) == 360
    assert capsys.readouterr().err == ""


def test_a_default_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "file"))
    builder = prepared(lambda directory: Digits(data_dir=directory), "digits", "")
    assert builder.info.splits["test"].num_examples == 360
    assert capsys.readouterr().err.startswith(f"warning: {tmp_path}/file cannot be used (File exists)")


def test_writing_and_reading_need_neither_tensorflow_nor_network(tmp_path):
    code = f"""if True:
        import socket, sys, threading
        sys.modules["importlib_resources"] = None  # TFDS uses it but does not require it
        def refuse(*args): raise AssertionError("network")
        socket.socket.connect = socket.getaddrinfo = refuse
        from inception_jax.data import glyphs, sources
        assert not {{"sklearn", "matplotlib"}} & set(sys.modules)  # which are slow
        def read():
            for name in ("digits", "glyphs/train=5,test=1", "textures/train=5,test=1"):
                source = sources.open_source(name, "train", {str(tmp_path)!r})
                print(len(source), source[0][0].shape)
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        assert not {{"tensorflow", "matplotlib.pyplot"}} & set(sys.modules)"""
    env = os.environ | {"PYTHONPATH": str(Path(inception_jax.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    # TFDS is quiet.
    assert (done.stdout, done.stderr, done.returncode) == ("1437 (8, 8, 3)\n5 (32, 32, 3)\n5 (32, 32, 3)\n", "", 0)

import os
import tempfile

import pytest

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
@pytest.mark.parametrize(("name", "data_dir"), [("mnist", ""), ("mnist", "~/data"), ("digits", "~/data")])
def test_without_a_home_other_data_sets_need_a_directory(name, data_dir):
    with pytest.raises(UserError, match="^there is no home directory for ~/.*; give a data_dir, or set TFDS_DATA_DIR"):
        open_source(name, "train", data_dir)


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_a_directory_that_array_record_would_misread(tmp_path, name):
    with pytest.raises(UserError, match="PYTHONUTF8=1"):
        open_source(name, "train", str(tmp_path / "caf\udce9"))
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_read_where_nothing_can_be_written(digits_dir, monkeypatch, capsys):
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

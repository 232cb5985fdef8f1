"""Archives around files of weights, .npz, and what is no file of weights."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import zipfile

import ml_dtypes
import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.weights import formats
from tests.weights.formats.samples import caffe_files, error_of, same


def test_archives(tmp_path):
    file = tmp_path / "archive"
    np.savez(tmp_path / "weights.npz", a=np.arange(3))
    same(formats.read(tmp_path / "weights.npz").arrays, {"a": np.arange(3)})

    def tar(*members):
        with tarfile.open(file, "w") as archive:
            for name, content in members:
                info = tarfile.TarInfo(name)
                if content is None:
                    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                    archive.addfile(info)
                else:
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))

    new, _, expected = caffe_files()
    tar(("../../x/net.caffemodel", new), ("readme.txt", b"text"))
    same(formats.read(file).arrays, expected)
    assert not (tmp_path.parent.parent / "x").exists()
    tar(("net.caffemodel", None))
    error_of(file, "0 files of weights")
    tar(("a.caffemodel", new), ("b.caffemodel", new))
    error_of(file, "2 files of weights .a.caffemodel, b.caffemodel.; unpack it and name one")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.pb", b"\0" * 2**27)
    error_of(file, "out of proportion")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    error_of(tmp_path / "objects.npz", "allow_pickle")


def test_what_is_no_file_of_weights(tmp_path):
    for content in (b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, b"\0" * 1000, b"<html>" * 100):
        (tmp_path / "file").write_bytes(content)
        error_of(tmp_path / "file", "no file of weights|is empty")
    with pytest.raises(UserError, match="does not exist"):
        formats.read(tmp_path / "missing.pth")
    with pytest.raises(UserError, match="is a directory"):
        formats.read(tmp_path)


def test_compressed_files(tmp_path):
    new, _, expected = caffe_files()
    for open_ in (gzip.open, bz2.open, lzma.open):
        with open_(tmp_path / "net.caffemodel.gz", "wb") as file:
            file.write(new)
        same(formats.read(tmp_path / "net.caffemodel.gz").arrays, expected)


def test_archives_of_a_mac(tmp_path):
    """They hold a file ._x beside each file x."""
    new, _, expected = caffe_files()
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        archive.writestr("net/", b"")
        archive.writestr("net/net.caffemodel", new)
        archive.writestr("__MACOSX/net/._net.caffemodel", b"attributes")
    same(formats.read(tmp_path / "net.zip").arrays, expected)


def test_numbers_of_other_kinds(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        big=np.array([1, 2], ">f4"),
        bfloat16=np.float32([1, 2]).astype(ml_dtypes.bfloat16),
        text="x",
    )
    arrays = formats.read(tmp_path / "a.npz").arrays
    same(arrays, {"big": np.float32([1, 2]), "bfloat16": np.float32([1, 2]).astype(ml_dtypes.bfloat16)})


def negative_size():
    """A tar archive whose member ends before it begins: Python 3.11.7's reader finds it again and again."""
    header = bytearray(tarfile.TarInfo("a").tobuf())
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header) + b"\0" * 2048


def large_header():
    """A compressed tar archive with a header of 256 MB, which tarfile reads whole."""
    info = tarfile.TarInfo("a")
    info.type, info.size = tarfile.XHDTYPE, 2**28
    return gzip.compress(info.tobuf() + b"\0" * info.size, 1)


def inside(*members):
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members:
                archive.writestr(name, content)
        return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (negative_size, "out of proportion|is damaged"),
        (large_header, "out of proportion"),
        (lambda: gzip.compress(gzip.compress(b"x" * 100)), "an archive in an archive"),
        (lambda: inside(("a.pb", inside(("b.pb", b"")))), "an archive in an archive"),
        (lambda: inside(("a.pb", gzip.compress(b"x"))), "an archive in an archive"),
        (lambda: inside(*((f"{number}.txt", b"") for number in range(1000))), "0 files of weights .0.txt, 1.txt,"),
        (lambda: inside(("a/\x1b[2J.pb", b"x"), ("b.pb", b"x")), r"\(a/\?\[2J.pb, b.pb\)"),
        (lambda: inside(("a.pb", b"")), "it is empty"),
        (lambda: gzip.compress(b"x" * 1000)[:-10], "is cut off"),
        (lambda: b"PK\3\4" + b"\0" * 100, "is damaged"),
    ],
)
def test_hostile_archives(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content())
    error_of(tmp_path / "file", message)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    error_of(tmp_path / "pipe", "is no regular file")
    error_of(tmp_path / ("x" * 300), "cannot be read: File name too long")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    error_of(tmp_path / "file", "cannot be read: Permission denied")


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder with a file of weights; archives in a folder of it are unpacked to another one. It stays as it is."""
    (tmp_path / "secret.caffemodel").write_bytes(caffe_files()[0])
    for name in ("scratch", "in"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    yield tmp_path
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["in/archive", "secret.caffemodel"]


@pytest.mark.parametrize("name", ["../net", "/{outside}/net", "a/../../../net", "..\\..\\net", "{outside}/in/../net"])
def test_members_do_not_leave_the_folder(outside, name):
    new, _, expected = caffe_files()
    file, name = outside / "in" / "archive", f"{name.format(outside=outside)}.caffemodel"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, new)
    same(formats.read(file).arrays, expected)
    with tarfile.open(file, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(new)
        archive.addfile(info, io.BytesIO(new))
    same(formats.read(file).arrays, expected)


@pytest.mark.parametrize("target", ["../secret.caffemodel", "../../secret.caffemodel", "{outside}/secret.caffemodel"])
def test_members_that_are_links_are_not_followed(outside, target):
    file, target = outside / "in" / "archive", target.format(outside=outside)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        with tarfile.open(file, "w") as archive:
            info = tarfile.TarInfo("net.caffemodel")
            info.type, info.linkname = kind, target
            archive.addfile(info)
        error_of(file, "0 files of weights")
    with zipfile.ZipFile(file, "w") as archive:
        entry = zipfile.ZipInfo("net.caffemodel")
        entry.create_system, entry.external_attr = 3, 0o120777 << 16  # Unix, a symbolic link
        archive.writestr(entry, target)
    error_of(file, "no file of weights|damaged")


def test_an_index_of_safetensors_is_no_file_of_weights(tmp_path):
    """So it cannot name files elsewhere."""
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
    error_of(tmp_path / "model.safetensors.index.json", "no file of weights")

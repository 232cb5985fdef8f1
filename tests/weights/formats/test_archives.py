"""Archives around files of weights, .npz, and what is no file of weights."""

import io
import tarfile
import zipfile

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

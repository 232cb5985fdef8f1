import ast
import os
from pathlib import Path

import pytest

from inception_jax.errors import UserError
from inception_jax.names import check_utf8, native_path, readable, text_of

ROOT = Path(__file__).parent.parent
E_NFC, E_NFD = "\u00e9", "e\u0301"


@pytest.fixture
def locale(monkeypatch):
    """Sets the encoding of file names."""

    def use(encoding):
        monkeypatch.setattr(os, "fsencode", lambda path: path.encode(encoding, "surrogateescape"))
        monkeypatch.setattr(os, "fsdecode", lambda data: data.decode(encoding, "surrogateescape"))

    return use


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_name_is_the_same_text_in_every_locale(locale, encoding):
    locale(encoding)
    for data in (b"cat", E_NFC.encode(), E_NFD.encode(), "日本".encode(), b"caf\xe9"):
        path = data.decode(encoding, "surrogateescape")
        assert text_of(path) == data.decode("utf-8", "surrogateescape")
        assert native_path(text_of(path)) == path


def test_what_is_no_file_name_stays(locale):
    locale("ascii")
    assert text_of(E_NFC) == E_NFC  # in a Python file, which is UTF-8
    assert native_path("\ud800") == "\ud800"


def test_readable():
    texts = ("cat", E_NFC, E_NFD, "caf\udce9", "\ud800")
    assert [readable(text) for text in texts] == ["cat", E_NFC, E_NFC, "caf\\xe9", "\\ud800"]


def test_paths_that_libraries_in_c_would_misread(locale):
    check_utf8("/data/\u00e9\u00a0")
    with pytest.raises(UserError, match="PYTHONUTF8=1"):
        check_utf8("/data/\udce9")
    for encoding in ("ascii", "latin-1"):
        locale(encoding)
        check_utf8("/data/e")
        with pytest.raises(UserError, match="PYTHONUTF8=1"):
            check_utf8(Path("/data", E_NFC.encode().decode(encoding, "surrogateescape")))


def test_text_files_are_utf_8_in_every_locale():
    """Ruff's PLW1514 sees only what is a Path by its type."""
    files = [
        ROOT / "main.py",
        *(file for name in ("inception_jax", "experiments") for file in (ROOT / name).rglob("*.py")),
    ]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                given = {keyword.arg for keyword in node.keywords}
                is_text = name in ("read_text", "write_text") or (name in ("run", "Popen") and "text" in given)
                assert not is_text or "encoding" in given, f"{file}:{node.lineno} has no encoding"

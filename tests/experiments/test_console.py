import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import predict
from inception_jax.console import tolerate_encoding
from inception_jax.evaluation.predict import Prediction

ROOT = Path(__file__).parents[2]


def prediction(path):
    return Prediction(path, classes=(0,), names=("café",), probabilities=(0.5,))


@pytest.fixture
def terminal(monkeypatch):
    """Replaces standard output; what is written to it, as bytes."""

    def use(encoding, errors):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, errors, write_through=True))
        tolerate_encoding()
        return written

    return use


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", rb"\u2713 caf\xe9" b"\xff\xfe" rb"\ud800\u65e5"),
        ("latin-1", rb"\u2713 caf" b"\xe9\xff\xfe" rb"\ud800\u65e5"),
        ("utf-8", "✓ café".encode() + b"\xff\xfe" + rb"\ud800" + "日".encode()),
    ],
)
def test_what_the_encoding_lacks_is_escaped(terminal, encoding, errors, shown):
    written = terminal(encoding, errors)
    print("✓ café\udcff\udcfe\ud800日", end="")
    assert written.getvalue() == shown


def test_the_users_choice_stays(terminal):
    written = terminal("ascii", "replace")
    print("✓", end="")
    assert written.getvalue() == b"?"


@pytest.mark.parametrize("other", [io.StringIO(), object(), None])
def test_another_object_may_be_standard_output(monkeypatch, other):
    monkeypatch.setattr(sys, "stdout", other)
    tolerate_encoding()


@pytest.mark.parametrize("kind", ["text", "csv"])
def test_predictions_on_an_ascii_terminal(terminal, kind):
    written = terminal("ascii", "strict")
    predict._write([prediction("caf\udcc3\udca9.png")], kind, 1, sys.stdout)
    last = written.getvalue().splitlines()[-1]
    assert last.startswith("café.png".encode())  # the bytes of the file name
    assert rb"caf\xe9" in last


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_files_of_predictions_are_utf_8_in_every_locale(tmp_path, monkeypatch, encoding):
    monkeypatch.setattr(os, "fsencode", lambda path: path.encode(encoding, "surrogateescape"))
    path = "café.png".encode().decode(encoding, "surrogateescape")
    with predict._opened(tmp_path / "out.csv") as file:
        predict._write([prediction(path)], "csv", 1, file)
    assert (tmp_path / "out.csv").read_bytes().splitlines()[-1] == "café.png,café,0.5,".encode()


def test_in_a_locale_that_is_not_utf_8(tmp_path):
    """A folder has the classes, names and fingerprint that it has in UTF-8, and a command prints what it has to."""
    for name in ("cafe\u0301", "日本"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "ü.png").touch()
    code = f"""if True:
        import experiments
        from inception_jax.data.sources import open_source
        source = open_source("folder", "train", {str(tmp_path)!r})
        print([ascii((source.class_names, source.name(0), source.file_name(1), source.fingerprint))])
        print(source.encoded(1)[1], chr(0x2713))"""
    outputs = {}
    for mode in ("0", "1"):
        environment = os.environ | {
            "PYTHONUTF8": mode,
            "PYTHONCOERCECLOCALE": "0",
            "LC_ALL": "C",
            "PYTHONIOENCODING": "",
        }
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False
        )
        assert result.returncode == 0, result.stderr
        outputs[mode] = result.stdout.splitlines()
    assert outputs["0"][0] == outputs["1"][0]
    assert rb"caf\\xe9" in outputs["0"][0]
    assert outputs["0"][1:] == [rb"1 \u2713"]
    assert outputs["1"][1:] == ["1 ✓".encode()]

"""The command that classifies images; the predictions themselves are tested in tests/evaluation/test_predict.py."""

import csv
import functools
import io
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from experiments import predict
from inception_jax.evaluation import predict as library
from inception_jax.report import pictures
from inception_jax.runs.classifier import Classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images of 18 x 18, whose evaluation crop is the inner 16 x 16."""
    folder = tmp_path_factory.mktemp("images")
    for name, image in zip("abc", np.random.default_rng(0).integers(0, 256, (3, 18, 18, 3), np.uint8), strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def damaged(folder, tmp_path):
    """A torn file."""
    file = tmp_path / "torn.png"
    file.write_bytes((folder / "a.png").read_bytes()[:500])
    return str(file)


@pytest.fixture
def command(on_trained):
    return functools.partial(on_trained, predict.main)


@pytest.fixture
def rows(command):
    """Runs the command; returns the objects that it writes."""

    def run(*arguments, **options):
        _, out, err = command("--format=jsonl", *arguments, **options)
        assert out, err
        return [json.loads(line) for line in out.splitlines()]

    return run


@pytest.fixture
def standard_input():
    """The end to write to of a pipe that is standard input."""
    before, (reading, writing) = os.dup(0), os.pipe()
    os.dup2(reading, 0)
    with open(writing, "wb", buffering=0) as pipe:
        yield pipe
    os.dup2(before, 0)
    for number in (before, reading):
        os.close(number)


def paths(rows):
    return [row["path"] for row in rows]


def test_a_damaged_file_among_good_ones_in_every_format(command, rows, folder, damaged, tmp_path):
    arguments = (folder / "a.png", damaged, folder / "[b-z].png")
    expected = rows(*arguments)
    assert paths(expected) == [str(folder / "a.png"), damaged, *(str(folder / f"{name}.png") for name in "bc")]
    assert expected[1] == {"path": damaged, "error": "image file is truncated"}
    assert {len(row["predictions"]) for row in expected if "predictions" in row} == {3}
    assert sorted((p["index"], p["class"]) for p in expected[0]["predictions"]) == [
        (0, "blue"),
        (1, "green"),
        (2, "red"),
    ]
    assert abs(sum(p["probability"] for p in expected[0]["predictions"]) - 1) < 1e-6

    status, out, err = command("--format=json", *arguments)
    assert (status, err) == (1, "4 images, 1 of them could not be read\n")
    assert json.loads(out) == expected

    file = tmp_path / "out.CSV"
    assert command(f"--out={file}", *arguments) == (1, "", err)
    header, *lines = csv.reader(io.StringIO(file.read_text()))
    assert header == ["path", *(f"{c}_{i}" for i in (1, 2, 3) for c in ("class", "probability")), "error"]
    for line, row in zip(lines, expected, strict=True):
        best = [text for p in row.get("predictions", ()) for text in (p["class"], str(p["probability"]))]
        assert line == [row["path"], *(best or [""] * 6), row.get("error", "")]

    status, out, _ = command("--top-k=2", *arguments)
    best = [[f"{p['class']} {p['probability']:.2%}" for p in row.get("predictions", ())[:2]] for row in expected]
    texts = [", ".join(each) or "error: image file is truncated" for each in best]
    assert out.splitlines() == [f"{row['path']}: {text}" for row, text in zip(expected, texts, strict=True)]


def test_the_features_of_images_that_were_read(rows, folder, damaged, tmp_path, trained):
    file = tmp_path / "features.npz"
    result = rows("--batch-size=2", "--features=pool", f"--features-out={file}", damaged, folder)
    with np.load(file) as arrays:
        assert arrays["paths"].tolist() == paths(result)[1:]
        assert (arrays["features"].shape, arrays["features"].dtype) == ((3, 1, 1, 8), np.float32)
        assert len(np.unique(arrays["features"], axis=0)) == 3
    rows("--features=pool", f"--features-out={file}", damaged)
    with np.load(file) as arrays:
        assert (len(arrays["paths"]), len(arrays["features"])) == (0, 0)


def test_names_that_are_no_text_are_written_as_they_are(command, tmp_path):
    out = tmp_path / "out.txt"
    assert command(f"--out={out}", "\udcff.png")[0] == 1
    assert out.read_bytes() == b"\xff.png: error: no such file or folder\n"


def test_a_prediction_is_written_before_the_next_path_comes(command, folder, tmp_path, standard_input):
    out, lines = tmp_path / "out.jsonl", []
    os.mkfifo(out)

    def answer():
        with open(out, encoding="utf-8") as reading:
            lines.append(reading.readline())
            for name in ("c.png", "a[1-9].png", "", "\udcff.png"):
                standard_input.write(os.fsencode(folder / name) + b"\n\n")
                lines.append(reading.readline())
            standard_input.close()
            lines.extend(reading)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    watchdog = threading.Timer(120, standard_input.close)  # without which a failure would wait for ever
    watchdog.start()
    status, _, err = command("--batch-size=3", f"--out={out}", folder / "a.png", "-")
    watchdog.cancel()
    thread.join(timeout=120)
    result = [json.loads(line) for line in lines]
    names = ("a.png", "c.png", "a[1-9].png", "a.png", "b.png", "c.png", "\udcff.png")
    assert paths(result) == [str(folder / name) for name in names]
    assert ["error" in row for row in result] == [False, False, True, False, False, False, True]  # no patterns
    assert (status, err) == (1, "7 images, 2 of them could not be read\n")


def test_an_exported_file_and_ties(command, rows, classifier_file, folder, tmp_path):
    assert rows(folder, workdir=classifier_file) == rows(folder)
    with np.load(classifier_file) as arrays:
        even = {
            name: array * ("top/classifier" not in name) if name != "metadata" else array
            for name, array in arrays.items()
        }
    np.savez(tmp_path / "even.npz", **even)
    status, out, _ = command(folder / "a.png", workdir=tmp_path / "even.npz")
    assert (status, out) == (0, f"{folder / 'a.png'}: blue 33.33%, green 33.33%, red 33.33%\n")


@pytest.fixture
def classifier_file(trained, tmp_path):
    from inception_jax import load

    load(trained).save(tmp_path / "weights.npz")
    return tmp_path / "weights.npz"


def test_the_contact_sheet(command, folder, damaged, tmp_path, monkeypatch):
    captions = []
    draw = pictures.contact_sheet
    monkeypatch.setattr(
        pictures, "contact_sheet", lambda shown: captions.extend(p.caption for p in shown) or draw(shown)
    )
    monkeypatch.setattr(predict, "_PICTURES", 2)
    file = tmp_path / "sheet.png"
    _, out, _ = command(f"--contact-sheet={file}", "--format=json", damaged, folder)
    sheet = np.asarray(Image.open(file))
    assert sheet.shape == (158, 2 * 136 + 8, 3)
    for i, name in enumerate("ab"):
        x = 8 + i * 136
        image = np.asarray(Image.open(folder / f"{name}.png"))
        np.testing.assert_array_equal(sheet[8:136:8, x : x + 128 : 8], image[1:17, 1:17])
    best = [row["predictions"][0] for row in json.loads(out)[1:3]]
    assert captions == [f"{p['class']} {p['probability']:.0%}" for p in best]

    file = tmp_path / "none.png"
    status, _, err = command(f"--contact-sheet={file}", damaged)
    assert (status, err.splitlines()[0]) == (1, f"{file} is not written: no image could be read")


def test_invalid_input_is_one_line_and_touches_nothing(command, folder, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("kept")
    image = folder / "a.png"
    nowhere = tmp_path / "nowhere"
    for arguments, message in (
        ((), "the following arguments are required: PATH"),
        ((image, f"--out={nowhere}.tsv"), "does not end in .txt, .csv, .json, .jsonl: give --format"),
        ((image, "--features=pool"), "--features=END_POINT and --features-out=FILE.npz need each other"),
        ((image, "--features=pool", "--features-out=pool.npy"), "pool.npy must end in .npz"),
        ((image, "--contact-sheet=sheet.jpg"), "sheet.jpg must end in .png"),
        ((image, "--batch-size=0"), "argument --batch-size: 0 must be a whole number, 1 or more"),
        ((image, f"--out={nowhere}/x.csv"), f"{nowhere}/x.csv cannot be written"),
        ((image, "--format=csv", f"--out={tmp_path}"), f"{tmp_path} cannot be written"),
        ((image, "--checkpoint=3"), "--checkpoint='3' is not in "),
        (
            (image, f"--out={out}", "--features=pool5", f"--features-out={nowhere}.npz"),
            "--features='pool5' is not one of stem, body, pool, top",
        ),
    ):
        status, printed, err = command(*arguments)
        assert (status, printed) == (2, ""), arguments
        assert err.startswith("error: ")
        assert message in err.splitlines()[0]
    status, _, err = command(image, f"--out={out}", workdir=nowhere)
    assert (status, err) == (2, f"error: {nowhere} does not exist\n")
    assert out.read_text() == "kept"
    assert not nowhere.with_suffix(".npz").exists()


def test_what_was_stopped_leaves_whole_json(command, folder, monkeypatch):
    run, calls = Classifier.run, []

    def stopped(self, crops, *names):
        calls.append(crops)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(self, crops, *names)

    monkeypatch.setattr(Classifier, "run", stopped)
    monkeypatch.setattr(library, "_PATIENCE", 60)
    status, out, err = command("--format=json", "--batch-size=2", folder)
    assert (status, err) == (130, "stopped by SIGINT\n")
    assert paths(json.loads(out)) == [str(folder / name) for name in ("a.png", "b.png")]


def test_a_closed_pipe_ends_it(command, folder, monkeypatch):
    for kind in ("text", "csv", "json"):
        reading, writing = os.pipe()
        os.close(reading)
        with monkeypatch.context() as patch, open(writing, "w", encoding="utf-8") as pipe:
            patch.setattr(sys, "stdout", pipe)
            status, _, err = command(f"--format={kind}", folder)
            pipe.flush()  # as at Python's end
        assert (status, err) == (141, ""), kind


def test_help_does_not_wait_for_jax():
    code = """if True:
        import sys
        from experiments import evaluate, export_weights, predict
        for command in (evaluate, export_weights, predict):
            try:
                command.main(["--help"])
            except SystemExit as exit:
                assert exit.code == 0
        assert "jax" not in sys.modules"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    for option in ("--features-out", "--protocol", "--out OUT"):
        assert option in result.stdout

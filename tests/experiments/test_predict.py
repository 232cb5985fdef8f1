"""The command that classifies images."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from experiments import predict
from inception_jax import models
from inception_jax.evaluation.classifier import Classifier
from inception_jax.training import loop, pictures
from inception_jax.training.weights import export_weights

CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def workdir(tiny_config, directory):
    """A run of four steps, with a checkpoint and moving averages after each second; trained once."""
    if not (directory / "run").exists():
        tiny_config.train.steps = 4
        tiny_config.eval.every = tiny_config.checkpoint.every = "2 steps"
        loop.train_and_evaluate(tiny_config, str(directory / "run"))
    return directory / "run"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Seven images of 18 x 18, of which the evaluation crop is the inner 16 x 16: their pixels, by path in order."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "b" / "deep").mkdir(parents=True)
    names = ("B.PNG", "a.png", "a[1].png", "a1.png", "b/c.png", "b/deep/d.png", "z.png")
    rng = np.random.default_rng(0)
    pixels = {str(folder / name): rng.integers(0, 256, (18, 18, 3), np.uint8) for name in names}
    for path, image in pixels.items():
        Image.fromarray(image).save(path)
    (folder / "none").mkdir()
    (folder / ".git").mkdir()
    for hidden in (".hidden.png", ".git/e.png", "notes.txt"):
        (folder / hidden).write_bytes((folder / "a.png").read_bytes())
    return folder, {path: pixels[path] for path in sorted(pixels)}


@pytest.fixture
def damaged(images, tmp_path):
    """A torn file."""
    file = tmp_path / "torn.png"
    file.write_bytes((images[0] / "a.png").read_bytes()[:500])
    return str(file)


@pytest.fixture
def command(workdir, capsys):
    """Runs the command; returns exit status, standard output and standard error."""

    def run(*arguments, workdir=workdir):
        try:
            status = predict.main([f"--workdir={workdir}", *map(str, arguments)])
        except SystemExit as exit:
            status = exit.code
        return status, *capsys.readouterr()

    return run


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


def probabilities(rows):
    """By class index."""
    return np.array([[p["probability"] for p in sorted(r["predictions"], key=lambda p: p["index"])] for r in rows])


def by_hand(workdir, pixels, step, part="average"):
    """Probabilities and end points of the images by the weights of a checkpoint."""
    state = ocp.StandardCheckpointer().restore((workdir / "checkpoints" / str(step) / "state").absolute())
    chosen = state[part] if part else state
    crops = (np.stack(list(pixels.values()))[:, 1:17, 1:17].astype(np.float32) - 128) / 64
    model = models.create_model("tiny", num_classes=3, norm="batch")
    logits, end_points = model.apply({name: chosen[name] for name in ("params", "batch_stats")}, crops)
    exponentials = np.exp(np.asarray(logits, np.float64))
    return exponentials / exponentials.sum(axis=1, keepdims=True), end_points


@pytest.mark.parametrize(
    ("options", "step", "part"),
    [
        ((), 4, "average"),
        (("--checkpoint=2", "--weights=raw"), 2, ""),
    ],
)
def test_predictions_are_those_of_the_checkpoint(rows, workdir, images, options, step, part):
    folder, pixels = images
    result = rows(*(options or ("--checkpoint=last",)), folder)
    expected, _ = by_hand(workdir, pixels, step, part)
    assert paths(result) == list(pixels)
    np.testing.assert_allclose(probabilities(result), expected, atol=1e-5)
    for row, of_image in zip(result, expected, strict=True):
        best = np.argsort(-of_image)
        assert [(p["index"], p["class"]) for p in row["predictions"]] == [(i, CLASSES[i]) for i in best]


def test_the_features_are_of_the_same_pass(rows, workdir, images, damaged, tmp_path, monkeypatch):
    seen = []
    run = Classifier.run
    monkeypatch.setattr(
        Classifier, "run", lambda self, crops, *names: seen.append(len(crops)) or run(self, crops, *names)
    )
    monkeypatch.setattr(predict, "_PATIENCE", 60)
    folder, pixels = images
    file = tmp_path / "features.npz"
    options = ("--checkpoint=last", "--batch-size=3")
    result = rows(*options, "--features=pool", f"--features-out={file}", damaged, folder)
    assert seen == [3, 3, 3]  # of 2 readable ones, 3 and 2
    expected, end_points = by_hand(workdir, pixels, 4)
    np.testing.assert_allclose(probabilities(result[1:]), expected, atol=1e-5)
    with np.load(file) as arrays:
        assert arrays["paths"].tolist() == list(pixels)
        assert arrays["features"].dtype == np.float32
        np.testing.assert_allclose(arrays["features"], end_points["pool"], atol=1e-5)


def test_files_folders_and_patterns(rows, images, tmp_path, monkeypatch):
    folder, pixels = images
    a, a1, b, inner = (str(folder / name) for name in ("a.png", "a1.png", "b", "b/c.png"))
    monkeypatch.chdir(tmp_path)
    arguments = {
        inner: [inner],
        a: [a],
        b: [inner, str(folder / "b/deep/d.png")],
        folder / "a[1].png": [str(folder / "a[1].png")],  # there is such a file
        folder / "a[1-9].png": [a1],
        folder / "**/*.png": [path for path in pixels if path.endswith(".png")],
        folder / "**": list(pixels),
        folder / "?": [inner, str(folder / "b/deep/d.png")],
        folder / "none": [str(folder / "none")],
        folder / "*.txt": [str(folder / "*.txt")],
        "nowhere.png": ["nowhere.png"],
    }
    result = rows(*arguments)
    assert paths(result) == [path for expected in arguments.values() for path in expected]
    assert [(row["path"], row["error"]) for row in result if "error" in row] == [
        (str(folder / "none"), "no images in this folder"),
        (str(folder / "*.txt"), "no images match this pattern"),
        ("nowhere.png", "there is no such file or folder"),
    ]


def test_a_folder_that_cannot_be_read_is_told(rows, images, monkeypatch):
    folder, pixels = images
    scandir = os.scandir

    def forbidden(path):
        if str(path) == str(folder / "b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    result = rows(folder)
    assert [row for row in result if "error" in row] == [{"path": str(folder / "b"), "error": "Permission denied"}]
    assert len(result) == len(pixels) - 2 + 1


def test_names_that_are_no_text_are_written_as_they_are(command, tmp_path):
    out = tmp_path / "out.txt"
    assert command(f"--out={out}", "\udcff.png")[0] == 1
    assert out.read_bytes() == b"\xff.png: error: there is no such file or folder\n"


def test_a_prediction_appears_before_the_next_path_comes(command, images, tmp_path, standard_input):
    folder, _ = images
    out = tmp_path / "out.jsonl"
    waits = []

    def write():
        for number, name in enumerate(("z.png", "a[1-9].png", "b/deep", "\udcff.png"), start=2):
            standard_input.write(os.fsencode(folder / name) + b"\n\n")
            before = time.monotonic()
            while time.monotonic() < before + 20 and not (out.exists() and out.read_text().count("\n") == number):
                time.sleep(0.02)
            waits.append(time.monotonic() - before)
        standard_input.close()

    thread = threading.Thread(target=write)
    thread.start()
    status, _, err = command(f"--out={out}", folder / "a.png", "-")
    thread.join()
    assert max(waits) < 20
    result = [json.loads(line) for line in out.read_text().splitlines()]
    names = ("a.png", "z.png", "a[1-9].png", "b/deep/d.png", "\udcff.png")
    assert paths(result) == [str(folder / name) for name in names]
    assert ["error" in row for row in result] == [False, False, True, False, True]  # no patterns
    assert (status, err) == (1, "5 images, 2 of them could not be read\n")


def test_a_damaged_file_among_good_ones_in_every_format(command, rows, images, damaged, tmp_path):
    arguments = (images[0] / "a.png", damaged, images[0] / "z.png")
    expected = rows(*arguments)
    assert paths(expected) == list(map(str, arguments))
    assert expected[1] == {"path": damaged, "error": "image file is truncated"}

    status, out, err = command("--format=json", *arguments)
    assert (status, err) == (1, "3 images, 1 of them could not be read\n")
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
    first, torn, last = out.splitlines()
    assert (first, last) == (f"{arguments[0]}: {', '.join(best[0])}", f"{arguments[2]}: {', '.join(best[2])}")
    assert torn == f"{damaged}: error: image file is truncated"


def test_an_exported_file_and_ties(command, rows, workdir, images, tmp_path):
    file = tmp_path / "weights.npz"
    export_weights(workdir / "checkpoints" / "4", file)
    expected = rows("--checkpoint=last", images[0])
    assert rows(images[0], workdir=file) == expected

    with np.load(file) as arrays:
        even = {
            name: array * ("top/classifier" not in name) if name != "facts" else array for name, array in arrays.items()
        }
    np.savez(file, **even)
    status, out, _ = command(images[0] / "a.png", workdir=file)
    assert (status, out) == (0, f"{images[0] / 'a.png'}: blue 33.33%, green 33.33%, red 33.33%\n")


def test_the_contact_sheet(command, images, damaged, tmp_path, monkeypatch):
    captions = []
    draw = pictures.contact_sheet
    monkeypatch.setattr(
        pictures, "contact_sheet", lambda shown: captions.extend(p.caption for p in shown) or draw(shown)
    )
    monkeypatch.setattr(predict, "_PICTURES", 5)
    folder, pixels = images
    file = tmp_path / "sheet.png"
    _, out, _ = command(f"--contact-sheet={file}", "--format=json", damaged, folder)
    sheet = np.asarray(Image.open(file))
    assert sheet.shape == (158, 5 * 136 + 8, 3)
    for i, image in enumerate(list(pixels.values())[:5]):
        x = 8 + i * 136
        np.testing.assert_array_equal(sheet[8:136:8, x : x + 128 : 8], image[1:17, 1:17])
    best = [row["predictions"][0] for row in json.loads(out)[1:6]]
    assert captions == [f"{p['class']} {p['probability']:.0%}" for p in best]

    file = tmp_path / "none.png"
    status, _, err = command(f"--contact-sheet={file}", damaged)
    assert (status, err.splitlines()[0]) == (1, f"{file} is not written: no image could be read")


def test_bad_input_is_one_line_and_touches_nothing(command, images, tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("kept")
    image = images[0] / "a.png"
    nowhere = tmp_path / "nowhere"
    for arguments, message in (
        ((), "no images: give files, folders, patterns, or - for paths on standard input"),
        ((image, f"--out={nowhere}.tsv"), "does not end in .txt, .csv, .json, .jsonl: give --format"),
        ((image, "--features=pool"), "--features=END_POINT and --features-out=FILE.npz need each other"),
        ((image, "--features=pool", "--features-out=pool.npy"), "pool.npy must end in .npz"),
        ((image, "--contact-sheet=sheet.jpg"), "sheet.jpg must end in .png"),
        ((image, "--batch-size=0"), "argument --batch-size: 0 is not 1 or more"),
        ((image, f"--out={nowhere}/x.csv"), f"{nowhere}/x.csv cannot be written"),
        ((image, "--format=csv", f"--out={tmp_path}"), f"{tmp_path} cannot be written"),
        ((image, "--checkpoint=3"), "has no checkpoint '3'; it has best, last, 2, 4"),
        (
            (image, f"--out={out}", "--features=pool5", f"--features-out={nowhere}.npz"),
            "--features='pool5' is not one of stem, body, pool, top",
        ),
    ):
        status, printed, err = command(*arguments)
        assert (status, printed) == (2, ""), arguments
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert message in err
    status, _, err = command(image, f"--out={out}", workdir=nowhere)
    assert (status, err) == (2, f"error: there is no {nowhere}\n")
    assert out.read_text() == "kept"
    assert not nowhere.with_suffix(".npz").exists()


def test_what_was_stopped_leaves_whole_json(command, images, monkeypatch):
    run, calls = Classifier.run, []

    def stopped(self, crops, *names):
        calls.append(crops)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(self, crops, *names)

    monkeypatch.setattr(Classifier, "run", stopped)
    monkeypatch.setattr(predict, "_PATIENCE", 60)
    status, out, err = command("--format=json", "--batch-size=2", images[0])
    assert (status, err) == (130, "stopped\n")
    assert paths(json.loads(out)) == list(images[1])[:2]


@pytest.mark.parametrize("kind", ["text", "csv", "json"])
def test_a_closed_pipe_ends_it(command, images, monkeypatch, kind):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        status, _, err = command(f"--format={kind}", images[0])
        pipe.flush()  # as at Python's end
    assert (status, err) == (141, "")


def test_help_does_not_wait_for_jax():
    code = """if True:
        import sys
        from experiments import predict
        try:
            predict.main(["--help"])
        finally:
            assert "jax" not in sys.modules"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "--features-out" in result.stdout

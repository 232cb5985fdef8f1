"""The page to play with: what it shows, and in a browser. Skipped there without Chromium or Gradio."""

import base64
import contextlib
import dataclasses
import importlib.util
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import inception_jax
from experiments.demo import __main__ as command
from experiments.demo.explorer import Explorer
from inception_jax.data import drawing
from inception_jax.data.decoding import DamagedImage
from inception_jax.errors import UserError
from inception_jax.explain import METHODS, Unit, make_explainer
from inception_jax.report.heatmaps import picture

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def explorer(trained):
    return Explorer(inception_jax.load(trained))


@pytest.fixture
def crop():
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


def test_an_image_is_classified_as_by_the_library(explorer, image_folder):
    file = image_folder / "val" / "red" / "0.png"
    expected = explorer.classifier.predict(file, batch_size=1)[0]
    found = explorer.probabilities(explorer.read(str(file), "0.png"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert list(explorer.top(found)) == [explorer.classifier.class_names[k] for k in (-expected).argsort()]


def test_explains_as_the_library_does(explorer, crop):
    for method in ("gradcam", "guided", "integrated"):
        shown, line = explorer.explain(crop, method, "stem", 2)
        explainer = make_explainer(explorer.classifier, method, layer="stem" if method == "gradcam" else "")
        [one] = explainer(crop[None], [2])
        np.testing.assert_array_equal(shown[::24, ::24], picture(METHODS[method], one))
        assert line.startswith(f"red: score before the softmax {one.number:.4g}, explained by {method}")
        assert ("at stem" in line, "incomplete by" in line) == (method == "gradcam", method == "integrated")
    with pytest.raises(UserError, match="a class activation map needs a mean"):
        explorer.explain(crop, "cam", "stem")


def test_a_channel_is_explained_by_pixels(explorer, crop):
    unit = explorer.unit_at("body", 330, 200)
    assert unit == Unit("body", 5)
    shown, line = explorer.explain(crop, "gradcam", unit=unit)
    [one] = make_explainer(explorer.classifier, "guided", unit=unit)(crop[None])
    np.testing.assert_array_equal(shown[::24, ::24], picture(METHODS["guided"], one))
    assert line == f"body 5: largest output {one.number:.4g}, explained by guided"


def test_every_end_point_has_its_channels(explorer, crop):
    lines = [explorer.channels(crop, layer)[1] for layer in explorer.classifier.end_points]
    counts = [line[: line.index(",")] for line in lines]
    assert counts == [
        "stem: 4 channels of 8 x 8 values",
        "body: 8 channels of 8 x 8 values",
        "pool: 8 channels of one value",
        "top: 3 channels of one value",
    ]


def test_paint_counts_by_the_part_of_a_pixel_that_it_covers(explorer, crop):
    shown = explorer.enlarged(crop)
    assert shown.shape == (384, 384, 3)
    np.testing.assert_array_equal(explorer.shrunk(shown), crop)
    shown[24:48, 48:60] = 255  # half of pixel [1, 2]
    found = explorer.shrunk(shown)
    np.testing.assert_allclose(found[1, 2], (crop[1, 2].astype(float) + 255) / 2, atol=0.5)
    found[1, 2] = crop[1, 2]
    np.testing.assert_array_equal(found, crop)
    with pytest.raises(UserError, match="384 x 384"):
        explorer.shrunk(shown[1:])
    assert explorer.grey == "#808080"
    assert explorer.change(np.array([0.1, 0.9, 0]), np.array([0.5, 0.25, 0])) == "green: 90.00 %, painted 25.00 %"


def test_a_drawing_has_the_form_of_the_training_set(explorer, trained):
    picture = np.full((300, 300, 3), 255, np.uint8)
    assert explorer.draw(picture) is None
    picture[40:200, 50:60] = 0
    np.testing.assert_array_equal(explorer.draw(picture), explorer.classifier.crop(picture))
    fitted = Explorer(explorer.classifier, "digits").draw(picture)
    digit = drawing.as_digit(picture[:, :, 0] == 0)
    np.testing.assert_array_equal(fitted, explorer.classifier.crop(np.repeat(digit[:, :, None], 3, axis=2)))


def test_offers_what_the_network_takes(explorer):
    assert explorer.methods[0] == "gradcam"
    assert set(explorer.methods) == METHODS.keys()
    assert (explorer.grids, explorer.layer) == (("stem", "body"), "body")
    model = inception_jax.create_model("lenet5")  # tanh, and two dense layers behind its last grid
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 1), np.float32))
    old = explorer.classifier
    lenet = dataclasses.replace(
        old,
        name="lenet5",
        options={"name": "lenet5"},
        variables={**variables, "batch_stats": {}, "dataset_stats": {}},
        class_names=tuple("0123456789"),
        preprocessing=dataclasses.replace(old.preprocessing, channels=1),
        crop_config=dataclasses.replace(old.crop_config, size=32, resize=32),
    )
    assert METHODS.keys() - set(Explorer(lenet).methods) == {"deconvnet", "guided", "cam"}


def test_classes_of_one_name_differ_by_index(explorer, monkeypatch):
    monkeypatch.setitem(vars(explorer.classifier), "class_names", ("crane", "boat", "crane"))
    assert Explorer.classes.func(explorer) == ["crane (0)", "boat", "crane (2)"]


def test_what_is_no_image_is_one_line(explorer, tmp_path):
    Image.new("1", (8192, 8193)).save(tmp_path / "bomb.png")
    with pytest.raises(DamagedImage, match=r"^bomb.png: 8192 x 8193 pixels are more than 67,108,864$"):
        explorer.read(str(tmp_path / "bomb.png"), "bomb.png")
    with pytest.raises(DamagedImage, match="^the drawing: "):
        explorer.decoded(b"no image")


def test_a_missing_gradio_and_a_port_in_use_are_one_line(trained, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert command.main([f"--workdir={trained}"]) == 2
    assert capsys.readouterr().err == "error: gradio is not installed: pip install 'inception_jax[demo]'\n"
    with command._listen("127.0.0.1", 0) as used:
        port = used.getsockname()[1]
        with pytest.raises(UserError, match=r"^port=\d+ of 127.0.0.1 cannot be opened: Address already in use$"):
            command._listen("127.0.0.1", port)


# Runs the command as a process that can reach nothing but itself, and says if it tries to.
ALONE = """
import socket, sys

class Local(socket.socket):
    def connect(self, address):
        if self.family != socket.AF_UNIX and address[0] != "127.0.0.1":
            print("connects to", address, file=sys.stderr)
            raise OSError("no network")
        return super().connect(address)

socket.socket = Local
from inception_jax import models
from tests.conftest import tiny
models._MODELS["tiny"] = tiny
from experiments.demo.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def server(trained, browser):
    """The address of the page; at the end Ctrl-C, after which nothing but that was said."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("Gradio is not installed (the extra `demo`)")
    arguments = [sys.executable, "-c", ALONE, f"--workdir={trained}", "--port=0"]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = re.match(r"(http://127.0.0.1:\d+/) shows run/\d+; Ctrl-C ends it\n", process.stdout.readline())
            assert said, process.stderr.read()
            yield said[1]
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30) == ("", "stopped by SIGINT\n")
            assert process.returncode == 130
        finally:
            process.kill()


@contextlib.contextmanager
def opened(browser, server, width):
    """The page in a tab, which stays open; fails if it complained, asked for anything elsewhere, or is too wide."""
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)
    tab = browser.new_page(viewport={"width": width, "height": 900})
    complaints, elsewhere, own = [], [], (server, "data:", "blob:")
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    tab.on("response", lambda response: complaints.append(response.url) if response.status >= 400 else None)
    tab.on("request", lambda request: elsewhere.append(request.url) if not request.url.startswith(own) else None)
    tab.goto(server)
    yield tab
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    assert elsewhere == []


def test_the_page(server, browser, explorer, image_folder, tmp_path):
    from playwright.sync_api import expect

    with opened(browser, server, 1280) as tab:
        canvas = tab.locator("canvas")

        # A file that is no image, and then one that is.
        (tmp_path / "<b>notes.txt").write_text("no image", encoding="utf-8")
        tab.set_input_files("input[type=file]", tmp_path / "<b>notes.txt")
        expect(tab.locator("#wrong")).to_contain_text("notes.txt: not an image in any of the formats JPEG")
        tab.locator("button[aria-label=Clear]").click()
        expect(tab.locator("#wrong")).to_have_text("")
        file = image_folder / "val" / "red" / "0.png"
        tab.set_input_files("input[type=file]", file)
        expect(tab.locator("#channels img")).to_be_visible()
        before = explorer.probabilities(explorer.read(str(file), ""))
        best = explorer.classes[before.argmax()]
        expect(tab.locator("#classes h2")).to_have_text(best)
        assert tab.evaluate("document.querySelector('#picture img').naturalWidth") == 384
        expect(tab.locator("#explanation")).to_contain_text(f"{best}: score before the softmax")

        # Paint changes the score of what is seen, and only where it is.
        box = canvas.nth(1).bounding_box()
        tab.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
        tab.mouse.down()
        tab.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.7 * box["height"], steps=3)
        tab.mouse.up()
        expect(tab.locator("#painted")).to_contain_text("painted")
        seen = tab.evaluate("document.querySelectorAll('canvas')[1].toDataURL().split(',')[1]")
        covered = explorer.shrunk(explorer.decoded(base64.b64decode(seen)))
        assert covered[8, 4].tolist() == [128, 128, 128]
        np.testing.assert_array_equal(covered[:, 7:], explorer.read(str(file), "")[:, 7:])
        expected = explorer.change(before, explorer.probabilities(covered))
        expect(tab.locator("#painted")).to_have_text(expected)

        # A drawing, and a channel.
        shown = tab.locator("#channels img").get_attribute("src")
        canvas.first.click()
        expect(tab.locator("#painted")).to_have_text("")
        expect(tab.locator("#channels img")).not_to_have_attribute("src", shown)
        tab.locator("#channels img").click(position={"x": 120, "y": 120})
        expect(tab.locator("#explanation")).to_contain_text("stem 0: largest output")


def test_a_phone(server, browser, explorer, image_folder):
    from playwright.sync_api import expect

    file = image_folder / "val" / "blue" / "0.png"
    with opened(browser, server, 390) as tab:
        tab.set_input_files("input[type=file]", file)
        expect(tab.locator("#picture img")).to_be_visible()
        best = explorer.classes[explorer.probabilities(explorer.read(str(file), "")).argmax()]
        expect(tab.locator("#classes h2")).to_have_text(best)

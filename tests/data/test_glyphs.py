import io
import itertools
import os
import pickle
import subprocess
import sys
import unicodedata
from collections import Counter

import matplotlib
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from inception_jax.data import glyph_images, glyphs
from inception_jax.data.glyph_images import CLASSES, DIFFICULTIES, FONTS, SPLITS, draw, encoded_images, label
from inception_jax.data.glyphs import Glyphs, GlyphsConfig, prepared_glyphs
from inception_jax.data.sources import open_source
from inception_jax.errors import UserError

TTF = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
TINY = "glyphs/train=120,test=9"


@pytest.fixture(scope="module")
def tiny_dir(tmp_path_factory):
    data_dir = str(tmp_path_factory.mktemp("glyphs"))
    prepared_glyphs("train=120,test=9", data_dir)
    return data_dir


def image(*arguments):
    return draw(*arguments).pixels


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)))


class TestClasses:
    def test_are_a_hundred_different_characters(self):
        assert len(CLASSES) == len(set(CLASSES)) >= 100
        for character in CLASSES:
            assert character.isprintable()
            assert not character.isspace()
            assert unicodedata.name(character)
        assert len(set(unicodedata.normalize("NFKD", CLASSES))) == len(CLASSES)

    def test_of_those_that_look_alike_there_is_one_at_most(self):
        # fmt: off
        groups = [
            "0OoQDΘθОоΟο", "1Il|/!İı", "cCСсϹ⊂", "kKКκΚ", "pPРрΡρ", "sS5", "uU∪", "vV√ν", "wW", "xX×Хχ", "zZ", "yYУγΥ",
            "AΑАΛ", "BВΒ8", "EΕЕ∃3Є", "HНΗП", "MМΜ", "NИΝ", "TТΤ⊤", "RЯ", "ΦФφ", "ΣS∑", "⊕⊗", "L∟∠", "aα", "ЉЊ", "ШЩ",
        ]
        # fmt: on
        for group in groups:
            assert sum(character in CLASSES for character in group) <= 1, group

    def test_every_font_has_them_all(self):
        for font in FONTS:
            path = os.path.join(TTF, f"{font}.ttf")
            missing = glyph_images._glyph(path, "\uffff", 24).tobytes()  # no character: the font's box
            drawn = {glyph_images._glyph(path, character, 24).tobytes() for character in CLASSES}
            assert missing not in drawn, font
            assert len(drawn) == len(CLASSES), font

    def test_drawn_glyphs_have_the_side_asked_for(self):
        for character in "Ш=‡":  # square, wide, high
            glyph = glyph_images._glyph(os.path.join(TTF, "DejaVuSans.ttf"), character, 24)
            assert max(glyph.size) == 26  # and a border of one pixel, so that edges are smooth when it is turned
            pixels = np.asarray(glyph)
            assert pixels.max() == 255
            assert pixels[[0, -1]].max() == pixels[:, [0, -1]].max() == 0


class TestImages:
    def test_shape_and_type(self):
        for size, difficulty in itertools.product((32, 47, 96), DIFFICULTIES):
            pixels = np.stack([image(TTF, "train", index, size, difficulty) for index in range(8)])
            assert pixels.shape == (8, size, size, 3)
            assert pixels.dtype == np.uint8
            assert pixels.std(axis=(1, 2)).min() > 3, (size, difficulty)  # no flat channel

    def test_function_of_its_arguments_only(self):
        forward = [image(TTF, "test", index, 32, 2) for index in range(10)]
        backward = [image(TTF, "test", index, 32, 2) for index in reversed(range(10))]
        np.testing.assert_array_equal(forward, backward[::-1])

    def test_each_argument_changes_it(self):
        images = [image(TTF, split, index, 32, level) for split in SPLITS for index in (0, 1) for level in DIFFICULTIES]
        assert len({pixels.tobytes() for pixels in images}) == len(images) == 20

    def test_no_image_is_in_both_splits(self):
        train, test = ({image(TTF, split, index, 32, 1).tobytes() for index in range(300)} for split in SPLITS)
        assert len(train) == len(test) == 300
        assert not train & test

    def test_a_hundredfold_bigger_split_begins_alike(self):
        few, many = (encoded_images(TTF, "train", count, 32, 2, 1) for count in (3, 300))
        assert list(few) == [next(many) for _ in range(3)]

    def test_any_number_of_workers_draws_the_same(self):
        images = list(encoded_images(TTF, "train", 40, 32, 2, 3, 5))
        assert images == list(encoded_images(TTF, "train", 40, 32, 2, 1, 5))
        assert len(images) == 40
        drawn = draw(TTF, "train", 17, 32, 2, 5)
        np.testing.assert_array_equal(decoded(images[17][0]), drawn.pixels)
        assert images[17][1] == drawn.box

    def test_workers_end_with_the_reader(self, monkeypatch):
        started = []

        class Popen(subprocess.Popen):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                started.append(self)

        monkeypatch.setattr(subprocess, "Popen", Popen)
        images = encoded_images(TTF, "train", 10**9, 32, 2, 2)
        next(images)
        assert [worker.poll() for worker in started] == [None, None]
        images.close()
        assert [worker.poll() for worker in started] == [-9, -9]

    def test_a_worker_that_fails_is_noticed(self, monkeypatch):
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(RuntimeError, match="the process that draws image 0 of 'train' has ended"):
            list(encoded_images(TTF, "train", 10, 32, 2, 2))

    def test_workers_import_little(self):
        code = f"""
import runpy, sys
runpy.run_path({glyph_images.__file__!r})
print({{"inception_jax", "jax", "matplotlib", "tensorflow_datasets"}} & set(sys.modules))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "set()\n", done.stderr


def luminance(pixels):
    return pixels @ np.array([0.299, 0.587, 0.114])


class TestDrawing:
    def test_ink_is_darker_than_paper_in_difficulty_0(self):
        """The character covers less than half of its image."""

        def dark(difficulty):
            images = [luminance(image(TTF, "train", index, 32, difficulty)) for index in range(20)]
            return [np.median(one) - one.min() > one.max() - np.median(one) for one in images]

        assert all(dark(0))
        assert not all(dark(1))

    GLYPH = Image.new("L", (20, 12), 255)

    def test_the_whole_glyph_is_inside(self):
        for difficulty, level in DIFFICULTIES.items():
            rng = np.random.default_rng(0)
            for _ in range(200):
                extent = rng.uniform(0.4, 0.95)
                drawn = glyph_images._distorted(self.GLYPH, 64, extent, level, rng)
                left, top, right, bottom = drawn.getbbox(alpha_only=False)
                # The box of the distorted glyph is as large as asked for, and therefore within the image.
                assert max(right - left, bottom - top) == pytest.approx(64 * extent, abs=2), difficulty

    def test_undistorted(self):
        still = DIFFICULTIES[1]._replace(rotation=0, shear=0, stretch=1)
        drawn = glyph_images._distorted(self.GLYPH, 64, 40 / 64, still, np.random.default_rng(0), (30, 34))
        # Twice as large, around x = 30 and y = 34.
        assert drawn.getbbox() == (10, 22, 50, 46)

    def test_ranges_are_reached_and_kept(self):
        bar, still = Image.new("L", (60, 20), 255), DIFFICULTIES[1]._replace(rotation=0, shear=0, stretch=1)
        for ranges, limit, measure in (
            ({"rotation": 20}, 20, lambda xx, xy, yy: np.degrees(np.arctan2(2 * xy, xx - yy)) / 2),  # of the long axis
            ({"shear": 0.4}, 0.4, lambda xx, xy, yy: xy / yy),
            ({"stretch": 1.6}, np.log(1.6), lambda xx, xy, yy: np.log(xx / yy) / 2 - np.log(60 / 20)),
        ):
            rng, measured = np.random.default_rng(1), []
            for _ in range(200):
                drawn = np.asarray(glyph_images._distorted(bar, 120, 0.8, still._replace(**ranges), rng, (60, 60)))
                (xx, xy), (_, yy) = np.cov(*np.nonzero(drawn)[::-1], fweights=drawn[drawn > 0])
                measured.append(measure(xx, xy, yy))
            assert (min(measured), max(measured)) == pytest.approx((-limit, limit), rel=0.06), ranges

    def test_contrast_and_noise(self, monkeypatch):
        plain = DIFFICULTIES[1]._replace(contrast=110, gradient=0, clutter=0, blur=0, noise=0)
        noisy, images = plain._replace(noise=28), {}
        for level in (plain, noisy):
            monkeypatch.setitem(DIFFICULTIES, 1, level)
            images[level] = np.stack([image(TTF, "train", index, 32, 1) for index in range(60)]).astype(float)
        luma = images[plain] @ [0.299, 0.587, 0.114]
        contrasts = luma.max(axis=(1, 2)) - luma.min(axis=(1, 2))
        assert 108 < contrasts.min() < 125  # colours are rounded
        deviations = (images[noisy] - images[plain]).std(axis=(1, 2, 3))
        assert deviations.min() < 3
        assert 22 < deviations.max() < 29  # colours end at 0 and 255


class TestBoxes:
    def test_the_box_is_that_of_the_pixels_of_ink(self, monkeypatch):
        # Flat paper, nothing else, no blur and no noise: a pixel has the ink's colour, the paper's, or one between.
        plain = {"gradient": 0, "clutter": 0, "strokes": 0, "blur": 0, "noise": 0}
        for level, largest in ((3, 62), (4, 33)):
            monkeypatch.setitem(DIFFICULTIES, level, DIFFICULTIES[level]._replace(**plain))
            for index in range(20):
                pixels, (xmin, ymin, xmax, ymax) = draw(TTF, "test", index, 64, level)
                pixels = pixels.astype(int)
                distance = np.abs(pixels - pixels[0, 0]).sum(axis=-1)
                half = distance >= 0.5 * distance.max()
                rows, columns = (np.flatnonzero(half.any(axis=axis)) for axis in (1, 0))
                # Colours are rounded: one of half the ink may be on either side.
                found = np.array([columns[0], rows[0], columns[-1], rows[-1]])
                assert np.abs(found - (xmin, ymin, xmax, ymax)).max() <= 1, (level, index)
                assert max(xmax - xmin, ymax - ymin) < largest, (level, index)

    def test_of_the_half_of_what_is_covered_most(self):
        coverage = np.zeros((6, 8), np.uint8)
        coverage[1, 2], coverage[2, 3:6], coverage[4, 6] = 127, 255, 128
        assert glyph_images._box(coverage) == (3, 2, 6, 4)
        coverage[coverage > 127] = 0
        coverage[3, 5] = 63
        assert glyph_images._box(coverage) == (2, 1, 2, 1)

    def test_other_parts_of_glyphs_are_quarters_anywhere(self):
        glyph, rng = Image.new("L", (20, 12), 255), np.random.default_rng(0)
        assert {glyph_images._quarter(glyph, rng).size for _ in range(9)} == {(12, 8)}  # with a border of one pixel
        whole = Image.fromarray(np.arange(4, dtype=np.uint8)[:, None].repeat(2, 1) + 1)
        tops = {np.asarray(glyph_images._quarter(whole, rng))[1:-1].tobytes() for _ in range(99)}
        assert tops == {bytes([0, top, 0, 0, top + 1, 0]) for top in (1, 2, 3)}


class TestLabels:
    def test_each_class_equally_often(self):
        for split in SPLITS:
            block = len(CLASSES)
            labels = [label(split, index) for index in range(3 * block + 10)]
            for first in (0, block, 2 * block):
                assert sorted(labels[first : first + block]) == list(range(block))
            assert labels[:block] != labels[block : 2 * block]
            assert max(Counter(labels).values()) == 4
        assert [label("train", index) for index in range(10)] != [label("test", index) for index in range(10)]

    def test_fewer_classes_are_the_first(self):
        assert sorted(label("test", index, 5) for index in range(10, 15)) == list(range(5))
        few, all_of_them = (image(TTF, "test", 0, 32, 1, classes) for classes in (5, len(CLASSES)))
        assert (few != all_of_them).any()
        [(png, _)] = encoded_images(TTF, "test", 1, 32, 1, 1, 5)
        np.testing.assert_array_equal(decoded(png), few)


class TestSource:
    def test_counts_classes_and_images(self, tiny_dir):
        for split, count in (("train", 120), ("test", 9), ("train[:10]", 10)):
            source = open_source(TINY, split, tiny_dir)
            assert len(source) == count
            assert source.class_names == tuple(CLASSES)
            for index in (0, count - 1):
                pixels, of_class = source[index]
                np.testing.assert_array_equal(pixels, image(TTF, split[:5].rstrip("["), index, 32, 2))
                assert of_class == label(split[:5].rstrip("["), index)
        assert pickle.loads(pickle.dumps(source))[3][1] == source[3][1]
        assert source.name(3) == f"{TINY}/train[:10][3]"

    def test_boxes(self, tiny_dir):
        source = open_source(TINY, "train", tiny_dir)
        for index in range(len(source)):
            expected = np.array([draw(TTF, "train", index, 32, 2).box], np.float32)
            np.testing.assert_array_equal(source.boxes(index), expected)
            assert source.label(index) == label("train", index)
        assert source.boxes(0).dtype == np.float32
        with pytest.raises(IndexError):
            source.boxes(120)

    def test_those_without_boxes_are_written_again_or_taken_as_they_are(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Glyphs, "VERSION", tfds.core.Version("1.0.0"))
        generate = Glyphs._generate_examples

        def without_boxes(*arguments):
            for index, example in generate(*arguments):
                yield index, {"image": example["image"], "label": example["label"]}

        monkeypatch.setattr(Glyphs, "_generate_examples", without_boxes)
        prepared_glyphs("train=3,test=2", str(tmp_path))
        monkeypatch.undo()

        monkeypatch.setattr(glyphs.os, "access", lambda *_: False)
        old = open_source("glyphs/train=3,test=2", "train", str(tmp_path))
        with pytest.raises(UserError, match=r"glyphs/train=3,test=2/train has no boxes"):
            old.boxes(0)
        monkeypatch.undo()
        new = open_source("glyphs/train=3,test=2", "train", str(tmp_path))
        assert new.boxes(2).shape == (1, 4)
        for index in range(3):
            np.testing.assert_array_equal(new[index][0], old[index][0])

    def test_prepared_once(self, tiny_dir, monkeypatch):
        monkeypatch.delattr(glyph_images, "encoded_images")
        for same in ("train=120,test=9", "test=9,difficulty=2,size=32,train=120"):
            assert prepared_glyphs(same, tiny_dir).info.splits["test"].num_examples == 9

    def test_settings(self, tmp_path):
        source = open_source("glyphs/size=40,train=2,test=1,difficulty=3", "train", str(tmp_path))
        assert len(source) == 2
        np.testing.assert_array_equal(source[1][0], image(TTF, "train", 1, 40, 3))
        open_source("glyphs/size=40,train=2,test=1,difficulty=1", "train", str(tmp_path))
        names = {f"size=40,train=2,test=1,difficulty={level},classes=107" for level in (1, 3)}
        assert {path.name for path in (tmp_path / "glyphs").glob("size*")} == names

    def test_fewer_classes(self, tmp_path):
        source = open_source("glyphs/train=10,test=1,classes=4", "train", str(tmp_path))
        assert source.class_names == ("0", "2", "3", "4")
        for index in (0, 9):
            pixels, of_class = source[index]
            assert of_class == label("train", index, 4)
            np.testing.assert_array_equal(pixels, image(TTF, "train", index, 32, 2, 4))

    def test_defaults(self):
        assert GlyphsConfig.parse("").name == "size=32,train=20000,test=4000,difficulty=2,classes=107"
        assert GlyphsConfig.parse("classes=9,size=96").name == "size=96,train=20000,test=4000,difficulty=2,classes=9"

    def test_wrong_settings(self, tmp_path):
        for settings, message in (
            ("/colour=3", "have no setting 'colour=3'; they have size, train, test, difficulty, classes"),
            ("/48", "have no setting '48'"),
            (":1.0.0", "have no setting ':1.0.0'"),
            ("/size=31", "cannot have 'size=31': size is a whole number, 32 to 96"),
            ("/size=97", "cannot have 'size=97'"),
            ("/size=4e1", "cannot have 'size=4e1'"),
            ("/train=100,test=0", "cannot have 'test=0': test is a whole number, at least 1"),
            ("/train=-1", "cannot have 'train=-1'"),
            ("/difficulty", "cannot have 'difficulty': difficulty is a whole number, 0 to 4"),
            ("/difficulty=5", "cannot have 'difficulty=5'"),
            ("/classes=108", "cannot have 'classes=108': classes is a whole number, 2 to 107"),
            ("/size=32,size=48", "set twice in 'size=32,size=48'"),
        ):
            with pytest.raises(UserError, match=f"^the glyphs.* {message}"):
                open_source(f"glyphs{settings}", "train", str(tmp_path))
            assert not os.listdir(tmp_path)

    def test_nearest_name(self, tmp_path):
        for name in ("glyph", "glyphs_320"):
            with pytest.raises(UserError, match="did you mean glyphs"):
                open_source(name, "train", str(tmp_path))

    def test_other_programs_can_read_it(self, tiny_dir):
        builder = tfds.builder_from_directory(prepared_glyphs("train=120,test=9", tiny_dir).data_path)
        assert builder.info.features["label"].names == list(CLASSES)
        assert "synthetic" in builder.info.description.lower()
        assert len(builder.as_data_source("test")) == 9

    def test_a_worker_for_500_images_but_no_more_than_cores(self, tmp_path, monkeypatch):
        def encoded(fonts, split, count, size, difficulty, workers, classes):
            yield f"{count} {workers}".encode(), (0, 0, 31, 31)

        monkeypatch.setattr(glyph_images, "encoded_images", encoded)
        monkeypatch.setattr(glyphs, "available_cores", lambda: 3)
        seen = {}
        for count in (1, 999, 1000, 10**6):
            _, example = next(Glyphs(config=f"train={count}", data_dir=tmp_path)._generate_examples(TTF, "train"))
            seen[count] = example["image"].read()
        assert seen == {1: b"1 1", 999: b"999 1", 1000: b"1000 2", 10**6: b"1000000 3"}

    def test_two_processes_may_prepare_at_once(self, tmp_path, monkeypatch):
        generate = Glyphs._split_generators

        def overtaken(self, dl_manager):
            monkeypatch.undo()
            prepared_glyphs("train=2,test=3", str(tmp_path))
            return generate(self, dl_manager)

        monkeypatch.setattr(Glyphs, "_split_generators", overtaken)
        assert prepared_glyphs("train=2,test=3", str(tmp_path)).info.splits["test"].num_examples == 3
        assert Glyphs._split_generators is generate  # the other one did overtake

    def test_unwritable_data_dir(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"cannot write the glyphs; give another directory .*file"):
            open_source(TINY, "train", str(tmp_path / "file"))

    def test_full_disk(self, tmp_path, monkeypatch):
        def full(*args):
            raise RuntimeError("No space left on device")

        monkeypatch.setattr(glyph_images, "encoded_images", full)
        with pytest.raises(UserError, match=r"cannot write the glyphs; .*No space left"):
            open_source(TINY, "train", str(tmp_path))

import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import ExifTags, Image

from experiments import prepare
from inception_jax.data.digits import prepared_digits
from inception_jax.data.sources import open_source
from inception_jax.errors import UserError


def picture(width, height):
    """Smooth, with some texture, and no symmetry."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    channels = [x, y, 0.5 + 0.2 * np.sin(20 * x + 9 * y)]
    return Image.fromarray((255 * np.stack(channels, -1)).astype(np.uint8))


def encoded(image, file_format, **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


SIZES = [(61, 40), (40, 61), (33, 90), (32, 50), (20, 20)]  # of one class; the last two are not larger than 32


@pytest.fixture
def folder(tmp_path):
    """13 images for training and 5 for evaluation, of two classes."""
    for path, sizes in {
        "train/cat": SIZES,
        "train/dog": SIZES + SIZES[:3],
        "val/cat": SIZES[2:],
        "val/dog": SIZES[:2],
    }.items():
        (tmp_path / "images" / path).mkdir(parents=True)
        for i, size in enumerate(sizes):
            data = encoded(picture(*size), "JPEG", quality=95) if i % 2 else encoded(picture(*size), "PNG")
            (tmp_path / "images" / path / f"{i}.jpg").write_bytes(data)
    return tmp_path / "images"


def many(root, count):
    """An image folder of `count` tiny images for training."""
    for i in range(count):
        path = root / "train" / "ab"[i % 2] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(Image.new("RGB", (4, 5), (i, 0, 0)), "PNG"))
    return root


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command in this process; returns the exit status."""

    def start(*arguments):
        default = ["--short-side=32", "--processes=1", f"--out={tmp_path / 'out'}"]
        monkeypatch.setattr("sys.argv", ["prepare", *default, *arguments])
        return prepare.main()

    return start


def files(directory):
    """{name: content} of the shards."""
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*/1.0.0/*-of-?????"))}


class TestDataSet:
    def test_a_folder_is_read_by_its_new_name(self, folder, run, tmp_path, capsys):
        out, summary = tmp_path / "out", tmp_path / "summary.json"
        assert run("--name=folder", f"--dir={folder}", "--split=train", "--split=val", f"--json={summary}") == 0
        for split, count in (("train", 13), ("val", 5)):
            source = open_source("folder", split, str(folder))
            small = open_source("images_32", split, str(out))
            assert len(small) == len(source) == count
            assert small.class_names == ("cat", "dog")
            for i in range(count):
                (before, label), (after, small_label) = source[i], small[i]
                assert small_label == label
                height, width = before.shape[:2]
                if min(height, width) > 32:
                    size = (32, 32 * height // width) if width < height else (32 * width // height, 32)
                    expected = np.asarray(Image.fromarray(before).resize(size, Image.Resampling.LANCZOS), np.float32)
                    assert after.shape == expected.shape
                    assert np.abs(after - expected).mean() < 2
                else:
                    assert small.encoded(i)[0] == source.encoded(i)[0]
        first, second, hint = capsys.readouterr().out.splitlines()
        assert re.fullmatch(r"train: 13 images, 0.0 MB -> 0.0 MB in 8 files; 4 unchanged, 0 damaged", first)
        assert re.fullmatch(r"val: 5 images, .* in 5 files; 2 unchanged, 0 damaged", second)
        assert hint == f"train on it with --config.data.name=images_32 --config.data.dir={out}"
        splits = json.loads(summary.read_text())["splits"]
        of_val = [open_source("folder", "val", str(folder)).encoded(i)[0] for i in range(5)]
        assert splits["val"]["bytes_before"] == sum(map(len, of_val))
        of_val = [open_source("images_32", "val", str(out)).encoded(i)[0] for i in range(5)]
        assert splits["val"]["bytes_after"] == sum(map(len, of_val))

    def test_a_tfds_data_set(self, run, tmp_path):
        prepared_digits(str(tmp_path))
        (tmp_path / "out" / "tiny_digits" / "1.0.0").mkdir(parents=True)  # as a command killed at once leaves it
        assert run("--name=digits", f"--dir={tmp_path}", "--split=test", "--shards=3", "--out-name=tiny_digits") == 0
        source = open_source("digits", "test", str(tmp_path))
        small = open_source("tiny_digits", "test", str(tmp_path / "out"))
        assert len(files(tmp_path / "out")) == 3
        assert small.class_names == source.class_names
        assert [small.encoded(i) for i in range(len(small))] == [source.encoded(i) for i in range(360)]

    def test_records_are_read_one_by_one(self, folder, run, tmp_path):
        from array_record.python.array_record_module import ArrayRecordReader

        run("--name=folder", f"--dir={folder}", "--split=val")
        for path in (tmp_path / "out").glob("*/*/*.array_record-*"):
            assert "group_size:1," in ArrayRecordReader(str(path)).writer_options_string()

    def test_several_processes_write_the_same(self, folder, run, tmp_path):
        arguments = ["--name=folder", f"--dir={folder}", "--split=train", "--split=val"]
        assert run(*arguments) == 0
        assert run(*arguments, f"--out={tmp_path / 'other'}", "--processes=2") == 0
        assert len(files(tmp_path / "out")) == 13
        assert files(tmp_path / "out") == files(tmp_path / "other")


TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6


class TestSmallCopy:
    @pytest.mark.parametrize(
        "data",
        [
            encoded(picture(9, 8), "JPEG"),
            encoded(picture(9, 8).convert("L"), "JPEG"),
            encoded(picture(8, 900), "PNG"),
            encoded(picture(9, 8).convert("L"), "PNG"),
        ],
    )
    def test_not_larger_and_plain_is_untouched(self, data):
        assert prepare.small_copy(data, "x", 8, 95) is data

    @pytest.mark.parametrize(
        "data",
        [
            encoded(picture(9, 8), "JPEG", exif=TURNED),
            encoded(picture(9, 8), "PNG", exif=TURNED),
            encoded(picture(9, 8).convert("CMYK"), "JPEG"),
            encoded(picture(9, 8).convert("RGBA"), "PNG"),
            encoded(picture(9, 8).convert("P"), "GIF"),
            encoded(picture(9, 8), "WEBP"),
            encoded(Image.fromarray(np.arange(72, dtype=np.uint16).reshape(8, 9) * 900), "PNG"),
        ],
    )
    def test_not_larger_keeps_its_pixels(self, data):
        copy = prepare.small_copy(data, "x", 8, 95)
        with Image.open(io.BytesIO(copy)) as image:
            assert (image.format, image.mode, dict(image.getexif())) == ("PNG", "RGB", {})
            np.testing.assert_array_equal(np.asarray(image), prepare.decode_image(data, "x"))

    def test_larger_is_upright_jpeg_without_subsampling(self):
        large, turned = picture(90, 60), encoded(picture(90, 60), "PNG", exif=TURNED)
        with Image.open(io.BytesIO(prepare.small_copy(turned, "x", 40, 95))) as image:
            assert (image.format, image.size, dict(image.getexif())) == ("JPEG", (40, 60), {})
            assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
            expected = large.transpose(Image.Transpose.ROTATE_270).resize((40, 60), Image.Resampling.LANCZOS)
            assert np.abs(np.asarray(image, np.float32) - np.asarray(expected)).mean() < 2
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))
        with Image.open(io.BytesIO(prepare.small_copy(encoded(noise, "PNG"), "x", 40, 95))) as image:
            small = np.asarray(image, np.float32)
        by_filter = {kind: np.abs(small - np.asarray(noise.resize((60, 40), kind))).mean() for kind in Image.Resampling}
        assert min(by_filter, key=by_filter.get) == Image.Resampling.LANCZOS
        sizes = [len(prepare.small_copy(turned, "x", 40, quality)) for quality in (50, 80, 95)]
        assert sizes == sorted(set(sizes))


class TestResumption:
    def test_only_what_is_missing_is_written(self, folder, run, tmp_path):
        arguments = ["--name=folder", f"--dir={folder}", "--split=train", "--split=val"]
        run(*arguments)
        whole = files(tmp_path / "out")
        directory = tmp_path / "out" / "images_32" / "1.0.0"
        missing = directory / "images_32-train.array_record-00003-of-00008"
        missing.unlink()
        (directory / "dataset_info.json").unlink()
        inodes = {path: path.stat().st_ino for path in directory.glob("*.array_record-*")}
        assert run(*arguments) == 0
        assert files(tmp_path / "out") == whole
        assert {path: path.stat().st_ino for path in inodes} == inodes
        assert len(open_source("images_32", "train", str(tmp_path / "out"))) == 13

    def test_a_stopped_command_leaves_no_data_set_and_goes_on(self, folder, run, tmp_path, monkeypatch, capsys):
        arguments = ["--name=folder", f"--dir={folder}", "--split=train", "--split=val"]
        run(*arguments, f"--out={tmp_path / 'whole'}")
        names = []

        def interrupted(data, name, *options):
            if len(names) == 6:
                raise KeyboardInterrupt
            names.append(name)
            return copy(data, name, *options)

        copy = prepare.small_copy
        monkeypatch.setattr(prepare, "small_copy", interrupted)
        assert run(*arguments) == 130
        assert capsys.readouterr().err.splitlines()[-1] == "stopped; the same command resumes"
        directory = tmp_path / "out" / "images_32" / "1.0.0"
        finished = json.loads((directory / "prepare.json").read_text())["entries"]
        assert set(finished) <= set(files(tmp_path / "out"))
        assert sum(entry["images"] for entry in finished.values()) <= 6
        with pytest.raises(UserError, match="no dataset 'images_32'"):
            open_source("images_32", "train", str(tmp_path / "out"))

        monkeypatch.setattr(prepare, "small_copy", lambda *arguments: names.append("") or copy(*arguments))
        names.clear()
        (directory / "images_32-val.array_record-00000-of-00005.1.tmp").write_bytes(b"of a killed command")
        assert run(*arguments) == 0
        assert len(names) == 18 - sum(entry["images"] for entry in finished.values())
        assert files(tmp_path / "out") == files(tmp_path / "whole")
        left = {path.name for path in directory.iterdir()} - set(files(tmp_path / "out"))
        assert left == {"dataset_info.json", "features.json", "label.labels.txt", "prepare.json"}

    def test_a_data_set_that_lost_a_file_is_none_until_it_is_mended(self, folder, run, tmp_path, monkeypatch):
        arguments = ["--name=folder", f"--dir={folder}", "--split=val"]
        run(*arguments)
        (tmp_path / "out" / "images_32" / "1.0.0" / "images_32-val.array_record-00004-of-00005").unlink()

        def interrupted(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(prepare, "small_copy", interrupted)
        assert run(*arguments) == 130
        with pytest.raises(UserError, match="no dataset 'images_32'"):
            open_source("images_32", "val", str(tmp_path / "out"))

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (["--quality=90"], "quality=95 instead of 90"),
            (["--shards=2"], "shards=None instead of 2"),
            (["--split=train"], "other splits or files"),
        ],
    )
    def test_other_options_are_refused(self, folder, run, tmp_path, capsys, changed, message):
        run("--name=folder", f"--dir={folder}", "--split=val")
        whole = files(tmp_path / "out")
        assert run("--name=folder", f"--dir={folder}", "--split=val", *changed) == 2
        directory = tmp_path / "out" / "images_32" / "1.0.0"
        expected = f"error: {directory} was begun with {message}: keep to it, or choose another --out-name\n"
        assert capsys.readouterr().err.endswith(expected)
        assert files(tmp_path / "out") == whole

    def test_other_files_are_refused(self, folder, run, capsys):
        arguments = ["--name=folder", f"--dir={folder}", "--split=val"]
        run(*arguments)
        shutil.copy(folder / "val" / "dog" / "0.jpg", folder / "val" / "dog" / "7.jpg")
        assert run(*arguments) == 2
        assert "was begun with other splits or files" in capsys.readouterr().err

    def test_records_are_counted(self, folder, run, tmp_path, capsys):
        arguments = ["--name=folder", f"--dir={folder}", "--split=val", "--shards=2"]
        run(*arguments)
        first, second = sorted((tmp_path / "out" / "images_32" / "1.0.0").glob("*.array_record-*"))
        shutil.copy(second, first)
        assert run(*arguments) == 2
        assert f"error: {first} should hold 2 records, not 3: delete it and start again" in capsys.readouterr().err
        first.write_bytes(second.read_bytes()[:1000])
        assert run(*arguments) == 2
        assert f"error: {first} should hold 2 records, not 0: " in capsys.readouterr().err


class TestDamage:
    def test_is_left_out_and_tried_again(self, run, tmp_path, capsys):
        root = many(tmp_path / "tiny", 120)
        damaged = root / "train" / "a" / "004.png"
        good = damaged.read_bytes()
        damaged.write_bytes(good[:50])
        arguments = ["--name=folder", f"--dir={root}", "--split=train"]
        assert run(*arguments) == 0
        printed = capsys.readouterr().out.splitlines()
        assert printed[0].startswith("train: 119 images, ")
        assert printed[0].endswith("in 8 files; 119 unchanged, 1 damaged")
        assert printed[1].startswith("  left out train/a/004.png: ")
        values = [image[0, 0, 0] for image, _ in open_source("tiny_32", "train", str(tmp_path / "out"))]
        assert values == [i for i in (*range(0, 120, 2), *range(1, 120, 2)) if i != 4]

        damaged.write_bytes(good)
        assert run(*arguments) == 0
        assert "120 images" in capsys.readouterr().out
        assert open_source("tiny_32", "train", str(tmp_path / "out"))[2][0][0, 0, 0] == 4

    def test_more_than_one_percent_stops(self, run, tmp_path, capsys):
        root = many(tmp_path / "tiny", 120)
        for name in ("004", "110"):
            (root / "train" / "a" / f"{name}.png").write_bytes(b"")
        assert run("--name=folder", f"--dir={root}", "--split=train", "--shards=2") == 2
        error = capsys.readouterr().err
        assert "error: 2 of 120 images could not be decoded" in error
        assert "train/a/110.png: empty file" in error
        assert not (tmp_path / "out" / "tiny_32" / "1.0.0" / "dataset_info.json").exists()


class TestMessages:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--name=synthetic"], "'synthetic' has no image files"),
            (["--split=val[:10%]"], "--split=val[:10%]: give the name of a whole split"),
            (["--split=test"], "has no directory for the split 'test'"),
            (["--dir=/nowhere"], "there is no directory /nowhere"),
            (["--out-name=mnist"], "'mnist' cannot name a new data set: choose an --out-name such as 'images_256'"),
            (["--out-name=my-images"], "'my-images' cannot name a new data set"),
            (["--out=/dev/null"], "/dev/null"),
        ],
    )
    def test_one_line_names_the_thing(self, folder, run, capsys, arguments, message):
        assert run("--name=folder", f"--dir={folder}", "--split=val", *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error

    def test_classes_must_agree(self, folder, run, capsys):
        shutil.copytree(folder / "val" / "dog", folder / "val" / "emu")
        assert run("--name=folder", f"--dir={folder}", "--split=train", "--split=val") == 2
        assert "only the evaluation data have emu" in capsys.readouterr().err

    def test_a_foreign_data_set_is_left_alone(self, folder, run, tmp_path, capsys):
        directory = tmp_path / "out" / "pets" / "1.0.0"
        directory.mkdir(parents=True)
        (directory / "dataset_info.json").write_text("{}")
        assert run("--name=folder", f"--dir={folder}", "--split=val", "--out-name=pets") == 2
        assert f"error: {directory} was not written by this command" in capsys.readouterr().err
        assert (directory / "dataset_info.json").read_text() == "{}"

    @pytest.mark.parametrize("flag", ["--quality=101", "--short-side=0", "--processes=0", "--shards=x"])
    def test_numbers_are_checked(self, folder, run, capsys, flag):
        with pytest.raises(SystemExit) as caught:
            run("--name=folder", f"--dir={folder}", "--split=val", flag)
        assert caught.value.code == 2
        assert f"error: argument {flag.partition('=')[0]}: " in capsys.readouterr().err

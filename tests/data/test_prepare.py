import functools
import hashlib
import io
import json
import shutil

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from PIL import ExifTags, Image

from inception_jax.data import prepare
from inception_jax.data.decoding import decode_image
from inception_jax.data.prepare import prepare_dataset
from inception_jax.data.sources import open_source
from inception_jax.errors import UserError


@functools.cache
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
def run(folder, tmp_path):
    """Prepares splits of the folder, by default into tmp_path / 'out'."""

    def start(*splits, name="folder", directory=folder, **changes):
        options = {"out": str(tmp_path / "out"), "short_side": 32, "quality": 95, "shards": None, "processes": 1}
        options |= {"max_pixels": 2**26, "say": lambda line: None} | changes
        return prepare_dataset(name, splits, str(directory), **options)

    return start


@pytest.fixture
def out(tmp_path):
    """Where the copies of the folder are."""
    return tmp_path / "out" / "images_32" / "1.0.0"


def files(directory):
    """{name: content} of the shards."""
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*-of-?????"))}


class TestDataset:
    def test_a_folder_is_read_by_its_new_name(self, folder, run, tmp_path):
        said = []
        summary = run("train", "val", say=said.append)
        assert (summary["name"], summary["dir"]) == ("images_32", str(tmp_path / "out"))
        for split, count, unchanged in (("train", 13, 4), ("val", 5, 2)):
            source = open_source("folder", split, str(folder))
            small = open_source("images_32", split, str(tmp_path / "out"))
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
            assert summary["splits"][split] == {
                "images": count,
                "unchanged": unchanged,
                "bytes_before": sum(len(source.encoded(i)[0]) for i in range(count)),
                "bytes_after": sum(len(small.encoded(i)[0]) for i in range(count)),
                "damaged": {},
                "shards": min(8, count),
            }
        assert len(said) == 13
        assert "images_32-train.array_record-00000-of-00008: 1 images" in said

    def test_a_tfds_dataset(self, digits_dir, run, tmp_path):
        (tmp_path / "out" / "tiny_digits" / "1.0.0").mkdir(parents=True)  # as a command killed at once leaves it
        run("test", name="digits", directory=digits_dir, shards=3, out_name="tiny_digits")
        source = open_source("digits", "test", digits_dir)
        small = open_source("tiny_digits", "test", str(tmp_path / "out"))
        assert len(files(tmp_path / "out" / "tiny_digits" / "1.0.0")) == 3
        assert small.class_names == source.class_names
        assert [small.encoded(i) for i in range(len(small))] == [source.encoded(i) for i in range(360)]

    def test_several_processes_write_the_same_with_records_read_one_by_one(self, run, out, tmp_path):
        run("train", "val")
        run("train", "val", out=str(tmp_path / "other"), processes=2)
        assert len(files(out)) == 13
        assert files(out) == files(tmp_path / "other" / "images_32" / "1.0.0")
        for name in files(out):
            assert "group_size:1," in ArrayRecordReader(str(out / name)).writer_options_string()


class TestSmallCopy:
    def test_one_that_is_not_larger_and_plain_is_untouched(self):
        for data in (
            encoded(picture(9, 8), "JPEG"),
            encoded(picture(9, 8).convert("L"), "JPEG"),
            encoded(picture(8, 900), "PNG"),
            encoded(picture(9, 8).convert("L"), "PNG"),
        ):
            assert prepare.small_copy(data, "x", 8, 95, 2**26) is data

    def test_one_that_is_not_larger_keeps_its_pixels(self):
        turned = Image.Exif()
        turned[ExifTags.Base.Orientation] = 6
        for data in (
            encoded(picture(9, 8), "JPEG", exif=turned),
            encoded(picture(9, 8), "PNG", exif=turned),
            encoded(picture(9, 8).convert("CMYK"), "JPEG"),
            encoded(picture(9, 8).convert("RGBA"), "PNG"),
            encoded(picture(9, 8).convert("P"), "GIF"),
            encoded(picture(9, 8), "WEBP"),
            encoded(Image.fromarray(np.arange(72, dtype=np.uint16).reshape(8, 9) * 900), "PNG"),
        ):
            with Image.open(io.BytesIO(prepare.small_copy(data, "x", 8, 95, 2**26))) as image:
                assert (image.format, image.mode, dict(image.getexif())) == ("PNG", "RGB", {})
                np.testing.assert_array_equal(np.asarray(image), decode_image(data, "x"))

    def test_a_larger_one_is_upright_jpeg_without_subsampling(self):
        turned = Image.Exif()
        turned[ExifTags.Base.Orientation] = 6
        large, data = picture(90, 60), encoded(picture(90, 60), "PNG", exif=turned)
        with Image.open(io.BytesIO(prepare.small_copy(data, "x", 40, 95, 2**26))) as image:
            assert (image.format, image.size, dict(image.getexif())) == ("JPEG", (40, 60), {})
            assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
            expected = large.transpose(Image.Transpose.ROTATE_270).resize((40, 60), Image.Resampling.LANCZOS)
            assert np.abs(np.asarray(image, np.float32) - np.asarray(expected)).mean() < 2
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))
        with Image.open(io.BytesIO(prepare.small_copy(encoded(noise, "PNG"), "x", 40, 95, 2**26))) as image:
            small = np.asarray(image, np.float32)
        by_filter = {kind: np.abs(small - np.asarray(noise.resize((60, 40), kind))).mean() for kind in Image.Resampling}
        assert min(by_filter, key=by_filter.get) == Image.Resampling.LANCZOS
        sizes = [len(prepare.small_copy(data, "x", 40, quality, 2**26)) for quality in (50, 80, 95)]
        assert sizes == sorted(set(sizes))


class TestResumption:
    def test_only_what_is_missing_is_written(self, run, out, tmp_path):
        run("train", "val")
        whole = files(out)
        (out / "images_32-train.array_record-00003-of-00008").unlink()
        (out / "dataset_info.json").unlink()
        inodes = {path: path.stat().st_ino for path in out.glob("*.array_record-*")}
        run("train", "val")
        assert files(out) == whole
        assert {path: path.stat().st_ino for path in inodes} == inodes
        assert len(open_source("images_32", "train", str(tmp_path / "out"))) == 13

    def test_the_record_is_that_of_earlier_versions(self, folder, run, out):
        """Else their directories could not be resumed."""
        run("val")
        names = [f"val/cat/{i}.jpg" for i in range(3)] + [f"val/dog/{i}.jpg" for i in range(2)]
        record = json.loads((out / "prepare.json").read_text())
        assert record["options"] == {
            "short_side": 32,
            "quality": 95,
            "shards": None,
            "name": "folder",
            "dir": str(folder),
            "files": {"val": hashlib.sha256("\n".join(names).encode()).hexdigest()},
        }
        assert sorted(record["entries"]) == [f"images_32-val.array_record-0000{i}-of-00005" for i in range(5)]
        expected = ["images", "unchanged", "bytes_before", "bytes_after", "damaged"]
        assert all(list(entry) == expected for entry in record["entries"].values())

    def test_an_interrupted_call_leaves_no_dataset_and_is_resumed(self, run, out, tmp_path, monkeypatch):
        run("train", "val", out=str(tmp_path / "whole"))
        names = []

        def interrupted(data, name, *options):
            if len(names) == 6:
                raise KeyboardInterrupt
            names.append(name)
            return copy(data, name, *options)

        copy = prepare.small_copy
        monkeypatch.setattr(prepare, "small_copy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("train", "val")
        finished = json.loads((out / "prepare.json").read_text())["entries"]
        assert set(finished) <= set(files(out))
        assert sum(entry["images"] for entry in finished.values()) <= 6
        with pytest.raises(UserError, match="no dataset 'images_32'"):
            open_source("images_32", "train", str(tmp_path / "out"))

        monkeypatch.setattr(prepare, "small_copy", lambda *arguments: names.append("") or copy(*arguments))
        names.clear()
        (out / "images_32-val.array_record-00000-of-00005.1.tmp").write_bytes(b"of a killed command")
        run("train", "val")
        assert len(names) == 18 - sum(entry["images"] for entry in finished.values())
        assert files(out) == files(tmp_path / "whole" / "images_32" / "1.0.0")
        left = {path.name for path in out.iterdir()} - set(files(out))
        assert left == {"dataset_info.json", "features.json", "label.labels.txt", "prepare.json"}

        # Without one of its files it is no dataset until it is complete again.
        (out / "images_32-val.array_record-00004-of-00005").unlink()
        names[:] = [""] * 6
        monkeypatch.setattr(prepare, "small_copy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("train", "val")
        with pytest.raises(UserError, match="no dataset 'images_32'"):
            open_source("images_32", "val", str(tmp_path / "out"))

    def test_other_options_and_files_are_refused(self, folder, run, out):
        run("val")
        whole = files(out)
        for splits, changes, message in (
            (["val"], {"quality": 90}, "quality=95 instead of 90"),
            (["val"], {"shards": 2}, "shards=None instead of 2"),
            (["val", "train"], {}, "other splits or files"),
        ):
            with pytest.raises(UserError) as caught:
                run(*splits, **changes)
            assert str(caught.value) == f"{out} was begun with {message}; use the same, or choose another name"
            assert files(out) == whole
        shutil.copy(folder / "val" / "dog" / "0.jpg", folder / "val" / "dog" / "7.jpg")
        with pytest.raises(UserError, match="was begun with other splits or files"):
            run("val")

    def test_records_are_counted(self, run, out):
        run("val", shards=2)
        first, second = sorted(out.glob("*.array_record-*"))
        shutil.copy(second, first)
        with pytest.raises(UserError, match=f"^{first} should hold 2 records, not 3; delete it and rerun"):
            run("val", shards=2)
        first.write_bytes(second.read_bytes()[:1000])
        with pytest.raises(UserError, match=f"^{first} should hold 2 records, not 0; "):
            run("val", shards=2)


class TestDamage:
    def test_is_left_out_and_tried_again(self, run, tmp_path):
        root = many(tmp_path / "tiny", 120)
        damaged = root / "train" / "a" / "004.png"
        good = damaged.read_bytes()
        damaged.write_bytes(good[:50])
        summary = run("train", directory=root)["splits"]["train"]
        assert (summary["images"], summary["unchanged"], list(summary["damaged"])) == (119, 119, ["train/a/004.png"])
        values = [image[0, 0, 0] for image, _ in open_source("tiny_32", "train", str(tmp_path / "out"))]
        assert values == [i for i in (*range(0, 120, 2), *range(1, 120, 2)) if i != 4]

        damaged.write_bytes(good)
        summary = run("train", directory=root)["splits"]["train"]
        assert (summary["images"], summary["damaged"]) == (120, {})
        assert open_source("tiny_32", "train", str(tmp_path / "out"))[2][0][0, 0, 0] == 4

    def test_more_than_one_percent_stops(self, run, tmp_path):
        root = many(tmp_path / "tiny", 120)
        for name in ("004", "110"):
            (root / "train" / "a" / f"{name}.png").write_bytes(b"")
        with pytest.raises(UserError, match=r"(?s)^2 of 120 images could not be decoded.*train/a/110.png: empty file"):
            run("train", directory=root, shards=2)
        assert not (tmp_path / "out" / "tiny_32" / "1.0.0" / "dataset_info.json").exists()


def test_what_is_wrong_is_named(folder, run, tmp_path):
    for splits, changes, message in (
        (["val"], {"name": "synthetic"}, "name='synthetic' has no image files"),
        (["val[:10%]"], {}, "split='val[:10%]' must be the name of a whole split"),
        (["test"], {}, f"{folder} has no directory for the split 'test'"),
        (["val"], {"directory": "/nowhere"}, "there is no directory /nowhere"),
        (["val"], {"out_name": "mnist"}, "out_name='mnist' cannot name a new dataset; choose a name such as"),
        (["val"], {"out_name": "my-images"}, "out_name='my-images' cannot name a new dataset"),
        (["val"], {"quality": 101}, "quality=101 must be between 1 and 100"),
    ):
        with pytest.raises(UserError) as caught:
            run(*splits, **changes)
        assert str(caught.value).startswith(message)
    with pytest.raises(OSError, match="/dev/null"):
        run("val", out="/dev/null")
    shutil.copytree(folder / "val" / "dog", folder / "val" / "emu")
    with pytest.raises(UserError, match="only the evaluation data have emu"):
        run("train", "val")
    assert not (tmp_path / "out").exists()


def test_a_foreign_dataset_is_left_alone(run, tmp_path):
    directory = tmp_path / "out" / "pets" / "1.0.0"
    directory.mkdir(parents=True)
    (directory / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match=f"^{directory} holds a dataset that was not prepared here"):
        run("val", out_name="pets")
    assert (directory / "dataset_info.json").read_text() == "{}"

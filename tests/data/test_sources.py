import contextlib
import io
import json
import os
import pickle
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from inception_jax.data.decoding import DamagedImage
from inception_jax.data.digits import Digits, prepared_digits
from inception_jax.data.sources import check_same_classes, open_source
from inception_jax.errors import UserError


def png(value, size=(4, 4)):
    file = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(file, "PNG")
    return file.getvalue()


def write(root, *paths):
    """Writes grey images, their values 0, 1, 2, ... in the order given."""
    for value, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(png(value))
    return str(root)


class TestDigits:
    def test_every_fifth_image_is_test(self, digits_dir):
        original = load_digits()
        test = np.arange(1797) % 5 == 0
        for split, of_split, count in (("train", ~test, 1437), ("test", test, 360)):
            source = open_source("digits", split, digits_dir)
            assert len(source) == count
            assert source.class_names == tuple("0123456789")
            images, labels = zip(*(source[i] for i in range(count)), strict=True)
            assert set(labels) == set(range(10))
            assert type(labels[0]) is int
            np.testing.assert_array_equal(labels, original.target[of_split])
            images = np.stack(images)
            assert images.dtype == np.uint8
            assert images.shape == (count, 8, 8, 3)
            for channel in range(3):
                expected = original.images[of_split] / 16 * 255
                assert np.abs(images[..., channel] - expected).max() <= 0.5
            assert (images.min(), images.max()) == (0, 255)

    def test_slices(self, digits_dir):
        tenth, whole = (open_source("digits", split, digits_dir) for split in ("train[:10%]", "train"))
        assert len(tenth) == 144
        assert tenth[143][1] == whole[143][1]
        assert whole.name(17) == "digits/train[17]"
        assert tenth.name(0) == "digits/train[:10%][0]"

    def test_is_a_sequence(self, digits_dir):
        source = open_source("digits", "test", digits_dir)
        with pytest.raises(IndexError):  # by which a loop over the source ends
            source[360]
        assert source[np.int64(359)][1] == source[-1][1]

    def test_many_threads_and_processes(self, digits_dir):
        source = open_source("digits", "test", digits_dir)
        with ThreadPoolExecutor(16) as pool:
            read = list(pool.map(source.__getitem__, range(len(source))))
        again = pickle.loads(pickle.dumps(source))
        for i, (image, label) in enumerate(read):
            np.testing.assert_array_equal(image, again[i][0])
            assert label == again[i][1]

    def test_an_unknown_split_lists_the_known_ones(self, digits_dir):
        for split in ("val", "", "train[", "train[:0%]", "train[5:3]", "train[2000:]"):
            message = f"'digits' has no split '{split}'; it has train (1437), test (360), and slices"
            with pytest.raises(UserError, match=re.escape(message)):
                open_source("digits", split, digits_dir)

    def test_two_processes_may_prepare_at_once(self, tmp_path, monkeypatch):
        generate = Digits._split_generators

        def overtaken(self, dl_manager):
            monkeypatch.undo()
            prepared_digits(str(tmp_path))
            return generate(self, dl_manager)

        monkeypatch.setattr(Digits, "_split_generators", overtaken)
        assert prepared_digits(str(tmp_path)).info.splits["test"].num_examples == 360
        assert Digits._split_generators is generate  # the other one did overtake

    def test_unwritable_data_dir(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"cannot write the digits; give another directory .*file"):
            open_source("digits", "train", str(tmp_path / "file"))


IMAGE, LABEL = tfds.features.Image(shape=(None, None, 3)), tfds.features.ClassLabel(names=["cat", "dog"])


def prepare(data_dir, dataset, features, examples):
    """Writes a TFDS dataset of one split, 'train'; TFDS knows it by its files only."""
    with tfds.core.registered.skip_registration():

        class Builder(tfds.core.GeneratorBasedBuilder):
            name = dataset
            VERSION = tfds.core.Version("1.0.0")
            code_path = None

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                yield from enumerate(examples)

    Builder(data_dir=data_dir, file_format="array_record").download_and_prepare()
    return str(data_dir)


class TestTFDS:
    def test_reads_encoded_images(self, tmp_path):
        examples = [{"image": io.BytesIO(png(i, size=(3 + i, 5))), "label": i % 2} for i in range(4)]
        data_dir = prepare(tmp_path, "pets", {"image": IMAGE, "label": LABEL}, examples)
        for name in ("pets", "pets:1.0.0"):
            source = open_source(name, "train", data_dir)
            assert source.class_names == ("cat", "dog")
            assert [label for _, label in source] == [0, 1, 0, 1]
            np.testing.assert_array_equal(source[2][0], np.full((5, 5, 3), 2))
            assert source.name(2) == f"{name}/train[2]"

    def test_damaged_image_is_named(self, tmp_path):
        examples = [{"image": io.BytesIO(png(0)[:40]), "label": 0}]
        source = open_source("torn", "train", prepare(tmp_path, "torn", {"image": IMAGE, "label": LABEL}, examples))
        with pytest.raises(DamagedImage, match=r"^torn/train\[0\]: "):
            source[0]

    def test_unfit_features(self, tmp_path):
        number = tfds.features.Tensor(shape=(2,), dtype=np.uint8)
        for case, (features, example, message) in enumerate(
            (
                ({"image": IMAGE}, {"image": png(0)}, "no feature 'label'"),
                ({"image": IMAGE, "label": np.int64}, {"image": png(0), "label": 1}, "no feature 'label'"),
                ({"label": LABEL}, {"label": 0}, "no feature 'image'"),
                ({"image": number, "label": LABEL}, {"image": np.zeros(2, np.uint8), "label": 0}, "no feature 'image'"),
            )
        ):
            if isinstance(example.get("image"), bytes):
                example = example | {"image": io.BytesIO(example["image"])}
            data_dir = prepare(tmp_path / str(case), "unfit", features, [example])
            with pytest.raises(UserError, match=f"'unfit' cannot be used: it has {message}"):
                open_source("unfit", "train", data_dir)

    def test_floating_point_images(self, tmp_path):
        examples = [{"image": io.BytesIO(png(0)), "label": 0}]
        data_dir = prepare(tmp_path, "depth", {"image": tfds.features.Image(shape=(4, 4, 1)), "label": LABEL}, examples)
        features = tmp_path / "depth" / "1.0.0" / "features.json"
        features.write_text(features.read_text().replace('"uint8"', '"float32"'))
        with pytest.raises(UserError, match="'depth' cannot be used: it has no feature 'image'"):
            open_source("depth", "train", data_dir)

    def test_unpublished_labels(self, tmp_path):
        examples = [{"image": io.BytesIO(png(0)), "label": -1}]
        data_dir = prepare(tmp_path, "secret", {"image": IMAGE, "label": LABEL}, examples)
        with pytest.raises(UserError, match="secret/train has no labels"):
            open_source("secret", "train", data_dir)

    def test_other_file_format(self, tmp_path):
        examples = [{"image": io.BytesIO(png(0)), "label": 0}]
        data_dir = prepare(tmp_path, "pets", {"image": IMAGE, "label": LABEL}, examples)
        info = tmp_path / "pets" / "1.0.0" / "dataset_info.json"
        info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
        with pytest.raises(UserError) as caught:
            open_source("pets", "train", f"{data_dir}/")
        assert f"'pets' is prepared in {data_dir} as tfrecord, without random access" in str(caught.value)
        assert f"tfds.builder('pets', data_dir='{data_dir}_array_record', file_format='array_record')" in str(
            caught.value
        )

    def test_unprepared_is_not_downloaded(self, tmp_path):
        data_dir = str(tmp_path / "tfds")
        with pytest.raises(UserError) as caught:
            open_source("mnist:3.0.1", "train", data_dir)
        command = (
            'python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder('mnist:3.0.1', data_dir='{data_dir}', file_format='array_record').download_and_prepare()\""
        )
        assert str(caught.value) == f"dataset 'mnist:3.0.1' is not prepared in {data_dir}; prepare it with: {command}"
        assert not os.path.exists(data_dir)

    def test_unprepared_imagenet_names_its_tar_files(self, tmp_path):
        with pytest.raises(UserError) as caught:
            open_source("imagenet2012", "train", str(tmp_path))
        message = str(caught.value)
        assert f"{tmp_path}/downloads/manual" in message
        assert "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar" in message
        assert "\n" not in message

    def test_default_data_dir(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))
        with pytest.raises(UserError, match="default"):
            open_source("mnist", "train")

    def test_unknown_name(self, tmp_path):
        for name, hint in (
            ("mnsit", "did you mean mnist"),
            ("cifar-10", "did you mean cifar10"),
            ("imagnet2012/x:1.0.0", "did you mean imagenet2012"),
            ("digit", "did you mean digits\\?$"),
            ("Syntetic", "did you mean synthetic\\?$"),
            ("kubric:movi_a", "see https://"),
            ("", "see https://"),
        ):
            with pytest.raises(UserError, match=f"^there is no dataset '{name}'; {hint}") as caught:
                open_source(name, "train", str(tmp_path))
            assert len(str(caught.value)) < 200

    def test_unknown_version_or_config(self, tmp_path):
        for name, reason in (("mnist:9.9.9", "version 9.9.9, only: 3.0.1"), ("mnist/foo", "foo not found")):
            with pytest.raises(UserError, match=f"^TFDS cannot open '{name}': .*{reason}"):
                open_source(name, "train", str(tmp_path))

    def test_an_incomplete_preparation(self, tmp_path):
        (tmp_path / "mine" / "1.0.0").mkdir(parents=True)
        (tmp_path / "mine" / "1.0.0" / "features.json").write_text("{}")
        with pytest.raises(UserError, match=r"^TFDS cannot open 'mine': .*dataset_info\.json$"):
            open_source("mine", "train", str(tmp_path))


class TestFolder:
    def test_labels_follow_the_sorted_class_names(self, tmp_path):
        root = write(
            tmp_path,
            "train/dog/b.jpg",
            "train/dog/a.JPEG",
            "train/cat/deep/er/1.png",
            "train/cat/2.Png",
            "val/emu/1.jpg",
        )
        write(tmp_path / "train", "dog/.hidden.jpg", "cat/.git/1.jpg", ".cache/1.jpg")
        (tmp_path / "train" / "cat" / "readme.txt").write_text("not an image")
        (tmp_path / "train" / "list.csv").write_text("not a class")
        source = open_source("folder", "train", root)
        assert source.class_names == ("cat", "dog")
        assert len(source) == 4
        names = ["cat/2.Png", "cat/deep/er/1.png", "dog/a.JPEG", "dog/b.jpg"]
        assert [source.name(i) for i in range(4)] == [os.path.join("train", name) for name in names]
        assert [(image[0, 0, 0], label) for image, label in source] == [(3, 0), (2, 0), (1, 1), (0, 1)]
        image, label = source[0]
        assert (image.dtype, image.shape, type(label)) == (np.uint8, (4, 4, 3), int)

    def test_names_are_below_the_root(self, tmp_path, monkeypatch):
        write(tmp_path / "here", "train/a/1.jpg", "train/b/1.jpg")
        monkeypatch.chdir(tmp_path / "here")
        for root in (f"{tmp_path}/here/", ".", "./", "../here/"):
            source = open_source("folder", "train", root)
            assert (source.name(1), source[1][1]) == ("train/b/1.jpg", 1)

    def test_symlinked_classes(self, tmp_path):
        write(tmp_path / "all", "cat/1.jpg", "dog/1.jpg", "emu/1.jpg")
        (tmp_path / "subset" / "train").mkdir(parents=True)
        for name in ("cat", "emu"):
            (tmp_path / "subset" / "train" / name).symlink_to(tmp_path / "all" / name)
        source = open_source("folder", "train", str(tmp_path / "subset"))
        assert source.class_names == ("cat", "emu")
        assert source[1][0][0, 0, 0] == 2

    def test_names_as_macos_and_as_linux_write_them_are_the_same(self, tmp_path):
        root = write(
            tmp_path, "train/caf\u00e9/1.png", "train/caff/1.png", "val/cafe\u0301/e\u0301.png", "val/caff/1.png"
        )
        train, val = (open_source("folder", split, root) for split in ("train", "val"))
        check_same_classes(train, val)
        assert train.class_names == val.class_names == ("caff", "caf\u00e9")  # val's directories are in another order
        assert (val.name(1), val.file_name(1), val[1][1]) == ("val/caf\u00e9/\u00e9.png", "\u00e9.png", 1)
        write(tmp_path, "val/caf\u00e9/1.png")
        message = (
            f"{root}/val has two directories for the class 'caf\u00e9', 'caf\\xe9' and 'cafe\\u0301'; move the images"
        )
        with pytest.raises(UserError, match=re.escape(message)):
            open_source("folder", "val", root)

    def test_names_that_are_no_text(self, tmp_path):
        source = open_source("folder", "train", write(tmp_path, "train/a/1.png", "train/caf\udce9/\udcff.png"))
        assert source.class_names == ("a", "caf\\xe9")
        assert (source.name(1), source.file_name(1)) == ("train/caf\\xe9/\\xff.png", "\\xff.png")
        assert source[1][1] == 1

    def test_many_threads_and_processes(self, tmp_path):
        source = open_source("folder", "train", write(tmp_path, *(f"train/{i % 2}/{i:02}.png" for i in range(60))))
        with ThreadPoolExecutor(16) as pool:
            values = [image[0, 0, 0] for image, _ in pool.map(source.__getitem__, range(60))]
        assert values == [*range(0, 60, 2), *range(1, 60, 2)]
        assert pickle.loads(pickle.dumps(source))[30][0][0, 0, 0] == 1

    def test_damaged_image_is_named(self, tmp_path):
        root = write(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg")
        (tmp_path / "train" / "dog" / "1.jpg").write_bytes(b"")
        with pytest.raises(DamagedImage, match=r"^train/dog/1.jpg: empty file"):
            open_source("folder", "train", root)[1]

    def test_home_directory(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", write(tmp_path, "pets/train/cat/1.jpg", "pets/train/dog/1.jpg").rstrip("/"))
        assert len(open_source("folder", "train", "~/pets")) == 2

    def test_user_errors(self, tmp_path):
        for case, (paths, message) in enumerate(
            (
                ([], "ROOT has no directory for the split 'train'; its directories are: none"),
                (["val/a/1.jpg", "test/a/1.jpg"], "no directory for the split 'train'; its directories are: test, val"),
                (["train/1.jpg"], "ROOT/train has no images; they must be in ROOT/train/CLASS/*.jpg"),
                (["train/a/notes.txt"], "ROOT/train has no images"),
                (["train/a/1.jpg"], "ROOT/train has only one class, 'a'"),
                (["train/a/1.jpg", "train/b/1.txt", "train/c/.1.jpg"], "ROOT/train has classes without images: b, c;"),
            )
        ):
            root = tmp_path / str(case)
            root.mkdir()
            with pytest.raises(UserError, match=re.escape(message.replace("ROOT", str(root)))):
                open_source("folder", "train", write(root, *paths))

    def test_missing_root(self, tmp_path):
        with pytest.raises(UserError, match=f"there is no directory {tmp_path}/nowhere"):
            open_source("folder", "train", str(tmp_path / "nowhere"))
        with pytest.raises(UserError, match="'folder' needs a directory"):
            open_source("folder", "train")
        with pytest.raises(UserError, match="no directory for the split ''"):
            open_source("folder", "", write(tmp_path, "a/1.jpg", "b/1.jpg"))


class TestSynthetic:
    def test_is_the_same_every_time_and_different_for_each_index(self):
        source, again = open_source("synthetic", "train"), open_source("synthetic", "val", "/nowhere")
        assert len(source) == 1280
        assert len(source.class_names) == 1000
        assert len({hash(source[i][0].tobytes()) for i in range(1280)}) == 1280
        with pytest.raises(IndexError):
            source[1280]
        for index in (0, 255, 256, 1279):
            image, label = source[index]
            assert (image.shape, image.dtype) == ((256, 256, 3), np.uint8)
            np.testing.assert_array_equal(image, again[index][0])
            assert label == again[index][1] == index % 1000
        assert source.name(5) == "synthetic[5]"


class TestSameClasses:
    def test_same(self, tmp_path):
        root = write(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/b/1.jpg")
        check_same_classes(open_source("folder", "train", root), open_source("folder", "val", root))

    def test_both_sides_are_named(self, tmp_path):
        train = [f"train/{name}/1.jpg" for name in ("both", "t1", "t2", "t3", "t4", "t5", "t6")]
        root = write(tmp_path, *train, "val/both/1.jpg", "val/v1/1.jpg")
        message = "only the training data have t1, t2, t3, t4, t5, ... (6 in all); only the evaluation data have v1;"
        with pytest.raises(UserError, match=re.escape(message)):
            check_same_classes(open_source("folder", "train", root), open_source("folder", "val", root))

    def test_one_side_only(self, tmp_path):
        root = write(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/a/1.jpg", "val/b/1.jpg")
        with pytest.raises(UserError, match="differ: only the training data have c; make"):
            check_same_classes(open_source("folder", "train", root), open_source("folder", "val", root))

    def test_another_order(self, tmp_path):
        examples = [{"image": io.BytesIO(png(0)), "label": 0}]
        dog_cat = {"image": IMAGE, "label": tfds.features.ClassLabel(names=["dog", "cat"])}
        train = open_source("pets", "train", prepare(tmp_path, "pets", dog_cat, examples))
        evaluation = open_source("folder", "val", write(tmp_path, "val/cat/1.jpg", "val/dog/1.jpg"))
        with pytest.raises(UserError, match="another order"):
            check_same_classes(train, evaluation)


def test_only_regular_files_are_images(tmp_path):
    """Reading a pipe would never end."""
    root = write(tmp_path, "train/a/1.png", "train/b/1.png", "train/b/deep/2.png")
    os.mkfifo(tmp_path / "train" / "a" / "pipe.png")
    (tmp_path / "train" / "a" / "link.png").symlink_to(tmp_path / "train" / "a" / "pipe.png")
    (tmp_path / "train" / "b" / "socket.jpg").mkdir()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(os.path.relpath(tmp_path / "train" / "b" / "s.png"))  # its path may not be long
        source = open_source("folder", "train", root)
    assert [source.name(i) for i in range(len(source))] == ["train/a/1.png", "train/b/1.png", "train/b/deep/2.png"]


def test_a_broken_link_is_a_damaged_image(tmp_path):
    root = write(tmp_path, "train/a/1.png", "train/b/1.png")
    (tmp_path / "train" / "a" / "2.png").symlink_to("/nowhere.png")
    source = open_source("folder", "train", root)
    with pytest.raises(DamagedImage, match="train/a/2.png: No such file or directory"):
        source[1]


@pytest.mark.parametrize(
    ("file", "changed", "reason"),
    [
        ("features.json", ("tensorflow_datasets.core.features.image_feature.Image", "evil.Image"), "is not imported"),
        ("dataset_info.json", ("{DATASET}-{SPLIT}", "../{DATASET}-{SPLIT}"), "not beside it"),
        ("dataset_info.json", ('"train"', '"/etc/train"'), "not beside it"),
    ],
)
def test_metadata_name_neither_code_nor_other_directories(tmp_path, monkeypatch, file, changed, reason):
    (tmp_path / "evil.py").write_text("raise SystemExit('this was run')")
    monkeypatch.syspath_prepend(tmp_path)
    examples = [{"image": io.BytesIO(png(0)), "label": 0}] * 2
    root = prepare(tmp_path, "pets", {"image": IMAGE, "label": tfds.features.ClassLabel(num_classes=2)}, examples)
    assert len(open_source("pets", "train", root)) == 2
    metadata = tmp_path / "pets" / "1.0.0" / file
    content = metadata.read_text()
    metadata.write_text(content.replace(*changed))
    assert metadata.read_text() != content
    with pytest.raises(UserError, match=f"^{metadata} names .*{reason}"):
        open_source("pets", "train", root)


def test_links_that_lead_to_themselves_and_names_of_two_lines(tmp_path):
    root = write(tmp_path, "train/a/1.png", "train/b/1.png", "train/b/2\n\x1b[31m.png", "train/b\r\udcff/1.png")
    (tmp_path / "train" / "a" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "train" / "loop").symlink_to("loop")
    (tmp_path / "train" / "a" / "up").symlink_to("..")
    source = open_source("folder", "train", root)
    assert source.class_names == ("a", "b", "b\\r\\xff")
    names = [source.name(i) for i in range(len(source))]
    b = ["train/b/1.png", "train/b/2\\n\\x1b[31m.png", "train/b\\r\\xff/1.png"]
    assert names == ["train/a/1.png", "train/a/loop.jpg", *b]
    with pytest.raises(DamagedImage, match="train/a/loop.jpg: Too many levels of symbolic links"):
        source[1]

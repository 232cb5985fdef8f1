"""Images and datasets in buckets, on servers of both protocols on this machine."""

import gcsfs
import numpy as np
import pytest

from experiments import predict
from experiments import prepare as prepare_command
from inception_jax import fid, paths
from inception_jax.data import sources
from inception_jax.data.decoding import DamagedImage
from inception_jax.data.digits import prepared_digits
from inception_jax.data.loader import DamageReport, ProcessShard, eval_batches, train_batches
from inception_jax.data.sources import open_source
from inception_jax.errors import UserError
from inception_jax.evaluation.predict import find_images
from tests import buckets
from tests.values import crop_config

bucket, servers = buckets.bucket, buckets.servers  # fixtures

CROPS = crop_config(size=16, resize=18)


def put(address, content=b""):
    paths.check_bucket(address)
    paths._of(paths.to_path(address)).pipe_file(address, content)


@pytest.fixture
def folder(bucket, image_folder):
    """The image folder in a bucket, beside what is left out of it."""
    root = f"{bucket}/colours"
    paths.upload(image_folder, paths.to_path(root))
    hidden = ("train/red/.x.png", "train/red/.git/x.png", "train/.git/x.png")
    for name in (*hidden, "train/", "train/red/", "train/red/x.txt", "train/x.png"):
        put(f"{root}/{name}")
    yield root
    paths.remove(paths.to_path(root))


def batches(source, processes=0):
    damage = DamageReport(source)
    options = {"batch_size": 8, "shard": ProcessShard(), "threads": 2}
    first = {"seed": 1, "first_step": 3, "last_step": 9, "processes": processes}
    yield from train_batches(source, CROPS, damage, **options, **first)
    yield from eval_batches(source, CROPS, damage, **options)


@pytest.mark.parametrize("processes", [0, 2])
def test_a_folder_in_a_bucket_is_that_on_a_disk(folder, image_folder, processes):
    far, near = open_source("folder", "train", f"{folder}/"), open_source("folder", "train", str(image_folder))
    assert far.class_names == near.class_names == ("blue", "green", "red")
    assert [far.name(i) for i in range(len(far))] == [near.name(i) for i in range(len(near))]
    assert far.encoded(47) == near.encoded(47)
    for one, other in zip(batches(far, processes), batches(near), strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_a_batch_is_read_at_once(folder, monkeypatch):
    source, asked = open_source("folder", "val", folder), []
    read, system = paths.read_objects, type(paths._of(paths.to_path(folder)))
    monkeypatch.setattr(sources, "read_objects", lambda addresses: asked.append(len(addresses)) or read(addresses))
    monkeypatch.setattr(system, "_size", None)  # s3fs would ask for each size in a request of its own
    list(eval_batches(source, CROPS, DamageReport(source), batch_size=8, shard=ProcessShard(), threads=1))
    assert asked == [8, 8, 5]


def test_the_fingerprint_changes_with_the_content(folder):
    before = open_source("folder", "val", folder).fingerprint
    assert open_source("folder", "val", folder).fingerprint == before
    [content] = paths.read_objects([f"{folder}/val/red/0.png"])
    put(f"{folder}/val/red/0.png", content[:-1] + b"x")  # as long as before
    assert open_source("folder", "val", folder).fingerprint != before


def test_mistakes_are_those_of_a_disk(bucket, tmp_path):
    for name in ("one/train/cat/1.png", "two/train/cat/1.png", "two/train/dog/readme", "none/train/cat/readme"):
        put(f"{bucket}/{name}")
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    for case in ("one:val", "one:", "one:train", "two:train", "none:train", "no:train"):
        name, _, split = case.partition(":")
        with pytest.raises(UserError) as near:
            open_source("folder", split, str(tmp_path / name))
        with pytest.raises(UserError) as far:
            open_source("folder", split, f"{bucket}/{name}")
        assert str(far.value) == str(near.value).replace(str(tmp_path), bucket)


def test_a_missing_object_is_a_damaged_image_and_an_unreachable_bucket_is_not(folder, monkeypatch):
    source = open_source("folder", "val", folder)
    paths._of(paths.to_path(folder)).rm_file(f"{folder}/val/blue/0.png")
    with pytest.raises(DamagedImage, match=r"val/blue/0.png: No such file or directory"):
        source.read_ahead([0]).encoded(0)

    async def fail(*_, **__):
        raise gcsfs.retry.HttpError({"code": 503, "message": "Service\nUnavailable"})

    monkeypatch.setattr(type(paths._of(paths.to_path(folder))), "_cat_file", fail)
    for read in (lambda: source.encoded(1), lambda: list(batches(source))):
        with pytest.raises(UserError, match=rf"^{folder}/val/\S+ cannot be read: Service Unavailable, 503"):
            read()


def test_a_dataset_in_cloud_storage(servers, tmp_path, monkeypatch):
    prepared_digits(str(tmp_path))
    root = "gs://bucket/tfds"
    paths.upload(tmp_path, paths.to_path(root))
    for name, split in (("digits", "train"), ("digits:1.0.0", "test[:10%]")):
        far, near = (open_source(name, split, directory) for directory in (root, str(tmp_path)))
        assert (far.class_names, len(far), far.fingerprint) == (near.class_names, len(near), near.fingerprint)
        assert far.encoded(7) == near.encoded(7) == far.read_ahead([3, 7]).encoded(7)
    for one, other in zip(batches(far), batches(near), strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
    with pytest.raises(UserError, match="the glyphs are not in gs://bucket/tfds; prepare them in a local directory"):
        open_source("glyphs", "train", root)
    with pytest.raises(UserError, match=r"'mnist' is not prepared in gs://bucket/tfds; prepare it in a local"):
        open_source("mnist", "train", root)
    with pytest.raises(UserError, match=r"^s3://bucket/tfds cannot hold a TFDS dataset: .* gs:// or a local directory"):
        open_source("digits", "train", "s3://bucket/tfds")
    paths.remove(paths.to_path(root))
    with pytest.raises(UserError, match=r"^gs://bucket/tfds/digits/1.0.0 cannot be read: .*"):
        far.read_ahead([0, 1])
    monkeypatch.delenv("CLOUD_STORAGE_EMULATOR_ENDPOINT")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(UserError, match=r"^gs://bucket/tfds cannot be read: .*none.json was not found"):
        open_source("digits", "train", root)


def test_commands_take_images_of_buckets(folder, image_folder, trained, tmp_path, capsys):
    assert [file.path for file in find_images(f"{folder}/val/red")] == [f"{folder}/val/red/{i}.png" for i in range(7)]
    assert find_images(f"{folder}/no")[0].error == "no images below it"
    assert find_images(f"{folder}/*.png", pattern=True)[0].error == "patterns are for local files; give the folder"
    assert predict.main([f"--workdir={trained}", f"{folder}/val", f"{folder}/val/red/9.png"]) == 1
    far = capsys.readouterr().out.replace(folder, str(image_folder)).splitlines()
    assert predict.main([f"--workdir={trained}", f"{image_folder}/val"]) == 0
    assert far[:-1] == capsys.readouterr().out.splitlines()
    assert far[-1].endswith("val/red/9.png: error: No such file or directory")
    assert predict.main([f"--workdir={trained}", "s3://none/photos"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no bucket s3://none")
    images, near = fid.open_set(f"{folder}/val"), fid.open_set(image_folder / "val")
    np.testing.assert_array_equal(images.load(3), near.load(3))
    assert images.count == near.count == 21

    arguments = ["--name=folder", "--split=val", "--short-side=8", "--processes=1", f"--dir={folder}"]
    assert prepare_command.main([*arguments, f"--out={tmp_path}"]) == 0
    assert "val: 21 images" in capsys.readouterr().out
    assert len(open_source("colours_8", "val", str(tmp_path))) == 21
    assert prepare_command.main([*arguments, f"--out={folder}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: --out={folder} must be a local directory")

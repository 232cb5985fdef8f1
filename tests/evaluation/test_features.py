"""Features of many images in shards: complete, resumable, the same in any division."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import inception_jax
from inception_jax import UserError
from inception_jax.evaluation.features import merge_features, open_features, read_features, write_features
from inception_jax.evaluation.predict import ImageFile, find_images
from inception_jax.evaluation.shards import read_shards


@pytest.fixture(scope="module")
def classifier(trained):
    return inception_jax.load(trained)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """23 images; the tenth is torn."""
    folder = tmp_path_factory.mktemp("many")
    for k, image in enumerate(np.random.default_rng(0).integers(0, 256, (23, 18, 20, 3), np.uint8)):
        Image.fromarray(image).save(folder / f"{k:02}.png")
    (folder / "09.png").write_bytes(b"")
    return find_images(str(folder))


def make(classifier, images, out, index=0, count=1, **options):
    shards = open_features(classifier, images, "body", out, **{"shard_size": 5, "batch_size": 4} | options)
    return shards, list(write_features(classifier, images, shards, index=index, count=count))


@pytest.fixture(scope="module")
def whole(classifier, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return out, *make(classifier, images, out)


def content(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_shards_hold_the_features_of_every_image_once(whole, classifier, images):
    out, shards, unread = whole
    good = [image.path for image in images if not image.path.endswith("09.png")]
    assert unread == [(images[9].path, "empty file")]
    assert (shards.count, shards.check()) == (5, 1)
    parts = list(read_features(out))
    assert [path for part in parts for path in part.paths] == good
    assert parts[1].unread == ((images[9].path, "empty file"),)
    features = np.concatenate([part.features for part in parts])
    np.testing.assert_allclose(features, classifier.features(good, "body"), rtol=1e-5, atol=1e-6)
    assert features.shape == (22, 8, 8, 8)
    merge_features(out, out.parent / "merged.npz")
    with np.load(out.parent / "merged.npz") as merged:
        np.testing.assert_array_equal(merged["features"], features)
        assert merged["paths"].tolist() == good


def test_machines_and_stops_change_no_byte(whole, classifier, images, tmp_path, monkeypatch):
    for index in (2, 0, 1):  # in any order
        make(classifier, images, tmp_path / "three", index, 3)
    assert content(tmp_path / "three") == content(whole[0])

    # Stopped while the third shard is written, and once more within a marker.
    shards = open_features(classifier, images, "body", tmp_path / "stopped", shard_size=5, batch_size=4)
    stream = write_features(classifier, images, shards)
    begin, calls = type(classifier).begin, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return begin(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(type(classifier), "begin", stopping)
        with pytest.raises(KeyboardInterrupt):
            list(stream)
    assert 0 < len(shards.missing()) < 5
    file = shards.file(shards.missing()[0])
    file.write_bytes(b"torn")  # a machine that lost its power, before and after the marker
    (file.parent / f"{file.name}.json").write_text('{"bytes": ')
    (shards.directory / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="has no readable manifest.json"):
        read_shards(tmp_path / "stopped")
    make(classifier, images, tmp_path / "stopped")
    assert content(tmp_path / "stopped") == content(whole[0])
    assert make(classifier, images, tmp_path / "stopped")[1] == []  # nothing is left to do


def test_missing_and_damaged_shards_are_named(whole, classifier, images, tmp_path):
    make(classifier, images, tmp_path, 1, 2)
    shards = read_shards(tmp_path)
    with pytest.raises(UserError, match=r"3 of 5 shards are missing \(1, 3, 5\); rerun the command"):
        shards.check()
    make(classifier, images, tmp_path)
    file = shards.file(2)
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match="000003-of-000005.npz is damaged: remove it"):
        list(read_features(tmp_path))
    file.write_bytes(data[:-1])
    assert shards.missing() == [2]
    make(classifier, images, tmp_path)
    marker = file.parent / f"{file.name}.json"  # a shard of other images, as if two directories were mixed
    marker.write_text(marker.read_text().replace('"names_sha256": "', '"names_sha256": "0'))
    with pytest.raises(UserError, match="holds 23 images that are not those of its manifest.json"):
        shards.check()


def test_another_kind_of_result_is_refused(whole, classifier, images, trained, tmp_path):
    out = whole[0]
    for change, message in (
        ({"shard_size": 6}, "was begun with shard_size=5, and now it is 6; use another directory"),
        ({"batch_size": 8}, "was begun with batch_size=4, and now it is 8"),
        ({"form": "parquet"}, "was begun with suffix='.npz', and now it is '.parquet'"),
    ):
        with pytest.raises(UserError, match=message):
            make(classifier, images, out, **change)
    with pytest.raises(UserError, match="was begun with images=23, and now it is 22"):
        make(classifier, images[1:], out)
    with pytest.raises(UserError, match="was begun with names_sha256="):
        make(classifier, [*images[1:], ImageFile("x.png")], out)
    with pytest.raises(UserError, match="was begun with weights_sha256="):
        make(inception_jax.load(trained, "6", "raw"), images, out)
    for argument, message in (
        ({"shard_size": 0}, "shard_size=0 must be"),
        ({"form": "csv"}, "format='csv' is not one"),
    ):
        with pytest.raises(UserError, match=message):
            make(classifier, images, tmp_path / "new", **argument)
    with pytest.raises(UserError, match="is no directory of shards"):
        read_shards(tmp_path)


def test_parquet_is_the_same(whole, classifier, images, tmp_path):
    dataset = pytest.importorskip("pyarrow.dataset")
    _, unread = make(classifier, images, tmp_path, form="parquet")
    assert unread == whole[2]
    for ours, npz in zip(read_features(tmp_path), read_features(whole[0]), strict=True):
        np.testing.assert_array_equal(ours.features, npz.features)
        assert (ours.paths, ours.unread) == (npz.paths, npz.unread)
    files = sorted(map(str, tmp_path.glob("*.parquet")))
    table = dataset.dataset(files).to_table()
    assert (table.num_rows, table["features"].type.list_size) == (22, 8 * 8 * 8)
    assert json.loads(table.schema.metadata[b"shape"]) == [8, 8, 8]


def test_all_devices_share_a_batch(classifier, images):
    crops = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)
    assert len(classifier._on_devices["params"]["stem"]["conv3x3"]["kernel"].sharding.device_set) == jax.device_count()
    [found] = classifier.run(crops, "body")  # seven images do not divide by four devices
    one_by_one = np.concatenate([classifier.run(crop[None], "body")[0] for crop in crops])
    np.testing.assert_allclose(found, one_by_one, rtol=1e-5, atol=1e-6)

"""Sets of images, and measurements over them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from inception_jax import UserError, fid
from inception_jax.fid.measurement import Sampling, collect, measure

SIZES = ((20, 24), (16, 16), (50, 18), (17, 90))


@pytest.fixture(scope="module")
def extractor(trained):
    return fid.make_extractor("tf", trained, "pool")


def pictures(seed, count=26):
    rng = np.random.default_rng(seed)
    sizes = (SIZES[k % len(SIZES)] for k in range(count))
    return [rng.integers(60 * seed, 150 + 60 * seed, (*size, 3), np.uint8) for size in sizes]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of 26 images of mixed sizes."""
    root = tmp_path_factory.mktemp("sets")
    for seed, name in enumerate(("real", "generated")):
        (root / name / "deep").mkdir(parents=True)
        for k, image in enumerate(pictures(seed)):
            Image.fromarray(image).save(root / name / ("deep" if k % 3 else ".") / f"{k:02}.png")
    return root


def test_every_metric_is_that_of_the_features(extractor, folders):
    real, generated = (fid.open_set(folders / name) for name in ("real", "generated"))
    chosen = ["fid", "kid", "is", "prc", "dc", "fid_infinity", "interval"]
    sampling = Sampling(subsets=2, subset_size=20, splits=3, resamples=5)
    found = measure(real, generated, extractor, chosen, sampling=sampling, batch_size=8)
    assert (found.counts, found.damaged_count, found.kind) == ((26, 26), 0, "FID-like, network tiny, pool")
    kept = [collect(each, extractor, keep=("features", "logits"), batch_size=4).kept for each in (real, generated)]
    a, b = (each["features"].astype(np.float64) for each in kept)
    moments = [(each.mean(axis=0), np.cov(each, rowvar=False)) for each in (a, b)]
    expected = {
        "fid": fid.frechet_distance(*moments[0], *moments[1]),
        "kid": fid.kernel_distance(b, a, subsets=2, subset_size=20)[0],
        "inception_score": fid.inception_score(kept[1]["logits"], splits=3)[0],
        "precision": fid.precision_recall(a, b)[0],
        "coverage": fid.density_coverage(a, b)[1],
    }
    for name, value in expected.items():
        assert found.values[name] == pytest.approx(value, rel=1e-4), name
    assert found.values["fid_low"] < found.values["fid"] < found.values["fid_high"]
    assert found.values["fid"] > 0.1


def test_kept_features_are_in_the_order_of_the_images(extractor, folders, tmp_path):
    images = fid.open_set(folders / "real")
    together = collect(images, extractor, keep=("features",), batch_size=8).kept["features"]
    assert together.shape == (26, 8)
    for index in (0, 13, 25):
        one = np.stack([images.load(index)] * 2)
        mean = fid.update(fid.start(extractor=extractor), one).finish().mean
        np.testing.assert_allclose(together[index], mean, rtol=1e-4)


def test_damaged_images_are_named_and_left_out(extractor, folders, tmp_path):
    whole = fid.open_set(folders / "real")
    (tmp_path / "bad").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "bad" / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"bad: 0 of 2 images could be read; .*a.png: empty file"):
        collect(fid.open_set(tmp_path / "bad"), extractor)
    shutil.copytree(folders / "real", tmp_path / "real")
    (tmp_path / "real" / "00.png").write_bytes(b"")
    (tmp_path / "real" / "z.jpg").write_bytes((folders / "real" / "00.png").read_bytes()[:300])
    found = collect(fid.open_set(tmp_path / "real"), extractor, batch_size=4)
    assert found.damaged[0].reason == "empty file"
    assert (found.damaged_count, found.statistics.count) == (2, 25)
    kept = collect(whole, extractor, keep=("features",)).kept["features"]
    np.testing.assert_allclose(found.statistics.mean, kept[1:].mean(axis=0, dtype=np.float64), rtol=1e-4)


def test_a_set_is_a_folder_a_pattern_an_array_or_a_run(folders, trained, tmp_path):
    array = np.stack([image for image in pictures(0) if image.shape == (16, 16, 3)])
    np.savez(tmp_path / "stored.npz", array, labels=np.arange(6))
    np.savez_compressed(tmp_path / "packed.npz", arr_0=array)
    np.save(tmp_path / "array.npy", array)
    for name in ("stored.npz", "packed.npz", "array.npy"):
        images = fid.open_set(tmp_path / name)
        assert images.count == len(array)
        np.testing.assert_array_equal(images.load(3), array[3])
    assert fid.open_set(f"{folders}/real/**/*.png").count == 26
    run = fid.open_set(trained)
    assert (run.count, run.name) == (21, f"{trained} (folder, val)")
    assert fid.open_set(trained, "train").count == 48
    for path, message in (
        (tmp_path / "none", "no such file or folder"),
        (f"{tmp_path}/*.jpg", "no images match this pattern"),
        (tmp_path / "labels.npz", r"has no images, uint8 \[N, H, W, 3\], among its arrays \(labels ...\)"),
        (tmp_path / "torn.npz", "cannot be read"),
        (tmp_path / "float.npy", "must hold uint8"),
    ):
        np.savez(tmp_path / "labels.npz", labels=np.arange(3))
        (tmp_path / "torn.npz").write_bytes((tmp_path / "stored.npz").read_bytes()[:200])
        np.save(tmp_path / "float.npy", array.astype(np.float32))
        with pytest.raises(UserError, match=message):
            fid.open_set(path)
    with pytest.raises(UserError, match="split='train' is for workdirs"):
        fid.open_set(folders / "real", "train")


def test_a_file_may_hold_statistics_and_images(extractor, folders, tmp_path):
    array = np.stack([image for image in pictures(0) if image.shape == (16, 16, 3)])
    np.savez(tmp_path / "images.npz", array)
    made = collect(fid.open_set(tmp_path / "images.npz"), extractor).statistics
    mean = made.mean + 1  # not those of the images, so that one sees which is taken
    np.savez(tmp_path / "adm.npz", arr_0=array, mu=mean, sigma=made.covariance)
    np.savez(tmp_path / "only.npz", mu=mean, sigma=made.covariance)
    generated = fid.open_set(folders / "generated")
    found = measure(fid.open_set(tmp_path / "adm.npz"), generated, extractor, ["fid", "prc"])
    direct = collect(generated, extractor).statistics
    assert found.values["fid"] == pytest.approx(
        fid.frechet_distance(mean, made.covariance, direct.mean, direct.covariance), rel=1e-6
    )
    assert 0 <= found.values["precision"] <= 1
    with pytest.raises(UserError, match="only.npz holds statistics only: give the images"):
        measure(fid.open_set(tmp_path / "only.npz"), generated, extractor, ["prc"])
    with pytest.raises(UserError, match="only.npz has no spatial features"):
        measure(fid.open_set(tmp_path / "only.npz"), generated, extractor, ["sfid"])


def test_invalid_arguments_are_one_line(extractor, folders):
    images = fid.open_set(folders / "real")
    with pytest.raises(UserError, match="metrics='fids' is not one of fid, sfid, kid"):
        measure(images, images, extractor, ["fids"])
    with pytest.raises(UserError, match="metrics=is,fid need two sets"):
        measure(None, images, extractor, ["is", "fid"])
    with pytest.raises(UserError, match="tiny has no spatial features: sFID is of inception_v3_fid only"):
        measure(images, images, extractor, ["sfid"])
    with pytest.raises(UserError, match="batch_size=0 must be 1 or more"):
        collect(images, extractor, batch_size=0)
    with pytest.raises(UserError, match="end_point='pool5' is not one of stem, body, pool, top"):
        fid.make_extractor("tf", extractor.classifier, "pool5")
    with pytest.raises(UserError, match="protocol='torch' is not one of tf, pytorch_fid, clean"):
        fid.make_extractor("torch", extractor.classifier)

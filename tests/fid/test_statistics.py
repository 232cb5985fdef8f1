"""Statistics of images: streamed, in files, compared."""

import jax
import numpy as np
import pytest

import inception_jax
from inception_jax import UserError, fid
from inception_jax.fid.statistics import Statistics

IDENTITY = {"protocol", "network", "end_point", "size", "weights_sha256"}


@pytest.fixture(scope="module")
def extractor(trained):
    return fid.make_extractor("tf", trained, "pool")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (22, 20, 24, 3), np.uint8)


def stream(extractor, images, size, **options):
    statistics = fid.start(extractor=extractor)
    for start in range(0, len(images), size):
        statistics = fid.update(statistics, images[start : start + size], **options)
    return statistics.finish()


def close(a, b, rtol):
    assert a.count == b.count
    np.testing.assert_allclose(a.mean, b.mean, rtol=rtol)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=0, atol=rtol * np.abs(b.covariance).max())


def test_streamed_features_are_those_of_the_network(extractor, images, trained):
    found = stream(extractor, images, 8)
    assert found.count == 22
    assert set(found.identity) == IDENTITY
    # By hand: TensorFlow's bilinear positions on 20 x 24 for 16 x 16, then the run's own normalisation.
    y, x = (np.arange(16, dtype=np.float32) * np.float32(side / 16) for side in (20, 24))
    low_y, low_x = y.astype(int), x.astype(int)
    image = images.astype(np.float32)
    rows = image[:, low_y] + (y - low_y)[:, None, None] * (image[:, np.minimum(low_y + 1, 19)] - image[:, low_y])
    high = rows[:, :, np.minimum(low_x + 1, 23)]
    resized = rows[:, :, low_x] + (x - low_x)[:, None] * (high - rows[:, :, low_x])
    network = inception_jax.load(trained)
    _, end_points = network.model.apply(network.variables, (resized - 128) / 64)
    features = np.asarray(end_points["pool"], np.float64)[:, 0, 0]
    np.testing.assert_allclose(found.mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.covariance, np.cov(features, rowvar=False), rtol=1e-3, atol=1e-6)


def test_any_batches_devices_and_order_give_the_same(extractor, images, trained):
    expected = stream(extractor, images, 22)
    for devices in (1, 2, 4):
        other = fid.make_extractor("tf", trained, "pool", devices=jax.devices()[:devices])
        # The network's own rounding in float32 depends on the shape of a batch; the sums are tested to 1e-12.
        close(stream(other, images, 5), expected, 1e-5)
    close(stream(extractor, images[::-1], 8), expected, 1e-5)


def test_update_takes_arrays_of_the_device_and_keeps_the_old_value(extractor, images):
    before = fid.update(fid.start(extractor=extractor), images[:8])
    fid.update(before, images[8:16])
    assert before.finish().count == 8
    close(stream(extractor, jax.numpy.asarray(images), 8), stream(extractor, images, 8), 1e-9)


def test_floating_point_images_need_a_rounding(extractor, images):
    values = images + np.random.default_rng(1).uniform(-0.4, 0.4, images.shape).astype(np.float32)
    with pytest.raises(UserError, match="rounding=None: floating-point images need nearest, floor or none"):
        fid.update(fid.start(extractor=extractor), values)
    close(stream(extractor, values, 8, rounding="nearest"), stream(extractor, images, 8), 1e-9)
    floor = stream(extractor, np.floor(np.clip(values, 0, 255)).astype(np.uint8), 8)
    close(stream(extractor, values, 8, rounding="floor"), floor, 1e-9)
    none = stream(extractor, values, 8, rounding="none")
    assert abs(none.mean - floor.mean).max() > 1e-4
    for wrong, message in ((images[0], r"\[N, H, W, 3\], not of shape"), (images.astype(int), "not int64")):
        with pytest.raises(UserError, match=message):
            fid.update(fid.start(extractor=extractor), wrong)


def test_clean_resizes_on_the_host(images, trained):
    extractor = fid.make_extractor("clean", trained, "pool")
    a, b = stream(extractor, images, 8), stream(fid.make_extractor("tf", trained, "pool"), images, 8)
    assert abs(a.mean - b.mean).max() > 1e-3
    with pytest.raises(UserError, match="must not be compared: they have protocol 'clean' and 'tf'"):
        fid.distance(a, b)


def statistics(seed, dimensions=3, spatial=None, identity=None):
    features = np.random.default_rng(seed).standard_normal((9, dimensions))
    pair = (features.mean(axis=0), np.cov(features, rowvar=False))
    return Statistics(*pair, 9, identity or {}, spatial)


def test_files_keep_everything(tmp_path):
    identity = {"protocol": "tf", "weights_sha256": "1"}
    spatial = statistics(1, 4).mean, statistics(1, 4).covariance
    written = statistics(0, spatial=spatial, identity=identity)
    fid.write(tmp_path / "a.npz", written)
    found = fid.read(tmp_path / "a.npz")
    assert (found.count, found.identity) == (9, identity)
    for a, b in (
        (found.mean, written.mean),
        (found.covariance, written.covariance),
        *zip(found.spatial, spatial, strict=True),
    ):
        np.testing.assert_array_equal(a, b)
    with np.load(tmp_path / "a.npz") as arrays:  # what pytorch-fid and ADM's evaluator read
        assert {"mu", "sigma", "mu_s", "sigma_s"} < set(arrays.files)
    fid.write(tmp_path / "b.npz", written, layout="jax_fid")
    with np.load(tmp_path / "b.npz") as arrays:
        np.testing.assert_array_equal(arrays["ref_sigma"], written.covariance)
    np.testing.assert_array_equal(fid.read(tmp_path / "b.npz").mean, written.mean)


def test_files_of_other_programs_are_read_with_a_warning(tmp_path):
    a = statistics(0)
    np.savez(tmp_path / "pytorch_fid.npz", mu=a.mean.astype(np.float32), sigma=a.covariance.astype(np.float32))
    found, warnings = fid.read(tmp_path / "pytorch_fid.npz"), []
    assert (found.count, found.identity, found.mean.dtype) == (None, {}, np.float64)
    assert fid.distance(found, statistics(0, identity={"protocol": "tf"}), warn=warnings.append) < 1e-6
    assert warnings == ["a file of statistics does not say its protocol and weights; it is taken for 'tf'"]


def test_few_images_are_warned_of():
    warnings, known = [], {"protocol": "tf"}
    fid.distance(statistics(0, 8, identity=known), statistics(1, 8, identity=known), warn=warnings.append)
    assert not warnings
    fid.distance(statistics(0, 9, identity=known), statistics(1, 9, identity=known), warn=warnings.append)
    assert [line.partition(":")[0] for line in warnings] == ["9 images give a covariance of rank 8 in 9 dimensions"]


def test_damaged_files_are_one_line(tmp_path):
    a, file = statistics(0), tmp_path / "a.npz"
    for arrays, message in (
        ({"x": a.mean}, "holds no statistics: mu and sigma are missing among x"),
        ({"mu": a.mean, "sigma": a.covariance[:2]}, r"mu and sigma have shapes \[3\] and \[2, 3\]"),
        ({"mu": a.mean}, r"mu and sigma have shapes \[3\] and \[0\]"),
        ({"mu": a.mean * np.nan, "sigma": a.covariance}, "mu or sigma is not finite"),
        ({"mu": np.array([None]), "sigma": a.covariance}, "cannot be read as statistics"),
    ):
        np.savez(file, **arrays)
        with pytest.raises(UserError, match=message):
            fid.read(file)
    file.write_bytes(b"PK torn")
    with pytest.raises(UserError, match="cannot be read"):
        fid.read(file)
    with pytest.raises(UserError, match="No such file"):
        fid.read(tmp_path / "none.npz")
    with pytest.raises(UserError, match="have 3 and 2 dimensions"):
        fid.distance(statistics(0), statistics(0, 2))
    with pytest.raises(UserError, match="spatial=True needs statistics with spatial features"):
        fid.distance(statistics(0), statistics(1), spatial=True)

"""FID and its relatives beside pytorch-fid, torch-fidelity and clean-fid, with the same random weights."""

import contextlib
import io

import jax
import numpy as np
import pytest
import scipy.linalg
from PIL import Image

from inception_jax import fid
from inception_jax.fid.measurement import collect
from inception_jax.fid.protocols import PROTOCOLS, prepare, resize, stack
from tests.parity.conftest import required
from tests.parity.test_sources_torch import randomized

torch = required("torch")
inception = required("pytorch_fid.inception")
fidelity = required("torch_fidelity.feature_extractor_inceptionv3")
fidelity_resize = required("torch_fidelity.interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x
clean_resize = required("cleanfid.resize")
clean = required("cleanfid.fid")
SIZES = ((32, 32), (75, 100), (299, 299), (40, 310), (700, 350), (1, 7), (640, 20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of mixed sizes: files, and their pixels."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for k, size in enumerate(SIZES):
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
        small.resize(size[::-1], Image.Resampling.BICUBIC).save(root / f"{k}.png")
    return root, [np.asarray(Image.open(file)) for file in sorted(root.iterdir())]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    make = lambda: inception._inception_v3(num_classes=1008, aux_logits=False, init_weights=False, weights=None)  # noqa: E731
    torch.save(randomized(make).state_dict(), file)
    return file


def channels_first(image):
    return torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)[None]


def reference_resizes(name, image):
    if name == "tf":
        return fidelity_resize(channels_first(image), size=(299, 299), align_corners=False)[0].permute(1, 2, 0).numpy()
    if name == "clean":
        return clean_resize.build_resizer("clean")(image)
    resized = torch.nn.functional.interpolate(channels_first(image), (299, 299), mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()


def test_resizing_is_that_of_each_package(folder):
    for name, protocol in PROTOCOLS.items():
        found = jax.jit(resize)(stack([prepare(image, protocol, 299) for image in folder[1]]))
        for result, image in zip(np.asarray(found), folder[1], strict=True):
            np.testing.assert_allclose(
                result, reference_resizes(name, image), atol=255 * 1e-5, err_msg=f"{name}, {image.shape}"
            )


def reference_features(name, file, images, monkeypatch):
    """Features and logits without bias, one image at a time, as each package computes them."""
    with torch.no_grad():
        if name == "pytorch_fid":
            monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: torch.load(file))
            network = inception.InceptionV3([3]).eval()
            return np.stack([network(channels_first(image) / 255)[0][0, :, 0, 0].numpy() for image in images]), None
        if name == "clean":  # clean-fid's network is a download; it is the same, without a resize of its own
            images = [reference_resizes("clean", image) for image in images]
            monkeypatch.setattr(fidelity, "interpolate_bilinear_2d_like_tensorflow1x", lambda x, **_: x)
            monkeypatch.setattr(fidelity, "vassert", lambda *_: None)  # that images are uint8
        network = fidelity.FeatureExtractorInceptionV3(
            "test", ["2048", "logits_unbiased"], feature_extractor_weights_path=file
        )
        as_given = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] for image in images]
        found = [[part[0].numpy() for part in network(image)] for image in as_given]
    return tuple(map(np.stack, zip(*found, strict=True)))


def test_features_and_logits_are_those_of_each_package(folder, weights, monkeypatch):
    for name in PROTOCOLS:
        with monkeypatch.context() as patched:
            features, logits = reference_features(name, weights, folder[1], patched)
        extractor = fid.make_extractor(name, weights)
        found = collect(fid.open_set(folder[0]), extractor, keep=("features", "logits"), batch_size=8)
        np.testing.assert_allclose(found.kept["features"], features, atol=1e-5 * np.abs(features).max(), err_msg=name)
        np.testing.assert_allclose(found.statistics.mean, features.mean(axis=0), atol=1e-5 * np.abs(features).max())
        if logits is not None:
            np.testing.assert_allclose(found.kept["logits"], logits, atol=1e-4 * np.abs(logits).max(), err_msg=name)


def test_spatial_features_are_the_first_branch_of_the_sixth_module(folder, weights):
    network = fidelity.FeatureExtractorInceptionV3("test", ["2048"], feature_extractor_weights_path=weights)
    seen = []
    network.Mixed_6d.branch1x1.register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    with torch.no_grad():
        network(torch.from_numpy(np.array(folder[1][1])).permute(2, 0, 1)[None])
    expected = seen[0][0, :7].permute(1, 2, 0).reshape(-1).numpy()
    two = np.stack([folder[1][1]] * 2)
    statistics = fid.start("tf", weights=weights, spatial=True)
    mean, covariance = fid.update(statistics, two).finish().spatial
    assert (mean.shape, covariance.shape) == ((2023,), (2023, 2023))
    np.testing.assert_allclose(mean, expected, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((12, 12))
    return [(rng.standard_normal((n, 12)) @ mixing + shift).astype(np.float32) for n, shift in ((90, 0), (70, 1.0))]


def test_distances_are_those_of_each_package(features, monkeypatch):
    real, generated = features
    moments = [
        (each.mean(axis=0, dtype=np.float64), np.cov(each.astype(np.float64), rowvar=False)) for each in features
    ]
    ours = fid.frechet_distance(*moments[0], *moments[1])
    statistics = [dict(zip(("mu", "sigma"), pair, strict=True)) for pair in moments]
    theirs = required("torch_fidelity.metric_fid").fid_statistics_to_metric(*statistics, verbose=False)
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    # The other two call scipy's sqrtm with an argument that newer versions of it have not.
    sqrtm = scipy.linalg.sqrtm
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda a, disp=True: sqrtm(a) if disp else (sqrtm(a), 0))
    for package in (required("pytorch_fid.fid_score").calculate_frechet_distance, clean.frechet_distance):
        assert ours == pytest.approx(package(*moments[0], *moments[1]), rel=1e-6)

    options = {"kid_subsets": 5, "kid_subset_size": 50, "verbose": False}
    tensors = [torch.from_numpy(each) for each in (generated, real)]  # their first input is the generated one
    theirs = required("torch_fidelity.metric_kid").kid_features_to_metric(*tensors, **options)
    found = fid.kernel_distance(generated, real, subsets=5, subset_size=50)
    expected = theirs["kernel_inception_distance_mean"], theirs["kernel_inception_distance_std"]
    assert found == pytest.approx(expected, rel=1e-4)
    whole = clean.kernel_distance(real[:70].astype(np.float64), generated.astype(np.float64), num_subsets=1)
    assert fid.kernel_distance(generated, real[:70], subsets=1, subset_size=70)[0] == pytest.approx(whole, rel=1e-6)

    theirs = required("torch_fidelity.metric_prc").prc_features_to_metric(*tensors, verbose=False)
    assert fid.precision_recall(real, generated) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-7)
    theirs = required("torch_fidelity.metric_isc").isc_features_to_metric(tensors[0])
    expected = theirs["inception_score_mean"], theirs["inception_score_std"]
    assert fid.inception_score(generated) == pytest.approx(expected, rel=1e-6)


def test_statistics_are_read_by_pytorch_fid(features, tmp_path):
    moments = fid.statistics.from_moments(fid.moments.moments_of(features[0]), {"protocol": "tf"})
    fid.write(tmp_path / "ours.npz", moments)
    score = required("pytorch_fid.fid_score")
    with contextlib.redirect_stderr(io.StringIO()):
        mean, covariance = score.compute_statistics_of_path(str(tmp_path / "ours.npz"), None, 1, 12, "cpu")
    np.testing.assert_array_equal(mean, moments.mean)
    np.testing.assert_array_equal(covariance, moments.covariance)

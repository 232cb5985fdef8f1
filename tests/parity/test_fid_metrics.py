"""Distances and scores of hostile features beside torch-fidelity and pytorch-fid; plain ones are in test_fid.py."""

import numpy as np
import pytest
import scipy.linalg

from inception_jax import fid
from inception_jax.fid import metrics
from tests.parity.conftest import required

torch = required("torch")
fidelity = {name: required(f"torch_fidelity.metric_{name}") for name in ("fid", "kid", "isc", "prc")}


def rectified(count, dimensions, seed):
    """Like pooled features of Inception-v3: not negative, many zeros."""
    normal = np.random.default_rng(seed).standard_normal((count, dimensions))
    return np.maximum(0.6 * normal + 0.2, 0).astype(np.float32)


def repeated(vectors, times):
    return np.repeat(vectors, times, axis=0)


def integers(count, seed):
    return np.random.default_rng(seed).integers(0, 3, (count, 64)).astype(np.float32)


def neighbourhood_cases():
    real = rectified(300, 2048, 0)
    yield "2,048 dimensions", real, rectified(250, 2048, 1)
    yield "all generated images are copies of real ones", real, real[200:0:-1]
    yield "one image is generated many times", real, repeated(real[5:6], 200)
    yield "duplicates in both", repeated(real[:40], 6), repeated(real[20:60], 5)
    yield "ties of integers", integers(200, 0), integers(150, 1)
    yield "three dimensions", rectified(300, 3, 0), rectified(250, 3, 1)


def test_precision_and_recall_are_the_same_numbers(monkeypatch):
    monkeypatch.setattr(metrics, "_BLOCK", 128)  # several blocks, the last not full
    for name, real, generated in neighbourhood_cases():
        tensors = [torch.from_numpy(each.copy()) for each in (generated, real)]  # its first input is the generated one
        for neighbours in (1, 3):
            theirs = fidelity["prc"].prc_features_to_metric(*tensors, prc_neighborhood=neighbours, verbose=False)
            found = fid.precision_recall(real, generated, neighbours=neighbours)
            expected = theirs["precision"], theirs["recall"]
            assert found == pytest.approx(expected, abs=1e-6), f"{name}, k = {neighbours}"


def test_kernel_distance_has_the_same_default_subsets():
    a, b = rectified(1100, 16, 0), rectified(1050, 16, 1) + np.float32(0.1)
    tensors = [torch.from_numpy(each.astype(np.float64)) for each in (a, b)]  # it computes in the type of its input
    theirs = fidelity["kid"].kid_features_to_metric(*tensors, verbose=False)
    expected = theirs["kernel_inception_distance_mean"], theirs["kernel_inception_distance_std"]
    assert fid.kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_inception_score_has_the_same_default_splits():
    classes = np.sort(np.random.default_rng(0).integers(0, 30, 507))  # 507 images are not 10 equal splits
    logits = (6 * np.eye(30)[classes] + rectified(507, 30, 0)).astype(np.float32)
    theirs = fidelity["isc"].isc_features_to_metric(torch.from_numpy(logits))
    expected = theirs["inception_score_mean"], theirs["inception_score_std"]
    assert fid.inception_score(logits) == pytest.approx(expected, rel=1e-9)
    assert expected[0] > 10


def test_frechet_distance_of_fewer_images_than_dimensions(monkeypatch, capsys):
    sets = [rectified(40, 96, seed).astype(np.float64) for seed in (0, 1)]
    a, b = ((each.mean(axis=0), np.cov(each, rowvar=False)) for each in sets)
    ours = fid.frechet_distance(*a, *b)
    statistics = [dict(zip(("mu", "sigma"), pair, strict=True)) for pair in (a, b)]
    theirs = fidelity["fid"].fid_statistics_to_metric(*statistics, verbose=False)
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    # pytorch-fid calls scipy's sqrtm with an argument that newer versions of it have not.
    sqrtm = scipy.linalg.sqrtm
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda a, disp=True: sqrtm(a) if disp else (sqrtm(a), 0))
    score = required("pytorch_fid.fid_score")
    assert ours == pytest.approx(score.calculate_frechet_distance(*a, *b), rel=1e-3)
    capsys.readouterr()  # it prints that it adds 1e-6 to the diagonals

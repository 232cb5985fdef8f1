"""Temporary."""

import numpy as np


def _root(c):
    w, v = np.linalg.eigh(c)
    return (v * np.sqrt(np.clip(w, 0, None))) @ v.T


def frechet_distance(mean_a, covariance_a, mean_b, covariance_b):
    nuclear = np.linalg.svd(_root(covariance_a) @ _root(covariance_b), compute_uv=False).sum()
    return float(np.sum((mean_a - mean_b) ** 2) + np.trace(covariance_a) + np.trace(covariance_b) - 2 * nuclear)


density_coverage = inception_score = kernel_distance = precision_recall = fid_infinity = bootstrap = None

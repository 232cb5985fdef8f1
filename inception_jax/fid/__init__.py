"""Distances between sets of images in JAX: FID, sFID, KID, Inception score, precision and recall.

statistics = inception_jax.fid.start("tf")
for images in batches:  # uint8 [N, H, W, 3]
    statistics = inception_jax.fid.update(statistics, images)
inception_jax.fid.distance(statistics, inception_jax.fid.read("reference.npz"))
"""

from inception_jax.fid.extractor import make_extractor
from inception_jax.fid.measurement import collect, measure
from inception_jax.fid.metrics import (
    density_coverage,
    fid_infinity,
    fid_interval,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from inception_jax.fid.sets import ImageSet, open_set
from inception_jax.fid.statistics import distance, read, start, update, write

__all__ = [
    "ImageSet",
    "collect",
    "density_coverage",
    "distance",
    "fid_infinity",
    "fid_interval",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "make_extractor",
    "measure",
    "open_set",
    "precision_recall",
    "read",
    "start",
    "update",
    "write",
]

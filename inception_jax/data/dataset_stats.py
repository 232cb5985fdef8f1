"""Statistics of the training set that preprocessing needs: principal components of colours, whitening matrix.

Each kind is computed in one pass over the images when it is first needed, and kept in a cache directory.
"""

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from inception_jax import console
from inception_jax.data import crops, loader
from inception_jax.data.crops import CropConfig
from inception_jax.data.decoding import DamagedImage
from inception_jax.data.loader import DamageReport
from inception_jax.data.tfds_directory import default_directory
from inception_jax.errors import UserError
from inception_jax.names import text_of
from inception_jax.paths import is_bucket
from inception_jax.runtime import cache_directory

# From pylearn2/scripts/datasets/make_cifar10_gcn_whitened.py, which made the images of Maxout networks, Network in
# Network and All-CNN: CIFAR10(gcn=55.) and ZCA() of pylearn2/datasets/preprocessing.py, whose filter_bias is 0.1.
CONTRAST = 55.0  # norm of an image
WHITENING_BIAS = 0.1  # added to the variances
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, ITU-R BT.601
_LARGEST_WHITENED = 64 * 64 * 3  # values in an image: one matrix takes 1.2 GB, and several are in use (our choice)
_PART = 1024  # images added up at once; changing it changes the rounding of the whitening (our choice)
_AHEAD = 64  # images of a bucket that are read at once

_FORMAT = 1  # version of the cached files; increase it when a computation changes


def colour_stats(
    source,
    size: int,
    max_pixels: int,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
    damage: DamageReport | None = None,
) -> dict[str, np.ndarray]:
    """Computes the mean and the principal components of the colours of all pixels, for AlexNet's colour noise.

    "We perform PCA on the set of RGB pixel values throughout the ImageNet training set" (ImageNet classification with
    deep convolutional neural networks, section 4.1). Images are prepared as in section 2 of that paper: the shorter
    side is resized to `size` and the central square is kept, so that each image has the same weight. Sums are exact,
    because they are of integers: the result is the same for any number of threads. A JPEG of 500 x 375 pixels takes
    2 ms on two cores; at that rate ImageNet takes 45 minutes.

    Args:
      source: training images, see `sources.Source`.
      size: height and width of the squares in pixels, 256 in the paper.
      max_pixels: an image of more pixels counts as damaged.
      threads: number of decoding threads; 0: one per core.
      progress: called with the number of images in each finished part.
      damage: an empty report that collects damaged images, which are skipped.

    Returns:
      float32 arrays, channels in the order red, green, blue, on the scale 0 to 255:
      'colour_values' [3]: eigenvalues of the covariance (variances), largest first.
      'colour_vectors' [3, 3]: column j is the unit eigenvector of value j. Its largest component is positive (our
        choice: the sign of an eigenvector is arbitrary).
      'colour_mean' [3].

    Raises:
      UserError: more than 1 % of the images are damaged.
    """

    def load(number: int) -> tuple[tuple[range, np.ndarray, np.ndarray], list[DamagedImage]]:
        indices = range(number * _PART, min((number + 1) * _PART, len(source)))
        square, damaged = np.empty((size, size, 3), np.uint8), []
        total, products = np.zeros(3, np.int64), np.zeros((3, 3), np.int64)
        for place, index in enumerate(indices):
            if place % _AHEAD == 0:
                ahead = loader.read_ahead(source, list(indices[place : place + _AHEAD]))
            try:
                image, _ = loader.read_image(ahead, index, max_pixels)
                crops.resize_and_central_crop(image, size, size, out=square)
            except DamagedImage as error:
                damaged.append(error)
                continue
            # OpenCV's float64 sums are of integers below 2^53, and therefore exact.
            total += np.array(cv2.sumElems(square)[:3], np.int64)
            products += cv2.mulTransposed(square.reshape(-1, 3), aTa=True, dtype=cv2.CV_64F).astype(np.int64)
        return (indices, total, products), damaged

    damage = DamageReport(source) if damage is None else damage
    total, products = np.zeros(3, np.int64), np.zeros((3, 3), np.int64)
    for indices, part_total, part_products in loader.in_order(load, range(-(-len(source) // _PART)), damage, threads):
        total += part_total
        products += part_products
        if progress:
            progress(len(indices))
    pixels = (len(source) - len(damage)) * size**2
    # Python's integers do not overflow: only the division is rounded.
    exact, outer = total.tolist(), products.tolist()
    covariance = [[(pixels * outer[i][j] - exact[i] * exact[j]) / pixels**2 for j in range(3)] for i in range(3)]
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), range(3)])
    mean = np.array(total) / pixels
    return _float32(colour_values=values, colour_vectors=vectors, colour_mean=mean)


def whitening_stats(
    source,
    crop_config: CropConfig,
    channels: int,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
    damage: DamageReport | None = None,
) -> dict[str, np.ndarray]:
    """Computes mean and matrix of ZCA whitening, as for the CIFAR images of Maxout networks and later papers.

    Let x be an image after the evaluation crop and `contrast_normalised`; the whitened image is (x - mean) @ matrix.
    matrix = V diag(1 / sqrt(lambda + 0.1)) V^T with eigenvalues lambda and eigenvectors V of the covariance
    sum (x - mean)^T (x - mean) / n (Maxout networks, https://arxiv.org/abs/1302.4389, section 4.2; constants from
    pylearn2). Sums are in float64, over batches of a fixed size in the order of the images: the result is the same for
    any number of threads.

    50,000 images with D = 3072, as in CIFAR-10, take 61 s on two cores (16 s of them for decoding PNG files) and
    0.5 GB.

    Args:
      source: training images, see `sources.Source`.
      crop_config: says which evaluation crop is taken; D = size * size * channels.
      channels: 3 for RGB, 1 for grey.
      threads: number of decoding threads; 0: one per core.
      progress: called with the number of images in each finished part.
      damage: an empty report that collects damaged images, which are skipped.

    Returns:
      float32 arrays: 'whitening_mean' [D], 'whitening_matrix' [D, D], symmetric, and 'whitening_values' [D], the
      eigenvalues lambda, largest first. The order of the D values is that of an array [H, W, C], flattened.

    Raises:
      UserError: D is too large, or more than 1 % of the images are damaged.
    """
    dimensions = _dimensions(crop_config.size, channels)
    damage = DamageReport(source) if damage is None else damage
    shard = loader.ProcessShard()
    mean, covariance = np.zeros(dimensions), np.zeros((dimensions, dimensions))
    for batch in loader.eval_batches(source, crop_config, damage, batch_size=_PART, shard=shard, threads=threads):
        x = contrast_normalised(batch["image"][batch["mask"]], channels)
        mean += x.sum(axis=0)
        covariance += x.T @ x
        if progress:
            progress(len(x) + int(batch["damaged"].sum()))
    mean /= len(source) - len(damage)
    covariance /= len(source) - len(damage)
    covariance -= np.outer(mean, mean)
    values, vectors = np.linalg.eigh(covariance)
    values = values.clip(0)  # negative only by rounding
    matrix = (vectors / np.sqrt(values + WHITENING_BIAS)) @ vectors.T
    return _float32(whitening_mean=mean, whitening_matrix=matrix, whitening_values=values[::-1])


def _dimensions(size: int, channels: int) -> int:
    """Returns the number of values in an image to be whitened; raises UserError if there are too many."""
    dimensions = size**2 * channels
    if dimensions > _LARGEST_WHITENED:
        raise UserError(
            f"whitening='gcn_zca' is for images of up to 64 x 64 x 3; {size} x {size} x {channels} needs a matrix of "
            f"{dimensions**2 * 8e-9:,.1f} GB; choose a smaller image size, or whitening 'gcn'"
        )
    return dimensions


def contrast_normalised(images: np.ndarray, channels: int) -> np.ndarray:
    """Applies global contrast normalisation: subtracts each image's mean, then scales the image to a norm of 55.

    Mean and norm are taken over all pixels and channels together. An image of one colour (a norm below 55e-8, because
    of rounding) becomes 0; see min_divisor in pylearn2/expr/preprocessing.py.

    Args:
      images: uint8 [N, H, W, 3].
      channels: 3 for RGB, 1 for the luma, which is not rounded.

    Returns:
      float64 [N, H * W * channels].
    """
    pixels = images @ np.array(LUMA) if channels == 1 else images.astype(np.float64)
    pixels = pixels.reshape(len(images), -1)
    pixels -= pixels.mean(axis=1, keepdims=True)
    divisors = np.sqrt(np.square(pixels).sum(axis=1, keepdims=True)) / CONTRAST
    divisors[divisors < 1e-8] = 1
    pixels /= divisors
    return pixels


def training_stats(
    source, *, crop_config: CropConfig, channels: int, pca_noise: bool, whitening: str, **options
) -> dict[str, np.ndarray]:
    """Returns the statistics that preprocessing needs: from the cache, else computed now and cached.

    Args:
      source: training images, see `sources.Source`.
      crop_config: see `cached_stats`.
      channels: 3 for RGB, 1 for grey.
      pca_noise: include 'colour_values' and 'colour_vectors', see `colour_stats`.
      whitening: if 'gcn_zca', include 'whitening_mean' and 'whitening_matrix', see `whitening_stats`.
      **options: the other arguments of `cached_stats`.

    Returns:
      float32 arrays with the keys and shapes of `blank_stats`.

    Raises:
      UserError: the images are too large to be whitened, or more than 1 % of them are damaged.
    """
    needed = blank_stats(crop_config.size, channels=channels, pca_noise=pca_noise, whitening=whitening)
    found: dict[str, np.ndarray] = {}
    for kind in dict.fromkeys(key.partition("_")[0] for key in needed):
        found |= cached_stats(kind, source, crop_config=crop_config, channels=channels, **options)[0]
    return {key: found[key] for key in needed}


def blank_stats(size: int, *, channels: int, pca_noise: bool, whitening: str) -> dict[str, np.ndarray]:
    """Returns zeros with the keys and shapes of `training_stats`, for size x size images; raises the same UserError."""
    shapes: dict[str, tuple[int, ...]] = {}
    if pca_noise:
        shapes |= {"colour_values": (3,), "colour_vectors": (3, 3)}
    if whitening == "gcn_zca":
        dimensions = _dimensions(size, channels)
        shapes |= {"whitening_mean": (dimensions,), "whitening_matrix": (dimensions, dimensions)}
    return {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}


def cached_stats(
    kind: str,
    source,
    *,
    name: str,
    split: str,
    directory: str,
    crop_config: CropConfig,
    channels: int,
    threads: int = 0,
    say: Callable[[str], None],
    force: bool = False,
) -> tuple[dict[str, np.ndarray], Path]:
    """Returns the statistics of one kind and the file that caches them; computes them if there is no such file.

    The file is below `runtime.cache_directory`. Its name contains a hash of the dataset's name, split, directory,
    number of images and classes, and of the options of the computation. It does not notice that images were replaced
    by others at the same place: use `force` then. A damaged file is replaced. Several processes may do this at once.

    Args:
      kind: 'colour' or 'whitening', see `colour_stats` and `whitening_stats`.
      source: training images, see `sources.Source`.
      name: name of the dataset.
      split: split that is trained on.
      directory: the dataset's directory, `data_dir` of `open_source`.
      crop_config: colours are computed on squares of `resize` pixels, whitening on the evaluation crop.
      channels: 3 for RGB, 1 for grey.
      threads: number of decoding threads; 0: one per core.
      say: called with a line before and after a computation.
      force: compute even if there is a file.

    Raises:
      UserError: the images are too large to be whitened, or more than 1 % of them are damaged.
    """
    directory = directory or default_directory()
    if not is_bucket(directory):
        directory = os.path.abspath(os.path.expanduser(directory))
    options = {"resize": crop_config.resize}
    if kind == "whitening":
        options |= {"size": crop_config.size, "channels": channels}
    key = {
        "format": _FORMAT,
        "kind": kind,
        "name": name,
        "split": split,
        "directory": text_of(directory),
        "images": len(source),
        "classes": source.class_names,
        **options,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_directory() / "statistics" / f"{re.sub('[^A-Za-z0-9]+', '_', name)}-{kind}-{digest}.npz"
    if not force and (kept := _load(path)) is not None:
        return kept, path

    say(f"computing {kind} statistics of {len(source):,} images of {name}/{split}")
    start, damage = time.perf_counter(), DamageReport(source)
    with console.bar(total=len(source), unit=" images", disable=None) as bar:  # None: on a terminal only
        if kind == "colour":
            arrays = colour_stats(source, crop_config.resize, crop_config.max_pixels, threads, bar.update, damage)
        else:
            arrays = whitening_stats(source, crop_config, channels, threads, bar.update, damage)
    if damage:
        say(damage.summary())
    took = f"{kind} statistics: {time.perf_counter() - start:.1f} s"
    try:
        _save(path, arrays)
        say(f"{took}, cached in {path}")
    except OSError as error:  # a full disk is no reason to stop
        say(f"{took}, not cached: {error}")
    return arrays, path


def measure(source, *, name: str, split: str, crop_config: CropConfig, whitening: str, **options) -> dict:
    """Returns the statistics as numbers for a person to read; computes what is not cached.

    Args:
      source: training images, see `sources.Source`.
      name: name of the dataset.
      split: split that is trained on.
      crop_config: see `cached_stats`.
      whitening: if 'gcn_zca', the result includes the whitening.
      **options: the other arguments of `cached_stats`.

    Returns:
      {'name', 'split', 'images', 'colours', 'whitening'}, JSON types only:
      'colours': {'shorter_side', 'mean' [3], 'values' [3], 'vectors' [3, 3], 'file'}; vectors[j] belongs to values[j].
      'whitening': {'dimensions', 'largest_value', 'smallest_value', 'least_gain', 'largest_gain', 'condition', 'file'}:
        eigenvalues of the covariance, factors along the eigenvectors, and the ratio of these.

    Raises:
      UserError: the images are too large to be whitened, or more than 1 % of them are damaged.
    """
    options |= {"name": name, "split": split, "crop_config": crop_config}
    numbers = {}
    if whitening == "gcn_zca":  # first, because it refuses images that are too large
        found, path = cached_stats("whitening", source, **options)
        values = found["whitening_values"].astype(np.float64)
        gains = 1 / np.sqrt(values + WHITENING_BIAS)
        numbers["whitening"] = {
            "dimensions": len(values),
            "largest_value": values[0],
            "smallest_value": values[-1],
            "least_gain": gains[0],
            "largest_gain": gains[-1],
            "condition": gains[-1] / gains[0],
            "file": str(path),
        }
    found, path = cached_stats("colour", source, **options)
    colours = {
        "shorter_side": crop_config.resize,
        "mean": found["colour_mean"].tolist(),
        "values": found["colour_values"].tolist(),
        "vectors": found["colour_vectors"].T.tolist(),
        "file": str(path),
    }
    return {"name": name, "split": split, "images": len(source), "colours": colours} | numbers


def _load(path: Path) -> dict[str, np.ndarray] | None:
    """Returns None if the file does not exist or is damaged."""
    try:
        with open(path, "rb") as content, np.load(content) as kept:
            return dict(kept)  # reads the arrays and checks their checksums
    except Exception:  # on damaged files NumPy and zipfile raise OSError, ValueError, BadZipFile, EOFError, ...
        return None


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        written = Path(directory, path.name)
        np.savez(written, **arrays)  # type: ignore[arg-type]  # the stubs match ** with allow_pickle too
        written.replace(path)


def _float32(**arrays: np.ndarray) -> dict[str, np.ndarray]:
    return {key: np.asarray(array, np.float32) for key, array in arrays.items()}

"""What preprocessing must know of the training set: its colours' principal components, its whitening matrix.

Each is computed in one pass over the images, when it is first needed, and kept in a cache directory.
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
from tqdm import tqdm

from inception_jax.data import crops, loader
from inception_jax.data.decoding import MAX_PIXELS, DamagedImage
from inception_jax.data.loader import DamageReport, Geometry
from inception_jax.data.tfds_directory import default_directory
from inception_jax.errors import UserError
from inception_jax.names import text_of
from inception_jax.runtime import cache_directory

# pylearn2/scripts/datasets/make_cifar10_gcn_whitened.py, which made the images of Maxout networks, Network in Network
# and All-CNN: CIFAR10(gcn=55.) and ZCA() of pylearn2/datasets/preprocessing.py, whose filter_bias is 0.1.
CONTRAST = 55.0  # norm of an image
WHITENING_BIAS = 0.1  # added to the variances
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
_LARGEST_WHITENED = 64 * 64 * 3  # numbers of an image: a matrix of 1.2 GB, several of which are in work (our choice)
_PART = 1024  # images that are added up at once; another number is another rounding of the whitening (our choice)

_FORMAT = 1  # of what is kept: a change of the computation raises it


def colour_statistics(
    source,
    size: int,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
    damage: DamageReport | None = None,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, np.ndarray]:
    """Principal components of the colours of all pixels, for AlexNet's noise, and their mean.

    "We perform PCA on the set of RGB pixel values throughout the ImageNet training set" (ImageNet classification with
    deep convolutional neural networks, section 4.1). The images are prepared as there in section 2: the shorter side is
    resized to `size`, and the central square kept, so that each image counts alike. Sums are of integers, and exact:
    the result is the same for any number of threads. A JPEG of 500 x 375 pixels took 2 ms on two cores; at that rate
    ImageNet takes three quarters of an hour.

    Args:
      source: of images, see `sources`.
      size: height and width of the squares; AlexNet's is 256.
      threads: that decode at once; 0: one for each core.
      progress: is called with the number of images of each part that is done.
      damage: an empty report, where damaged images, which are skipped, are noted.
      max_pixels: an image of more counts as damaged.

    Returns:
      All float32, channels in the order red, green, blue, on the scale 0 to 255:
      'colour_values' [3]: eigenvalues of the covariance, that is, variances, the largest first;
      'colour_vectors' [3, 3]: column j is the unit eigenvector of value j; its largest component is positive (our
        choice: an eigenvector has no sign);
      'colour_mean' [3].

    Raises:
      UserError: more than 1 % of the images are damaged.
    """

    def load(number: int) -> tuple[tuple[range, np.ndarray, np.ndarray], list[DamagedImage]]:
        indices = range(number * _PART, min((number + 1) * _PART, len(source)))
        square, damaged = np.empty((size, size, 3), np.uint8), []
        total, products = np.zeros(3, np.int64), np.zeros((3, 3), np.int64)
        for index in indices:
            try:
                image, _ = loader.read_image(source, index, max_pixels)
                crops.resize_and_central_crop(image, size, size, out=square)
            except DamagedImage as error:
                damaged.append(error)
                continue
            # Both are sums of integers in float64, which are exact below 2^53.
            total += np.array(cv2.sumElems(square)[:3], np.int64)
            products += cv2.mulTransposed(square.reshape(-1, 3), aTa=True, dtype=cv2.CV_64F).astype(np.int64)
        return (indices, total, products), damaged

    damage = DamageReport(source) if damage is None else damage
    total, products = np.zeros(3, np.int64), np.zeros((3, 3), np.int64)
    for indices, of_part, products_of_part in loader.in_order(load, range(-(-len(source) // _PART)), damage, threads):
        total += of_part
        products += products_of_part
        if progress:
            progress(len(indices))
    pixels = (len(source) - len(damage)) * size**2
    # Python's integers have no limit: only the division is rounded.
    total, products = total.tolist(), products.tolist()
    covariance = [[(pixels * products[i][j] - total[i] * total[j]) / pixels**2 for j in range(3)] for i in range(3)]
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), range(3)])
    mean = np.array(total) / pixels
    return _float32(colour_values=values, colour_vectors=vectors, colour_mean=mean)


def whitening_statistics(
    source,
    geometry: Geometry,
    channels: int,
    threads: int = 0,
    progress: Callable[[int], None] | None = None,
    damage: DamageReport | None = None,
) -> dict[str, np.ndarray]:
    """Mean and matrix of ZCA whitening, as for the CIFAR images of Maxout networks and their followers.

    x is an image as `contrast_normalised` makes it of the evaluation crop, and (x - mean) @ matrix the whitened one;
    matrix = V diag(1 / sqrt(lambda + 0.1)) V^T with the eigenvalues lambda and the eigenvectors V of the covariance
    sum (x - mean)^T (x - mean) / n (Maxout networks, https://arxiv.org/abs/1302.4389, section 4.2; the constants are
    those of pylearn2). Sums are in float64, over batches of a fixed size in the order of the images: the result is
    the same for any number of threads.

    For as many images as CIFAR-10 has, 50,000 with D = 3072, it took 61 s on two cores, 16 s of them for decoding PNG
    files, and 0.5 GB.

    Args:
      source: of images, see `sources`.
      geometry: of the evaluation crop; D = size * size * channels.
      channels: 3, or 1 for grey.
      threads: that decode at once; 0: one for each core.
      progress: is called with the number of images of each part that is done.
      damage: an empty report, where damaged images, which are skipped, are noted.

    Returns:
      All float32: 'whitening_mean' [D], 'whitening_matrix' [D, D], symmetric, and 'whitening_values' [D], the
      eigenvalues lambda, the largest first. Pixels run along rows, and channels fastest: an image [H, W, C], reshaped.

    Raises:
      UserError: D is too large, or more than 1 % of the images are damaged.
    """
    dimensions = _dimensions(geometry.size, channels)
    damage = DamageReport(source) if damage is None else damage
    share = loader.ProcessShare()
    mean, covariance = np.zeros(dimensions), np.zeros((dimensions, dimensions))
    for batch in loader.eval_batches(source, geometry, damage, batch_size=_PART, share=share, threads=threads):
        x = contrast_normalised(batch["image"][batch["mask"]], channels)
        mean += x.sum(axis=0)
        covariance += x.T @ x
        if progress:
            progress(len(x) + int(batch["damaged"].sum()))
    mean /= len(source) - len(damage)
    covariance /= len(source) - len(damage)
    covariance -= np.outer(mean, mean)
    values, vectors = np.linalg.eigh(covariance)
    values = values.clip(0)  # below by rounding only
    matrix = (vectors / np.sqrt(values + WHITENING_BIAS)) @ vectors.T
    return _float32(whitening_mean=mean, whitening_matrix=matrix, whitening_values=values[::-1])


def _dimensions(size: int, channels: int) -> int:
    """The numbers of an image that is to be whitened, if they are not too many."""
    dimensions = size**2 * channels
    if dimensions > _LARGEST_WHITENED:
        raise UserError(
            f"whitening images of {size} x {size} x {channels} needs a matrix of {dimensions**2 * 8e-9:,.1f} GB, and "
            "is for those of up to 64 x 64 x 3: lower config.data.image_size, or set config.data.whitening='gcn'"
        )
    return dimensions


def contrast_normalised(images: np.ndarray, channels: int) -> np.ndarray:
    """Global contrast normalisation: each image minus its mean, then divided so that its norm is 55.

    The mean and the norm are over all pixels and channels together. An image of one colour, of whatever rounding leaves
    a norm below 55e-8, becomes 0 (pylearn2/expr/preprocessing.py, min_divisor).

    Args:
      images: uint8 [N, H, W, 3].
      channels: 3, or 1: of the luma, which is not rounded.

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


def training_statistics(
    source,
    *,
    name: str,
    split: str,
    directory: str,
    geometry: Geometry,
    channels: int,
    pca_noise: bool,
    whitening: str,
    threads: int = 0,
    say: Callable[[str], None],
) -> dict[str, np.ndarray]:
    """What the preprocessing of a config needs: from the cache, else fitted now and kept there.

    Args:
      source: the training images, see `sources`.
      name: of the data set.
      split: that is trained on.
      directory: of the data, as for `open_source`.
      geometry: of the crops; colours are those of squares of `resize` pixels, whitened is the evaluation crop.
      channels: 3, or 1 for grey.
      pca_noise: whether 'colour_values' and 'colour_vectors' are needed, see `colour_statistics`.
      whitening: if 'gcn_zca', 'whitening_mean' and 'whitening_matrix' are, see `whitening_statistics`.
      threads: that decode at once; 0: one for each core.
      say: takes a line to show, before and after something is fitted.

    Returns:
      The arrays that are needed, float32, with the keys and shapes of `blank_statistics`.

    Raises:
      UserError: the images are too large to be whitened, or more than 1 % of them are damaged.
    """
    needed = blank_statistics(geometry.size, channels=channels, pca_noise=pca_noise, whitening=whitening)
    found = {}
    for kind in dict.fromkeys(key.partition("_")[0] for key in needed):
        found |= fitted(
            kind,
            source,
            name=name,
            split=split,
            directory=directory,
            geometry=geometry,
            channels=channels,
            threads=threads,
            say=say,
        )[0]
    return {key: found[key] for key in needed}


def blank_statistics(size: int, *, channels: int, pca_noise: bool, whitening: str) -> dict[str, np.ndarray]:
    """Zeros with the keys and shapes of `training_statistics`, for images of size x size; the same UserError."""
    shapes = {}
    if pca_noise:
        shapes |= {"colour_values": (3,), "colour_vectors": (3, 3)}
    if whitening == "gcn_zca":
        dimensions = _dimensions(size, channels)
        shapes |= {"whitening_mean": (dimensions,), "whitening_matrix": (dimensions, dimensions)}
    return {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}


def fitted(
    kind: str,
    source,
    *,
    name: str,
    split: str,
    directory: str,
    geometry: Geometry,
    channels: int,
    threads: int = 0,
    say: Callable[[str], None],
    force: bool = False,
) -> tuple[dict[str, np.ndarray], Path]:
    """Returns the statistics of one kind, and the file in which they are kept; arguments as `training_statistics`.

    The file is below `runtime.cache_directory`. Its name tells by a hash of which data set it is and how it was
    fitted; that images were exchanged for others, as many, in the same place, is not noticed. One that is damaged is
    written anew. Processes that fit at once do no harm: each replaces the file as a whole.

    Args:
      kind: 'colour' or 'whitening', the function of that name.
      force: fit even if there is a file.
    """
    directory = os.path.abspath(os.path.expanduser(directory or default_directory()))
    arguments = {"resize": geometry.resize}
    if kind == "whitening":
        arguments |= {"size": geometry.size, "channels": channels}
    facts = {
        "format": _FORMAT,
        "kind": kind,
        "name": name,
        "split": split,
        "directory": text_of(directory),
        "images": len(source),
        "classes": source.class_names,
        **arguments,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_directory() / "statistics" / f"{re.sub('[^A-Za-z0-9]+', '_', name)}-{kind}-{digest}.npz"
    if not force and (kept := _load(path)) is not None:
        return kept, path

    say(f"fitting {kind} statistics of {len(source):,} images of {name}/{split}")
    start, damage = time.perf_counter(), DamageReport(source)
    with tqdm(total=len(source), unit=" images", disable=None) as bar:  # None: on a terminal only
        if kind == "colour":
            arrays = colour_statistics(source, geometry.resize, threads, bar.update, damage, geometry.max_pixels)
        else:
            arrays = whitening_statistics(source, geometry, channels, threads, bar.update, damage)
    if damage:
        say(damage.summary())
    took = f"{kind} statistics: {time.perf_counter() - start:.1f} s"
    try:
        _save(path, arrays)
        say(f"{took}, kept in {path}")
    except OSError as error:  # a full disk is no reason to stop
        say(f"{took}, not kept: {error}")
    return arrays, path


def _load(path: Path) -> dict[str, np.ndarray] | None:
    """None if there is no such file, or a damaged one."""
    try:
        with np.load(path) as kept:
            return dict(kept)  # reads the arrays, and checks their checksums
    except Exception:  # of a damaged file NumPy and zipfile raise OSError, ValueError, BadZipFile, EOFError, ...
        return None


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        written = Path(directory, path.name)
        np.savez(written, **arrays)
        written.replace(path)


def _float32(**arrays: np.ndarray) -> dict[str, np.ndarray]:
    return {key: np.asarray(array, np.float32) for key, array in arrays.items()}

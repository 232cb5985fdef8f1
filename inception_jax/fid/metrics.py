"""Distances and scores of features; nothing here knows of images, networks or files.

Computed in float64 with NumPy, but for nearest neighbours, whose distances are computed in blocks on a device.
"""

import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from inception_jax.errors import UserError

SEED = 2020  # torch-fidelity's, so that its subsets and splits come out
_BLOCK = 2048  # rows of one block of distances


def frechet_distance(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """Returns |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)): FID, Heusel et al. 2017, https://arxiv.org/abs/1706.08500.

    The trace of (A B)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2). The roots of the symmetric A and B
    come from their eigenvalues, negative ones counted as 0. So the result is right also for singular covariances, and
    0 for identical sets. pytorch-fid and ADM's evaluator take `scipy.linalg.sqrtm` of A B, which fails where A B is
    singular; they then add 1e-6 to the diagonals.

    Args:
      mean_a: float64 [d].
      covariance_a: float64 [d, d].
      mean_b: float64 [d].
      covariance_b: float64 [d, d].
    """
    singular = np.linalg.svd(_root(covariance_a) @ _root(covariance_b), compute_uv=False)
    traces = np.trace(covariance_a) + np.trace(covariance_b)
    return float(np.sum((mean_a - mean_b) ** 2) + traces - 2 * singular.sum())


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def kernel_distance(
    features_a: np.ndarray, features_b: np.ndarray, *, subsets: int = 100, subset_size: int = 1000, seed: int = SEED
) -> tuple[float, float]:
    """Returns mean and standard deviation of KID over subsets: Binkowski et al. 2018, https://arxiv.org/abs/1801.01401.

    KID is the unbiased estimate of the squared maximum mean discrepancy with the kernel (x . y / d + 1)^3. The subsets
    are those of torch-fidelity (metric_kid.py) with the generated images as its first input, and as `features_a` here.

    Args:
      features_a: [n, d].
      features_b: [m, d].
      subsets: number of subsets.
      subset_size: number of vectors of each set in a subset, without replacement.
      seed: of the subsets.

    Raises:
      UserError: the features are invalid, or fewer than `subset_size`.
    """
    a, b = _checked(features_a, features_b)
    if subset_size < 2 or subset_size > min(len(a), len(b)):
        raise UserError(f"subset_size={subset_size} must be from 2 to {min(len(a), len(b))}, the number of images")
    random = np.random.RandomState(seed)
    dimensions, n = a.shape[1], subset_size

    def kernel(x, y):
        return (x @ y.T / dimensions + 1) ** 3

    found = []
    for _ in range(subsets):
        x, y = (vectors[random.choice(len(vectors), n, replace=False)] for vectors in (a, b))
        within = sum(k.sum() - np.trace(k) for k in (kernel(x, x), kernel(y, y)))
        found.append(within / (n * (n - 1)) - 2 * kernel(x, y).mean())
    return float(np.mean(found)), float(np.std(found))


def inception_score(logits: np.ndarray, *, splits: int = 10, seed: int = SEED) -> tuple[float, float]:
    """Returns mean and standard deviation of the Inception score over splits.

    exp(E_x KL(p(y | x) || p(y))), Salimans et al. 2016, https://arxiv.org/abs/1606.03498. Images are shuffled first, as
    in torch-fidelity (metric_isc.py); without it, sets that are sorted by class would have small scores.

    Args:
      logits: [n, classes]; for the network of 2015 without its bias.
      splits: number of splits, of n / splits images each.
      seed: of the shuffling.

    Raises:
      UserError: the logits are invalid, or fewer than the splits.
    """
    logits = _finite(logits, "logits").astype(np.float64)
    if len(logits) < splits:
        raise UserError(f"splits={splits} are more than the {len(logits)} images")
    logits = logits[np.random.RandomState(seed).permutation(len(logits))]
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    bounds = [number * len(logits) // splits for number in range(splits + 1)]
    scores = []
    for start, stop in itertools.pairwise(bounds):
        part = log_p[start:stop]
        p = np.exp(part)
        log_marginal = np.log(np.maximum(p.mean(axis=0), np.finfo(np.float64).tiny))  # of a class that all rule out
        scores.append(math.exp((p * (part - log_marginal)).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def precision_recall(real: np.ndarray, generated: np.ndarray, *, neighbours: int = 3) -> tuple[float, float]:
    """Returns improved precision and recall: Kynkaanniemi et al. 2019, https://arxiv.org/abs/1904.06991.

    Precision is the share of generated images inside a ball around a real one, which reaches to its k-th nearest other
    real one; recall the same with the sets exchanged. Memory is that of the features and of a few blocks.

    Args:
      real: features [n, d].
      generated: features [m, d].
      neighbours: k.

    Raises:
      UserError: the features are invalid, or not more than `neighbours`.
    """
    real, generated = _centred(real, generated)
    inside_real, _ = _balls(real, generated, neighbours)
    inside_generated, _ = _balls(generated, real, neighbours)
    return float((inside_real > 0).mean()), float((inside_generated > 0).mean())


def density_coverage(real: np.ndarray, generated: np.ndarray, *, neighbours: int = 5) -> tuple[float, float]:
    """Returns density and coverage: Naeem et al. 2020, https://arxiv.org/abs/2002.09797.

    Density is the number of balls around real images that hold a generated one, divided by k, on average. It may be
    above 1. Coverage is the share of these balls that hold any generated image. Arguments and errors as
    `precision_recall`.
    """
    real, generated = _centred(real, generated)
    inside, covered = _balls(real, generated, neighbours)
    return float(inside.mean() / neighbours), float(covered.mean())


def _balls(centres: np.ndarray, points: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of balls that hold each point, int [m], and whether each ball holds any, bool [n]."""
    if not 0 < neighbours < len(centres):
        raise UserError(f"neighbours={neighbours} must be from 1 to {len(centres) - 1}, fewer than the images")
    radii = np.concatenate([_radii(block, start, centres, neighbours) for start, block in _blocks(centres)])
    inside, covered = np.zeros(len(points), np.int64), np.zeros(len(centres), bool)
    for row, block in _blocks(points):
        for column, others in _blocks(centres):
            held = np.asarray(_held(block, others, _padded(radii[column : column + _BLOCK], -1.0)))  # padding: no ball
            inside[row : row + _BLOCK] += held.sum(axis=1)[: len(points) - row]
            covered[column : column + _BLOCK] |= held[: len(points) - row].max(axis=0)[: len(centres) - column]
    return inside, covered


def _radii(block: np.ndarray, start: int, centres: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row."""
    nearest = jnp.full((len(block), neighbours), jnp.inf)
    for other, others in _blocks(centres):
        nearest = _nearer(nearest, block, others, start, other, len(centres))
    return np.asarray(nearest)[: len(centres) - start, -1]


@jax.jit
def _nearer(nearest, block, others, start, other, count):
    rows, columns = start + jnp.arange(len(block))[:, None], other + jnp.arange(len(others))
    # A vector is not its own neighbour; its duplicates are.
    distances = jnp.where((rows == columns) | (columns >= count), jnp.inf, _squared_distances(block, others))
    return -lax.top_k(-jnp.concatenate([nearest, distances], axis=1), nearest.shape[1])[0]


@jax.jit
def _held(points, centres, radii):
    return _squared_distances(points, centres) <= radii


def _squared_distances(a, b):
    products = jnp.matmul(a, b.T, precision=lax.Precision.HIGHEST)
    return jnp.maximum((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * products, 0)


def _blocks(vectors: np.ndarray):
    """Rows of one block each, padded to its size, with the number of the first."""
    for start in range(0, len(vectors), _BLOCK):
        yield start, _padded(vectors[start : start + _BLOCK], 0.0)


def _padded(rows: np.ndarray, value: float) -> np.ndarray:
    missing = [(0, _BLOCK - len(rows)), *[(0, 0)] * (rows.ndim - 1)]
    return np.pad(rows, missing, constant_values=value)


def fid_infinity(
    moments_a: tuple[np.ndarray, np.ndarray], features_b: np.ndarray, *, points: int = 15, seed: int = SEED
) -> tuple[float, float]:
    """Returns the FID extrapolated to infinitely many images of the second set, and its standard error.

    The bias of a FID falls as 1 / N. So FIDs of random subsets of N / 10 to N images are fitted by a line in 1 / N,
    whose intercept is the result: Chong and Forsyth 2020, https://arxiv.org/abs/1911.07023 (FID-infinity; they draw
    generated images from a Sobol sequence, which an existing set cannot have). The bias of the first set remains. The
    error is that of the intercept of least squares; it takes the subsets for independent, which they are not.

    Args:
      moments_a: mean and covariance of the first set, float64 [d] and [d, d].
      features_b: of the second set, [n, d].
      points: number of sizes, at regular distances.
      seed: of the subsets.

    Raises:
      UserError: the features are invalid, or fewer than 20.
    """
    features = _finite(features_b, "features_b")
    if len(features) < 20:
        raise UserError(f"{len(features)} images are too few to extrapolate a FID: give 20 or more")
    distance, random = _weighted_distance(*moments_a, features), np.random.default_rng(seed)
    sizes = np.linspace(max(2, len(features) // 10), len(features), points).astype(int)
    found = []
    for size in sizes.tolist():
        weights = np.zeros(len(features))
        weights[random.choice(len(features), size, replace=False)] = 1
        found.append(distance(weights))
    (_, intercept), covariance = np.polyfit(1 / sizes, found, 1, cov=True)
    return float(intercept), float(np.sqrt(covariance[1, 1]))


def fid_interval(
    moments_a: tuple[np.ndarray, np.ndarray], features_b: np.ndarray, *, resamples: int = 100, seed: int = SEED
) -> tuple[float, float]:
    """Returns a 95 % interval of the FID for another choice of as many images of the second set.

    By the bootstrap (Efron and Tibshirani 1993, chapter 13): images are drawn with replacement. Duplicates make such
    FIDs too large, so only their deviations from their mean are taken, around the FID itself. The interval does not
    hold the bias of a FID, for which `fid_infinity` is, nor the choice of the first set.

    Args:
      moments_a: mean and covariance of the first set, float64 [d] and [d, d].
      features_b: of the second set, [n, d].
      resamples: number of resamplings.
      seed: of the resamplings.

    Raises:
      UserError: the features are invalid, or fewer than two.
    """
    features = _finite(features_b, "features_b")
    n, random = len(features), np.random.default_rng(seed)
    distance = _weighted_distance(*moments_a, features)
    found = np.array([distance(random.multinomial(n, np.full(n, 1 / n))) for _ in range(resamples)])
    low, high = np.quantile(found - found.mean(), (0.025, 0.975)) + distance(np.ones(n))
    return float(low), float(high)


def _weighted_distance(mean: np.ndarray, covariance: np.ndarray, features: np.ndarray) -> Callable[[np.ndarray], float]:
    """A function from the multiplicity of each vector, [n], to the FID.

    With Y the deviations times A^(1/2), the squares of the singular values of A^(1/2) B^(1/2) are the eigenvalues of
    Y^T Y / (n - 1), or of Y Y^T / (n - 1), whichever is smaller. It takes a third of the time of `frechet_distance`.
    """
    if len(features) < 2:
        raise UserError(f"{len(features)} images have no covariance: give two or more")
    _same_dimensions(len(mean), features.shape[1])
    features = features.astype(np.float64)
    projected, trace = features @ _root(covariance), np.trace(covariance)

    def distance(weights: np.ndarray) -> float:
        rows = np.flatnonzero(weights)
        w = weights[rows].astype(np.float64)
        count = w.sum()
        mean_b = w @ features[rows] / count
        spread = (w * ((features[rows] - mean_b) ** 2).sum(axis=1)).sum() / (count - 1)
        y = (projected[rows] - w @ projected[rows] / count) * np.sqrt(w / (count - 1))[:, None]
        eigenvalues = np.linalg.eigvalsh(y.T @ y if len(rows) > y.shape[1] else y @ y.T)
        nuclear = np.sqrt(np.maximum(eigenvalues, 0)).sum()
        return float(((mean - mean_b) ** 2).sum() + trace + spread - 2 * nuclear)

    return distance


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = _finite(a, "features_a").astype(np.float64), _finite(b, "features_b").astype(np.float64)
    _same_dimensions(a.shape[1], b.shape[1])
    return a, b


def _centred(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets in float32 minus the mean of the first, against cancellation in |a|^2 + |b|^2 - 2 a . b."""
    real, generated = _finite(real, "real"), _finite(generated, "generated")
    _same_dimensions(real.shape[1], generated.shape[1])
    mean = real.mean(axis=0, dtype=np.float64)
    return (real - mean).astype(np.float32), (generated - mean).astype(np.float32)


def _finite(vectors: np.ndarray, name: str) -> np.ndarray:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        raise UserError(f"{name} must be [n, d], not of shape {list(vectors.shape)}")
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise UserError(f"{name}: {bad} of {len(vectors)} rows are not finite")
    return vectors


def _same_dimensions(a: int, b: int) -> None:
    if a != b:
        raise UserError(f"the sets have {a} and {b} dimensions: they are of different layers")

"""Distances and scores of features; nothing here knows of images, networks or files.

Computed in float64 with NumPy, but for nearest neighbours, whose distances are computed in blocks on a device.
"""

import itertools
import math
from collections.abc import Callable, Iterator

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
    come from their eigenvalues; those within rounding of 0 count as 0. So the result is right also for singular
    covariances, and 0 for identical sets. pytorch-fid and ADM's evaluator take `scipy.linalg.sqrtm` of A B, which fails
    where A B is singular; they then add 1e-6 to the diagonals.

    Args:
      mean_a: [d].
      covariance_a: [d, d].
      mean_b: [d].
      covariance_b: [d, d].

    Raises:
      UserError: the moments are not finite, have other shapes, or differ in dimensions.
    """
    (mean_a, a), (mean_b, b) = _moments(mean_a, covariance_a), _moments(mean_b, covariance_b)
    _same_dimensions(len(mean_a), len(mean_b))
    singular = np.linalg.svd(_factor(a).T @ _factor(b), compute_uv=False)
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * singular.sum())


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F, [d, rank], with F F^T = A: A^(1/2) without a rotation, which changes no singular value of its products."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0)  # numpy.linalg.matrix_rank's bound
    return vectors[:, kept] * np.sqrt(values[kept])


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
      UserError: the features are invalid, or fewer than `subset_size`; or `subsets` is less than 1.
    """
    a, b = _finite(features_a, "features_a", 2), _finite(features_b, "features_b", 2)
    _same_dimensions(a.shape[1], b.shape[1])
    _at_least(1, subsets=subsets)
    if subset_size < 2 or subset_size > min(len(a), len(b)):
        raise UserError(f"subset_size={subset_size} must be from 2 to {min(len(a), len(b))}, the number of images")
    random = np.random.RandomState(seed)
    dimensions, n = a.shape[1], subset_size

    def kernel(x, y):
        return (x @ y.T / dimensions + 1) ** 3

    found = []
    for _ in range(subsets):
        x, y = (vectors[random.choice(len(vectors), n, replace=False)].astype(np.float64) for vectors in (a, b))
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
      UserError: the logits are invalid, or fewer than the splits; or `splits` is less than 1.
    """
    logits = _finite(logits, "logits").astype(np.float64)
    _at_least(1, splits=splits)
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
    real one; recall the same with the sets exchanged. Memory is that of two copies of the features and of a few blocks.

    Distances are computed in float32, as in torch-fidelity (metric_prc.py). Those below a thousandth of the distance
    from the mean are lost in rounding.

    Args:
      real: features [n, d].
      generated: features [m, d].
      neighbours: k.

    Raises:
      UserError: the features are invalid, or not more than `neighbours`.
    """
    real, generated = _standardised(real, generated, least=2)
    inside_real, _ = _balls(real, generated, neighbours)
    inside_generated, _ = _balls(generated, real, neighbours)
    return float((inside_real > 0).mean()), float((inside_generated > 0).mean())


def density_coverage(real: np.ndarray, generated: np.ndarray, *, neighbours: int = 5) -> tuple[float, float]:
    """Returns density and coverage: Naeem et al. 2020, https://arxiv.org/abs/2002.09797.

    Density is the number of balls around real images that hold a generated one, divided by k, on average. It may be
    above 1. Coverage is the share of these balls that hold any generated image. Arguments and errors as
    `precision_recall`.
    """
    real, generated = _standardised(real, generated, least=1)
    inside, covered = _balls(real, generated, neighbours)
    return float(inside.mean() / neighbours), float(covered.mean())


def _balls(centres: np.ndarray, points: np.ndarray, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of balls that hold each point, int [m], and whether each ball holds any, bool [n]."""
    if not 0 < neighbours < len(centres):
        raise UserError(f"neighbours={neighbours} must be from 1 to {len(centres) - 1}, fewer than the images")
    radii = np.concatenate([_radii(block, start, centres, neighbours) for start, block in _blocks(centres)])
    inside, covered = np.zeros(len(points), np.int64), np.zeros(len(centres), bool)
    for row, block in _blocks(centres):
        radius = _padded(radii[row : row + _BLOCK], -1.0)[:, None]  # padding has no ball
        for column, others in _blocks(points):
            distances = np.asarray(_squared_distances(block, others))
            held = np.less_equal(distances, radius)[:, : len(points) - column]
            inside[column : column + _BLOCK] += held.sum(axis=0)
            covered[row : row + _BLOCK] |= held.any(axis=1)[: len(centres) - row]
    return inside, covered


def _radii(block: np.ndarray, start: int, centres: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row."""
    nearest = jnp.full((len(block), neighbours), jnp.inf)
    for other, others in _blocks(centres):
        nearest = _nearer(nearest, _squared_distances(block, others), start, other, len(centres))
    return np.asarray(nearest)[: len(centres) - start, -1]


@jax.jit
def _nearer(nearest, distances, start, other, count):
    rows, columns = start + jnp.arange(distances.shape[0]), other + jnp.arange(distances.shape[1])
    # A vector is not its own neighbour; its duplicates are.
    distances = jnp.where((rows[:, None] == columns) | (columns >= count), jnp.inf, distances)
    return -lax.top_k(-jnp.concatenate([nearest, distances], axis=1), nearest.shape[1])[0]


@jax.jit  # apart from what it is used for, so that equal distances are rounded equally, and ties stay ties
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

    The bias of a FID falls as 1 / N once N is well above d. So FIDs of random subsets are fitted by a line in 1 / N,
    whose intercept is the result: Chong and Forsyth 2020, https://arxiv.org/abs/1911.07023 (FID-infinity; they draw
    generated images from a Sobol sequence, which an existing set cannot have). The bias of the first set remains.

    The subsets have N / 10 images or more, as in the paper, and 2.5 d or more, its 5,000 for d = 2048; but N / 2 is
    enough for the smallest. With N below 2 d the line does not hold, and the result is too small or too large.

    The error has two parts: that of the intercept of least squares, and the deviation of the FID over 25 bootstrap
    resamplings. The first alone misses that all subsets are of the same N images, and is half the true one.

    Args:
      moments_a: mean and covariance of the first set, float64 [d] and [d, d].
      features_b: of the second set, [n, d].
      points: number of sizes, at regular distances, 3 or more.
      seed: of the subsets.

    Raises:
      UserError: the features are invalid, or fewer than 20.
    """
    features = _finite(features_b, "features_b", 20)
    _at_least(3, points=points)
    distance, random = _weighted_distance(*moments_a, features), np.random.default_rng(seed)
    n, d = features.shape
    sizes = np.linspace(max(n // 10, min(5 * d // 2, n // 2)), n, points).astype(int)
    found = []
    for size in sizes.tolist():
        weights = np.zeros(n)
        weights[random.choice(n, size, replace=False)] = 1
        found.append(distance(weights))
    (_, intercept), covariance = np.polyfit(1 / sizes, found, 1, cov=True)
    sampling = _resampled(distance, n, 25, random).var(ddof=1)
    return float(intercept), float(np.sqrt(covariance[1, 1] + sampling))


def fid_interval(
    moments_a: tuple[np.ndarray, np.ndarray], features_b: np.ndarray, *, resamples: int = 100, seed: int = SEED
) -> tuple[float, float]:
    """Returns a 95 % interval of the FID for another choice of as many images of the second set.

    By the basic bootstrap (Davison and Hinkley 1997, section 5.2): images are drawn with replacement. Duplicates make
    such FIDs too large, so only their deviations from their mean are taken, reflected around the FID itself. The
    interval is about the mean FID of n images. It does not hold the bias of a FID, for which `fid_infinity` is, nor the
    choice of the first set. It is too wide, by up to 3 times, for FIDs near 0 and for fewer images than dimensions.

    Args:
      moments_a: mean and covariance of the first set, float64 [d] and [d, d].
      features_b: of the second set, [n, d].
      resamples: number of resamplings.
      seed: of the resamplings.

    Raises:
      UserError: the features are invalid, or fewer than two.
    """
    features = _finite(features_b, "features_b", 2)
    _at_least(2, resamples=resamples)
    n, distance = len(features), _weighted_distance(*moments_a, features)
    found = _resampled(distance, n, resamples, np.random.default_rng(seed))
    low, high = distance(np.ones(n)) + found.mean() - np.quantile(found, (0.975, 0.025))
    return float(low), float(high)


def _resampled(distance: Callable, n: int, resamples: int, random: np.random.Generator) -> np.ndarray:
    return np.array([distance(random.multinomial(n, np.full(n, 1 / n))) for _ in range(resamples)])


def _weighted_distance(mean: np.ndarray, covariance: np.ndarray, features: np.ndarray) -> Callable[[np.ndarray], float]:
    """A function from the multiplicity of each vector, [n], to the FID.

    With A = F F^T and Y the deviations times F, the squares of the singular values of A^(1/2) B^(1/2) are the
    eigenvalues of Y^T Y / (n - 1), or of Y Y^T / (n - 1), whichever is smaller. It takes a third of the time of
    `frechet_distance`.
    """
    mean, covariance = _moments(mean, covariance)
    _same_dimensions(len(mean), features.shape[1])
    centre = features.mean(axis=0, dtype=np.float64)
    centred = features - centre
    factor, trace, difference = _factor(covariance), np.trace(covariance), centre - mean
    projected, norms = centred @ factor, np.einsum("nd,nd->n", centred, centred)

    def distance(weights: np.ndarray) -> float:
        count = weights.sum()
        shift = weights @ centred / count
        spread = (weights @ norms - count * (shift @ shift)) / (count - 1)
        rows = np.flatnonzero(weights)
        y = projected[rows]
        y -= shift @ factor
        y *= np.sqrt(weights[rows] / (count - 1))[:, None]
        eigenvalues = np.linalg.eigvalsh(y.T @ y if len(rows) > y.shape[1] else y @ y.T)
        nuclear = np.sqrt(np.maximum(eigenvalues, 0)).sum()
        return float(((difference + shift) ** 2).sum() + trace + spread - 2 * nuclear)

    return distance


def _moments(mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, covariance = np.atleast_1d(np.asarray(mean, np.float64)), np.atleast_2d(np.asarray(covariance, np.float64))
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        shapes = f"{list(mean.shape)} and {list(covariance.shape)}"
        raise UserError(f"mean and covariance must be [d] and [d, d], not of shapes {shapes}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError("mean or covariance is not finite")
    return mean, covariance


def _standardised(real: np.ndarray, generated: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sets in float32, centred and scaled against cancellation in |a|^2 + |b|^2 - 2 a . b and against overflow.

    Scale and centre are rounded to powers of two and their multiples: features of few digits, such as integers, keep
    exact ties.
    """
    real, generated = _finite(real, "real", 2), _finite(generated, "generated", least)
    _same_dimensions(real.shape[1], generated.shape[1])
    centre = real.mean(axis=0, dtype=np.float64)
    units = [_power_of_two(sum(np.abs(part - centre).sum() for part in _parts(each)) / each.size)
             for each in (real, generated)]  # fmt: skip
    centre = np.round(centre / units[0] * 8) * units[0] / 8

    def standardise(vectors):
        return np.concatenate([((part - centre) / max(units)).astype(np.float32) for part in _parts(vectors)])

    return standardise(real), standardise(generated)


def _power_of_two(value: float) -> float:
    return 2.0 ** np.floor(np.log2(value)) if value else 1.0


def _parts(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Views of the rows of each block."""
    return (vectors[start : start + _BLOCK] for start in range(0, len(vectors), _BLOCK))


def _finite(vectors: np.ndarray, name: str, least: int = 1) -> np.ndarray:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise UserError(f"{name} must be [n, d], not of shape {list(vectors.shape)}")
    if len(vectors) < least:
        raise UserError(f"{name}: {len(vectors)} images are too few: give {least} or more")
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise UserError(f"{name}: {bad} of {len(vectors)} rows are not finite")
    return vectors


def _at_least(least: int, **number: int) -> None:
    for name, value in number.items():
        if value < least:
            raise UserError(f"{name}={value} must be {least} or more")


def _same_dimensions(a: int, b: int) -> None:
    if a != b:
        raise UserError(f"the sets have {a} and {b} dimensions: they are of different layers")

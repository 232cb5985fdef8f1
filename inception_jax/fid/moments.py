"""Mean and covariance of features, streamed in float64, so that no feature is kept.

Every device sums its own part of each batch. The parts are merged exactly by the formula of Chan, Golub and LeVeque
(1979, http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf, section 2), which also merges devices,
processes and files. The order and the division of the images change the result by rounding in float64 only.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.errors import UserError
from inception_jax.parallel import SPLIT, DataParallel


@dataclasses.dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of a set of vectors.

    Attributes:
      count: number of vectors.
      mean: float64 [d].
      scatter: float64 [d, d], sum of (x - mean)(x - mean)^T.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, float64 [d, d]; raises UserError for fewer than two vectors."""
        if self.count < 2:
            raise UserError(f"{self.count} image{'' if self.count == 1 else 's'} have no covariance: give two or more")
        return self.scatter / (self.count - 1)


def moments_of(features: np.ndarray) -> Moments:
    """Returns the moments of features [n, d]."""
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0) if len(features) else np.zeros(features.shape[1])
    deviations = features - mean
    return Moments(len(features), mean, deviations.T @ deviations)


def merge(parts: Iterable[Moments]) -> Moments:
    """Returns the moments of the union of disjoint sets."""
    return functools.reduce(_merge_two, parts)


def _merge_two(a: Moments, b: Moments) -> Moments:
    return Moments(*_chan(np, a.count, a.mean, a.scatter, b.count, b.mean, b.scatter))


def _chan(numpy, count_a, mean_a, scatter_a, count_b, mean_b, scatter_b):
    count = count_a + count_b
    share = count_b / numpy.maximum(count, 1)
    difference = mean_b - mean_a
    scatter = scatter_a + scatter_b + numpy.outer(difference, difference) * (count_a * share)
    return count, mean_a + difference * share, scatter


class PartialMoments(NamedTuple):
    """Moments of the images that each device has seen; the first dimension, of length D, is the device's.

    Attributes:
      counts: float64 [D].
      means: float64 [D, d].
      scatters: float64 [D, d, d].
    """

    counts: jax.Array
    means: jax.Array
    scatters: jax.Array


def no_moments(parallel: DataParallel, dimensions: int) -> PartialMoments:
    """Returns the moments of no image on each device."""
    shapes = (), (dimensions,), (dimensions, dimensions)
    with jax.enable_x64(True):
        return PartialMoments(*(parallel.shard(np.zeros((parallel.device_count, *shape))) for shape in shapes))


def add_batch(parallel: DataParallel, partial: PartialMoments, features: jax.Array, valid: jax.Array) -> PartialMoments:
    """Adds a batch on the devices.

    Args:
      parallel: the devices.
      partial: moments so far.
      features: float32 [N, d], split over the devices.
      valid: bool [N]; False for padding.
    """
    with jax.enable_x64(True):  # the network itself runs outside, in float32
        return _adder(parallel)(partial, features, valid)


@functools.cache
def _adder(parallel: DataParallel):
    def add(partial: PartialMoments, features, valid):
        valid = valid.astype(jnp.float64)[:, None]
        features = jnp.where(valid > 0, features.astype(jnp.float64), 0)  # padding may hold anything
        count = valid.sum()
        mean = features.sum(axis=0) / jnp.maximum(count, 1)
        deviations = (features - mean) * valid
        scatter = jnp.matmul(deviations.T, deviations, precision=jax.lax.Precision.HIGHEST)
        counts, means, scatters = partial
        merged = _chan(jnp, counts[0], means[0], scatters[0], count, mean, scatter)
        return PartialMoments(*(part[None] for part in merged))

    return parallel.map(add, (SPLIT, SPLIT, SPLIT), SPLIT)


def total_moments(partial: PartialMoments) -> Moments:
    """Merges the moments of all devices of all processes; every process returns the same."""
    counts, means, scatters = (np.asarray(part) for part in partial)
    own = merge(itertools.starmap(Moments, zip(map(round, counts.tolist()), means, scatters, strict=True)))
    return own if jax.process_count() == 1 else _over_processes(own)


def _over_processes(own: Moments) -> Moments:
    """Two sums over the processes: counts and means, then the scatter about the common mean. No feature travels."""
    count = round(float(_sum(np.array(float(own.count)))))
    mean = _sum(own.count * own.mean) / max(count, 1)
    difference = own.mean - mean
    return Moments(count, mean, _sum(own.scatter + own.count * np.outer(difference, difference)))


def _sum(values: np.ndarray) -> np.ndarray:
    mesh = jax.make_mesh((jax.process_count(),), ("process",), devices=_one_device_each())
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("process"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    with jax.enable_x64(True):
        parts = jax.make_array_from_process_local_data(split, values[None])
        return np.asarray(jax.jit(lambda x: x.sum(axis=0), out_shardings=everywhere)(parts))


def _one_device_each() -> list[jax.Device]:
    first: dict[int, jax.Device] = {}
    for device in jax.devices():
        first.setdefault(device.process_index, device)
    return [first[process] for process in sorted(first)]

"""One data-parallel axis over all devices, by `jax.shard_map` or by `jax.pmap`.

A step is a pure function of one device, `step(replicated, batch) -> (replicated, per_example)`, which averages over
the axis `AXIS` by itself. The mapped function takes and gives global arrays: the first argument and result replicated,
the batch and the second result split along their first dimension. So a state has no device dimension, and a
checkpoint restores on any number of devices.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from inception_jax.errors import UserError

AXIS = "batch"
# XLA's options for programs that run a few times only: they compile a training step in half of the time, an
# initialisation in a quarter.
HASTY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class DataParallel:
    """Places arrays on all devices and maps steps over them."""

    def __init__(self, kind: str = "shard_map", devices: Sequence[jax.Device] | None = None, hasty: bool = False):
        """Chooses the devices.

        Args:
          kind: 'shard_map', or 'pmap' for the same step under `jax.pmap`, on one process.
          devices: to use; all that there are unless given.
          hasty: compile steps with `HASTY`; not under pmap.
        """
        if kind not in ("shard_map", "pmap"):
            raise UserError(f"config.parallel={kind!r} is not one of shard_map, pmap")
        if kind == "pmap" and jax.process_count() > 1:
            raise UserError("config.parallel='pmap' is for one process; with several take 'shard_map'")
        self.kind, self.hasty = kind, hasty
        self.mesh = Mesh(np.array(devices or jax.devices()), (AXIS,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.split = NamedSharding(self.mesh, PartitionSpec(AXIS))

    @property
    def device_count(self) -> int:
        """Number of devices of all processes."""
        return self.mesh.size

    def replicate(self, tree):
        """Puts the same arrays on every device."""
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.replicated, np.asarray(x)), tree)

    def shard(self, batch):
        """Makes global arrays, split along the first dimension, of this process's part of a batch."""
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.split, x), batch)

    def map(self, step: Callable, donate: bool = False) -> Callable:
        """Maps `step` over the devices and compiles it; with `donate` its first argument's memory is reused."""
        donated = (0,) if donate else ()
        if self.kind == "pmap":
            mapped = jax.pmap(
                step,
                axis_name=AXIS,
                devices=list(self.mesh.devices),
                in_axes=(None, 0),
                out_axes=(None, 0),
                donate_argnums=donated,
            )
            return lambda replicated, batch: self._call_pmap(mapped, replicated, batch)
        replicated, split = PartitionSpec(), PartitionSpec(AXIS)
        # Without check_vma a gradient inside is the device's own, as under pmap; with it JAX would sum it already.
        mapped = jax.shard_map(
            step, mesh=self.mesh, in_specs=(replicated, split), out_specs=(replicated, split), check_vma=False
        )
        return jax.jit(mapped, donate_argnums=donated, compiler_options=HASTY if self.hasty else None)

    def _call_pmap(self, mapped, replicated, batch):
        devices = self.device_count
        batch = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
        replicated, per_example = mapped(replicated, batch)
        return replicated, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), per_example)

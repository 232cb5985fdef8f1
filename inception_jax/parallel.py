"""Data parallelism over all devices along one axis, by `jax.shard_map` or `jax.pmap`.

A step is a pure function of one device, which itself averages over the axis `AXIS`. Each argument and result has a
partition spec: `SPLIT` along the first dimension, or `REPLICATED`, the same on every device. The mapped step takes and
returns global arrays. So a state has no device dimension, and a checkpoint can be restored on any number of devices.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from inception_jax.errors import UserError, check_choice

AXIS = "batch"
REPLICATED, SPLIT = PartitionSpec(), PartitionSpec(AXIS)
# XLA options for programs that run only a few times: a training step compiles in half the time, an initialisation in a
# quarter.
FAST_COMPILE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class DataParallel:
    """Places arrays on all devices and maps steps over them."""

    def __init__(
        self, kind: str = "shard_map", devices: Sequence[jax.Device] | None = None, fast_compile: bool = False
    ):
        """Chooses the devices.

        Args:
          kind: 'shard_map' or 'pmap'; the steps are the same, but `jax.pmap` supports only one process.
          devices: devices to use; all by default.
          fast_compile: whether steps are compiled with `FAST_COMPILE`; has no effect with 'pmap'.

        Raises:
          UserError: the kind is neither of these, or 'pmap' is used with several processes.
        """
        check_choice("parallel", kind, ("shard_map", "pmap"))
        if kind == "pmap" and jax.process_count() > 1:
            raise UserError("parallel='pmap' works in one process only; use 'shard_map' with several")
        self.kind, self.fast_compile = kind, fast_compile
        self.mesh = Mesh(np.array(devices or jax.devices()), (AXIS,))
        self.replicated, self.split = NamedSharding(self.mesh, REPLICATED), NamedSharding(self.mesh, SPLIT)

    @property
    def device_count(self) -> int:
        """Number of devices of all processes."""
        return self.mesh.size

    def replicate(self, tree):
        """Copies the arrays of `tree` to every device."""
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.replicated, np.asarray(x)), tree)

    def shard(self, batch):
        """Makes global arrays, split along the first dimension, from this process's part of a batch."""
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.split, x), batch)

    def map(
        self,
        step: Callable,
        in_specs: tuple[PartitionSpec, ...],
        out_specs: PartitionSpec | tuple[PartitionSpec, ...],
        donate: tuple[int, ...] = (),
    ) -> Callable:
        """Maps `step` over the devices and compiles it.

        Args:
          step: function of one device.
          in_specs: `REPLICATED` or `SPLIT` for each argument, for its whole tree.
          out_specs: the same for each result.
          donate: positions of the arguments whose memory is reused.
        """
        if self.kind == "pmap":
            return self._pmap(step, in_specs, out_specs, donate)
        # Without check_vma a gradient is the device's own, as with pmap; with it JAX would sum it over the devices.
        mapped = jax.shard_map(step, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
        return jax.jit(mapped, donate_argnums=donate, compiler_options=FAST_COMPILE if self.fast_compile else None)

    def _pmap(self, step, in_specs, out_specs, donate) -> Callable:
        """Translates specs into the axes of `jax.pmap`, which has an extra dimension for the devices."""
        in_axes, out_axes = jax.tree.map({REPLICATED: None, SPLIT: 0}.get, (in_specs, out_specs))
        devices = list(self.mesh.devices)
        mapped = jax.pmap(step, AXIS, in_axes=in_axes, out_axes=out_axes, devices=devices, donate_argnums=donate)

        def reshaped(spec, tree, first: tuple[int, ...], replaced: int):
            return jax.tree.map(lambda x: x.reshape(*first, *x.shape[replaced:]), tree) if spec == SPLIT else tree

        def call(*arguments):
            by_device = (reshaped(spec, x, (len(devices), -1), 1) for spec, x in zip(in_specs, arguments, strict=True))
            return jax.tree.map(lambda spec, x: reshaped(spec, x, (-1,), 2), out_specs, mapped(*by_device))

        return call


def mean_over_devices(tree):
    """Averages a tree of floating-point arrays over the axis `AXIS`, inside a mapped step.

    Scalars and vectors travel as one vector. XLA joins at most 256 arrays into one all-reduce, and a network has up to
    five vectors for each kernel. So the step of every recipe has a single all-reduce; larger arrays are not copied.
    """
    leaves, structure = jax.tree.flatten(tree)
    is_large = [leaf.ndim > 1 for leaf in leaves]
    large = [leaf for leaf, wanted in zip(leaves, is_large, strict=True) if wanted]
    vector, split = ravel_pytree([leaf for leaf, wanted in zip(leaves, is_large, strict=True) if not wanted])
    large, vector = lax.pmean((large, vector), AXIS)
    parts = {True: iter(large), False: iter(split(vector))}
    return jax.tree.unflatten(structure, [next(parts[wanted]) for wanted in is_large])

"""What a training step costs: counted from shapes, and read from the program that XLA compiles for it.

Only `time_checkpoint` allocates anything: it writes and reads a checkpoint.
"""

import dataclasses
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from inception_jax.models import trace
from inception_jax.models.network import RECOMPUTE, Network
from inception_jax.parallel import REPLICATED, SPLIT, DataParallel
from inception_jax.runs.checkpoints import Checkpoints
from inception_jax.training.experiment import Experiment

_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)


@dataclasses.dataclass(frozen=True)
class StepCost:
    """What one training step of a recipe costs on any machine.

    Attributes:
      network: name of the network.
      image_size: height and width of the images.
      batch_size: images in a step, over all devices.
      microbatch: images whose gradients are computed at once on a device; 0: all of the device.
      optimizer: name of the optimizer.
      multiply_adds: multiply-adds of the forward pass for one image, auxiliary heads included.
      activations: number of values in the image and in the outputs of all operations for one image.
      parameters: number of parameters, auxiliary heads included.
      reduced_arrays: number of arrays that the devices average in each step: kernels, and one vector with the rest.
      reduced_bytes: their bytes: gradients, batch statistics and metrics in float32.
      checkpoint_bytes: bytes of the training state before compression: parameters, statistics, optimizer, EMA.
    """

    network: str
    image_size: int
    batch_size: int
    microbatch: int
    optimizer: str
    multiply_adds: int
    activations: int
    parameters: int
    reduced_arrays: int
    reduced_bytes: int
    checkpoint_bytes: int

    @property
    def operations(self) -> int:
        """Floating-point operations of a training step for one image.

        A multiply-add counts as two. The gradients of a convolution or dense layer with respect to its input and to its
        kernel take as many multiply-adds as its output, so a step takes three times those of the forward pass.
        """
        return 3 * 2 * self.multiply_adds

    @property
    def touched_bytes(self) -> int:
        """Estimated bytes that a training step moves to and from the device's memory for one image, in bfloat16.

        Each output is written and read in the forward pass and read again for the gradients; its gradient is written
        and read. Fused operations move less, copies more.
        """
        return 5 * 2 * self.activations


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange between devices in a compiled program.

    Attributes:
      kind: name of XLA's operation, such as 'all-reduce'.
      arrays: number of arrays that it exchanges.
      bytes: their size.
    """

    kind: str
    arrays: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What XLA made of a training step.

    Attributes:
      network: name of the network.
      devices: number of devices.
      images_per_device: images of one device.
      collectives: all exchanges between devices.
      device_bytes: memory of the program on one device: arguments, results and temporary arrays; arrays that share
        memory count once.
    """

    network: str
    devices: int
    images_per_device: int
    collectives: tuple[Collective, ...]
    device_bytes: int


@dataclasses.dataclass(frozen=True)
class KeptBytes:
    """What the backward pass keeps of one image.

    Attributes:
      network: name of the network.
      image_size: height and width of the images.
      bytes: by the value of `config.train.recompute`.
    """

    network: str
    image_size: int
    bytes: dict[str, int]


@dataclasses.dataclass(frozen=True)
class CheckpointTime:
    """Times of one checkpoint.

    Attributes:
      network: name of the network.
      state_bytes: bytes of the state.
      file_bytes: bytes on disk.
      blocked_seconds: time for which saving stops the training.
      save_seconds: time until the checkpoint is complete.
      restore_seconds: time to read it.
    """

    network: str
    state_bytes: int
    file_bytes: int
    blocked_seconds: float
    save_seconds: float
    restore_seconds: float


def step_cost(experiment: Experiment) -> StepCost:
    """Counts what a training step of `experiment` costs."""
    config, state = experiment.config, experiment.abstract_state()
    layers = [layer for part in trace.layers(experiment.model, experiment.image_shape) for layer in part]
    averaged = jax.tree.leaves((state.params, state.batch_stats))
    metrics = 3 + len(experiment.aux_weights)  # loss and two others, and the heads' losses
    return StepCost(
        network=config.model.name,
        image_size=config.data.image_size,
        batch_size=config.train.batch_size,
        microbatch=config.train.microbatch,
        optimizer=config.optimizer.name,
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        activations=math.prod(experiment.image_shape) + sum(layer.activations for layer in layers),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        reduced_arrays=sum(leaf.ndim > 1 for leaf in averaged) + 1,
        reduced_bytes=_bytes(averaged) + 4 * metrics,
        checkpoint_bytes=_bytes(state),
    )


def trace_step(experiment: Experiment, parallel: DataParallel) -> jax.stages.Traced:
    """Traces the training step of `experiment`, as the loop compiles it; not with 'pmap'.

    It can be lowered for a platform that this machine lacks: `.lower(lowering_platforms=("cuda",))`.
    """
    images = experiment.config.train.batch_size
    placed = lambda tree, sharding: jax.tree.map(  # noqa: E731
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )
    state = placed(experiment.abstract_state(), parallel.replicated)
    batch = {
        "image": jax.ShapeDtypeStruct((images, *experiment.image_shape), np.uint8),
        "label": jax.ShapeDtypeStruct((images,), np.int32),
        "index": jax.ShapeDtypeStruct((images,), np.uint32),
        "seed": jax.ShapeDtypeStruct((images,), np.uint32),
    }
    if experiment.task.boxes:
        batch["box"] = jax.ShapeDtypeStruct((images, 4), np.float32)
    step: Any = parallel.map(experiment.train_step(), (REPLICATED, SPLIT), (REPLICATED, REPLICATED), donate=(0,))
    return step.trace(state, placed(batch, parallel.split))


def compile_step(experiment: Experiment, parallel: DataParallel) -> CompiledStep:
    """Compiles the training step of `experiment` and reads its collectives and memory."""
    compiled = trace_step(experiment, parallel).lower().compile()
    return CompiledStep(
        network=experiment.config.model.name,
        devices=parallel.device_count,
        images_per_device=experiment.config.train.batch_size // parallel.device_count,
        collectives=tuple(collectives(compiled.as_text())),
        device_bytes=device_bytes(compiled),
    )


def kept_by_choice(experiment: Experiment) -> KeptBytes:
    """Counts what the backward pass keeps in bfloat16, for each value of `config.train.recompute`."""
    model = experiment.model.clone(dtype=jnp.bfloat16)
    return KeptBytes(
        network=experiment.config.model.name,
        image_size=experiment.config.data.image_size,
        bytes={name: kept_bytes(model.clone(recompute=name), experiment.image_shape) for name in RECOMPUTE},
    )


def kept_bytes(model: Network, image_shape: tuple[int, ...], platform: str = "cuda") -> int:
    """Counts the bytes of one image that the backward pass of a training step needs from the forward pass.

    They are the residuals that JAX hands over, each once. Parameters, and what is computed from parameters alone, are
    not counted, because a batch shares them. XLA may keep less: it computes cheap values again by itself.

    Args:
      model: network; its auxiliary heads count too.
      image_shape: (height, width, channels).
      platform: platform whose form of each operation counts, such as 'cuda', 'tpu' or 'cpu'.
    """
    variables = trace.abstract_variables(model, image_shape)

    def residuals(variables, images, key):
        def outputs(params):
            rngs = {"dropout": key}
            found = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"], rngs=rngs)
            (output, end_points), _ = found
            return output, [end_points[head.name] for head in model.aux_heads]

        return jax.vjp(outputs, variables["params"])[1]

    image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    jaxpr = jax.make_jaxpr(residuals)(variables, image, jax.eval_shape(lambda: jax.random.key(0))).jaxpr
    *parameters, images, key = jaxpr.invars
    kept = set(_arrays(jaxpr, [*(None for _ in parameters), _Array(images), _Array(key)], platform))
    return sum(array.bytes for array in kept if array)


class _Array:
    """An array of a traced program that depends on the image. Two of them are never equal."""

    def __init__(self, variable: core.Var):
        self.bytes = variable.aval.size * variable.aval.dtype.itemsize  # type: ignore[attr-defined]


def _arrays(jaxpr: core.Jaxpr, inputs: Sequence[_Array | None], platform: str) -> list[_Array | None]:
    """Returns the array of each output of `jaxpr`; None if it does not depend on the image.

    Args:
      jaxpr: traced function.
      inputs: the same of its inputs.
      platform: platform whose branch is taken where the form of an operation depends on it.
    """
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def array_of(variable) -> _Array | None:
        return None if isinstance(variable, core.Literal) else known.get(variable)

    for equation in jaxpr.eqns:
        arrays = [array_of(variable) for variable in equation.invars]
        by_platform = equation.params.get("branches_platforms")
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        if by_platform:
            branch = next(i for i, names in enumerate(by_platform) if names is None or platform in names)
            outputs = _arrays(equation.params["branches"][branch].jaxpr, arrays[1:], platform)
        elif inner is not None:
            outputs = _arrays(getattr(inner, "jaxpr", inner), arrays, platform)
        elif equation.primitive.name in ("reshape", "reduce_precision"):  # the same values
            outputs = arrays[:1]
        else:
            outputs = [_Array(variable) if any(arrays) else None for variable in equation.outvars]
        known.update(zip(equation.outvars, outputs, strict=True))
    return [array_of(variable) for variable in jaxpr.outvars]


def collectives(program: str) -> list[Collective]:
    """Finds the exchanges between devices in the text of a compiled program (HLO).

    An operation that XLA has split into a start and an end counts once.
    """
    found = []
    for line in program.splitlines():
        if match := re.search(rf" = (.*?) ({'|'.join(_COLLECTIVES)})(?:-start)?\(", line):
            shapes = re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", match[1])
            sizes = [_width(kind) * math.prod(map(int, filter(None, shape.split(",")))) for kind, shape in shapes]
            found.append(Collective(match[2], len(sizes), sum(sizes)))
    return found


def device_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the memory of a compiled program on one device, in bytes, as XLA has planned it."""
    plan: Any = compiled.memory_analysis()
    total = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return total - plan.alias_size_in_bytes


def time_checkpoint(experiment: Experiment, parallel: DataParallel, directory: Path) -> CheckpointTime:
    """Saves the initial state of `experiment` to `directory` and restores it.

    The files have just been written, so the operating system may still have them in memory when they are read.
    """
    state = parallel.replicate(experiment.create_state())
    checkpoints = Checkpoints(directory, keep=1)
    start = time.perf_counter()
    checkpoints.save(1, state, experiment.inference_metadata())
    blocked = time.perf_counter() - start
    checkpoints.wait()
    saved = time.perf_counter() - start
    file_bytes = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    start = time.perf_counter()
    jax.block_until_ready(parallel.replicate(checkpoints.restore(abstract, print)))
    restored = time.perf_counter() - start
    checkpoints.close()
    return CheckpointTime(experiment.config.model.name, _bytes(state), file_bytes, blocked, saved, restored)


def _bytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _width(kind: str) -> int:
    """Returns the bytes of a number of XLA's type `kind`, such as 'bf16'."""
    bits = re.search(r"\d+", kind)
    return max(int(bits[0]) // 8, 1) if bits else 1  # 'pred' has no number

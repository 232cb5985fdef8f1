"""Several processes of one job: they join, agree, and end together.

Agreements travel through JAX's coordination service, each with a time limit. A process that is killed ends the others
after `SILENCE` seconds at most, see also `experiments.supervisor`.
"""

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from inception_jax.errors import UserError

SILENCE = 30  # seconds without a sign of life after which JAX's service gives a process up
_PATIENCE = 4 * 3600  # seconds that a process waits for another one that lives, such as for statistics of the data
_PARTING = 5  # seconds
_numbers = itertools.count()


def join(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Joins the other processes of this job; must run before JAX computes anything.

    Args:
      coordinator: HOST:PORT of process 0, which listens there; None: JAX finds the job (SLURM, MPI, Kubernetes, TPU).
      count: number of processes, None likewise.
      index: number of this process, from 0, None likewise.

    Raises:
      UserError: there is no such job, not all processes came in time, or this one sees too few GPUs of its node.
    """
    # With a given place JAX must not look for a cluster: on SLURM it would take one GPU for this process.
    detection = "deactivate" if coordinator else None
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            cluster_detection_method=detection,
            heartbeat_timeout_seconds=SILENCE,
        )
    except ValueError as error:
        raise UserError(f"JAX found no job with several processes ({error})") from None
    except RuntimeError as error:
        raise UserError(f"the processes of the job have not met: {' '.join(str(error).split())[:300]}") from None
    _check_gpus()


def _check_gpus() -> None:
    """Raises a UserError if SLURM gave this node more GPUs than its processes use: JAX takes one for each process."""
    tasks = os.environ.get("SLURM_NTASKS_PER_NODE") or os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1")
    on_node = os.environ.get("SLURM_GPUS_ON_NODE", "0")
    if jax.default_backend() != "gpu" or not on_node.isdecimal():
        return
    used = jax.local_device_count() * int(tasks.partition("(")[0])
    if used < int(on_node):
        raise UserError(
            f"this node has {on_node} GPUs, but its processes see {used}: JAX takes one GPU for each process of SLURM. "
            f"Start {on_node} processes on the node (srun --ntasks-per-node={on_node}), or set "
            f"JAX_LOCAL_DEVICE_IDS={','.join(map(str, range(int(on_node))))}"
        )


def described() -> str:
    """Returns for instance '2 processes x 4 cpu devices'."""
    count = jax.process_count()
    devices = f"{jax.local_device_count()} {jax.default_backend()} device{'s' * (jax.local_device_count() > 1)}"
    return f"{count} process{'es' * (count > 1)} x {devices}"


def is_first() -> bool:
    """Whether this is process 0, which alone reads and writes the files of a run."""
    return jax.process_index() == 0


def share(value: Any = None) -> Any:
    """Returns the value of process 0, in JSON's types; the others' values are ignored."""
    if jax.process_count() == 1:
        return value
    return json.loads(_exchange(json.dumps(value) if is_first() else "", wanted=(0,))[0])


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Makes all processes leave the block alike: a UserError in one of them is raised in all."""
    error = None
    try:
        yield
    except UserError as raised:
        error = raised
    agree(error)


def agree(error: UserError | None) -> None:
    """Raises the error of this process, else that of the first process that has one; all processes must call it."""
    if jax.process_count() > 1:
        texts = _exchange("" if error is None else str(error) or "?", wanted=range(jax.process_count()))
        other = next(((index, text) for index, text in enumerate(texts) if text), None)
        if error is None and other is not None:
            raise UserError(f"process {other[0]}: {other[1]}")
    if error is not None:
        raise error


def part() -> None:
    """Waits a few seconds for the others to come to their end too, before this process ends because of an error.

    JAX ends them at once when process 0 has ended, even if they are about to say the same error.
    """
    if not jax.distributed.is_initialized():
        return
    from jax._src import distributed

    client: Any = distributed.global_state.client
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # they do not come
        client.wait_at_barrier("inception_jax/end", _PARTING * 1000)
    if is_first():
        time.sleep(0.5)


def broadcast(tree):
    """Returns the arrays of process 0, bit for bit, as NumPy arrays; those of the others give shapes and dtypes."""
    arrays = jax.tree.map(np.asarray, tree)
    if jax.process_count() == 1:
        return arrays
    # As bytes, because JAX adds zeros of the other processes: -0.0 would become 0.0.
    sent = multihost_utils.broadcast_one_to_all(jax.tree.map(lambda x: x.reshape(-1).view(np.uint8), arrays))
    return jax.tree.map(lambda x, data: np.asarray(data).view(x.dtype).reshape(x.shape), arrays, sent)


def _exchange(text: str, wanted) -> list[str]:
    from jax._src import distributed  # JAX has no public access to its key-value store; Orbax takes this one too

    client: Any = distributed.global_state.client
    key = f"inception_jax/{next(_numbers)}"
    if jax.process_index() in wanted:
        client.key_value_set(f"{key}/{jax.process_index()}", text)
    return [_value(client, f"{key}/{index}", index) for index in wanted]


def _value(client: Any, key: str, index: int) -> str:
    try:
        return client.blocking_key_value_get(key, _PATIENCE * 1000)
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        raise UserError(f"process {index} has not come to the same point within {_PATIENCE // 3600} hours") from None

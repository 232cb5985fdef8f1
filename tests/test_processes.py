"""What one process can show; tests/experiments/test_processes.py starts several."""

import jax
import numpy as np
import pytest

from experiments import launch
from inception_jax import processes
from inception_jax.errors import UserError


@pytest.mark.parametrize(
    ("devices", "tasks", "on_node", "refused"),
    [(1, "1", "8", True), (1, "8(x2)", "8", False), (8, "1", "8", False), (1, "4", "8", True), (1, "1", None, False)],
)
def test_idle_gpus_of_a_slurm_node_are_refused(devices, tasks, on_node, refused, monkeypatch):
    """jax-ml/jax#16788: by default each process of SLURM takes one GPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", tasks)
    monkeypatch.delenv("SLURM_GPUS_ON_NODE", raising=False)
    if on_node:
        monkeypatch.setenv("SLURM_GPUS_ON_NODE", on_node)
    if not refused:
        processes._check_gpus()
        return
    with pytest.raises(
        UserError, match=r"this node has 8 GPUs, but its processes see \d: .*JAX_LOCAL_DEVICE_IDS=0,1,2"
    ):
        processes._check_gpus()


def test_a_place_without_a_job_is_one_line(monkeypatch):
    def none(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", none)
    with pytest.raises(UserError, match=r"JAX found no job with several processes \(coordinator_address"):
        processes.join()


def test_a_broadcast_keeps_every_bit(monkeypatch):
    """JAX adds the arrays of all processes, which would turn -0.0 into 0.0."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        processes.multihost_utils,
        "broadcast_one_to_all",
        lambda tree: jax.tree.map(lambda x: (x + np.zeros_like(x)).astype(x.dtype), tree),
    )
    sent = {"a": np.array([-0.0, np.nan, 1.5], np.float32), "b": np.int32(-7), "c": np.zeros((0, 3), bool)}
    for ours, theirs in zip(jax.tree.leaves(processes.broadcast(sent)), jax.tree.leaves(sent), strict=True):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())


def test_an_error_of_one_process_is_raised_in_all(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    said = []

    def exchange(text, wanted):
        said.append(text)
        return ["", "the disk is full", "too late"] if list(wanted) == [0, 1, 2] else []

    monkeypatch.setattr(processes, "_exchange", exchange)
    with pytest.raises(UserError, match=r"^process 1: the disk is full$"), processes.together():
        pass
    with pytest.raises(UserError, match=r"^too late$"), processes.together():
        raise UserError("too late")
    assert said == ["", "too late"]


def test_a_launch_divides_the_gpus(monkeypatch):
    monkeypatch.setattr(launch, "visible_gpus", lambda: ["0", "1", "2", "3"])
    assert [devices["CUDA_VISIBLE_DEVICES"] for devices in launch._devices(2, None)] == ["0,1", "2,3"]
    assert [devices["CUDA_VISIBLE_DEVICES"] for devices in launch._devices(3, 1)] == ["0", "1", "2"]
    for processes_, each in ((5, None), (3, 2)):
        with pytest.raises(UserError, match=f"processes={processes_} .*more than the 4 GPUs here"):
            launch._devices(processes_, each)
    monkeypatch.setattr(launch, "visible_gpus", list)
    assert launch._devices(2, 4) == [{"JAX_NUM_CPU_DEVICES": "4"}] * 2

"""Divides the cores and GPUs of this machine between concurrent runs."""

import importlib.util
import itertools
import os
import subprocess

from inception_jax.errors import UserError
from inception_jax.runtime import available_cores


def shares(jobs: int, gpus: int) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Returns what each concurrent run may use: CPU cores (none: all) and GPUs; no GPU is in two shares.

    Args:
      jobs: number of concurrent runs; 0: one for each `gpus` GPUs, or one if there are none.
      gpus: GPUs of each run.

    Raises:
      UserError: there are too few GPUs or cores.
    """
    devices = visible_gpus()
    count = jobs or max(1, len(devices) // gpus)
    if devices and count * gpus > len(devices):
        raise UserError(
            f"gpus={gpus} for each of {count} runs needs {count * gpus} GPUs, and there are {len(devices)}; choose "
            "fewer jobs or GPUs"
        )
    of_gpus = [tuple(devices[i * gpus : (i + 1) * gpus]) for i in range(count)]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores and count > len(cores):
        raise UserError(f"jobs={count} must not be more than the number of cores, {available_cores()}")
    bounds = [len(cores) * i // count for i in range(count + 1)]
    of_cores = [tuple(cores[start:end]) if count > 1 else () for start, end in itertools.pairwise(bounds)]
    return list(zip(of_cores, of_gpus, strict=True))


def visible_gpus() -> list[str]:
    """Returns NVIDIA's GPUs that JAX would use, as CUDA_VISIBLE_DEVICES names them; does not start JAX."""
    plugin = any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
    if not plugin or os.environ.get("JAX_PLATFORMS", "cuda").split(",")[0] not in ("", "cuda", "gpu"):
        return []
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        devices = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        return list(itertools.takewhile(lambda device: device not in ("", "-1", "NoDevFiles"), devices))
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, encoding="utf-8", check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []

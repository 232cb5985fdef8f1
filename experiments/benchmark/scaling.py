"""The real training step on 1, 2, 4 and 8 devices with one global batch: the accelerators, or simulated CPU devices."""

import os
import statistics
from collections.abc import Callable, Iterator

from experiments.benchmark import contest
from experiments.benchmark.contest import Side, Unavailable

DEVICES = (1, 2, 4, 8)


def measure(network: str, batch: int, dtype: str, repeats: int) -> Iterator[dict]:
    """A row for each number of devices that divides the batch."""
    sides = {}
    for devices in DEVICES:
        flags = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={devices}"
        try:
            sides[str(devices)] = Side(train_step, network, batch, dtype, devices, environment={"XLA_FLAGS": flags})
        except Unavailable as error:
            yield {"network": network, "devices": devices, "skipped": str(error)}
    with contest.closing(sides):
        seconds = contest.take_turns(sides, ["step"], repeats)
        for side in sides:
            yield {
                "network": network,
                "devices": int(side),
                "device": sides[side].facts(),
                "batch": batch,
                "dtype": dtype,
                "images_per_second": batch / statistics.median(seconds[side, "step"]),
                "speed_up": statistics.median(
                    one / many for one, many in zip(seconds["1", "step"], seconds[side, "step"], strict=True)
                ),
                "repeats": repeats,
            }


def train_step(network: str, batch: int, dtype: str, devices: int) -> dict[str, Callable]:
    """The step of `main.py` on synthetic images, over the first `devices` devices."""
    jax = contest.start_jax(dtype)
    import numpy as np

    from configs import common
    from inception_jax.training.parallelism import DataParallel
    from inception_jax.training.task import Task

    if len(jax.devices()) < devices:
        raise Unavailable(f"there are {len(jax.devices())} devices only")
    config = common.get_config()
    config.model.name, config.model.dtype = network, dtype
    config.data.eval_split = "train"
    config.train.steps, config.train.batch_size = 10**6, batch
    parallel = DataParallel(devices=jax.devices()[:devices])
    task = Task(config, parallel)
    size = config.data.image_size
    images = {
        "image": np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8),
        "label": np.arange(batch, dtype=np.int32) % 10,
        "index": np.arange(batch, dtype=np.uint32),
        "seed": np.zeros(batch, np.uint32),
    }
    images = parallel.shard(images)
    run = parallel.map(task.train_step(), donate=True)
    state = [parallel.replicate(task.create_state())]

    def step():
        (state[0], metrics), _ = run(state[0], images)
        jax.block_until_ready(metrics)

    return {"step": step, "facts": lambda: f"{jax.devices()[0].device_kind}"}

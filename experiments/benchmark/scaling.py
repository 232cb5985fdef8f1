"""The training step on 1, 2, 4 and 8 devices, accelerators or simulated CPU devices, with the same global batch."""

import functools
import os
import statistics
from collections.abc import Callable, Iterator

from experiments.benchmark import contest
from experiments.benchmark.contest import Side, Unavailable

DEVICES = (1, 2, 4, 8)


def measure(network: str, batch: int, dtype: str, repeats: int) -> Iterator[dict]:
    """Yields a row for each number of devices."""

    def start(devices: int) -> Side:
        flags = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={devices}"
        return Side(train_step, network, batch, dtype, devices, environment={"XLA_FLAGS": flags})

    with contest.started({str(devices): functools.partial(start, devices) for devices in DEVICES}) as (sides, skipped):
        for devices, why in skipped.items():
            yield {"network": network, "devices": int(devices), "skipped": why}
        seconds = contest.take_turns(sides, ["step"], repeats)
        for side in sides:
            yield {
                "network": network,
                "devices": int(side),
                "device": sides[side].metadata(),
                "batch": batch,
                "dtype": dtype,
                "images_per_second": batch / statistics.median(seconds[side, "step"]),
                "speed_up": statistics.median(
                    one / many for one, many in zip(seconds["1", "step"], seconds[side, "step"], strict=True)
                ),
                "repeats": repeats,
            }


def train_step(network: str, batch: int, dtype: str, devices: int) -> dict[str, Callable]:
    """Builds the step of `main.py` on the first `devices` devices, with synthetic images."""
    jax = contest.start_jax(dtype)
    import numpy as np

    from configs import common
    from inception_jax import create_model
    from inception_jax.parallel import REPLICATED, SPLIT, DataParallel
    from inception_jax.training.experiment import Experiment

    if len(jax.devices()) < devices:
        raise Unavailable(f"this machine has {len(jax.devices())} devices")
    config = common.get_config()
    config.model.name, config.model.dtype = network, dtype
    config.train.aux_weights = {head.name: 0.3 for head in create_model(network).aux_heads}
    config.data.eval_split = "train"
    config.train.steps, config.train.batch_size = 10**6, batch
    parallel = DataParallel(devices=jax.devices()[:devices])
    experiment = Experiment(config, parallel)
    size = config.data.image_size
    images = {
        "image": np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8),
        "label": np.arange(batch, dtype=np.int32) % 10,
        "index": np.arange(batch, dtype=np.uint32),
        "seed": np.zeros(batch, np.uint32),
    }
    images = parallel.shard(images)
    run = parallel.map(experiment.train_step(), (REPLICATED, SPLIT), (REPLICATED, REPLICATED), donate=(0,))
    state = [parallel.replicate(experiment.create_state())]

    def step():
        state[0], metrics = run(state[0], images)
        jax.block_until_ready(metrics)

    return {"step": step, "metadata": lambda: f"{jax.devices()[0].device_kind}"}

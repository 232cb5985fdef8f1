"""The devices meet once in a step, and a larger number of devices needs no more memory on each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax.parallel import AXIS, REPLICATED, SPLIT, DataParallel, mean_over_devices
from inception_jax.training.cost import Collective, collectives, compile_step, step_cost, time_checkpoint
from inception_jax.training.experiment import Experiment


def compiled(config, devices=4):
    parallel = DataParallel(devices=jax.devices()[:devices], fast_compile=True)
    experiment = Experiment(config, parallel)
    return experiment, compile_step(experiment, parallel)


def test_a_step_has_one_all_reduce(tiny_config):
    """With everything that might add another: batch statistics, an auxiliary head, microbatches, clipping, an EMA."""
    tiny_config.train.microbatch = 1
    tiny_config.optimizer.clip_norm = 1.0
    experiment, step = compiled(tiny_config)
    cost = step_cost(experiment)
    assert step.collectives == (Collective("all-reduce", cost.reduced_arrays, cost.reduced_bytes),)
    # Kernels of two convolutions and two dense layers, and the vector of all else.
    assert cost.reduced_arrays == 5


def test_pmap_has_one_all_reduce_too(tiny_config):
    parallel = DataParallel("pmap", jax.devices()[:4])
    experiment = Experiment(tiny_config, parallel)
    batch = {"image": np.zeros((4, 2, 16, 16, 3), np.uint8)}
    batch |= {"label": np.zeros((4, 2), np.int32)} | {name: np.zeros((4, 2), np.uint32) for name in ("index", "seed")}
    mapped = jax.pmap(experiment.train_step(), AXIS, in_axes=(None, 0), out_axes=None, devices=jax.devices()[:4])
    program = mapped.lower(experiment.abstract_state(), batch).compile().as_text()
    assert [each.kind for each in collectives(program)] == ["all-reduce"]


def test_synchronised_batch_norm_adds_two_for_each_normalisation(tiny_config):
    tiny_config.train.sync_batch_norm = True
    _, step = compiled(tiny_config)
    assert {each.kind for each in step.collectives} == {"all-reduce"}
    assert len(step.collectives) == 1 + 2 * 2  # two convolutions


def test_memory_of_a_device_does_not_depend_on_their_number(tiny_config):
    memory = []
    for devices in (2, 4):
        tiny_config.train.batch_size = 2 * devices
        memory.append(compiled(tiny_config, devices)[1].device_bytes)
    assert memory[0] == memory[1] > step_cost(Experiment(tiny_config, DataParallel())).checkpoint_bytes


def test_the_mean_over_devices_is_bitwise_that_of_each_array():
    tree = {"kernel": np.arange(24.0).reshape(4, 3, 2), "vector": np.arange(8.0).reshape(4, 2) / 3, "empty": {}}
    tree |= {"scalar": np.arange(4.0) / 7}
    tree = jax.tree.map(jnp.asarray, tree)

    def means(mean):
        inside = lambda tree: mean(jax.tree.map(lambda x: x[0], tree))  # noqa: E731
        return DataParallel(devices=jax.devices()[:4]).map(inside, (SPLIT,), REPLICATED)(tree)

    ours, theirs = means(mean_over_devices), means(lambda tree: jax.lax.pmean(tree, AXIS))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert jax.tree.map(lambda x: x.dtype, ours) == jax.tree.map(lambda x: x.dtype, theirs)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            "  %a = (f32[72]{0}, /*index=1*/bf16[3,4]{1,0}) all-reduce(%b, %c), channel_id=1",
            [Collective("all-reduce", 2, 312)],
        ),
        ("  ROOT %g = f32[8]{0} all-gather-start(%x), dimensions={0}", [Collective("all-gather", 1, 32)]),
        ("  %d = f32[8]{0} all-gather-done(%g)", []),
        ("  %p = pred[] reduce-scatter(%x)", [Collective("reduce-scatter", 1, 1)]),
        ('  %f = f32[2]{0} fusion(%all-reduce.1), metadata={op_name="psum"}', []),
    ],
)
def test_collectives_are_read_from_the_program(line, found):
    assert collectives(line) == found


def test_a_checkpoint_is_timed(tiny_config, tmp_path):
    parallel = DataParallel(devices=jax.devices()[:1])
    experiment = Experiment(tiny_config, parallel)
    timed = time_checkpoint(experiment, parallel, tmp_path)
    assert timed.state_bytes == step_cost(experiment).checkpoint_bytes
    assert timed.file_bytes > 0
    assert 0 < timed.blocked_seconds <= timed.save_seconds

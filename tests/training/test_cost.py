"""The devices meet once in a step, and a larger number of devices needs no more memory on each."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax import create_model
from inception_jax.models.initializers import zeros
from inception_jax.models.network import RECOMPUTE, Network
from inception_jax.models.units import Chain, Concat, Conv, Dropout, GlobalAvgPool, Logits, MaxPool, Style
from inception_jax.parallel import AXIS, REPLICATED, SPLIT, DataParallel, mean_over_devices
from inception_jax.training.cost import (
    Collective,
    collectives,
    compile_step,
    kept_bytes,
    step_cost,
    time_checkpoint,
    trace_step,
)
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


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_an_accelerators_step_takes_bytes_and_exchanges_once(platform, tiny_config):
    """Images arrive as uint8, the devices meet after the last product, and the state's memory is used again."""
    tiny_config.model.dtype = "bfloat16"
    parallel = DataParallel(devices=jax.devices()[:4])
    experiment = Experiment(tiny_config, parallel)
    text = trace_step(experiment, parallel).lower(lowering_platforms=(platform,)).as_text()
    [signature] = re.findall(r"func.func public @main\((.*)", text)
    arguments = re.findall(r"%arg\d+: tensor<(\S+)> (\{.*?\}(?=, %arg|\) ->))", signature)
    state = jax.tree.leaves(experiment.abstract_state())
    kinds = [kind for kind, _ in arguments[len(state) :]]
    assert sorted(kinds) == ["8x16x16x3xui8", "8xi32", "8xui32", "8xui32"]
    is_donated = ["tf.aliasing_output" in options or "jax.buffer_donor" in options for _, options in arguments]
    assert is_donated == [True] * len(state) + [False] * len(kinds)
    # The first convolution reads images that were converted inside.
    assert re.search(r"stablehlo.convert .*tensor<2x16x16x3xui8>\) -> tensor<2x16x16x3xf32>", text)
    # One for each array, all after the last product: XLA joins them, see the test above.
    products = [match.start() for match in re.finditer("stablehlo.(convolution|dot_general)", text)]
    reduces = [match.start() for match in re.finditer("stablehlo.all_reduce", text)]
    assert len(reduces) == step_cost(experiment).reduced_arrays
    assert min(reduces) > max(products)


def test_what_is_kept_by_hand():
    """Of one image of 8 x 8 x 3 in float32."""
    conv, pool = Conv("conv3x3", 4, 3), MaxPool(2, 2)
    joined = Concat(Conv("a", 2, 1, activation=False), Conv("b", 3, 1, activation=False))
    logits = Chain(GlobalAvgPool(), Logits("classifier", 7))
    style = Style(conv_padding="SAME", pool_padding="SAME", kernel_init=zeros)
    layers = (("conv", conv), ("pool", pool), ("joined", joined), ("logits", logits))
    model = Network(layers=layers, style=style, input_shape=(8, 8, 3), min_size=8)

    def kept(recompute="nothing", **changes):
        return kept_bytes(model.clone(recompute=recompute, **changes), (8, 8, 3))

    image, output, pooled, ends = 4 * 8 * 8 * 3, 4 * 8 * 8 * 4, 4 * 4 * 4 * 4, 4 * (2 + 3)
    mask = 8 * 8 * 4  # of ReLU: one byte for each value
    # The pool keeps its input, which is the output of the ReLU; both 1x1 convolutions keep the same array.
    assert kept() == image + output + mask + pooled + ends
    # The inputs of the layers, the last one on a grid of 4 x 4.
    inputs = image + output + pooled + 4 * 4 * 4 * (2 + 3)
    assert kept("blocks") == inputs
    # Nothing is kept of a product without an activation, because its gradients do not read it.
    assert kept("activations") == inputs + output
    dropout = ("dropout", Dropout(0.5))
    assert kept(layers=(*layers[:3], dropout, *layers[3:])) - kept() == 4 * 4 * (2 + 3)  # a mask, one byte each


def test_what_is_computed_again_need_not_be_kept():
    model = create_model("inception_v3", width=0.1, blocks=1).clone(dtype=jnp.bfloat16)
    nothing, activations, blocks = (kept_bytes(model.clone(recompute=choice), (107, 107, 3)) for choice in RECOMPUTE)
    assert nothing > 2.5 * activations
    assert activations > 1.5 * blocks


def test_the_config_says_what_the_step_computes_again(tiny_config):
    """Within microbatches too; the devices still meet once."""
    tiny_config.train.microbatch = 1
    products, reduces = [], []
    for choice in RECOMPUTE:
        tiny_config.train.recompute = choice
        parallel = DataParallel(devices=jax.devices()[:4])
        text = trace_step(Experiment(tiny_config, parallel), parallel).lower(lowering_platforms=("cuda",)).as_text()
        products.append(len(re.findall("stablehlo.(?:convolution|dot_general)", text)))
        reduces.append(text.count("stablehlo.all_reduce"))
    nothing, activations, blocks = products
    assert nothing == activations < blocks
    assert len(set(reduces)) == 1


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

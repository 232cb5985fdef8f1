"""The training step: the same on any number of devices, and each of its options does what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from inception_jax import UserError, create_model
from inception_jax.data.augment import Preprocessing
from inception_jax.parallel import AXIS, FAST_COMPILE, REPLICATED, SPLIT, DataParallel
from inception_jax.training.losses import cross_entropy, make_loss
from inception_jax.training.optimizers import make_optimizer
from inception_jax.training.state import create_state
from inception_jax.training.step import make_train_step
from inception_jax.training.tasks import classification
from tests import values

SHAPE = (8, 8, 3)


def batch(size=8, seed=1):
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (size, *SHAPE), np.uint8),
        "label": rng.integers(0, 3, size).astype(np.int32),
        "index": np.arange(size, dtype=np.uint32),
        "seed": np.full(size, seed, np.uint32),
    }


OPTIMIZER = common.get_config().optimizer.to_dict() | {"weight_decay": 1e-3}
SGD = make_optimizer(**OPTIMIZER)
DEFAULTS = {"accumulate": 1, "ema_decay": 0.0, "freeze": ()}
AUX_WEIGHTS = {"aux1": 0.3}


def start(model="tiny", ema=False, plateau=None, optimizer=SGD, **options):
    model = create_model(model, 3, **options)
    return create_state(model, optimizer, jax.random.key(0), SHAPE, ema=ema, dataset_stats={}, plateau=plateau or {})


def train(
    steps=2,
    *,
    devices=1,
    kind="shard_map",
    norm="none",
    sync=False,
    batch_statistics=None,
    donate=False,
    size=8,
    optimizer=SGD,
    label_smoothing=0.0,
    augment=None,
    plateau=None,
    seed=1,
    aux_weights=AUX_WEIGHTS,
    **options,
):
    """Returns the state and the last metrics after some steps of the tiny network."""
    model = create_model("tiny", 3, norm=norm)
    model = model.clone(batch_norm_axis=AXIS if sync else None, batch_statistics=batch_statistics)
    schedule = lambda step: 0.1 / (1 + step)  # noqa: E731
    options = DEFAULTS | options
    preprocessing = values.preprocessing(**{"mean": (128.0,) * 3, "std": (64.0,) * 3, "flip": True} | (augment or {}))
    objective = classification(make_loss("softmax", label_smoothing), aux_weights).objective
    step = make_train_step(model, optimizer, schedule, preprocessing, objective, **options)
    parallel = DataParallel(kind, jax.devices()[:devices])
    mapped = parallel.map(step, (REPLICATED, SPLIT), (REPLICATED, REPLICATED), (0,) if donate else ())
    state = parallel.replicate(start(norm=norm, ema=bool(options["ema_decay"]), plateau=plateau, optimizer=optimizer))
    for _ in range(steps):
        state, metrics = mapped(state, parallel.shard(batch(size, seed)))
    return jax.device_get(state), jax.device_get(metrics)


def assert_close(ours, theirs, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("devices", [2, 4])
def test_devices_share_the_work(devices):
    assert_close(train(devices=devices), train(devices=1), rtol=1e-4, atol=1e-6)


def test_one_program_serves_every_seed():
    """So the runs of a sweep that differ in their seed compile once; augmentation draws from the seed all the same."""
    step = make_train_step(
        create_model("tiny", 3, norm="none"),
        SGD,
        lambda step: 0.1,
        values.preprocessing(mean=(128.0,) * 3, std=(64.0,) * 3, flip=True),
        classification(make_loss("softmax", 0.0), AUX_WEIGHTS).objective,
        **DEFAULTS,
    )
    parallel = DataParallel("shard_map", jax.devices()[:1])
    mapped = parallel.map(step, (REPLICATED, SPLIT), (REPLICATED, REPLICATED))
    state = parallel.replicate(start())
    losses = [float(mapped(state, parallel.shard(batch(seed=seed)))[1]["loss"]) for seed in range(4)]
    assert mapped._cache_size() == 1
    assert len(set(losses)) > 1


def test_synchronised_batch_norm_is_that_of_the_whole_batch():
    whole = train(norm="batch")
    assert_close(train(norm="batch", devices=4, sync=True), whole, rtol=1e-3, atol=1e-5)
    ours, theirs = train(norm="batch", devices=4)[0].params, whole[0].params
    assert not np.allclose(ours["body"]["conv3x3"]["kernel"], theirs["body"]["conv3x3"]["kernel"], rtol=1e-3)


def test_running_statistics_are_the_mean_over_devices():
    parts = [jax.tree.map(lambda x, i=i: x[4 * i : 4 * i + 4], batch()) for i in range(2)]
    means = []
    for part in parts:
        images = (part["image"] - 128.0) / 64.0
        model = create_model("tiny", 3, norm="batch")
        state = start(norm="batch")
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        _, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
        means.append(updated["batch_stats"]["stem"]["conv3x3_bn"]["mean"])
    state, _ = train(1, devices=2, norm="batch", augment={"flip": False})
    np.testing.assert_allclose(state.batch_stats["stem"]["conv3x3_bn"]["mean"], np.mean(means, axis=0), rtol=1e-4)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_pmap_equals_shard_map(norm):
    options = {"devices": 4, "norm": norm, "ema_decay": 0.9, "donate": True}
    assert_equal(train(kind="pmap", **options), train(kind="shard_map", **options))


def test_fast_steps_are_compiled_with_less_effort(monkeypatch):
    seen = []
    monkeypatch.setattr(jax, "jit", lambda step, *, compiler_options, **_: seen.append(compiler_options))
    for fast_compile in (False, True):
        DataParallel(fast_compile=fast_compile).map(lambda x: x, (SPLIT,), SPLIT)
    assert seen == [None, FAST_COMPILE]


def test_accumulated_gradients_are_those_of_the_whole_batch():
    assert_close(train(accumulate=4), train(accumulate=1), rtol=1e-4, atol=1e-6)
    assert_close(train(accumulate=2, devices=2), train(accumulate=1), rtol=1e-4, atol=1e-6)


def test_auxiliary_loss_counts_with_its_weight():
    (with_head, metrics), (without, plain) = (train(1, aux_weights={"aux1": w}) for w in (0.3, 0.0))
    np.testing.assert_allclose(metrics["loss"], plain["loss"] + 0.3 * plain["aux1_loss"], rtol=1e-5)
    head = lambda state: state.params["aux1"]["classifier"]["bias"]  # noqa: E731
    assert np.all(head(with_head) != 0)
    np.testing.assert_array_equal(head(without), 0)


def test_averages_follow_tensorflows_rule():
    states = [train(steps, ema_decay=0.15)[0] for steps in (1, 2)]
    before = jax.device_get(start().params)
    average = before
    for step, state in enumerate(states):
        decay = min(0.15, (1 + step) / (10 + step))
        average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, average, state.params)
        assert_close(state.ema["params"], average, rtol=1e-5, atol=1e-7)
    assert states[1].inference_variables["params"] is states[1].ema["params"]
    assert train(1)[0].ema == {}


def test_the_learning_rate_is_that_of_the_step():
    assert [float(train(steps)[1]["learning_rate"]) for steps in (1, 2)] == pytest.approx([0.1, 0.05])


def test_label_smoothing_by_hand():
    logits, targets = jnp.array([[2.0, 0.0, 0.0, 0.0]]), jnp.array([[1.0, 0.0, 0.0, 0.0]])
    log_p = 2 - np.log(np.exp(2) + 3), -np.log(np.exp(2) + 3)
    np.testing.assert_allclose(cross_entropy(logits, targets), [-log_p[0]], rtol=1e-6)
    # (1 - 0.2) onehot + 0.2 / 4
    np.testing.assert_allclose(
        cross_entropy(logits, targets, 0.2), [-(0.85 * log_p[0] + 3 * 0.05 * log_p[1])], rtol=1e-6
    )
    (_, smooth), (_, plain) = train(1, label_smoothing=0.2), train(1)
    assert smooth["loss"] != plain["loss"]
    assert smooth["aux1_loss"] != plain["aux1_loss"]


def test_frozen_parameters_stay_and_have_no_gradient():
    optimizer = make_optimizer(**OPTIMIZER | {"freeze": ("stem", "body/.*/bias")})
    (state, metrics), (free, all_metrics), before = (
        train(3, optimizer=optimizer, freeze=("stem", "body/.*/bias")),
        train(3),
        jax.device_get(start()),
    )
    np.testing.assert_array_equal(state.params["stem"]["conv3x3"]["kernel"], before.params["stem"]["conv3x3"]["kernel"])
    np.testing.assert_array_equal(state.params["body"]["conv3x3"]["bias"], 0)
    assert not np.array_equal(state.params["body"]["conv3x3"]["kernel"], before.params["body"]["conv3x3"]["kernel"])
    assert np.any(free.params["body"]["conv3x3"]["bias"] != 0)
    assert metrics["grad_norm"] < all_metrics["grad_norm"]


def test_frozen_batch_statistics_are_used_and_stay():
    frozen, _ = train(2, norm="batch", batch_statistics=False)
    statistics = frozen.batch_stats["stem"]["conv3x3_bn"]
    np.testing.assert_array_equal(statistics["mean"], 0)
    np.testing.assert_array_equal(statistics["var"], 1)
    assert np.any(train(2, norm="batch")[0].batch_stats["stem"]["conv3x3_bn"]["mean"] != 0)


def test_the_plateaus_scale_is_that_of_the_learning_rate():
    plateau = {"scale": np.float32(0.5), "best": np.float32(0), "waited": np.int32(1)}
    halved, metrics = train(1, plateau=plateau)
    assert float(metrics["learning_rate"]) == pytest.approx(0.05)
    before = jax.device_get(start()).params
    moved, half = (jax.tree.map(lambda p, q: p - q, state.params, before) for state in (train(1)[0], halved))
    assert_close(jax.tree.map(lambda x: x / 2, moved), half, rtol=1e-3, atol=1e-7)


def test_mixed_labels_have_the_shares_of_the_images(monkeypatch):
    """With a share of 1 nothing is mixed; with 0 each image is its partner's, label and all."""
    at = lambda share: lambda self, images, index, key: (images, jnp.full(len(images), share))  # noqa: E731
    losses = []
    for share in (1.0, 0.0, 0.25):
        monkeypatch.setattr(Preprocessing, "mix", at(share))
        losses.append(float(train(1, augment={"mixup": 1.0})[1]["loss"]))
    own, partners, mixed = losses
    assert own == pytest.approx(float(train(1)[1]["loss"]), rel=1e-6)
    assert own != pytest.approx(partners, rel=1e-3)
    assert mixed == pytest.approx(0.25 * own + 0.75 * partners, rel=1e-5)


def test_lenets_criterion_by_hand():
    # Distances 1 and 3; the first class is right: 1 + log(e^-10 + e^-1 + e^-3).
    logits, targets = jnp.array([[-1.0, -3.0]]), jnp.array([[1.0, 0.0]])
    expected = 1 + np.log(np.exp(-10) + np.exp(-1) + np.exp(-3))
    np.testing.assert_allclose(make_loss("map", 0.0)(logits, targets), [expected], rtol=1e-6)
    with pytest.raises(UserError, match="label_smoothing=0.1 needs loss='softmax'; set it to 0"):
        make_loss("map", 0.1)

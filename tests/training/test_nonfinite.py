"""Steps that are not finite: they change nothing, are counted, and stop the run with their layer and their images."""

import json
import shutil

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inception_jax import create_model
from inception_jax.data import loader
from inception_jax.data.augment import Preprocessing
from inception_jax.data.sources import open_source
from inception_jax.parallel import REPLICATED, SPLIT, DataParallel
from inception_jax.runs.checkpoints import Checkpoints
from inception_jax.training import loop
from inception_jax.training.experiment import Experiment
from inception_jax.training.nonfinite import NonFiniteError, diagnose, first_layer, layer_names
from inception_jax.training.preemption import Interrupted
from tests.training.test_loop import assert_equal, history, run, stop_at


@pytest.fixture
def damage(monkeypatch):
    """Makes the input of some examples NaN, by their index in the stream: each is on one device only."""

    def of(*bad):
        def train(self, images, index, *arguments):
            is_bad = jnp.isin(index, jnp.array(bad, index.dtype))
            return jnp.where(is_bad[:, None, None, None], jnp.nan, usual(self, images, index, *arguments))

        usual = Preprocessing.train
        monkeypatch.setattr(Preprocessing, "train", train)

    return of


def batches(experiment, parallel, count):
    return loop.loader.train_batches(
        experiment.train_source,
        experiment.crop_config,
        loader.DamageReport(experiment.train_source),
        seed=0,
        batch_size=8,
        first_step=0,
        last_step=count,
        shard=loader.ProcessShard(),
        threads=1,
        to_device=parallel.shard,
    )


def steps(config, count):
    """Returns the states before and after each of `count` steps, the metrics, and what made them."""
    parallel = DataParallel()
    experiment = Experiment(config, parallel)
    step = parallel.map(experiment.train_step(), (REPLICATED, SPLIT), (REPLICATED, REPLICATED))
    states, metrics, inputs = (
        [parallel.replicate(experiment.create_state())],
        [],
        [*batches(experiment, parallel, count)],
    )
    for batch in inputs:
        state, values = step(states[-1], batch)
        states.append(state)
        metrics.append(jax.device_get(values))
    return jax.device_get(states), metrics, (experiment, parallel, states, inputs)


def without_counts(state):
    return state.replace(step=0, skips=0)


def test_a_skipped_step_changes_nothing_but_the_counts(tiny_config, damage):
    """The second batch is bad, in one example of eight, so on one device of four."""
    damage(13)
    tiny_config.train.on_nonfinite = "skip"
    states, metrics, _ = steps(tiny_config, 3)
    assert [(bool(m["skipped"]), bool(m["failed"])) for m in metrics] == [(False, False), (True, False), (False, False)]
    assert np.isnan(metrics[1]["loss"])
    assert [(int(state.step), int(state.skips)) for state in states] == [(0, 0), (1, 0), (2, 1), (3, 0)]
    assert_equal(without_counts(states[2]), without_counts(states[1]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states[3]))
    for field in ("params", "batch_stats", "ema", "opt_state"):
        assert any(
            (a != b).any() for a, b in zip(*(jax.tree.leaves(getattr(s, field)) for s in states[2:]), strict=True)
        )


def test_new_parameters_that_overflow_fail_the_step_that_makes_them(tiny_config):
    """The loss and the gradients of the second step are finite, its rate is not. Later steps keep the state."""
    tiny_config.model.norm = "none"
    parallel = DataParallel()
    experiment = Experiment(tiny_config, parallel)
    experiment.schedule = lambda step: jnp.where(step == 1, jnp.inf, 1e-3)
    step = parallel.map(experiment.train_step(), (REPLICATED, SPLIT), (REPLICATED, REPLICATED))
    states, inputs = [parallel.replicate(experiment.create_state())], [*batches(experiment, parallel, 4)]
    for batch in inputs:
        state, metrics = step(states[-1], batch)
        states.append(state)
        assert np.isfinite(metrics["loss"])
        assert np.isfinite(metrics["grad_norm"])
    assert [(int(state.step), int(state.skips)) for state in states] == [(0, 0), (1, 0), (1, -1), (1, -1), (1, -1)]
    assert_equal(*(jax.device_get(without_counts(state)) for state in (states[4], states[1])))
    found = diagnose(experiment, parallel, states[4], inputs[1])
    assert (found["what"], found["first_layer"]) == ("new parameter", "stem")
    assert found["arrays"] == ["stem/conv3x3/bias", "stem/conv3x3/kernel"]
    assert diagnose(experiment, parallel, states[0], inputs[0]) == {"what": "", "first_layer": "", "arrays": []}


def test_a_run_stops_with_the_step_the_layer_and_the_images(tiny_config, tmp_path, damage):
    damage(41)  # in the sixth batch
    with pytest.raises(NonFiniteError) as error:
        run(tiny_config, tmp_path)
    file = tmp_path / "nonfinite.json"
    assert str(error.value) == (
        "loss is nan at step 6; no checkpoint from before it is lost. Cause: the input of the network is not "
        f"finite; {file} has the names of the batch's 8 images. Lower config.schedule.base_lr, lengthen "
        "config.schedule.warmup or set config.optimizer.clip_norm, with a new workdir; or set "
        "config.train.on_nonfinite='skip', with this one"
    )
    record = json.loads(file.read_text(encoding="utf-8"))
    assert (record["step"], record["what"], record["first_layer"], record["arrays"]) == (6, "loss", "images", [])
    assert (record["values"]["loss"], record["skipped_before"]) == ("nan", 0)

    read = []

    class Source:
        def __len__(self):
            return len(source)

        def name(self, index):
            return source.name(index)

        def encoded(self, index):
            read.append(source.name(index))
            return source.encoded(index)

    source = open_source("folder", "train", tiny_config.data.dir)
    experiment = Experiment(tiny_config, parallel := DataParallel())
    experiment.train_source = Source()
    list(batches(experiment, parallel, 6))
    assert record["examples"] == read[40:]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]

    # The same workdir goes on without that step.
    tiny_config.train.on_nonfinite = "skip"
    state = run(tiny_config, tmp_path)
    assert (int(state.step), int(state.opt_state.count)) == (12, 11)
    rows = [row for row in history(tmp_path) if row["split"] == "train"]
    assert {row["step"]: row["skipped"] for row in rows if row["step"] > 4} == {6: 1, 8: 0, 10: 0, 12: 0}
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_skips_in_a_row_are_counted_through_a_restart(tiny_config, tmp_path, damage, monkeypatch):
    """Four bad steps, 5 to 8, and a restart after the sixth."""
    damage(32, 40, 48, 56)
    tiny_config.train.update(on_nonfinite="skip", max_skips=4)
    whole = run(tiny_config, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "Preemption", stop_at(6))
        run(tiny_config, tmp_path / "parts")
    shutil.copytree(tmp_path / "parts", tmp_path / "bounded")
    assert_equal(run(tiny_config, tmp_path / "parts"), whole)
    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    assert [row["skipped"] for row in history(tmp_path / "whole") if row["split"] == "train"] == [0, 0, 2, 2, 0, 0]
    assert [row["loss"] is None for row in history(tmp_path / "whole")] == [
        False,
        False,
        True,
        False,
        True,
        *[False] * 3,
    ]

    tiny_config.train.max_skips = 3
    with pytest.raises(NonFiniteError, match="^loss is nan at step 8, after 3 skipped steps in a row; no checkpoint"):
        run(tiny_config, tmp_path / "bounded")
    record = json.loads((tmp_path / "bounded" / "nonfinite.json").read_text(encoding="utf-8"))
    assert (record["step"], record["skipped_before"]) == (8, 3)


def test_a_learning_rate_that_is_too_high_is_found_in_a_layer(tiny_config, tmp_path):
    """The seventh step makes weights of about 1e28, and the eighth multiplies two such layers."""
    tiny_config.model.norm = "none"
    tiny_config.schedule.update(name="piecewise", rate=1e30, boundaries=("6 steps",), warmup="0 steps")
    with pytest.raises(NonFiniteError, match=r"^loss is (nan|inf) at step 8; .* is that of aux1; "):
        run(tiny_config, tmp_path)
    record = json.loads((tmp_path / "nonfinite.json").read_text(encoding="utf-8"))
    assert (record["what"], record["first_layer"]) == ("loss", "aux1")
    assert len(record["examples"]) == 8


FINE = {
    "loss": 1.0,
    "grad_norm": 1.0,
    "details": {
        "outputs": {"images": 0.0, "stem": 0.0, "aux1": 0.0, "body": 0.0, "pool": 0.0, "top": 0.0},
        "params": {"body/conv/kernel": 0.0, "stem/conv/kernel": 0.0},
        "gradients": {
            "aux1/classifier/bias": 1.0,
            "body/conv/bias": 2.0,
            "body/conv/kernel": 3.0,
            "stem/conv/bias": 1.0,
        },
        "new_params": {"body/conv/kernel": 0.0, "stem/conv/kernel": 0.0},
        "new_batch_stats": {"body/conv_bn/mean": 0.0, "body/conv_bn/var": 0.0},
    },
}
INF = float("inf")


@pytest.mark.parametrize(
    ("changes", "what", "layer", "arrays"),
    [
        ({}, "", "", []),
        ({"loss": INF}, "loss", "", []),
        ({"loss": INF, "outputs": {"top": 4.0, "body": 0.25}}, "loss", "body", []),
        ({"loss": INF, "outputs": {"aux1": 4.0, "body": 0.25}}, "loss", "aux1", []),
        ({"loss": INF, "params": {"body/conv/kernel": 1.0}}, "parameter", "body", ["body/conv/kernel"]),
        (
            {"grad_norm": INF, "gradients": {"stem/conv/bias": INF, "body/conv/bias": INF}},
            *("gradient", "body"),
            ["body/conv/bias"],
        ),
        ({"grad_norm": INF}, "gradient", "body", ["body/conv/kernel"]),
        (
            {"new_params": {"body/conv/kernel": 9.0, "stem/conv/kernel": 1.0}},
            *("new parameter", "stem"),
            ["stem/conv/kernel"],
        ),
        ({"new_batch_stats": {"body/conv_bn/var": 1.0}}, "batch statistics", "body", ["body/conv_bn/var"]),
    ],
)
def test_the_first_layer_in_the_order_of_computation(changes, what, layer, arrays):
    details = {key: values | changes.get(key, {}) for key, values in FINE["details"].items()}
    metrics = {key: changes.get(key, FINE[key]) for key in ("loss", "grad_norm")} | {"details": details}
    layers = layer_names(create_model("tiny", 3))
    assert layers == ["stem", "aux1", "body", "pool", "top"]
    assert first_layer(metrics, layers) == {"what": what, "first_layer": layer, "arrays": arrays}


def test_a_damaged_image_is_listed_by_the_one_in_its_place(tiny_config, image_folder, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(image_folder, root)
    for i in range(60):  # so that one is less than 1 %
        shutil.copy(root / "train" / "red" / "0.png", root / "train" / "red" / f"more{i}.png")
    source = open_source("folder", "train", str(root))
    crops = Experiment(tiny_config, DataParallel()).crop_config
    options = {"seed": 0, "batch_size": 8, "step": 0}
    before = loader.train_names(source, crops, **options)
    (root / before[3]).write_bytes(b"damaged")
    names = [source.name(i) for i in range(len(source))]
    following = names[(names.index(before[3]) + 1) % len(names)]
    assert loader.train_names(source, crops, **options) == [*before[:3], following, *before[4:]]


def test_a_checkpoint_without_the_number_of_skips_is_read(tiny_config, tmp_path):
    class Older(flax.struct.PyTreeNode):
        step: jax.Array
        params: dict
        batch_stats: dict
        opt_state: tuple
        ema: dict
        dataset_stats: dict
        plateau: dict

    parallel = DataParallel()
    experiment = Experiment(tiny_config, parallel)
    state = parallel.replicate(experiment.create_state())
    older = Older(**{name: getattr(state, name) for name in Older.__dataclass_fields__})
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1)
    checkpoints.save(1, older, experiment.inference_metadata())
    checkpoints.wait()
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=parallel.replicated), experiment.abstract_state()
    )
    assert_equal(jax.device_get(checkpoints.restore(abstract, pytest.fail)), jax.device_get(state))
    checkpoints.close()

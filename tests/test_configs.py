"""Every config loads and takes a step, and no key is dead."""

import importlib
import pathlib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from inception_jax import UserError, create_model
from inception_jax.models import summary
from inception_jax.training import loop
from inception_jax.training.config import _KEYS, differences, validate
from inception_jax.training.optimizers import make_optimizer
from inception_jax.training.schedules import Clock, make_schedule

NAMES = sorted(path.stem for path in (pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "common"])
def test_each_config_takes_a_step(name, tmp_path):
    module = importlib.import_module(f"configs.{name}")
    assert f"--config=configs/{name}.py" in module.__doc__
    config = module.get_config()
    validate(config)
    config.model.width = 0.05
    config.data.update(name="synthetic", image_size=64, resize=64)
    config.train.update(batch_size=4, epochs=0.0, steps=1)
    config.schedule.warmup = "0 steps"
    config.eval.batch_size = 640
    config.log.update(tensorboard=False, report=False)
    state = jax.device_get(loop.train_and_evaluate(config, str(tmp_path)))
    assert int(state.step) == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_the_default_config_has_exactly_the_keys_there_are():
    def keys(tree):
        return {
            key: keys(value) if isinstance(value, dict) and key != "aux_weights" else None
            for key, value in tree.items()
        }

    assert keys(common.get_config().to_dict()) == keys(_KEYS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: setattr(c.train, "epohcs", 3.0), "config.train has no key 'epohcs'; did you mean epochs"),
        (lambda c: setattr(c, "modle", 3), "config has no key 'modle'; did you mean model"),
        (
            lambda c: setattr(c.optimizer, "momentum", "much"),
            "config.optimizer.momentum='much' must be of type float, not",
        ),
        (lambda c: setattr(c.train, "accumulate", True), "config.train.accumulate=True must be of type int, not bool"),
        (lambda c: delattr(c.data, "std"), "config.data.std is missing; start from configs/common.py"),
        (lambda c: c.train.update(batch_size=0), "config.train.batch_size=0 must be at least 1"),
        (lambda c: c.train.update(label_smoothing=2.0), "config.train.label_smoothing=2.0 must be between 0 and 1"),
        (lambda c: c.eval.update(every="often"), "config.eval.every='often' is no duration"),
        (lambda c: c.data.update(area=(0.5, 0.1)), r"config.data.area=\(0.5, 0.1\) must be two shares of 1"),
        (lambda c: c.data.update(std=(1.0, 0.0, 1.0)), r"config.data.std=\(1.0, 0.0, 1.0\) must be three positive"),
        (lambda c: setattr(c, "data", "digits"), "config.data='digits' must be of type dict, not str"),
    ],
)
def test_wrong_keys_are_named(change, message):
    config = ConfigDict(common.get_config().to_dict(), type_safe=False)
    change(config)
    with pytest.raises(UserError, match=message):
        validate(config)


def test_differences_leave_out_what_may_change():
    old, new = common.get_config().to_dict(), common.get_config()
    new.log.every, new.data.threads, new.parallel = "1 step", 1, "pmap"
    assert differences(old, new.to_dict()) == []
    new.seed = 5
    new.model.aux = False
    assert differences(old, new.to_dict()) == ["config.model.aux: absent -> False", "config.seed: 0 -> 5"]


class Recorder:
    """A config that notes which of its leaves are read one by one."""

    def __init__(self, config, read, prefix=""):
        self._config, self._read, self._prefix = config, read, prefix

    def __getattr__(self, name):
        value = getattr(self._config, name)
        if isinstance(value, ConfigDict):
            return Recorder(value, self._read, f"{self._prefix}{name}.")
        if not callable(value):
            self._read.add(self._prefix + name)
        return value

    def __getitem__(self, name):
        return getattr(self, name)

    def __iter__(self):
        return iter(self._config)

    def __contains__(self, name):
        return name in self._config


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_every_key_is_read(tiny_config, tmp_path):
    """The sections that are passed on whole are looked at below, key by key."""
    read = set()
    tiny_config.log.profile_at = 20  # never reached
    loop.train_and_evaluate(Recorder(tiny_config, read), str(tmp_path))
    whole = ("model.", "optimizer.", "schedule.")
    expected = {key for key in leaves(tiny_config.to_dict()) if not key.startswith(whole)}
    assert expected <= read | {"train.aux_weights.aux1"}
    assert expected - read == set()


CLOCK = Clock(10, 100)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("constant", "base_lr", 0.2),
        ("constant", "warmup", "5 steps"),
        ("exponential", "every", "1 epoch"),
        ("exponential", "rate", 0.5),
        ("piecewise", "rate", 0.5),
        ("piecewise", "boundaries", ("10 steps",)),
        ("poly", "power", 1.0),
        ("poly", "end_lr", 0.001),
        ("cosine", "end_lr", 0.001),
        ("constant", "name", "cosine"),
    ],
)
def test_every_key_of_the_schedule_changes_it(name, key, value):
    section = common.get_config().schedule.to_dict() | {"name": name, "boundaries": ("50 steps",)}
    before, after = (make_schedule(CLOCK, 200, **options) for options in (section, section | {key: value}))
    assert any(float(before(step)) != float(after(step)) for step in range(200))


@pytest.mark.parametrize(
    ("key", "value"), [("momentum", 0.5), ("nesterov", True), ("weight_decay", 0.1), ("clip_norm", 0.1)]
)
def test_every_key_of_the_optimizer_changes_the_update(key, value):
    section = common.get_config().optimizer.to_dict()
    params = {"kernel": np.ones(3, np.float32)}
    ends = []
    for options in (section, section | {key: value}):
        optimizer = make_optimizer(lambda step: 0.1, **options)
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update(params, state, params)
        ends.append(updates["kernel"])
    assert not np.array_equal(*ends)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("module", "naive"),
        ("stem", "separable"),
        ("norm", "none"),
        ("aux", False),
        ("dropout", 0.1),
        ("aux_dropout", 0.1),
        ("width", 0.5),
        ("batch_norm_decay", 0.5),
        ("dtype", "bfloat16"),
    ],
)
def test_every_option_of_googlenet_changes_it(key, value):
    section = importlib.import_module("configs.googlenet").get_config().model.to_dict() | {"norm": "batch"}
    assert set(section) - {"name"} == {
        "module", "stem", "norm", "aux", "dropout", "aux_dropout", "width", "batch_norm_decay", "dtype",
    }  # fmt: skip

    def program(options):
        model = create_model(num_classes=10, **options)
        variables = summary.abstract_variables(model, (64, 64, 3))
        rngs = {"dropout": jax.random.key(0)}
        images = jax.ShapeDtypeStruct((2, 64, 64, 3), np.float32)
        apply = lambda v, x: model.apply(v, x, train=True, rngs=rngs, mutable=["batch_stats"])  # noqa: E731
        return str(jax.make_jaxpr(apply)(variables, images))

    assert program(section) != program(section | {key: value})

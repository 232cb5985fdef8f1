"""Workdirs that version 0.1 wrote are still read: small runs on the digits, six steps with evaluations at 3 and 6.

nin: EMA, weights of the plain kind. plateau: GoogLeNet without EMA, a plateau schedule, global contrast normalisation,
colour noise (statistics of the training set), Caffe's momentum.
"""

import functools
import json
import shutil
import tarfile
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

import inception_jax
from configs.common import KEYS, get_config, validate
from inception_jax.config import Key
from inception_jax.errors import UserError
from inception_jax.parallel import DataParallel
from inception_jax.runs.renamed import CONFIG_KEYS, current_config
from inception_jax.training import loop

DIRECTORY = Path(__file__).parent / "version_0_1"


@pytest.fixture
def old(tmp_path):
    for file in DIRECTORY.glob("*.tar.gz"):
        with tarfile.open(file) as archive:
            archive.extractall(tmp_path, filter="data")
    return tmp_path


def config_of(workdir):
    """The config of today's recipe, which has newer keys too."""
    old = current_config(json.loads((workdir / "config.json").read_text(encoding="utf-8"))["config"])
    config = ConfigDict(old | {name: get_config()[name].to_dict() | old[name] for name in ("data", "train")})
    validate(config)
    return config


def test_every_renamed_key_is_one_of_now():
    for key in CONFIG_KEYS.values():
        table = KEYS
        for name in key.split("."):
            table = table[name]
        assert isinstance(table, Key)


def test_an_old_key_is_told_by_its_new_name():
    config = get_config()
    config.train.average_decay = 0.9
    with pytest.raises(UserError, match=r"^config.train.average_decay is now called config.train.ema_decay$"):
        validate(config)


@pytest.mark.parametrize("name", ["nin", "plateau"])
def test_a_run_is_resumed(name, old, monkeypatch):
    """The last three steps give what they gave, on one device as then; the evaluation before them is repeated."""
    monkeypatch.setattr(loop, "DataParallel", functools.partial(DataParallel, devices=jax.devices()[:1]))
    workdir = old / name
    before = json.loads((workdir / "results.json").read_text())
    shutil.rmtree(workdir / "checkpoints" / "6")
    state = loop.train_and_evaluate(config_of(workdir), str(workdir))
    assert int(state.step) == 6
    after = json.loads((workdir / "results.json").read_text())
    for which in ("last", "best"):
        assert after[which] == pytest.approx(before[which], rel=1e-5)
    assert bool(state.ema) == (name == "nin")
    steps = [
        (row["step"], row["split"]) for row in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    ]
    assert steps == [(2, "train"), (3, "test"), (4, "train"), (6, "train"), (6, "test")]


@pytest.mark.parametrize("name", ["nin", "plateau"])
def test_weights_are_loaded(name, old):
    classifier = inception_jax.load(old / name, "last")
    assert classifier.class_names == tuple("0123456789")
    assert set(classifier.variables) == {"params", "batch_stats", "dataset_stats"}
    assert bool(classifier.variables["dataset_stats"]) == (name == "plateau")

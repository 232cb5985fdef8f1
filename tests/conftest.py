"""Tests run on four simulated CPU devices and keep compiled programs between runs."""

import functools
import os
import pathlib
import shutil
from typing import Literal

_ROOT = pathlib.Path(__file__).parent.parent
# Before JAX starts; commands that tests start as processes take it over too.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_ROOT / ".cache" / "xla"))
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling costs more than running here
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"

import jax
import numpy as np
import pytest
from flax.linen import initializers
from PIL import Image

import inception_jax
from configs import common
from inception_jax import models
from inception_jax.models.network import Network
from inception_jax.models.options import Rate
from inception_jax.models.units import (
    AuxHead,
    BatchNorm,
    Chain,
    Conv,
    Dropout,
    GlobalAvgPool,
    Logits,
    Style,
)


def tiny(
    num_classes: int = 1000,
    *,
    norm: Literal["none", "batch"] = "none",
    dropout: Rate = 0.0,
    batch_norm_decay: Rate = 0.9,
    dtype="float32",
):
    """A network with everything that training touches, small enough to compile in a second."""
    return Network(
        layers=(
            ("stem", Conv("conv3x3", 4, 3, 2)),
            ("body", Conv("conv3x3", 8, 3)),
            ("pool", GlobalAvgPool()),
            ("top", Chain(Dropout(dropout), Logits("classifier", num_classes))),
        ),
        aux_heads=(AuxHead("aux1", "stem", Chain(GlobalAvgPool(), Logits("classifier", num_classes))),),
        style=Style(
            conv_padding="SAME",
            pool_padding="SAME",
            kernel_init=initializers.he_normal(),
            bias_init=initializers.zeros,
            batch_norm=BatchNorm(batch_norm_decay, 1e-3) if norm == "batch" else None,
        ),
        input_shape=(16, 16, 3),
        min_size=4,
        dtype=dtype,
    )


@pytest.fixture(scope="session", autouse=True)
def _tiny_network():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(models._MODELS, "tiny", tiny)
        yield


COLOURS = {"blue": (30, 40, 220), "green": (30, 200, 60), "red": (220, 50, 40)}


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> pathlib.Path:
    """An image folder of three colours: 16 images of each to train on, 7 to evaluate; sizes differ."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 7)):
        for name, colour in COLOURS.items():
            directory = root / split / name
            directory.mkdir(parents=True)
            for i in range(count):
                pixels = np.array(colour) + rng.integers(-30, 31, (20 + i % 3, 24, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(directory / f"{i}.png")
    return root


@pytest.fixture
def tiny_config(image_folder):
    """Twelve steps of the tiny network on the image folder, six steps an epoch."""
    return make_tiny_config(image_folder)


def make_tiny_config(image_folder):
    config = common.get_config()
    config.model.name = "tiny"
    config.model.norm = "batch"
    config.model.dropout = 0.1
    config.data.update(
        name="folder", dir=str(image_folder), eval_split="val", image_size=16, resize=18, threads=2, mean=(128.0,) * 3
    )
    config.data.std = (64.0,) * 3
    config.train.update(batch_size=8, steps=12, ema_decay=0.9)
    config.train.aux_weights = {"aux1": 0.3}
    config.optimizer.weight_decay = 1e-4
    config.schedule.update(name="cosine", base_lr=0.1, warmup="2 steps")
    config.eval.every = "6 steps"
    config.checkpoint.every = "4 steps"
    config.log.update(every="2 steps", tensorboard=False, report=False)
    return config


@pytest.fixture(scope="session")
def _trained(image_folder, tmp_path_factory, _tiny_network):
    from inception_jax.training.loop import train_and_evaluate

    config, workdir = make_tiny_config(image_folder), tmp_path_factory.mktemp("trained") / "run"
    config.checkpoint.keep = 5
    return jax.device_get(train_and_evaluate(config, str(workdir))), workdir


@pytest.fixture(scope="session")
def trained(_trained) -> pathlib.Path:
    """Workdir of a finished run of `tiny_config`: checkpoints 4, 6, 8, 12, evaluated at 6 and 12. Tests only read it.

    Its cache of scores, `evaluation/`, is filled by tests.
    """
    return _trained[1]


@pytest.fixture
def on_trained(trained, capsys):
    """Runs the `main` of a command on `trained`; returns exit status, standard output and standard error."""

    def run(main, *arguments, workdir=trained):
        try:
            status = main([f"--workdir={workdir}", *map(str, arguments)])
        except SystemExit as exit:
            status = exit.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def uninterrupted(_trained, tmp_path):
    """The final state of `trained`, and a copy of its workdir."""
    state, workdir = _trained
    return state, shutil.copytree(workdir, tmp_path / "uninterrupted")


@pytest.fixture(scope="session")
def summary_of():
    """The summary of a network as published, traced once a session."""
    return functools.cache(inception_jax.summary)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, driven by Playwright; tests are skipped where none is installed."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no Chromium is installed (chromium, chromium-browser or google-chrome in PATH)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield running
        running.close()

"""Several seeds and learning rates by one program: each is the run of the training loop."""

import jax
import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.parallel import DataParallel
from inception_jax.runs.run import Run
from inception_jax.training.experiment import Experiment
from inception_jax.training.loop import train_and_evaluate
from inception_jax.training.seeds import SeedTrainer, Start

STARTS = [Start(0, 0.05), Start(3, 0.02)]


@pytest.fixture
def config(tiny_config):
    tiny_config.data.update(cache="device", crop="central", resize=tiny_config.data.image_size)
    return tiny_config


@pytest.fixture
def parallel():
    return DataParallel(devices=jax.devices()[:1])


@pytest.mark.parametrize("together", [False, True])
def test_every_run_is_that_of_the_loop(config, tmp_path, parallel, together, monkeypatch):
    """Rows of metrics and weights; vmapped, within the rounding of other programs."""
    experiment = Experiment(config, parallel)
    trained = list(SeedTrainer(experiment, parallel, together).train(experiment, STARTS))
    assert [one.start for one in trained] == STARTS
    monkeypatch.setattr(jax, "devices", lambda *_: parallel.mesh.devices.tolist())
    for one in trained:
        config.update(seed=one.start.seed)
        config.schedule.base_lr = one.start.base_lr
        state = train_and_evaluate(config, str(tmp_path / str(one.start.seed)))
        run = Run.read(tmp_path / str(one.start.seed))
        tested, expected = (
            [{key: value for key, value in row.items() if key != "split"} for row in rows if row["split"] == "val"]
            for rows in (one.rows, run.metrics)
        )
        assert [row["step"] for row in tested] == [row["step"] for row in expected]
        for ours, theirs in zip(tested, expected, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5),
            one.state.params,
            state.params,
        )
        assert not one.failed_at


def test_a_run_that_fails_says_at_which_step(config, parallel):
    experiment = Experiment(config, parallel)
    good, bad = SeedTrainer(experiment, parallel).train(experiment, [Start(0, 0.05), Start(0, 1e30)])
    assert (good.failed_at, bad.failed_at > 0) == (0, True)
    assert int(bad.state.step) == bad.failed_at - 1


def test_what_does_not_share_a_program(config, parallel):
    trainer = SeedTrainer(Experiment(config, parallel), parallel)
    config.model.norm = "none"
    with pytest.raises(ValueError, match="the experiments have different networks"):
        next(trainer.train(Experiment(config, parallel), STARTS))
    config.schedule.name = "plateau"
    with pytest.raises(UserError, match="a plateau schedule, PCA noise and whitening are not for runs that share"):
        SeedTrainer(Experiment(config, parallel), parallel)

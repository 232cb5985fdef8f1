"""Weights that a network takes over."""

import jax
import numpy as np
import pytest

from inception_jax.errors import UserError
from inception_jax.runs.classifier import load_weights
from inception_jax.training import loop
from inception_jax.weights.files import flatten
from inception_jax.weights.load_into import load_into

NETWORK = {
    "params": {"stem": {"kernel": np.zeros((2, 3), np.float32)}, "top": {"bias": np.zeros(2, np.float32)}},
    "batch_stats": {"stem": {"mean": np.zeros(3, np.float32)}},
}


def weights(**changes):
    return {"params/stem/kernel": np.ones((2, 3)), "batch_stats/stem/mean": np.ones(3)} | changes


def test_arrays_are_loaded_or_keep_their_initial_values():
    variables, lines = load_into(NETWORK, weights(**{"params/head/bias": np.ones(9)}), ("^top/",))
    np.testing.assert_array_equal(variables["params"]["stem"]["kernel"], np.ones((2, 3)))
    np.testing.assert_array_equal(variables["batch_stats"]["stem"]["mean"], np.ones(3))
    np.testing.assert_array_equal(variables["params"]["top"]["bias"], np.zeros(2))
    assert {array.dtype for array in jax.tree.leaves(variables)} == {np.dtype("float32")}  # the network's
    assert lines == [
        "2 arrays loaded, 1 re-initialised: params/top/bias",
        "1 array of the weights not used: params/head/bias",
    ]
    complete = weights(**{"params/top/bias": np.ones(2)})
    assert load_into(NETWORK, complete)[1] == ["3 arrays loaded, 0 re-initialised"]


def test_arrays_that_do_not_match_are_listed_with_the_reason():
    with pytest.raises(UserError) as error:
        load_into(NETWORK, {"params/stem/kernel": np.ones((2, 4)), "params/top/bias": np.float32(1)}, ("fc",))
    assert str(error.value).splitlines() == [
        "reinit=('fc',) leaves 3 of 3 arrays that do not match the weights; add patterns for those to re-initialise:",
        "  batch_stats/stem/mean: missing",
        "  params/stem/kernel: 2x3 in the network, 2x4 in the weights",
        "  params/top/bias: 2 in the network, scalar in the weights",
    ]


@pytest.fixture
def fine_tuning(tiny_config, trained):
    """A config of one step that changes nothing, from the weights of `trained`, with a new head."""
    tiny_config.update(init_from=str(trained), reinit=("^top/", "^aux1/"), seed=5)
    tiny_config.schedule.update(name="constant", warmup="0 steps", base_lr=1e-30)
    tiny_config.optimizer.weight_decay = 0.0
    tiny_config.train.update(steps=1, freeze_batch_norm=True)
    return tiny_config


def test_a_run_starts_from_weights_once(fine_tuning, trained, tmp_path, capsys, monkeypatch):
    state = jax.device_get(loop.train_and_evaluate(fine_tuning, str(tmp_path / "run")))
    expected = load_weights(trained)
    for part in ({"params": state.params, "batch_stats": state.batch_stats}, state.ema):  # which starts from them too
        for name, array in flatten(part).items():
            if "top/" in name or "aux1/" in name:
                assert "bias" in name or not np.allclose(array, expected[name]), name
            else:
                np.testing.assert_allclose(array, expected[name], rtol=1e-6, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), state.ema["params"], state.params)
    assert f"{trained}: 10 arrays loaded, 4 re-initialised: params/aux1/classifier/bias" in capsys.readouterr().err

    monkeypatch.setattr(loop, "load_weights", None)  # a resumed run does not read them again
    again = jax.device_get(loop.train_and_evaluate(fine_tuning, str(tmp_path / "run")))
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)


def test_a_run_names_its_keys(fine_tuning, tmp_path):
    fine_tuning.reinit = ("clasifier",)
    with pytest.raises(UserError, match="config.reinit.*clasifier"):
        loop.train_and_evaluate(fine_tuning, str(tmp_path / "typo"))
    fine_tuning.reinit = ("^top/",)
    fine_tuning.model.width = 2.0
    with pytest.raises(UserError, match=r"^config\.reinit=\('\^top/',\) leaves 11 of 14 arrays"):
        loop.train_and_evaluate(fine_tuning, str(tmp_path / "wide"))

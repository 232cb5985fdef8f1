import numpy as np
import pytest

from configs import common
from inception_jax.errors import UserError
from inception_jax.training.schedules import Clock, make_plateau, make_schedule

CLOCK = Clock(batch_size=10, examples_per_epoch=105)  # 10.5 steps an epoch


@pytest.mark.parametrize(
    ("duration", "steps"),
    [("7 steps", 7), ("1 step", 1), ("2 epochs", 21), ("0.5 epochs", 5), ("1e3 examples", 100), (" 44 examples ", 4)],
)
def test_durations(duration, steps):
    assert CLOCK.steps(duration) == steps


@pytest.mark.parametrize("duration", ["", "5", "five steps", "5 minutes", "-3 steps"])
def test_what_is_no_duration(duration):
    with pytest.raises(UserError, match="is not a duration; write '500 steps'"):
        CLOCK.steps(duration)


def test_due_keeps_pace_with_epochs():
    # 105, 210, 315, 420 examples are first seen at steps 11, 21, 32, 42.
    assert [step for step in range(43) if CLOCK.due(step, "1 epoch")] == [11, 21, 32, 42]
    assert [step for step in range(10) if CLOCK.due(step, "3 steps")] == [3, 6, 9]
    assert [step for step in range(4) if CLOCK.due(step, "1 example")] == [1, 2, 3]


def test_length_of_training():
    assert CLOCK.total_steps(steps=30, epochs=0.0, examples=0) == 30
    assert CLOCK.total_steps(steps=0, epochs=4.0, examples=0) == 42
    assert CLOCK.total_steps(steps=0, epochs=0.0, examples=999) == 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 5, "epochs": 2.0, "examples": 0}, "here steps=5 and epochs=2; set the others to 0"),
        ({"steps": 0, "epochs": 0.0, "examples": 0}, "here none"),
        ({"steps": 0, "epochs": 0.0, "examples": 3}, "examples=3 is less than one step of 10 images"),
    ],
)
def test_length_must_be_given_once(given, message):
    with pytest.raises(UserError, match=message):
        CLOCK.total_steps(**given)


DEFAULTS = common.get_config().schedule.to_dict()


def rates(steps, total=100, **options):
    schedule = make_schedule(CLOCK, total, **DEFAULTS | {"base_lr": 0.4} | options)
    return np.array([schedule(step) for step in steps])


def test_googlenets_schedule_falls_by_4_percent_every_8_epochs():
    # 8 epochs are 84 steps.
    got = rates([0, 83, 84, 167, 168], total=1000, name="exponential", every="8 epochs", rate=0.96)
    np.testing.assert_allclose(got, 0.4 * np.array([1, 1, 0.96, 0.96, 0.96**2]), rtol=1e-6)


def test_poly_is_caffes():
    # BVLC Caffe, src/caffe/solvers/sgd_solver.cpp: base_lr (1 - iter / max_iter) ^ power.
    got = rates([0, 36, 75, 100], name="poly", power=0.5)
    np.testing.assert_allclose(got, 0.4 * np.array([1, 0.8, 0.5, 0]), atol=1e-7)


def test_piecewise():
    got = rates([9, 10, 20, 21, 99], name="piecewise", boundaries=("10 steps", "2 epochs"), rate=0.1)
    np.testing.assert_allclose(got, [0.4, 0.04, 0.04, 0.004, 0.004], rtol=1e-5)


def test_cosine_after_warmup():
    got = rates([0, 5, 10, 55, 100], name="cosine", warmup="10 steps", end_lr=0.1)
    np.testing.assert_allclose(got, [0, 0.2, 0.4, 0.25, 0.1], atol=1e-6)


def test_warmup_does_not_shift_the_staircase():
    got = rates([10, 83, 84], total=1000, name="exponential", every="8 epochs", warmup="10 steps", rate=0.5)
    np.testing.assert_allclose(got, [0.4, 0.4, 0.2], rtol=1e-6)


def test_constant():
    np.testing.assert_allclose(rates([0, 50, 100], name="constant"), 0.4)


def test_linear_scaling_from_the_papers_batch():
    # The batch is 10: a rate for 32 becomes 10 / 32 of it, and so does the end's.
    got = rates([0, 100], name="poly", base_batch_size=32, end_lr=0.1)
    np.testing.assert_allclose(got, [0.4 * 10 / 32, 0.1 * 10 / 32], rtol=1e-6)
    np.testing.assert_allclose(rates([0, 100], name="poly", end_lr=0.1), [0.4, 0.1], rtol=1e-6)


def test_a_plateau_lowers_the_rate_and_keeps_to_its_floor():
    plateau = make_plateau(**DEFAULTS | {"name": "plateau", "rate": 0.1, "patience": 2, "end_lr": 1e-4})
    state, scales = plateau.start(), []
    for top1 in (0.1, 0.3, 0.3, 0.2, 0.29, 0.4, 0.4, 0.4, 0.1, 0.1):
        state = plateau.after(state, top1)
        scales.append(float(state["scale"]))
    # 0.3 is the best; two evaluations that are no better; 0.29, then 0.4 is; two; two.
    np.testing.assert_allclose(scales, [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01], rtol=1e-6)
    np.testing.assert_allclose(rates([0, 50], name="plateau"), 0.4)
    assert make_plateau(**DEFAULTS) is None
    with pytest.raises(UserError, match="rate=1.5 must be below 1 for a plateau"):
        make_plateau(**DEFAULTS | {"name": "plateau", "rate": 1.5})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "linear"},
            "name='linear' is not one of constant, exponential, piecewise, poly, cosine, plateau",
        ),
        ({"name": "constant", "warmup": "100 steps"}, "warmup='100 steps' is 100 steps, training only 100"),
        ({"name": "exponential", "every": "4 examples"}, "every='4 examples' is less than one step"),
    ],
)
def test_wrong_schedules(options, message):
    with pytest.raises(UserError, match=message):
        rates([0], **options)

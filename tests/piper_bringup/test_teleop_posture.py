"""Targets that an operator leads stay where the robot can follow, and start over where it does not."""

import numpy as np
import pytest

from piper_bringup.teleop.posture import MEMORY, TOLERANCE, Posture
from piper_twin.guard import limits_of
from piper_twin.robot import DUAL_PIPER, HOME, arm_slice

LOWER, UPPER, MAX_VELOCITY, _ = limits_of(DUAL_PIPER)
STATE = np.tile(HOME, 2).astype(np.float32)


@pytest.fixture
def posture():
    made = Posture()
    made.observe(STATE, 0.0)
    return made


def test_targets_begin_where_the_robot_is(posture):
    np.testing.assert_allclose(posture.values, STATE)
    np.testing.assert_allclose(posture.rows, np.tile(STATE, (2, 1)))
    assert posture.rows.dtype == np.float32


def test_a_state_beyond_a_limit_begins_at_the_limit():
    beyond, posture = STATE.copy(), Posture()
    beyond[1] = -0.02
    posture.observe(beyond, 0.0)
    assert posture.values[1] == 0.0


def test_targets_move_no_faster_than_the_joints_and_not_beyond_their_limits(posture):
    before = posture.values
    for step in range(1, 200):
        posture.observe(before.astype(np.float32), 0.02 * step)
        posture.move("left", np.full(7, 9.0))
        assert (np.abs(posture.values - before) <= MAX_VELOCITY * 0.02 + 1e-9).all()
        before = posture.values
    np.testing.assert_allclose(before[arm_slice("left")], UPPER[arm_slice("left")])
    np.testing.assert_allclose(before[arm_slice("right")], STATE[arm_slice("right")])


def test_the_second_row_goes_on_as_the_first_was_led_within_the_limits(posture):
    for step in range(1, 60):
        posture.observe(posture.values.astype(np.float32), 0.02 * step)
        posture.move("left", posture.arm("left") + 0.01 * np.array([1, 0, 0, 0, 1, 0, 1]))
        first, second = posture.rows
        np.testing.assert_allclose(second[:4] - first[:4], [0.02, 0.0, 0.0, 0.0], atol=1e-6)
        assert (second <= UPPER + 1e-6).all()
    posture.observe(posture.values.astype(np.float32), 1.3)
    np.testing.assert_array_equal(*posture.rows)


def test_a_process_that_was_held_up_does_not_make_up_for_it(posture):
    posture.observe(STATE, 5.0)
    posture.move("left", np.full(7, 9.0))
    assert np.abs(posture.values - STATE).max() <= 3.0 * 0.05 + 1e-6


def test_what_is_not_finite_moves_nothing(posture):
    posture.observe(STATE, 0.02)
    posture.move("left", np.full(7, np.nan))
    np.testing.assert_allclose(posture.values, STATE)


def test_an_arm_that_does_not_follow_starts_over_from_where_it_is_and_keeps_its_grip(posture):
    started_over = []
    for step in range(1, 100):
        started_over += posture.observe(STATE, 0.02 * step)
        wanted = posture.arm("right") + 0.03
        wanted[6] = 0.0
        posture.move("right", wanted)
        assert np.abs(posture.values - STATE)[arm_slice("right")][:6].max() < 0.03 * (MEMORY / 0.02 + 3) + TOLERANCE
    assert set(started_over) == {"right"}
    assert posture.values[13] == 0.0
    np.testing.assert_allclose(posture.values[arm_slice("left")], STATE[arm_slice("left")])


def test_a_robot_that_is_stopped_is_where_its_targets_are_before_it_is_released(posture):
    for step in range(1, 30):  # led away, then the hand rests
        posture.observe(STATE, 0.02 * step)
        posture.move("left", STATE[:7] + 0.5)
    for step in range(30, 90):
        posture.observe(STATE, 0.02 * step)
    np.testing.assert_allclose(posture.values[:6], STATE[:6])


def test_a_robot_that_lags_but_follows_keeps_its_targets(posture):
    state, velocity = STATE.astype(np.float64), np.zeros(14)
    for step in range(1, 80):  # the hand at once at full speed, the arm as fast as its acceleration allows
        assert posture.observe(state.astype(np.float32), 0.02 * step) == ()
        posture.move("left", posture.arm("left") + 0.06 * np.array([1, 0, 0, 0, 0, 0, 0]))
        velocity = np.minimum(np.minimum(velocity + 5.0 * 0.02, 3.0), (posture.values - state) / 0.02)
        state = state + velocity * 0.02

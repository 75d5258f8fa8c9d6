"""Absolute and relative targets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_policy.action_frame import from_frame, to_frame
from vla_policy.errors import VlaError


def test_relative_targets_count_from_the_measured_joints_but_openings_do_not(robot):
    state = np.array([0.5, -0.2, 0.03], np.float32)
    actions = np.array([[0.6, -0.2, 0.07], [0.7, -0.4, 0.0]], np.float32)
    relative = to_frame(actions, state, robot, "relative")
    assert relative == pytest.approx(np.array([[0.1, 0.0, 0.07], [0.2, -0.2, 0.0]]), abs=1e-6)


def test_absolute_targets_stay(robot):
    actions = np.ones((4, 2, 3), np.float32)
    assert np.array_equal(to_frame(actions, np.full((4, 3), 9.0), robot, "absolute"), actions)


@given(seed=st.integers(0, 1000), frame=st.sampled_from(["absolute", "relative"]))
def test_from_frame_undoes_to_frame_over_any_batch(robot, seed, frame):
    rng = np.random.default_rng(seed)
    actions, state = rng.uniform(-2, 2, (2, 3, 5, 3)), rng.uniform(-2, 2, (2, 3, 3))
    back = from_frame(to_frame(actions, state, robot, frame), state, robot, frame)
    assert back == pytest.approx(actions, abs=1e-5)
    assert back.dtype == np.float32


def test_liberos_gripper_is_open_or_closed(robot):
    state = np.zeros(8)  # of another length than the actions
    told = np.array([[0.3, -0.2, 0.0], [0.3, -0.2, 0.9]], np.float32)  # the data's: closed, open
    given = from_frame(told, state, robot, "libero")
    assert given == pytest.approx(np.array([[0.3, -0.2, 1.0], [0.3, -0.2, -1.0]]))
    assert to_frame(given, state, robot, "libero")[:, 2].tolist() == [0.0, 1.0]
    assert given.dtype == np.float32


def test_an_unknown_frame_is_refused(robot):
    with pytest.raises(VlaError, match="absolute, relative"):
        to_frame(np.zeros((2, 3)), np.zeros(3), robot, "delta")  # pyright: ignore[reportArgumentType]

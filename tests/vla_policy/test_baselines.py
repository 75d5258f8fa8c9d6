"""Policies without a network."""

import dataclasses

import numpy as np
import pytest

from vla_policy.baselines import HoldPolicy, RandomPolicy, ReplayPolicy
from vla_policy.errors import VlaError


def test_hold_repeats_the_state(robot, observe):
    seen = observe(3)
    chunks = HoldPolicy(robot, chunk_length=4).infer(seen)
    assert [chunk.stamp for chunk in chunks] == [0.0, 1.0, 2.0]
    assert all(np.array_equal(chunk.actions, [one.state] * 4) for chunk, one in zip(chunks, seen, strict=True))


def test_random_stays_within_position_and_velocity_limits(robot, observe):
    lower = np.array([joint.lower for joint in robot.joints], np.float32)
    upper = np.array([joint.upper for joint in robot.joints], np.float32)
    step = np.array([joint.max_velocity for joint in robot.joints]) * robot.control_period
    seen = observe(5)
    for chunk, one in zip(RandomPolicy(robot, seed=1).infer(seen), seen, strict=True):
        assert chunk.actions.shape == (8, 3)
        assert np.all((chunk.actions >= lower) & (chunk.actions <= upper))
        assert np.all(np.abs(np.diff(chunk.actions, axis=0, prepend=one.state[None])) <= step + 1e-6)


def test_random_is_reproduced_by_its_seed(robot, observe):
    first, second, other = (RandomPolicy(robot, seed=seed).infer(observe(2)) for seed in (3, 3, 4))
    assert np.array_equal(first[1].actions, second[1].actions)
    assert not np.array_equal(first[1].actions, other[1].actions)
    assert not np.array_equal(first[0].actions, first[1].actions)


def test_replay_plays_by_the_clock_and_holds_the_end(robot, observe):
    recording = np.arange(10, dtype=np.float32)[:, None].repeat(3, axis=1)
    policy = ReplayPolicy(recording, robot, chunk_length=4)
    seen = observe(1)[0]
    rows = [policy.infer([dataclasses.replace(seen, stamp=5.0 + late)])[0].actions[:, 0] for late in (0.0, 0.08, 0.32)]
    assert [row.tolist() for row in rows] == [[0, 1, 2, 3], [2, 3, 4, 5], [8, 9, 9, 9]]


def test_replay_starts_over_after_a_reset(robot, observe):
    policy = ReplayPolicy(np.arange(30).reshape(10, 3), robot, chunk_length=2)
    first, later = observe(2)
    policy.infer([first])
    policy.reset()
    assert policy.infer([later])[0].actions[0].tolist() == [0, 1, 2]


def test_a_recording_of_another_robot_is_refused(robot):
    with pytest.raises(VlaError, match="steps, 3"):
        ReplayPolicy(np.zeros((10, 14)), robot)

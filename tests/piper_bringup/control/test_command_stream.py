"""What leaves the control loop, measured by differences and by distances that the guard did not compute."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piper_bringup.control.command_stream import AVERAGED, CommandStream
from piper_bringup.control.loop import PERIOD
from piper_bringup.fuzz.stream_check import StreamCheck
from piper_twin.guard import GuardConfig, limits_of
from piper_twin.robot import ARMS, DUAL_PIPER, HOME

BOTH_HOME = np.tile(HOME, len(ARMS))
LOWER, UPPER, MAX_VELOCITY, MAX_ACCELERATION = limits_of(DUAL_PIPER)
MAX_JERK = 2.0 * MAX_ACCELERATION / (AVERAGED * PERIOD)


@pytest.fixture(scope="module")
def check():
    return StreamCheck(DUAL_PIPER, GuardConfig(), PERIOD, MAX_JERK)


@pytest.fixture(scope="module")
def stream():
    return CommandStream(DUAL_PIPER, GuardConfig(), PERIOD)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_the_stream_keeps_every_limit_whatever_is_wanted(check, stream, seed):
    rng = np.random.default_rng(seed)
    stream.restart(BOTH_HOME)
    sent = [stream.command] * 4
    for _ in range(20):
        target = rng.uniform(LOWER, UPPER) + rng.choice((0.0, 0.3, 30.0)) * rng.normal(size=14)
        if rng.random() < 0.3:
            target = stream.position + 0.2 * rng.normal(size=14)
        is_braking, is_broken = rng.random() < 0.2, rng.random() < 0.1
        for _ in range(rng.integers(1, 30)):
            if is_braking:
                stream.brake()
            else:
                stream.follow(np.where(rng.random(14) < 0.1, np.nan, target) if is_broken else target)
            sent.append(stream.command)
    assert check.violations(np.array(sent)) == []


def test_a_target_is_reached_and_then_the_stream_rests(stream):
    stream.restart(BOTH_HOME)
    target = BOTH_HOME + 0.1 * np.isin(np.arange(14), (0, 3, 10))
    for _ in range(200):
        assert stream.follow(target) is None
    np.testing.assert_allclose(stream.command, target, atol=1e-9)
    assert stream.is_at_rest


def test_a_command_comes_as_late_as_it_says(stream):
    stream.restart(BOTH_HOME)
    positions, commands = [], []
    for step in range(200):
        stream.follow(BOTH_HOME + 0.01 * PERIOD * step * (np.arange(14) == 0))
        positions.append(stream.position[0])
        commands.append(stream.command[0])
    late = np.interp(commands[100:], positions, np.arange(200) * PERIOD)
    np.testing.assert_allclose(np.arange(100, 200) * PERIOD - late, stream.delay, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda sent: np.where(np.arange(14) == 1, -0.1, sent), "position"),
        (lambda sent: sent + (np.arange(20)[:, None] == 10) * 0.02, "velocity"),
        (lambda sent: sent + (np.arange(20)[:, None] == 10) * 2e-4 * (np.arange(14) == 2), "acceleration"),
        (lambda sent: sent + (np.arange(20)[:, None] == 10) * 2e-5 * (np.arange(14) == 2), "jerk"),
        (lambda sent: np.where(np.arange(14) == 1, 2.0, sent), "table"),
        (lambda sent: np.where(np.arange(14) == 0, -1.57, np.where(np.arange(14) == 7, 1.57, sent)), "right_"),
        (lambda sent: np.where(np.arange(14) == 0, np.nan, sent), "finite"),
    ],
)
def test_the_measuring_sees_what_it_is_for(check, change, word):
    found = check.violations(change(np.tile(BOTH_HOME, (20, 1))))
    assert any(word in text for text in found), found


def test_a_robot_at_rest_violates_nothing(check):
    assert check.violations(np.tile(BOTH_HOME, (20, 1))) == []

"""No command that breaks a limit or comes too near to anything leaves the guard."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piper_twin.guard import DistanceGuard, Guard, GuardConfig, limit_command, limits_of
from piper_twin.robot import ARMS, CONTROL_PERIOD, DUAL_PIPER, GRIPPER_STROKE, HOME, arm_slice
from vla_policy.errors import VlaError

LOWER, UPPER, MAX_VELOCITY, MAX_ACCELERATION = limits_of(DUAL_PIPER)
DT = CONTROL_PERIOD
BOTH_HOME = np.tile(HOME, len(ARMS))
ROUNDING = 1e-9

seeds = st.integers(0, 2**32 - 1)


def with_joints(arm: str, **joints: float) -> np.ndarray:
    """Both arms at home but for some joints of one, such as joint2=1.0."""
    command = BOTH_HOME.copy()
    for name, value in joints.items():
        command[arm_slice(arm)][int(name[-1]) - 1] = value
    return command


def random_targets(rng: np.random.Generator, count: int) -> np.ndarray:
    """Also beyond the limits, some of them far."""
    reach = rng.choice((0.01, 0.3, 3.0), (count, 1))
    return rng.uniform(LOWER, UPPER, (count, 14)) + reach * rng.normal(size=(count, 14))


def follow_targets(targets: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Commands and velocities, one a target."""
    command, velocity = start, np.zeros(14)
    commands, velocities = [command], [velocity]
    for target in targets:
        command, velocity = limit_command(target, command, velocity, DUAL_PIPER, DT)
        commands.append(command)
        velocities.append(velocity)
    return np.array(commands), np.array(velocities)


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_commands_keep_position_velocity_and_acceleration_limits_whatever_is_wanted(seed):
    rng = np.random.default_rng(seed)
    targets = np.repeat(random_targets(rng, 12), rng.integers(1, 12, 12), axis=0)
    commands, velocities = follow_targets(targets, rng.uniform(LOWER, UPPER))
    assert (commands >= LOWER).all()
    assert (commands <= UPPER).all()
    assert (np.abs(velocities) <= MAX_VELOCITY + ROUNDING).all()
    assert (np.abs(np.diff(velocities, axis=0)) <= MAX_ACCELERATION * DT + ROUNDING).all()
    np.testing.assert_allclose(np.diff(commands, axis=0), velocities[1:] * DT, atol=1e-12)


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_a_constant_target_is_reached_exactly_and_never_overshot(seed):
    rng = np.random.default_rng(seed)
    start, target = rng.uniform(LOWER, UPPER, (2, 14))
    commands, velocities = follow_targets([target] * 110, start)
    direction = np.sign(target - start)
    assert (direction * (target - commands) >= -ROUNDING).all()
    assert (direction * velocities >= -ROUNDING).all(), "no turning back"
    np.testing.assert_allclose(commands[-1], target, atol=1e-9)
    np.testing.assert_allclose(velocities[-1], 0.0, atol=1e-9)


def test_a_small_step_is_taken_in_one_period():
    target = BOTH_HOME - 1e-4
    command, velocity = limit_command(target, BOTH_HOME, np.zeros(14), DUAL_PIPER, DT)
    np.testing.assert_allclose(command, target)
    command, velocity = limit_command(target, command, velocity, DUAL_PIPER, DT)
    np.testing.assert_allclose(velocity, 0.0, atol=1e-12)


def test_a_long_way_takes_as_long_as_the_limits_say():
    start, target = np.zeros(14), np.zeros(14)
    target[0] = 2.4  # [rad]: 0.6 s to 3 rad/s, 0.2 s at it, 0.6 s to rest
    commands, velocities = follow_targets([target] * 60, start)
    arrived = int(np.argmax(np.abs(commands[:, 0] - 2.4) < 1e-9))
    assert arrived * DT == pytest.approx(1.4, abs=2 * DT)
    assert velocities[:, 0].max() == pytest.approx(3.0)


def test_a_robot_found_beyond_a_limit_comes_back_without_a_jump():
    previous = BOTH_HOME.copy()
    previous[1] = -0.2  # joint 2 starts at 0
    command, velocity = limit_command(BOTH_HOME, previous, np.zeros(14), DUAL_PIPER, DT)
    assert -0.2 < command[1] <= -0.2 + 5.0 * DT * DT + ROUNDING
    assert velocity[1] <= 5.0 * DT + ROUNDING


def test_limits_hold_for_any_leading_axes():
    rng = np.random.default_rng(0)
    target, previous = random_targets(rng, 6).reshape(2, 3, 14), rng.uniform(LOWER, UPPER, (2, 3, 14))
    command, _ = limit_command(target, previous, np.zeros((2, 3, 14)), DUAL_PIPER, DT)
    alone, _ = limit_command(target[1, 2], previous[1, 2], np.zeros(14), DUAL_PIPER, DT)
    np.testing.assert_array_equal(command[1, 2], alone)


@pytest.fixture(scope="module")
def distances():
    return DistanceGuard()


def test_home_is_clear(distances):
    assert distances.violation(BOTH_HOME) is None


def test_the_folded_arm_is_clear(distances):
    assert distances.violation(np.zeros(14)) is None


def test_crossing_arms_are_refused_and_both_named(distances):
    crossed = BOTH_HOME.copy()
    crossed[0], crossed[7] = -np.pi / 2, np.pi / 2
    reason = distances.violation(crossed)
    assert "left_" in reason
    assert "right_" in reason
    assert "mm" in reason


def test_a_gripper_in_the_table_is_refused_and_deeper_is_worse(distances):
    depths = [distances.violation(with_joints("left", joint2=angle)) for angle in (1.9, 2.1, 2.3)]
    assert all(reason.startswith("left_finger") and reason.endswith("of table") for reason in depths)
    millimetres = [float(reason.split("within ")[1].split(" mm")[0]) for reason in depths]
    assert millimetres[0] > millimetres[1] > millimetres[2]


def test_a_link_near_the_table_is_refused_although_it_does_not_touch(distances):
    wrist_low_gripper_up = with_joints("right", joint2=2.71, joint3=-1.9, joint5=-1.2)
    assert distances.violation(wrist_low_gripper_up) == "right_link5 comes within 19 mm of table"


def test_distances_are_parameters():
    wide = DistanceGuard(GuardConfig(gripper_table_distance=0.30))
    assert "table" in wide.violation(BOTH_HOME)


def test_the_worst_of_several_violations_is_named(distances):
    posture = BOTH_HOME.copy()
    posture[1], posture[8] = 1.9, 2.4
    assert "right_" in distances.violation(posture)


@pytest.fixture(scope="module")
def guard():
    return Guard(DUAL_PIPER)


def rest(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.tile(BOTH_HOME, (count, 1)), np.zeros((count, 14))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_finite_number_is_refused_and_the_robot_holds(guard, bad):
    previous, velocity = rest(1)
    velocity[0, 3] = 0.1
    target = previous.copy()
    target[0, 5] = bad
    command, new_velocity, reasons = guard.filter(target, previous, velocity, DT)
    np.testing.assert_array_equal(command, previous)
    np.testing.assert_array_equal(new_velocity, 0.0)
    assert "finite" in reasons[0]


@pytest.mark.parametrize("shape", [(14,), (1, 13), (1, 7), (2, 14), (1, 1, 14)])
def test_a_wrong_shape_is_refused_and_the_right_one_named(guard, shape):
    previous, velocity = rest(1)
    with pytest.raises(VlaError, match=r"target has shape .*\(1, 14\)"):
        guard.filter(np.zeros(shape), previous, velocity, DT)


def test_a_refused_robot_brakes_and_then_holds_where_it_is(guard):
    wanted = with_joints("left", joint2=2.2)[None]
    command, velocity = rest(1)
    braked = 0
    for _ in range(60):
        before, speed = command, velocity
        command, velocity, reasons = guard.filter(wanted, command, velocity, DT)
        if reasons[0] is not None and speed.any():
            braked += 1
            assert (np.abs(velocity) < np.abs(speed)).any()
    assert braked > 1
    assert reasons[0] is not None
    np.testing.assert_array_equal(command, before)
    np.testing.assert_array_equal(velocity, 0.0)
    assert guard._distance.violation(command[0]) is None


@pytest.mark.parametrize("dt", [0.04, 0.005])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_sent_keeps_every_limit_whatever_is_wanted_and_whatever_is_refused(guard, distances, seed, dt):
    rng = np.random.default_rng(seed)
    lower, upper, max_velocity, max_acceleration = limits_of(DUAL_PIPER)
    command, velocity = rest(1)
    refusals, target = 0, command
    for step in range(round(12.0 / dt)):
        if step % round(0.4 / dt) == 0:
            target = random_targets(rng, 1)
        before, speed = command, velocity
        command, velocity, reasons = guard.filter(target, command, velocity, dt)
        refusals += reasons[0] is not None
        np.testing.assert_allclose(velocity, (command - before) / dt, atol=1e-9)
        assert (command >= lower - 1e-9).all() and (command <= upper + 1e-9).all()
        assert (np.abs(velocity) <= max_velocity + 1e-9).all()
        assert (np.abs(velocity - speed) <= max_acceleration * dt + 1e-9).all()
        assert distances.violation(command[0]) is None
    assert refusals > 10


def test_a_robot_that_is_too_near_already_may_leave_but_not_come_nearer(guard):
    previous = with_joints("left", joint2=1.9)[None]  # the gripper is in the table
    assert guard._distance.violation(previous[0]) is not None
    for wanted, let_through in ((1.4, True), (2.1, False)):
        command, _, reasons = guard.filter(with_joints("left", joint2=wanted)[None], previous, np.zeros((1, 14)), DT)
        assert (reasons[0] is None) == let_through
        assert (command != previous).any() == let_through


def test_rows_are_independent_and_a_batch_equals_single_robots(guard):
    rng = np.random.default_rng(3)
    previous = np.tile(BOTH_HOME, (20, 1))
    target = random_targets(rng, 20)
    target[4, 0] = np.nan
    previous[7] = with_joints("right", joint2=1.82)
    target[7] = with_joints("right", joint2=2.0)
    velocity = np.zeros((20, 14))
    together = [guard.filter(target, previous, velocity, DT) for _ in range(2)]
    refused = [row for row, reason in enumerate(together[0][2]) if reason is not None]
    assert refused == [4, 7]
    for row in range(20):
        alone = guard.filter(target[row : row + 1], previous[row : row + 1], velocity[row : row + 1], DT)
        for batch in together:
            np.testing.assert_array_equal(batch[0][row], alone[0][0])
            np.testing.assert_array_equal(batch[1][row], alone[1][0])
            assert batch[2][row] == alone[2][0]


def test_the_gripper_opens_and_closes_fully(guard):
    for opening in (0.0, GRIPPER_STROKE):
        command, velocity = rest(1)
        wanted = BOTH_HOME.copy()
        wanted[[6, 13]] = opening
        for _ in range(20):
            command, velocity, reasons = guard.filter(wanted[None], command, velocity, DT)
            assert reasons == [None]
        np.testing.assert_allclose(command[0, [6, 13]], opening, atol=1e-9)


def test_arms_cannot_pass_through_each_other_between_two_commands(distances):
    """Both ends of the way are clear, the way itself is not."""
    one_side, other_side = with_joints("right", joint1=1.2), with_joints("right", joint1=1.2)
    one_side[0], other_side[0] = -0.95, -1.75
    assert distances.violation(one_side) is None
    assert distances.violation(other_side) is None
    assert "left" in distances.violation(other_side, previous=one_side)
    assert "left" in distances.violation(one_side, previous=other_side)

"""Whatever an operator presses, targets stay within the robot's limits and what cannot be done is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piper_bringup.teleop.jog import FASTER, HELP, NEXT_ARM, SLOWER, SPEEDS, STILL, JogSource, Motion, moved
from piper_bringup.teleop.tool import joints_for, tool_pose
from piper_twin.expert import solve_pose
from piper_twin.guard import limits_of
from piper_twin.moves import ToolPose, Unreachable
from piper_twin.robot import ARMS, CONTROL_PERIOD, DUAL_PIPER, HOME, JOINT_LIMITS
from vla_policy import topics

DT = JogSource.interval
STATE = np.tile(HOME, 2).astype(np.float32)
LOWER, UPPER, MAX_VELOCITY, _ = limits_of(DUAL_PIPER)
LIMITS = np.array(JOINT_LIMITS)


class Hand:
    """A device that does what a test says."""

    help = "press something"

    def __init__(self):
        self.motion, self.commands = STILL, []

    def poll(self, now):
        said, self.commands = self.commands, []
        return self.motion, said

    def close(self):
        self.commands = ["closed"]


class Jogging:
    """A source, the hand that moves it, and a robot that follows."""

    def __init__(self, speed=1.0, state=STATE):
        self.hand, self.told, self.asked = Hand(), [], []
        self.source = JogSource(self.hand, self.told.append, self.asked.append, speed)
        self.state, self.time = np.array(state, np.float32), 0.0
        self.is_enabled = True
        self.source.start(self.state, 0.0, {})

    def step(self, motion, count=1):
        """Targets after every step, shape (count, 14)."""
        self.hand.motion, rows = motion, []
        for _ in range(count):
            self.time += DT
            first, second = self.source.targets(self.state, self.time)
            assert (np.abs(second - first) <= MAX_VELOCITY * CONTROL_PERIOD + 1e-5).all()
            assert ((second >= LOWER - 1e-6) & (second <= UPPER + 1e-6)).all()
            rows.append(first)
            if self.is_enabled:
                self.state = rows[-1]
        return np.array(rows)

    def tool(self, arm=ARMS[0]):
        return tool_pose(arm, self.state[:6].astype(np.float64))


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("seed", range(20))
def test_joints_and_tool_pose_belong_to_each_other(arm, seed):
    joints = np.random.default_rng(seed).uniform(LIMITS[:, 0], LIMITS[:, 1])
    np.testing.assert_allclose(joints_for(arm, tool_pose(arm, joints), joints), joints, atol=1e-4)


@pytest.mark.parametrize("arm", ARMS)
def test_a_tool_pose_means_what_it_means_to_the_experts(arm):
    wanted = ToolPose(0.35, 0.25 if arm == "left" else -0.25, 0.15, yaw=0.2, tilt=0.4, roll=-0.3)
    found = tool_pose(arm, solve_pose(arm, wanted, tuple(HOME[:6])))
    for field in ("x", "y", "z"):
        assert getattr(found, field) == pytest.approx(getattr(wanted, field), abs=1e-3)
    for field in ("yaw", "tilt", "roll"):
        assert getattr(found, field) == pytest.approx(getattr(wanted, field), abs=0.03)


def test_a_tool_that_leans_back_is_tilted_outwards_by_the_same_key():
    leaning_back = HOME[:6] + np.array([0.0, 0.6, 0.0, 0.0, 0.3, 0.0])
    pose = tool_pose("left", leaning_back)
    assert pose.tilt < 0.0
    assert abs(pose.yaw) < 0.01
    outwards = joints_for("left", moved(pose, Motion(tilt=1.0), 1.0, 0.1), leaning_back)
    assert tool_pose("left", outwards).tilt == pytest.approx(pose.tilt + 0.1, abs=1e-3)


@pytest.mark.parametrize(
    ("motion", "field", "expected"),
    [
        (Motion(x=1.0), "x", 0.1),
        (Motion(y=-1.0), "y", -0.1),
        (Motion(z=0.5), "z", 0.05),
        (Motion(roll=1.0), "roll", 0.5),
        (Motion(tilt=0.4), "tilt", 0.2),
    ],
)
def test_half_a_second_moves_the_tool_along_one_axis_and_no_other(motion, field, expected):
    jogging = Jogging()
    before = jogging.tool()
    jogging.step(motion, 25)
    after = jogging.tool()
    for name in ("x", "y", "z", "yaw", "tilt", "roll"):
        change = expected if name == field else 0.0
        assert getattr(after, name) - getattr(before, name) == pytest.approx(change, abs=2e-3), name


def test_only_the_arm_whose_turn_it_is_moves():
    jogging = Jogging()
    assert (jogging.step(Motion(x=1.0), 5)[:, 7:] == STATE[7:]).all()
    jogging.hand.commands = [NEXT_ARM]
    rows = jogging.step(Motion(x=1.0, gripper=-1.0), 5)
    assert (rows[:, :7] == rows[0, :7]).all()
    assert np.abs(rows[-1, 7:] - STATE[7:])[:3].max() > 0.01
    assert rows[-1, 13] < STATE[13]
    assert jogging.told[-1] == "the right arm"


def test_letting_go_stops():
    jogging = Jogging()
    last = jogging.step(Motion(x=1.0, z=-1.0), 10)[-1]
    np.testing.assert_array_equal(jogging.step(STILL, 10), np.tile(last, (10, 1)))


def test_a_joint_limit_is_refused_with_a_word_said_once_and_the_target_stays():
    jogging = Jogging()
    rows = jogging.step(Motion(roll=1.0), 250)
    assert (rows[-1] == rows[-50]).all()
    told = [text for text in jogging.told if "limit of joint 6" in text]
    assert len(told) == 1
    jogging.step(STILL)
    jogging.step(Motion(roll=1.0), 5)
    assert jogging.told[-1] == told[0], "a new try is answered anew"
    assert (jogging.step(Motion(roll=-1.0), 5)[-1] != rows[-1]).any()


def test_a_pose_out_of_reach_is_refused_with_a_word():
    with pytest.raises(Unreachable, match=r"does not reach there|limit of joint"):
        joints_for("left", ToolPose(0.9, 0.3, 0.3, yaw=0.0), HOME[:6])


def test_the_table_is_refused_with_a_word_and_the_way_back_is_free():
    jogging = Jogging()
    jogging.step(Motion(z=-1.0), 100)
    assert "table" in jogging.told[-1]
    low = jogging.tool().z
    assert 0.0 < low < 0.03
    jogging.step(Motion(z=1.0), 10)
    assert jogging.tool().z == pytest.approx(low + 0.04, abs=1e-3)


def test_home_is_reached_in_joint_space_from_the_folded_posture():
    folded = STATE.copy()
    folded[:6] = 0.0
    jogging = Jogging(state=folded)
    rows = jogging.step(Motion(home=1.0), 200)
    np.testing.assert_allclose(rows[-1][:6], HOME[:6], atol=1e-5)
    assert np.abs(np.diff(rows, axis=0)).max() <= 0.5 * DT + 1e-6
    assert np.abs(jogging.step(Motion(x=1.0), 5)[-1] - rows[-1]).max() < 0.1


def test_commands_change_the_speed_and_services_are_asked_for():
    jogging = Jogging(speed=0.4)
    jogging.hand.commands = [FASTER, FASTER, FASTER, SLOWER, HELP, topics.STOP, topics.EPISODE_START]
    jogging.step(STILL)
    assert jogging.told == ["press something", "100% of full speed", "100% of full speed", "100% of full speed",
                            "50% of full speed", "press something"]  # fmt: skip
    assert jogging.asked == [topics.STOP, topics.EPISODE_START]
    assert len(SPEEDS) == 5


def test_without_joint_states_the_operator_is_still_heeded():
    jogging = Jogging()
    jogging.hand.commands = [topics.STOP]
    assert jogging.source.targets(None, 1.0) is None
    assert jogging.asked == [topics.STOP]


def test_a_robot_that_is_disabled_or_held_is_not_left_behind():
    jogging = Jogging()
    jogging.is_enabled = False
    for _ in range(100):
        rows = jogging.step(Motion(x=1.0))
        assert np.abs(rows[0] - STATE)[:6].max() < 1.6, "1 s at the joints' jogging speed"
    rested = jogging.step(STILL, 60)[-1]
    assert np.abs(rested - STATE)[:6].max() <= math.radians(4.1)


def test_closing_leaves_the_device():
    jogging = Jogging()
    jogging.source.close()
    assert jogging.hand.commands == ["closed"]


shares = st.sampled_from((-1.0, -0.4, 0.0, 1.0))
motions = st.builds(Motion, x=shares, y=shares, z=shares, roll=shares, tilt=shares, gripper=shares)
strokes = st.lists(
    st.tuples(motions | st.just(Motion(home=1.0)), st.integers(1, 25), st.booleans()), min_size=1, max_size=5
)


@settings(max_examples=20, deadline=None)
@given(strokes=strokes, seed=st.integers(0, 1000))
def test_no_step_is_faster_than_a_joint_may_be_nor_leaves_its_range(strokes, seed):
    start = np.random.default_rng(seed).uniform(LOWER, UPPER).astype(np.float32)
    jogging = Jogging(state=start)
    before = start
    for motion, count, changes_arm in strokes:
        jogging.hand.commands = [NEXT_ARM] if changes_arm else []
        rows = jogging.step(motion, count)
        steps = np.abs(np.diff(np.vstack([before, rows]), axis=0))
        assert (steps <= MAX_VELOCITY * DT + 1e-5).all()
        assert ((rows >= LOWER - 1e-6) & (rows <= UPPER + 1e-6)).all()
        before = rows[-1]

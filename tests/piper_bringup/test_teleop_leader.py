"""Arms follow their leaders without a jump, and hold when a leader falls silent."""

import time
import uuid

import can
import numpy as np
import pytest

from piper_bringup.can.bus import LoopbackBus
from piper_bringup.can.commands import GripperTarget
from piper_bringup.can.protocol import JOINT_TARGETS, JOINTS, GripperState, pack_joints
from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.server import Emulator
from piper_bringup.emulator.settings import ArmSettings
from piper_bringup.teleop.leader import LEAD, MEETING, LeaderArm, LeaderSource, open_leaders
from piper_twin.robot import HOME, arm_slice
from vla_policy.errors import VlaError

DT = 0.02
STATE = np.tile(HOME, 2).astype(np.float32)
AWAY = HOME + np.array([0.6, 0.3, -0.3, 0.2, -0.2, 0.1, -0.03])
LEFT, RIGHT = arm_slice("left"), arm_slice("right")


class Hand:
    """Somebody who moves a leader: what the leader sends."""

    def __init__(self, bus, joints=JOINT_TARGETS, gripper=GripperTarget, offset=0):
        self.bus, self._joints, self._gripper, self._offset = bus, joints, gripper, offset

    def send(self, pose, gripper=True, frames=3):
        sent = pack_joints(self._joints, pose[:6])[:frames]
        sent += [self._gripper(opening=pose[6]).encode()] if gripper else []
        for id, data in sent:
            self.bus.send(can.Message(arbitration_id=id + self._offset, data=data, is_extended_id=False))


@pytest.fixture
def leader():
    """Makes a leader arm and the hand that moves it."""
    buses = []

    def make(frames="control", offset=0):
        channel = uuid.uuid4().hex
        buses.extend(can.Bus(interface="virtual", channel=channel) for _ in range(2))
        kind = {"control": (JOINT_TARGETS, GripperTarget), "feedback": (JOINTS, GripperState)}[frames]
        return LeaderArm(buses[-1], frames, offset), Hand(buses[-2], *kind, offset)

    yield make
    for bus in buses:
        bus.shutdown()


class Follower:
    """A robot that goes where it is told, a little late."""

    def __init__(self, source, is_enabled=True):
        self.source, self.is_enabled = source, is_enabled
        self.state, self.targets, self.time = STATE.astype(np.float64), STATE.copy(), 0.0

    def step(self, count=1):
        """Biggest step of the targets [rad]."""
        biggest = 0.0
        for _ in range(count):
            self.time += DT
            rows = self.source.targets(self.state.astype(np.float32), self.time)
            biggest = max(biggest, float(np.abs(rows[0] - self.targets).max()))
            self.targets = rows[0]
            if self.is_enabled:
                self.state += 0.3 * (self.targets - self.state)
        return biggest


def follow(source, hand, pose, seconds, is_enabled=True):
    robot = Follower(source, is_enabled)
    biggest = 0.0
    for _ in range(round(seconds / DT)):
        hand.send(pose)
        biggest = max(biggest, robot.step())
    return robot, biggest


@pytest.mark.parametrize(("frames", "offset"), [("control", 0), ("control", 16), ("feedback", 0), ("feedback", 32)])
def test_a_leaders_frames_are_understood_to_their_last_digit(leader, frames, offset):
    arm, hand = leader(frames, offset)
    assert arm.read(0.0) is None
    hand.send(AWAY)
    np.testing.assert_allclose(arm.read(0.1), AWAY, atol=1e-5)


def test_other_frames_mean_nothing(leader):
    arm, hand = leader(offset=16)
    hand._offset = 0
    hand.send(AWAY)
    hand._offset = 16
    hand.bus.send(can.Message(arbitration_id=0x165, data=b"\0\0", is_extended_id=False))
    hand.bus.send(can.Message(arbitration_id=0x166, is_remote_frame=True, dlc=8, is_extended_id=False))
    hand.bus.send(can.Message(arbitration_id=0x167, data=bytes(8), is_extended_id=True))
    assert arm.read(0.0) is None


def test_a_leader_that_lacks_one_frame_is_silent(leader):
    arm, hand = leader()
    hand.send(AWAY, frames=2)
    assert arm.read(0.0) is None
    hand.send(AWAY)
    assert arm.read(0.1) is not None
    hand.send(AWAY, frames=2)
    assert arm.read(0.25) is not None
    assert arm.read(0.31) is None


def test_a_leader_without_a_gripper_leaves_the_followers_alone(leader):
    arm, hand = leader()
    robot = Follower(LeaderSource({"left": arm}, print))
    for _ in range(100):
        hand.send(HOME, gripper=False)
        robot.step()
    np.testing.assert_allclose(robot.targets, STATE, atol=1e-4)


def test_nothing_is_ever_sent_to_a_leader(leader):
    arm, hand = leader()
    follow(LeaderSource({"left": arm}, print), hand, AWAY, 1.0)
    assert hand.bus.recv(timeout=0.0) is None


def test_an_arm_comes_near_slowly_before_it_follows_and_the_other_arm_rests(leader):
    arm, hand = leader()
    told = []
    source = LeaderSource({"left": arm}, told.append, approach_speed=0.3)
    robot, biggest = follow(source, hand, AWAY, 1.0)
    assert biggest <= 0.3 * DT + 1e-6
    assert told == ["the left arm comes near its leader slowly"]
    for _ in range(150):
        hand.send(AWAY)
        robot.step()
    assert told[1:] == ["the left arm follows its leader"]
    np.testing.assert_allclose(robot.targets[LEFT], AWAY, atol=1e-4)
    np.testing.assert_allclose(robot.targets[RIGHT], STATE[RIGHT])


def test_once_they_have_met_an_arm_follows_at_once(leader):
    arm, hand = leader()
    robot, _ = follow(LeaderSource({"left": arm}, print), hand, HOME, 0.2)
    pose = HOME.copy()
    for _ in range(25):
        pose[0] += 1.5 * DT
        hand.send(pose)
        robot.step()
        np.testing.assert_allclose(robot.targets[LEFT], pose, atol=1e-4)


def test_a_leader_that_is_torn_away_is_followed_no_faster_than_the_joints_may(leader):
    arm, hand = leader()
    robot, _ = follow(LeaderSource({"left": arm}, print), hand, HOME, 0.2)
    hand.send(AWAY)
    assert robot.step() <= 3.0 * DT + 1e-6


def test_without_an_approach_speed_the_leader_must_come_to_the_arm(leader):
    arm, hand = leader()
    told = []
    robot, biggest = follow(LeaderSource({"left": arm}, told.append, approach_speed=0.0), hand, AWAY, 0.5)
    assert (biggest, told) == (0.0, ["bring the left leader to the posture of its arm"])
    near = HOME.copy()
    near[0] += 0.9 * MEETING
    hand.send(near)
    assert robot.step() <= MEETING
    assert told[-1] == "the left arm follows its leader"


def test_silence_holds_and_the_clutch_opens(leader):
    arm, hand = leader()
    told = []
    robot, _ = follow(LeaderSource({"left": arm}, told.append), hand, HOME, 0.2)
    held = robot.targets.copy()
    robot.step(50)
    np.testing.assert_array_equal(robot.targets, held)
    assert "silent" in told[-1]
    hand.send(AWAY)
    assert robot.step() <= 0.3 * DT + 1e-6
    assert told[-1] == "the left arm comes near its leader slowly"


def test_a_bus_that_breaks_down_counts_as_silence(leader):
    arm, hand = leader()
    robot, _ = follow(LeaderSource({"left": arm}, print), hand, HOME, 0.2)
    arm._bus.recv = lambda timeout: (_ for _ in ()).throw(can.CanOperationError("network is down"))
    assert robot.step(30) == 0.0


def test_a_robot_that_was_stopped_does_not_jump_to_its_leader_when_released(leader):
    arm, hand = leader()
    robot, _ = follow(LeaderSource({"left": arm}, print), hand, HOME, 0.2)
    robot.is_enabled = False
    for _ in range(60):
        hand.send(AWAY)
        robot.step()
    assert np.abs(robot.targets - robot.state)[:6].max() <= LEAD + 0.3 * DT + 1e-6
    robot.is_enabled = True
    hand.send(AWAY)
    assert robot.step() <= 0.3 * DT + 1e-6


def test_without_joint_states_nothing_is_said_and_starting_opens_the_clutch(leader):
    arm, hand = leader()
    source = LeaderSource({"left": arm}, print)
    hand.send(AWAY)
    assert source.targets(None, 0.0) is None
    assert "left" in source.start(STATE, 1.0, {})
    np.testing.assert_allclose(source.targets(STATE, 1.02)[0], STATE, atol=0.3 * DT + 1e-6)


def test_leaders_are_opened_by_channel_and_one_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPER_LOOPBACK_DIR", str(tmp_path / "bus"))
    with LoopbackBus("lead", node="leader") as bus:
        leaders = open_leaders({"right": "lead"}, "piper_loopback")
        Hand(bus).send(AWAY)
        np.testing.assert_allclose(leaders["right"].read(0.0), AWAY, atol=1e-5)
        leaders["right"].close()
    with pytest.raises(VlaError, match=r"the left leader's channel no name .* bring it up"):
        open_leaders({"left": "no name"}, "piper_loopback")


def test_an_emulated_leader_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPER_LOOPBACK_DIR", str(tmp_path / "bus"))
    arm = Arm(ArmSettings(is_leader=True))
    leader = open_leaders({"left": "lead"}, "piper_loopback")["left"]
    with Emulator({"lead": arm}) as emulator:
        emulator.drag(AWAY, "lead")
        deadline = time.monotonic() + 60.0
        while (heard := leader.read(0.0)) is None or np.abs(heard - AWAY).max() > 1e-5:
            assert time.monotonic() < deadline, heard
            time.sleep(0.01)
    leader.close()

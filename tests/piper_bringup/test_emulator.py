"""Emulated arms in another process, driven by the real piper_sdk in this one, over the bus without kernel CAN."""

import contextlib
import math
import re
import signal
import subprocess
import sys
import time

import can
import numpy as np
import pytest
from piper_sdk import C_PiperInterface_V2

from piper_bringup.can import bus as can_bus
from piper_bringup.can.protocol import FRAMES_PER_SECOND, JOINT_TARGETS, unpack_pair
from piper_bringup.can.registry import DIRECTORY_VARIABLE, INTERFACE
from piper_bringup.emulator.__main__ import EmulatorConfig
from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.control import ControlClient
from piper_bringup.emulator.faults import Silent
from piper_bringup.emulator.server import Emulator
from piper_bringup.emulator.settings import ArmSettings
from piper_bringup.emulator.world_plant import plants_of
from piper_twin.robot import ARMS, HOME
from vla_policy.errors import VlaError

CHANNELS = ("can_left", "can_right")
LEADER = "can_leader"
TARGET = (0.3, 1.0, -0.8, 0.1, 0.5, -0.2)
TO_RAW = 180_000 / math.pi


def until(condition, timeout=60.0):
    """Waits for something to become true; its value."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where the sockets of these tests meet."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("bus")
        patch.setenv(DIRECTORY_VARIABLE, str(folder))
        can_bus.register()
        yield folder


@pytest.fixture(scope="module")
def emulator(directory):
    """The command with two followers and a leader; a client of its control port."""
    command = [sys.executable, "-m", "piper_bringup.emulator", "--channels", *CHANNELS, "--leaders", LEADER]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    client = ControlClient(int(re.search(r":(\d+)$", process.stdout.readline())[1]))
    yield client
    client.close()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "stopped\n")


@pytest.fixture
def connect(emulator):
    """Connects the SDK to an arm that was just switched on."""
    connected = []

    def connect(channel):
        emulator.clear(channel=channel)
        emulator.ask(power_cycle=True, channel=channel)
        piper = C_PiperInterface_V2(channel, judge_flag=False, can_auto_init=False)
        piper.CreateCanBus(channel, bustype=INTERFACE)
        piper.ConnectPort(can_init=True)
        connected.append(piper)
        return piper

    yield connect
    for piper in connected:
        piper.DisconnectPort()


def joints_of(piper):
    state = piper.GetArmJointMsgs().joint_state
    return [getattr(state, f"joint_{number}") / TO_RAW for number in range(1, 7)]


def enable(piper):
    until(piper.EnablePiper)


def move(piper, goal, opening=None):
    """Streams targets as a driver does, until the arm is there."""

    def is_there():
        piper.MotionCtrl_2(0x01, 0x01, 100, 0x00)
        piper.JointCtrl(*(round(joint * TO_RAW) for joint in goal))
        if opening is not None:
            piper.GripperCtrl(round(opening * 1e6), 1000, 0x01, 0)
        is_open = opening is None or abs(piper.GetArmGripperMsgs().gripper_state.grippers_angle - opening * 1e6) < 1
        return is_open and np.allclose(joints_of(piper), goal, atol=5e-4)

    until(is_there)


def settled(frames):
    """Number of frames heard from a host that sends no more: those on their way have to arrive first."""
    counts = [frames()]
    while len(counts) < 4 or len(set(counts[-4:])) > 1:
        time.sleep(0.05)
        counts.append(frames())
    return counts[-1]


def test_the_sdk_reads_firmware_limits_and_frames(connect):
    piper = connect("can_left")

    def firmware():
        piper.SearchPiperFirmwareVersion()
        time.sleep(0.05)
        return piper.GetPiperFirmwareVersion() != -0x4AF

    until(firmware)
    assert piper.GetPiperFirmwareVersion() == "S-V1.8-5"
    piper.SearchMotorMaxAngleSpdAccLimit(3, 1)
    limit = piper.GetCurrentMotorAngleLimitMaxVel().current_motor_angle_limit_max_vel
    until(lambda: limit.motor_num == 3)
    assert (limit.min_angle_limit, limit.max_angle_limit, limit.max_joint_spd) == (-1700, 0, 3000)
    assert piper.isOk()
    until(lambda: piper.GetCanFps() > 0.5 * FRAMES_PER_SECOND)  # all of it on a computer that does nothing else


def test_the_sdk_enables_the_arm_moves_it_and_opens_the_gripper(connect, emulator):
    piper = connect("can_left")
    assert not any(piper.GetArmEnableStatus())
    enable(piper)
    before = emulator.state("can_left")["counts"]
    move(piper, TARGET, opening=0.05)
    state = emulator.state("can_left")
    assert state["joints"] == pytest.approx([*TARGET, 0.05], abs=1e-3)
    assert state["is_following"]
    assert state["counts"]["targets"] > before["targets"]
    status = piper.GetArmStatus().arm_status
    assert (status.ctrl_mode, status.arm_status, status.mode_feed) == (1, 0, 1)
    assert state["counts"]["disables"] == state["counts"]["resets"] == 0


def test_the_sdk_sets_and_reads_crash_levels_and_the_stroke(connect):
    piper = connect("can_left")
    piper.CrashProtectionConfig(1, 2, 3, 4, 5, 6)
    acknowledged = piper.GetRespInstruction().instruction_response
    until(lambda: acknowledged.instruction_index == 0x7A)
    piper.ArmParamEnquiryAndConfig(2)
    levels = piper.GetCrashProtectionLevelFeedback().crash_protection_level_feedback
    until(lambda: levels.joint_6_protection_level == 6)
    assert levels.joint_1_protection_level == 1
    piper.ArmParamEnquiryAndConfig(4)
    stroke = piper.GetGripperTeachingPendantParamFeedback().arm_gripper_teaching_param_feedback
    until(lambda: stroke.max_range_config == 70)


def test_a_stop_by_the_sdk_lets_the_arm_sink_and_a_reset_drops_it(connect, emulator):
    piper = connect("can_left")
    enable(piper)
    move(piper, TARGET)
    before = emulator.state("can_left")["counts"]
    piper.EmergencyStop(1)
    until(lambda: piper.GetArmStatus().arm_status.arm_status == 1)
    until(lambda: joints_of(piper)[1] < TARGET[1] - 0.02)
    assert all(piper.GetArmEnableStatus())
    piper.ResetPiper()
    until(lambda: not any(piper.GetArmEnableStatus()))
    counts = emulator.state("can_left")["counts"]
    assert [counts[name] - before[name] for name in ("stops", "resets", "falls", "disables")] == [1, 1, 1, 0]
    enable(piper)


def test_two_arms_are_apart(connect, emulator):
    left, right = connect("can_left"), connect("can_right")
    enable(left)
    assert not any(right.GetArmEnableStatus())
    enable(right)
    mirrored = (-TARGET[0], *TARGET[1:])
    move(left, TARGET)
    move(right, mirrored)
    assert joints_of(left) == pytest.approx(TARGET, abs=1e-3)
    frames = settled(lambda: emulator.state("can_right")["counts"]["frames"])
    move(left, mirrored)
    assert emulator.state("can_right")["counts"]["frames"] == frames


def test_the_sdk_can_disconnect_and_connect_again_and_the_arm_keeps_its_torque(connect, emulator):
    piper = connect("can_right")
    # The SDK keeps one interface a channel, which may still believe what it heard before the power went.
    until(lambda: piper.EnablePiper() and all(emulator.state("can_right")["enabled"]))
    piper.DisconnectPort()
    settled(lambda: emulator.state("can_right")["counts"]["frames"])
    piper.ConnectPort(can_init=True)
    until(lambda: piper.GetCanFps() > 0)
    assert all(emulator.state("can_right")["enabled"])


def test_faults_are_injected_from_outside_and_seen_by_the_sdk(connect, emulator):
    piper = connect("can_left")
    until(lambda: piper.GetArmJointMsgs().time_stamp)
    emulator.inject("silent", "can_left", groups=["joints"])
    time.sleep(0.02)
    stamp = piper.GetArmJointMsgs().time_stamp
    time.sleep(0.05)
    assert piper.GetArmJointMsgs().time_stamp == stamp
    assert emulator.state("can_left")["faults"] == ["silent"]
    emulator.clear()
    until(lambda: piper.GetArmJointMsgs().time_stamp > stamp)


def test_on_a_bus_that_is_off_the_sdk_is_not_ok_and_nobody_can_send(connect, emulator):
    piper = connect("can_left")
    until(piper.isOk)
    emulator.inject("bus_off", "can_left")
    until(lambda: not piper.isOk())
    with can_bus.LoopbackBus("can_left") as bus, pytest.raises(can.CanOperationError, match="bus-off"):
        bus.send(can.Message(arbitration_id=0x151, is_extended_id=False, data=bytes(8)))
    emulator.clear("bus_off", "can_left")
    until(piper.isOk)
    enable(piper)


def test_a_leader_is_heard_and_moved_from_outside(emulator):
    goal = [0.5, *(float(joint) for joint in HOME[1:])]
    emulator.ask(drag=goal, channel=LEADER)
    with can_bus.LoopbackBus(LEADER, [{"can_id": JOINT_TARGETS[0], "can_mask": 0x7FF}]) as bus:
        deadline = time.monotonic() + 60.0
        while abs(unpack_pair(bus.recv(1.0).data)[0] - 0.5) > 1e-4:
            assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"inject": "nonsense"}, "choose among"),
        ({"clear": "nonsense"}, "choose among all"),
        ({"inject": "silent", "channel": "can_up"}, "there are can_left, can_right"),
        ({"drag": [0, 1]}, "seven numbers"),
        ({"hello": 1}, "say inject, clear"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_the_way_out(emulator, request_, message):
    with pytest.raises(VlaError, match=message):
        emulator.ask(**request_)


def test_without_an_emulator_the_client_says_to_start_one():
    with can_bus.socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(VlaError, match="start it first"):
            ControlClient(unused.getsockname()[1])


@pytest.mark.parametrize("channels", [(), ("can_left", "can_left")])
def test_every_channel_is_named_once(channels):
    with pytest.raises(VlaError, match="every channel once"):
        EmulatorConfig(channels=channels)


def test_a_bus_that_cannot_be_opened_is_an_error_with_its_name(directory):
    with pytest.raises(VlaError, match="cannot open piper_loopback channel a/b"):
        Emulator({"can_fine": Arm(), "a/b": Arm()})


class StillWorld:
    """A world whose joints are where they were told to be last."""

    def __init__(self):
        self.told = [np.tile(HOME, 2)]

    def command(self, targets):
        self.told.append(np.array(targets))

    def joints(self):
        return self.told[-1].astype(np.float32)


def test_arms_in_this_process_move_a_world_and_stand_where_a_reset_puts_them(directory):
    world = StillWorld()
    arms = {f"can_{arm}_world": Arm(ArmSettings(smooths=False), plant) for arm, plant in plants_of(world).items()}
    with Emulator(arms) as emulator, contextlib.ExitStack() as stack:
        pipers = []
        for channel in arms:
            piper = C_PiperInterface_V2(channel, judge_flag=False, can_auto_init=False)
            piper.CreateCanBus(channel, bustype=INTERFACE)
            piper.ConnectPort()
            stack.callback(piper.DisconnectPort)
            enable(piper)
            pipers.append(piper)
        for piper in pipers:
            move(piper, TARGET)
        assert world.joints() == pytest.approx(np.tile([*TARGET, HOME[6]], len(ARMS)), abs=1e-3)
        emulator.inject(Silent(groups=("status",)), "can_left_world")
        assert [state["faults"] for state in emulator.state().values()] == [["silent"], []]
        settled(lambda: sum(arm.counts.frames for arm in arms.values()))
        with emulator.placing():
            world.told.append(np.tile(HOME, 2))
            count = len(world.told)
        until(lambda: len(world.told) > count + 5)
        assert all(np.allclose(told, np.tile(HOME, 2), atol=1e-6) for told in world.told[count:])

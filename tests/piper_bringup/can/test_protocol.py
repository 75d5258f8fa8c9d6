"""Frames of the arm, against the ones that piper_sdk writes and reads."""

import math

import can
import pytest
from piper_sdk import C_PiperInterface_V2

from piper_bringup.can import commands as commands
from piper_bringup.can import protocol
from piper_bringup.can.firmware import FIRMWARE_QUERY, pack_firmware, software_version, version_numbers
from piper_bringup.can.protocol import Frame
from piper_twin.robot import JOINT_LIMITS, MAX_JOINT_ACCELERATION, MAX_JOINT_VELOCITY
from vla_policy.errors import VlaError

DEG = math.pi / 180


@pytest.fixture(scope="module")
def sdk():
    """The SDK on a bus inside this process; frames are handed to it by `read`, what it sends comes by `sent`."""
    piper = C_PiperInterface_V2("protocol_test", judge_flag=False, can_auto_init=False)
    piper.CreateCanBus("protocol_test", bustype="virtual")
    piper.ConnectPort(piper_init=False, start_thread=False)
    yield piper
    piper.DisconnectPort()


@pytest.fixture
def sent(sdk):
    """Runs a call of the SDK and returns the frames it put on the bus."""
    with can.Bus(channel="protocol_test", interface="virtual") as bus:

        def sent(call, *arguments):
            call(*arguments)
            frames = []
            while message := bus.recv(0):
                frames.append(Frame(message.arbitration_id, bytes(message.data)))
            return frames

        yield sent


@pytest.fixture
def read(sdk):
    def read(*frames):
        for frame in frames:
            assert len(frame.data) == 8
            sdk.ParseCANFrame(can.Message(arbitration_id=frame.id, data=frame.data, is_extended_id=False))

    return read


def test_the_sdk_reads_our_feedback(sdk, read):
    read(protocol.Status(1, 7, 1, 2, True, 9, 0b000101, 0b100000).encode())
    status = sdk.GetArmStatus().arm_status
    assert (status.ctrl_mode, status.arm_status, status.mode_feed) == (1, 7, 1)
    assert (status.teach_status, status.motion_status, status.trajectory_num) == (2, 1, 9)
    assert status.err_status.joint_1_angle_limit
    assert status.err_status.joint_3_angle_limit
    assert not status.err_status.joint_2_angle_limit
    assert status.err_status.communication_status_joint_6
    joints = [0.1, 1.5, -2.9, 1.7, -1.2, 2.0]
    read(*protocol.pack_joints(protocol.JOINTS, joints))
    state = sdk.GetArmJointMsgs().joint_state
    raw = [getattr(state, f"joint_{number}") for number in range(1, 7)]
    assert raw == [round(math.degrees(joint) * 1000) for joint in joints]
    read(*protocol.pack_pose((0.3, -0.1, 0.25), (3.1, -0.5, 1.0)))
    pose = sdk.GetArmEndPoseMsgs().end_pose
    assert (pose.X_axis, pose.Y_axis, pose.Z_axis) == (300000, -100000, 250000)
    assert (pose.RX_axis, pose.RZ_axis) == (round(math.degrees(3.1) * 1000), round(math.degrees(1.0) * 1000))


def test_the_sdk_reads_our_grippers_and_motors(sdk, read):
    read(protocol.GripperState(0.0653, -0.4, protocol.GRIPPER_ENABLED).encode())
    gripper = sdk.GetArmGripperMsgs().gripper_state
    assert (gripper.grippers_angle, gripper.grippers_effort) == (65300, -400)
    assert gripper.foc_status.driver_enable_status
    assert not gripper.foc_status.homing_status
    read(protocol.MotorFast(-1.5, 2.25, 77).encode(3))
    motor = sdk.GetArmHighSpdInfoMsgs().motor_3
    assert (motor.motor_speed, motor.current, motor.pos) == (-1500, 2250, 77)
    read(protocol.MotorSlow(23.9, -5, 41, protocol.MOTOR_ENABLED | 1 << 4, 1.25).encode(6))
    motor = sdk.GetArmLowSpdInfoMsgs().motor_6
    assert (motor.vol, motor.foc_temp, motor.motor_temp, motor.bus_current) == (239, -5, 41, 1250)
    assert motor.foc_status.driver_enable_status
    assert motor.foc_status.collision_status
    assert sdk.GetArmEnableStatus()[5]


def test_what_is_encoded_is_decoded():
    status = protocol.Status(6, 15, 4, 7, True, 200, 0x3F, 0x01)
    assert protocol.Status.decode(status.encode().data) == status
    gripper = protocol.GripperState.decode(protocol.GripperState(0.05, 0.3, 0xC0).encode().data)
    assert (gripper.opening, gripper.effort, gripper.bits) == (pytest.approx(0.05), pytest.approx(0.3), 0xC0)
    fast = protocol.MotorFast.decode(protocol.MotorFast(3.0, -0.5, -9).encode(1).data)
    assert (fast.velocity, fast.current, fast.position) == (pytest.approx(3.0), pytest.approx(-0.5), -9)
    slow = protocol.MotorSlow(24.1, 50, -3, 0x41, 2.0)
    assert protocol.MotorSlow.decode(slow.encode(2).data) == slow
    position, angles = protocol.unpack_pose([frame.data for frame in protocol.pack_pose((0.1, 0.2, 0.3), (1, -2, 3))])
    assert (*position, *angles) == pytest.approx((0.1, 0.2, 0.3, 1, -2, 3), abs=1e-5)


def test_we_read_targets_as_the_sdk_writes_them(sdk, sent):
    frames = sent(sdk.JointCtrl, 10_000, 90_000, -170_000, 1, -1, 120_000)
    assert [frame.id for frame in frames] == list(protocol.JOINT_TARGETS)
    joints = [joint for frame in frames for joint in protocol.unpack_pair(frame.data)]
    assert joints == pytest.approx([10 * DEG, 90 * DEG, -170 * DEG, 1e-3 * DEG, -1e-3 * DEG, 120 * DEG])
    assert protocol.pack_joints(protocol.JOINT_TARGETS, joints) == frames
    (frame,) = sent(sdk.GripperCtrl, 50_000, 1000, 3, 0xAE)
    target = commands.GripperTarget.decode(frame.data)
    assert target == commands.GripperTarget(pytest.approx(0.05), pytest.approx(1.0), True, True, True)
    assert target.encode() == frame


def test_we_read_modes_stops_and_enabling_as_the_sdk_writes_them(sdk, sent):
    (frame,) = sent(sdk.MotionCtrl_2, 1, 1, 30, 0xAD)
    assert commands.Mode.decode(frame.data) == commands.Mode(1, protocol.MOVE_J, 30, protocol.FOLLOW_AT_ONCE)
    assert commands.Mode.decode(frame.data).encode() == frame
    (stop,) = sent(sdk.EmergencyStop, 1)
    (reset,) = sent(sdk.ResetPiper)
    (teach,) = sent(sdk.MotionCtrl_1, 0, 0, 1)
    found = [commands.MotionControl.decode(frame.data) for frame in (stop, reset, teach)]
    assert [(control.stop, control.teach) for control in found] == [(protocol.STOP, 0), (protocol.RESET, 0), (0, 1)]
    assert found[0].encode() == stop
    (one,) = sent(sdk.EnableArm, 3)
    (every,) = sent(sdk.DisableArm, 7)
    assert commands.Enable.decode(one.data) == commands.Enable(3, True)
    assert list(commands.Enable.decode(every.data).motors) == [1, 2, 3, 4, 5, 6]
    assert commands.Enable(7, False).encode() == every
    assert commands.Enable.decode(bytes(8)) is None
    (role,) = sent(sdk.MasterSlaveConfig, 0xFA, 0x10, 0, 0x20)
    assert commands.Role.decode(role.data) == commands.Role(commands.LEADER, 0x10, 0, 0x20)
    assert commands.Role.decode(role.data).encode() == role


def test_we_read_settings_as_the_sdk_writes_them(sdk, sent):
    (frame,) = sent(sdk.MotorAngleLimitMaxSpdSet, 2, 1800, 0, 3000)
    limits = commands.Limits.decode(frame.data)
    assert (limits.motor, limits.lower, limits.upper) == (2, 0, pytest.approx(math.pi))
    assert limits.max_velocity == pytest.approx(3.0)
    assert limits.encode(commands.SET_LIMITS) == frame
    (frame,) = sent(sdk.MotorAngleLimitMaxSpdSet, 5)
    assert commands.Limits.decode(frame.data) == commands.Limits(5)
    assert commands.Limits(5).encode(commands.SET_LIMITS) == frame
    (frame,) = sent(sdk.JointConfig, 7, 0, 0xAE, 250, 0xAE)
    assert commands.JointSettings.decode(frame.data) == commands.JointSettings(7, False, 2.5, True)
    assert commands.JointSettings.decode(frame.data).encode() == frame
    (frame,) = sent(sdk.GripperTeachingPendantParamConfig, 100, 70, 1)
    assert commands.Stroke.decode(frame.data) == commands.Stroke(0.07)
    assert commands.Stroke(0.07).encode(commands.SET_STROKE) == frame


def test_the_sdk_reads_our_answers(sdk, read):
    for motor, (lower, upper) in enumerate(JOINT_LIMITS, start=1):
        read(commands.Limits(motor, lower, upper, MAX_JOINT_VELOCITY).encode())
        limit = sdk.GetCurrentMotorAngleLimitMaxVel().current_motor_angle_limit_max_vel
        found = limit.motor_num, limit.min_angle_limit, limit.max_angle_limit, limit.max_joint_spd
        assert found == (motor, round(lower / DEG * 10), round(upper / DEG * 10), 3000)
        answer = commands.Limits.decode(commands.Limits(motor, lower, upper, MAX_JOINT_VELOCITY).encode().data)
        assert (answer.lower, answer.upper) == pytest.approx((lower, upper))
    read(commands.AccelerationLimit(4, MAX_JOINT_ACCELERATION).encode())
    assert sdk.GetCurrentMotorMaxAccLimit().current_motor_max_acc_limit.max_joint_acc == 500
    read(commands.Stroke(0.1).encode())
    stroke = sdk.GetGripperTeachingPendantParamFeedback().arm_gripper_teaching_param_feedback
    assert (stroke.max_range_config, stroke.teaching_range_per) == (100, 100)


def test_the_sdk_finds_our_firmware_and_so_do_we(sdk, sent, read):
    assert sent(sdk.SearchPiperFirmwareVersion) == [FIRMWARE_QUERY]
    frames = pack_firmware("S-V1.8-5")
    assert len(frames) == 11
    read(*frames)
    assert sdk.GetPiperFirmwareVersion() == "S-V1.8-5"
    assert software_version(frame.data for frame in frames) == "S-V1.8-5"
    assert software_version([b"nothing "]) is None


def test_versions_compare_as_numbers():
    assert version_numbers("S-V1.6-3") < version_numbers("S-V1.8-5") < version_numbers("S-V1.10-1")
    with pytest.raises(VlaError, match="ask the arm again"):
        version_numbers("-1199")


def test_bits_have_names():
    assert protocol.names_of(0b1010000, protocol.MOTOR_BITS) == ["collision", "enabled"]
    assert protocol.motors_in(0b100101) == [1, 3, 6]


def test_the_rates_give_the_frames_of_a_healthy_arm():
    fast = [protocol.STATUS, *protocol.POSE, *protocol.JOINTS, protocol.GRIPPER, *protocol.MOTOR_FAST]
    rate = len(fast) * protocol.FAST_RATE + len(protocol.MOTOR_SLOW) * protocol.SLOW_RATE
    assert rate == protocol.FRAMES_PER_SECOND

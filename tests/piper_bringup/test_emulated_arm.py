"""An emulated arm, frame by frame; time is an argument."""

import math

import numpy as np
import pytest

from piper_bringup.can import commands as commands
from piper_bringup.can import protocol
from piper_bringup.can.firmware import FIRMWARE, FIRMWARE_QUERY, software_version
from piper_bringup.can.protocol import Frame
from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.feedback import flange_frames
from piper_bringup.emulator.plant import ExactPlant, Planner
from piper_bringup.emulator.registers import ALSO_ACKNOWLEDGED
from piper_twin.kinematics import flange_pose
from piper_twin.robot import DUAL_PIPER, GRIPPER_STROKE, HOME, JOINT_LIMITS

TICK = 0.005
NEARBY = [HOME[0] + 0.3, *HOME[1:6]]


def targets(joints):
    return protocol.pack_joints(protocol.JOINT_TARGETS, joints)


def test_it_sends_every_frame_at_its_rate(bench_of):
    bench = bench_of()
    bench.heard.clear()
    bench.run(1.0)
    assert sum(len(frames) for frames in bench.heard.values()) == protocol.FRAMES_PER_SECOND
    for group, ids in protocol.FEEDBACK_GROUPS.items():
        assert all(len(bench.heard[id]) == (40 if group == "motor_slow" else 200) for id in ids), group


def test_missed_periods_are_left_out_not_made_up_for(bench_of):
    bench = bench_of()
    bench.heard.clear()
    bench.now += 1.0
    bench.run(0.1)
    assert len(bench.heard[protocol.STATUS]) == 20


def test_it_reports_its_joints_and_the_pose_of_its_flange(bench_of):
    bench = bench_of()
    bench.run(TICK)
    assert bench.joints == pytest.approx(HOME[:6], abs=1e-5)
    assert bench.gripper.opening == pytest.approx(HOME[6])
    rng = np.random.default_rng(0)
    for joints in rng.uniform(*np.transpose(JOINT_LIMITS), (20, 6)):
        position, (roll, pitch, yaw) = protocol.unpack_pose([frame.data for frame in flange_frames(list(joints))])
        pose = flange_pose(joints)
        assert position == pytest.approx(pose[:3, 3], abs=1e-6)
        assert (math.sin(pitch), math.sin(roll), math.cos(yaw)) == pytest.approx(
            (-pose[2, 0], pose[2, 1] / math.cos(pitch), pose[0, 0] / math.cos(pitch)), abs=1e-3
        )


def test_torque_comes_late_and_joint_by_joint(bench_of):
    bench = bench_of(enable_delay=0.2)
    bench.send(commands.Enable(2).encode())
    bench.run(0.15)
    assert not any(bench.enabled)
    bench.run(0.1)
    assert bench.enabled == [False, True, False, False, False, False]
    assert not bench.arm.torque.enabled[6]
    bench.send(commands.Enable().encode())
    bench.run(0.3)
    assert all(bench.enabled)
    assert bench.gripper.bits & protocol.GRIPPER_ENABLED


def test_it_follows_targets_within_its_speed_and_acceleration(bench_of):
    bench = bench_of().ready()
    goal = [1.5, 2.0, -2.0, 0.5, 0.0, -1.0]
    track = [bench.joints]
    for _ in range(600):
        bench.run(TICK, *targets(goal))
        track.append(bench.joints)
    assert bench.joints == pytest.approx(goal, abs=1e-4)
    velocity = np.diff(track, axis=0) / TICK
    assert 2.5 < np.abs(velocity).max() <= 3.0 + 0.01
    assert np.abs(np.diff(velocity, axis=0)).max() / TICK <= 5.0 + 2.0  # of which 2 are the rounding to 0.001 degrees
    assert not bench.status.is_moving
    assert bench.arm.counts.targets == 600


@pytest.mark.parametrize("speed", [10, 50])
def test_the_mode_says_how_fast(speed, bench_of):
    bench = bench_of().ready(speed=speed)
    fastest = 0.0
    for _ in range(200):
        bench.run(TICK, *targets([2.0, *HOME[1:6]]))
        fastest = max(fastest, abs(protocol.MotorFast.decode(bench.heard[0x251][-1]).velocity))
    assert fastest == pytest.approx(3.0 * speed / 100, rel=0.02)
    assert bench.status.is_moving


def test_high_follow_does_not_smooth(bench_of):
    smooth, direct = bench_of().ready(), bench_of().ready(follow=protocol.FOLLOW_AT_ONCE)
    for bench in (smooth, direct):
        bench.run(0.06, *targets([HOME[0] + 0.15, *HOME[1:6]]))
    assert direct.joints[0] == pytest.approx(HOME[0] + 0.15, abs=1e-4)
    assert smooth.joints[0] < HOME[0] + 0.02


def test_targets_beyond_a_limit_are_clamped_and_reported(bench_of):
    bench = bench_of().ready()
    bench.run(2.0, *targets([HOME[0], HOME[1], 0.2, *HOME[3:6]]))
    assert bench.joints[2] == pytest.approx(0.0, abs=1e-5)
    assert (bench.status.arm_status, protocol.motors_in(bench.status.limit_bits)) == (4, [3])
    assert bench.arm.counts.beyond_limits == 400
    bench.run(TICK, *targets(HOME[:6]))
    assert (bench.status.arm_status, bench.status.limit_bits) == (0, 0)


def test_without_torque_or_mode_targets_are_ignored(bench_of):
    bench = bench_of()
    bench.send(commands.Mode().encode())
    bench.run(0.1, *targets(NEARBY))
    bench.send(commands.Mode(ctrl=protocol.CTRL_STANDBY).encode(), commands.Enable().encode())
    bench.run(0.3, *targets(NEARBY))
    bench.send(commands.Mode(move=protocol.MOVE_L).encode())
    bench.run(0.1, *targets(NEARBY))
    assert bench.joints == pytest.approx(HOME[:6], abs=1e-5)
    assert bench.arm.counts.ignored_targets == bench.arm.counts.targets == 100
    bench.send(commands.Mode().encode())
    bench.run(1.0, *targets(NEARBY))
    assert bench.joints == pytest.approx(NEARBY, abs=1e-5)


def test_a_host_that_jumps_or_races_is_counted(bench_of):
    bench = bench_of().ready()
    bench.run(TICK, *targets([1.0, *HOME[1:6]]))
    assert (bench.arm.counts.start_jumps, bench.arm.counts.too_fast) == (1, 0)
    for step in range(40):
        bench.run(TICK, *targets([1.0 + 0.01 * step, *HOME[1:6]]))
    assert bench.arm.counts.fastest == pytest.approx(2.0, abs=0.01)
    assert bench.arm.counts.too_fast == 0
    bench.run(TICK, *targets([-1.0, *HOME[1:6]]))
    assert bench.arm.counts.too_fast == 1
    assert bench.arm.counts.violations == 2


def test_the_gripper_opens_as_far_as_its_stroke(bench_of):
    bench = bench_of(stroke=0.07).ready()
    bench.run(1.0, commands.GripperTarget(0.02).encode())
    assert bench.gripper.opening == pytest.approx(0.02)
    bench.run(1.0, commands.GripperTarget(0.09).encode())
    assert bench.gripper.opening == pytest.approx(0.07)
    bench.run(TICK, commands.GripperTarget(0.0, is_enabled=False).encode())
    assert not bench.gripper.bits & protocol.GRIPPER_ENABLED
    assert bench.arm.counts.gripper_disables == 1


def test_without_a_stroke_the_gripper_reports_zero_and_ignores_targets_until_it_is_set(bench_of):
    bench = bench_of(stroke=0.0).ready()
    bench.run(1.0, commands.GripperTarget(0.02).encode())
    assert bench.gripper.opening == 0.0
    assert bench.arm.plant.joints()[6] == pytest.approx(HOME[6])
    bench.send(commands.Stroke(0.07).encode(commands.SET_STROKE))
    bench.run(1.0, commands.GripperTarget(0.02).encode())
    assert bench.gripper.opening == pytest.approx(0.02)


def test_a_stopped_arm_sinks_slowly_and_obeys_nobody(bench_of):
    bench = bench_of().ready()
    bench.send(commands.MotionControl(protocol.STOP).encode())
    bench.run(1.0, commands.Mode().encode(), *targets(HOME[:6]))
    assert bench.status.arm_status == 1
    assert bench.joints[1] == pytest.approx(HOME[1] - 0.3, abs=0.05)
    bench.send(commands.Enable().encode())
    bench.run(5.0)
    assert bench.joints[1:3] == pytest.approx([0.0, 0.0], abs=1e-4)
    assert all(bench.enabled)
    assert (bench.arm.counts.stops, bench.arm.counts.falls, bench.arm.counts.disables) == (1, 0, 0)


def test_a_reset_lets_the_arm_fall_and_needs_two_enables(bench_of):
    bench = bench_of().ready()
    bench.send(commands.MotionControl(protocol.RESET).encode())
    bench.run(1.0)
    assert not any(bench.enabled)
    assert bench.joints[1] == pytest.approx(0.0, abs=1e-4)
    assert (bench.arm.counts.resets, bench.arm.counts.falls) == (1, 1)
    bench.send(commands.Enable().encode())
    bench.run(0.3)
    assert not any(bench.enabled)
    bench.ready()
    assert all(bench.enabled)
    bench.run(1.0, *targets([0.2, 0.3, -0.1, 0, 0, 0]))
    assert bench.joints == pytest.approx([0.2, 0.3, -0.1, 0, 0, 0], abs=1e-4)


def test_a_disabled_arm_falls_and_is_counted(bench_of):
    bench = bench_of().ready()
    bench.send(commands.Enable(1, False).encode())
    assert (bench.arm.counts.disables, bench.arm.counts.falls) == (1, 0)
    bench.send(commands.Enable(7, False).encode())
    bench.run(1.0)
    assert bench.joints[1] == pytest.approx(0.0, abs=1e-4)
    assert (bench.arm.counts.disables, bench.arm.counts.falls) == (2, 1)


def test_an_arm_that_was_never_enabled_does_not_fall(bench_of):
    bench = bench_of()
    bench.send(commands.Enable(7, False).encode())
    bench.run(1.0)
    assert bench.joints == pytest.approx(HOME[:6], abs=1e-5)
    assert bench.arm.counts.falls == 0


def test_it_answers_questions_and_keeps_settings(bench_of):
    bench = bench_of()
    for motor in protocol.MOTORS:
        bench.send(Frame(commands.LIMIT_QUERY, bytes((motor, commands.ASK_LIMITS, 0, 0, 0, 0, 0, 0))))
        bench.send(Frame(commands.LIMIT_QUERY, bytes((motor, commands.ASK_ACCELERATION, 0, 0, 0, 0, 0, 0))))
    bench.run(2 * TICK)
    limits = [commands.Limits.decode(data) for data in bench.heard[commands.LIMITS]]
    assert [limit.motor for limit in limits] == list(protocol.MOTORS)
    assert [(limit.lower, limit.upper) for limit in limits] == [pytest.approx(pair) for pair in JOINT_LIMITS]
    accelerations = [commands.AccelerationLimit.decode(data) for data in bench.heard[commands.ACCELERATION_LIMIT]]
    assert [limit.max_acceleration for limit in accelerations] == [5.0] * 6
    bench.send(commands.Limits(2, upper=1.5, max_velocity=1.0).encode(commands.SET_LIMITS))
    bench.send(commands.JointSettings(7, max_acceleration=2.5).encode())
    stored = bench.arm.registers.joint(2)
    assert (stored.lower, stored.upper, stored.max_velocity) == (0.0, pytest.approx(1.5, abs=1e-3), 1.0)
    assert bench.arm.registers.joint(6).max_acceleration == 2.5
    bench.send(Frame(commands.SET_CRASH_LEVELS, bytes((1, 2, 3, 4, 5, 9, 0, 0))))
    for question in (commands.ASK_CRASH_LEVELS, commands.ASK_STROKE, commands.ASK_TOOL_LIMITS):
        wish = commands.LIMITS_TO_FACTORY if question == commands.ASK_TOOL_LIMITS else 0
        bench.send(Frame(commands.PARAMETER_QUERY, bytes((question, wish, 0, 0, 0, 0, 0, 0))))
    bench.run(2 * TICK)
    assert bench.heard[commands.CRASH_LEVELS][-1] == bytes((1, 2, 3, 4, 5, 0, 0, 0))
    assert commands.Stroke.decode(bench.heard[commands.STROKE][-1]).stroke == GRIPPER_STROKE
    assert len(bench.heard[commands.TOOL_LIMITS]) == 1
    assert bench.arm.registers.joint(2).upper == pytest.approx(math.pi)


def test_it_tells_its_firmware_a_few_milliseconds_late(bench_of):
    bench = bench_of(software="S-V1.7-4", firmware_delay=0.004)
    bench.send(FIRMWARE_QUERY)
    bench.arm.feedback(bench.now + 0.003)
    assert FIRMWARE not in bench.heard
    bench.run(2 * TICK)
    assert software_version(bench.heard[FIRMWARE]) == "S-V1.7-4"


@pytest.mark.parametrize(("acknowledged", "expected"), [(frozenset(), []), (ALSO_ACKNOWLEDGED, [0x71, 0x7A])])
def test_which_commands_it_acknowledges_is_a_setting(acknowledged, expected, bench_of):
    bench = bench_of(acknowledged=acknowledged)
    bench.send(commands.Enable().encode(), Frame(commands.SET_CRASH_LEVELS, bytes(8)))
    bench.run(2 * TICK)
    assert [data[0] for data in bench.heard[commands.ACKNOWLEDGEMENT]] == expected


def test_a_zeroing_is_acknowledged_and_counted(bench_of):
    bench = bench_of()
    bench.send(commands.JointSettings(3, sets_zero=True).encode())
    bench.run(2 * TICK)
    assert bench.heard[commands.ACKNOWLEDGEMENT] == [bytes((0x75, 1, 0, 0, 0, 0, 0, 0))]
    assert bench.arm.counts.zeroings == 1


def test_a_leader_sends_its_joints_as_targets_and_is_moved_by_hand(bench_of):
    bench = bench_of(is_leader=True)
    bench.heard.clear()
    bench.arm.drag([0.5, *HOME[1:6], 0.03])
    bench.run(1.0, *targets([-1.0, *HOME[1:6]]), commands.Mode().encode(), commands.Enable().encode())
    assert bench.status.ctrl_mode == protocol.CTRL_LEADER
    sent = [angle for id in protocol.JOINT_TARGETS for angle in protocol.unpack_pair(bench.heard[id][-1])]
    assert sent == pytest.approx([0.5, *HOME[1:6]], abs=1e-5)
    assert commands.GripperTarget.decode(bench.heard[protocol.GRIPPER_TARGET][-1]).opening == pytest.approx(0.03)
    assert commands.Mode.decode(bench.heard[protocol.MODE][-1]).follow == protocol.FOLLOW_AT_ONCE
    assert [len(bench.heard[id]) for id in protocol.JOINT_TARGETS] == [200] * 3
    assert protocol.JOINTS[0] not in bench.heard


def test_a_new_role_counts_from_the_next_power_on_and_shifts_identifiers(bench_of):
    bench = bench_of().ready()
    bench.send(commands.Role(commands.LEADER, 0x10, 0x00, 0x20).encode())
    bench.run(0.1)
    assert bench.status.ctrl_mode == protocol.CTRL_CAN
    bench.arm.power_cycle()
    bench.heard.clear()
    bench.run(0.1)
    assert {0x2B1, 0x2B5, 0x2B8, 0x251, 0x175, 0x177, 0x179} <= set(bench.heard)
    assert not {0x2A1, 0x2A5, 0x155} & set(bench.heard)
    bench.send(commands.Role(commands.FOLLOWER, 0x00, 0x10).encode())
    bench.arm.power_cycle()
    bench.ready()
    bench.run(0.1, *[Frame(frame.id + 0x10, frame.data) for frame in [commands.Mode().encode(), *targets(NEARBY)]])
    assert bench.arm.counts.targets == bench.arm.counts.ignored_targets + 20


def test_while_it_is_taught_a_hand_moves_it_and_targets_do_not(bench_of):
    bench = bench_of().ready()
    bench.arm.drag(HOME + 0.1)
    bench.run(0.5)
    assert bench.joints == pytest.approx(HOME[:6], abs=1e-5)
    bench.send(commands.MotionControl(teach=1).encode())
    bench.arm.drag([*NEARBY, 0.0])
    bench.run(1.0, *targets([-1.0, *HOME[1:6]]))
    assert (bench.status.ctrl_mode, bench.status.arm_status, bench.status.teach) == (protocol.CTRL_TEACH, 0xB, 1)
    assert bench.joints == pytest.approx(NEARBY, abs=1e-5)
    bench.send(commands.MotionControl(teach=2).encode())
    bench.run(1.0, *targets(HOME[:6]))
    assert bench.joints == pytest.approx(HOME[:6], abs=1e-5)


class Sagging(ExactPlant):
    """Mechanics that do not quite reach what they are told."""

    def joints(self):
        return [joint - 0.01 for joint in super().joints()]


def test_any_plant_can_be_moved_and_placed_by_other_means():
    plant = Sagging([float(joint) for joint in HOME])
    arm = Arm(plant=plant)
    arm.step(0.0)
    plant._joints[:] = [0.0] * 7
    arm.place()
    arm.step(0.005)
    assert arm.targets == pytest.approx([-0.01] * 7)


def test_the_planner_never_passes_its_target():
    rng = np.random.default_rng(1)
    for _ in range(50):
        start, goal = rng.uniform(-2, 2, 2)
        planner = Planner([start] * 7)
        for _ in range(1000):
            planner.move([goal] * 7, [3.0] * 7, [5.0] * 7, TICK)
            assert min(start, goal) - 1e-9 <= planner.position[0] <= max(start, goal) + 1e-9
        assert planner.position[0] == pytest.approx(goal, abs=1e-9)


def test_limits_of_the_emulated_arm_are_those_of_the_embodiment(bench_of):
    joints = bench_of().arm.registers.joints
    for stored, joint in zip(joints, DUAL_PIPER.joints[:6], strict=True):
        assert (stored.lower, stored.upper) == (joint.lower, joint.upper)
        assert (stored.max_velocity, stored.max_acceleration) == (joint.max_velocity, joint.max_acceleration)

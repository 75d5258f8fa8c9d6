"""Every fault of an emulated arm: what the host sees of it, and that it can be cleared."""

import pytest

from piper_bringup.can import commands as commands
from piper_bringup.can import protocol
from piper_bringup.can.firmware import FIRMWARE, FIRMWARE_QUERY, software_version
from piper_bringup.can.protocol import Frame
from piper_bringup.emulator.control import make_fault
from piper_bringup.emulator.faults import FAULTS
from piper_twin.robot import HOME, JOINT_LIMITS
from vla_policy.errors import VlaError

NEARBY = [HOME[0] + 0.3, *HOME[1:6]]
TARGETS = protocol.pack_joints(protocol.JOINT_TARGETS, NEARBY)


@pytest.fixture
def bench(bench_of):
    """A host with an arm that follows it."""
    return bench_of().ready()


def inject(bench, name, **settings):
    bench.arm.inject(make_fault(name, settings), bench.now)
    bench.heard.clear()


def clear(bench, name):
    bench.arm.clear(name, bench.now)
    bench.heard.clear()


@pytest.mark.parametrize("name", FAULTS)
def test_after_every_fault_is_cleared_the_arm_can_be_moved_again(bench, name):
    inject(bench, name)
    bench.run(0.1, commands.Mode().encode(), *TARGETS)
    clear(bench, name)
    assert bench.arm.faults == {}
    bench.ready()
    bench.run(1.0, commands.Mode().encode(), *TARGETS)
    assert bench.joints == pytest.approx(NEARBY, abs=1e-4)
    assert sum(len(frames) for frames in bench.heard.values()) > 3000
    assert (bench.arm.counts.disables, bench.arm.counts.resets, bench.arm.counts.falls) == (0, 0, 0)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_with_a_duration_clears_itself(bench, name):
    inject(bench, name, duration=0.1)
    bench.run(0.05)
    assert list(bench.arm.faults) == [name]
    bench.run(0.1)
    assert bench.arm.faults == {}


def test_silent_groups_stay_away_and_nothing_else(bench):
    inject(bench, "silent", groups=["joints_34", "motor_slow"])
    bench.run(1.0)
    assert protocol.JOINTS[1] not in bench.heard
    assert not set(protocol.MOTOR_SLOW) & set(bench.heard)
    assert len(bench.heard[protocol.JOINTS[0]]) == len(bench.heard[protocol.STATUS]) == 200


def test_late_frames_come_in_order_after_a_gap(bench):
    inject(bench, "late", delay=0.1, jitter=0.02)
    bench.run(0.095)
    assert not bench.heard
    bench.run(1.0, *TARGETS)
    assert 180 <= len(bench.heard[protocol.STATUS]) <= 200
    reported = [protocol.unpack_pair(data)[0] for data in bench.heard[protocol.JOINTS[0]]]
    assert reported == sorted(reported)


def test_a_share_of_the_frames_is_dropped_the_same_ones_for_a_seed(bench_of):
    kept = []
    for seed in (1, 1, 2):
        bench = bench_of()
        inject(bench, "dropped", share=0.3, seed=seed)
        bench.run(1.0)
        kept.append({id: len(frames) for id, frames in bench.heard.items()})
    assert kept[0] == kept[1] != kept[2]
    assert sum(kept[0].values()) == pytest.approx(0.7 * protocol.FRAMES_PER_SECOND, rel=0.1)


def test_bus_off_is_silence_in_both_directions_and_the_arm_holds(bench):
    bench.run(0.1, *TARGETS)
    inject(bench, "bus_off", duration=0.5)
    frames = bench.arm.counts.frames
    bench.run(0.495, commands.Enable(7, False).encode())
    assert bench.arm.counts.frames == frames
    assert not bench.heard
    bench.run(0.5)
    assert all(bench.enabled)
    assert bench.joints == pytest.approx(NEARBY, abs=1e-4)


@pytest.mark.parametrize("code", [code for code in protocol.ARM_STATUS if code])
def test_an_arm_with_a_status_reports_it_and_stays_where_it_is(bench, code):
    inject(bench, "status", code=code, silent_motors=0b100)
    bench.run(0.5, commands.Mode().encode(), *TARGETS)
    assert (bench.status.arm_status, protocol.motors_in(bench.status.silent_bits)) == (code, [3])
    assert bench.joints == pytest.approx(HOME[:6], abs=1e-5)


def test_a_motor_reports_its_errors(bench):
    inject(bench, "motor", motor=4, bits=0b10010000, temperature=85)
    bench.run(0.1)
    slow = [protocol.MotorSlow.decode(bench.heard[id][-1]) for id in protocol.MOTOR_SLOW]
    assert protocol.names_of(slow[3].bits, protocol.MOTOR_BITS) == ["collision", "enabled", "stalled"]
    assert slow[3].driver_temperature == 85
    assert not slow[2].bits & protocol.MOTOR_FAULTS


def test_corrupted_limits_are_what_the_arm_answers(bench):
    inject(bench, "limits", motor=3, lower=-0.5, upper=0.5)
    for motor in (2, 3):
        bench.send(Frame(commands.LIMIT_QUERY, bytes((motor, commands.ASK_LIMITS, 0, 0, 0, 0, 0, 0))))
    bench.run(0.02)
    right, wrong = (commands.Limits.decode(data) for data in bench.heard[commands.LIMITS])
    assert (right.lower, right.upper) == pytest.approx(JOINT_LIMITS[1])
    assert (wrong.lower, wrong.upper) == pytest.approx((-0.5, 0.5), abs=1e-3)


def test_an_arm_can_refuse_torque(bench_of):
    bench = bench_of()
    inject(bench, "enable_refused")
    bench.run(1.0, commands.Enable().encode())
    assert not any(bench.enabled)
    bench.send(commands.Enable(2, False).encode())
    assert bench.arm.counts.disables == 1


@pytest.mark.parametrize("software", ["S-V1.5-2", None])
def test_the_firmware_can_be_old_or_unknown(bench, software):
    inject(bench, "firmware", software=software)
    bench.send(FIRMWARE_QUERY)
    bench.run(0.02)
    assert software_version(bench.heard[FIRMWARE]) == software


def test_a_gripper_that_forgot_its_stroke_remembers_when_cleared_or_set(bench):
    inject(bench, "stroke_unset")
    bench.run(0.5, commands.GripperTarget(0.02).encode())
    assert bench.gripper.opening == 0.0
    bench.send(commands.Stroke(0.1).encode(commands.SET_STROKE))
    clear(bench, "stroke_unset")
    assert bench.arm.registers.stroke == 0.1


def test_a_stop_at_the_arm_sinks_it_and_ends_with_power_off_and_on(bench):
    inject(bench, "stop_pressed")
    bench.run(0.5, commands.Mode().encode(), *TARGETS)
    assert bench.status.arm_status == 1
    assert bench.joints[1] < HOME[1] - 0.05
    clear(bench, "stop_pressed")
    bench.run(0.1)
    assert (bench.status.arm_status, bench.status.ctrl_mode, any(bench.enabled)) == (0, protocol.CTRL_STANDBY, False)


def test_an_arm_can_turn_out_to_be_a_leader(bench):
    inject(bench, "leader")
    bench.run(0.1, *TARGETS)
    assert bench.status.ctrl_mode == protocol.CTRL_LEADER
    assert protocol.JOINTS[0] not in bench.heard
    assert len(bench.heard[protocol.JOINT_TARGETS[0]]) == 20


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nonsense", {}, "choose among silent"),
        ("silent", {"group": "status"}, "has no group; it has duration, groups"),
        ("silent", {"groups": ["elbow"]}, "no feedback elbow"),
        ("dropped", {"share": "half"}, 'share cannot be "half"'),
        ("status", {"code": 16}, "0 to 15"),
        ("motor", {"motor": 7}, "1 to 6"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_the_way_out(name, settings, message):
    with pytest.raises(VlaError, match=message):
        make_fault(name, settings)

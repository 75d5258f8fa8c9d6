"""What counts as held, named and recovered, from made-up evidence."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from piper_bringup.control.faults import FAULTS as ROBOT_FAULTS
from piper_bringup.emulator.faults import FAULTS as ARM_FAULTS
from piper_bringup.fault_matrix.__main__ import MatrixConfig, summarize, table
from piper_bringup.fault_matrix.cases import cases
from piper_bringup.fault_matrix.evidence import Evidence, Sample, Told, at_rest_since, drift, is_moving, sample_of
from piper_bringup.fault_matrix.judge import Expectation, judged
from piper_bringup.fault_matrix.page import matrix_table
from piper_bringup.fault_matrix.stage import AMPLITUDE, specs, wave
from piper_bringup.graph.graphs import RealArguments, real
from piper_twin.robot import ARMS, CONTROL_PERIOD, DUAL_PIPER, HOME
from vla_policy.errors import VlaError

COLLISION = Expectation(named=("collision: left arm",))
HELD = Told(1.2, "robot", "collision: left arm: collision; look", is_complaint=True, state="held")


def samples(speed=0.0, moves_until=0.3, seconds=2.0, off=0.0, has_torque=True):
    """One joint moves at 0.2 rad/s until it stops, and creeps then."""
    times = np.arange(0.0, seconds, 0.02)
    first = 0.2 * np.minimum(times, moves_until) + speed * np.maximum(times - moves_until, 0.0)
    joints = np.zeros((len(times), 12))
    joints[:, 4] = first
    return [Sample(1.0 + time, row, row + off, has_torque) for time, row in zip(times, joints, strict=True)]


def record(expected=COLLISION, **changes):
    evidence = Evidence(
        began=1.0,
        was_moving=True,
        samples=samples(),
        told=[HELD],
        steps=["put right", "release"],
        moved_on=True,
        counted={"disables": 0, "resets": 0, "falls": 0},
    )
    return judged("collision", "left", expected, dataclasses.replace(evidence, **changes))


def test_arms_that_stop_are_told_and_named_and_move_on_pass():
    found = record()
    assert found.problems == ()
    assert (found.held, found.named, found.recovered, found.state) == (True, True, True, "held")
    assert found.seconds_to_hold == pytest.approx(0.3, abs=0.05)
    assert found.drift < 0.005
    assert found.how == "put right, release"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"samples": samples(moves_until=2.0)}, "the arms move"),
        ({"samples": samples(seconds=1.0)}, "the arms move"),
        ({"samples": []}, "nothing was seen of the arms"),
        ({"samples": samples(speed=0.015)}, "the arms move"),
        ({"samples": samples(off=0.1)}, "0.100 rad from its target"),
        ({"samples": samples(has_torque=False)}, "lost its torque"),
        ({"told": [dataclasses.replace(HELD, state="moving")]}, "the robot is moving, not held"),
        ({"told": []}, "the robot is silent, not held"),
    ],
)
def test_arms_that_do_not_hold_are_found(changes, problem):
    found = record(**changes)
    assert not found.held
    assert problem in "; ".join(found.problems)


@pytest.mark.parametrize(
    "other",
    [
        {"text": "stall: left arm"},
        {"text": "collision: right arm"},
        {"who": "policy"},
        {"is_complaint": False},
    ],
)
def test_a_diagnostic_must_be_of_the_right_part_and_name_the_right_fault_and_arm(other):
    found = record(told=[dataclasses.replace(HELD, **other)])
    assert not found.named
    assert "names collision: left arm" in "; ".join(found.problems)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"counted": {"disables": 2}}, "2 disables"),
        ({"counted": {"resets": 1}}, "1 resets"),
        ({"counted": {"falls": 1}}, "1 falls"),
        ({"moved_on": False}, "did not move again"),
        ({"was_moving": False}, "stood still when it happened"),
    ],
)
def test_what_must_never_be_sent_and_what_proves_nothing_fails(changes, problem):
    assert problem in record(**changes).problems[0]


def test_an_arm_that_sinks_by_itself_may_leave_its_target_and_one_without_power_its_torque():
    assert record(Expectation(named=COLLISION.named, sinks=True), samples=samples(off=0.5)).held
    assert record(Expectation(named=COLLISION.named, keeps_torque=False), samples=samples(has_torque=False)).held


def test_of_a_long_message_the_part_that_names_the_fault_is_kept():
    told = dataclasses.replace(HELD, text="feedback_lost: left arm, status; wait; collision: left arm: collision; look")
    assert record(told=[told]).diagnostic == "collision: left arm: collision"


def test_a_robot_that_died_is_not_asked_how_it_is():
    died = Expectation(named=("no joint states",), by="policy", state=None)
    told = [Told(1.5, "policy", "no joint states for 0.4 s", is_complaint=True)]
    found = record(died, told=told)
    assert (found.held, found.named, found.state) == (True, True, "silent")


@pytest.mark.parametrize(
    ("answers", "is_named"),
    [
        ([(False, "not_ready: left arm: stroke")], True),
        ([(False, "it did not tell"), (False, "left arm: stroke")], True),
        ([(False, "something else")], False),
        ([], False),
        ([(False, "left arm: stroke"), (True, "enabled")], False),
    ],
)
def test_torque_must_be_refused_for_the_right_reason(answers, is_named):
    expected = Expectation(named=("left arm: stroke",), state="disabled", refuses_torque=True)
    told = [Told(1.5, "robot", "not_ready: left arm: stroke", is_complaint=True, state="disabled")]
    assert record(expected, told=told, answers=answers).named is is_named


def test_arms_move_only_if_they_do_all_the_time():
    assert is_moving(samples(moves_until=9.0))
    assert not is_moving(samples())
    assert not is_moving(samples(moves_until=9.0)[:3])
    assert at_rest_since(samples()) == pytest.approx(1.28, abs=0.03)
    assert drift(samples(speed=0.01), since=1.5) == pytest.approx(0.015, rel=0.1)


def test_grippers_do_not_count_and_both_arms_do():
    arms = {
        name: {"joints": [place] * 6 + [0.07], "targets": [place] * 6 + [0.01], "enabled": [True] * 6 + [name == "a"]}
        for place, name in enumerate("ab")
    }
    found = sample_of(3.0, arms)
    assert found.joints.tolist() == found.targets.tolist() == [0.0] * 6 + [1.0] * 6
    assert not found.has_torque


def test_every_fault_of_the_emulated_arms_is_played():
    assert len({case.name for case in cases()}) == len(cases())
    source = Path(__file__).parents[3] / "ros2_ws/src/piper_bringup/piper_bringup/fault_matrix/cases.py"
    text = source.read_text(encoding="utf-8")
    assert [name for name in ARM_FAULTS if f'"{name}"' not in text] == []


def test_what_the_robot_must_say_is_in_its_table_of_faults():
    by_robot = [word for case in cases() if case.expected.by == "robot" for word in case.expected.named]
    names = [word.partition(":")[0] for word in by_robot if not word.startswith("{arm}")]
    assert set(names) <= set(ROBOT_FAULTS)


def test_the_processes_are_those_of_the_real_graph(tmp_path):
    usual = real(RealArguments(emulate=True))
    ours = specs(tmp_path / "wave.npy", 4711)
    assert [(spec.name, spec.module) for spec in ours] == [(spec.name, spec.module) for spec in usual]
    more = {
        spec.name: {key for key, value in spec.parameters.items() if other.parameters.get(key) != value}
        for spec, other in zip(ours, usual, strict=True)
    }
    assert more == {
        "robot": {"speed_percent"},
        "emulator": {"control_port"},
        "policy": {"checkpoint", "autostart", "wait_for_chunk"},
    }


def test_in_the_wave_some_joint_always_moves_and_none_leaves_its_limits(tmp_path):
    wave(tmp_path / "wave.npy")
    rows = np.load(tmp_path / "wave.npy")[: round(10.0 / CONTROL_PERIOD)]
    assert np.abs(rows - np.tile(HOME, len(ARMS))).max() <= AMPLITUDE + 1e-6
    speeds = np.abs(np.diff(rows, axis=0)).max(axis=1) / CONTROL_PERIOD
    assert 0.1 < speeds.min() <= speeds.max() < 0.3
    limits = np.array([(joint.lower, joint.upper) for joint in DUAL_PIPER.joints])
    assert ((rows >= limits[:, 0] - 1e-6) & (rows <= limits[:, 1] + 1e-6)).all()


def test_a_word_that_no_fault_has_is_refused_with_the_names():
    assert [case.name for case in MatrixConfig(only=("bus off",)).chosen()] == ["bus off"]
    with pytest.raises(VlaError, match="clock jumps by"):
        MatrixConfig(only=("earthquake",)).chosen()


def test_the_summary_counts_and_keeps_every_record():
    good, bad = record(), record(moved_on=False, counted={"disables": 1, "gripper_disables": 2, "resets": 3})
    summary = summarize([good, bad])
    counts = [summary[key] for key in ("faults", "held", "named", "recovered", "disables", "resets")]
    assert counts == [2, 2, 2, 1, 3, 3]
    assert summary["failed"] == ["collision"]
    assert len(summary["records"]) == 2
    assert table([good, bad]).row_count == 2


def test_the_page_has_a_row_for_each_record():
    measured = {"hardware": "2 cores", "commit": "1234567", "date": "today"}
    rows = matrix_table(summarize([record(), record(samples=samples(moves_until=2.0))]) | measured).splitlines()
    assert rows[0].startswith("**2 faults, 1 held, 2 named, 2 recovered; 0 disables, 0 resets, 0 falls.** 2 cores")
    assert rows[-2].startswith("| collision | held | collision: left arm: collision | 0.2")
    assert rows[-1].startswith("| collision | held | collision: left arm: collision |  |  | put right, release |")

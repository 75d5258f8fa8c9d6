"""The state machine on a clock that the tests turn by hand."""

import dataclasses

import numpy as np
import pytest

from piper_bringup.control.faults import FAULTS, Fault, Reaction
from piper_bringup.control.loop import PERIOD, ControlConfig, ControlLoop
from piper_bringup.control.states import State
from piper_bringup.drivers.fake import FakeDriver
from piper_twin.robot import ARMS, DUAL_PIPER, GRIPPER_STROKE, HOME
from vla_policy.types import ActionChunk

BOTH_HOME = np.tile(HOME, len(ARMS))
GRIPPERS = [6, 13]
JOINTS = [index for index in range(14) if index not in GRIPPERS]
HOLDING = [name for name, kind in FAULTS.items() if kind.reaction is Reaction.HOLD]


class Rig:
    """A control loop, its fake robot, and the time."""

    def __init__(self, driver_type=FakeDriver, **config):
        self.now = 100.0
        self.driver = driver_type(DUAL_PIPER, clock=lambda: self.now)
        self.loop = ControlLoop(self.driver, DUAL_PIPER, config=ControlConfig(**config))
        self.sent = []

    def run(self, duration=PERIOD):
        for _ in range(round(duration / PERIOD)):
            self.now += PERIOD
            self.tick = self.loop.tick(self.now)
            if self.tick.command is not None:
                self.sent.append(self.tick.command)
        return self.tick

    def ask(self, request):
        self.run()
        assert request.done()
        return request.result()

    def enable(self):
        request = self.loop.request_enable()
        self.run(3 * PERIOD)
        assert request.result(0).success, request.result(0).message
        return self

    def chunk(self, target, rows=25, period=0.04, age=0.0):
        actions = np.tile(np.asarray(target, np.float32), (rows, 1))
        return ActionChunk(actions=actions, period=period, stamp=self.now - age)

    def send(self, target=None, **options):
        self.loop.submit(self.chunk(shifted() if target is None else target, **options), self.now)
        return self.run()


def shifted(joint=0, by=0.3):
    target = BOTH_HOME.copy()
    target[joint] += by
    return target


@pytest.fixture
def rig():
    return Rig().enable()


def moving(rig, target=None, duration=0.3):
    rig.send(target)
    rig.run(duration)
    assert rig.tick.state is State.MOVING
    assert np.abs(np.diff(rig.sent[-2:], axis=0)).max() > 1e-4, "it moves"
    return rig


def test_nothing_is_sent_before_the_robot_is_enabled():
    rig = Rig()
    tick = rig.run(0.1)
    assert (tick.state, tick.command) == (State.DISABLED, None)
    np.testing.assert_allclose(tick.measured, BOTH_HOME, atol=1e-6)


def test_enabling_holds_the_measured_pose_before_there_is_torque():
    rig = Rig()
    rig.driver._joints = BOTH_HOME + 0.01
    request = rig.loop.request_enable()
    tick = rig.run()
    assert tick.state is State.DISABLED
    np.testing.assert_allclose(tick.command, BOTH_HOME + 0.01, atol=1e-6)
    rig.run(2 * PERIOD)
    assert request.result(0).success
    assert rig.tick.state is State.READY
    np.testing.assert_allclose(rig.sent, np.tile(rig.sent[0], (len(rig.sent), 1)))


def test_what_speaks_against_enabling_is_told_and_nothing_is_sent():
    rig = Rig()
    rig.driver.problems = ["the left arm's firmware is too old; update it"]
    answer = rig.ask(rig.loop.request_enable())
    assert not answer.success
    assert "firmware is too old; update it" in answer.message
    assert rig.tick.state is State.DISABLED
    assert rig.sent == []


def test_a_fault_forbids_enabling():
    rig = Rig()
    rig.driver.injected = [Fault("emergency_stop", "left arm")]
    answer = rig.ask(rig.loop.request_enable())
    assert not answer.success
    assert "left arm" in answer.message


class WithoutTorque(FakeDriver):
    """Joints refuse to be enabled."""

    def enable(self):
        pass


def test_a_robot_that_takes_no_torque_is_given_up_and_asked_no_more():
    rig = Rig(WithoutTorque, enable_timeout=0.2)
    request = rig.loop.request_enable()
    rig.run(0.3)
    assert "within 0.2 s" in request.result(0).message
    assert not request.result(0).success
    assert rig.tick.state is State.DISABLED
    rig.driver.enable = lambda: pytest.fail("asked for torque after giving up")
    rig.run(0.1)


def test_a_fault_while_waiting_for_torque_ends_the_waiting():
    rig = Rig(WithoutTorque)
    request = rig.loop.request_enable()
    rig.run(0.05)
    rig.driver.injected = [Fault("bus_silent", "left arm")]
    rig.run()
    assert "bus_silent" in request.result(0).message
    assert rig.tick.state is State.DISABLED


def test_a_chunk_moves_the_joints_to_its_last_row(rig):
    rig.send(shifted(), rows=60)
    assert rig.tick.state is State.MOVING
    rig.run(60 * 0.04 + 0.3)
    np.testing.assert_allclose(rig.tick.measured, shifted(), atol=1e-3)


def test_the_average_does_not_delay_a_slow_chunk(rig):
    speed, rows = 0.05, 50
    way = speed * 0.04 * np.arange(1, rows + 1)
    actions = np.tile(BOTH_HOME, (rows, 1))
    actions[:, 0] += way
    rig.loop.submit(ActionChunk(actions=actions.astype(np.float32), period=0.04, stamp=rig.now), rig.now)
    begin = rig.now
    rig.run(1.0)
    wanted = HOME[0] + speed * (rig.now - begin)
    assert rig.tick.command[0] == pytest.approx(wanted, abs=speed**2 / 2 / 5.0 + 1e-4)


def test_a_spent_chunk_is_a_pause_and_the_next_one_moves_on(rig):
    rig.send(rows=3)
    rig.run(3 * 0.04 + 0.5)
    assert rig.tick.state is State.READY
    assert "no_commands" in rig.tick.reason
    rig.run(0.5)
    pause = rig.tick.command
    np.testing.assert_allclose(rig.run(0.2).command, pause, atol=1e-12)
    assert rig.send(rows=20).state is State.MOVING
    assert rig.tick.reason == ""


def test_stop_latches_brakes_and_then_sends_the_measured_pose_for_ever(rig):
    moving(rig)
    answer = rig.ask(rig.loop.request_stop("the operator"))
    assert answer.success
    assert rig.tick.state is State.HELD
    assert "by the operator" in rig.tick.reason
    rig.run(2.0)
    held = rig.tick.command
    np.testing.assert_allclose(held, rig.tick.measured, atol=1e-3)
    assert rig.send().state is State.HELD
    assert rig.loop.refusals == {"not_accepting": 1}
    np.testing.assert_allclose(rig.run(1.0).command, held, atol=1e-12)


def test_a_stop_keeps_velocity_acceleration_and_jerk(rig):
    moving(rig, shifted(0, 2.0), duration=0.6)
    rig.loop.request_stop("test")
    rig.run(2.0)
    sent = np.array(rig.sent)
    assert np.abs(np.diff(sent[:, 0])).max() / PERIOD > 1.0, "it was fast"
    assert np.abs(np.diff(sent, 2, axis=0)[:, JOINTS]).max() / PERIOD**2 <= 5.0 + 1e-6
    assert np.abs(np.diff(sent, 3, axis=0)[:, JOINTS]).max() / PERIOD**3 <= 250.0 + 1e-3


@pytest.mark.parametrize("name", HOLDING)
def test_every_fault_that_holds_ends_held_with_the_measured_pose_and_needs_a_release(rig, name):
    moving(rig)
    rig.driver.injected = [Fault(name, "injected")]
    rig.run()
    assert rig.tick.state is State.HELD
    assert name in rig.tick.reason
    rig.run(2.0)
    np.testing.assert_allclose(rig.tick.command, rig.tick.measured, atol=1e-3)
    assert FAULTS[name].ends_with_enabling or not rig.ask(rig.loop.request_release()).success
    rig.driver.injected = []
    assert rig.run(0.5).state is State.HELD, "the fault has gone, the latch has not"
    assert rig.ask(rig.loop.request_release()).success
    assert rig.tick.state is State.READY
    rig.send()
    assert rig.tick.state is State.MOVING


def test_a_warning_stops_nothing(rig):
    moving(rig)
    rig.driver.injected = [Fault("feedback_late", "left arm")]
    assert rig.run(0.1).state is State.MOVING
    assert [fault.name for fault in rig.tick.faults] == ["feedback_late"]


def test_the_first_cause_is_the_one_that_is_told(rig):
    rig.driver.injected = [Fault("collision", "left arm")]
    rig.run()
    rig.driver.injected = [Fault("bus_silent", "left arm")]
    assert "collision" in rig.run(0.1).reason
    assert [fault.name for fault in rig.tick.faults] == ["bus_silent"]


def test_release_asks_what_is_still_wrong(rig):
    rig.driver.injected = [Fault("overheated", "left arm, joint 2")]
    rig.run()
    answer = rig.ask(rig.loop.request_release())
    assert not answer.success
    assert "left arm, joint 2" in answer.message


def test_a_robot_that_lost_its_torque_is_disabled_after_its_release_and_can_be_enabled_again(rig):
    rig.driver.disable()
    assert "joint_disabled" in rig.run().reason
    assert rig.ask(rig.loop.request_release()).success
    assert rig.tick.state is State.DISABLED
    rig.enable()
    assert rig.tick.state is State.READY


def test_the_pose_to_hold_follows_a_limp_arm(rig):
    rig.driver.disable()
    rig.run(0.1)
    rig.driver._joints = shifted(1, 0.5)
    rig.run(2.0)
    np.testing.assert_allclose(rig.tick.command[JOINTS], shifted(1, 0.5)[JOINTS], atol=1e-3)


def test_a_held_gripper_does_not_let_go_of_what_it_carries(rig):
    closed = BOTH_HOME.copy()
    closed[GRIPPERS] = 0.02
    rig.send(closed, rows=60)
    rig.run(2.0)
    rig.driver.read = lambda: np.where(np.isin(np.arange(14), GRIPPERS), 0.04, rig.driver._joints).astype(np.float32)
    rig.loop.request_stop("test")
    rig.run(1.0)
    np.testing.assert_allclose(rig.tick.command[GRIPPERS], 0.02, atol=1e-6)


def test_a_stop_undoes_a_release_that_was_asked_for_before_it(rig):
    rig.loop.request_stop("test")
    rig.run()
    release, stop = rig.loop.request_release(), rig.loop.request_stop("test")
    rig.run()
    assert stop.result(0).success
    assert not release.result(0).success
    assert rig.tick.state is State.HELD


def test_a_stop_before_enabling_latches_too():
    rig = Rig()
    rig.loop.request_stop("test")
    assert rig.run().state is State.HELD
    assert rig.sent == [], "joints without torque are told nothing"
    assert not rig.ask(rig.loop.request_enable()).success
    assert rig.ask(rig.loop.request_release()).success
    rig.enable()


def test_a_new_process_finds_arms_that_hold_and_moves_nothing_until_told():
    rig = Rig()
    rig.driver.enable()
    assert rig.run(0.1).state is State.DISABLED
    assert rig.sent == []
    rig.enable()
    np.testing.assert_allclose(rig.sent, np.tile(BOTH_HOME, (len(rig.sent), 1)), atol=1e-6)


def test_a_stop_holds_arms_that_have_torque_from_an_earlier_process():
    rig = Rig()
    rig.driver.enable()
    rig.loop.request_stop("test")
    rig.run(0.5)
    np.testing.assert_allclose(rig.tick.command, BOTH_HOME, atol=1e-6)


def test_enabling_twice_and_releasing_what_is_not_held_do_no_harm(rig):
    assert rig.ask(rig.loop.request_enable()).success
    assert rig.ask(rig.loop.request_release()).success
    assert rig.tick.state is State.READY


def nan_chunk(rig):
    actions = np.full((5, 14), 0.5, np.float32)
    actions[2, 3] = np.nan
    return ActionChunk(actions=actions, period=0.04, stamp=rig.now)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("not_finite", nan_chunk),
        ("not_finite", lambda rig: rig.chunk(np.full(14, np.inf))),
        ("not_finite", lambda rig: rig.chunk(BOTH_HOME, age=np.nan)),
        ("malformed_chunk", lambda rig: rig.chunk(BOTH_HOME[:7])),
        ("malformed_chunk", lambda rig: rig.chunk(BOTH_HOME, rows=0)),
        ("malformed_chunk", lambda rig: rig.chunk(BOTH_HOME, rows=1001)),
        ("malformed_chunk", lambda rig: rig.chunk(BOTH_HOME, period=0.0)),
        ("malformed_chunk", lambda rig: rig.chunk(BOTH_HOME, period=-0.04)),
        ("malformed_chunk", lambda rig: rig.chunk(BOTH_HOME, period=np.nan)),
        ("malformed_chunk", lambda rig: rig.chunk(BOTH_HOME, period=10.0)),
        ("stale_chunk", lambda rig: rig.chunk(BOTH_HOME, age=1.1, rows=100)),
        ("stale_chunk", lambda rig: rig.chunk(BOTH_HOME, age=0.2, rows=5)),
        ("future_chunk", lambda rig: rig.chunk(BOTH_HOME, age=-0.1)),
    ],
)
def test_bad_chunks_are_refused_counted_and_named(rig, name, make):
    rig.run(2.0)
    rig.loop.submit(make(rig), rig.now)
    assert rig.run().state is State.READY
    assert rig.loop.refusals == {name: 1}
    assert rig.loop.last_refusal.startswith(name)


def test_a_message_that_is_no_chunk_is_counted(rig):
    rig.loop.refuse("/action_chunk lacks left_joint1", rig.now)
    rig.run()
    assert rig.loop.refusals == {"malformed_chunk": 1}
    assert "left_joint1" in rig.loop.last_refusal


def test_a_chunk_that_answers_what_was_seen_before_the_release_is_refused(rig):
    rig.run(1.0)
    old = rig.chunk(shifted())
    rig.run(0.1)
    rig.ask(rig.loop.request_stop("test"))
    rig.ask(rig.loop.request_release())
    rig.loop.submit(old, rig.now)
    assert rig.run().state is State.READY
    assert rig.loop.refusals == {"stale_chunk": 1}


def test_a_chunk_older_than_the_one_that_plays_is_refused(rig):
    rig.run(1.0)
    old = rig.chunk(shifted(0, -0.3))
    rig.run(0.1)
    rig.send(shifted(0, 0.3))
    rig.loop.submit(old, rig.now)
    rig.run()
    assert rig.loop.refusals == {"superseded_chunk": 1}


def test_colliding_arms_are_refused_and_the_robot_goes_on_when_the_target_is_clear(rig):
    crossed = BOTH_HOME.copy()
    crossed[0], crossed[7] = -np.pi / 2, np.pi / 2
    rig.send(crossed, rows=100)
    rig.run(1.5)
    assert rig.tick.state is State.MOVING
    assert "too_near" in rig.tick.reason
    assert rig.loop.refusals["too_near"] >= 1
    rig.send(BOTH_HOME, rows=100)
    rig.run(1.5)
    assert rig.tick.reason == ""
    np.testing.assert_allclose(rig.tick.command, BOTH_HOME, atol=1e-3)


class Stuck(FakeDriver):
    """Takes commands and does nothing."""

    def read(self):
        return BOTH_HOME.astype(np.float32)


def test_an_arm_that_ignores_its_commands_is_held():
    rig = Rig(Stuck).enable()
    for _ in range(100):
        rig.send(shifted(0, 2.0), rows=100)
        if rig.run(0.02).state is State.HELD:
            break
    assert "not_following" in rig.tick.reason
    assert "left_joint1" in rig.tick.reason
    assert np.abs(rig.tick.command - BOTH_HOME).max() < 1.2


def test_a_gripper_stopped_by_what_it_holds_is_no_fault():
    rig = Rig(Stuck).enable()
    closed = BOTH_HOME.copy()
    closed[GRIPPERS] = 0.0
    rig.send(closed, rows=100)
    assert rig.run(2.0).state is State.MOVING


@pytest.mark.parametrize("value", [np.nan, np.inf, 9.0])
def test_implausible_joints_hold_the_robot_where_it_was_seen_last(rig, value):
    moving(rig)
    good = rig.driver.read
    rig.driver.read = lambda: np.where(np.arange(14) == 3, value, good()).astype(np.float32)
    rig.run(1.0)
    assert "implausible_feedback" in rig.tick.reason
    assert "left_joint4" in rig.tick.reason
    assert np.isfinite(rig.sent).all()
    assert np.isfinite(rig.tick.measured).all()
    assert not rig.ask(rig.loop.request_release()).success


def test_an_error_in_the_driver_holds_the_robot_by_the_drivers_own_stop(rig):
    moving(rig)
    rig.driver.write = lambda command: 1 / 0
    rig.run()
    assert rig.tick.state is State.HELD
    assert "ZeroDivisionError" in rig.tick.reason
    assert rig.driver._is_stopped
    del rig.driver.write
    rig.run(0.1)
    target = rig.driver._target
    assert rig.ask(rig.loop.request_release()).success
    assert not rig.driver._is_stopped
    rig.run(0.1)
    np.testing.assert_allclose(rig.tick.command, rig.tick.measured, atol=1e-6)
    np.testing.assert_allclose(rig.tick.command, target, atol=1e-3)


def test_a_driver_that_cannot_even_be_read_is_survived(rig):
    rig.driver.read = rig.driver.stop = lambda: 1 / 0
    tick = rig.run(0.1)
    assert tick.state is State.HELD
    assert "internal_error" in tick.reason


def test_the_watchdogs_stop_holds_the_driver_and_latches_the_loop_when_it_runs_again(rig):
    moving(rig)
    rig.loop.stop_driver(Fault("loop_stalled", "for 0.3 s"))
    assert rig.driver._is_stopped
    assert rig.run().state is State.HELD
    before = rig.driver.read()
    rig.run(1.0)
    np.testing.assert_allclose(rig.driver.read(), before, atol=1e-3)
    assert rig.ask(rig.loop.request_release()).success
    np.testing.assert_allclose(rig.tick.command, before, atol=1e-3)


def test_a_loop_that_did_not_run_for_a_while_holds_the_robot(rig):
    moving(rig)
    rig.now += 0.3
    assert "loop_stalled" in rig.run().reason
    assert rig.tick.state is State.HELD


def test_a_loop_that_stood_still_is_named_before_what_nobody_listened_to_meanwhile(rig):
    moving(rig)
    rig.driver.injected = [Fault("bus_silent", "left arm")]
    rig.now += 0.3
    assert rig.run().reason.startswith("loop_stalled")


def test_arms_that_have_torque_already_hear_of_a_wish_for_it():
    rig = Rig()
    rig.driver.enable()
    wishes = []
    rig.driver.enable = lambda: wishes.append(rig.now)
    rig.enable()
    assert wishes


def test_late_ticks_make_the_robot_slower_never_faster(rig):
    rig.send(shifted(0, 1.0), rows=100)
    for _ in range(40):
        rig.now += 3 * PERIOD
        rig.run()
    sent = np.array(rig.sent)
    assert np.abs(np.diff(sent, 2, axis=0)[:, JOINTS]).max() / PERIOD**2 <= 5.0 + 1e-6


def test_a_robot_found_beyond_a_limit_comes_back_slowly():
    rig = Rig()
    rig.driver._joints = shifted(6, 0.005)  # the gripper is a little wider open than its stroke
    rig.enable()
    rig.send(BOTH_HOME)
    rig.run(1.0)
    sent = np.array(rig.sent)
    assert sent[0, 6] == pytest.approx(GRIPPER_STROKE + 0.005)
    assert np.abs(np.diff(sent[:, 6], 2)).max() / PERIOD**2 <= 1.0 + 1e-6


def test_ticks_are_never_changed_afterwards(rig):
    with pytest.raises(dataclasses.FrozenInstanceError):
        rig.tick.state = State.READY
    first = rig.tick.command.copy()
    kept = rig.tick.command
    moving(rig)
    np.testing.assert_array_equal(kept, first)

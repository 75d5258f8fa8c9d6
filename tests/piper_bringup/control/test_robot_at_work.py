"""The control loop on its thread, with the operator's side of it."""

import os
import threading
import time

import numpy as np
import pytest

from piper_bringup.control.loop import ControlConfig, ControlLoop
from piper_bringup.control.loop_thread import MonotonicClock
from piper_bringup.control.robot_at_work import RobotAtWork
from piper_bringup.control.robot_config import RobotConfig
from piper_bringup.control.stamps import Stamps
from piper_bringup.control.states import State
from piper_bringup.drivers.fake import FakeDriver
from piper_twin.robot import ARMS, DUAL_PIPER, HOME
from vla_policy.errors import VlaError
from vla_policy.scheduling import preferred_threads
from vla_policy.types import ActionChunk

BOTH_HOME = np.tile(HOME, len(ARMS))
ASIDE = BOTH_HOME + 0.5 * (np.arange(14) == 0)
EPOCH = 1.7e9


def wait_for(condition, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class HangingDriver(FakeDriver):
    """Its `write` can be made to wait for ever."""

    def __init__(self, *args):
        super().__init__(*args)
        self.let_go = threading.Event()
        self.let_go.set()

    def write(self, command):
        self.let_go.wait(20.0)
        super().write(command)


class Cell:
    """Robot at work, its ticks, and a clock of messages that can jump."""

    def __init__(self):
        self.ticks, self.jump = [], 0.0
        self.driver = HangingDriver(DUAL_PIPER)
        self.loop = ControlLoop(self.driver, DUAL_PIPER, config=ControlConfig(stall_timeout=1.0))
        stamps = Stamps(time.monotonic, self.message_time)
        self.robot = RobotAtWork(self.loop, self.driver, MonotonicClock(), stamps, self.ticks.append)

    def message_time(self):
        return time.monotonic() + EPOCH + self.jump

    @property
    def state(self):
        return self.ticks[-1].state if self.ticks else None

    def move(self):
        assert self.robot.enable().result(5.0).success
        rows = np.tile(ASIDE, (50, 1)).astype(np.float32)
        self.robot.submit(ActionChunk(actions=rows, period=0.04, stamp=self.message_time()))
        wait_for(lambda: self.state is State.MOVING)


@pytest.fixture
def cell():
    made = Cell()
    yield made
    made.driver.let_go.set()
    made.robot.close()


def test_a_chunk_stamped_by_the_other_clock_moves_the_robot(cell):
    cell.move()
    wait_for(lambda: abs(cell.driver.read()[0] - ASIDE[0]) < 0.01)


def test_a_ready_robot_goes_home_and_a_held_or_moving_one_does_not(cell):
    cell.move()
    assert "moving" in cell.robot.go_home().message
    wait_for(lambda: abs(cell.driver.read()[0] - ASIDE[0]) < 0.01)
    cell.robot.stop("the operator")
    assert "held" in cell.robot.go_home().message
    assert cell.robot.release().success
    wait_for(lambda: cell.state is State.READY)
    assert cell.robot.go_home().success
    wait_for(lambda: cell.robot.homing() is not None)
    assert cell.robot.homing().message == "at home"
    np.testing.assert_allclose(cell.driver.read(), np.tile(HOME, 2), atol=0.02)


def test_a_stop_ends_the_way_home(cell):
    cell.move()
    wait_for(lambda: abs(cell.driver.read()[0] - ASIDE[0]) < 0.01)
    cell.robot.stop("the operator")
    cell.robot.release()
    wait_for(lambda: cell.state is State.READY)
    assert cell.robot.go_home().success
    assert cell.robot.homing() is None
    cell.robot.stop("the operator")
    answer = cell.robot.homing()
    assert not answer.success
    assert "held" in answer.message


def test_stop_is_answered_by_the_loop_and_release_goes_on(cell):
    cell.move()
    answer = cell.robot.stop("the operator")
    assert answer.success
    assert "held" in answer.message
    assert cell.state is State.HELD
    assert cell.robot.release().success
    assert cell.state is State.READY


def test_stop_works_while_the_loop_hangs_in_its_driver(cell):
    cell.move()
    cell.driver.let_go.clear()
    answer = cell.robot.stop("the operator")
    assert answer.success
    assert "driver" in answer.message
    assert cell.driver._is_stopped
    assert not cell.robot.release().success
    held = cell.driver.read()
    cell.driver.let_go.set()
    wait_for(lambda: cell.state is State.HELD)
    time.sleep(0.1)
    np.testing.assert_allclose(cell.driver.read(), held, atol=0.01)
    assert cell.state is State.HELD, "the release that nobody waited for any more is not obeyed"


def test_the_watchdog_stops_the_driver_of_a_loop_that_hangs(cell):
    cell.move()
    cell.driver.let_go.clear()
    wait_for(lambda: cell.driver._is_stopped)
    cell.driver.let_go.set()
    wait_for(lambda: cell.state is State.HELD)
    assert "loop_stalled" in cell.ticks[-1].reason


def test_a_clock_that_jumps_holds_the_robot_and_chunks_are_timed_by_the_new_one_after_the_release(cell):
    cell.move()
    cell.robot.compare_clocks()
    assert cell.state is State.MOVING
    cell.jump = -30.0
    cell.robot.compare_clocks()
    wait_for(lambda: cell.state is State.HELD)
    assert "clock_jump: by -30.0" in cell.ticks[-1].reason
    assert cell.robot.release().success
    time.sleep(0.01)
    rows = np.tile(ASIDE, (50, 1)).astype(np.float32)
    cell.robot.submit(ActionChunk(actions=rows, period=0.04, stamp=cell.message_time()))
    wait_for(lambda: cell.state is State.MOVING)


def test_the_end_brings_the_arms_to_rest_with_torque(cell):
    cell.move()
    wait_for(lambda: cell.driver.read()[0] > 0.1)
    assert "keep their torque" in cell.robot.close()
    last = cell.ticks[-1].command
    np.testing.assert_allclose(last, cell.driver.read(), atol=0.01)
    assert cell.driver.enabled()
    np.testing.assert_allclose(cell.ticks[-3].command, last, atol=1e-4)  # 10 ms: hardly moves any more


def test_the_end_of_a_robot_that_was_never_enabled_sends_nothing(cell):
    assert "no torque" in cell.robot.close()
    assert all(tick.command is None for tick in cell.ticks)


def test_the_status_tells_state_faults_punctuality_and_refusals(cell):
    cell.move()
    cell.robot.refuse("no names")
    wait_for(lambda: cell.loop.refusals)
    (problem, note, values), stamp = cell.robot.status()
    assert (problem, note) == (None, None)
    assert values["state"] == "moving"
    assert values["refusals"] == values["refused_malformed_chunk"] == 1
    assert values["driver"] == "fake"
    assert values["ticks"] > 0
    assert {"jitter_p50_ms", "jitter_p99_ms", "jitter_p999_ms", "overruns"} <= values.keys()
    assert stamp == pytest.approx(cell.message_time(), abs=5.0)
    cell.robot.stop("the operator")
    (problem, _, values), _ = cell.robot.status()
    assert "by the operator" in problem
    assert values["reason"] == problem


def test_stamps_follow_a_slow_drift_and_tell_a_jump():
    now, message = [0.0], [1000.0]
    stamps = Stamps(lambda: now[0], lambda: message[0])
    for _ in range(500):
        now[0], message[0] = now[0] + 0.05, message[0] + 0.05 * (1 + 1e-4)
        assert stamps.compare() is None
    assert stamps.to_loop(message[0]) == pytest.approx(now[0], abs=5e-3)
    message[0] += 2.0
    assert stamps.compare() == pytest.approx(2.0, abs=0.01)
    assert stamps.to_message(now[0]) == pytest.approx(message[0])


def test_a_comparison_that_was_interrupted_counts_for_nothing():
    times = iter([0.0, 0.0, 1.0])
    stamps = Stamps(lambda: next(times), lambda: 50.0)
    assert stamps.compare() is None


def test_arms_are_slow_and_careful_unless_told_otherwise_and_simulations_are_not():
    arms, twin = RobotConfig(driver="piper"), RobotConfig(driver="twin")
    assert (arms.speed, twin.speed, RobotConfig(driver="piper", speed_percent=80).speed) == (30, 100, 80)
    assert (arms.priority, twin.priority, RobotConfig(driver="twin", realtime_priority=5).priority) == (20, 0, 5)
    assert twin.limited(DUAL_PIPER) == DUAL_PIPER
    joint, gripper = arms.limited(DUAL_PIPER).joints[1], arms.limited(DUAL_PIPER).joints[6]
    assert joint.max_velocity == pytest.approx(0.9)
    assert (joint.lower, joint.upper) == pytest.approx((0.005, np.pi - 0.005))
    assert gripper == DUAL_PIPER.joints[6]


@pytest.mark.parametrize("config", [{"speed_percent": 0}, {"speed_percent": 101}, {"realtime_priority": 90}])
def test_what_is_no_percentage_or_priority_is_refused(config):
    with pytest.raises(VlaError, match="must be"):
        RobotConfig(**config)


def test_only_threads_that_are_started_meanwhile_are_preferred():
    before, seen = os.sched_getscheduler(0), []
    with preferred_threads(3):
        expected = os.sched_getscheduler(0)
        thread = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(0)))
        thread.start()
        thread.join()
    assert seen == [expected]
    assert os.sched_getscheduler(0) == before

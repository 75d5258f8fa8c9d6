"""The twin as a robot: it moves by the control loop's commands only, and a reset takes its torque."""

import threading
import time

import numpy as np
import pytest

from piper_bringup.control.loop import PERIOD, ControlLoop
from piper_bringup.control.loop_thread import LoopThread, MonotonicClock
from piper_bringup.control.states import Answer
from piper_bringup.drivers.twin import TwinDriver
from piper_bringup.live_world import LiveWorld
from piper_bringup.pacing import WorldClock, keep_real_time
from piper_twin.episode import Episode
from piper_twin.expert import commands
from piper_twin.robot import CONTROL_PERIOD, DUAL_PIPER, HOME
from piper_twin.task import Readings
from vla_policy.types import ActionChunk

BOTH_HOME = np.tile(HOME, 2)
ASIDE = BOTH_HOME + np.eye(14)[0] * 0.2


@pytest.fixture
def world():
    world = LiveWorld("click_bell", 0)
    yield world
    world.close()


@pytest.fixture
def driver(world):
    return TwinDriver(world)


def names(driver):
    return [fault.name for fault in driver.faults(0.0)]


def test_arms_without_torque_stay_where_they_are(world, driver):
    driver.write(ASIDE)
    world.advance(0.4)
    np.testing.assert_allclose(driver.read(), BOTH_HOME, atol=1e-3)
    assert not driver.enabled()
    assert names(driver) == ["joint_disabled"]


def test_enabled_arms_go_where_they_are_sent(world, driver):
    driver.enable()
    assert driver.enabled()
    assert driver.faults(0.0) == driver.checks() == []
    driver.write(ASIDE)
    world.advance(0.8)
    np.testing.assert_allclose(driver.read(), ASIDE, atol=5e-3)


def test_a_stop_holds_the_measured_pose_whatever_is_written_until_the_driver_resumes(world, driver):
    driver.enable()
    driver.write(ASIDE)
    world.advance(0.1)
    driver.stop()
    stopped = driver.read()
    assert 0.01 < stopped[0] < 0.19
    driver.write(ASIDE)
    world.advance(0.8)
    np.testing.assert_allclose(driver.read()[0], stopped[0], atol=0.02)
    assert driver.enabled(), "a stop takes no torque"
    driver.resume()
    driver.write(ASIDE)
    world.advance(0.8)
    np.testing.assert_allclose(driver.read(), ASIDE, atol=5e-3)


def test_after_a_reset_what_is_still_sent_moves_nothing_until_the_arms_are_enabled_again(world, driver):
    driver.enable()
    driver.write(ASIDE)
    world.advance(0.4)
    world.reset(Episode("pick_bottle", 1))
    assert not driver.enabled()
    assert names(driver) == ["world_reset"]
    driver.write(ASIDE)
    world.advance(0.4)
    np.testing.assert_allclose(driver.read(), BOTH_HOME, atol=1e-3)
    driver.enable()
    assert names(driver) == []


def test_a_reset_comes_back_once_the_loop_has_finished_the_turn_in_which_it_saw_it(world, driver):
    driver.enable()
    ended = threading.Event()
    finished = []

    def loop():
        while not ended.is_set():
            seen = names(driver)
            time.sleep(0.005)
            finished.append(seen)

    thread = threading.Thread(target=loop)
    thread.start()
    world.reset(Episode("click_bell", 1))
    assert ["world_reset"] in finished
    ended.set()
    thread.join()


def test_a_world_that_broke_down_is_a_fault(world, driver):
    driver.enable()
    world.moment.world.model.opt.gravity[:] = np.nan
    world.advance(0.1)
    assert [str(fault) for fault in driver.faults(0.0)] == [
        "world_broken: click_bell, seed 0; reset the world (/world/reset), release, enable again"
    ]


def run_loop(world, driver, plan):
    """The control loop in simulated time, sent a plan in chunks of 8 rows as a policy would."""
    clock, loop = WorldClock(world), ControlLoop(driver, DUAL_PIPER)
    enabled = loop.request_enable()
    instants = clock.now() + np.arange(1, 2000) * PERIOD
    begin = instants[4]
    rows = iter(range(0, len(plan), 8))
    due = begin
    for instant in instants:
        clock.wait_until(instant)
        if enabled.done() and instant >= due and (row := next(rows, None)) is not None:
            actions = plan[row : row + 16].astype(np.float32)
            loop.submit(ActionChunk(actions=actions, period=CONTROL_PERIOD, stamp=due), clock.now())
            due += 8 * CONTROL_PERIOD
        loop.tick(clock.now())
        if world.solved():
            return


@pytest.mark.parametrize("task", ["click_bell", "pick_bottle"])
def test_what_solves_a_task_in_a_batch_solves_it_through_the_control_loop(world, driver, task):
    world.reset(Episode(task, 1))
    begin = world.moment.world
    readings = Readings(begin.compiled.layout, begin.start)
    run_loop(world, driver, commands(begin.compiled.task.plan(readings), begin.command))
    assert world.solved()


def test_after_a_reset_the_loop_is_released_and_enabled_and_holds_the_new_start(world, driver):
    loop = ControlLoop(driver, DUAL_PIPER)
    thread = LoopThread(loop.tick, PERIOD, MonotonicClock())
    thread.start()
    physics = keep_real_time(world)
    assert loop.request_enable().result(5.0).success
    driver.write(ASIDE)  # as if it stood elsewhere
    world.reset(Episode("pick_bottle", 0))
    assert loop.request_release().result(5.0) == Answer(True, "released, disabled")
    assert loop.request_enable().result(5.0).success
    np.testing.assert_allclose(driver.read(), BOTH_HOME, atol=5e-3)
    thread.stop()
    physics.close()

"""The twin as a robot: it moves by the control loop's commands only, and a reset takes its torque."""

import threading
import time

import numpy as np
import pytest

from piper_bringup.drivers.twin import TwinDriver
from piper_bringup.live_world import LiveWorld
from piper_twin.episode import Episode
from piper_twin.robot import HOME

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

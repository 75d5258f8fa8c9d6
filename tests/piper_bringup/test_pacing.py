"""Deadlines do not drift, and simulated time goes where a loop waits for it."""

import threading
import time

import pytest

from piper_bringup.live_world import LiveWorld
from piper_bringup.pacing import Deadlines, Periodic, WorldClock, keep_real_time


@pytest.fixture
def world():
    world = LiveWorld("click_bell", 0)
    yield world
    world.close()


def wait_for(condition, patience=60.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def test_deadlines_stay_on_their_raster_when_one_is_met_late():
    deadlines = Deadlines(10.0, 0.1)
    for met in (10.0, 10.13, 10.2):
        deadlines.passed(met)
    assert deadlines.next == pytest.approx(10.3)
    assert deadlines.skipped == 0


@pytest.mark.parametrize(("patience", "upcoming", "skipped"), [(0.0, 10.5, 4), (1.0, 10.1, 0), (0.2, 10.5, 4)])
def test_what_is_missed_is_made_up_for_within_the_patience_and_left_out_beyond(patience, upcoming, skipped):
    deadlines = Deadlines(10.0, 0.1, patience)
    deadlines.passed(10.45)
    assert deadlines.next == pytest.approx(upcoming)
    assert deadlines.skipped == skipped


def test_periodic_work_goes_on_until_it_is_ended():
    calls = []
    periodic = Periodic("test", 0.001, lambda: calls.append(threading.current_thread().name))
    wait_for(lambda: len(calls) >= 5)
    periodic.close()
    count = len(calls)
    assert set(calls) == {"test"}
    time.sleep(0.01)
    assert len(calls) == count
    assert periodic.error is None


def test_work_that_fails_is_told_and_not_repeated():
    calls = []

    def fail():
        calls.append(1)
        raise ValueError("broken")

    periodic = Periodic("test", 0.001, fail)
    wait_for(lambda: periodic.error is not None)
    periodic.close()
    assert str(periodic.error) == "broken"
    assert len(calls) == 1


def test_periodic_work_may_end_itself():
    ended = threading.Event()
    holder = []

    def work():
        wait_for(lambda: holder)
        holder[0].close()
        ended.set()

    holder.append(Periodic("test", 0.001, work))
    assert ended.wait(5.0)
    holder[0].close()


def test_a_world_in_real_time_never_runs_ahead(world):
    begin = time.monotonic()
    pace = keep_real_time(world)
    wait_for(lambda: world.time > 0.05)
    pace.close()
    assert world.time <= time.monotonic() - begin + 0.005


def test_waiting_for_an_instant_lets_the_world_go_there_and_no_farther_than_a_step(world):
    clock = WorldClock(world)
    for tick in range(1, 41):
        clock.wait_until(tick * 0.005)
        assert tick * 0.005 - 1e-9 <= clock.now() < tick * 0.005 + 0.004
    assert world.time == pytest.approx(0.2)


def test_chores_are_done_at_their_simulated_time_whatever_one_waits_for(world):
    clock = WorldClock(world)
    done = []
    clock.every("cameras", 0.04, lambda: done.append(round(world.time, 3)))
    clock.wait_until(0.03)
    assert done == []
    clock.wait_until(0.2)
    assert done == [0.04, 0.08, 0.12, 0.16, 0.2]


def test_a_chore_that_fails_is_told_and_left_out_and_the_clock_goes_on(world):
    clock = WorldClock(world)

    def fail():
        raise ValueError("no OpenGL")

    chore = clock.every("cameras", 0.04, fail)
    clock.wait_until(0.2)
    assert (str(chore.error), world.time) == ("no OpenGL", pytest.approx(0.2))


def test_a_world_goes_no_faster_than_it_is_allowed_to(world):
    clock = WorldClock(world, speed=4.0)
    begin = time.monotonic()
    clock.wait_until(0.2)
    assert time.monotonic() - begin >= 0.05

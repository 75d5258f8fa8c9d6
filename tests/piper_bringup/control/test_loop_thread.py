"""Turns at a fixed rate, on a clock of the tests' own and, briefly, on the computer's."""

import threading
import time

import pytest

from piper_bringup.control.loop_thread import LoopThread, MonotonicClock
from piper_bringup.control.watchdog import Watchdog


class Script:
    """A clock that only passes while somebody waits or works; ends the thread after some time."""

    def __init__(self, work, until):
        self.time, self.work, self.until = 0.0, list(work), until
        self.turns = []
        self.thread = LoopThread(self.turn, 1.0, self)

    def now(self):
        return self.time

    def wait_until(self, instant):
        self.time = max(self.time, instant)

    def turn(self, now):
        self.turns.append(now)
        self.time += self.work.pop(0) if self.work else 0.0
        if self.time >= self.until:
            self.thread._ended.set()

    def play(self):
        self.thread.start()
        self.thread._thread.join(5.0)
        assert not self.thread.is_alive
        return self.turns


def test_turns_come_at_absolute_times_however_long_they_take():
    script = Script(work=[0.4, 0.3, 0.45], until=5.0)
    assert script.play() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert script.thread.punctuality().num_overruns == 0


def test_missed_turns_are_counted_and_left_out():
    script = Script(work=[2.6], until=6.0)
    assert script.play() == [1.0, 4.0, 5.0, 6.0]
    assert script.thread.punctuality().num_overruns == 2


def test_a_late_turn_is_not_followed_by_one_that_comes_too_soon():
    class Late(Script):
        def wait_until(self, instant):
            super().wait_until(instant + 0.7 * (instant == 2.0))

    script = Late(work=[], until=5.0)
    assert script.play() == [1.0, 2.7, 4.0, 5.0]
    figures = script.thread.punctuality()
    assert (figures.num_overruns, figures.num_turns) == (1, 4)
    assert figures.late_max == pytest.approx(0.7)
    assert figures.late_p50 == 0.0


def test_the_computers_clock_waits_until_then_and_not_when_it_has_passed():
    clock = MonotonicClock()
    begin = clock.now()
    clock.wait_until(begin + 0.01)
    assert clock.now() >= begin + 0.01
    clock.wait_until(begin)


def test_a_thread_that_may_not_be_preferred_runs_all_the_same():
    turned = threading.Event()
    thread = LoopThread(lambda now: turned.set(), 0.001, priority=1)
    thread.start()
    assert turned.wait(5.0)
    thread.stop()
    assert not thread.is_alive


def wait_for(condition):
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_watchdog_calls_once_for_every_silence():
    now, beat, calls = [0.0], [0.0], []
    watchdog = Watchdog(lambda: beat[0], calls.append, 0.02, clock=lambda: now[0])
    watchdog.start()
    now[0] = 0.03
    wait_for(lambda: calls)
    time.sleep(0.02)
    assert calls == [0.03]
    beat[0] = now[0] = 1.0
    time.sleep(0.02)
    now[0] = 1.5
    wait_for(lambda: len(calls) > 1)
    assert calls == [0.03, 0.5]
    watchdog.stop()

"""Priorities of threads, as far as this computer permits them."""

import os
import threading

import numpy as np
import pytest

from vla_policy import scheduling
from vla_policy.baselines import HoldPolicy
from vla_policy.errors import VlaError
from vla_policy.scheduling import Unhurried, ordinary_thread, prefer_this_process, prefer_this_thread
from vla_policy.serving_config import ServingConfig


def in_a_thread(work):
    """What `work` returns on a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def asked(monkeypatch):
    """Scheduler of every thread that was asked for, by thread; nothing is really changed."""
    now = {}
    monkeypatch.setattr(
        os,
        "sched_setscheduler",
        lambda thread, kind, parameter: now.__setitem__(thread, (kind, parameter.sched_priority)),
    )
    monkeypatch.setattr(os, "sched_getscheduler", lambda thread: now.get(thread, (os.SCHED_OTHER, 0))[0])
    monkeypatch.setattr(os, "sched_getparam", lambda thread: os.sched_param(now.get(thread, (0, 0))[1]))
    return now


def test_every_thread_of_the_process_is_preferred(asked):
    beside = threading.Event()
    thread = threading.Thread(target=beside.wait)
    thread.start()
    assert prefer_this_process(10)
    beside.set()
    thread.join()
    assert {os.getpid(), thread.native_id} <= asked.keys()
    assert set(asked.values()) == {(os.SCHED_FIFO, 10)}


def test_threads_that_are_preferred_more_stay_so(asked):
    asked[os.getpid()] = os.SCHED_FIFO, 30
    prefer_this_process(20)
    assert asked[os.getpid()] == (os.SCHED_FIFO, 30)


def test_priority_0_changes_nothing(asked):
    assert not prefer_this_process(0) and not prefer_this_thread(0)
    assert not asked


def test_where_it_is_not_permitted_threads_stay_as_they_are(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert not prefer_this_process(10) and not prefer_this_thread(10)


def test_a_preferred_thread_thinks_as_an_ordinary_one(asked, robot, observe):
    class Curious(HoldPolicy):
        def infer(self, observations):
            self.scheduler = asked[0]
            return super().infer(observations)

    policy = Curious(robot)
    prefer_this_thread(10)
    (chunk,) = Unhurried(policy).infer(observe(1))
    assert np.isfinite(chunk.actions).all()
    assert policy.scheduler == (os.SCHED_OTHER, 0) and asked[0] == (os.SCHED_FIFO, 10)


def test_an_ordinary_thread_stays_one(asked):
    with ordinary_thread():
        assert not asked
    assert not asked


def test_a_preferred_thread_is_preferred_where_the_system_permits_it():
    def tried():
        permitted = prefer_this_thread(scheduling.MAX_PRIORITY + 1)
        return permitted, os.sched_getscheduler(0), os.sched_getparam(0).sched_priority

    permitted, kind, priority = in_a_thread(tried)
    assert (kind, priority) == ((os.SCHED_FIFO, 99) if permitted else (os.SCHED_OTHER, 0))


def test_a_priority_that_cannot_be_is_refused():
    with pytest.raises(VlaError, match="realtime_priority is 90"):
        ServingConfig(realtime_priority=90)

"""The thread steps the server, sleeps when there is nothing to do, and ends when told."""

import threading

import numpy as np
import pytest

from vla_policy.baselines import HoldPolicy
from vla_policy.serving import PolicyServer
from vla_policy.serving_config import ServingConfig
from vla_policy.serving_thread import ServingThread

SOON = 10.0


class Now:
    """A clock that stands still."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Now()


@pytest.fixture
def begin(robot, clock):
    """Start a thread on a policy; what it publishes sets the event."""
    threads = []

    def make(policy, warm_up=lambda: None):
        answered = threading.Event()
        config = ServingConfig(instruction="wait", autostart=True)
        server = PolicyServer(policy, robot, config, lambda chunk, is_proposal: answered.set(), clock)
        threads.append(ServingThread(server, warm_up))
        return server, threads[-1], answered

    yield make
    for thread in threads:
        thread.close()


def sense(server, robot, stamp):
    server.feel(np.zeros(3, np.float32), stamp)
    for camera in robot.camera_names:
        server.see(camera, np.zeros((16, 16, 3), np.uint8), stamp)


def test_an_observation_is_answered_by_another_thread(begin, robot, clock):
    class Curious(HoldPolicy):
        def infer(self, observations):
            self.thread = threading.current_thread()
            return super().infer(observations)

    policy = Curious(robot)
    server, thread, answered = begin(policy)
    sense(server, robot, clock.now)
    assert answered.wait(SOON)
    assert policy.thread.name == "policy" and policy.thread is not threading.current_thread()
    thread.check()


def test_callbacks_are_served_while_the_policy_thinks(begin, robot, clock):
    class Slow(HoldPolicy):
        thinks, may_end = threading.Event(), threading.Event()

        def infer(self, observations):
            self.thinks.set()
            self.may_end.wait(SOON)
            return super().infer(observations)

    server, _, answered = begin(Slow(robot))
    sense(server, robot, clock.now)
    assert Slow.thinks.wait(SOON)
    sense(server, robot, clock.now)
    assert server.status().values["chunks"] == 0
    server.run(False)
    Slow.may_end.set()
    assert not answered.wait(0.05)


def test_the_warm_up_comes_first_on_the_same_thread(begin, robot, clock):
    names = []
    server, thread, answered = begin(HoldPolicy(robot), lambda: names.append(threading.current_thread().name))
    assert thread.is_warm.wait(SOON)
    sense(server, robot, clock.now)
    assert answered.wait(SOON)
    assert names == ["policy"]
    assert server.status().values["latency_count"] == 1


def test_a_policy_that_breaks_down_is_reported(begin, robot, clock):
    class Broken:
        asked = threading.Event()

        def infer(self, observations):
            self.asked.set()
            raise ZeroDivisionError("no weights")

    server, thread, _ = begin(Broken())
    sense(server, robot, clock.now)
    assert Broken.asked.wait(SOON)
    thread.close()
    with pytest.raises(RuntimeError, match="the policy failed: no weights"):
        thread.check()


def test_closing_ends_the_thread_while_it_sleeps(begin, robot):
    _, thread, _ = begin(HoldPolicy(robot))
    thread.close()
    assert "policy" not in {running.name for running in threading.enumerate()}

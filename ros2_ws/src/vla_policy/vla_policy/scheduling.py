"""Which threads the operating system prefers.

Python runs one thread at a time: a thread that is waited for must not be kept waiting itself by other programs. So all
threads of the robot's process are preferred, the control thread most; and below them those of the policy's process,
but for the network, which would keep the cameras waiting. Cameras stand between the two: a policy that wakes up for the
first of three images must not keep their sender from sending the others.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Sequence

from vla_policy.types import ActionChunk, Observation, Policy

CONTROL_BONUS = 10
"""By this the control thread is above the others of its process."""
CAMERA_PRIORITY = 12
"""Of processes that send images: above the policy's 10, below the robot's 20."""
MAX_PRIORITY = 99
SWITCH_INTERVAL = 0.0005
"""How long one thread may keep another of its process from running Python [s]; Python's default are 5 ms."""


def take_short_turns() -> None:
    """Let the threads of this process run Python in turns of `SWITCH_INTERVAL`."""
    sys.setswitchinterval(SWITCH_INTERVAL)


def prefer_this_thread(priority: int) -> bool:
    """Run the calling thread under SCHED_FIFO, and those it starts.

    Args:
        priority: 1 to 99; more is cut to that, 0 changes nothing.

    Returns:
        Whether the system permits it (`ulimit -r`, docs/hardware.md).
    """
    if priority == 0:
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(min(priority, MAX_PRIORITY)))  # 0: this thread
    except PermissionError:
        return False
    return True


def prefer_this_process(priority: int) -> bool:
    """The same for every thread that runs already and is not preferred yet, and for those they start.

    Those of Fast DDS are among them: publishing waits for their locks, and keeps the interpreter to itself meanwhile.
    """
    if priority == 0:
        return False
    parameter = os.sched_param(min(priority, MAX_PRIORITY))
    for thread in os.listdir("/proc/self/task"):
        try:
            if os.sched_getscheduler(int(thread)) == os.SCHED_OTHER:
                os.sched_setscheduler(int(thread), os.SCHED_FIFO, parameter)
        except ProcessLookupError:  # it has just ended
            continue
        except PermissionError:
            return False
    return True


@contextlib.contextmanager
def preferred_threads(priority: int) -> Generator[None, None, None]:
    """Threads that are started meanwhile are preferred; the calling one is as before afterwards."""
    policy, before = os.sched_getscheduler(0), os.sched_getparam(0)
    prefer_this_thread(priority)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, before)


@contextlib.contextmanager
def ordinary_thread() -> Generator[None, None, None]:
    """The calling thread is like any other meanwhile."""
    policy, before = os.sched_getscheduler(0), os.sched_getparam(0)
    if policy == os.SCHED_OTHER:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, before)


class Unhurried:
    """A policy that is asked by a preferred thread, and thinks as an ordinary one."""

    def __init__(self, policy: Policy) -> None:
        """Wrap `policy`."""
        self._policy = policy

    def infer(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """What `policy` says."""
        with ordinary_thread():
            return self._policy.infer(observations)

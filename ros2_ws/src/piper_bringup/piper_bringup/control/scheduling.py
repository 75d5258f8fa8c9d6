"""Which threads the operating system prefers.

Python runs one thread at a time: a thread that is waited for must not be kept waiting itself by other programs, so all
threads of the robot's process are preferred, the control thread most.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator

CONTROL_BONUS = 10
"""By this the control thread is above the others of its process."""
MAX_PRIORITY = 99


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


@contextlib.contextmanager
def preferred_threads(priority: int) -> Generator[None, None, None]:
    """Threads that are started meanwhile are preferred; the calling one is as before afterwards."""
    policy, before = os.sched_getscheduler(0), os.sched_getparam(0)
    prefer_this_thread(priority)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, before)

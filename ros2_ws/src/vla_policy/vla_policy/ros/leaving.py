"""Leaving a ROS graph, which must not take for ever.

Fast DDS 2.14 as it comes from PyPI does not return from taking down a participant while it hears of endpoints that come
or go: there it waits until the end of time, which overflows where glibc had no pthread_cond_clockwait yet (manylinux),
and it holds the interpreter meanwhile, so that no Python thread can interfere.
"""

from __future__ import annotations

import signal
import time

from rclpy.node import Node

QUIET = 0.3
"""What others' leaving sets off has ended by then [s]."""
PATIENCE = 15.0
"""Longest time that a node's end may take [s]: a recorder closes its bag, a robot brings its arms to rest."""


def leave(*nodes: Node, quiet: float = QUIET) -> None:
    """Destroy nodes, the last thing this process does in a graph.

    Waits a moment first: processes that were ended just before have been heard of by then. Should it hang all the same,
    SIGALRM ends the process after `PATIENCE`, without a word.

    Args:
        nodes: Not spun any more.
        quiet: How long to wait [s].
    """
    time.sleep(quiet)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    for node in nodes:
        node.destroy_node()
    signal.setitimer(signal.ITIMER_REAL, 0.0)

"""A node that cannot be destroyed ends with its process instead of staying for ever."""

import signal
import subprocess
import sys

import pytest

from vla_policy.ros.leaving import leave

pytestmark = pytest.mark.ros

STUCK = """
import time
from vla_policy.ros import leaving

class Stuck:
    def destroy_node(self):
        time.sleep(60.0)

leaving.PATIENCE = 0.2
leaving.leave(Stuck(), quiet=0.0)
"""


class Node:
    destroyed = False

    def destroy_node(self):
        self.destroyed = True
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0.0


def test_nodes_are_destroyed_and_the_alarm_is_off_again():
    nodes = [Node(), Node()]
    leave(*nodes, quiet=0.0)
    assert all(node.destroyed for node in nodes)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_node_that_hangs_takes_the_process_with_it():
    assert subprocess.run([sys.executable, "-c", STUCK], timeout=30.0).returncode == -signal.SIGALRM

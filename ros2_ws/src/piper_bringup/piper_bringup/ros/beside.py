"""A second node in a process, on a thread of its own: what it takes long for does not delay the first."""

# pyright: basic
# ROS has no types.

from __future__ import annotations

import contextlib
import threading

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

from vla_policy.ros.leaving import leave


class Beside:
    """Spins a node until closed."""

    def __init__(self, node: Node) -> None:
        """Begin at once."""
        self._node = node
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._stopped = Future()
        self._thread = threading.Thread(target=self._spin, name=node.get_name(), daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin_until_future_complete(self._stopped)

    def stop(self) -> None:
        """End the thread; the node stays.

        The executor is shut down after it has come to rest: Jazzy's `Executor.shutdown` waits for nothing and takes
        from a spinning thread what it waits with, which sometimes ends in an exception there.
        """
        self._stopped.set_result(None)
        self._thread.join()
        self._executor.shutdown()

    def close(self, quiet: float = 0.0) -> None:
        """End the thread, then the node; `quiet` as in `leave`, for the last node of a process."""
        self.stop()
        leave(self._node, quiet=quiet)

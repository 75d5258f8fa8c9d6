"""A second node in a process, on a thread of its own: what it takes long for does not delay the first."""

# pyright: basic
# ROS has no types.

from __future__ import annotations

import contextlib
import threading

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from vla_policy.ros.leaving import leave


class Beside:
    """Spins a node until closed."""

    def __init__(self, node: Node) -> None:
        """Begin at once."""
        self._node = node
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name=node.get_name(), daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def close(self, quiet: float = 0.0) -> None:
        """End the thread, then the node; `quiet` as in `leave`, for the last node of a process."""
        self._executor.shutdown()
        self._thread.join()
        leave(self._node, quiet=quiet)

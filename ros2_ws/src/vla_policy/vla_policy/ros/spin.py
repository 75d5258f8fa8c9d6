"""Starting and ending a node, the same for all of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import rclpy
import rclpy.utilities
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from vla_policy.errors import VlaError
from vla_policy.ros.leaving import leave

FASTDDS_PROFILE = Path(__file__).with_name("fastdds.xml")


def prepare_environment() -> None:
    """Set what Fast DDS reads before its first participant, unless the user has: large images, and this host only."""
    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):  # Jazzy's name, Kilted's
        os.environ.setdefault(variable, str(FASTDDS_PROFILE))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def run_node(make: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Spin the node that `make` returns until it is told to end.

    One thread takes all messages in: several lose images (`MultiThreadedExecutor`, 6 of 7 runs measured). What takes
    time belongs on a thread of the node's core.

    Args:
        make: Called once ROS is up; what takes long (weights, a model) is better loaded before.
        args: Command line; the process's own by default.

    Returns:
        The exit code; an error of ours is printed as one line.
    """
    prepare_environment()
    rclpy.init(args=None if args is None else list(args))
    node: Node | None = None
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except VlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception:
        if (
            rclpy.utilities.ok()
        ):  # otherwise SIGTERM shut ROS down between two steps of the executor, and it says so in many ways
            raise
    finally:
        # `ros2 launch` sends SIGINT twice; the second must not end the destruction half way.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            leave(node, quiet=0.0)
        rclpy.utilities.try_shutdown()
    return 0

"""Is the robot's process alive? Ends with 0 when its measured joints go on coming, otherwise with 1 and the reason.

    python -m piper_bringup.ros.health --within 5

For health checks of containers and services. It says nothing of cameras, policy or faults: those are on /diagnostics,
and a held robot is a healthy one.
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import rclpy
import rclpy.utilities
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState

from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.ros import qos
from vla_policy.ros.leaving import leave
from vla_policy.ros.spin import prepare_environment


class Witness(Node):
    """Counts new joint states of the robot that the graph is for."""

    def __init__(self) -> None:
        super().__init__("health", enable_rosout=False, start_parameter_services=False)
        self.num_new = 0
        self._newest = (0, -1)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, qos.NEWEST)

    def _on_joints(self, message: JointState) -> None:
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        names = [joint.name for joint in DUAL_PIPER.joints]
        if list(message.name) == names and stamp > self._newest:
            self._newest = stamp
            self.num_new += 1


def verdict(within: float) -> str | None:
    """Wait for two new joint states for at most `within` [s]; None when they came, else what is wrong."""
    node = Witness()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    deadline = time.monotonic() + within
    while node.num_new < 2 and (left := deadline - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left)
    num_new = node.num_new
    executor.shutdown()
    leave(node)
    if num_new >= 2:
        return None
    seen = "none" if num_new == 0 else "one, and no newer one"
    return (
        f"of two new messages on {topics.JOINT_STATES} within {within:g} s there came {seen}: look whether robot_node "
        "runs, and whether ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE are those of its process"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Print one line and return the exit code."""
    parser = argparse.ArgumentParser(description="Is the robot's process alive?")
    parser.add_argument("--within", type=float, default=5.0, help="how long to wait [s]")
    within: float = parser.parse_args(words).within
    prepare_environment()
    rclpy.init(args=[])
    try:
        wrong = verdict(within)
    finally:
        rclpy.utilities.try_shutdown()
    if wrong:
        print(f"unhealthy: {wrong}", file=sys.stderr)
        return 1
    print(f"healthy: {topics.JOINT_STATES} goes on")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

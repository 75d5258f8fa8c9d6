"""The health check, as a container runs it: a process of its own beside the graph."""

import subprocess
import sys
import threading
import time

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState

from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.ros import qos

pytestmark = pytest.mark.ros

NAMES = [joint.name for joint in DUAL_PIPER.joints]


def check(within: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "piper_bringup.ros.health", "--within", str(within)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


class Publisher:
    """Joint states at 50 Hz from a thread, with names and stamps of one's choice."""

    def __init__(self, names: list[str], goes_on: bool = True):
        self._names, self._goes_on = names, goes_on
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = Node("robot", context=self._context)
        self._publisher = self._node.create_publisher(JointState, topics.JOINT_STATES, qos.FAST_STREAM)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        first = self._node.get_clock().now().to_msg()
        while not self._end.wait(0.02):
            message = JointState(name=self._names, position=[0.0] * len(self._names))
            message.header.stamp = self._node.get_clock().now().to_msg() if self._goes_on else first
            self._publisher.publish(message)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        self._node.destroy_node()
        self._context.try_shutdown()


@pytest.mark.usefixtures("ros_domain")
def test_a_graph_whose_joints_go_on_is_healthy_long_before_the_deadline():
    with Publisher(NAMES):
        started = time.monotonic()
        result = check(within=20.0)
    assert result.returncode == 0, result.stderr
    assert "healthy" in result.stdout
    assert time.monotonic() - started < 20.0


@pytest.mark.usefixtures("ros_domain")
def test_no_graph_is_unhealthy_and_the_reason_says_where_to_look():
    result = check(within=0.5)
    assert result.returncode == 1
    assert "robot_node" in result.stderr and "ROS_DOMAIN_ID" in result.stderr


@pytest.mark.usefixtures("ros_domain")
def test_joints_that_stand_still_in_time_are_unhealthy():
    with Publisher(NAMES, goes_on=False):
        result = check(within=3.0)
    assert result.returncode == 1
    assert "no newer one" in result.stderr


@pytest.mark.usefixtures("ros_domain")
def test_joints_of_another_robot_are_not_mistaken_for_ours():
    with Publisher(["joint1", "joint2"]):
        result = check(within=3.0)
    assert result.returncode == 1

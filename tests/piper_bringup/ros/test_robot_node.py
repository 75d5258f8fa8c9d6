"""robot_node in a graph: services, chunks and joints through real DDS."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.server import Emulator
from piper_bringup.ros.beside import Beside
from piper_bringup.ros.robot_node import RobotNode
from piper_twin.robot import ARMS, DUAL_PIPER, HOME
from vla_policy import topics
from vla_policy.ros import convert, qos
from vla_policy.types import ActionChunk

pytestmark = pytest.mark.ros

NAMES = DUAL_PIPER.joint_names
BOTH_HOME = np.tile(HOME, len(ARMS)).astype(np.float32)
ASIDE = BOTH_HOME + (0.3 * (np.arange(14) == 0)).astype(np.float32)


class Spun:
    """A node on a thread of its own."""

    def __init__(self, node):
        self.node, self._beside = node, Beside(node)

    def close(self):
        self._beside.stop()
        self.node.destroy_node()


class Graph:
    """A robot, and an operator with a policy."""

    def __init__(self, *parameters):
        given = [word for parameter in parameters for word in ("-p", parameter)]
        rclpy.init(args=["--ros-args", *given] if given else [])
        self.robot = Spun(RobotNode())
        self.operator = Spun(Node("operator"))
        self.node = self.operator.node
        self.joints, self.commands, self.status = [], [], {}
        self.node.create_subscription(JointState, topics.JOINT_STATES, self.joints.append, qos.FAST_STREAM)
        self.node.create_subscription(JointState, topics.JOINT_COMMANDS, self.commands.append, qos.FAST_STREAM)
        self.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_status, qos.EVENTS)
        self._chunks = self.node.create_publisher(JointTrajectory, topics.ACTION_CHUNK, qos.COMMAND)
        self.clients = {
            name: self.node.create_client(Trigger, name)
            for name in (topics.ENABLE, topics.STOP, topics.RELEASE, topics.HOME)
        }
        assert all(client.wait_for_service(10.0) for client in self.clients.values())
        self.wait_for(lambda: self._chunks.get_subscription_count() and self.joints)

    def _on_status(self, message):
        for status in message.status:
            if status.name == "robot":
                self.status = {value.key: value.value for value in status.values} | {"message": status.message}

    def wait_for(self, condition, timeout=60.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, self.status
            time.sleep(0.005)

    def call(self, name):
        answer = self.clients[name].call_async(Trigger.Request())
        self.wait_for(answer.done)
        return answer.result()

    def now(self):
        return self.node.get_clock().now().nanoseconds * 1e-9

    def send(self, target=ASIDE, names=NAMES, rows=50):
        chunk = ActionChunk(actions=np.tile(target, (rows, 1)), period=0.04, stamp=self.now())
        self._chunks.publish(convert.chunk_message(chunk, names))

    def measured(self):
        return np.array(self.joints[-1].position)

    def close(self):
        self.robot.close()
        self.operator.close()
        rclpy.shutdown()


@pytest.fixture
def graph(ros_domain):
    made = Graph()
    yield made
    made.close()


def test_enable_move_stop_release_and_move_on(graph):
    assert graph.call(topics.ENABLE).success
    graph.send()
    graph.wait_for(lambda: abs(graph.measured()[0] - ASIDE[0]) < 0.01)
    answer = graph.call(topics.STOP)
    assert answer.success
    graph.wait_for(lambda: graph.status.get("state") == "held")
    assert "/robot/stop" in graph.status["message"]
    graph.send(BOTH_HOME)
    graph.wait_for(lambda: graph.status.get("refused_not_accepting") == "1")
    np.testing.assert_allclose(graph.measured()[0], ASIDE[0], atol=0.01)
    assert graph.call(topics.RELEASE).success
    graph.send(BOTH_HOME)
    graph.wait_for(lambda: abs(graph.measured()[0] - BOTH_HOME[0]) < 0.01)


def test_home_is_answered_when_the_arms_are_there(graph):
    assert "disabled" in graph.call(topics.HOME).message
    graph.call(topics.ENABLE)
    graph.send(rows=5)
    graph.wait_for(lambda: abs(graph.measured()[0] - ASIDE[0]) < 0.2 and graph.status.get("state") == "ready")
    answer = graph.call(topics.HOME)
    assert answer.success, answer.message
    np.testing.assert_allclose(graph.measured(), BOTH_HOME, atol=0.021)


def test_joints_come_evenly_by_name_and_stamped_by_the_clock(graph):
    graph.call(topics.ENABLE)
    graph.wait_for(lambda: len(graph.commands) > 100)
    assert tuple(graph.joints[-1].name) == tuple(graph.commands[-1].name) == NAMES
    np.testing.assert_allclose(graph.commands[-1].position, BOTH_HOME, atol=1e-6)
    stamps = np.array([convert.to_seconds(message.header.stamp) for message in list(graph.commands)])
    assert abs(stamps[-1] - graph.now()) < 5.0
    assert (np.diff(stamps) > 0.0).all()


def test_a_chunk_with_other_names_is_refused_and_the_diagnostics_say_why(graph):
    graph.call(topics.ENABLE)
    graph.send(names=("elbow", *NAMES[1:]))
    graph.wait_for(lambda: graph.status.get("refusals") == "1")
    assert "left_joint1" in graph.status["last_refusal"]
    assert graph.status["state"] == "ready"


def test_a_stop_is_obeyed_while_somebody_waits_for_torque(graph):
    graph.robot.node._graph._body.driver.enable = lambda: None
    waiting = graph.clients[topics.ENABLE].call_async(Trigger.Request())
    graph.wait_for(lambda: graph.status.get("reason") == "waits for torque")
    assert graph.call(topics.STOP).success
    graph.wait_for(waiting.done)
    assert not waiting.result().success


def test_a_new_robot_node_moves_nothing_until_it_is_told(ros_domain):
    for _ in range(2):
        graph = Graph()
        assert graph.commands == []
        assert graph.call(topics.ENABLE).success
        graph.wait_for(lambda graph=graph: graph.commands)
        np.testing.assert_allclose(graph.commands[0].position, graph.measured(), atol=1e-3)
        graph.close()


def test_the_twin_moves_by_the_same_node(ros_domain):
    graph = Graph("driver:=twin", "camera_rate:=0.5")
    try:
        assert graph.call(topics.ENABLE).success
        graph.send()
        graph.wait_for(lambda: abs(graph.measured()[0] - ASIDE[0]) < 0.02)
    finally:
        graph.close()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_robot_node_that_is_told_to_end_says_how_it_leaves_the_arms(ros_domain, sign):
    process = subprocess.Popen(
        [sys.executable, "-m", "piper_bringup.ros.robot_node"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    rclpy.init()
    operator = Spun(Node("operator"))
    try:
        enable = operator.node.create_client(Trigger, topics.ENABLE)
        assert enable.wait_for_service(20.0)
        answer = enable.call_async(Trigger.Request())
        deadline = time.monotonic() + 60.0
        while not answer.done() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert answer.done()
        assert answer.result().success
        process.send_signal(sign)
        said, _ = process.communicate(timeout=20.0)
    finally:
        process.kill()
        operator.close()
        rclpy.shutdown()
    assert process.returncode == 0, said
    assert "the arms keep their torque" in said
    assert "Traceback" not in said


def test_emulated_arms_move_by_the_same_node(ros_domain, tmp_path, monkeypatch):
    monkeypatch.setenv("PIPER_LOOPBACK_DIR", str(tmp_path))
    channels = [f"{arm}{ros_domain}" for arm in ARMS]
    parameters = [f"{arm}_channel:={channel}" for arm, channel in zip(ARMS, channels, strict=True)]
    with Emulator({channel: Arm() for channel in channels}):
        graph = Graph("driver:=piper", "bustype:=piper_loopback", *parameters)
        try:
            graph.wait_for(lambda: graph.status.get("left_firmware") == "S-V1.8-5")
            graph.wait_for(lambda: graph.call(topics.ENABLE).success)
            graph.send(rows=100)

            def has_moved():
                if graph.status.get("state") == "held":  # arms, bus and loop share a busy computer: go on as a person
                    graph.call(topics.RELEASE)
                    graph.call(topics.ENABLE)
                    graph.send(rows=100)
                return abs(graph.measured()[0] - ASIDE[0]) < 0.02

            graph.wait_for(has_moved, timeout=40.0)
        finally:
            graph.close()

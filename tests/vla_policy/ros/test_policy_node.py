"""The policy node in a real graph: what goes in, what comes out, and what it says of itself."""

import json
import signal
import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from vla_policy import topics
from vla_policy.policy_source import load_policy
from vla_policy.ros import convert, qos
from vla_policy.ros.policy_node import PolicyNode, make
from vla_policy.ros.spin import run_node

pytestmark = pytest.mark.ros

DEADLINE = 10.0


class Robot(Node):
    """Sends what a robot's cameras and joints would, and hears what a policy says."""

    def __init__(self, robot):
        super().__init__("robot")
        self.robot, self.state = robot, np.array([0.1, 0.2, 0.03])
        self.heard, self.proposed, self.diagnostics = [], [], []
        self.images = {
            name: self.create_publisher(Image, topics.image(name), qos.STREAM) for name in robot.camera_names
        }
        self.joints = self.create_publisher(JointState, topics.JOINT_STATES, qos.FAST_STREAM)
        self.instruction = self.create_publisher(String, topics.INSTRUCTION, qos.LATCHED)
        self.create_subscription(JointTrajectory, topics.ACTION_CHUNK, self.heard.append, qos.COMMAND)
        self.create_subscription(JointTrajectory, topics.PROPOSED_CHUNK, self.proposed.append, qos.COMMAND)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self.diagnostics.append, qos.EVENTS)
        self.size = (48, 64, 3)
        self.timer = self.create_timer(0.02, self.sense)

    def sense(self):
        stamp = self.get_clock().now().nanoseconds * 1e-9
        for name, publisher in self.images.items():
            publisher.publish(convert.image_message(np.zeros(self.size, np.uint8), name, stamp))
        self.joints.publish(convert.joint_state_message(self.robot.joint_names, self.state, stamp))

    def told(self):
        """Newest message of the policy's diagnostics."""
        return self.diagnostics[-1].status[0].message if self.diagnostics else ""


class Graph:
    """Both nodes, spun by the test."""

    def __init__(self, robot, policy_node):
        self.robot, self.node = Robot(robot), policy_node
        self.executor = SingleThreadedExecutor()
        for node in (self.robot, self.node):
            self.executor.add_node(node)

    def until(self, condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"in vain; the policy says: {self.robot.told()}"
            self.executor.spin_once(timeout_sec=0.05)

    def call(self, service, name, **request):
        client = self.robot.create_client(service, name)
        self.until(client.service_is_ready)
        future = client.call_async(service.Request(**request))
        self.until(future.done)
        return future.result()


@pytest.fixture
def graph(ros_domain, robot, tmp_path):
    """Bring up both nodes; the policy is one that holds unless told otherwise."""
    rclpy.init()
    (tmp_path / "embodiment.json").write_text(robot.to_json())
    made = []

    def make(**parameters):
        told = {"checkpoint": "hold", "embodiment": str(tmp_path / "embodiment.json")} | parameters
        node = PolicyNode(parameter_overrides=[Parameter(name, value=value) for name, value in told.items()])
        node.serve(load_policy(node.source))
        made.append(Graph(robot, node))
        return made[-1]

    yield make
    for graph in made:
        graph.executor.shutdown()
        for node in (graph.node, graph.robot):
            node.destroy_node()
    rclpy.shutdown()


def test_an_instructed_policy_sends_chunks_once_it_is_started(graph, robot):
    it = graph()
    it.robot.instruction.publish(String(data="press the bell"))
    it.until(lambda: "stopped" in it.robot.told())
    assert not it.robot.heard
    assert it.call(SetBool, topics.POLICY_RUN, data=True).message == "running"
    it.until(lambda: it.robot.heard)
    chunk = convert.to_chunk(it.robot.heard[0], robot)
    np.testing.assert_allclose(chunk.actions, np.tile(it.robot.state, (8, 1)), atol=1e-6)
    assert 0.0 <= it.robot.get_clock().now().nanoseconds * 1e-9 - chunk.stamp < 5.0
    assert it.call(SetBool, topics.POLICY_RUN, data=False).message == "stopped"
    assert not it.robot.proposed


def test_a_checkpoint_answers_through_the_graph(graph, policy, tmp_path, robot):
    policy.save(tmp_path / "checkpoint")
    it = graph(checkpoint=str(tmp_path / "checkpoint"), instruction="press the bell", autostart=True)
    it.until(lambda: len(it.robot.heard) >= 2)
    assert convert.to_chunk(it.robot.heard[0], robot).actions.shape == (2, 3)
    it.until(lambda: it.robot.told() == "ok")
    values = {value.key: value.value for value in it.robot.diagnostics[-1].status[0].values}
    assert float(values["inference_p99_ms"]) > 0 and int(values["latency_count"]) >= 1
    assert values["checkpoint"] == str(tmp_path / "checkpoint")


def test_a_policy_that_is_to_read_fitted_images_takes_no_others(graph, robot):
    it = graph(fitted_images=True, instruction="press the bell", autostart=True)
    it.until(lambda: "no image from camera" in it.robot.told())
    assert not it.robot.heard
    it.robot.images = {
        name: it.robot.create_publisher(Image, topics.fitted_image(name), qos.STREAM) for name in robot.camera_names
    }
    it.until(lambda: it.robot.heard)


def test_proposals_wait_for_approval(graph):
    it = graph(mode="approve", instruction="press the bell", autostart=True)
    it.until(lambda: it.robot.proposed)
    it.until(lambda: "waiting for approval" in it.robot.told())
    assert it.robot.diagnostics[-1].status[0].level == DiagnosticStatus.WARN
    assert not it.robot.heard
    answer = it.call(Trigger, topics.POLICY_APPROVE)
    assert answer.success, answer.message
    it.until(lambda: it.robot.heard)


def test_approval_of_nothing_is_refused_with_the_reason(graph):
    answer = graph().call(Trigger, topics.POLICY_APPROVE)
    assert not answer.success and answer.message.startswith("no chunk waits for approval")


def test_a_policy_in_the_shadow_is_not_heard_by_the_robot(graph):
    it = graph(mode="shadow", instruction="press the bell", autostart=True)
    it.until(lambda: it.robot.proposed)
    assert not it.robot.heard


def test_what_keeps_the_policy_from_acting_is_told(graph):
    it = graph(autostart=True)
    it.until(lambda: "no instruction; publish one on /instruction" in it.robot.told())
    assert it.robot.diagnostics[-1].status[0].level == DiagnosticStatus.ERROR
    it.robot.size = (8, 8, 3)
    it.robot.instruction.publish(String(data="press the bell"))
    it.until(lambda: "camera head sends images of 8 x 8 px" in it.robot.told())
    it.robot.timer.cancel()
    it.until(lambda: "no image from camera head for" in it.robot.told())


def test_joints_of_another_robot_are_refused_by_name(graph):
    it = graph(autostart=True, instruction="press the bell")
    it.robot.timer.cancel()
    foreign = convert.joint_state_message(["shoulder", "elbow", "tail"], np.zeros(3), 0.0)
    it.robot.create_timer(0.1, lambda: it.robot.joints.publish(foreign))
    it.until(lambda: "/joint_states lacks gripper" in it.robot.told())
    assert not it.robot.heard


def test_a_node_that_is_to_run_a_foreign_checkpoint_ends_with_the_reason(policy, robot, tmp_path, ros_domain, capsys):
    before = signal.getsignal(signal.SIGINT)
    policy.save(tmp_path / "checkpoint")
    other = json.loads(robot.to_json())
    other["cameras"][1]["name"] = "belly"
    (tmp_path / "other.json").write_text(json.dumps(other))
    told = ["--ros-args", "-p", f"checkpoint:={tmp_path}/checkpoint", "-p", f"embodiment:={tmp_path}/other.json"]
    try:
        assert run_node(make, told) == 1
    finally:
        signal.signal(signal.SIGINT, before)  # a node that has ended hears no more of it
    assert "has cameras ('head', 'wrist'), the robot has ('head', 'belly')" in capsys.readouterr().err

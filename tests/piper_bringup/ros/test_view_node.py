"""The page in the graph: what arrives is shown, what is pressed is asked for."""

import json
import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Transform, Vector3
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState, MultiDOFJointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from piper_bringup.ros.beside import Beside
from piper_bringup.ros.view_node import ViewNode
from piper_bringup.view.page import Page
from piper_twin.robot import DUAL_PIPER, HOME
from vla_policy import topics
from vla_policy.ros import convert, qos

pytestmark = pytest.mark.ros

BOTH_HOME = np.tile(HOME, 2)


class Graph:
    """A page, and the robot it shows."""

    def __init__(self):
        rclpy.init()
        self.view = ViewNode(parameter_overrides=[Parameter("port", value=0), Parameter("image_rate", value=20.0)])
        self.robot = Node("robot")
        self._spun = [Beside(node) for node in (self.view, self.robot)]

    def publish(self, kind, topic, message, profile=qos.STREAM):
        publisher = self.robot.create_publisher(kind, topic, profile)
        wait_for(publisher.get_subscription_count)
        publisher.publish(message)

    def close(self):
        for beside in self._spun:
            beside.stop()
        self.view.destroy_node()
        self.robot.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def viewers(monkeypatch):
    """How many browsers look; a test changes it."""
    count = [1]
    monkeypatch.setattr(Page, "num_viewers", property(lambda page: count[0]))
    return count


@pytest.fixture
def graph(ros_domain, viewers):
    made = Graph()
    yield made
    made.close()


def wait_for(condition, patience=60.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def spy(monkeypatch, name):
    """What a method of the page is called with."""
    calls, method = [], getattr(Page, name)

    def call(page, *args):
        calls.append(args)
        return method(page, *args)

    monkeypatch.setattr(Page, name, call)
    return calls


def test_arms_move_with_the_measured_joints_and_objects_with_the_twin(graph):
    told = {"task": "click_bell", "seed": 1, "split": "evaluation", "randomization": "off"}
    graph.publish(String, topics.WORLD_EPISODE, String(data=json.dumps(told)), qos.LATCHED)
    wait_for(lambda: "bell" in graph.view.page.frames)
    place = Transform(translation=Vector3(x=0.1, y=0.2, z=0.3))
    graph.publish(
        MultiDOFJointState, topics.WORLD_OBJECTS, MultiDOFJointState(joint_names=["bell"], transforms=[place])
    )
    joints = BOTH_HOME.copy()
    joints[0] = 0.7
    message = convert.joint_state_message(DUAL_PIPER.joint_names, joints, 0.0)
    graph.publish(JointState, topics.JOINT_STATES, message, qos.FAST_STREAM)
    wait_for(lambda: np.allclose(graph.view.page.frames["bell"].position, (0.1, 0.2, 0.3)))
    left, right = (graph.view.page.frames[f"{arm}_palm"].position for arm in ("left", "right"))
    assert left[1] - 0.3 > 0.1, "turned to the left"
    assert right[1] == pytest.approx(-0.3, abs=1e-3)


def test_images_are_shown(graph, monkeypatch):
    shown = spy(monkeypatch, "pictures")
    graph.publish(Image, topics.image("head"), convert.image_message(np.full((48, 64, 3), 7, np.uint8), "head", 0.0))
    wait_for(lambda: shown)
    assert list(shown[-1][0]) == ["head"]


def test_images_and_joints_are_received_only_while_somebody_looks(graph, viewers):
    wait_for(lambda: graph.robot.count_subscribers(topics.image("head")))
    viewers[0] = 0
    wait_for(lambda: not graph.robot.count_subscribers(topics.image("head")))
    assert not graph.robot.count_subscribers(topics.JOINT_STATES)


def test_the_diagnostics_become_the_headline(graph, monkeypatch):
    told = spy(monkeypatch, "tell")
    message = convert.diagnostic("robot", "stopped: by hand", {"state": "held"}, 0.0)
    graph.publish(DiagnosticArray, topics.DIAGNOSTICS, message, qos.EVENTS)
    wait_for(lambda: told and "HELD" in told[-1][0].headline(told[-1][1]))
    assert "stopped: by hand" in told[-1][0].table(told[-1][1])


def test_a_button_asks_for_its_service_and_shows_the_answer(graph, monkeypatch):
    answers = spy(monkeypatch, "answer")
    graph.view.request("Stop")
    assert answers[-1] == ("Stop: nobody offers /robot/stop; start the node that does",)

    def stop(_, response):
        response.success, response.message = True, "held"
        return response

    graph.robot.create_service(Trigger, topics.STOP, stop)
    wait_for(lambda: graph.view.count_services(topics.STOP))
    wait_for(lambda: graph.view.request("Stop") or answers[-1] != answers[0])
    wait_for(lambda: ("Stop: held",) in answers)


def test_the_instruction_goes_both_ways(graph, monkeypatch):
    shown = spy(monkeypatch, "instruction")
    heard = []
    graph.robot.create_subscription(String, topics.INSTRUCTION, heard.append, qos.LATCHED)
    graph.view.instruct("press the bell")
    wait_for(lambda: heard and shown)
    assert heard[-1].data == shown[-1][0] == "press the bell"

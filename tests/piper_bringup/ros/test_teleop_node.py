"""Teleoperation in a graph: chunks where a policy's would be, and the operator's keys as service calls."""

import os
import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from piper_bringup.ros.beside import Beside
from piper_bringup.ros.teleop_node import TeleopNode
from piper_bringup.teleop.source import SERVICES
from piper_twin.demonstrate import demonstrate
from piper_twin.episode import Episode
from piper_twin.robot import CONTROL_PERIOD, DUAL_PIPER, HOME
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.service_calls import ServiceCalls

pytestmark = pytest.mark.ros

STATE = np.tile(HOME, 2)


class Graph:
    """A robot that stands still and hears everything, a world, and the teleoperation under test."""

    def __init__(self, **parameters):
        rclpy.init()
        self.chunks, self.called, self.told = [], [], []
        self.robot = Node("robot")
        self._calls = ServiceCalls(self.robot)
        self._states = self.robot.create_publisher(JointState, topics.JOINT_STATES, qos.FAST_STREAM)
        self.is_seen = True
        self.robot.create_timer(0.01, self._publish_state)
        self.robot.create_subscription(JointTrajectory, topics.ACTION_CHUNK, self._take, qos.COMMAND)
        self.robot.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self.told.append, qos.EVENTS)
        for name in SERVICES[:-1]:
            self.robot.create_service(Trigger, name, self._answer(name))
        self.world = Node(topics.WORLD)
        self.world.declare_parameter("task", "click_bell")
        self.world.declare_parameter("seed", 3)
        given = [Parameter(name, value=value) for name, value in parameters.items()]
        self.teleop = TeleopNode(parameter_overrides=given)
        self._nodes = (self.robot, self.world, self.teleop)
        self._spun = [Beside(node) for node in self._nodes]

    def _publish_state(self):
        if self.is_seen:
            self._states.publish(convert.joint_state_message(DUAL_PIPER.joint_names, STATE, 0.0))

    def _take(self, message):
        self.chunks.append((time.time(), convert.to_chunk(message, DUAL_PIPER)))

    def _answer(self, name):
        def answer(request, response):
            self.called.append(name)
            response.success, response.message = name != topics.ENABLE, "heard"
            return response

        return answer

    def run(self, on):
        return self._calls.call(SetBool, topics.POLICY_RUN, SetBool.Request(data=on))

    def close(self):
        for beside in self._spun:
            beside.stop()
        for node in self._nodes:
            node.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def graph_with(ros_domain):
    made = []

    def make(**parameters):
        made.append(Graph(**parameters))
        return made[0]

    yield make
    for graph in made:
        graph.close()


@pytest.fixture
def keyboard():
    """Both ends of a terminal: where keys are pressed, and its path."""
    master, slave = os.openpty()
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def until(condition, what, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def test_keys_move_the_arm_by_chunks_and_call_services(graph_with, keyboard):
    keys, terminal = keyboard
    graph = graph_with(source="keyboard", terminal=terminal, speed=1.0)
    until(lambda: graph.chunks, "chunks while nothing is pressed")
    np.testing.assert_allclose(graph.chunks[-1][1].actions, np.tile(STATE, (2, 1)), atol=1e-6)

    os.write(keys, b"\t")

    def pressed():
        os.write(keys, b"cw")
        return np.abs(graph.chunks[-1][1].actions[0] - STATE)[7:13].max() > 0.02

    until(pressed, "the right arm to be led away")
    arrival, chunk = graph.chunks[-1]
    assert chunk.actions.shape == (2, 14)
    assert chunk.period == pytest.approx(CONTROL_PERIOD)
    assert abs(arrival - chunk.stamp) < 1.0
    stamps = np.diff([chunk.stamp for _, chunk in graph.chunks])
    np.testing.assert_allclose(stamps / 0.02, np.round(stamps / 0.02), atol=0.05)

    os.write(keys, b"9 1")
    until(lambda: len(graph.called) == 3, "the services to be called")
    assert sorted(graph.called) == sorted([topics.ENABLE, topics.STOP, topics.EPISODE_START])
    os.write(keys, b"4")  # nobody offers it: said, not waited for
    until(lambda: any("nobody offers /episode/discard" in _said(told) for told in graph.told), "a word about it")


def _said(message):
    return {value.key: value.value for value in message.status[0].values}.get("said", "")


def test_without_joint_states_nothing_is_sent_and_it_is_said(graph_with, keyboard):
    graph = graph_with(source="keyboard", terminal=keyboard[1])
    until(lambda: graph.chunks, "chunks")
    graph.is_seen = False
    until(lambda: any("no /joint_states" in told.status[0].message for told in graph.told), "a word about it")
    count = len(graph.chunks)
    time.sleep(0.1)
    assert len(graph.chunks) == count
    answer = graph.run(True)
    assert not answer.success
    assert "start the robot first" in answer.message


def test_it_is_paused_and_resumed_as_a_policy_is(graph_with, keyboard):
    graph = graph_with(source="keyboard", terminal=keyboard[1])
    until(lambda: graph.chunks, "chunks")
    assert graph.run(False).success
    time.sleep(0.05)
    graph.chunks.clear()
    time.sleep(0.1)
    assert not graph.chunks
    assert "jogging the left arm" in graph.run(True).message
    until(lambda: graph.chunks, "chunks again")


def test_the_expert_plays_the_episode_that_the_world_was_told(graph_with):
    graph = graph_with(source="expert")
    until(lambda: graph.told, "the node to be alive")
    assert not graph.chunks
    answer = graph.run(True)
    assert (answer.success, "click_bell, seed 3" in answer.message) == (True, True), answer.message
    worlds, episode = WorldBatch(1, TwinConfig(images=False)), Episode("click_bell", 3, "evaluation")
    shown = demonstrate(worlds, episode, look_every=None)
    steps = len(shown.action_TA)
    until(lambda: graph.chunks and graph.chunks[-1][1].stamp > graph.chunks[0][1].stamp + steps * 0.04, "the end")
    begin = graph.chunks[0][1].stamp
    rows = {}
    for _, chunk in graph.chunks:
        first = (chunk.stamp - begin) / CONTROL_PERIOD
        assert abs(first - round(first)) < 0.02
        for index, row in enumerate(chunk.actions):
            np.testing.assert_array_equal(rows.setdefault(round(first) + index, row), row)
    worlds.reset([0], [episode])
    played = np.array([rows[step] for step in range(steps)])
    assert worlds.step_chunk([0], played[None]).success_B[0]
    np.testing.assert_allclose(played[0], shown.action_TA[0], atol=1e-5)
    worlds.close()


def test_what_cannot_be_opened_ends_the_node_with_a_word(ros_domain, tmp_path):
    rclpy.init()
    try:
        with pytest.raises(VlaError, match="no gamepad at"):
            TeleopNode(
                parameter_overrides=[
                    Parameter("source", value="gamepad"),
                    Parameter("gamepad", value=str(tmp_path / "js0")),
                ]
            )
    finally:
        rclpy.shutdown()

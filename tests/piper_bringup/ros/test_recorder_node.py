"""The recorder in a graph: what is published between start and success stands in the bag."""

import time

import numpy as np
import pytest
import rclpy
from rclpy.node import Node
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from piper_bringup.ros.beside import Beside
from piper_bringup.ros.recorder_node import RecorderNode
from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.ros import convert, qos
from vla_policy.ros.service_calls import ServiceCalls

pytestmark = pytest.mark.ros

PIXELS = np.full((48, 64, 3), 128, np.uint8)


class Graph:
    """A recorder, and everything it listens to."""

    def __init__(self, bags):
        rclpy.init(args=["--ros-args", "-p", f"folder:={bags}"])
        self.recorder = RecorderNode()
        self.node = Node("others")
        self._calls = ServiceCalls(self.node)
        self._joints = {
            topic: self.node.create_publisher(JointState, topic, qos.FAST_STREAM)
            for topic in (topics.JOINT_STATES, topics.JOINT_COMMANDS)
        }
        self._images = {
            camera: self.node.create_publisher(Image, topics.image(camera), qos.STREAM)
            for camera in DUAL_PIPER.camera_names[1:]
        }
        head = DUAL_PIPER.camera_names[0]
        self._jpeg = self.node.create_publisher(CompressedImage, topics.compressed(head), qos.STREAM)
        self._instruction = self.node.create_publisher(String, topics.INSTRUCTION, qos.LATCHED)
        self._instruction.publish(String(data="press the bell"))
        self._spun = [Beside(node) for node in (self.recorder, self.node)]

    def publish(self, stamp):
        names = DUAL_PIPER.joint_names
        for publisher in self._joints.values():
            publisher.publish(convert.joint_state_message(names, np.full(len(names), stamp), stamp))
        for camera, publisher in self._images.items():
            publisher.publish(convert.image_message(PIXELS, camera, stamp))
        self._jpeg.publish(convert.jpeg_message(PIXELS, "head", stamp))

    def call(self, service):
        return self._calls.call(Trigger, service, Trigger.Request())

    def close(self):
        for beside in self._spun:
            beside.stop()
        self.recorder.destroy_node()
        self.node.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def graph(ros_domain, tmp_path):
    made = Graph(tmp_path / "bags")
    yield made
    made.close()


def start(graph):
    """Publish until everything is heard and the episode begins."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        graph.publish(0.0)
        answer = graph.call(topics.EPISODE_START)
        if answer.success:
            return answer.message
        time.sleep(0.05)
    raise AssertionError(answer.message)


def stamps_in(bag):
    """Topic to the stamps of its messages, without the 0 of what was sent before the start."""
    found = {}
    with Reader(bag) as reader:
        for connection, _, data in reader.messages():
            sec, nanosec = np.frombuffer(data[4:12], np.uint32)
            found.setdefault(connection.topic, []).append(round(float(sec + nanosec * 1e-9), 3))
    return {topic: [stamp for stamp in stamps if stamp] for topic, stamps in found.items()}


def test_what_is_published_stands_in_the_bag_in_order(graph, tmp_path):
    assert graph.call(topics.EPISODE_SUCCESS).message == "no episode is being recorded"
    assert start(graph) == "episode_000000_press_the_bell"
    sent = [round(1.0 + index * 0.01, 3) for index in range(50)]
    for stamp in sent:
        graph.publish(stamp)
        time.sleep(0.002)
    deadline = time.monotonic() + 60.0
    while graph.recorder._recorder.values(0.0)["messages"] < 50 * 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    answer = graph.call(topics.EPISODE_SUCCESS)
    assert answer.success
    assert answer.message == str(tmp_path / "bags" / "episode_000000_press_the_bell_success")
    found = stamps_in(answer.message)
    wanted = [topics.JOINT_STATES, topics.JOINT_COMMANDS, *map(topics.compressed, DUAL_PIPER.camera_names)]
    assert {topic: found[topic] for topic in wanted} == dict.fromkeys(wanted, sent)
    assert topics.image("head") not in found


def test_a_stopped_node_finishes_its_bag(ros_domain, tmp_path):
    graph = Graph(tmp_path / "bags")
    try:
        start(graph)
    finally:
        graph.close()
    assert [path.name for path in (tmp_path / "bags").iterdir()] == ["episode_000000_press_the_bell_unknown"]

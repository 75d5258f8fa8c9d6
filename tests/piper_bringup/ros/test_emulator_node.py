"""The emulated arms' node: what it can lack."""

import time

import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from piper_bringup.ros.beside import Beside
from piper_bringup.ros.emulator_node import EmulatorNode
from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.ros import qos

pytestmark = [pytest.mark.ros, pytest.mark.sim]

LOST, STAYS = DUAL_PIPER.camera_names[:2]


@pytest.fixture
def spun(ros_domain, tmp_path, monkeypatch):
    """The node and one that watches, both spinning."""
    monkeypatch.setenv("PIPER_LOOPBACK_DIR", str(tmp_path))
    rclpy.init()
    nodes = [EmulatorNode(), Node("watcher")]
    besides = [Beside(node) for node in nodes]
    yield nodes
    for beside in besides:
        beside.stop()
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown()


def wait_for(condition, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_lost_camera_sends_nothing_and_the_others_go_on(spun):
    emulator, watcher = spun
    images = {name: [] for name in (LOST, STAYS)}
    for name, heard in images.items():
        watcher.create_subscription(Image, topics.image(name), heard.append, qos.STREAM)
    wait_for(lambda: all(images.values()))
    (answer,) = emulator.set_parameters([Parameter("lost_cameras", value=[LOST])])
    assert answer.successful
    time.sleep(0.2)  # what is on its way
    for heard in images.values():
        heard.clear()
    wait_for(lambda: len(images[STAYS]) > 3)
    assert images[LOST] == []
    emulator.set_parameters([Parameter("lost_cameras", value=[""])])
    wait_for(lambda: images[LOST])


def test_a_camera_that_there_is_not_cannot_be_lost(spun):
    (answer,) = spun[0].set_parameters([Parameter("lost_cameras", value=["elbow"])])
    assert answer.reason == "there is no camera elbow"

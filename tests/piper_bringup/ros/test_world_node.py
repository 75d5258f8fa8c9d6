"""The twin's world in the ROS graph: cameras, objects, reset by seed, judgement, and time."""

import json
import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, MultiDOFJointState
from std_msgs.msg import String

from piper_bringup.ros.beside import Beside
from piper_bringup.ros.world_node import WorldNode
from piper_twin.episode import Episode
from piper_twin.episode_run import EpisodeRun, Painter
from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.service_calls import ServiceCalls

pytestmark = [pytest.mark.ros, pytest.mark.sim]


class Graph:
    """A world, and somebody who watches it."""

    def __init__(self, **parameters):
        rclpy.init()
        self.watcher = Node("watcher")
        self._calls = ServiceCalls(self.watcher)
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.world = WorldNode(parameter_overrides=overrides)
        self._spun = [Beside(node) for node in (self.world, self.watcher)]

    def listen(self, kind, topic, profile=qos.STREAM):
        heard = []
        self.watcher.create_subscription(kind, topic, heard.append, profile)
        return heard

    def trigger(self, service):
        return self._calls.trigger(service)

    def set(self, **parameters):
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in parameters.items()]
        )
        return [result.reason for result in self._calls.call(SetParameters, "/world/set_parameters", request).results]

    def close(self):
        for beside in self._spun:
            beside.stop()
        self.world.destroy_node()
        self.watcher.destroy_node()
        rclpy.shutdown()


@pytest.fixture
def graph(ros_domain):
    made = []

    def make(**parameters):
        made.append(Graph(**parameters))
        return made[-1]

    yield make
    for one in made:
        one.close()


def wait_for(condition, patience=60.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def first_images(episode):
    painter = Painter()
    images = painter.images(EpisodeRun(episode, "off").moment)
    painter.close()
    return images


def test_cameras_show_the_world_and_say_how_they_see(graph):
    made = graph(task="pick_bottle", seed=3, camera_rate=50.0)
    names = DUAL_PIPER.camera_names
    raw = {name: made.listen(Image, topics.image(name)) for name in names}
    jpegs = {name: made.listen(CompressedImage, topics.compressed(name)) for name in names}
    infos = {name: made.listen(CameraInfo, topics.camera_info(name)) for name in names}
    wait_for(lambda: all(heard for group in (raw, jpegs, infos) for heard in group.values()))
    expected = first_images(Episode("pick_bottle", 3, "evaluation"))
    for camera in DUAL_PIPER.cameras:
        image = convert.to_image(raw[camera.name][-1])
        assert image.shape == (camera.height, camera.width, 3)
        assert np.abs(image.astype(int) - expected[camera.name]).mean() < 0.5, "an idle robot stays where it starts"
        assert abs(convert.to_seconds(raw[camera.name][-1].header.stamp) - time.time()) < 5.0
        assert infos[camera.name][-1].height == camera.height


def test_a_reset_starts_the_world_that_the_parameters_name(graph):
    made = graph()
    episodes = made.listen(String, topics.WORLD_EPISODE, qos.LATCHED)
    instructions = made.listen(String, topics.INSTRUCTION, qos.LATCHED)
    assert made.set(task="stack_bowls", seed=7) == ["", ""]
    before = made.world.world.episode
    assert before == Episode("click_bell", 0, "evaluation"), "it goes on until the reset"
    success, message = made.trigger(topics.WORLD_RESET)
    assert success
    assert "bowl" in message
    assert made.world.world.episode == Episode("stack_bowls", 7, "evaluation")
    told = {"task": "stack_bowls", "seed": 7, "split": "evaluation", "randomization": "off"}
    wait_for(lambda: episodes and json.loads(episodes[-1].data) == told)
    wait_for(lambda: instructions and instructions[-1].data == message)


def test_whoever_goes_on_after_a_reset_has_been_sent_the_new_world(graph):
    made = graph(camera_rate=0.1)
    images = made.listen(Image, topics.image("head"))
    wait_for(lambda: made.world.count_subscribers(topics.image("head")))
    made.set(task="move_can_pot", seed=2)
    made.trigger(topics.WORLD_RESET)
    wait_for(lambda: images)
    expected = first_images(Episode("move_can_pot", 2, "evaluation"))["head"]
    assert np.abs(convert.to_image(images[-1]).astype(int) - expected).mean() < 0.5


def test_parameters_that_name_no_world_are_refused_with_the_reason(graph):
    made = graph()
    assert "task 'dance' does not exist" in made.set(task="dance")[0]
    assert made.set(seed=-1) == ["seed -1 is negative; seeds count from 0"]
    assert "split 'holidays' does not exist" in made.set(split="holidays")[0]
    assert made.trigger(topics.WORLD_RESET)[0]
    assert made.world.world.episode == Episode("click_bell", 0, "evaluation")


def test_a_world_that_is_not_there_is_refused_at_the_start(ros_domain):
    rclpy.init()
    with pytest.raises(VlaError, match="task 'dance' does not exist"):
        WorldNode(parameter_overrides=[Parameter("task", value="dance")])
    rclpy.shutdown()


def test_the_world_judges_itself(graph, monkeypatch):
    made = graph()
    assert made.trigger(topics.WORLD_SUCCESS) == (False, "not solved so far")
    task = type(made.world.world.moment.world.compiled.task)
    monkeypatch.setattr(task, "success", lambda self, now, start: True)
    wait_for(lambda: made.trigger(topics.WORLD_SUCCESS)[0])
    monkeypatch.undo()
    success, message = made.trigger(topics.WORLD_SUCCESS)
    assert success, "success is latched"
    assert message.startswith("solved after ")
    made.trigger(topics.WORLD_RESET)
    assert not made.trigger(topics.WORLD_SUCCESS)[0]


def test_objects_are_told_by_name(graph):
    made = graph(task="stack_bowls")
    heard = made.listen(MultiDOFJointState, topics.WORLD_OBJECTS)
    wait_for(lambda: heard)
    expected = made.world.world.moment.objects()
    assert heard[-1].joint_names == list(expected)
    for name, transform in zip(heard[-1].joint_names, heard[-1].transforms, strict=True):
        place = transform.translation
        np.testing.assert_allclose((place.x, place.y, place.z), expected[name][:3], atol=1e-4)


def test_a_world_in_real_time_goes_on_by_itself(graph):
    made = graph()
    assert made.world.clock is None
    wait_for(lambda: made.world.world.time > 0.1)


def test_a_world_in_simulated_time_goes_on_when_its_clock_is_waited_for_and_tells_it(graph):
    made = graph(speed=0.0, camera_rate=25.0)
    clock, ticks = made.world.clock, made.listen(Clock, topics.CLOCK)
    images = made.listen(Image, topics.image("head"))
    wait_for(lambda: made.world.count_subscribers(topics.CLOCK) and made.world.count_subscribers(topics.image("head")))
    assert made.world.world.time == 0.0
    clock.wait_until(0.4)
    wait_for(lambda: len(ticks) >= 40 and len(images) >= 10)
    assert convert.to_seconds(ticks[-1].clock) == pytest.approx(0.4, abs=0.005)
    stamps = [convert.to_seconds(image.header.stamp) for image in images]
    np.testing.assert_allclose(stamps, np.arange(1, 11) * 0.04, atol=1e-6)


def test_a_camera_that_cannot_be_drawn_is_an_error_in_the_diagnostics(graph, monkeypatch):
    made = graph(camera_rate=20.0)
    heard = made.listen(DiagnosticArray, topics.DIAGNOSTICS)

    def fail():
        raise VlaError("off-screen OpenGL does not start")

    monkeypatch.setattr(made.world.world, "images", fail)
    wait_for(lambda: heard and heard[-1].status[0].level == DiagnosticStatus.ERROR)
    assert heard[-1].status[0].message == "the world's cameras ended: off-screen OpenGL does not start"

"""Records episodes as bags: `ros2 service call /episode/start`, then success, failure or discard.

`python -m piper_bringup.ros.recorder_node --ros-args -p folder:=bags`
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.subscription import Subscription
from std_srvs.srv import Trigger

from piper_bringup.recording.bag_files import DISCARDED
from piper_bringup.recording.recorder import Recorder, RecorderConfig
from piper_bringup.recording.software_version import software_version
from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.episode_info import FAILURE, SUCCESS
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.parameters import declare
from vla_policy.ros.spin import run_node

_PROFILES = {
    topics.JOINT_STATES: qos.FAST_STREAM,
    topics.JOINT_COMMANDS: qos.FAST_STREAM,
    topics.INSTRUCTION: qos.LATCHED,
    topics.DIAGNOSTICS: qos.EVENTS,
}
_OUTCOMES = {topics.EPISODE_SUCCESS: SUCCESS, topics.EPISODE_FAILURE: FAILURE, topics.EPISODE_DISCARD: DISCARDED}
_CHECK_PERIOD = 0.5  # [s], also about the most that a killed recorder loses


class RecorderNode(Node):
    """Subscriptions in, bags out; messages stay the bytes they came as."""

    def __init__(self) -> None:
        """Listen to every topic at once: what is not alive cannot be recorded."""
        super().__init__("recorder")
        self._recorder = Recorder(declare(self, RecorderConfig), DUAL_PIPER, software_version())
        self._inlets: dict[str, Subscription] = {}
        self._reports = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.EVENTS)
        self.create_service(Trigger, topics.EPISODE_START, functools.partial(_answer, self._start))
        for service, outcome in _OUTCOMES.items():
            self.create_service(Trigger, service, functools.partial(_answer, functools.partial(self._end, outcome)))
        self.create_timer(_CHECK_PERIOD, self._check, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._logged: str | None = None
        if left := self._recorder.left_behind():
            self.get_logger().warning(left)
        self._subscribe()

    def _subscribe(self) -> None:
        """Take each camera's JPEG topic where there is one."""
        has_jpeg = [name for name in DUAL_PIPER.camera_names if self.count_publishers(topics.compressed(name))]
        self._recorder.watch(has_jpeg)
        streams = self._recorder.streams
        for topic in self._inlets.keys() - streams.keys():
            self.destroy_subscription(self._inlets.pop(topic))
        for topic in streams.keys() - self._inlets.keys():
            package, _, name = streams[topic].type.split("/")
            message = getattr(importlib.import_module(f"{package}.msg"), name)
            take, profile = functools.partial(self._take, topic), _PROFILES.get(topic, qos.STREAM)
            self._inlets[topic] = self.create_subscription(message, topic, take, profile, raw=True)

    def _take(self, topic: str, data: bytes) -> None:
        self._recorder.take(topic, data, self._stamp(), time.monotonic())

    def _stamp(self) -> int:
        return self.get_clock().now().nanoseconds

    def _start(self) -> str:
        return self._recorder.start(self._stamp(), time.monotonic())

    def _end(self, outcome: str) -> str:
        bag = self._recorder.end(outcome, self._stamp())
        return self._recorder.problem or str(bag)

    def _check(self) -> None:
        now = time.monotonic()
        self._recorder.check(self._stamp(), now)
        self._subscribe()
        problem = self._recorder.problem
        if problem is not None and problem != self._logged:
            self.get_logger().error(problem)
        self._logged = problem
        report = convert.diagnostic("recorder", problem, self._recorder.values(now), self._stamp() * 1e-9)
        self._reports.publish(report)

    def destroy_node(self) -> None:
        """Finish what is being recorded first."""
        if problem := self._recorder.close(self._stamp()):
            self.get_logger().error(problem)
        super().destroy_node()


def _answer(work: Callable[[], str], _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
    try:
        response.message, response.success = work(), True
    except VlaError as error:
        response.message, response.success = str(error), False
    return response


def main() -> None:
    """Run until told to end."""
    raise SystemExit(run_node(RecorderNode))


if __name__ == "__main__":
    main()

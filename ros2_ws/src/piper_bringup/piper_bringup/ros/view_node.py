"""Shows the robot on a page of this machine, with buttons to enable, stop and release it.

python -m piper_bringup.ros.view_node --ros-args -p port:=8080
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import dataclasses
import functools
import json
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from piper_bringup.ros.watched_streams import WatchedStreams
from piper_bringup.view.page import Page
from piper_bringup.view.status_board import Status, StatusBoard
from piper_twin.appearance import Appearance
from piper_twin.episode import Episode
from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.ros import qos
from vla_policy.ros.parameters import declare
from vla_policy.ros.spin import run_node
from vla_policy.types import Image

_REQUESTS = {
    "Stop": topics.STOP,
    "Enable": topics.ENABLE,
    "Release": topics.RELEASE,
    "Go home": topics.HOME,
    "Reset the world": topics.WORLD_RESET,
}
_LEVELS = {DiagnosticStatus.OK: "ok", DiagnosticStatus.WARN: "warning"}
_TELL_PERIOD = 0.25  # [s]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ViewConfig:
    """Where the page is, and how lively."""

    host: str = "127.0.0.1"
    """Address to serve the page at. Others than 127.0.0.1 let everybody who reaches it move the robot."""
    port: int = 8080
    """To serve the page at."""
    rate: float = 20.0
    """How often arms and objects are drawn [Hz]."""
    image_rate: float = 5.0
    """How often camera images are shown [Hz]."""


class ViewNode(Node):
    """Newest messages onto the page; without a browser that looks, images and joints are not even received."""

    def __init__(self, **options: Any) -> None:
        """Serve the page."""
        super().__init__("view", **options)
        config = declare(self, ViewConfig)
        self._doors = {label: self.create_client(Trigger, service) for label, service in _REQUESTS.items()}
        requests = {label: functools.partial(self.request, label) for label in _REQUESTS}
        self.page = Page(config.host, config.port, requests, self.instruct)
        self._board, self._appearance = StatusBoard(), Appearance()
        self._streams = WatchedStreams(self, DUAL_PIPER)
        self._images: dict[str, Image] = {}
        self._instructions = self.create_publisher(String, topics.INSTRUCTION, qos.LATCHED)
        self.create_subscription(String, topics.INSTRUCTION, self._on_instruction, qos.LATCHED)
        self.create_subscription(String, topics.WORLD_EPISODE, self._on_episode, qos.LATCHED)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, qos.EVENTS)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_TELL_PERIOD, self._tell, clock=steady)
        self.create_timer(1.0 / config.rate, self._move, clock=steady)
        self.create_timer(1.0 / config.image_rate, self._show_images, clock=steady)
        self.get_logger().info(f"the robot is shown at {self.page.address}")

    def _tell(self) -> None:
        self._streams.listen(self.page.num_viewers > 0)
        self.page.tell(self._board, time.monotonic())

    def _move(self) -> None:
        try:
            joints = self._streams.joints()
        except VlaError as error:
            self.page.answer(str(error))
            return
        if joints is not None:
            self.page.move(self._appearance.poses(joints, self._streams.objects()))

    def _show_images(self) -> None:
        try:
            self._images.update(self._streams.images())
        except VlaError as error:
            self.page.answer(str(error))
        if self._images:
            self.page.pictures(self._images)

    def _on_instruction(self, message: String) -> None:
        self.page.instruction(message.data)

    def _on_episode(self, message: String) -> None:
        told = json.loads(message.data)
        self._appearance = Appearance(Episode(told["task"], told["seed"], told["split"]), told["randomization"])
        self.page.show(self._appearance)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            level = _LEVELS.get(status.level, "error")
            word = Status(level=level, message=status.message, values=values, time=time.monotonic())
            self._board.take(status.name, word)

    def instruct(self, text: str) -> None:
        """Tell the policy what to do."""
        self._instructions.publish(String(data=text))
        self.page.answer(f"the policy is told: {text}")

    def request(self, label: str) -> None:
        """What a button does: ask for its service, and show the answer once it comes."""
        client = self._doors[label]
        if not client.service_is_ready():
            self.page.answer(f"{label}: nobody offers {client.srv_name}; start the node that does")
            return
        self.page.answer(f"{label} ...")
        client.call_async(Trigger.Request()).add_done_callback(functools.partial(self._answered, label))

    def _answered(self, label: str, future: Any) -> None:
        answer = future.result()
        self.page.answer(f"{label}: {'' if answer.success else 'refused: '}{answer.message or 'done'}")

    def destroy_node(self) -> None:
        """End the page, too."""
        self.page.close()
        super().destroy_node()


def main() -> None:
    """Run until told to end."""
    raise SystemExit(run_node(ViewNode))


if __name__ == "__main__":
    main()

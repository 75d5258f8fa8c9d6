"""Cameras, joint states and an instruction in, action chunks out.

    python -m vla_policy.ros.policy_node --ros-args -p checkpoint:=runs/demo/checkpoints/last

What it does and when is `serving.PolicyServer`'s; here messages become values and values messages.
"""

from __future__ import annotations

import functools
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType  # pyright: ignore[reportPrivateImportUsage]: Humble has it only here
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.policy_source import LoadedPolicy, PolicySource, load_policy
from vla_policy.ros import convert, qos
from vla_policy.ros.parameters import declare
from vla_policy.ros.spin import run_node
from vla_policy.scheduling import Unhurried, ordinary_thread, prefer_this_process, take_short_turns
from vla_policy.serving import PolicyServer
from vla_policy.serving_config import ServingConfig
from vla_policy.serving_thread import ServingThread
from vla_policy.types import ActionChunk


class PolicyNode(Node):
    """Runs a policy beside the robot."""

    def __init__(self, **overrides: Any) -> None:
        """Declare the parameters; the rest waits for `serve`, since a constructor that loads weights blocks."""
        super().__init__("policy", **overrides)
        self.source = declare(self, PolicySource)
        self._config = declare(self, ServingConfig)
        self._thread: ServingThread | None = None

    def serve(self, loaded: LoadedPolicy) -> None:
        """Begin to listen and to think."""
        self._embodiment = loaded.embodiment
        self._chunks = {
            is_proposal: self.create_publisher(JointTrajectory, topic, qos.COMMAND)
            for is_proposal, topic in ((False, topics.ACTION_CHUNK), (True, topics.PROPOSED_CHUNK))
        }
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.EVENTS)
        self._is_realtime = prefer_this_process(self._config.realtime_priority)
        self._server = PolicyServer(Unhurried(loaded.policy), loaded.embodiment, self._config, self._publish, self._now)
        topic = topics.fitted_image if self._config.fitted_images else topics.image
        for camera in loaded.embodiment.camera_names:
            self.create_subscription(Image, topic(camera), functools.partial(self._on_image, camera), qos.NEWEST)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, qos.NEWEST)
        self.create_subscription(String, topics.INSTRUCTION, self._on_instruction, qos.LATCHED)
        self.create_service(SetBool, topics.POLICY_RUN, self._on_run)
        self.create_service(Trigger, topics.POLICY_APPROVE, self._on_approve)
        # Not by simulated time: a simulation that stands still shall be told of as well.
        self.create_timer(1.0, self._tell, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._thread = ServingThread(self._server, ordinary_thread()(loaded.warm_up))

    def destroy_node(self) -> None:
        """End the thread first: it publishes."""
        if self._thread is not None:
            self._thread.close()
        super().destroy_node()

    def _now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _publish(self, chunk: ActionChunk, is_proposal: bool) -> None:
        self._chunks[is_proposal].publish(convert.chunk_message(chunk, self._embodiment.joint_names))

    def _on_image(self, camera: str, message: Image) -> None:
        try:
            self._server.see(camera, convert.to_image(message), convert.to_seconds(message.header.stamp))
        except VlaError as error:
            self._server.misread(camera, str(error))

    def _on_joints(self, message: JointState) -> None:
        try:
            self._server.feel(convert.to_state(message, self._embodiment), convert.to_seconds(message.header.stamp))
        except VlaError as error:
            self._server.misread("", str(error))

    def _on_instruction(self, message: String) -> None:
        self._server.instruct(message.data)

    def _on_run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._server.run(request.data)
        response.success, response.message = True, "running" if request.data else "stopped"
        return response

    def _on_approve(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = True, self._server.approve()
        except VlaError as error:
            response.success, response.message = False, str(error)
        return response

    def _tell(self) -> None:
        assert self._thread is not None
        self._thread.check()
        status = self._server.status()
        note = status.idle if self._thread.is_warm.is_set() else "the network warms up"
        values = {"checkpoint": self.source.checkpoint, "realtime": self._is_realtime} | status.values
        self._diagnostics.publish(convert.diagnostic("policy", status.problem, values, self._now(), note))


def make() -> PolicyNode:
    """The node, at work."""
    take_short_turns()
    node = PolicyNode()
    node.serve(load_policy(node.source))
    return node


if __name__ == "__main__":
    raise SystemExit(run_node(make))

"""Calling services from a thread that is not the one that spins."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from vla_policy.errors import VlaError

PATIENCE = 60.0
"""For a service to appear, and to answer [s]: a policy node loads its weights first."""
SETTLE = 0.3
"""Between the first sight of a service and the first request [s]: an answer to a client that the server has not
discovered yet is lost (rmw_fastrtps waits 0.1 s for it)."""


class ServiceCalls:
    """Services by name; the node is spun by another thread."""

    def __init__(self, node: Node, patience: float = PATIENCE) -> None:
        """Call through `node`; wait for at most `patience` [s], twice: for the service and for its answer."""
        self._node, self._patience = node, patience
        self._clients: dict[str, Any] = {}

    def trigger(self, name: str) -> tuple[bool, str]:
        """Call a std_srvs/Trigger; its answer and message."""
        answer = self.call(Trigger, name, Trigger.Request())
        return answer.success, answer.message

    def require(self, name: str) -> None:
        """Call a std_srvs/Trigger that must say yes.

        Raises:
            VlaError: it says no; the message tells why.
        """
        success, message = self.trigger(name)
        if not success:
            raise VlaError(f"{name} was refused: {message}")

    def switch(self, name: str, on: bool) -> None:
        """Call a std_srvs/SetBool that must say yes.

        Raises:
            VlaError: it says no; the message tells why.
        """
        answer = self.call(SetBool, name, SetBool.Request(data=on))
        if not answer.success:
            raise VlaError(f"{name} was refused: {answer.message}")

    def set_parameters(self, node: str, values: Mapping[str, Any]) -> None:
        """Set parameters of another node.

        Raises:
            VlaError: one was refused.
        """
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        )
        for result in self.call(SetParameters, f"/{node}/set_parameters", request).results:
            if not result.successful:
                raise VlaError(f"node {node} refused its parameters: {result.reason}")

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call any service; its response.

        Raises:
            VlaError: nobody offers it, or no answer comes.
        """
        client = self._clients.get(name) or self._node.create_client(kind, name)
        if not client.wait_for_service(self._patience):
            raise VlaError(f"nobody offers {name}; start the robot side first (ros2 launch piper_bringup ...)")
        if name not in self._clients:
            self._clients[name] = client
            time.sleep(SETTLE)
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(self._patience):
            raise VlaError(f"{name} gave no answer in {self._patience:.0f} s; look at the output of its node")
        return future.result()

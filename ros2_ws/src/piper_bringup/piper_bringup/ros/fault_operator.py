"""The person beside the robot, for the fault matrix: reads the diagnostics, calls services, sets clocks wrong.

Not a node of the graph: it lives in the process that injects the faults.
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import collections
import time
from collections.abc import Sequence

import rclpy
import rclpy.utilities
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage

from piper_bringup.fault_matrix.evidence import Told
from piper_bringup.ros.beside import Beside
from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.leaving import QUIET
from vla_policy.ros.service_calls import ServiceCalls
from vla_policy.ros.spin import prepare_environment

PATIENCE = 8.0
"""For an answer [s]: enabling alone may take 5 s."""
CLOCK_PERIOD = 0.01
REMEMBERED = 5000
"""Diagnostics; some minutes."""


class FaultOperator:
    """Any one thread may call it."""

    def __init__(self) -> None:
        """Join the graph of this process's environment."""
        prepare_environment()
        rclpy.init(args=[])
        self._node = Node("fault_operator", start_parameter_services=False)
        self._told: collections.deque[Told] = collections.deque(maxlen=REMEMBERED)
        self._offset = 0.0
        self._node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, qos.EVENTS)
        self._clock = self._node.create_publisher(ClockMessage, topics.CLOCK, qos.EVENTS)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._ticks = self._node.create_timer(CLOCK_PERIOD, self._tick, clock=steady)
        self._ticks.cancel()
        # For ever the same clients: each new one has to be discovered first, and answers are lost until then.
        self._calls = ServiceCalls(self._node, PATIENCE)
        self._beside = Beside(self._node)

    def told(self, since: float) -> list[Told]:
        """What came on the diagnostics after `since` [s], monotonic."""
        return [one for one in list(self._told) if one.time >= since]

    def ask(self, service: str) -> tuple[bool, str]:
        """Call a std_srvs/Trigger; False and why where nobody answers."""
        try:
            return self._calls.trigger(service)
        except VlaError as error:
            return False, str(error)

    def lose_cameras(self, names: Sequence[str]) -> None:
        """Let these cameras of the twin send nothing; none: all send."""
        self._calls.set_parameters(topics.WORLD, {"lost_cameras": list(names) or [""]})

    def set_clock_wrong(self, node: str, offset: float) -> None:
        """Let a node's clock jump by `offset` [s]; it comes as simulated time, and is at 0 for a moment."""
        self._offset = offset
        self._ticks.reset()
        self._calls.set_parameters(node, {"use_sim_time": True})

    def set_clock_right(self, node: str) -> None:
        """Let the node go by the computer's clock again."""
        self._calls.set_parameters(node, {"use_sim_time": False})
        self._ticks.cancel()

    def _tick(self) -> None:
        now = self._node.get_clock().now().nanoseconds * 1e-9
        self._clock.publish(ClockMessage(clock=convert.to_time(now + self._offset)))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            state = next((value.value for value in status.values if value.key == "state"), "")
            is_complaint = status.level != DiagnosticStatus.OK
            state = state if status.name == "robot" else ""
            self._told.append(Told(time.monotonic(), status.name, status.message, is_complaint, state))

    def close(self) -> None:
        """Leave the graph."""
        self._beside.close(QUIET)
        rclpy.utilities.try_shutdown()

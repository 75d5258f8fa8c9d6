"""The only process that moves motors: action chunks in, measured and sent joints out, stop at any time.

    python -m piper_bringup.ros.robot_node --ros-args -p driver:=twin

What is sent and why is `control.loop.ControlLoop`'s; here messages become values and values messages. It starts
disabled and sends nothing, so that arms which hold from an earlier run go on holding; when it ends, they hold again.
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import gc
import types
from collections.abc import Generator
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from piper_bringup.control.robot_config import RobotConfig
from piper_bringup.control.states import Answer
from piper_bringup.ros.robot_in_graph import RobotInGraph
from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.parameters import declare
from vla_policy.ros.spin import run_node
from vla_policy.scheduling import prefer_this_process, take_short_turns

_CHORE_PERIOD, _CHORES_PER_REPORT = 0.05, 4  # [s], so that the diagnostics come at 5 Hz


class RobotNode(Node):
    """Ties the robot at work to the graph."""

    def __init__(self) -> None:
        """Connect to the robot; it stays disabled."""
        super().__init__("robot")
        self.config = config = declare(self, RobotConfig)
        self._graph = RobotInGraph(self, config)
        self._robot = self._graph.robot
        self._reports = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.EVENTS)
        self.create_subscription(JointTrajectory, topics.ACTION_CHUNK, self._on_chunk, qos.COMMAND)
        # A group of its own: who waits for torque or a motion holds up nobody else.
        waiting_room = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, topics.ENABLE, self._on_enable, callback_group=waiting_room)
        self.create_service(Trigger, topics.HOME, self._on_home, callback_group=waiting_room)
        self.create_service(Trigger, topics.STOP, self._on_stop)
        self.create_service(Trigger, topics.RELEASE, self._on_release)
        self._num_chores = 0
        self._homing: Any = None
        self.create_timer(_CHORE_PERIOD, self._on_chore, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_chunk(self, message: JointTrajectory) -> None:
        try:
            self._robot.submit(convert.to_chunk(message, DUAL_PIPER))
        except VlaError as error:
            self._robot.refuse(str(error))

    async def _on_enable(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answer = self._robot.enable()
        while not answer.done():
            await _later()
        return _filled(response, answer.result())

    async def _on_home(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answer = self._robot.go_home()
        if not answer.success:
            return _filled(response, answer)
        self._homing = Future()
        return _filled(response, await self._homing)

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return _filled(response, self._robot.stop(topics.STOP))

    def _on_release(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return _filled(response, self._robot.release())

    def _on_chore(self) -> None:
        while self._robot.loop.events:
            self.get_logger().info(self._robot.loop.events.popleft())
        self._robot.compare_clocks()
        if self._homing is not None and not self._homing.done() and (answer := self._robot.homing()) is not None:
            self._homing.set_result(answer)
        self._num_chores += 1
        if self._num_chores % _CHORES_PER_REPORT == 0 and (told := self._robot.status()) is not None:
            (problem, note, values), stamp = told
            self._reports.publish(convert.diagnostic("robot", problem, values, stamp, note))

    def destroy_node(self) -> None:
        """Bring the arms to rest first; they go on holding."""
        print(f"robot: {self._graph.close()}", flush=True)  # the log may be closed by now
        super().destroy_node()


@types.coroutine
def _later() -> Generator[None, None, None]:
    """Come back at the executor's next turn."""
    yield


def _filled(response: Trigger.Response, answer: Answer) -> Trigger.Response:
    response.success, response.message = answer.success, answer.message
    return response


def make() -> RobotNode:
    """The node; those of its threads that were started before it knew its priority are preferred now."""
    node = RobotNode()
    prefer_this_process(node.config.priority)
    gc.freeze()  # what is there now stays: the collector need not look through it while the robot moves
    return node


def main() -> None:
    """Run until told to end."""
    take_short_turns()
    raise SystemExit(run_node(make))


if __name__ == "__main__":
    main()

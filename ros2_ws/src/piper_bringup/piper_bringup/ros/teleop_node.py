"""Leads the robot by hand, or plays the twin's expert: joint targets out as short action chunks, as from a policy.

    python -m piper_bringup.ros.teleop_node --ros-args -p source:=keyboard

It stands in the policy's place, so /policy/run starts and pauses it too.
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import functools
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from piper_bringup.control.stamps import Stamps
from piper_bringup.ros.world_settings import WorldSettings
from piper_bringup.teleop.config import SOURCES, TeleopConfig
from piper_bringup.teleop.source import SERVICES
from piper_twin.robot import CONTROL_PERIOD, DUAL_PIPER
from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.parameters import declare
from vla_policy.ros.spin import run_node
from vla_policy.types import ActionChunk, Vector

_REPORT_PERIOD = 1.0


class TeleopNode(Node):
    """Joint states in, action chunks out; the operator's requests become service calls."""

    def __init__(self, **options: Any) -> None:
        """Open the source's devices."""
        super().__init__("teleop", **options)
        self._config = declare(self, TeleopConfig)
        self._state, self._seen, self._is_running, self._word = None, 0.0, True, ""
        # Simulated time where there is any; otherwise a clock that nobody sets.
        simulated = self.get_parameter("use_sim_time").value
        self._steady = self.get_clock() if simulated else Clock(clock_type=ClockType.STEADY_TIME)
        self._begin = self._now()
        self._stamps = Stamps(self._now, self._ros_now)
        self._calls = {name: self.create_client(Trigger, name) for name in SERVICES}
        self._source = SOURCES[self._config.source](self._config, self._tell, self._request)
        group = ReentrantCallbackGroup()  # in the node's own, /policy/run and the answer it awaits exclude each other
        self._world = WorldSettings(self, group)
        self.create_service(SetBool, topics.POLICY_RUN, self._on_run, callback_group=group)
        self._chunks = self.create_publisher(JointTrajectory, topics.ACTION_CHUNK, qos.COMMAND)
        self._reports = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.EVENTS)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, qos.NEWEST)
        self.create_timer(self._source.interval, self._tick, clock=self._steady)
        self.create_timer(_REPORT_PERIOD, self._report, clock=self._steady)

    def _now(self) -> float:
        return self._steady.now().nanoseconds * 1e-9

    def _ros_now(self) -> float:
        return self.get_clock().now().nanoseconds * 1e-9

    def _on_joints(self, message: JointState) -> None:
        self._state, self._seen = convert.to_state(message, DUAL_PIPER), self._now()

    def _known(self) -> Vector | None:
        return self._state if self._now() - self._seen <= self._config.max_joint_age else None

    def _tick(self) -> None:
        # On an even grid: rows of one chunk then meet those of the next, whenever the timer comes.
        now, interval = self._now(), self._source.interval
        due = self._begin + round((now - self._begin) / interval) * interval
        rows = self._source.targets(self._known() if self._is_running else None, due)
        if rows is None:
            return
        chunk = ActionChunk(actions=rows, period=CONTROL_PERIOD, stamp=self._stamps.to_message(due))
        self._chunks.publish(convert.chunk_message(chunk, DUAL_PIPER.joint_names))

    async def _on_run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._is_running, response.success, response.message = False, True, "paused"
        if request.data:
            try:
                world = await self._world.ask()
                state = self._known()
                if state is None:
                    raise VlaError(f"no {topics.JOINT_STATES} arrive; start the robot first")
                response.message, self._is_running = self._source.start(state, self._now(), world), True
            except VlaError as error:
                response.success, response.message = False, str(error)
        self._tell(response.message)
        return response

    def _request(self, service: str) -> None:
        call = self._calls[service]
        if call.service_is_ready():
            call.call_async(Trigger.Request()).add_done_callback(functools.partial(self._answered, service))
        else:
            self._tell(f"nobody offers {service}; start the node that does")

    def _answered(self, service: str, future: Any) -> None:
        answer = future.result()
        self._tell(f"{service}: {'' if answer.success else 'refused: '}{answer.message or 'done'}")

    def _tell(self, text: str) -> None:
        self._word = text
        self.get_logger().info(text)

    def _report(self) -> None:
        self._stamps.compare()
        problem = None if self._known() is not None else f"no {topics.JOINT_STATES} arrive; start the robot"
        values = {"source": self._config.source, "running": self._is_running, "said": self._word}
        self._reports.publish(convert.diagnostic("teleop", problem, values, self._ros_now()))

    def destroy_node(self) -> None:
        """Leave the devices too."""
        self._source.close()
        super().destroy_node()


def main() -> None:
    """Run until told to end."""
    raise SystemExit(run_node(TeleopNode))


if __name__ == "__main__":
    main()

"""The twin's world in the graph: its cameras, its objects, its reset and its judgement.

It lives in the process that moves the world's joints (robot_node with the driver `twin`, or the emulated arms); that
process spins it beside its own node.
"""

# pyright: basic
# ROS messages carry no types.

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage
from std_srvs.srv import Trigger

from piper_bringup.live_world import LiveWorld
from piper_bringup.pacing import Chore, Periodic, WorldClock, keep_real_time
from piper_bringup.ros.episode_parameters import EpisodeParameters
from piper_bringup.ros.world_outlet import WorldOutlet
from piper_twin.episode import Episode
from vla_policy import topics
from vla_policy.errors import VlaError
from vla_policy.ros import convert, qos
from vla_policy.ros.parameters import declare

_CLOCK_PERIOD, _REPORT_PERIOD = 0.01, 1.0  # [s]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """How the world is drawn, seen and timed."""

    randomization: str = "off"
    """off, standard or wide."""
    camera_rate: float = 25.0
    """Images of each camera a second [Hz]: one a control period."""
    speed: float = 1.0
    """Simulated seconds a second. Other than 1: the control loop lets the world go on, as fast as it can but no faster
    than this (0: no limit), time is told on /clock, and every node needs use_sim_time."""

    def __post_init__(self) -> None:
        """Refuse what is no rate or speed."""
        if not self.camera_rate > 0.0 or self.speed < 0.0:
            raise VlaError(f"camera_rate {self.camera_rate} must be above 0, and speed {self.speed} not below")


class WorldNode(Node):
    """Offers a world, and lets its time pass: in real time by itself, otherwise whenever `clock` is waited for."""

    def __init__(self, **options: Any) -> None:
        """Start the world that the parameters name."""
        super().__init__(topics.WORLD, **options)
        config = declare(self, WorldConfig)
        self._next = EpisodeParameters(self, Episode("click_bell", 0, "evaluation"))
        first = self._next.episode()
        self.world = LiveWorld(first.task, first.seed, first.split, config.randomization)
        self.clock = None if config.speed == 1.0 else WorldClock(self.world, config.speed or math.inf)
        """Of a world that is not in real time."""
        self.placing: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        """Entered while a reset moves the arms: for whoever drives them."""
        self._outlet = WorldOutlet(self, self.world)
        self._reports = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, qos.EVENTS)
        self.create_service(Trigger, topics.WORLD_RESET, self._on_reset)
        self.create_service(Trigger, topics.WORLD_SUCCESS, self._on_success)
        self.create_timer(_REPORT_PERIOD, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._outlet.announce()
        self._look()  # starting OpenGL stops every thread for a while: now there is no control loop yet
        self._running = self._begin(1.0 / config.camera_rate)

    def _begin(self, period: float) -> Sequence[Periodic | Chore]:
        """Let time pass, and look once a `period` [s]."""
        if self.clock is None:
            return keep_real_time(self.world), Periodic("cameras", period, self._look)
        ticks = self.create_publisher(ClockMessage, topics.CLOCK, qos.EVENTS)
        tick = self.clock.every("clock", _CLOCK_PERIOD, lambda: ticks.publish(ClockMessage(clock=self._stamp())))
        return tick, self.clock.every("cameras", period, self._look)

    def now(self) -> float:
        """What messages are stamped with [s]: simulated time, if it is another than ours."""
        return self.clock.now() if self.clock else self.get_clock().now().nanoseconds * 1e-9

    def _stamp(self) -> Time:
        return convert.to_time(self.now())

    def _look(self) -> None:
        self._outlet.look(self.now())

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            with self.placing():
                self.world.reset(self._next.episode())
            self._outlet.announce()
            self._look()  # whoever goes on now sees the new world
            response.success, response.message = True, self.world.instruction
        except VlaError as error:
            response.success, response.message = False, str(error)
        return response

    def _on_success(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        solved_after = self.world.moment.solved_after
        response.success = solved_after is not None
        response.message = "not solved so far" if solved_after is None else f"solved after {solved_after:.2f} s"
        return response

    def _problem(self) -> str | None:
        for running in self._running:
            if running.error is not None:
                return f"the world's {running.name} ended: {running.error}"
        return "physics broke down; reset the world" if self.world.moment.is_broken else None

    def _report(self) -> None:
        values: dict[str, object] = dataclasses.asdict(self.world.episode)
        values |= {"solved": self.world.solved(), "time_s": round(self.world.time, 3)}
        values |= {f"{running.name}_skipped": running.skipped for running in self._running}
        self._reports.publish(convert.diagnostic("world", self._problem(), values, self.now()))

    def destroy_node(self) -> None:
        """End the world's time first."""
        for running in self._running:
            running.close()
        self.world.close()
        super().destroy_node()

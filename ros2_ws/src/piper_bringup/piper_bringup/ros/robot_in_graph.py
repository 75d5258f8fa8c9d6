"""The robot at work from a node's parameters: which driver, which clock, which limits."""

# pyright: basic
# ROS has no types.

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from rclpy.node import Node

from piper_bringup.control.loop import ControlConfig, ControlLoop
from piper_bringup.control.loop_thread import Clock, MonotonicClock
from piper_bringup.control.robot_at_work import RobotAtWork
from piper_bringup.control.robot_config import DriverName, RobotConfig
from piper_bringup.control.stamps import Stamps
from piper_bringup.drivers.driver import Driver
from piper_bringup.drivers.fake import FakeDriver
from piper_bringup.drivers.twin import TwinDriver
from piper_bringup.ros.beside import Beside
from piper_bringup.ros.tick_outlet import TickOutlet
from piper_bringup.ros.world_node import WorldNode
from piper_twin.guard import GuardConfig
from piper_twin.robot import DUAL_PIPER
from vla_policy.ros.parameters import declare
from vla_policy.scheduling import CONTROL_BONUS, preferred_threads


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """Something to control."""

    driver: Driver
    clock: Clock
    is_simulated_time: bool = False
    """The clock is a world's, and messages are stamped by it."""
    close: Callable[[], None] = lambda: None
    """Ends what was started for it; the driver is closed before."""


class RobotInGraph:
    """A robot at work, and its joints as topics of a node."""

    def __init__(self, node: Node, config: RobotConfig) -> None:
        """Connect to the robot that `config` names; its own parameters are declared on `node`."""
        control, distances = declare(node, ControlConfig), declare(node, GuardConfig)
        with preferred_threads(config.priority):
            self._body = body = _BODIES[config.driver](node, config)
            ros_clock = node.get_clock()
            ros_now = body.clock.now if body.is_simulated_time else lambda: ros_clock.now().nanoseconds * 1e-9
            stamps = Stamps(body.clock.now, ros_now)
            self._outlet = TickOutlet(node, DUAL_PIPER, stamps)
            loop = ControlLoop(body.driver, config.limited(DUAL_PIPER), distances, control)
            priority = config.priority and config.priority + CONTROL_BONUS
            self.robot = RobotAtWork(loop, body.driver, body.clock, stamps, self._outlet.put, priority)

    def close(self) -> str:
        """Bring the arms to rest, where they go on holding; tells so."""
        told = self.robot.close()
        self._outlet.stop()
        self._body.close()
        return told


def _fake(node: Node, config: RobotConfig) -> Body:
    del node, config
    return Body(FakeDriver(DUAL_PIPER), MonotonicClock())


def _twin(node: Node, config: RobotConfig) -> Body:
    del node, config
    world = WorldNode()
    beside = Beside(world)
    return Body(TwinDriver(world.world), world.clock or MonotonicClock(), world.clock is not None, beside.close)


def _piper(node: Node, config: RobotConfig) -> Body:
    # python-can and piper_sdk are an extra that simulation does without.
    from piper_bringup.drivers.piper import PiperDriver
    from piper_bringup.drivers.piper_arm import ArmSettings
    from piper_bringup.drivers.piper_bus import BusConfig

    driver = PiperDriver(declare(node, BusConfig), declare(node, ArmSettings), config.speed)
    return Body(driver, MonotonicClock())


_BODIES: dict[DriverName, Callable[[Node, RobotConfig], Body]] = {"fake": _fake, "twin": _twin, "piper": _piper}

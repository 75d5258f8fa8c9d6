"""Drivers by name, each with the clock that the control loop shall go by."""

# pyright: basic
# ROS has no types.

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from rclpy.node import Node

from piper_bringup.drivers.driver import Driver
from piper_bringup.drivers.fake import FakeDriver
from piper_bringup.drivers.twin import TwinDriver
from piper_bringup.loop_thread import Clock, MonotonicClock
from piper_bringup.robot_config import DriverName, RobotConfig
from piper_bringup.ros.beside import Beside
from piper_bringup.ros.world_node import WorldNode
from piper_twin.robot import DUAL_PIPER
from vla_policy.ros.parameters import declare


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """A robot to control."""

    driver: Driver
    clock: Clock
    is_simulated_time: bool = False
    """The clock is a world's, and messages are stamped by it."""
    close: Callable[[], None] = lambda: None
    """Ends what was started for it; the driver is closed before."""


def make_body(node: Node, config: RobotConfig) -> Body:
    """The robot that `config` names; its own parameters are declared on `node`."""
    return _BODIES[config.driver](node, config)


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

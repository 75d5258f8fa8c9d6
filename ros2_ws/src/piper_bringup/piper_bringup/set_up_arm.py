"""Set up one arm once: which gripper it has, that it follows, its factory limits.

    python -m piper_bringup.set_up_arm --channel can_left --stroke 0.07

The arm may be without torque; no joint moves. robot_node must not run meanwhile. A new role counts from the next time
the arm is switched on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import can
import tyro

from piper_bringup.can import bus as can_bus
from piper_bringup.can import commands as commands
from piper_bringup.can.protocol import Frame
from piper_twin.exit_codes import exit_after
from vla_policy.errors import VlaError

STROKES = (0.07, 0.10)
"""Of the grippers there are, V1 and V2 [m]."""
PAUSE = 0.1
"""Between two settings [s]; an arm stores them one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUpConfig:
    """What to set; what is left out stays as it is."""

    channel: str
    """CAN channel of the arm."""
    bustype: str = "socketcan"
    """Interface of python-can."""
    stroke: float | None = None
    """Of its gripper, 0.07 (V1) or 0.10 (V2) [m]."""
    role: Literal["follower", "leader"] | None = None
    """follower obeys, leader sends where it is dragged."""
    factory_limits: bool = False
    """Set every joint's limits, speed and acceleration to the factory's."""

    def __post_init__(self) -> None:
        """Refuse grippers there are not, and doing nothing."""
        if self.stroke is not None and self.stroke not in STROKES:
            raise VlaError(f"stroke is {self.stroke}; it must be one of {STROKES} m")
        if self.stroke is None and self.role is None and not self.factory_limits:
            raise VlaError("nothing is to be set; give --stroke, --role or --factory-limits")


def frames(config: SetUpConfig) -> list[Frame]:
    """What the arm is told."""
    told: list[Frame] = []
    if config.stroke is not None:
        told.append(commands.Stroke(config.stroke).encode(commands.SET_STROKE))
    if config.role is not None:
        told.append(commands.Role(commands.LEADER if config.role == "leader" else commands.FOLLOWER).encode())
    if config.factory_limits:
        told.append(Frame(commands.PARAMETER_QUERY, bytes((0, commands.LIMITS_TO_FACTORY, 0, 0, 3, 0, 0, 0))))
    return told


def set_up(config: SetUpConfig) -> None:
    """Tell the arm.

    Raises:
        VlaError: the channel cannot be opened, or nothing can be sent.
    """
    if config.bustype == can_bus.INTERFACE:
        can_bus.register()
    try:
        with can.Bus(channel=config.channel, interface=config.bustype) as bus:
            for frame in frames(config):
                bus.send(can.Message(arbitration_id=frame.id, data=frame.data, is_extended_id=False))
                time.sleep(PAUSE)
    except (can.CanError, OSError) as error:
        raise VlaError(f"cannot set up the arm on {config.channel} ({config.bustype}): {error}") from error
    print(f"told the arm on {config.channel}" + ("; switch it off and on" if config.role else ""))


if __name__ == "__main__":
    exit_after(lambda: set_up(tyro.cli(SetUpConfig)))

"""What a scripted expert wants of the arms, as plain data: every task speaks of it, few processes solve for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from piper_twin.robot import ARM_SPACING, ARMS, GRIPPER_STROKE
from vla_policy.errors import VlaError

TILT = math.radians(30.0)
"""How far the tool leans from straight down, its tip forward: joint 5 ends at 70 degrees."""


class Unreachable(VlaError):
    """A tool pose the arm cannot take."""


@dataclasses.dataclass(frozen=True, slots=True)
class ToolPose:
    """Where the point between the finger pads shall be, in the world [m, rad]."""

    x: float
    y: float
    z: float
    yaw: float | None = None
    """Direction in the table plane towards which the tip leans; None: straight away from the arm's base."""
    tilt: float = TILT
    """From straight down; pi/2 is horizontal."""
    roll: float = 0.0
    """Turn of the fingers about the tool axis; at 0 they open to the sides."""
    opening: float = GRIPPER_STROKE
    """Total gripper opening [m]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """A target for one or both arms; it is over when every arm has arrived and waited."""

    targets: Mapping[str, ToolPose]
    wait: float = 0.0
    """Rest at the target [s]."""
    speed: float = 1.0
    """Share of the joint velocity limit."""
    straight: bool = False
    """Along a straight line of the tool instead of straight in joint space."""


def base_position(arm: str) -> tuple[float, float]:
    """The arm's base in the table plane [m]."""
    return 0.0, (0.5 - ARMS.index(arm)) * ARM_SPACING


def nearer_arm(y: float) -> str:
    """The arm whose base is nearer to `y` [m]."""
    return min(ARMS, key=lambda arm: abs(base_position(arm)[1] - y))

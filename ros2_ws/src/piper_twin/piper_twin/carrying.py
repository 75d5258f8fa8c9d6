"""Moves that experts share: take hold of something, set it down, and two arms at work at the same time."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from piper_twin.moves import Move, ToolPose, base_position
from piper_twin.robot import ARMS

ABOVE = 0.06
"""From here a gripper goes straight down [m]."""
SQUEEZE = 0.02
"""A gripper is told to close to what it holds less this [m]: enough for its full force, and it opens the sooner."""


def other_arm(arm: str) -> str:
    """The arm that is not `arm`."""
    return ARMS[1 - ARMS.index(arm)]


def away_from_base(arm: str, x: float, y: float) -> float:
    """Direction from the arm's base to a place in the table plane [rad]."""
    base_x, base_y = base_position(arm)
    return math.atan2(y - base_y, x - base_x)


def squeezing(pose: ToolPose, width: float) -> ToolPose:
    """The same place with the gripper closed on something `width` wide [m]."""
    return dataclasses.replace(pose, opening=max(0.0, width - SQUEEZE))


def take(arm: str, grasp: ToolPose, width: float, lift: float = ABOVE) -> list[Move]:
    """Come from above, open, to `grasp`; close on something `width` wide; raise it by `lift` [m]."""
    closed = squeezing(grasp, width)
    return [
        Move({arm: dataclasses.replace(grasp, z=grasp.z + ABOVE)}),
        Move({arm: grasp}, straight=True, wait=0.08),
        Move({arm: closed}, wait=0.16),
        Move({arm: dataclasses.replace(closed, z=grasp.z + lift)}, straight=True),
    ]


def set_down(arm: str, place: ToolPose, width: float, above: float = 0.045, away: float = ABOVE) -> list[Move]:
    """Carry something `width` wide to over `place`, lower it, open as far as `place` says, rise by `away` [m]."""
    held = squeezing(place, width)
    return [
        Move({arm: dataclasses.replace(held, z=place.z + above)}, speed=0.9),
        Move({arm: held}, straight=True, wait=0.12),
        Move({arm: place}, wait=0.12),
        Move({arm: dataclasses.replace(place, z=place.z + away)}, straight=True),
    ]


def rest(arm: str) -> Move:
    """Get out of the other arm's way, to about where the arm started."""
    x, y = base_position(arm)
    return Move({arm: ToolPose(x + 0.24, y, 0.17)})


def together(*plans: Sequence[Move]) -> list[Move]:
    """Plans of different arms at the same time, move by move: each waits for the other's."""
    return [_joined([move for move in moves if move is not None]) for moves in itertools.zip_longest(*plans)]


def _joined(moves: Sequence[Move]) -> Move:
    return Move(
        {arm: pose for move in moves for arm, pose in move.targets.items()},
        wait=max(move.wait for move in moves),
        speed=min(move.speed for move in moves),
        straight=any(move.straight for move in moves),
    )

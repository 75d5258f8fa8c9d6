"""Handing a bar from one arm to the other in the air: where it happens, the moves, and who holds the bar.

A bar is a body that lies along its x axis. The giver holds it near one end, its gripper leaning away from the other
end, which the taker takes with its own gripper leaning the other way: so the arms keep their distance.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from piper_twin.carrying import other_arm, squeezing, take
from piper_twin.moves import Move, ToolPose, nearer_arm
from piper_twin.predicates import TOUCH
from piper_twin.robot import ARMS
from piper_twin.task import Placement, Readings

MEETING = (0.29, 0.0, 0.13)
"""Middle of the two grips while the bar changes hands [m]."""
_BACK = 0.055
"""How far along its own axis a gripper comes and goes [m]."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Grips:
    """Where on a bar the two arms take hold."""

    give: float
    """Of the giver along the bar's x axis [m]."""
    take: float
    """Of the taker [m]."""
    height: float
    """Of both over the bar's origin [m]."""
    width: float
    """Of the bar between the fingers [m]."""


def lay_bar(rng: np.random.Generator, grips: Grips) -> Placement:
    """A bar in front of either arm, turned so that this arm can reach the end it gives with."""
    side = float(rng.choice((-1.0, 1.0)))
    x, y = rng.uniform((0.28, 0.13), (0.40, 0.28))
    lean = -side * rng.uniform(0.05, 0.85)
    return Placement(x, side * y, yaw=lean if grips.take > grips.give else lean + math.pi)


def is_held_by(now: Readings, arm: str, bar: str, grips: Grips) -> Any:
    """Whether both pads of the arm press, and the tool is at the bar: anywhere along it, within 3 cm of its axis."""
    pressed = (now.scalar(f"{arm}_pad1") > TOUCH) & (now.scalar(f"{arm}_pad2") > TOUCH)
    offset = now[f"{arm}_tool"] - now[f"{bar}_position"] - grips.height * now[f"{bar}_up"]
    along = (offset * now[f"{bar}_forward"]).sum(-1)
    beside = (offset**2).sum(-1) - along**2
    return pressed & (abs(along) < 0.11) & (beside < 0.03**2)


def has_let_go(now: Readings, arm: str) -> Any:
    """Whether nothing touches the arm's pads."""
    return (now.scalar(f"{arm}_pad1") < TOUCH) & (now.scalar(f"{arm}_pad2") < TOUCH)


def started_with(start: Readings, arm: str, bar: str) -> Any:
    """Whether the bar lay on the arm's side of the table."""
    return start.y(f"{bar}_position") > 0.0 if arm == ARMS[0] else start.y(f"{bar}_position") <= 0.0


def signals(now: Readings, start: Readings, bar: str, grips: Grips) -> dict[str, Any]:
    """Who holds the bar, and whether it has left the table."""
    held, by_both, by_taker = False, True, False
    for arm in ARMS:
        holds = is_held_by(now, arm, bar, grips)
        held, by_both = held | holds, by_both & holds
        by_taker = by_taker | (holds & started_with(start, other_arm(arm), bar))
    lifted = now.z(f"{bar}_position") - start.z(f"{bar}_position") > 0.03
    return {
        "grasped": held,
        "lifted": lifted & (abs(now.z(f"{bar}_forward")) < 0.8),
        "met": by_both,
        "handed_over": by_taker & lifted & ~by_both,
    }


def hand_over(start: Readings, bar: str, grips: Grips) -> list[Move]:
    """The nearer arm takes the bar and holds it out over the middle; the other takes it, and the first withdraws."""
    x, y, z = (float(value) for value in start[f"{bar}_position"])
    forward = math.atan2(float(start.y(f"{bar}_forward")), float(start.x(f"{bar}_forward")))
    giver = nearer_arm(y)
    taker = other_arm(giver)
    apart = abs(grips.take - grips.give)
    lean = forward if grips.take > grips.give else forward - math.copysign(math.pi, forward)
    at_x, at_y = x + grips.give * math.cos(forward), y + grips.give * math.sin(forward)
    grasp = ToolPose(at_x, at_y, z + grips.height, yaw=lean, opening=0.055)
    offered, taken = _at_meeting(giver, apart), _at_meeting(taker, apart)
    closed, held = squeezing(taken, grips.width), squeezing(offered, grips.width)
    return [
        *take(giver, grasp, grips.width),
        Move({giver: held, taker: _withdrawn(taken)}, speed=0.9, wait=0.08),
        Move({taker: taken}, straight=True, wait=0.12),
        Move({taker: closed}, wait=0.2),
        Move({giver: offered}, wait=0.12),
        Move({giver: _withdrawn(offered)}, straight=True),
    ]


def _at_meeting(arm: str, apart: float) -> ToolPose:
    """On the arm's own side of the meeting point, leaning away from the other's."""
    x, y, z = MEETING
    side = 1.0 if arm == ARMS[0] else -1.0
    return ToolPose(x, y + 0.5 * apart * side, z, yaw=-0.5 * math.pi * side, opening=0.055)


def _withdrawn(pose: ToolPose) -> ToolPose:
    """Back along the tool's own axis."""
    assert pose.yaw is not None
    level, up = _BACK * math.sin(pose.tilt), _BACK * math.cos(pose.tilt)
    return dataclasses.replace(
        pose, x=pose.x - level * math.cos(pose.yaw), y=pose.y - level * math.sin(pose.yaw), z=pose.z + up
    )

"""What tasks ask of their objects: standing, resting, held, let go. Operators only, any leading batch axes."""

from __future__ import annotations

from typing import Any

from piper_twin.robot import ARMS
from piper_twin.task import Readings

TOUCH = 0.2
"""Force on a finger pad that counts as touching [N]."""
REACH = 0.07
"""Farther than this from an object's axis a gripper has to do with something else [m]."""
REST_SPEED = 0.02
"""[m/s]."""
LIFTED = 0.03
"""An object this far above its place has left the table [m]."""
PUSHED = 0.03
"""An object that slid this far was pushed [m]."""
_SLIDE_SPEED = 0.03


def is_upright(now: Readings, body: str, cosine: float = 0.95) -> Any:
    """Whether the body's axis leans by no more than the angle of that cosine (0.95: 18 degrees)."""
    return now.z(f"{body}_up") > cosine


def is_still(now: Readings, body: str) -> Any:
    """Whether the body rests."""
    return now.speed(f"{body}_velocity") < REST_SPEED


def shift_xy(now: Readings, start: Readings, body: str) -> Any:
    """How far the body is from where it started, horizontally [m]."""
    moved = now[f"{body}_position"] - start[f"{body}_position"]
    return (moved[..., :2] ** 2).sum(-1) ** 0.5


def rise(now: Readings, start: Readings, body: str) -> Any:
    """How far the body is above where it started [m]."""
    return now.z(f"{body}_position") - start.z(f"{body}_position")


def is_held(now: Readings, body: str, height: float, reach: float = REACH) -> Any:
    """Whether both pads of a gripper press and the tool is within `reach` of the body's axis at `height` [m]."""
    held = False
    for arm in ARMS:
        pressed = (now.scalar(f"{arm}_pad1") > TOUCH) & (now.scalar(f"{arm}_pad2") > TOUCH)
        held = held | (pressed & (_distance(now, arm, body, height) < reach))
    return held


def is_released(now: Readings, body: str, height: float, reach: float = REACH) -> Any:
    """Whether no gripper near the body touches anything: they are open around it, or away."""
    released = True
    for arm in ARMS:
        touched = (now.scalar(f"{arm}_pad1") > TOUCH) | (now.scalar(f"{arm}_pad2") > TOUCH)
        released = released & ~(touched & (_distance(now, arm, body, height) < reach))
    return released


def is_pushed(now: Readings, start: Readings, body: str, height: float, reach: float = REACH) -> Any:
    """Whether the body slides over the table, away from where it started and not in a grip.

    Seen over an episode this tells a push from grasping, carrying and setting down.
    """
    speed = (now[f"{body}_velocity"][..., :2] ** 2).sum(-1) ** 0.5
    sliding = (speed > _SLIDE_SPEED) & (abs(rise(now, start, body)) < 0.5 * LIFTED)
    return sliding & (shift_xy(now, start, body) > PUSHED) & ~is_held(now, body, height, reach)


def is_carried(now: Readings, start: Readings, body: str, height: float, reach: float = REACH) -> Any:
    """Whether a gripper holds the body off the table."""
    return is_held(now, body, height, reach) & (rise(now, start, body) > LIFTED)


def strategy(now: Readings, start: Readings, body: str, height: float, reach: float = REACH) -> dict[str, Any]:
    """The signals by which ways of moving one body are told apart."""
    return {
        "grasped": is_held(now, body, height, reach),
        "lifted": (rise(now, start, body) > LIFTED) & is_upright(now, body, 0.5),  # a tumbling body rises too
        "pushed": is_pushed(now, start, body, height, reach),
    }


def _distance(now: Readings, arm: str, body: str, height: float) -> Any:
    point = now[f"{body}_position"] + height * now[f"{body}_up"]
    return ((now[f"{arm}_tool"] - point) ** 2).sum(-1) ** 0.5

"""Put a phone that lies on the table onto its stand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import belongings
from piper_twin.moves import Move, ToolPose, base_position, nearer_arm
from piper_twin.predicates import is_released, is_still, is_upright, shift_xy, strategy
from piper_twin.robot import DEG
from piper_twin.task import Placement, Readings, Scene, Task

GRASP_HEIGHT = 0.014
"""Of the tool over the phone's back [m]."""
IN_PLACE = 0.02
"""Largest distance of the phone from where it rests on its stand [m]."""
LEANS = 0.96
"""Least cosine of the angle between the phone and the stand's plate: 16 degrees."""
_SEAT = (
    belongings.STAND_GROOVE[0] + 0.5 * belongings.PHONE_SIZE[0] * math.cos(belongings.STAND_ANGLE),
    belongings.STAND_GROOVE[1] + 0.5 * belongings.PHONE_SIZE[0] * math.sin(belongings.STAND_ANGLE),
)
"""Where the middle of the phone's back rests: along the stand's x axis and above its bottom [m]."""
_TILT = 20 * DEG
"""Of the tool over the lying phone; it leans by the stand's angle more when it sets the phone down."""
_OPEN, _CLOSED = 0.068, belongings.PHONE_SIZE[1] - 0.02
"""Openings around the phone and on it [m]: closed by 2 cm more than it allows, the gripper has its full force."""
_REACH = 0.08
"""A grip anywhere on the phone [m]."""

_COLOURS = ((0.30, 0.56, 0.86), (0.86, 0.42, 0.36), (0.30, 0.66, 0.50), (0.62, 0.44, 0.80))


class PlacePhoneStand(Task):
    """The phone leans on its stand, upper end up, screen out, at rest, and nobody holds it."""

    name = "place_phone_stand"
    instructions = (
        "place the phone on the stand",
        "put the phone onto its stand",
        "set the phone on the phone stand",
        "pick up the phone and lean it on the stand",
    )
    unseen_instructions = (
        "let the phone rest in its holder",
        "the phone goes on the stand, put it there",
    )
    horizon = 176

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """A phone and its stand."""
        belongings.add_phone(spec, "phone")
        belongings.add_stand(spec, "stand")

    def scene(self, rng: np.random.Generator) -> Scene:
        """Both in front of the same arm, lower ends towards it."""
        side = rng.choice((-1.0, 1.0))
        while True:
            (x, y), (stand_x, stand_y) = rng.uniform(((0.26, 0.08), (0.34, 0.08)), ((0.42, 0.34), (0.42, 0.34)))
            if math.hypot(x - stand_x, y - stand_y) > 0.165:
                break
        base_y = base_position(nearer_arm(side * y))[1]
        lean, stand_lean = (math.atan2(side * at_y - base_y, at_x) for at_x, at_y in ((x, y), (stand_x, stand_y)))
        return Scene(
            placements={
                "phone": Placement(x, side * y, yaw=lean + rng.uniform(-0.5, 0.5)),
                "stand": Placement(stand_x, side * stand_y, yaw=stand_lean + rng.uniform(-0.3, 0.3)),
            },
            instruction=self.phrase(rng),
            colours={"phone_screen": _COLOURS[int(rng.integers(len(_COLOURS)))]},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """The phone lies against the stand's plate in its groove, at rest and let go; the stand has hardly moved."""
        across, above = _SEAT
        seat = now["stand_position"] + across * now["stand_forward"] + above * now["stand_up"]
        seated = ((now["phone_position"] - seat) ** 2).sum(-1) < IN_PLACE**2
        cosine, sine = math.cos(belongings.STAND_ANGLE), math.sin(belongings.STAND_ANGLE)
        plate = cosine * now["stand_forward"] + sine * now["stand_up"]
        normal = cosine * now["stand_up"] - sine * now["stand_forward"]
        leans = ((now["phone_forward"] * plate).sum(-1) > LEANS) & ((now["phone_up"] * normal).sum(-1) > LEANS)
        stand_stays = is_upright(now, "stand", 0.98) & (shift_xy(now, start, "stand") < 0.05)
        released = is_released(now, "phone", GRASP_HEIGHT, _REACH)
        return seated & leans & stand_stays & is_still(now, "phone") & released

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How the phone is moved, and whether the stand was."""
        return strategy(now, start, "phone", GRASP_HEIGHT, _REACH) | {
            "stand_moved": shift_xy(now, start, "stand") > 0.02
        }

    def plan(self, start: Readings) -> list[Move]:
        """Grasp the phone by its edges, raise it, turn its upper end up, set it into the groove, draw back."""
        x, y, z = (float(value) for value in start["phone_position"])
        arm = nearer_arm(y)
        grasp = ToolPose(x, y, z + GRASP_HEIGHT, yaw=_heading(start, "phone"), tilt=_TILT, opening=_OPEN)
        closed = dataclasses.replace(grasp, opening=_CLOSED)
        down = dataclasses.replace(_on_stand(start, 0.003), opening=_CLOSED)
        off = dataclasses.replace(_on_stand(start, 0.06), opening=_CLOSED)
        over = dataclasses.replace(off, z=off.z + 0.005)  # the stand's edge must not be met from the side
        released = dataclasses.replace(down, opening=_OPEN)
        return [
            Move({arm: dataclasses.replace(grasp, z=0.06)}),
            Move({arm: grasp}, wait=0.08),
            Move({arm: closed}, wait=0.12),
            Move({arm: dataclasses.replace(closed, z=0.13)}),
            Move({arm: over}, speed=0.7),
            Move({arm: down}, straight=True, wait=0.08),
            Move({arm: released}, wait=0.12),
            Move({arm: _drawn_back(released, 0.07)}, straight=True, wait=0.4),
        ]


def _heading(start: Readings, body: str) -> float:
    return math.atan2(float(start.y(f"{body}_forward")), float(start.x(f"{body}_forward")))


def _on_stand(start: Readings, gap: float) -> ToolPose:
    """Where the tool holds a phone that is `gap` [m] off the stand's plate and lip."""
    x, y, z = (float(value) for value in start["stand_position"])
    heading, angle = _heading(start, "stand"), belongings.STAND_ANGLE
    off, along = gap + GRASP_HEIGHT, 0.003
    across = _SEAT[0] + along * math.cos(angle) - off * math.sin(angle)
    above = _SEAT[1] + along * math.sin(angle) + off * math.cos(angle)
    return ToolPose(
        x + across * math.cos(heading), y + across * math.sin(heading), z + above, yaw=heading, tilt=_TILT + angle
    )


def _drawn_back(pose: ToolPose, distance: float) -> ToolPose:
    """Back along the tool's own axis [m]."""
    assert pose.yaw is not None
    level = distance * math.sin(pose.tilt)
    return dataclasses.replace(
        pose, x=pose.x - level * math.cos(pose.yaw), y=pose.y - level * math.sin(pose.yaw),
        z=pose.z + distance * math.cos(pose.tilt),
    )  # fmt: skip

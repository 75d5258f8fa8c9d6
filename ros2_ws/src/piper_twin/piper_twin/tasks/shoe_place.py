"""Put a shoe on a mat with its tip to the left."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import household
from piper_twin.carrying import away_from_base, set_down, take
from piper_twin.moves import Move, ToolPose, nearer_arm
from piper_twin.predicates import is_released, is_still, is_upright, rise, strategy
from piper_twin.robot import ARMS
from piper_twin.task import Placement, Readings, Scene, Task

GRASP_HEIGHT = 0.042
"""Of the tool over the sole [m]."""
ON_CENTRE = 0.03
"""Largest distance between the middles of shoe and mat [m]."""
POINTS_LEFT = 0.94
"""Least cosine of the angle between the shoe and straight left: 20 degrees."""
_HEEL = -0.036
"""Where the expert holds it, along the shoe [m]."""
_WIDTH = 0.043
"""Of the heel between the fingers [m]."""
_REACH = 0.09
"""A grip anywhere on the shoe [m]."""

_COLOURS = ((0.16, 0.34, 0.70), (0.74, 0.18, 0.16), (0.20, 0.46, 0.30), (0.24, 0.24, 0.27), (0.80, 0.55, 0.14))
_MAT = (0.45, 0.30, 0.22)


class ShoePlace(Task):
    """The shoe stands on the mat, its tip to the left, at rest and not held; pushed onto it counts as well."""

    name = "shoe_place"
    instructions = (
        "place the shoe on the mat with its tip to the left",
        "put the shoe on the mat so that it points to the left",
        "set the shoe down on the mat, toes to the left",
        "pick up the shoe, turn its tip to the left and leave it on the mat",
    )
    unseen_instructions = (
        "lay the shoe onto the mat facing left",
        "the shoe goes on the mat, its toe to the left",
    )
    horizon = 200

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """A shoe and a mat."""
        household.add_shoe(spec, "shoe")
        household.add_mat(spec, "mat", _MAT)

    def scene(self, rng: np.random.Generator) -> Scene:
        """The shoe in front of either arm, turned so that it can be gripped by its heel; the mat near the middle."""
        side = float(rng.choice((-1.0, 1.0)))
        x, y = rng.uniform((0.26, 0.18), (0.38, 0.30))
        mat_x, mat_y = rng.uniform((0.28, -0.02), (0.36, 0.03))
        arm = nearer_arm(side * y)
        lean = away_from_base(arm, x, side * y) + rng.uniform(-0.5, 0.5)
        colour = _COLOURS[int(rng.integers(len(_COLOURS)))]
        return Scene(
            placements={
                "shoe": Placement(x, side * y, yaw=lean + _turn(arm)),
                "mat": Placement(mat_x, side * mat_y, yaw=0.5 * math.pi + rng.uniform(-0.1, 0.1)),
            },
            instruction=self.phrase(rng),
            colours={"shoe_upper": colour},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """The shoe stands on the mat, points left, rests and is let go; the mat is on the table."""
        above = now.z("shoe_position") - now.z("mat_position")
        standing = (abs(above - household.MAT_HEIGHT) < 0.004) & is_upright(now, "shoe", 0.98) & is_still(now, "shoe")
        centred = now.distance_xy("shoe_position", "mat_position") < ON_CENTRE
        points_left = now.y("shoe_forward") > POINTS_LEFT
        on_table = abs(rise(now, start, "mat")) < 0.005
        released = is_released(now, "shoe", GRASP_HEIGHT, _REACH)
        return standing & centred & points_left & on_table & released

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How the shoe is moved."""
        return strategy(now, start, "shoe", GRASP_HEIGHT, _REACH)

    def plan(self, start: Readings) -> list[Move]:
        """Grip the heel from above, carry it over the mat while turning, set down, let go."""
        x, y, z = (float(value) for value in start["shoe_position"])
        to_x, to_y, _ = (float(value) for value in start["mat_position"])
        arm = nearer_arm(y)
        forward = math.atan2(float(start.y("shoe_forward")), float(start.x("shoe_forward")))
        heel_x, heel_y = x + _HEEL * math.cos(forward), y + _HEEL * math.sin(forward)
        lean = forward - _turn(arm)
        lean = math.atan2(math.sin(lean), math.cos(lean))
        grasp = ToolPose(heel_x, heel_y, z + GRASP_HEIGHT, yaw=lean)
        down_z = household.MAT_HEIGHT + GRASP_HEIGHT + 0.003
        place = ToolPose(to_x, to_y + _HEEL, down_z, yaw=0.5 * math.pi - _turn(arm))
        moves = [*take(arm, grasp, _WIDTH), *set_down(arm, place, _WIDTH)]
        return [*moves[:-1], dataclasses.replace(moves[-1], wait=0.4)]


def _turn(arm: str) -> float:
    """From where the tool leans to where the shoe points: to the left the left arm holds it the other way round."""
    return math.pi if arm == ARMS[0] else 0.0

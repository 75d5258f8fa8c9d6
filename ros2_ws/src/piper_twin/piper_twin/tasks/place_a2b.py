"""Put a toy car to the left or right of an alarm clock: carried or pushed, only where it ends counts; or carried."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import belongings
from piper_twin.moves import Move, ToolPose, base_position, nearer_arm
from piper_twin.predicates import is_carried, is_held, is_still, is_upright, rise, shift_xy, strategy
from piper_twin.task import Placement, Readings, Scene, Task

GRASP_HEIGHT = 0.020
"""Of the tool over the table [m]."""
BESIDE = (0.055, 0.165)
"""Distance of the two objects to the side [m]: from touching to a gap of 11 cm."""
LEVEL_WITH = 0.045
"""Largest distance of the two objects forwards or back [m]."""
_PLACE = 0.115
"""Where the expert sets the car down, from the clock [m]."""
_CARRY = GRASP_HEIGHT + belongings.CLOCK_HEIGHT + 0.035
"""Over the clock, with something to spare: arcs in joint space sag [m]."""
_OPEN, _CLOSED = 0.062, belongings.CAR_WIDTH - 0.02
"""Openings around the car and on it [m]: closed by 2 cm more than it allows, the gripper has its full force."""

_COLOURS = ((0.80, 0.16, 0.14), (0.16, 0.34, 0.72), (0.90, 0.68, 0.12), (0.18, 0.52, 0.28), (0.90, 0.46, 0.10))


class PlaceA2b(Task):
    """The car stands to one side of the clock, at rest, not held; how it got there does not count."""

    side: float
    """1: left of the clock, as the robot sees it (+y); -1: right."""
    horizon = 176

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """A toy car and an alarm clock."""
        belongings.add_car(spec, "car")
        belongings.add_clock(spec, "clock")

    def scene(self, rng: np.random.Generator) -> Scene:
        """Both in front of the same arm, the car anywhere but where it belongs, headed away from that arm or back."""
        arm_side = rng.choice((-1.0, 1.0))
        while True:
            (x, y), (clock_x, clock_y) = rng.uniform(((0.24, 0.06), (0.27, 0.05)), ((0.42, 0.34), (0.38, 0.28)))
            to_y = clock_y + arm_side * self.side * _PLACE
            apart = math.hypot(x - clock_x, y - clock_y), math.hypot(x - clock_x, y - to_y)
            if -0.03 < to_y < 0.34 and apart[0] > 0.15 and apart[1] > 0.10:
                break
        base_y = base_position(nearer_arm(arm_side * y))[1]
        heading = math.atan2(arm_side * y - base_y, x) + rng.uniform(-0.5, 0.5) + math.pi * rng.integers(2)
        colour = _COLOURS[int(rng.integers(len(_COLOURS)))]
        return Scene(
            placements={
                "car": Placement(x, arm_side * y, yaw=heading),
                "clock": Placement(clock_x, arm_side * clock_y, yaw=rng.uniform(-0.4, 0.4)),
            },
            instruction=self.phrase(rng),
            colours={"car_body": colour, "car_roof": colour},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """The car stands on its wheels at that side, at rest and let go; the clock is where it was."""
        standing = is_upright(now, "car", 0.98) & is_still(now, "car") & (abs(rise(now, start, "car")) < 0.004)
        clock_stays = is_upright(now, "clock") & is_still(now, "clock") & (shift_xy(now, start, "clock") < 0.03)
        return self.is_there(now) & standing & clock_stays & ~is_held(now, "car", GRASP_HEIGHT)

    def is_there(self, now: Readings) -> Any:
        """Whether the car is at that side of the clock, or above that place."""
        aside = self.side * (now.y("car_position") - now.y("clock_position"))
        level = abs(now.x("car_position") - now.x("clock_position")) < LEVEL_WITH
        return (aside > BESIDE[0]) & (aside < BESIDE[1]) & level

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How the car is moved, and whether the clock was."""
        return strategy(now, start, "car", GRASP_HEIGHT) | {"clock_moved": shift_xy(now, start, "clock") > 0.015}

    def plan(self, start: Readings) -> list[Move]:
        """Grasp the car by its sides from above, carry it to its place beside the clock, set it down."""
        x, y, z = (float(value) for value in start["car_position"])
        to_x, to_y, _ = (float(value) for value in start["clock_position"])
        arm = nearer_arm(y)
        grasp = ToolPose(x, y, z + GRASP_HEIGHT, yaw=_lean(start, arm, x, y), opening=_OPEN)
        closed = dataclasses.replace(grasp, opening=_CLOSED)
        over = ToolPose(to_x, to_y + self.side * _PLACE, _CARRY, opening=_CLOSED)
        down = dataclasses.replace(over, z=GRASP_HEIGHT + 0.003)
        released = dataclasses.replace(down, opening=_OPEN)
        return [
            Move({arm: dataclasses.replace(grasp, z=0.07)}),
            Move({arm: grasp}, wait=0.08),
            Move({arm: closed}, wait=0.12),
            Move({arm: dataclasses.replace(closed, z=_CARRY)}),
            Move({arm: over}),
            Move({arm: down}, straight=True, wait=0.08),
            Move({arm: released}, wait=0.12),
            Move({arm: dataclasses.replace(released, z=0.12)}, wait=0.4),
        ]


def _lean(start: Readings, arm: str, x: float, y: float) -> float:
    """The car's heading or its opposite [rad], whichever points away from the arm's base."""
    heading = math.atan2(float(start.y("car_forward")), float(start.x("car_forward")))
    base_x, base_y = base_position(arm)
    away = math.atan2(y - base_y, x - base_x)
    return heading if math.cos(heading - away) > 0.0 else heading - math.copysign(math.pi, heading)


class PlaceA2bLeft(PlaceA2b):
    """The car stands to the left of the clock, at rest, not held; how it got there does not count."""

    name = "place_a2b_left"
    side = 1.0
    instructions = (
        "place the toy car to the left of the alarm clock",
        "put the car on the left of the clock",
        "move the toy car to the left side of the clock",
        "set the car down beside the alarm clock, on its left",
    )
    unseen_instructions = (
        "park the toy car on the left-hand side of the clock",
        "the car goes next to the clock, on the left",
    )


class PlaceA2bRight(PlaceA2b):
    """The car stands to the right of the clock, at rest, not held; how it got there does not count."""

    name = "place_a2b_right"
    side = -1.0
    instructions = (
        "place the toy car to the right of the alarm clock",
        "put the car on the right of the clock",
        "move the toy car to the right side of the clock",
        "set the car down beside the alarm clock, on its right",
    )
    unseen_instructions = (
        "park the toy car on the right-hand side of the clock",
        "the car goes next to the clock, on the right",
    )


class _Strict(PlaceA2b):
    """A gripper must have held the car above its place before it stands there."""

    def prerequisite(self, now: Readings, start: Readings) -> Any:
        """Carried, not pushed."""
        return self.is_there(now) & is_carried(now, start, "car", GRASP_HEIGHT)


class PlaceA2bLeftStrict(_Strict, PlaceA2bLeft):
    """The same, but a gripper must have held the car above its place before it stands there."""

    name = "place_a2b_left_strict"


class PlaceA2bRightStrict(_Strict, PlaceA2bRight):
    """The same, but a gripper must have held the car above its place before it stands there."""

    name = "place_a2b_right_strict"

"""Pick up a bottle with the nearer arm and hold it up."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import props
from piper_twin.moves import Move, ToolPose, base_position, nearer_arm
from piper_twin.predicates import is_held, is_upright, rise, strategy
from piper_twin.robot import DEG
from piper_twin.task import Placement, Readings, Scene, Task

GRASP_HEIGHT = 0.07
"""Of the tool over the bottle's bottom [m]."""
HELD_UP = 0.08
"""[m] above where it stood."""
HOLD_SPEED = 0.08
"""[m/s]: held, not swung."""
REACH = 0.09
"""A grip anywhere on the bottle, neck included [m]."""
_TILT = 50 * DEG
"""From behind rather than from above: the palm must not meet the neck."""

_COLOURS = ((0.10, 0.38, 0.20), (0.40, 0.22, 0.10), (0.16, 0.32, 0.58), (0.20, 0.48, 0.56))


class PickBottle(Task):
    """The bottle is held up in a gripper, upright."""

    name = "pick_bottle"
    instructions = (
        "pick up the bottle",
        "lift the bottle and hold it up",
        "grasp the bottle and raise it off the table",
        "take the bottle and hold it in the air",
    )
    unseen_instructions = (
        "get the bottle off the table",
        "raise up the bottle in your gripper",
    )
    horizon = 120

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """One bottle."""
        props.add_bottle(spec, "bottle")

    def scene(self, rng: np.random.Generator) -> Scene:
        """The bottle stands anywhere in front of either arm."""
        side = rng.choice((-1.0, 1.0))
        x, y = rng.uniform((0.25, 0.08), (0.44, 0.34))
        colour = _COLOURS[int(rng.integers(len(_COLOURS)))]
        return Scene(
            placements={"bottle": Placement(x, side * y, yaw=rng.uniform(-math.pi, math.pi))},
            instruction=self.phrase(rng),
            colours={"bottle_glass": colour},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """In a grip, 8 cm above its place, upright, and nearly still."""
        still = now.speed("bottle_velocity") < HOLD_SPEED
        high = rise(now, start, "bottle") > HELD_UP
        return high & still & is_upright(now, "bottle", 0.85) & is_held(now, "bottle", GRASP_HEIGHT, REACH)

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How the bottle is moved; toppled: it lies."""
        return strategy(now, start, "bottle", GRASP_HEIGHT, REACH) | {"toppled": now.z("bottle_up") < 0.5}

    def plan(self, start: Readings) -> list[Move]:
        """The nearer arm raises the bottle."""
        x, y, z = (float(value) for value in start["bottle_position"])
        return raise_bottle(nearer_arm(y), x, y, z)


def raise_bottle(arm: str, x: float, y: float, z: float) -> list[Move]:
    """Approach along the table with the tool nearly level, close, raise."""
    angle = math.atan2(y - base_position(arm)[1], x)
    grasp = ToolPose(x, y, z + GRASP_HEIGHT, yaw=angle, tilt=_TILT)
    behind = dataclasses.replace(grasp, x=x - 0.08 * math.cos(angle), y=y - 0.08 * math.sin(angle), z=grasp.z + 0.05)
    closed = dataclasses.replace(grasp, opening=0.0)
    return [
        Move({arm: behind}),
        Move({arm: grasp}, straight=True, wait=0.08),
        Move({arm: closed}, wait=0.16),
        Move({arm: dataclasses.replace(closed, z=grasp.z + 0.12)}, straight=True, speed=0.7, wait=1.0),
    ]

"""Take a hammer by its handle and hit a block with its face."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import belongings
from piper_twin.moves import Move, ToolPose, base_position, nearer_arm
from piper_twin.predicates import is_upright, rise, strategy
from piper_twin.task import Placement, Readings, Scene, Task

GRASP_HEIGHT = belongings.HANDLE_AXIS
"""Of the tool over the hammer's face [m]."""
GRIP = 0.068
"""From the middle of the head to where the expert holds the handle [m]."""
ON_CENTRE = 0.02
"""Largest distance between the axes of head and block [m]."""
HIT = 4.0
"""Force on the block's top [N], of which the hammer's own weight is less than half."""
_REACH = 0.15
"""A grip anywhere on the hammer [m]."""
_CARRY = GRASP_HEIGHT + belongings.BLOCK_EDGE + 0.025
_OPEN, _CLOSED = 0.05, 0.003
"""Openings around the handle and on it [m]."""

_COLOURS = ((0.80, 0.18, 0.15), (0.16, 0.36, 0.72), (0.90, 0.66, 0.14), (0.20, 0.54, 0.30))


class BeatHammerBlock(Task):
    """The hammer's face hits the top of the block, which stays on the table."""

    name = "beat_hammer_block"
    instructions = (
        "beat the block with the hammer",
        "hit the block with the hammer",
        "pick up the hammer and strike the block",
        "grab the hammer by its handle and hammer on the block",
    )
    unseen_instructions = (
        "swing the hammer onto the block",
        "use the hammer to knock on the block",
    )
    horizon = 144

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """A hammer and a block."""
        belongings.add_hammer(spec, "hammer")
        belongings.add_block(spec, "block")

    def scene(self, rng: np.random.Generator) -> Scene:
        """Both in front of the same arm; the hammer's handle points towards that arm's base."""
        side = rng.choice((-1.0, 1.0))
        while True:
            (x, y), (block_x, block_y) = rng.uniform((0.30, 0.08), (0.42, 0.34), (2, 2))
            if math.hypot(x - block_x, y - block_y) > 0.12:
                break
        base_y = base_position(nearer_arm(side * y))[1]
        away = math.atan2(side * y - base_y, x)
        return Scene(
            placements={
                "hammer": Placement(x, side * y, yaw=away + rng.uniform(-0.4, 0.4)),
                "block": Placement(block_x, side * block_y, yaw=rng.uniform(-math.pi, math.pi)),
            },
            instruction=self.phrase(rng),
            colours={"block": _COLOURS[int(rng.integers(len(_COLOURS)))]},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """The head is on the middle of the block's top, upright, and presses harder than it weighs."""
        above = now.z("hammer_position") - now.z("block_position")
        meets = (abs(above - belongings.BLOCK_EDGE) < 0.006) & is_upright(now, "hammer", 0.94)
        centred = now.distance_xy("hammer_position", "block_position") < ON_CENTRE
        on_table = is_upright(now, "block", 0.98) & (abs(rise(now, start, "block")) < 0.005)
        return meets & centred & on_table & (now.scalar("block_top") > HIT)

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How the hammer is moved."""
        return strategy(now, start, "hammer", GRASP_HEIGHT, _REACH)

    def plan(self, start: Readings) -> list[Move]:
        """Grasp the handle near the head, carry the head over the block, strike, withdraw."""
        x, y, z = (float(value) for value in start["hammer_position"])
        to_x, to_y, _ = (float(value) for value in start["block_position"])
        arm = nearer_arm(y)
        heading = math.atan2(float(start.y("hammer_forward")), float(start.x("hammer_forward")))
        base_x, base_y = base_position(arm)
        lean = math.atan2(to_y - base_y, to_x - base_x)
        grasp = _at_handle(x, y, z + GRASP_HEIGHT, heading)
        closed = dataclasses.replace(grasp, opening=_CLOSED)
        over = dataclasses.replace(_at_handle(to_x, to_y, _CARRY, lean), opening=_CLOSED)
        strike = dataclasses.replace(over, z=GRASP_HEIGHT + belongings.BLOCK_EDGE - 0.008)
        return [
            Move({arm: dataclasses.replace(grasp, z=0.09)}),
            Move({arm: grasp}, wait=0.08),
            Move({arm: closed}, wait=0.12),
            Move({arm: dataclasses.replace(closed, z=_CARRY)}),
            Move({arm: over}, wait=0.04),
            Move({arm: strike}, straight=True, wait=0.2),
            Move({arm: over}, straight=True),
        ]


def _at_handle(x: float, y: float, z: float, heading: float) -> ToolPose:
    """A finger on each side of the handle of a hammer whose head is at (x, y), its handle pointing back."""
    return ToolPose(x - GRIP * math.cos(heading), y - GRIP * math.sin(heading), z, yaw=heading, opening=_OPEN)

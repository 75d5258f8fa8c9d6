"""Move a can to beside a pot: carried or pushed, only where it ends counts; strictly, it must be carried."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import props
from piper_twin.moves import Move, ToolPose, nearer_arm
from piper_twin.predicates import is_carried, is_held, is_still, is_upright, rise, shift_xy, strategy
from piper_twin.task import Placement, Readings, Scene, Task

GRASP_HEIGHT = 0.055
"""Of the tool over the can's bottom [m]."""
BESIDE = (props.POT_RADIUS + props.CAN_RADIUS, props.POT_RADIUS + props.CAN_RADIUS + 0.07)
"""Distance of the two axes to the left or right [m]: from touching to a gap of 7 cm."""
LEVEL_WITH = 0.05
"""Largest distance of the two axes forwards or back [m]."""
_PLACE = 0.128
"""Where the expert sets the can down, from the pot's axis [m]."""

_COLOURS = ((0.76, 0.10, 0.12), (0.12, 0.26, 0.66), (0.14, 0.48, 0.22), (0.85, 0.50, 0.10))


class MoveCanPot(Task):
    """The can ends to the left or right of the pot, upright, at rest, not held; how it got there does not count."""

    name = "move_can_pot"
    instructions = (
        "move the can to beside the pot",
        "put the can next to the pot",
        "place the can at the side of the pot",
        "bring the can over to the pot and leave it beside it",
    )
    unseen_instructions = (
        "shift the can so that it ends up at the pot's side",
        "get the can close to the pot",
    )
    horizon = 160

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """A can and a pot."""
        props.add_can(spec, "can")
        props.add_pot(spec, "pot")

    def scene(self, rng: np.random.Generator) -> Scene:
        """The pot near the middle, the can farther out on either side."""
        side = rng.choice((-1.0, 1.0))
        pot_x, pot_y = rng.uniform((0.28, -0.02), (0.38, 0.08))
        x, y = rng.uniform((0.24, pot_y + 0.20), (0.42, 0.36))
        colour = _COLOURS[int(rng.integers(len(_COLOURS)))]
        return Scene(
            placements={
                "can": Placement(x, side * y, yaw=rng.uniform(-math.pi, math.pi)),
                "pot": Placement(pot_x, side * pot_y, yaw=rng.uniform(-0.3, 0.3)),
            },
            instruction=self.phrase(rng),
            colours={"can_side": colour},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """The can stands beside the pot, at rest and not held; the pot is where it was."""
        standing = is_upright(now, "can", 0.98) & is_still(now, "can") & (abs(rise(now, start, "can")) < 0.004)
        pot_stays = is_upright(now, "pot") & is_still(now, "pot") & (shift_xy(now, start, "pot") < 0.04)
        return self.is_there(now) & standing & pot_stays & ~is_held(now, "can", GRASP_HEIGHT)

    def is_there(self, now: Readings) -> Any:
        """Whether the can is beside the pot, or above that place."""
        aside = abs(now.y("can_position") - now.y("pot_position"))
        level = abs(now.x("can_position") - now.x("pot_position")) < LEVEL_WITH
        return level & (aside > BESIDE[0]) & (aside < BESIDE[1])

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How the can is moved, and whether the pot was."""
        return strategy(now, start, "can", GRASP_HEIGHT) | {"pot_moved": shift_xy(now, start, "pot") > 0.02}

    def plan(self, start: Readings) -> list[Move]:
        """Grasp the can from above, carry it to the side of the pot it came from, set it down."""
        x, y, z = (float(value) for value in start["can_position"])
        pot_x, pot_y, _ = (float(value) for value in start["pot_position"])
        arm = nearer_arm(y)
        grasp = ToolPose(x, y, z + GRASP_HEIGHT)
        closed = dataclasses.replace(grasp, opening=0.0)
        to_y = pot_y + math.copysign(_PLACE, y - pot_y)
        over = dataclasses.replace(closed, x=pot_x, y=to_y, z=GRASP_HEIGHT + 0.05)
        down = dataclasses.replace(over, z=GRASP_HEIGHT + 0.004)
        released = dataclasses.replace(down, opening=0.062)
        return [
            Move({arm: dataclasses.replace(grasp, z=0.14)}),
            Move({arm: grasp}, straight=True, wait=0.08),
            Move({arm: closed}, wait=0.16),
            Move({arm: dataclasses.replace(closed, z=GRASP_HEIGHT + 0.05)}),
            Move({arm: over}, speed=0.7),
            Move({arm: down}, straight=True, wait=0.12),
            Move({arm: released}, wait=0.12),
            Move({arm: dataclasses.replace(released, z=0.15)}, wait=0.4),
        ]


class MoveCanPotStrict(MoveCanPot):
    """The same, but a gripper must have held the can above its place before it stands there."""

    name = "move_can_pot_strict"

    def prerequisite(self, now: Readings, start: Readings) -> Any:
        """Carried, not pushed."""
        return self.is_there(now) & is_carried(now, start, "can", GRASP_HEIGHT)

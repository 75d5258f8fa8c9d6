"""Put an empty cup on a coaster, with the nearer arm."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import props
from piper_twin.moves import Move, ToolPose, base_position, nearer_arm
from piper_twin.predicates import is_released, is_still, is_upright, rise, strategy
from piper_twin.task import Placement, Readings, Scene, Task

GRASP_HEIGHT = 0.045
"""Of the tool over the cup's bottom [m]."""
ON_CENTRE = 0.03
"""Largest distance between the axes of cup and coaster [m]."""

_COLOURS = ((0.78, 0.20, 0.16), (0.16, 0.34, 0.70), (0.85, 0.62, 0.14), (0.20, 0.52, 0.34), (0.52, 0.30, 0.58))


class PlaceEmptyCup(Task):
    """The cup ends upright on the coaster, and nobody holds it."""

    name = "place_empty_cup"
    instructions = (
        "place the empty cup on the coaster",
        "put the cup on the coaster",
        "set the mug down on the round coaster",
        "pick up the empty cup and place it on the coaster",
    )
    unseen_instructions = (
        "park the cup on top of the coaster",
        "the cup belongs on the coaster, bring it there",
    )
    horizon = 160

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """A cup and a coaster."""
        props.add_cup(spec, "cup")
        props.add_coaster(spec, "coaster")

    def scene(self, rng: np.random.Generator) -> Scene:
        """Both in front of the same arm, apart; the cup's handle points away from that arm."""
        side = rng.choice((-1.0, 1.0))
        while True:
            (x, y), (coaster_x, coaster_y) = rng.uniform((0.24, 0.08), (0.44, 0.34), (2, 2))
            if math.hypot(x - coaster_x, y - coaster_y) > 0.14:
                break
        base_y = base_position(nearer_arm(side * y))[1]
        away = math.atan2(side * y - base_y, x)
        colour = _COLOURS[int(rng.integers(len(_COLOURS)))]
        return Scene(
            placements={
                "cup": Placement(x, side * y, yaw=away + rng.uniform(-0.5, 0.5)),
                "coaster": Placement(coaster_x, side * coaster_y, yaw=rng.uniform(-math.pi, math.pi)),
            },
            instruction=self.phrase(rng),
            colours={"cup_outside": colour, "cup_handle": colour},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """The cup stands on the coaster, upright, at rest and let go."""
        above = now.z("cup_position") - now.z("coaster_position")
        standing = (abs(above - props.COASTER_HEIGHT) < 0.004) & is_upright(now, "cup", 0.98) & is_still(now, "cup")
        centred = now.distance_xy("cup_position", "coaster_position") < ON_CENTRE
        on_table = abs(rise(now, start, "coaster")) < 0.005
        return standing & centred & on_table & is_released(now, "cup", GRASP_HEIGHT)

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How the cup is moved."""
        return strategy(now, start, "cup", GRASP_HEIGHT)

    def plan(self, start: Readings) -> list[Move]:
        """Grasp round the cup from above, carry, set down, let go."""
        x, y, z = (float(value) for value in start["cup_position"])
        to_x, to_y, _ = (float(value) for value in start["coaster_position"])
        arm = nearer_arm(y)
        grasp = ToolPose(x, y, z + GRASP_HEIGHT)
        closed = dataclasses.replace(grasp, opening=0.0)
        over = dataclasses.replace(closed, x=to_x, y=to_y, z=GRASP_HEIGHT + 0.05)
        down = dataclasses.replace(over, z=GRASP_HEIGHT + props.COASTER_HEIGHT + 0.004)
        released = dataclasses.replace(down, opening=grasp.opening)
        return [
            Move({arm: dataclasses.replace(grasp, z=0.12)}),
            Move({arm: grasp}, straight=True, wait=0.08),
            Move({arm: closed}, wait=0.16),
            Move({arm: dataclasses.replace(closed, z=GRASP_HEIGHT + 0.05)}),
            Move({arm: over}, speed=0.7),
            Move({arm: down}, straight=True, wait=0.12),
            Move({arm: released}, wait=0.12),
            Move({arm: dataclasses.replace(released, z=0.14)}, wait=0.4),
        ]

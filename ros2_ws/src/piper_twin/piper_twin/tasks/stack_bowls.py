"""Put one of two bowls into the other."""

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

BOWLS = ("bowl1", "bowl2")
GRASP_RADIUS = props.BOWL_RADIUS - 0.003
"""Of the rim between the fingers [m]."""
GRASP_HEIGHT = props.BOWL_HEIGHT - 0.003
"""Of the tool over a bowl's bottom [m]."""
_REACH = 0.09
"""Of the rim from the bowl's centre, and a finger's width [m]."""

_COLOURS = ((0.16, 0.36, 0.70), (0.72, 0.20, 0.16), (0.18, 0.50, 0.30), (0.82, 0.60, 0.12), (0.50, 0.30, 0.60))


class StackBowls(Task):
    """One bowl stands in the other, whichever, and nobody holds it."""

    name = "stack_bowls"
    instructions = (
        "stack the bowls",
        "stack the two bowls",
        "put one bowl into the other",
        "pick up a bowl and set it inside the other bowl",
    )
    unseen_instructions = (
        "nest the bowls",
        "lay one of the bowls inside the second one",
    )
    horizon = 160

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """Two bowls."""
        for bowl in BOWLS:
            props.add_bowl(spec, bowl)

    def scene(self, rng: np.random.Generator) -> Scene:
        """Both in front of the same arm, the one nearer the middle first or second by chance."""
        side = rng.choice((-1.0, 1.0))
        while True:
            places = rng.uniform((0.24, 0.04), (0.42, 0.34), (2, 2))
            if math.hypot(*(places[0] - places[1])) > 0.17:
                break
        colours = rng.permutation(len(_COLOURS))
        return Scene(
            placements={bowl: Placement(x, side * y) for bowl, (x, y) in zip(BOWLS, places, strict=True)},
            instruction=self.phrase(rng),
            colours={f"{bowl}_outside": _COLOURS[int(colour)] for bowl, colour in zip(BOWLS, colours, strict=False)},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """One bowl is nested in the other; both are upright, at rest and let go."""
        done = False
        for upper, lower in (BOWLS, BOWLS[::-1]):
            above = now.z(f"{upper}_position") - now.z(f"{lower}_position")
            nested = (
                (above > 0.008) & (above < 0.022) & (now.distance_xy(f"{upper}_position", f"{lower}_position") < 0.02)
            )
            done = done | (nested & (abs(rise(now, start, lower)) < 0.006))
        for bowl in BOWLS:
            calm = is_upright(now, bowl) & is_still(now, bowl)
            done = done & calm & is_released(now, bowl, GRASP_HEIGHT, _REACH)
        return done

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How either bowl is moved."""
        seen: dict[str, Any] = {}
        for bowl in BOWLS:
            for name, value in strategy(now, start, bowl, GRASP_HEIGHT, _REACH).items():
                seen[name] = seen.get(name, False) | value
        return seen

    def plan(self, start: Readings) -> list[Move]:
        """Take the outer bowl by its rim, carry it over the inner one, let go."""
        places = [tuple(float(value) for value in start[f"{bowl}_position"]) for bowl in BOWLS]
        (to_x, to_y, _), (x, y, z) = sorted(places, key=lambda place: abs(place[1]))
        arm = nearer_arm(y)
        side = math.copysign(1.0, base_position(arm)[1] - to_y)
        grasp = _at_rim(arm, side, x, y, z + GRASP_HEIGHT)
        closed = dataclasses.replace(grasp, opening=0.0)
        carry = GRASP_HEIGHT + 0.08  # arcs in joint space sag, and the other bowl must not be met
        over = dataclasses.replace(_at_rim(arm, side, to_x, to_y, carry), opening=0.0)
        down = dataclasses.replace(over, z=GRASP_HEIGHT + props.BOWL_FLOOR + 0.006)
        released = dataclasses.replace(down, opening=0.03)
        return [
            Move({arm: dataclasses.replace(grasp, z=0.11)}),
            Move({arm: grasp}, straight=True, wait=0.08),
            Move({arm: closed}, wait=0.2),
            Move({arm: dataclasses.replace(closed, z=carry)}, straight=True),
            Move({arm: over}, speed=0.6, wait=0.08),
            Move({arm: down}, straight=True, wait=0.12),
            Move({arm: released}, wait=0.12),
            Move({arm: dataclasses.replace(released, z=0.13)}, straight=True, wait=0.4),
        ]


def _at_rim(arm: str, side: float, x: float, y: float, z: float) -> ToolPose:
    """A finger on each side of the rim of a bowl at (x, y), to the left (1) or right (-1) as the tool leans."""
    angle = math.atan2(y - base_position(arm)[1], x)
    rim = side * GRASP_RADIUS
    return ToolPose(x - rim * math.sin(angle), y + rim * math.cos(angle), z, yaw=angle, opening=0.04)

"""Three cubes, red, green and blue, that two arms bring together: what ranking and stacking them have in common."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from piper_twin import household
from piper_twin.carrying import away_from_base, rest, set_down, take, together
from piper_twin.moves import Move, ToolPose, nearer_arm
from piper_twin.predicates import is_released, is_still, is_upright, strategy
from piper_twin.task import Placement, Readings, Scene, Task

COLOURS = {"red": (0.80, 0.14, 0.12), "green": (0.14, 0.58, 0.22), "blue": (0.14, 0.28, 0.76)}
CUBES = tuple(COLOURS)
GRASP_HEIGHT = 0.022
"""Of the tool over a cube's bottom [m]."""
_APART = 0.11
"""Least distance of two cubes at the start, so that a gripper has room between them [m]."""
_ROOM = 0.22
"""Between two places where two grippers can work at the same time [m]."""
_CARRY = 0.08
"""How far a cube is raised [m]."""


def scatter(rng: np.random.Generator) -> dict[str, Placement]:
    """Two cubes in front of one arm, the third in front of the other, the middle left free."""
    side = float(rng.choice((-1.0, 1.0)))
    lone = int(rng.integers(len(CUBES)))
    sides = [-side if index == lone else side for index in range(len(CUBES))]
    while True:
        places = rng.uniform((0.24, 0.16), (0.40, 0.33), (len(CUBES), 2)) * np.column_stack([np.ones(3), sides])
        one, other = (places[index] for index in range(len(CUBES)) if index != lone)
        if math.hypot(*(one - other)) > _APART:
            break
    turns = rng.uniform(-math.pi / 4, math.pi / 4, len(CUBES))
    return {
        name: Placement(float(x), float(y), yaw=float(turn))
        for name, (x, y), turn in zip(CUBES, places, turns, strict=True)
    }


def are_left_alone(now: Readings) -> Any:
    """Whether every cube lies flat, rests, and is let go."""
    alone = True
    for cube in CUBES:
        calm = is_upright(now, cube, 0.98) & is_still(now, cube)
        alone = calm & is_released(now, cube, GRASP_HEIGHT) & alone
    return alone


class CubesTask(Task):
    """Three cubes, two in front of one arm and one in front of the other; subclasses say what becomes of them."""

    horizon = 600

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """One cube of each colour, named after it."""
        for name, colour in COLOURS.items():
            household.add_cube(spec, name, colour)

    def scene(self, rng: np.random.Generator) -> Scene:
        """Scattered, the middle left free."""
        return Scene(placements=scatter(rng), instruction=self.phrase(rng))

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How any of the cubes is moved."""
        seen: dict[str, Any] = {}
        for cube in CUBES:
            for name, value in strategy(now, start, cube, GRASP_HEIGHT).items():
                seen[name] = seen.get(name, False) | value
        return seen


def bring(start: Readings, targets: Sequence[tuple[str, Placement]]) -> list[Move]:
    """Carry each cube in turn to its target, with the arm it lies in front of.

    One arm takes its cube while the other sets its own down, where there is room for both. A target's turn is that of
    one of the cube's faces.
    """
    takes, puts = zip(*(_ways(start, cube, target) for cube, target in targets), strict=True)
    arms = [nearer_arm(float(start.y(f"{cube}_position"))) for cube, _ in targets]
    moves = list(takes[0])
    for index in range(1, len(targets)):
        cube, target = targets[index][0], targets[index - 1][1]
        room = math.hypot(float(start.x(f"{cube}_position")) - target.x, float(start.y(f"{cube}_position")) - target.y)
        if arms[index] == arms[index - 1]:
            moves += [*puts[index - 1], *takes[index]]
        elif room > _ROOM:
            moves += [*together(puts[index - 1], takes[index]), rest(arms[index - 1])]
        else:
            moves += [*puts[index - 1], *together([rest(arms[index - 1])], takes[index])]
    moves += puts[-1]
    return [*moves[:-1], dataclasses.replace(moves[-1], wait=0.4)]


def _ways(start: Readings, cube: str, target: Placement) -> tuple[list[Move], list[Move]]:
    """Taking the cube from where it lies, and setting it down at the target."""
    x, y, z = (float(value) for value in start[f"{cube}_position"])
    arm = nearer_arm(y)
    turn = math.atan2(float(start.y(f"{cube}_forward")), float(start.x(f"{cube}_forward")))
    grasp = ToolPose(x, y, z + GRASP_HEIGHT, yaw=_facing(turn, away_from_base(arm, x, y)), opening=0.06)
    yaw = _facing(target.yaw, away_from_base(arm, target.x, target.y))
    place = ToolPose(target.x, target.y, target.z + GRASP_HEIGHT + 0.003, yaw=yaw, opening=0.055)
    return take(arm, grasp, household.CUBE, _CARRY), set_down(arm, place, household.CUBE, above=_CARRY, away=0.055)


def _facing(turn: float, direction: float) -> float:
    """The side of a cube turned by `turn` that is nearest to `direction` [rad]."""
    quarter = 0.5 * math.pi
    return turn + quarter * round((direction - turn) / quarter)

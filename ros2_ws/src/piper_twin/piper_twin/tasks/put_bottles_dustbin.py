"""Throw three bottles into a waste bin that stands beside one arm; the other arm has to pass its bottles on."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import household, props
from piper_twin.carrying import away_from_base, other_arm, rest, squeezing, together
from piper_twin.moves import Move, ToolPose, nearer_arm
from piper_twin.predicates import is_released, is_upright, rise, shift_xy, strategy
from piper_twin.robot import ARMS, DEG
from piper_twin.task import Placement, Readings, Scene, Task

BOTTLES = ("bottle1", "bottle2", "bottle3")
GRASP_HEIGHT = 0.07
"""Of the tool over a bottle's bottom [m]."""
MIDDLE = 0.06
"""Of what must be in the bin, over a bottle's bottom along its axis [m]."""
_WIDTH = 0.050
"""Of a bottle [m]."""
_BETWEEN_FINGERS = 0.03
"""A tool this near to a bottle's axis has it between its fingers [m]; one that pushes is a finger's thickness away."""
_REACH = 0.09
"""A grip anywhere on a bottle [m]."""
_TILT = 50 * DEG
"""From behind rather than from above: the palm must not meet the neck."""
_CARRY = 0.225
"""Of the tool while a bottle passes over the rim [m]."""
_DROP = 0.135
"""Of the tool when it lets go [m]: the palm stays above the rim."""
_SPOTS = (0.05, 0.0, -0.05)
"""Of the bottles in the bin, from its middle away from the arm [m]: the farthest first, or it is in the palm's way."""
_PASS_ON = (0.31, 0.0)
"""Where one arm leaves bottles for the other [m]."""

_COLOURS = ((0.10, 0.38, 0.20), (0.40, 0.22, 0.10), (0.16, 0.32, 0.58), (0.20, 0.48, 0.56), (0.62, 0.30, 0.10))


class PutBottlesDustbin(Task):
    """All bottles are in the bin, which still stands where it stood; how they got there does not count."""

    name = "put_bottles_dustbin"
    instructions = (
        "put the bottles into the dustbin",
        "throw all bottles into the bin",
        "clear the table: the bottles belong in the waste bin",
        "drop the three bottles into the dustbin one after the other",
    )
    unseen_instructions = (
        "dispose of every bottle in the bin",
        "get rid of the bottles by dropping them in the dustbin",
    )
    horizon = 680

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """Three bottles and a bin."""
        for bottle in BOTTLES:
            props.add_bottle(spec, bottle)
        household.add_bin(spec, "bin")

    def scene(self, rng: np.random.Generator) -> Scene:
        """The bin beside either arm, one bottle in front of that arm, two in front of the other."""
        side = float(rng.choice((-1.0, 1.0)))
        bin_x, bin_y = rng.uniform((0.25, 0.33), (0.31, 0.36))
        places = {
            "bottle1": rng.uniform((0.28, 0.07), (0.40, 0.13)),
            "bottle2": rng.uniform((0.26, -0.22), (0.36, -0.14)),
            "bottle3": rng.uniform((0.35, -0.36), (0.42, -0.32)),
        }
        colours = rng.permutation(len(_COLOURS))
        placements = {
            bottle: Placement(float(x), side * float(y), yaw=rng.uniform(-math.pi, math.pi))
            for bottle, (x, y) in places.items()
        }
        return Scene(
            placements=placements | {"bin": Placement(bin_x, side * bin_y, yaw=rng.uniform(-math.pi, math.pi))},
            instruction=self.phrase(rng),
            colours={f"{bottle}_glass": _COLOURS[int(at)] for bottle, at in zip(BOTTLES, colours, strict=False)},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """Every bottle's middle is within the bin and below its rim, and no gripper holds it; the bin stands."""
        done = is_upright(now, "bin") & (abs(rise(now, start, "bin")) < 0.01) & (shift_xy(now, start, "bin") < 0.04)
        for bottle in BOTTLES:
            middle = now[f"{bottle}_position"] + MIDDLE * now[f"{bottle}_up"] - now["bin_position"]
            inside = (middle[..., :2] ** 2).sum(-1) ** 0.5 < household.BIN_RADIUS
            low = (middle[..., 2] > 0.0) & (middle[..., 2] < household.BIN_HEIGHT)
            done = done & inside & low & is_released(now, bottle, GRASP_HEIGHT, _REACH)
        return done

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How the bottles are moved; what slides in the bin, or is nudged by closing fingers, is not pushed."""
        seen: dict[str, Any] = {}
        for bottle in BOTTLES:
            excused = now.distance_xy(f"{bottle}_position", "bin_position") < household.BIN_RADIUS
            for arm in ARMS:
                excused = excused | (now.distance_xy(f"{arm}_tool", f"{bottle}_position") < _BETWEEN_FINGERS)
            for name, value in strategy(now, start, bottle, GRASP_HEIGHT, _REACH).items():
                seen[name] = seen.get(name, False) | (value & ~excused if name == "pushed" else value)
        return seen

    def plan(self, start: Readings) -> list[Move]:
        """The arm beside the bin throws a bottle in while the other one fetches the next to the middle, and so on."""
        x, y, _ = (float(value) for value in start["bin_position"])
        thrower = nearer_arm(y)
        passer = other_arm(thrower)
        angle = away_from_base(thrower, x, y)
        spots = [(x + far * math.cos(angle), y + far * math.sin(angle)) for far in _SPOTS]
        near, far, farthest = (_place_of(start, bottle) for bottle in BOTTLES)
        moves = [
            *together(_grip(thrower, near), _grip(passer, far)),
            *together(_drop(thrower, spots[0]), _leave(passer, _PASS_ON)),
            *together(_grip(thrower, _PASS_ON), _grip(passer, farthest)),
            *together(_drop(thrower, spots[1]), _leave(passer, _PASS_ON)),
            *together(_grip(thrower, _PASS_ON), [rest(passer)]),
            *_drop(thrower, spots[2]),
        ]
        return [*moves[:-1], dataclasses.replace(moves[-1], wait=0.6)]


def _place_of(start: Readings, bottle: str) -> tuple[float, float]:
    x, y, _ = (float(value) for value in start[f"{bottle}_position"])
    return x, y


def _tool_at(arm: str, place: tuple[float, float], z: float, back: float = 0.0) -> ToolPose:
    """An open gripper round what stands at `place`, or `back` [m] from there towards the arm's base."""
    x, y = place
    angle = away_from_base(arm, x, y)
    return ToolPose(x - back * math.cos(angle), y - back * math.sin(angle), z, yaw=angle, tilt=_TILT, opening=0.068)


def _grip(arm: str, place: tuple[float, float]) -> list[Move]:
    """Come from behind, close, and raise the bottle above the bin's rim."""
    grasp = _tool_at(arm, place, GRASP_HEIGHT)
    closed = squeezing(grasp, _WIDTH)
    return [
        Move({arm: _tool_at(arm, place, GRASP_HEIGHT + 0.05, back=0.08)}),
        Move({arm: grasp}, straight=True, wait=0.08),
        Move({arm: closed}, wait=0.16),
        Move({arm: dataclasses.replace(closed, z=_CARRY)}, straight=True),
    ]


def _drop(arm: str, place: tuple[float, float]) -> list[Move]:
    """Over the bin, down into it as far as the palm can, let go, and up."""
    released = _tool_at(arm, place, _DROP)
    held = squeezing(released, _WIDTH)
    return [
        Move({arm: dataclasses.replace(held, z=_CARRY)}, speed=0.9, wait=0.08),
        Move({arm: held}, straight=True, wait=0.08),
        Move({arm: released}, wait=0.08),
        Move({arm: dataclasses.replace(released, z=_CARRY)}, straight=True),
    ]


def _leave(arm: str, place: tuple[float, float]) -> list[Move]:
    """Stand the bottle there, and get out of the way."""
    released = _tool_at(arm, place, GRASP_HEIGHT + 0.003)
    held = squeezing(released, _WIDTH)
    return [
        Move({arm: dataclasses.replace(held, z=GRASP_HEIGHT + 0.05)}, speed=0.9),
        Move({arm: held}, straight=True, wait=0.12),
        Move({arm: released}, wait=0.12),
        Move({arm: _tool_at(arm, place, GRASP_HEIGHT + 0.05, back=0.08)}, straight=True),
    ]

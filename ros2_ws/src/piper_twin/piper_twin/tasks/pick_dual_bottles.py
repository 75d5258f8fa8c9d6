"""Pick up two bottles, one with each arm, and hold both up."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import props
from piper_twin.moves import Move, base_position
from piper_twin.predicates import is_held, is_upright, rise, strategy
from piper_twin.robot import ARMS
from piper_twin.task import Placement, Readings, Scene, Task
from piper_twin.tasks.pick_bottle import GRASP_HEIGHT, HELD_UP, HOLD_SPEED, REACH, raise_bottle

BOTTLES = ("bottle1", "bottle2")

_COLOURS = ((0.10, 0.38, 0.20), (0.40, 0.22, 0.10), (0.16, 0.32, 0.58), (0.20, 0.48, 0.56), (0.66, 0.24, 0.16))


class PickDualBottles(Task):
    """Both bottles are held up at the same time, upright, each in a gripper."""

    name = "pick_dual_bottles"
    instructions = (
        "pick up both bottles",
        "lift the two bottles, one with each arm",
        "take a bottle in each gripper and hold them up",
        "grasp both bottles at the same time and raise them",
    )
    unseen_instructions = (
        "raise the pair of bottles with both hands",
        "get the two bottles off the table together",
    )
    horizon = 120

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """Two bottles."""
        for bottle in BOTTLES:
            props.add_bottle(spec, bottle)

    def scene(self, rng: np.random.Generator) -> Scene:
        """A bottle in front of each arm; which is which is chance."""
        sides = rng.permutation((-1.0, 1.0))
        places = rng.uniform((0.25, 0.10), (0.42, 0.34), (2, 2))
        colours = rng.permutation(len(_COLOURS))
        return Scene(
            placements={
                bottle: Placement(x, side * y, yaw=rng.uniform(-math.pi, math.pi))
                for bottle, side, (x, y) in zip(BOTTLES, sides, places, strict=True)
            },
            instruction=self.phrase(rng),
            colours={
                f"{bottle}_glass": _COLOURS[int(colour)] for bottle, colour in zip(BOTTLES, colours, strict=False)
            },
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """Each is in a grip, 8 cm above its place, upright, and nearly still."""
        done = True
        for bottle in BOTTLES:
            still = now.speed(f"{bottle}_velocity") < HOLD_SPEED
            high = rise(now, start, bottle) > HELD_UP
            held = is_held(now, bottle, GRASP_HEIGHT, REACH)
            done = done & high & still & held & is_upright(now, bottle, 0.85)
        return done

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """How either bottle is moved; toppled: one lies."""
        seen: dict[str, Any] = {}
        for bottle in BOTTLES:
            for name, value in strategy(now, start, bottle, GRASP_HEIGHT, REACH).items():
                seen[name] = seen.get(name, False) | value
            seen["toppled"] = seen.get("toppled", False) | (now.z(f"{bottle}_up") < 0.5)
        return seen

    def plan(self, start: Readings) -> list[Move]:
        """Each arm raises the bottle in front of it, both at the same time."""
        places = [tuple(float(value) for value in start[f"{bottle}_position"]) for bottle in BOTTLES]
        plans = [
            raise_bottle(arm, *min(places, key=lambda place: abs(place[1] - base_position(arm)[1]))) for arm in ARMS
        ]
        return [
            Move({**left.targets, **right.targets}, left.wait, left.speed, left.straight)
            for left, right in zip(*plans, strict=True)
        ]

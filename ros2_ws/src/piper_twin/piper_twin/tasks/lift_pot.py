"""Lift a pot by its two handles, one in each gripper, and hold it level."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import belongings
from piper_twin.moves import Move, ToolPose
from piper_twin.predicates import PUSHED, TOUCH, is_upright, rise, shift_xy
from piper_twin.robot import ARMS
from piper_twin.task import Placement, Readings, Scene, Task

HELD_UP = 0.08
"""[m] above where it stood."""
LEVEL = 0.97
"""Least cosine of its lean: 14 degrees."""
HOLD_SPEED = 0.08
"""[m/s]: held, not swung."""
AT_HANDLE = 0.04
"""Largest distance between the tool and the middle of the handle's bar [m]."""

_COLOURS = ((0.76, 0.26, 0.12), (0.16, 0.34, 0.62), (0.20, 0.44, 0.28), (0.62, 0.12, 0.20))


class LiftPot(Task):
    """The pot is up and level, each gripper on a handle of its own."""

    name = "lift_pot"
    instructions = (
        "lift the pot",
        "lift the pot with both arms",
        "grasp the pot by its two handles and raise it",
        "take hold of both handles and hold the pot up",
    )
    unseen_instructions = (
        "raise the pot off the table by its handles",
        "heave up the pot using two hands",
    )
    horizon = 120

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """One pot."""
        belongings.add_casserole(spec, "pot")

    def scene(self, rng: np.random.Generator) -> Scene:
        """Between the two arms, a handle towards either."""
        x, y = rng.uniform((0.26, -0.05), (0.38, 0.05))
        colour = _COLOURS[int(rng.integers(len(_COLOURS)))]
        yaw = rng.uniform(-0.25, 0.25) + math.pi * rng.integers(2)
        return Scene(
            placements={"pot": Placement(x, y, yaw=yaw)},
            instruction=self.phrase(rng),
            colours={"pot_side": colour, "pot_lid": colour},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """8 cm up, level, nearly still, and held by both handles."""
        up = (rise(now, start, "pot") > HELD_UP) & is_upright(now, "pot", LEVEL)
        done = up & (now.speed("pot_velocity") < HOLD_SPEED)
        for arm in ARMS:
            done = done & _holds(now, arm)
        return done

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """Grasped: by one handle at least; both: by both; tipped: it leans as lifting it at one side makes it."""
        grasped, both = False, True
        for arm in ARMS:
            holds = _holds(now, arm)
            grasped, both = grasped | holds, both & holds
        return {
            "grasped": grasped,
            "both": both,
            "lifted": (rise(now, start, "pot") > 0.03) & is_upright(now, "pot", 0.5),
            "pushed": (shift_xy(now, start, "pot") > PUSHED) & ~grasped,
            "tipped": ~is_upright(now, "pot"),
        }

    def plan(self, start: Readings) -> list[Move]:
        """Both arms at the same time: a finger behind each handle, close, raise straight up."""
        x, y, z = (float(value) for value in start["pot_position"])
        turn = math.atan2(float(start.y("pot_forward")), float(start.x("pot_forward")))
        turn = turn if math.cos(turn) > 0.0 else turn - math.copysign(math.pi, turn)
        away, height = belongings.CASSEROLE_HANDLE
        grasps = {}
        for arm, side in zip(ARMS, (1.0, -1.0), strict=True):
            handle = x - side * away * math.sin(turn), y + side * away * math.cos(turn)
            grasps[arm] = ToolPose(*handle, z + height, yaw=turn, opening=0.045)
        closed = {arm: dataclasses.replace(pose, opening=0.0) for arm, pose in grasps.items()}
        return [
            Move({arm: dataclasses.replace(pose, z=0.13) for arm, pose in grasps.items()}),
            Move(grasps, straight=True, wait=0.08),
            Move(closed, wait=0.2),
            Move(
                {arm: dataclasses.replace(pose, z=pose.z + 0.11) for arm, pose in closed.items()}, straight=True,
                speed=0.6, wait=0.8,
            ),
        ]  # fmt: skip


def _holds(now: Readings, arm: str) -> Any:
    """Whether both pads of an arm press and its tool is at either handle."""
    away, height = belongings.CASSEROLE_HANDLE
    offset = now[f"{arm}_tool"] - now["pot_position"] - height * now["pot_up"]
    forward, up = now["pot_forward"], now["pot_up"]
    along, above = (offset * forward).sum(-1), (offset * up).sum(-1)
    sideways = (abs((offset**2).sum(-1) - along**2 - above**2)) ** 0.5
    at_handle = along**2 + above**2 + (sideways - away) ** 2 < AT_HANDLE**2
    return at_handle & (now.scalar(f"{arm}_pad1") > TOUCH) & (now.scalar(f"{arm}_pad2") > TOUCH)

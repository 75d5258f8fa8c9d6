"""Stack a green block on a red one, and a blue one on top."""

from __future__ import annotations

import itertools
import math
from typing import Any

from piper_twin import cubes
from piper_twin.household import CUBE
from piper_twin.moves import Move
from piper_twin.predicates import rise
from piper_twin.task import Placement, Readings

ON_TOP = 0.018
"""Largest distance between the axes of a block and the one below [m]: it rests on more than half of it."""
_STACK = (0.32, 0.0)
"""Where the expert builds [m]."""


class BlocksStack(cubes.CubesTask):
    """Red at the bottom, green on it, blue on top, standing by themselves; where the stack is does not count."""

    name = "blocks_stack"
    instructions = (
        "stack the blocks: red at the bottom, then green, then blue",
        "put the green block on the red one and the blue block on the green one",
        "build a tower of the red, the green and the blue block, from bottom to top",
        "stack the three blocks in the order red, green, blue",
    )
    unseen_instructions = (
        "pile up the blocks with red below, green in between and blue on top",
        "set green on red and blue on top of both",
    )

    def success(self, now: Readings, start: Readings) -> Any:
        """Each stands on the one before, flat, at rest and let go; the red one is on the table."""
        done = cubes.are_left_alone(now) & (abs(rise(now, start, cubes.CUBES[0])) < 0.005)
        for lower, upper in itertools.pairwise(cubes.CUBES):
            above = now.z(f"{upper}_position") - now.z(f"{lower}_position")
            aside = now.distance_xy(f"{upper}_position", f"{lower}_position")
            done = done & (abs(above - CUBE) < 0.004) & (aside < ON_TOP)
        return done

    def plan(self, start: Readings) -> list[Move]:
        """Build in the middle, from the bottom up."""
        x, y = _STACK
        places = [Placement(x, y, z=level * CUBE, yaw=0.25 * math.pi) for level in range(len(cubes.CUBES))]
        return cubes.bring(start, list(zip(cubes.CUBES, places, strict=True)))

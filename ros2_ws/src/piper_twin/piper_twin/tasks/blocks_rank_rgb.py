"""Put a red, a green and a blue block side by side, in that order from left to right."""

from __future__ import annotations

import itertools
from typing import Any

from piper_twin import cubes
from piper_twin.moves import Move
from piper_twin.predicates import rise
from piper_twin.task import Placement, Readings

SPACING = (0.038, 0.10)
"""From one block's middle to the next one's [m]: from touching to a gap of 6 cm."""
IN_LINE = 0.03
"""Largest distance of neighbours forwards or back [m]."""
_ROW = (0.32, 0.075)
"""The expert's row: how far from the bases, and its spacing [m]."""


class BlocksRankRgb(cubes.CubesTask):
    """Red, green and blue lie in a row across the table, red to the left; where the row is does not count."""

    name = "blocks_rank_rgb"
    instructions = (
        "arrange the blocks in a row in the order red, green, blue",
        "put the red, green and blue block side by side from left to right",
        "rank the blocks by colour: red on the left, green in the middle, blue on the right",
        "line up the three blocks from left to right as red, green, blue",
    )
    reflects = False  # "in the order red, green, blue" names no side
    unseen_instructions = (
        "sort the blocks so that red is leftmost and blue rightmost",
        "place red, then green, then blue next to each other, beginning on the left",
    )

    def success(self, now: Readings, start: Readings) -> Any:
        """Neighbours are in order, close and in line; all lie on the table, rest, and are let go."""
        done = cubes.are_left_alone(now)
        for left, right in itertools.pairwise(cubes.CUBES):
            gap = now.y(f"{left}_position") - now.y(f"{right}_position")
            in_line = abs(now.x(f"{left}_position") - now.x(f"{right}_position")) < IN_LINE
            done = done & (gap > SPACING[0]) & (gap < SPACING[1]) & in_line
        for cube in cubes.CUBES:
            done = done & (abs(rise(now, start, cube)) < 0.005)
        return done

    def plan(self, start: Readings) -> list[Move]:
        """Carry one after the other into the middle, from left to right."""
        x, spacing = _ROW
        places = [Placement(x, (1 - index) * spacing) for index in range(len(cubes.CUBES))]
        return cubes.bring(start, list(zip(cubes.CUBES, places, strict=True)))

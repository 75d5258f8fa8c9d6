"""Hand a long block from the arm it lies in front of to the other arm, which puts it on a pad on its own side."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import handover, household
from piper_twin.carrying import away_from_base, other_arm, set_down
from piper_twin.handover import Grips
from piper_twin.moves import Move, ToolPose, nearer_arm
from piper_twin.predicates import is_still, is_upright, rise
from piper_twin.robot import ARMS
from piper_twin.task import Placement, Readings, Scene, Task

GRIPS = Grips(give=-0.045, take=0.045, height=0.018, width=household.BAR[1])
ON_CENTRE = 0.03
"""Largest distance between the middles of block and pad [m]."""
ALONG = 0.94
"""Least cosine of the angle between block and pad, either way round: 20 degrees."""
_PAD = (0.105, 0.036)
"""Half its size [m]."""
_RED, _BLUE = (0.80, 0.16, 0.14), (0.16, 0.34, 0.72)


class HandoverBlock(Task):
    """The block lies along the pad on the other side of the table, and nobody holds it.

    Only where it ends counts: an arm that can reach across may bring it there by itself.
    """

    name = "handover_block"
    instructions = (
        "hand over the block and put it on the pad",
        "pass the red block to the other arm and place it on the blue pad",
        "give the long block to the other arm, which sets it down on the pad",
        "move the red block to the blue pad from one arm to the other",
    )
    unseen_instructions = (
        "let the other arm take the block over to the pad",
        "transfer the red block between the arms and leave it on the pad",
    )
    horizon = 360

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """A long block and a pad of its shape."""
        household.add_bar(spec, "block", _RED)
        household.add_pad(spec, "pad", _PAD, _BLUE)

    def scene(self, rng: np.random.Generator) -> Scene:
        """The block in front of one arm, the pad in front of the other."""
        block = handover.lay_bar(rng, GRIPS)
        side = -math.copysign(1.0, block.y)
        x, y = rng.uniform((0.29, 0.17), (0.38, 0.29))
        pad = Placement(x, side * y, yaw=-side * rng.uniform(0.0, 0.8))
        return Scene(placements={"block": block, "pad": pad}, instruction=self.phrase(rng))

    def success(self, now: Readings, start: Readings) -> Any:
        """The block rests flat along the pad, let go; the pad is where it was."""
        above = now.z("block_position") - now.z("pad_position")
        flat = (abs(above - household.PAD_HEIGHT) < 0.004) & is_upright(now, "block", 0.98) & is_still(now, "block")
        centred = now.distance_xy("block_position", "pad_position") < ON_CENTRE
        along = abs((now["block_forward"] * now["pad_forward"]).sum(-1)) > ALONG
        done = flat & centred & along & (abs(rise(now, start, "pad")) < 0.004)
        for arm in ARMS:
            done = done & handover.has_let_go(now, arm)
        return done

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """Who holds the block."""
        return handover.signals(now, start, "block", GRIPS)

    def plan(self, start: Readings) -> list[Move]:
        """Hand it over in the middle, carry it on to the pad, let go."""
        giver = nearer_arm(float(start.y("block_position")))
        taker = other_arm(giver)
        x, y, z = (float(value) for value in start["pad_position"])
        lean = math.atan2(float(start.y("pad_forward")), float(start.x("pad_forward")))
        flip = math.cos(lean - away_from_base(taker, x, y)) < 0.0
        lean = lean + math.pi if flip else lean
        grip = GRIPS.take
        place = ToolPose(
            x - grip * math.cos(lean), y - grip * math.sin(lean),
            z + household.PAD_HEIGHT + GRIPS.height + 0.003, yaw=lean, opening=0.055,
        )  # fmt: skip
        moves = [*handover.hand_over(start, "block", GRIPS), *set_down(taker, place, GRIPS.width)]
        return [*moves[:-1], dataclasses.replace(moves[-1], wait=0.4)]

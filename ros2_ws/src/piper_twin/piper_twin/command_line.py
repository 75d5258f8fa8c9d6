"""The way from a command sent to the controls of the servos: late, with lagging grippers, off by the joints' zeros."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from piper_twin.cell import TIMESTEP
from piper_twin.randomization import Variation
from piper_twin.robot import ARMS, arm_slice

Array = npt.NDArray[np.float64]

MAX_DELAY = 40
"""Longest command latency that can be simulated [physics steps]."""

_GRIPPERS = [arm_slice(arm).stop - 1 for arm in ARMS]


class CommandLine:
    """One world's commands on their way."""

    def __init__(self, command: Array, variation: Variation) -> None:
        """Start at rest at `command` (14,)."""
        self.offset = variation.joint_offset
        self.gripper = command[_GRIPPERS]
        """Where the lagging grippers are told to be [m], shape (2,)."""
        self.gripper_share = min(1.0, TIMESTEP / max(variation.gripper_lag, TIMESTEP))
        """Of its way that a gripper goes in a physics step; 1 without lag."""
        self._delay = min(MAX_DELAY, round(variation.latency / TIMESTEP))
        self._on_the_way = np.repeat(command[None], self._delay, axis=0)

    def delayed(self, sent: Array) -> Array:
        """What arrives while `sent` (T, 14) is sent."""
        queue = np.concatenate([self._on_the_way, sent])
        self._on_the_way = queue[len(sent) :]
        return queue[: len(sent)]


def arrive(lines: Sequence[CommandLine], sent_BTA: Array) -> Array:
    """Controls of every world at every physics step, from what was sent at that step."""
    arrived_BTA = np.stack([line.delayed(sent) for line, sent in zip(lines, sent_BTA, strict=True)])
    share_B1 = np.array([[line.gripper_share] for line in lines])
    if (share_B1 < 1.0).any():
        gripper_BG = np.stack([line.gripper for line in lines])
        for step in range(arrived_BTA.shape[1]):
            gripper_BG = gripper_BG + share_B1 * (arrived_BTA[:, step, _GRIPPERS] - gripper_BG)
            arrived_BTA[:, step, _GRIPPERS] = gripper_BG
        for line, gripper in zip(lines, gripper_BG, strict=True):
            line.gripper = gripper
    return arrived_BTA + np.stack([line.offset for line in lines])[:, None]

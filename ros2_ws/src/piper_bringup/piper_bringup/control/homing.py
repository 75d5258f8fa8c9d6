"""The way back to the posture that episodes start from."""

from __future__ import annotations

import math

import numpy as np

from piper_bringup.control.states import Array
from piper_twin.robot import ARMS, HOME
from vla_policy.types import ActionChunk

POSTURE: Array = np.tile(HOME, len(ARMS))
"""Both arms at home, grippers open [rad], [m]."""
SPEED = 0.5
"""Of the joint with the longest way, on average [rad/s]: slow enough to step in."""
PERIOD = 0.04
"""Between two rows [s]."""
ARRIVED = 0.02
"""A joint this far from home is at home [rad], a gripper [m]."""


def way_home(position: Array, now: float) -> ActionChunk:
    """A chunk that leads straight home, smoothly: 3 s^2 - 2 s^3 of the way after the share s of the time.

    Args:
        position: Where the robot is sent now [rad], [m], shape (num_joints,).
        now: [s].
    """
    rows = max(1, math.ceil(float(np.abs(POSTURE - position).max()) / SPEED / PERIOD))
    share = np.arange(1, rows + 1)[:, None] / rows
    way = (3.0 - 2.0 * share) * share**2
    return ActionChunk(actions=(position + way * (POSTURE - position)).astype(np.float32), period=PERIOD, stamp=now)


def is_home(position: Array) -> bool:
    """Whether every joint has arrived."""
    return bool((np.abs(position - POSTURE) <= ARRIVED).all())

"""What an action token counts from: zero (absolute), or the joints at the chunk's start (relative).

Relative targets and a wrist camera together turn a skill into "close the offset you see", which few demonstrations
can start. Absolute targets stay for parity with published checkpoints. Grippers are openings in both frames: an
opening has a meaning of its own, an offset from a half-closed gripper has none.

'libero' is 'absolute' but for the gripper: LIBERO's data and the checkpoints made of it count 0 closed to 1 open, its
robot takes -1 to open and +1 to close, and nothing between.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.types import Vector

ActionFrame = Literal["absolute", "relative", "libero"]
ACTION_FRAMES: tuple[str, ...] = get_args(ActionFrame)


def to_frame(actions: npt.ArrayLike, state: npt.ArrayLike, embodiment: Embodiment, frame: ActionFrame) -> Vector:
    """Express absolute joint targets in `frame`.

    Args:
        actions: Absolute targets [rad], openings [m], shape (..., chunk_length, num_joints).
        state: Measured at the chunk's start, shape (..., num_joints).
        embodiment: Says which joints are grippers.
        frame: Frame of the result.
    """
    framed = np.asarray(actions, np.float32) - _origin(state, embodiment, frame)
    return np.where(_is_libero_gripper(embodiment, frame), (1 - framed) / 2, framed)


def from_frame(actions: npt.ArrayLike, state: npt.ArrayLike, embodiment: Embodiment, frame: ActionFrame) -> Vector:
    """Absolute joint targets of actions given in `frame`; inverse of `to_frame`, of an open or closed gripper."""
    absolute = np.asarray(actions, np.float32) + _origin(state, embodiment, frame)
    return np.where(_is_libero_gripper(embodiment, frame), -np.sign(2 * absolute - 1), absolute)


def _is_libero_gripper(embodiment: Embodiment, frame: ActionFrame) -> npt.NDArray[np.bool_]:
    return np.array([frame == "libero" and joint.is_gripper for joint in embodiment.joints])


def _origin(state: npt.ArrayLike, embodiment: Embodiment, frame: ActionFrame) -> Vector:
    if frame not in ACTION_FRAMES:
        raise VlaError(f"unknown action frame '{frame}'; choose one of {', '.join(ACTION_FRAMES)}")
    if frame in ("absolute", "libero"):
        return np.zeros(1, np.float32)  # whatever the state is made of
    is_relative = np.array([frame == "relative" and not joint.is_gripper for joint in embodiment.joints])
    return np.where(is_relative, np.asarray(state, np.float32), np.float32(0))[..., None, :]

"""The cell as its reflection in the middle plane between the arms (y to -y) would be: the other arm does the same.

Both arms are the same part, not each other's reflection, yet what a policy sees and says of them reflects: links and
gripper lie on either side of the plane in which joints 2, 3 and 5 turn, so joints 1, 4 and 6 change their sign.
"""

from __future__ import annotations

import re
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from piper_twin.robot import ARMS, DOF, DUAL_PIPER
from vla_policy.types import Image

Numbers = TypeVar("Numbers", npt.NDArray[np.float32], npt.NDArray[np.float64])

_JOINTS = np.concatenate([np.arange(number * DOF, (number + 1) * DOF) for number in reversed(range(len(ARMS)))])
"""Whose number takes each joint's place."""
_SIGNS = np.tile(np.array([-1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0], np.float32), len(ARMS))
_CAMERAS = [DUAL_PIPER.camera_names.index(name) for name in ("head", *(f"{arm}_wrist" for arm in reversed(ARMS)))]
_OTHER_SIDE = {"left": "right", "right": "left"}


def reflect_joints(values: Numbers) -> Numbers:
    """Joint positions or commands [rad], [m] of both arms, shape (..., 14)."""
    return values[..., _JOINTS] * _SIGNS.astype(values.dtype)  # pyright: ignore[reportReturnType]  it keeps the type


def reflect_images(images: Image) -> Image:
    """Images of all cameras, shape (..., cameras, H, W, 3): turned over, those of the wrists exchanged."""
    return images[..., _CAMERAS, :, ::-1, :]


def reflect_words(instruction: str) -> str:
    """An instruction with left for right."""
    return re.sub(r"\b(left|right)\b", lambda word: _OTHER_SIDE[word[0]], instruction)

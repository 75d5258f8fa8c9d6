"""The two seams of the project: observations in, action chunks out; states out, commands in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the policy sees at one instant."""

    images: Mapping[str, Image]
    """Camera name to RGB image, uint8, shape (height, width, 3)."""
    state: Vector
    """Measured joint positions [rad], grippers [m], float32, shape (num_joints,)."""
    instruction: str
    stamp: float
    """When it was seen [s]."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ActionChunk:
    """What the robot shall do next: absolute joint targets, one a period."""

    actions: Vector
    """Joint targets [rad], grippers [m], float32, shape (chunk_length, num_joints)."""
    period: float
    """Time between two rows [s]."""
    stamp: float
    """Stamp of the observation this answers [s]."""


class Policy(Protocol):
    """Anything that turns observations into action chunks."""

    def infer(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer every observation; one forward pass for all of them."""
        ...


class Robot(Protocol):
    """Anything that has joints: the Piper pair, the twin, a first-order fake."""

    def read(self) -> Vector:
        """Measured joint positions [rad], grippers [m], shape (num_joints,)."""
        ...

    def write(self, command: Vector) -> None:
        """Send joint targets [rad], grippers [m], shape (num_joints,)."""
        ...

    def hold(self) -> None:
        """Command the measured position. Never disables torque."""
        ...

    def close(self) -> None:
        """Leave the bus. The arm keeps holding."""
        ...

"""What every way of leading the robot has in common: joint targets out, words and requests to the operator's side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from vla_policy import topics
from vla_policy.types import Vector

SERVICES = (
    topics.ENABLE,
    topics.STOP,
    topics.RELEASE,
    topics.EPISODE_START,
    topics.EPISODE_SUCCESS,
    topics.EPISODE_FAILURE,
    topics.EPISODE_DISCARD,
)
"""What an operator may ask for; all are std_srvs/Trigger."""

Tell = Callable[[str], None]
"""Says a sentence to the operator."""
Request = Callable[[str], None]
"""Calls one of `SERVICES`; the answer is told to the operator."""


class TeleopSource(Protocol):
    """One way of leading the robot; what it wants passes the robot's guard as a policy's actions do."""

    interval: float
    """Time from one question for targets to the next [s]."""

    def start(self, state: Vector, now: float, world: Mapping[str, object]) -> str:
        """Begin afresh and tell what will happen.

        Args:
            state: Measured joint positions [rad], grippers [m], shape (14,).
            now: [s], never running backwards.
            world: What the twin's world was told (task, seed, split, randomization); empty on a real robot.

        Raises:
            VlaError: it cannot; the message names the remedy.
        """
        ...

    def targets(self, state: Vector | None, now: float) -> Vector | None:
        """What the robot shall do from now on; None when there is nothing to do.

        Args:
            state: Measured joint positions (14,); None while they are not known, or it is paused: then only the
                operator's requests are heeded.
            now: [s], never running backwards.

        Returns:
            Joint targets, one row a control period, shape (rows, 14).
        """
        ...

    def close(self) -> None:
        """Leave the devices it reads."""
        ...

"""What an emulated arm moves: a plant that has the joints, and the planner that brings them to their targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from piper_twin.robot import DOF

LONGEST_STEP = 0.005
"""The planner takes longer times in steps of this [s]."""


class Plant(Protocol):
    """The mechanics of one arm: six joints [rad] and the gripper's opening [m], seven numbers."""

    def set_targets(self, targets: Sequence[float]) -> None:
        """Where the motors pull the joints from now on."""
        ...

    def joints(self) -> Sequence[float]:
        """Measured, as encoders would say."""
        ...


class ExactPlant:
    """Joints that are where they are told to be; all motion comes from the arm's planner."""

    def __init__(self, joints: Sequence[float]) -> None:
        """Begin at `joints`, seven numbers."""
        self._joints = list(joints)

    def set_targets(self, targets: Sequence[float]) -> None:
        """Be there."""
        self._joints[:] = targets

    def joints(self) -> Sequence[float]:
        """Where it was told to be last."""
        return self._joints


class Planner:
    """Moves set points to their targets: trapezoids in velocity, every joint by itself, a new target at any time."""

    def __init__(self, joints: Sequence[float]) -> None:
        """Stand at `joints`, seven numbers."""
        self.position = list(joints)
        """Set points."""
        self.velocity = [0.0] * DOF

    def place(self, joint: int, position: float) -> None:
        """Stand at `position` with one joint."""
        self.position[joint], self.velocity[joint] = position, 0.0

    def move(
        self,
        targets: Sequence[float],
        max_velocity: Sequence[float],
        max_acceleration: Sequence[float],
        duration: float,
    ) -> None:
        """Let time pass.

        Args:
            targets: Where to, seven numbers.
            max_velocity: At most so fast.
            max_acceleration: Changing speed at most so fast; infinity: at once.
            duration: [s].
        """
        steps = math.ceil(duration / LONGEST_STEP - 1e-9)
        for _ in range(steps):
            dt = duration / steps
            for joint, target in enumerate(targets):
                gap = target - self.position[joint]
                if gap or self.velocity[joint]:
                    self._step(joint, gap, max_velocity[joint], max_acceleration[joint], dt)

    def _step(self, joint: int, gap: float, max_velocity: float, max_acceleration: float, dt: float) -> None:
        change = max_acceleration * dt
        fastest = min(max_velocity, abs(gap) / dt)
        if math.isfinite(change):  # no faster than it can brake from, in `steps` whole steps after this one
            steps = math.floor(math.sqrt(0.25 + 2 * abs(gap) / (change * dt)) - 0.5)
            fastest = min(fastest, abs(gap) / ((steps + 1) * dt) + steps * change / 2)
        old = self.velocity[joint]
        new = min(max(math.copysign(fastest, gap), old - change), old + change)
        self.velocity[joint] = new
        self.position[joint] += new * dt

"""Measures a stream of commands from the outside: differences of what was sent, and distances between the arms' shapes.

Nothing here is shared with the guard but the facts: the embodiment's limits, the twin's shapes, and wanted distances.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from piper_bringup.fuzz.rounded_boxes import ArmShapes, Array, too_near
from piper_twin.clearance import GuardConfig
from vla_policy.embodiment import Embodiment

ROUNDING = 1e-6
"""Limits may be exceeded by this share, for floating point is no exact arithmetic."""
RESOLUTION = 1e-5
"""Distances are known up to this [m]."""


class StreamCheck:
    """Counts commands that break a limit."""

    def __init__(self, embodiment: Embodiment, distances: GuardConfig, dt: float, max_jerk: Array) -> None:
        """Hold a stream against limits.

        Args:
            embodiment: Owner of position, velocity and acceleration limits.
            distances: What the arms shall keep from each other and from the table.
            dt: Time between two commands [s].
            max_jerk: Of every joint [rad/s^3], grippers [m/s^3].
        """
        self._dt, self._distances = dt, distances
        self._lower = np.array([joint.lower for joint in embodiment.joints])
        self._upper = np.array([joint.upper for joint in embodiment.joints])
        max_velocity = np.array([joint.max_velocity for joint in embodiment.joints])
        max_acceleration = np.array([joint.max_acceleration for joint in embodiment.joints])
        self._limits = {"velocity": max_velocity, "acceleration": max_acceleration, "jerk": max_jerk}
        self._shapes = ArmShapes()
        is_gripper = np.array(["palm" in name or "finger" in name for name in self._shapes.names])
        self._heights = np.where(is_gripper, distances.gripper_table_distance, distances.link_table_distance)

    def violations(self, commands: Array) -> list[str]:
        """What is wrong with `commands`, shape (time, num_joints), in words; in the order sent, evenly in time."""
        if not np.isfinite(commands).all():
            return ["a command is not finite"]
        found = _beyond(commands, self._lower - ROUNDING, self._upper + ROUNDING, "position")
        for order, (name, limit) in enumerate(self._limits.items(), start=1):
            bound = limit * (1.0 + ROUNDING) + ROUNDING
            found += _beyond(np.diff(commands, order, axis=0) / self._dt**order, -bound, bound, name)
        moved = np.flatnonzero(np.abs(np.diff(commands, axis=0, prepend=np.inf)).max(axis=1) > 1e-7)
        return found + self._too_near(commands[moved], moved)

    def shares(self, commands: Array) -> dict[str, float]:
        """Velocity, acceleration and jerk at their largest, as a share of their limits."""
        return {
            name: float((np.abs(np.diff(commands, order, axis=0)) / self._dt**order / limit).max(initial=0.0))
            for order, (name, limit) in enumerate(self._limits.items(), start=1)
        }

    def _too_near(self, commands: Array, index: npt.NDArray[np.intp]) -> list[str]:
        centres, axes = self._shapes.place(commands)
        names = self._shapes.names
        heights = self._shapes.heights(centres, axes)
        found = [
            f"command {index[row]}: {names[shape]} is {heights[row, shape] * 1000:.2f} mm above the table"
            for row, shape in np.argwhere(heights < self._heights - RESOLUTION)
        ]
        margin = self._distances.arm_distance - RESOLUTION
        return found + [
            f"command {index[row]}: {names[one]} is {distance * 1000:.2f} mm from {names[other]}"
            for row, one, other, distance in too_near(self._shapes, centres, axes, margin)
        ]


def _beyond(values: Array, lower: Array, upper: Array, name: str) -> list[str]:
    wrong = np.argwhere((values < lower) | (values > upper))
    return [f"command {row}: {name} {values[row, joint]:.6f} of joint {joint}" for row, joint in wrong]

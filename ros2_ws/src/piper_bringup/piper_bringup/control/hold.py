"""Which pose a held robot is sent."""

from __future__ import annotations

import numpy as np

from piper_bringup.control.command_stream import CommandStream
from piper_bringup.control.states import Array
from vla_policy.embodiment import Embodiment

STILL = 2e-4
"""Joints that move less than this in a tick stand still [rad]: 0.04 rad/s."""
STILL_TICKS = 10
PATIENCE_TICKS = 100
"""Ticks after which the pose is taken although the arms still sway."""
LIMP_DISTANCE = 0.03
"""A limp joint is followed once it is this far from the pose [rad], a gripper from a tenth of it [m]; at once would let
a joint that has torque creep down."""


class Hold:
    """Brakes, waits until the arms stand still, then sends where they were measured; for ever."""

    def __init__(self, embodiment: Embodiment, stream: CommandStream) -> None:
        """Nothing is held until `begin`."""
        self._stream = stream
        self._is_gripper = np.array([joint.is_gripper for joint in embodiment.joints])
        self._reach = np.where(self._is_gripper, 0.1, 1.0) * LIMP_DISTANCE
        self.begin()

    def begin(self) -> None:
        """Forget the pose; the next `move` brakes."""
        self._pose: Array | None = None
        self._before: Array | None = None
        self._still = self._waited = 0

    @property
    def is_reached(self) -> bool:
        """Whether the pose is known, and what is sent."""
        if self._pose is None or not self._stream.is_at_rest:
            return False
        return bool((np.abs(self._stream.position - self._pose) < 1e-6).all())

    def move(self, measured: Array, is_limp: bool) -> None:
        """One period: towards rest first, then towards the pose.

        Args:
            measured: Joint positions [rad], grippers [m], shape (num_joints,).
            is_limp: The arms do not follow; joints that sank away are followed.
        """
        if self._pose is None:
            self._stream.brake()
            if self._stands(measured) or is_limp:
                # Grippers keep what they were sent: measured would be the size of what they carry, and let go of it.
                self._pose = np.where(self._is_gripper, self._stream.position, measured)
            return
        if is_limp:
            self._pose = np.where(self._is_gripper, self._pose, self.near(self._pose, measured))
        self._stream.follow(self._pose)

    def near(self, pose: Array, measured: Array) -> Array:
        """`pose`, but `measured` where a joint is far from it."""
        return np.where(np.abs(measured - pose) > self._reach, measured, pose)

    def _stands(self, measured: Array) -> bool:
        """Whether commands and joints have come to rest, or were given time enough."""
        if not self._stream.is_at_rest:
            return False
        moved = self._before is None or bool((np.abs(measured - self._before) > STILL).any())
        self._before = measured
        self._still = 0 if moved else self._still + 1
        self._waited += 1
        return self._still >= STILL_TICKS or self._waited >= PATIENCE_TICKS

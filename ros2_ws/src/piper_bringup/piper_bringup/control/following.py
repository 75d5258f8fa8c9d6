"""Do the joints do what they are told?"""

from __future__ import annotations

import numpy as np

from piper_bringup.control.faults import Fault
from piper_bringup.control.states import Array
from vla_policy.embodiment import Embodiment

PATIENCE = 0.1
"""How long a joint may be astray [s]."""
MAX_LAG = 0.15
"""How late a moving joint may be [s]: latency of the bus and of the arm's own servo."""
MARGIN = 0.35
"""Measured joints this far beyond their limits are no measurement [rad]; grippers from a tenth of it [m]."""


class Following:
    """Compares the measured joints with what was sent, and with what is possible."""

    def __init__(self, embodiment: Embodiment, max_error: float) -> None:
        """Complain of joints more than `max_error` [rad] away at rest; 0: of none."""
        self._embodiment, self._max_error = embodiment, max_error
        joints = embodiment.joints
        self._is_joint = np.array([not joint.is_gripper for joint in joints])
        margin = np.where(self._is_joint, MARGIN, 0.1 * MARGIN)
        self._lower = np.array([joint.lower for joint in joints]) - margin
        self._upper = np.array([joint.upper for joint in joints]) + margin
        self._astray_since: float | None = None

    def implausible(self, measured: Array) -> Fault | None:
        """Why `measured` cannot be where the joints are; None: it can."""
        wrong = ~((measured >= self._lower) & (measured <= self._upper))  # NaN is wrong, too
        if not wrong.any():
            return None
        values = ", ".join(
            f"{self._embodiment.joint_names[index]} {measured[index]:.3f}" for index in np.flatnonzero(wrong)
        )
        return Fault("implausible_feedback", values)

    def astray(self, measured: Array, command: Array, velocity: Array, now: float) -> Fault | None:
        """Which joint has not followed for a while; grippers may be stopped by what they hold.

        Args:
            measured: Joint positions [rad], shape (num_joints,).
            command: What was sent.
            velocity: Of the command [rad/s].
            now: [s].
        """
        excess = np.abs(measured - command) - self._max_error - MAX_LAG * np.abs(velocity)
        worst = int(np.argmax(np.where(self._is_joint, excess, -np.inf)))
        if excess[worst] <= 0.0 or self._max_error == 0.0:
            self._astray_since = None
            return None
        if self._astray_since is None:
            self._astray_since = now
        if now - self._astray_since < PATIENCE:
            return None
        name, error = self._embodiment.joint_names[worst], measured[worst] - command[worst]
        return Fault("not_following", f"{name} is {error:+.2f} rad from its command")

    def forget(self) -> None:
        """Begin anew: what is sent next need not have to do with what was sent before."""
        self._astray_since = None

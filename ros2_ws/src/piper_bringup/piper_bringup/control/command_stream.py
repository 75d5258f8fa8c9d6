"""The stream of commands that leaves the control loop: guarded, then averaged, one every 5 ms.

The guard keeps position, velocity, acceleration and distances. Its commands may change their acceleration at once, so
the last `AVERAGED` of them are averaged before they are sent: that bounds jerk by `2 a / (AVERAGED dt)` and keeps what
holds for each of them. An average leaves the way it was taken from by at most `a dt^2 (AVERAGED^2 - 1) / 24`: 0.33 mrad
at 5 rad/s^2, less than a millimetre at the fingertips, which the guard's `SLACK` covers.
"""

from __future__ import annotations

import numpy as np

from piper_bringup.control.states import Array
from piper_twin.guard import Guard, GuardConfig, brake
from vla_policy.embodiment import Embodiment

AVERAGED = 8
"""Commands in an average: 40 ms at 200 Hz."""


class CommandStream:
    """Always has a command to send: it follows a target, or brakes, or stays."""

    def __init__(self, embodiment: Embodiment, guard: GuardConfig, dt: float) -> None:
        """Stand at zero until `restart`.

        Args:
            embodiment: Owner of the limits.
            guard: Distances to keep.
            dt: Time between two commands [s].
        """
        self._embodiment, self._dt = embodiment, dt
        self._guard = Guard(embodiment, guard)
        self.restart(np.zeros(embodiment.num_joints))

    @property
    def delay(self) -> float:
        """How late the average is against what the guard let through [s]."""
        return 0.5 * (AVERAGED - 1) * self._dt

    @property
    def command(self) -> Array:
        """What is to be sent: joint positions [rad], grippers [m], shape (num_joints,)."""
        return self._recent.mean(axis=0)

    @property
    def position(self) -> Array:
        """Where the guard has led the joints: what the command will be once the average has caught up."""
        return self._position

    @property
    def velocity(self) -> Array:
        """Of `position` [rad/s], [m/s]."""
        return self._velocity

    @property
    def is_at_rest(self) -> bool:
        """Whether the command stays as it is unless a target moves it."""
        return not self._velocity.any() and bool((self._recent == self._position).all())

    def restart(self, pose: Array) -> None:
        """Stand still at `pose`, from now on."""
        self._position = pose.astype(np.float64)
        self._velocity = np.zeros_like(self._position)
        self._recent = np.tile(self._position, (AVERAGED, 1))
        self._oldest = 0

    def follow(self, target: Array) -> str | None:
        """One period towards `target`; tells what came too near, if anything did."""
        position, velocity, reasons = self._guard.filter(
            target[None], self._position[None], self._velocity[None], self._dt
        )
        self._advance(position[0], velocity[0])
        return reasons[0]

    def brake(self) -> None:
        """One period of braking as hard as the limits allow; then stay."""
        self._advance(*brake(self._position, self._velocity, self._embodiment, self._dt))

    def _advance(self, position: Array, velocity: Array) -> None:
        self._position, self._velocity = position, velocity
        self._recent[self._oldest] = position
        self._oldest = (self._oldest + 1) % AVERAGED

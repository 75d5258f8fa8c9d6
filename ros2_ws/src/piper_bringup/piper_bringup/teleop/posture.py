"""The joint targets an operator has led the robot to, whatever the means."""

from __future__ import annotations

import collections

import numpy as np
import numpy.typing as npt

from piper_twin.guard import limits_of
from piper_twin.robot import ARMS, CONTROL_PERIOD, DUAL_PIPER, arm_slice
from vla_policy.types import Vector

Array = npt.NDArray[np.float64]

TOLERANCE = 0.07
"""A joint follows that is this near its targets of the last moments [rad]: 4 degrees."""
MEMORY = 1.0
"""These moments [s]: what a joint needs to reach its full speed (0.6 s; an operator's hand needs none), and the way
there and back over a busy computer."""
LONGEST_STEP = 0.05
"""Time that counts at most from one observation to the next [s]: a process that was held up must not make it up."""


class Posture:
    """Joint targets of both arms; they stay within the joints' limits and move no faster than the joints may.

    An arm that does not follow (not enabled, stopped, refused by the guard) has its targets start over from where it
    is: it never jumps when it may move again. Grippers are left out of that: closed on an object they never arrive, and
    must keep their grip.
    """

    def __init__(self) -> None:
        """Unknown until the first observation."""
        self._lower, self._upper, self._max_velocity, _ = limits_of(DUAL_PIPER)
        self._values: Array | None = None
        self._before = np.zeros(DUAL_PIPER.num_joints)
        self._seen = 0.0
        self._past: collections.deque[tuple[float, Array]] = collections.deque()
        self.elapsed = 0.0
        """Time since the observation before the last [s]."""

    @property
    def values(self) -> Array:
        """Joint targets [rad], grippers [m], shape (14,), a copy."""
        assert self._values is not None, "observe comes first"
        return np.array(self._values)

    @property
    def rows(self) -> Vector:
        """The targets as a source hands them out, shape (2, 14).

        The second row goes on as fast as the first was led, so that the robot moves evenly while the next chunk is on
        its way.
        """
        values = self.values
        share = CONTROL_PERIOD / self.elapsed if self.elapsed > 0.0 else 0.0
        ahead = np.minimum(np.maximum(values + share * (values - self._before), self._lower), self._upper)
        return np.stack([values, ahead]).astype(np.float32)

    def arm(self, arm: str) -> Array:
        """Targets of one arm, shape (7,), a copy."""
        return self.values[arm_slice(arm)]

    def observe(self, state: Vector, now: float) -> tuple[str, ...]:
        """Take in the measured joints (14,) at `now` [s]; returns the arms whose targets started over."""
        measured = np.minimum(np.maximum(state, self._lower), self._upper)
        self.elapsed = min(max(0.0, now - self._seen), LONGEST_STEP)
        self._seen = now
        if self._values is None:
            self._values, self._before, self.elapsed = measured, measured, 0.0
            self._past.append((now, np.array(measured)))
            return ARMS
        self._past.append((now, self.values))
        while self._past[0][0] < now - MEMORY:
            self._past.popleft()
        return self._start_over(measured)

    def _start_over(self, measured: Array) -> tuple[str, ...]:
        values = self.values
        wanted = np.stack([past for _, past in self._past])
        lost = (measured < wanted.min(axis=0) - TOLERANCE) | (measured > wanted.max(axis=0) + TOLERANCE)
        lost &= ~np.array([joint.is_gripper for joint in DUAL_PIPER.joints])
        arms = tuple(arm for arm in ARMS if lost[arm_slice(arm)].any())
        for arm in arms:
            joints = slice(arm_slice(arm).start, arm_slice(arm).stop - 1)
            for values_then in (values, *(past for _, past in self._past)):
                values_then[joints] = measured[joints]
        self._values, self._before = values, np.array(values)
        return arms

    def move(self, arm: str, wanted: Array, max_speed: float = np.inf) -> None:
        """Bring one arm's targets as near to `wanted` (7,) as limits and time allow.

        Args:
            arm: Which one.
            wanted: Joint targets [rad], gripper [m]; what is not finite is ignored.
            max_speed: Of every joint [rad/s], where it is less than the joint's own.
        """
        columns, values = arm_slice(arm), self.values
        if not np.isfinite(wanted).all():
            return
        speed = self._max_velocity[columns] * min(1.0, max_speed / self._max_velocity[columns.start])
        step = speed * self.elapsed
        near = values[columns] + np.minimum(np.maximum(wanted - values[columns], -step), step)
        values[columns] = np.minimum(np.maximum(near, self._lower[columns]), self._upper[columns])
        self._values = values

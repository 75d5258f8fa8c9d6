"""A robot of plain arithmetic: joints that follow their commands with a lag; for trying out and for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from piper_bringup.control.faults import Fault
from piper_twin.guard import limits_of
from piper_twin.robot import ARMS, HOME
from vla_policy.embodiment import Embodiment
from vla_policy.types import Vector

TIME_CONSTANT = 0.04
"""Of the lag [s], about that of the arms' own servos."""


class FakeDriver:
    """First-order lag towards the command, no faster than the joints' limits. Time is what `clock` says."""

    def __init__(self, embodiment: Embodiment, clock: Callable[[], float] = time.monotonic) -> None:
        """Both arms at home, without torque."""
        self._clock = clock
        self._max_velocity = limits_of(embodiment)[2]
        self._joints = np.tile(HOME, len(ARMS))
        self._target: npt.NDArray[np.float64] | None = None
        self._time = clock()
        self._has_torque = self._is_stopped = False
        self.injected: list[Fault] = []
        """What it shall say is wrong."""
        self.problems: list[str] = []
        """What shall speak against enabling it."""

    def read(self) -> Vector:
        """Where the joints have come to by now."""
        now = self._clock()
        elapsed, self._time = now - self._time, now
        if self._has_torque and self._target is not None and elapsed > 0.0:
            way = (self._target - self._joints) * -np.expm1(-elapsed / TIME_CONSTANT)
            furthest = self._max_velocity * elapsed
            self._joints = self._joints + np.minimum(np.maximum(way, -furthest), furthest)
        return self._joints.astype(np.float32)

    def write(self, command: npt.NDArray[np.floating[Any]]) -> None:
        """Set the target."""
        if not self._is_stopped:
            self._target = np.array(command, np.float64)

    def hold(self) -> None:
        """Stay."""
        self.write(self.read())

    def close(self) -> None:
        """Nothing to leave."""

    def faults(self, now: float) -> list[Fault]:
        """What was injected, and missing torque."""
        del now
        if self._has_torque:
            return list(self.injected)
        return [*self.injected, Fault("joint_disabled", "all joints")]

    def checks(self) -> list[str]:
        """What was told to speak against it."""
        return list(self.problems)

    def report(self, now: float) -> dict[str, object]:
        """Nothing to tell but what it is."""
        del now
        return {"driver": "fake", "torque": self._has_torque}

    def enable(self) -> None:
        """Torque at once."""
        self._has_torque = True

    def enabled(self) -> bool:
        """Whether it was enabled."""
        return self._has_torque

    def disable(self) -> None:
        """Take the torque away, as a broken arm would."""
        self._has_torque = False

    def stop(self) -> None:
        """Hold what was measured last."""
        self._is_stopped = True
        self._target = self._joints

    def resume(self) -> None:
        """Take commands again."""
        self._is_stopped = False

"""Which chunks are played: those that fit the robot, are finite, and answer what was seen a moment ago."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from piper_bringup.control.faults import Fault
from vla_policy.embodiment import Embodiment
from vla_policy.types import ActionChunk

MAX_ROWS = 1000
"""Longest chunk."""
MAX_PERIOD = 1.0
"""Longest time between two rows [s]."""
MAX_LEAD = 0.05
"""A chunk may answer an observation from this far in the future [s]: clocks of two machines are never the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class ChunkDoor:
    """Judges one chunk at a time."""

    embodiment: Embodiment
    max_age: float
    """Oldest observation a chunk may answer [s]."""

    def refusal(self, chunk: ActionChunk, arrival: float, since: float) -> Fault | None:
        """Why `chunk` must not be played; None: it may.

        Args:
            chunk: Its stamp is on the control loop's clock.
            arrival: When it came [s].
            since: It must answer an observation made after this [s].
        """
        return self._misfit(chunk) or self._untimely(chunk, arrival, since)

    def _misfit(self, chunk: ActionChunk) -> Fault | None:
        shape, joints = chunk.actions.shape, self.embodiment.num_joints
        if len(shape) != 2 or not 1 <= shape[0] <= MAX_ROWS or shape[1] != joints:
            return Fault("malformed_chunk", f"it has the shape {shape}; wanted are 1 to {MAX_ROWS} rows of {joints}")
        if not 0.0 < chunk.period <= MAX_PERIOD:
            return Fault("malformed_chunk", f"its period is {chunk.period} s; wanted are up to {MAX_PERIOD} s")
        if not (math.isfinite(chunk.stamp) and np.isfinite(chunk.actions).all()):
            return Fault("not_finite", "a target or the stamp is not a finite number")
        return None

    def _untimely(self, chunk: ActionChunk, arrival: float, since: float) -> Fault | None:
        age, duration = arrival - chunk.stamp, len(chunk.actions) * chunk.period
        if age < -MAX_LEAD:
            return Fault("future_chunk", f"its observation is {-age:.3f} s in the future")
        if age > self.max_age:
            return Fault("stale_chunk", f"its observation is {age:.3f} s old; allowed are {self.max_age} s")
        if age >= duration:
            return Fault("stale_chunk", f"all its {duration:.3f} s had passed when it came")
        if chunk.stamp < since:
            return Fault("stale_chunk", f"its observation was made {since - chunk.stamp:.3f} s too early")
        return None

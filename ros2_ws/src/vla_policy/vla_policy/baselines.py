"""Policies without a network: to check a task, a robot or an evaluation before any training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.types import ActionChunk, Observation, Vector


class HoldPolicy:
    """Stays where it is."""

    def __init__(self, embodiment: Embodiment, chunk_length: int = 8) -> None:
        self._period = embodiment.control_period
        self._length = chunk_length

    def infer(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer every observation with its own state, repeated."""
        return [_chunk(np.tile(seen.state, (self._length, 1)), self._period, seen) for seen in observations]


class RandomPolicy:
    """A random walk from the measured joints, within the limits and at most half the speed of every joint."""

    def __init__(self, embodiment: Embodiment, seed: int = 0, chunk_length: int = 8) -> None:
        self._period = embodiment.control_period
        self._length = chunk_length
        self._generator = np.random.default_rng(seed)
        self._lower = np.array([joint.lower for joint in embodiment.joints])
        self._upper = np.array([joint.upper for joint in embodiment.joints])
        self._step = 0.5 * self._period * np.array([joint.max_velocity for joint in embodiment.joints])

    def infer(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer every observation with a walk of its own: one direction a chunk, plus some noise."""
        shape = (len(observations), self._length, len(self._step))
        drift = self._generator.uniform(-0.5, 0.5, (shape[0], 1, shape[2]))
        steps = (drift + self._generator.uniform(-0.5, 0.5, shape)) * self._step
        walks = np.cumsum(steps, axis=1)
        return [
            _chunk(np.minimum(np.maximum(seen.state + walk, self._lower), self._upper), self._period, seen)
            for seen, walk in zip(observations, walks, strict=True)
        ]


class ReplayPolicy:
    """Plays recorded actions by the clock of the observations; the first one seen starts the recording."""

    def __init__(self, actions: npt.ArrayLike, embodiment: Embodiment, chunk_length: int = 8) -> None:
        """Take a recording.

        Args:
            actions: Absolute joint targets, one a control period, shape (num_steps, num_joints).
            embodiment: Gives the period and the number of joints.
            chunk_length: Rows in an answer; past the end the last row is repeated.
        """
        self._actions: Vector = np.asarray(actions, np.float32)
        if self._actions.ndim != 2 or not len(self._actions) or self._actions.shape[1] != embodiment.num_joints:
            raise VlaError(
                f"a recording to replay needs shape (steps, {embodiment.num_joints}), not {self._actions.shape}"
            )
        self._period = embodiment.control_period
        self._length = chunk_length
        self._start: float | None = None

    def reset(self) -> None:
        """Start over with the next observation."""
        self._start = None

    def infer(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer every observation with the rows that were recorded that long after the start."""
        return [self._answer(seen) for seen in observations]

    def _answer(self, seen: Observation) -> ActionChunk:
        if self._start is None:
            self._start = seen.stamp
        first = max(0, round((seen.stamp - self._start) / self._period))
        rows = np.minimum(first + np.arange(self._length), len(self._actions) - 1)
        return _chunk(self._actions[rows], self._period, seen)


def _chunk(actions: npt.NDArray[np.floating], period: float, seen: Observation) -> ActionChunk:
    return ActionChunk(actions=actions.astype(np.float32), period=period, stamp=seen.stamp)

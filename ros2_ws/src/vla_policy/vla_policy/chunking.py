"""From action chunks, which come late and seldom, to one command a period."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError
from vla_policy.types import ActionChunk, Vector

_ROUNDING = 1e-6
"""Share of a period that float time stamps may be short of a row's start."""


class ChunkPlayer:
    """Holds the newest chunk and tells which row of it is due.

    Row i is due from `stamp + i * period` on: `command` steps to it there and then, `target` has moved evenly and
    reaches it when its period ends. Rows that passed while the policy was thinking are skipped, and the last row is
    held once the chunk is spent.
    """

    def __init__(self, ensemble: bool = False, decay: float = 0.01) -> None:
        """Start empty.

        Args:
            ensemble: Average all chunks that cover the instant instead of playing the newest one.
            decay: m in the weight exp(-m * age), age in rows since the chunk's stamp: the newest chunk weighs most
                (ACT counts the other way round).
        """
        self._depth = None if ensemble else 1
        self._decay = decay
        self._chunks: list[_Arrived] = []

    def push(self, chunk: ActionChunk, now: float | None = None, start: npt.ArrayLike | None = None) -> None:
        """Take a new chunk. One that answers an older observation than the newest held is dropped.

        Args:
            chunk: What shall be played from now on.
            now: When it arrived [s]; its stamp by default. For `target` alone, as is `start`.
            start: The joint targets sent at `now`, from where `target` moves on; its own by default, or the first row
                still due where it has none.

        Raises:
            VlaError: the chunk is empty, not finite, or has no positive period.
        """
        if chunk.actions.ndim != 2 or not len(chunk.actions) or not chunk.period > 0:
            raise VlaError(
                f"an action chunk of shape {chunk.actions.shape} and period {chunk.period} s cannot be played"
            )
        if not np.isfinite(chunk.actions).all():
            raise VlaError("an action chunk holds NaN or infinity; stop and check the policy")
        if self._chunks and chunk.stamp < self._chunks[-1].chunk.stamp:
            return
        arrival = chunk.stamp if now is None else now
        before = self.target(arrival) if start is None else np.array(start, np.float64)
        arrived = _Arrived(chunk, arrival, before)
        alive = [old for old in self._chunks if old.covers(chunk.stamp)]
        self._chunks = [*alive, arrived] if self._depth is None else [arrived]

    def command(self, now: float) -> Vector | None:
        """The joint targets due at `now` [s], or None before the first chunk; a copy."""
        covering = self._covering(now)
        rows = [arrived.chunk.actions[arrived.row(now)] for arrived in covering]
        return self._average(covering, rows, now).astype(np.float32) if covering else None

    def target(self, now: float) -> npt.NDArray[np.float64] | None:
        """Where the joints shall be at `now` [s] on their even way from row to row; None before the first chunk.

        Row i is reached at `stamp + (i + 1) * period`, coming from the row before; the first one that was still due
        when the chunk arrived, from where the joints were sent at that time.
        """
        covering = self._covering(now)
        return self._average(covering, [arrived.target(now) for arrived in covering], now) if covering else None

    def remaining(self, now: float) -> float:
        """Time until the newest chunk is spent [s]; 0 without one."""
        if not self._chunks:
            return 0.0
        newest = self._chunks[-1].chunk
        return max(0.0, newest.stamp + len(newest.actions) * newest.period - now)

    def clear(self) -> None:
        """Forget every chunk: after a stop nothing old may be played."""
        self._chunks = []

    def _covering(self, now: float) -> list[_Arrived]:
        """Chunks that are not spent; the newest, if all are."""
        return [arrived for arrived in self._chunks if arrived.covers(now)] or self._chunks[-1:]

    def _average(
        self, covering: Sequence[_Arrived], targets: Sequence[npt.NDArray[np.floating]], now: float
    ) -> npt.NDArray[np.float64]:
        weights = np.exp([-self._decay * arrived.row(now) for arrived in covering])
        return weights @ np.stack(targets).astype(np.float64) / weights.sum()


@dataclasses.dataclass(frozen=True, slots=True)
class _Arrived:
    """A chunk, when it came, and where the joints were sent then (None: nowhere yet)."""

    chunk: ActionChunk
    arrival: float
    start: npt.NDArray[np.float64] | None

    def row(self, now: float) -> int:
        """Row due at `now`; the last one once the chunk is spent."""
        return min(_row(self.chunk, now), len(self.chunk.actions) - 1)

    def covers(self, now: float) -> bool:
        """Whether rows are left at `now`."""
        return _row(self.chunk, now) < len(self.chunk.actions)

    def target(self, now: float) -> npt.NDArray[np.float64]:
        """On the way from the row before to the row due at `now`."""
        chunk, row, first = self.chunk, self.row(now), self.row(self.arrival)
        since, until = chunk.stamp + row * chunk.period, chunk.stamp + (row + 1) * chunk.period
        goal = chunk.actions[row].astype(np.float64)
        if row > first:
            before = chunk.actions[row - 1].astype(np.float64)
        else:
            since, before = max(since, self.arrival), goal if self.start is None else self.start
        if since >= until:  # spent when it came
            return goal
        share = min(max(0.0, (now - since) / (until - since)), 1.0)
        return before + share * (goal - before)


def _row(chunk: ActionChunk, now: float) -> int:
    return max(0, math.floor((now - chunk.stamp) / chunk.period + _ROUNDING))


def without_jump(
    chunk: ActionChunk, start: npt.ArrayLike, now: float, max_velocity: npt.NDArray[np.floating]
) -> ActionChunk:
    """Lead a chunk on from where the robot is sent: rows are drawn nearer until each joint has caught up with its own.

    From there on a joint's rows are what the policy said; rows that have passed at `now` are left alone.

    Args:
        chunk: Answer of a policy.
        start: Joint targets the robot is sent at `now`, shape (num_joints,).
        now: When the robot gets the chunk [s].
        max_velocity: Of every joint [rad/s], grippers [m/s].
    """
    actions, before = chunk.actions.astype(np.float64), np.array(start, np.float64)
    caught_up = np.zeros(len(before), dtype=np.bool_)
    for index in range(len(actions)):
        time = min(chunk.stamp + (index + 1) * chunk.period - now, chunk.period)
        if time <= 0.0:
            continue
        row: npt.NDArray[np.float64] = actions[index].copy()
        step = max_velocity * time
        caught_up |= np.abs(row - before) <= step
        actions[index] = before = np.where(caught_up, row, before + np.minimum(np.maximum(row - before, -step), step))
        if caught_up.all():
            break
    return dataclasses.replace(chunk, actions=actions.astype(np.float32))

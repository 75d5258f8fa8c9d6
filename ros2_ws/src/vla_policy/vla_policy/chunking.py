"""From action chunks, which come late and seldom, to one command a period."""

from __future__ import annotations

import math

import numpy as np

from vla_policy.errors import VlaError
from vla_policy.types import ActionChunk, Vector

_ROUNDING = 1e-6
"""Share of a period that float time stamps may be short of a row's start."""


class ChunkPlayer:
    """Holds the newest chunk and tells which row of it is due.

    Row i is due from `stamp + i * period` on. Rows that passed while the policy was thinking are skipped, and the last
    row is held once the chunk is spent.
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
        self._chunks: list[ActionChunk] = []

    def push(self, chunk: ActionChunk) -> None:
        """Take a new chunk. One that answers an older observation than the newest held is dropped.

        Raises:
            VlaError: the chunk is empty, not finite, or has no positive period.
        """
        if chunk.actions.ndim != 2 or not len(chunk.actions) or not chunk.period > 0:
            raise VlaError(
                f"an action chunk of shape {chunk.actions.shape} and period {chunk.period} s cannot be played"
            )
        if not np.isfinite(chunk.actions).all():
            raise VlaError("an action chunk holds NaN or infinity; stop and check the policy")
        if self._chunks and chunk.stamp < self._chunks[-1].stamp:
            return
        alive = [old for old in self._chunks if _row(old, chunk.stamp) < len(old.actions)]
        self._chunks = [*alive, chunk] if self._depth is None else [chunk]

    def command(self, now: float) -> Vector | None:
        """The joint targets due at `now` [s], or None before the first chunk; a copy."""
        if not self._chunks:
            return None
        newest = self._chunks[-1]
        covering = [chunk for chunk in self._chunks if _row(chunk, now) < len(chunk.actions)]
        if not covering:
            return newest.actions[-1].copy()
        rows = [_row(chunk, now) for chunk in covering]
        weights = np.exp([-self._decay * row for row in rows])
        targets = np.stack([chunk.actions[row] for chunk, row in zip(covering, rows, strict=True)])
        return (weights @ targets / weights.sum()).astype(np.float32)

    def remaining(self, now: float) -> float:
        """Time until the newest chunk is spent [s]; 0 without one."""
        if not self._chunks:
            return 0.0
        newest = self._chunks[-1]
        return max(0.0, newest.stamp + len(newest.actions) * newest.period - now)

    def clear(self) -> None:
        """Forget every chunk: after a stop nothing old may be played."""
        self._chunks = []


def _row(chunk: ActionChunk, now: float) -> int:
    return max(0, math.floor((now - chunk.stamp) / chunk.period + _ROUNDING))

"""Chunks from a policy that has gone mad, or worse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from piper_bringup.control.states import Array
from vla_policy.embodiment import Embodiment
from vla_policy.types import ActionChunk

NONSENSE = (np.nan, np.inf, -np.inf, 1e30, -1e30, 3e38)
PERIODS = (0.005, 0.02, 0.04, 0.04, 0.04, 0.2)
"""That make sense [s]."""
BAD_PERIODS = (0.0, -0.04, np.nan, np.inf, 1e-12, 50.0)
KINDS = (
    "wander", "jump", "far", "cross", "bang_bang", "beyond", "nonsense", "shape", "period", "time", "past",
)  # fmt: skip
"""Of attacks, each a method of `Attacker`."""


class Attacker:
    """Draws chunks of every kind in `KINDS`, each about as often."""

    def __init__(self, embodiment: Embodiment, rng: np.random.Generator) -> None:
        """Aim at a robot; the same generator gives the same attack."""
        self._rng = rng
        self._lower = np.array([joint.lower for joint in embodiment.joints])
        self._upper = np.array([joint.upper for joint in embodiment.joints])
        self._latency = float(rng.choice((0.0, 0.02, 0.1)))

    def chunk(self, position: Array, now: float) -> tuple[str, ActionChunk]:
        """The name of a kind, and a chunk of that kind.

        Args:
            position: Where the robot is sent now [rad], [m], shape (num_joints,).
            now: [s].
        """
        kind = KINDS[self._rng.integers(len(KINDS))]
        make: Callable[[Array, float], ActionChunk] = getattr(self, f"_{kind}")
        return kind, make(position, now)

    def _rows(self) -> int:
        return int(self._rng.integers(1, 40))

    def _made(self, actions: npt.NDArray[np.floating], now: float, period: float | None = None) -> ActionChunk:
        told = float(self._rng.choice(PERIODS)) if period is None else period
        with np.errstate(over="ignore"):
            return ActionChunk(actions=actions.astype(np.float32), period=told, stamp=now - self._latency)

    def _wander(self, position: Array, now: float) -> ActionChunk:
        """What a good policy does: this is how the robot gets anywhere."""
        steps = self._rng.choice((0.002, 0.02, 0.1)) * self._rng.normal(size=len(position))
        return self._made(position + np.arange(1, self._rows() + 1)[:, None] * steps, now, 0.04)

    def _jump(self, position: Array, now: float) -> ActionChunk:
        del position
        return self._made(self._rng.uniform(self._lower, self._upper, (self._rows(), len(self._lower))), now)

    def _far(self, position: Array, now: float) -> ActionChunk:
        """One place, as fast as possible: most of these bring the arms together or into the table."""
        del position
        return self._made(np.tile(self._rng.uniform(self._lower, self._upper), (self._rows(), 1)), now)

    def _cross(self, position: Array, now: float) -> ActionChunk:
        """Every arm to the other side, and down."""
        target: Array = np.array(position)
        half = len(target) // 2
        target[[0, half]] = self._rng.uniform(0.3, 1.0, 2) * (-1.6, 1.6)
        target[[1, half + 1]] += self._rng.uniform(0.0, 1.2, 2)
        return self._made(np.tile(target, (self._rows(), 1)), now)

    def _bang_bang(self, position: Array, now: float) -> ActionChunk:
        del position
        ends = np.where(self._rng.random((self._rows(), len(self._lower))) < 0.5, self._lower, self._upper)
        return self._made(ends, now, float(self._rng.choice((0.005, 0.04, 0.2))))

    def _beyond(self, position: Array, now: float) -> ActionChunk:
        return self._made(position + self._rng.choice((1.0, 1e3, 1e20)) * self._noise(position), now)

    def _nonsense(self, position: Array, now: float) -> ActionChunk:
        actions = position + 0.01 * self._noise(position)
        actions[self._rng.random(actions.shape) < 0.1] = self._rng.choice(NONSENSE)
        return self._made(actions, now)

    def _noise(self, position: Array) -> Array:
        return self._rng.normal(size=(self._rows(), len(position)))

    def _shape(self, position: Array, now: float) -> ActionChunk:
        size = len(position)
        shapes = ((0, size), (5, size - 1), (5, size + 1), (5, size // 2), (size,), (2, 2, size), (2000, size), (5, 0))
        return self._made(np.zeros(shapes[self._rng.integers(len(shapes))]) + 0.5, now)

    def _period(self, position: Array, now: float) -> ActionChunk:
        return self._made(position + 0.05 * self._noise(position), now, float(self._rng.choice(BAD_PERIODS)))

    def _time(self, position: Array, now: float) -> ActionChunk:
        chunk = self._made(position + 0.05 * self._noise(position), now)
        wrong = (now - 30.0, now - 1.01, now + 0.2, now + 1e9, -np.inf, np.inf, np.nan, 0.0)
        return ActionChunk(actions=chunk.actions, period=chunk.period, stamp=float(self._rng.choice(wrong)))

    def _past(self, position: Array, now: float) -> ActionChunk:
        """An answer to an older observation than the last one."""
        chunk = self._made(position + 0.2 * self._noise(position), now)
        return ActionChunk(actions=chunk.actions, period=chunk.period, stamp=now - 0.4)

"""What an emulated arm saw of its host: what tests of safety ask for afterwards."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from dataclasses import dataclass

from piper_twin.robot import MAX_JOINT_VELOCITY

WINDOW = 0.02
"""The speed of a stream of targets is taken over this time [s]: single frames jitter."""
LONGEST_GAP = 0.1
"""A stream that paused for longer than this [s] may not come back far away: its speed is taken over this time."""
TOLERANCE = 1.2
"""Speeds beyond the limit by less than this factor are jitter."""
NEAR = 0.1
"""The first target after enabling is at most so far from the measured pose [rad]."""


@dataclass(slots=True)
class Counts:
    """Since the arm was made."""

    frames: int = 0
    """Heard on the bus, of any kind."""
    targets: int = 0
    """Complete joint targets: three frames each."""
    ignored_targets: int = 0
    """Of them, those the arm did not follow: disabled, stopped, wrong mode, leader."""
    gripper_targets: int = 0
    beyond_limits: int = 0
    """Joint targets outside the arm's limits; it clamps them."""
    too_fast: int = 0
    """Joint targets that ask for more than the arm's largest speed."""
    start_jumps: int = 0
    """First targets after enabling that are far from where the arm stood."""
    fastest: float = 0.0
    """Largest speed asked for [rad/s]."""
    enables: int = 0
    disables: int = 0
    """Frames that cut the torque of joints."""
    gripper_disables: int = 0
    resets: int = 0
    """Frames that cut all torque and clear everything."""
    stops: int = 0
    """Emergency stops by frame."""
    falls: int = 0
    """Times that joints lost torque while nobody supported the arm."""
    zeroings: int = 0
    """Frames that moved a zero position."""

    @property
    def violations(self) -> int:
        """Targets that the host should never have sent."""
        return self.beyond_limits + self.too_fast + self.start_jumps


class TargetWatch:
    """Judges a stream of joint targets."""

    def __init__(self, counts: Counts) -> None:
        """Nothing seen yet; `counts` is what is written to."""
        self._counts = counts
        self._is_first = True
        self._seen: collections.deque[tuple[float, Sequence[float]]] = collections.deque()

    def begin(self) -> None:
        """A new stream begins."""
        self._is_first = True
        self._seen.clear()

    def see(self, target: Sequence[float], measured: Sequence[float], is_beyond: bool, now: float) -> None:
        """Count a target that the arm follows.

        Args:
            target: Six joints [rad].
            measured: Where they are.
            is_beyond: Whether the target is outside the arm's limits.
            now: When it was sent [s].
        """
        speed = self._speed(target, now)
        self._counts.beyond_limits += is_beyond
        self._counts.start_jumps += self._is_first and math.dist(target, measured) > NEAR
        self._counts.fastest = max(self._counts.fastest, speed)
        self._counts.too_fast += speed > TOLERANCE * MAX_JOINT_VELOCITY
        self._is_first = False

    def _speed(self, target: Sequence[float], now: float) -> float:
        """Of the fastest joint between the target about `WINDOW` ago and this one."""
        while len(self._seen) > 1 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()
        self._seen.append((now, target))
        then, old = self._seen[0]
        step = max(abs(new - before) for new, before in zip(target, old, strict=True))
        return step / min(max(now - then, WINDOW), LONGEST_GAP)

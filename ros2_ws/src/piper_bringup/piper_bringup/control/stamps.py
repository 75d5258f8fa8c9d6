"""Between the control loop's clock, which nobody sets, and the clock that messages are stamped with."""

from __future__ import annotations

from collections.abc import Callable

PATIENCE = 0.005
"""Two clocks are compared only if reading both took less than this [s]."""
MAX_JUMP = 0.1
"""The offset may change by this between two comparisons [s]; more is a jump."""
SHARE = 0.02
"""Of a change that is followed at each comparison: clocks that are disciplined drift slowly."""


class Stamps:
    """Any thread may translate; one compares, now and then."""

    def __init__(self, loop_clock: Callable[[], float], message_clock: Callable[[], float]) -> None:
        """Compare for the first time."""
        self._loop_clock, self._message_clock = loop_clock, message_clock
        self._offset = message_clock() - loop_clock()

    def to_message(self, time: float) -> float:
        """A time of the loop [s] as a stamp [s]."""
        return time + self._offset

    def to_loop(self, stamp: float) -> float:
        """A stamp [s] as a time of the loop [s]."""
        return stamp - self._offset

    def compare(self) -> float | None:
        """Follow the message clock; tells by how much it jumped [s], if it did."""
        before = self._loop_clock()
        message = self._message_clock()
        after = self._loop_clock()
        if after - before > PATIENCE:
            return None
        change = message - 0.5 * (before + after) - self._offset
        if abs(change) > MAX_JUMP:
            self._offset += change
            return change
        self._offset += SHARE * change
        return None

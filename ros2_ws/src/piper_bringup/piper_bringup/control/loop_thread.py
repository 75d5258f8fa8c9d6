"""The thread that turns the control loop, and how punctual it is."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from vla_policy.scheduling import prefer_this_thread

REMEMBERED = 60.0
"""How far back the figures look [s]."""


class Clock(Protocol):
    """What the control loop calls time: the computer's, or a simulated world's."""

    def now(self) -> float:
        """[s]; never goes back."""
        ...

    def wait_until(self, time: float) -> None:
        """Come back at `time` [s] or later, at once if it has passed."""
        ...


class MonotonicClock:
    """The computer's clock that nobody sets."""

    def now(self) -> float:
        """[s]."""
        return time.monotonic()

    def wait_until(self, time: float) -> None:
        """Sleep until `time` [s]."""
        left = time - self.now()
        if left > 0.0:
            _sleep(left)


_sleep = time.sleep


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Punctuality:
    """Of the last minute: how late turns began, and how long they took."""

    late_p50: float
    """[s]."""
    late_p99: float
    """[s]."""
    late_p999: float
    """[s]."""
    late_max: float
    """[s]."""
    duration_p99: float
    """[s]."""
    num_turns: int
    num_overruns: int
    """Turns left out because the ones before took too long; since the start."""
    is_realtime: bool
    """Whether the operating system prefers this thread (SCHED_FIFO)."""


class LoopThread:
    """Calls a function at a fixed rate, by absolute deadlines: lateness does not add up.

    A turn that is missed is left out and counted, never made up for: two commands in quick succession would be a jump.
    """

    def __init__(
        self, turn: Callable[[float], object], period: float, clock: Clock | None = None, priority: int = 0
    ) -> None:
        """Start with `start`.

        Args:
            turn: Called with the time it is [s]; must not raise.
            period: Time between two calls [s].
            clock: The computer's by default.
            priority: Of the thread, as `prefer_this_thread` takes it.
        """
        self._turn, self._period, self._priority = turn, period, priority
        self._clock = clock or MonotonicClock()
        size = math.ceil(REMEMBERED / period)
        self._late, self._durations = np.zeros(size), np.zeros(size)
        self._num_turns = self._num_overruns = 0
        self._is_realtime = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control loop", daemon=True)

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """Call no more; waits for the last turn, but no longer than `timeout` [s]."""
        self._ended.set()
        self._thread.join(timeout)

    @property
    def is_alive(self) -> bool:
        """Whether turns are still made."""
        return self._thread.is_alive()

    def punctuality(self) -> Punctuality:
        """From any thread."""
        count = min(self._num_turns, len(self._late))
        late, durations = self._late[:count], self._durations[:count]
        p50, p99, p999, most = np.percentile(late, (50, 99, 99.9, 100)) if count else (0.0,) * 4
        return Punctuality(
            late_p50=float(p50),
            late_p99=float(p99),
            late_p999=float(p999),
            late_max=float(most),
            duration_p99=float(np.percentile(durations, 99)) if count else 0.0,
            num_turns=self._num_turns,
            num_overruns=self._num_overruns,
            is_realtime=self._is_realtime,
        )

    def _run(self) -> None:
        self._is_realtime = prefer_this_thread(self._priority)
        deadline = self._clock.now() + self._period
        while not self._ended.is_set():
            self._clock.wait_until(deadline)
            began = self._clock.now()
            self._turn(began)
            place = self._num_turns % len(self._late)
            self._late[place], self._durations[place] = began - deadline, self._clock.now() - began
            self._num_turns += 1
            deadline += self._period
            earliest = max(self._clock.now(), began + 0.5 * self._period)
            if deadline < earliest:
                missed = math.ceil((earliest - deadline) / self._period)
                self._num_overruns += missed
                deadline += missed * self._period

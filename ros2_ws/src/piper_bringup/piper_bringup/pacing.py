"""Doing something once a period, in real time or in simulated time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic, sleep

from piper_bringup.live_world import LiveWorld
from piper_twin.cell import TIMESTEP

_ROUNDING = 1e-9
"""Of sums of steps [s]."""


class Deadlines:
    """Instants one period apart. They are absolute, so that small delays do not add up."""

    def __init__(self, first: float, period: float, patience: float = 0.0) -> None:
        """Begin at `first` [s].

        Args:
            first: The first instant.
            period: From one to the next [s].
            patience: How far behind one may be and still make up for it [s]; what is missed beyond is left out.
        """
        self.next = first
        """[s]."""
        self.skipped = 0
        """Periods left out so far."""
        self._period = period
        self._patience = patience

    def passed(self, now: float) -> None:
        """The next one was met at `now` [s]."""
        self.next += self._period
        behind = now - self.next
        if behind > self._patience:
            missed = math.floor(behind / self._period) + 1
            self.next += missed * self._period
            self.skipped += missed


class Periodic:
    """Calls `work` once a period on a thread of its own."""

    def __init__(self, name: str, period: float, work: Callable[[], None], patience: float = 0.0) -> None:
        """Begin at once.

        Args:
            name: Of the thread.
            period: [s].
            work: An error it raises ends the thread, and is kept in `error`.
            patience: As of `Deadlines`.
        """
        self.name = name
        self.error: Exception | None = None
        """What ended the thread before its time."""
        self._work = work
        self._ended = threading.Event()
        self._deadlines = Deadlines(monotonic(), period, patience)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def skipped(self) -> int:
        """Periods left out because this computer is too slow."""
        return self._deadlines.skipped

    def close(self) -> None:
        """End after the call in progress."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(max(0.0, self._deadlines.next - monotonic())):
            try:
                self._work()
            except Exception as error:
                self.error = error
                return
            self._deadlines.passed(monotonic())


def keep_real_time(world: LiveWorld) -> Periodic:
    """Let a world's time pass as fast as ours; where the computer is too slow for 0.1 s on end, it falls behind."""
    return Periodic("physics", TIMESTEP, lambda: world.advance(TIMESTEP), patience=0.1)


class Chore:
    """Something a `WorldClock` does once a simulated period; on the face of it like `Periodic`."""

    def __init__(self, name: str, period: float, work: Callable[[], None], now: float) -> None:
        """Due for the first time one `period` after `now` [s]."""
        self.name = name
        self.error: Exception | None = None
        """What it raised; it is not done again then."""
        self._work = work
        self._deadlines = Deadlines(now + period, period)

    @property
    def skipped(self) -> int:
        """Periods left out."""
        return self._deadlines.skipped

    def left(self, now: float) -> float:
        """Until it is due [s]; below 0 where it is late."""
        return math.inf if self.error else self._deadlines.next - now

    def do(self, now: float) -> None:
        """Do it."""
        try:
            self._work()
        except Exception as error:  # whoever waits for the clock must not die of it
            self.error = error
        self._deadlines.passed(now)

    def close(self) -> None:
        """Nothing to end: nobody waits, nothing is done."""


class WorldClock:
    """Simulated time, for a loop that runs as fast as its world: to wait is to let the world go on.

    The loop and the world then take turns on one thread, so that what happens does not depend on the computer's speed.
    """

    def __init__(self, world: LiveWorld, speed: float = math.inf) -> None:
        """Begin at the world's time.

        Args:
            world: Nobody else may advance it.
            speed: Simulated seconds a second at most.
        """
        self._world = world
        self._speed = speed
        self._begin = monotonic() - world.time / speed
        self._chores: list[Chore] = []

    def now(self) -> float:
        """Simulated time [s]."""
        return self._world.time

    def every(self, name: str, period: float, work: Callable[[], None]) -> Chore:
        """Call `work` once a simulated period [s], while somebody waits: cameras, /clock."""
        self._chores.append(Chore(name, period, work, self.now()))
        return self._chores[-1]

    def wait_until(self, time: float) -> None:
        """Let the world go on until it is `time` [s] or up to one physics step later."""
        while (left := time - self.now()) > _ROUNDING:
            step = min([left, *(chore.left(self.now()) for chore in self._chores)])
            self._world.advance(max(1, math.ceil((step - _ROUNDING) / TIMESTEP)) * TIMESTEP)
            for chore in self._chores:
                if chore.left(self.now()) <= _ROUNDING:
                    chore.do(self.now())
        sleep(max(0.0, self._begin + self.now() / self._speed - monotonic()))

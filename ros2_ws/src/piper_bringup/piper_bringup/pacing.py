"""Doing something once a period, in real time or in simulated time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic, sleep

from piper_bringup.live_world import LiveWorld
from piper_twin.cell import TIMESTEP


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
        self._chores: list[tuple[Deadlines, Callable[[], None]]] = []

    def now(self) -> float:
        """Simulated time [s]."""
        return self._world.time

    def every(self, period: float, work: Callable[[], None]) -> None:
        """Call `work` once a simulated period [s], while somebody waits: cameras, /clock."""
        self._chores.append((Deadlines(self._world.time + period, period), work))

    def wait_until(self, time: float) -> None:
        """Let the world go on until it is `time` [s] or up to one physics step later."""
        while (left := time - self._world.time) > 1e-9:
            upcoming = min([left, *(deadlines.next - self._world.time for deadlines, _ in self._chores)])
            self._world.advance(max(1, math.ceil(upcoming / TIMESTEP - 1e-6)) * TIMESTEP)
            for deadlines, work in self._chores:
                if deadlines.next <= self._world.time + 1e-9:
                    work()
                    deadlines.passed(self._world.time)
        sleep(max(0.0, self._begin + self._world.time / self._speed - monotonic()))

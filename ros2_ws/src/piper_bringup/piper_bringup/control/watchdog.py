"""Looks after the control loop from a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

CHECKS = 10
"""Times it looks within the time that is allowed."""


class Watchdog:
    """Calls for help once, when a heart has not beaten for too long; again only after it has beaten in between."""

    def __init__(
        self,
        heartbeat: Callable[[], float],
        on_silence: Callable[[float], object],
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with `start`.

        Args:
            heartbeat: Tells when the heart has beaten last [s].
            on_silence: Told for how long it has not [s].
            timeout: Longest time between two beats [s].
            clock: What the heart goes by.
        """
        self._heartbeat, self._on_silence, self._timeout, self._clock = heartbeat, on_silence, timeout, clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        beaten = begun = self._clock()
        has_called = False
        while not self._ended.wait(self._timeout / CHECKS):
            latest = max(begun, self._heartbeat())
            has_called = has_called and latest == beaten
            beaten = latest
            silence = self._clock() - beaten
            if silence > self._timeout and not has_called:
                has_called = True
                self._on_silence(silence)

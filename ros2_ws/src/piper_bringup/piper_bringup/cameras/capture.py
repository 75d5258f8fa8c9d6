"""One camera on a thread of its own: every image handed on at its turn, and opened again after it was unplugged."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from piper_bringup.cameras.config import CameraConfig
from piper_bringup.cameras.sources import Frame, Source
from piper_bringup.pacing import Deadlines

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Between two tries to open a camera [s]; doubled from try to try."""
SILENT_AFTER, OPENING_TIME = 1.0, 3.0
"""Without an image for so long, or for five periods, a camera counts as silent; at the start it has more time [s]."""
_EARLY = 0.25
"""Share of a period by which an image may come before its turn and still be taken."""


class Capture:
    """Keeps one camera open on a thread of its own and hands on every image that comes at its turn."""

    def __init__(
        self, config: CameraConfig, deliver: Callable[[Frame], None], open_: Callable[[CameraConfig], Source]
    ) -> None:
        """Not started yet.

        Args:
            config: The camera.
            deliver: Called with each image, on the camera's thread.
            open_: `open_source`.
        """
        self._config = config
        self._deliver = deliver
        self._open = open_
        self._source: Source | None = None
        self._pause = FIRST_PAUSE
        self._turns: Deadlines | None = None
        self._trouble = "not opened yet"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=config.source, daemon=True)
        self.last: float | None = None
        """When the last image came [s], monotonic."""
        self.num_images = 0
        self.num_losses = 0
        """How often it was there and went away."""

    def start(self) -> None:
        """Begin; until then nothing is opened."""
        self._thread.start()

    def close(self) -> None:
        """End, and let the camera go."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def problem(self, now: float, since: float) -> str | None:
        """Why no images come, and for how long [s]; None: they do.

        Args:
            now: [s], monotonic.
            since: Since when they could have come [s].
        """
        silence = now - (since if self.last is None else self.last)
        if silence <= max(OPENING_TIME if self.last is None else SILENT_AFTER, 5.0 / self._config.rate):
            return None
        return f"silent for {silence:.1f} s: {self._trouble or 'it gives no images'}"

    def values(self, now: float) -> dict[str, object]:
        """What the diagnostics shall tell at `now` [s]."""
        return {
            "source": self._config.source,
            "rate_hz": self._config.rate,
            "images": self.num_images,
            "times_lost": self.num_losses,
            "age_s": "never" if self.last is None else round(now - self.last, 3),
        }

    def step(self) -> float:
        """Open the camera, or hand on its next image; returns how long to wait before the next step [s]."""
        try:
            if self._source is None:
                self._source = self._open(self._config)
                self._turns = None
            self._take(self._source.read())
        except Exception as error:  # whatever a driver raises: other cameras go on, and this one may come back
            self._trouble = str(error)
            self._drop()
            pause, self._pause = self._pause, min(2.0 * self._pause, LONGEST_PAUSE)
            return pause
        return 0.0

    def _take(self, frame: Frame) -> None:
        period = 1.0 / self._config.rate
        if self._turns is None:
            self._turns = Deadlines(frame.time, period)
        if frame.time >= self._turns.next - _EARLY * period:
            self._turns.passed(frame.time)
            self._deliver(frame)
            self.num_images += 1
        self._trouble, self._pause, self.last = "", FIRST_PAUSE, frame.time

    def _drop(self) -> None:
        if self._source is not None:
            self.num_losses += 1
            with contextlib.suppress(Exception):  # it is gone anyway
                self._source.close()
            self._source = None

    def _run(self) -> None:
        while not self._ended.is_set():
            self._ended.wait(self.step())
        if self._source is not None:
            self._source.close()

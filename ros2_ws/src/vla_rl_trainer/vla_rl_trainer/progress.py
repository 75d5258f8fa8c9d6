"""Progress of long work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

LOG_PERIOD = 20.0
"""Between two lines in a log [s]."""


class Progress:
    """Counts up to a total; a context manager."""

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        """Start at `done` of `total`."""
        self._title = title
        self._total = total
        self._done = done
        self._bar = None
        if sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"), transient=False,
            )  # fmt: skip
            self._task = self._bar.add_task(title, total=total, completed=done, note="")
        self._last_line = 0.0

    def __enter__(self) -> Progress:
        """Show it."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the final state standing."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more are done; `note` is shown beside."""
        self._done += count
        if self._bar is not None:
            self._bar.update(self._task, advance=count, note=note)
        elif time.monotonic() - self._last_line > LOG_PERIOD or self._done >= self._total:
            self._last_line = time.monotonic()
            print(f"{self._title}: {self._done}/{self._total} {note}", file=sys.stderr, flush=True)

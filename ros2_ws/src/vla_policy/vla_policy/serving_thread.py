"""The thread a policy thinks on: never that of the callbacks, which would make images wait."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vla_policy.serving import PolicyServer

_PATIENCE = 5.0
"""How long an answer that is being thought out may take to end [s]."""


class ServingThread:
    """Steps a server until closed."""

    def __init__(self, server: PolicyServer, warm_up: Callable[[], None]) -> None:
        """Begin.

        Args:
            server: What is stepped.
            warm_up: Called first, on the same thread, since libraries prepare themselves thread by thread: the first
                answers of a network take many times as long as the rest, and belong in no statistics.
        """
        self._server, self._warm_up = server, warm_up
        self._closed = threading.Event()
        self._failure: BaseException | None = None
        self.is_warm = threading.Event()
        """Set once the first observation may be answered."""
        self._thread = threading.Thread(target=self._serve, name="policy", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if something did.

        Raises:
            RuntimeError: from the error of the policy.
        """
        if self._failure is not None:
            raise RuntimeError(f"the policy failed: {self._failure}") from self._failure

    def close(self) -> None:
        """End the thread and wait for it."""
        self._closed.set()
        self._server.news.set()
        self._thread.join(_PATIENCE)

    def _serve(self) -> None:
        try:
            self._warm_up()
            self.is_warm.set()
            while not self._closed.is_set():
                self._server.news.clear()
                pause = self._server.step()
                if pause > 0.0:
                    self._server.news.wait(pause)
        except BaseException as error:
            self._failure = error

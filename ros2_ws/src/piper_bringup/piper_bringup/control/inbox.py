"""What other threads leave for the control thread, which never waits for them."""

from __future__ import annotations

import collections
from concurrent.futures import Future

from piper_bringup.control.faults import Fault
from piper_bringup.control.states import Answer
from vla_policy.types import ActionChunk

MAX_WAITING = 8
"""Chunks that may wait for the next tick; older ones give way."""


class Inbox:
    """Any thread may leave something; the control thread takes it out at its next tick."""

    def __init__(self) -> None:
        """Empty."""
        self._chunks: collections.deque[tuple[float, ActionChunk | str]] = collections.deque(maxlen=MAX_WAITING)
        self._stops: collections.deque[tuple[Fault, Future[Answer]]] = collections.deque()
        self._requests: collections.deque[tuple[str, Future[Answer]]] = collections.deque()

    def submit(self, chunk: ActionChunk, now: float) -> None:
        """Offer a chunk that came at `now` [s]; its stamp is on the same clock."""
        self._chunks.append((now, chunk))

    def refuse(self, message: str, now: float) -> None:
        """Count a message that could not be read as a chunk."""
        self._chunks.append((now, message))

    def report(self, fault: Fault) -> Future[Answer]:
        """Hold the robot for a reason seen from outside; answered at the next tick."""
        answer: Future[Answer] = Future()
        self._stops.append((fault, answer))
        return answer

    def request_stop(self, who: str) -> Future[Answer]:
        """Hold the robot; answered at the next tick."""
        return self.report(Fault("stopped", f"by {who}"))

    def request_enable(self) -> Future[Answer]:
        """Check everything, then give the joints torque; answered when they have it, or why not."""
        return self._request("enable")

    def request_release(self) -> Future[Answer]:
        """Leave the held state, unless something is still wrong; answered at the next tick."""
        return self._request("release")

    def _request(self, kind: str) -> Future[Answer]:
        answer: Future[Answer] = Future()
        self._requests.append((kind, answer))
        return answer

    def _take_stops(self) -> list[tuple[Fault, Future[Answer]]]:
        """Reasons to hold the robot, each with whom to answer once it is.

        What was requested before a stop is answered here: it shall not undo the stop.
        """
        stops = [self._stops.popleft() for _ in range(len(self._stops))]
        for fault, _ in stops:
            for _, request in self._take_requests():
                reply(request, False, f"overtaken by: {fault}")
        return stops

    def _take_requests(self) -> list[tuple[str, Future[Answer]]]:
        """`enable` and `release`, each with whom to answer; what nobody waits for any more is dropped."""
        taken = [self._requests.popleft() for _ in range(len(self._requests))]
        return [(kind, answer) for kind, answer in taken if answer.set_running_or_notify_cancel()]

    def _take_chunks(self) -> list[tuple[float, ActionChunk | str]]:
        """Arrivals [s] and chunks, or why they could not be read."""
        return [self._chunks.popleft() for _ in range(len(self._chunks))]


def reply(answer: Future[Answer], success: bool, message: str) -> None:
    """Answer a request, unless nobody wants to know any more."""
    if answer.running() or answer.set_running_or_notify_cancel():
        answer.set_result(Answer(success, message))

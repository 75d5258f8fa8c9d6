"""Runs a policy beside a robot: when to look, when to think, and what of the answer is handed on.

Two ways. Waiting for the chunk, the policy looks only once what it said last has been played: the robot stands still
while it thinks, as the world of the training does, and the chunk is played from its first row. Otherwise it looks
early enough that the next chunk comes before the last one is spent; rows that pass meanwhile are skipped, and the first
ones left are drawn near to where the robot is going.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Callable

import numpy as np

from vla_policy.chunking import ChunkPlayer, without_jump
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.latency import Latency
from vla_policy.observing import Look, Observer
from vla_policy.serving_config import ServingConfig
from vla_policy.types import ActionChunk, Image, Observation, Policy, Vector

POLL = 0.1
"""Longest sleep of the thread [s]."""
ON_THE_WAY = 0.005
"""From here to the robot [s]: what a message takes on one machine, generously."""
_SET_BACK = 0.5
"""A clock that falls back by more was set, or a simulation started over [s]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """What a running policy says of itself."""

    problem: str | None
    """Why nothing comes although it should."""
    idle: str | None
    """Why nothing comes, as it should not."""
    values: dict[str, object]


@dataclasses.dataclass(frozen=True, slots=True)
class _Proposal:
    chunk: ActionChunk
    seen: Observation
    since: float


class PolicyServer:
    """Observations in, chunks out; whoever calls, and from whichever thread."""

    def __init__(
        self,
        policy: Policy,
        embodiment: Embodiment,
        config: ServingConfig,
        publish: Callable[[ActionChunk, bool], None],
        clock: Callable[[], float],
    ) -> None:
        """Prepare; nothing happens before `step`.

        Args:
            policy: Whose answers are wanted.
            embodiment: The robot it was made for.
            config: How it is run.
            publish: Takes a chunk, and whether it is only a proposal.
            clock: The time in which observations are stamped [s].
        """
        self._policy, self._config, self._publish, self._clock = policy, config, publish, clock
        self._max_velocity = np.array([joint.max_velocity for joint in embodiment.joints])
        self._observer = Observer(embodiment, config.max_image_age, config.max_joint_age)
        self._observer.instruction = config.instruction
        self._player = ChunkPlayer()
        self._latency = Latency()
        self.news = threading.Event()
        """Set when something arrives on which a step may act."""
        self._lock = threading.Lock()
        self._latest = -math.inf
        self._num_chunks = self._num_late = self._most_skipped = 0
        self._wanted = -math.inf
        """From this stamp on an image is waited for [s]."""
        self._running = self._lacks_joints = False
        self._epoch = 0
        self._begin(-math.inf)
        if config.autostart:
            self.run(True)

    def see(self, camera: str, image: Image, stamp: float) -> None:
        """Take an image, taken at `stamp` [s]; one that is waited for is fitted while the next is on its way."""
        with self._lock:
            seen = self._observer.see(camera, image, stamp)
            is_wanted = stamp >= self._wanted
            is_last = is_wanted and self._observer.has_seen_all(self._wanted)
        if is_wanted:
            with contextlib.suppress(VlaError):  # told of when all have come
                _ = seen.fitted
        if is_last:
            self.news.set()

    def feel(self, state: Vector, stamp: float) -> None:
        """Take the joints as measured at `stamp` [s]."""
        with self._lock:
            self._observer.feel(state, stamp)
            is_awaited, self._lacks_joints = self._lacks_joints, False
        if is_awaited:  # they come too often to wake somebody for each
            self.news.set()

    def misread(self, source: str, problem: str) -> None:
        """A message of a camera (or of the joints: "") could not be read."""
        with self._lock:
            self._observer.misread(source, problem)

    def instruct(self, instruction: str) -> None:
        """Do something else from now on; what was being thought out is dropped. Nothing to do: stop."""
        with self._lock:
            if instruction != self._observer.instruction:
                self._observer.instruction = instruction
                self._epoch += 1
                self._proposal = None
        self.news.set()

    def run(self, running: bool) -> None:
        """Begin with what is seen from now on, or stop: no chunk is handed on once this returns."""
        with self._lock:
            if running and not self._running:
                self._begin(self._clock())
            self._running = running
            self._epoch += 1
            self._proposal = None
        self.news.set()

    def approve(self) -> str:
        """Hand on the chunk that was proposed; says of how long ago it is.

        Raises:
            VlaError: there is none, or the robot is not seen any more.
        """
        with self._lock:
            now, proposal = self._clock(), self._fresh_proposal(self._clock())
            if proposal is None:
                raise VlaError("no chunk waits for approval; wait until one is shown on /action_chunk/proposed")
            if problem := self._observer.problem(now):
                raise VlaError(f"not approved: {problem}")
            self._proposal = None
            self._hand_on(proposal.chunk, proposal.seen, now)
        self.news.set()
        return f"the chunk of {now - proposal.since:.1f} s ago is played"

    def step(self) -> float:
        """Do what is due.

        Returns:
            How long nothing will be [s], unless `news` comes.
        """
        with self._lock:
            now = self._clock()
            self._notice_a_set_clock(now)
            self._wanted = math.inf
            if not self._running or self._fresh_proposal(now):
                return POLL
            if self._observer.problem(now):
                self._wanted = -math.inf
                return POLL
            due = self._due()
            if now < due:
                self._wanted = max(self._after, due)
                return min(due - now, POLL)
            after = max(self._after, due if self._config.waits else -math.inf)
            look, epoch = self._observer.look(after), self._epoch
            if look is None:
                self._wanted, self._lacks_joints = after, True
                return POLL
        return self._answer(look, epoch)

    def status(self) -> Status:
        """What is to be told about once a second."""
        with self._lock:
            now = self._clock()
            sources, proposal = self._observer.problem(now), self._fresh_proposal(now)
            idle = None
            if not self._running:
                idle = "stopped; call /policy/run to begin"
            elif proposal:
                idle = f"waiting for approval of the chunk of {now - proposal.since:.1f} s ago"
            values: dict[str, object] = {
                "mode": self._config.mode,
                "waits_for_chunk": self._config.waits,
                "instruction": self._observer.instruction,
                "sources": sources or "ok",
                "chunks": self._num_chunks,
                "chunks_too_late": self._num_late,
                "most_rows_skipped": self._most_skipped,
            }
            values |= self._latency.values()
            return Status(problem=None if idle else sources or self._failure, idle=idle, values=values)

    def _begin(self, now: float) -> None:
        """Forget what was said, and what was seen before."""
        self._epoch += 1
        self._after = now
        self._failure: str | None = None
        self._ends: float | None = None
        self._proposal: _Proposal | None = None
        self._player.clear()

    def _notice_a_set_clock(self, now: float) -> None:
        if now < self._latest - _SET_BACK:
            self._observer.forget()
            self._begin(now)
        self._latest = now

    def _fresh_proposal(self, now: float) -> _Proposal | None:
        if self._proposal and now - self._proposal.since > self._config.approval_timeout:
            self._proposal = None
        return self._proposal

    def _due(self) -> float:
        """When to look next [s]."""
        if self._ends is None:
            return self._after
        if self._config.waits:
            return self._ends + self._config.settle
        return self._ends - self._latency.foreseen() - ON_THE_WAY - self._config.margin

    def _answer(self, look: Look, epoch: int) -> float:
        """Think, and hand on what comes of it unless the world has changed; nothing is locked meanwhile."""
        try:
            seen = look.observation()
            started = self._clock()
            chunk = self._policy.infer([seen])[0]
            if not np.isfinite(chunk.actions).all():
                raise VlaError("the policy answers with NaN or infinity; its checkpoint is damaged")
        except VlaError as error:
            with self._lock:
                self._failure = str(error)
            return POLL
        with self._lock:
            answered = self._clock()
            if epoch != self._epoch:
                return 0.0
            self._after = math.nextafter(seen.stamp, math.inf)
            if self._config.mode == "approve":
                self._proposal = _Proposal(chunk, seen, answered)
                self._publish(chunk, True)
            else:
                self._hand_on(chunk, seen, answered)
            self._latency.add(started - seen.stamp, answered - started, self._clock() - answered)
        return 0.0

    def _hand_on(self, chunk: ActionChunk, seen: Observation, now: float) -> None:
        """Fit the answer to what the robot does now, and let it go."""
        is_followed = self._config.mode in ("run", "approve")
        if is_followed and (self._ends is None or self._ends <= seen.stamp):
            chunk = dataclasses.replace(chunk, stamp=now)  # the robot stood still: no row has passed
        arrival, length = now + ON_THE_WAY, len(chunk.actions) * chunk.period
        skipped = max(0, math.floor((arrival - chunk.stamp) / chunk.period))
        if skipped >= len(chunk.actions):
            self._num_late += 1
            self._failure = (
                f"an answer came {arrival - chunk.stamp:.2f} s after the look, and a chunk lasts {length:.2f} s; set "
                "wait_for_chunk, or give the policy a faster device"
            )
            return
        planned = self._player.target(arrival) if is_followed else None
        start = seen.state if planned is None else planned
        chunk = without_jump(chunk, start, arrival, self._max_velocity)
        self._player.push(chunk, now=arrival, start=start)
        self._ends = chunk.stamp + length
        self._most_skipped = max(self._most_skipped, skipped)
        self._num_chunks += 1
        self._failure = None
        if self._config.mode != "dry_run":
            self._publish(chunk, self._config.mode == "shadow")

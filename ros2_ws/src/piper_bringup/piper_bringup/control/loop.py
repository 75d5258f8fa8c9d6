"""The robot's state machine: what is sent to the motors at every tick, and why.

    disabled --enable--> ready <--chunk, no chunk--> moving          any --stop, fault--> held --release--> ready

Everything that can move a motor passes here, in the process that writes to the bus. Other threads only leave requests
behind, and a tick never waits for any of them.

Held means: brake within the limits, then send the last measured pose until released. The grippers alone keep what they
were sent, so that they do not let go of what they carry.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from concurrent.futures import Future

import numpy as np

from piper_bringup.control.chunk_door import ChunkDoor
from piper_bringup.control.command_stream import CommandStream
from piper_bringup.control.faults import Fault, Reaction
from piper_bringup.control.following import Following
from piper_bringup.control.hold import Hold
from piper_bringup.control.inbox import Inbox, reply
from piper_bringup.control.states import Answer, Array, State, Tick
from piper_bringup.drivers.driver import Driver
from piper_twin.guard import GuardConfig
from vla_policy.chunking import ChunkPlayer
from vla_policy.embodiment import Embodiment
from vla_policy.types import ActionChunk

PERIOD = 0.005
"""Time between two ticks [s]."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """When the loop stops waiting."""

    max_chunk_age: float = 1.0
    """Oldest observation a chunk may answer [s]."""
    command_timeout: float = 0.5
    """Time from the end of the last chunk until the robot stops waiting for the next one and counts as ready [s]."""
    enable_timeout: float = 5.0
    """Longest time from asking for torque to having it [s]."""
    stall_timeout: float = 0.25
    """A loop that did not run for this long holds the robot [s]."""
    following_error: float = 0.3
    """Largest distance between a joint and its command at rest [rad], more on the move; 0: any."""


class ControlLoop(Inbox):
    """`tick` belongs to one thread; `stop_driver` and what can be left in the inbox to any."""

    def __init__(
        self,
        driver: Driver,
        embodiment: Embodiment,
        guard: GuardConfig | None = None,
        config: ControlConfig | None = None,
    ) -> None:
        """Start disabled; nothing is sent."""
        super().__init__()
        self.config = config or ControlConfig()
        self._driver = driver
        self._stream = CommandStream(embodiment, guard or GuardConfig(), PERIOD)
        self._door = ChunkDoor(embodiment, self.config.max_chunk_age)
        self._player = ChunkPlayer()
        self._following = Following(embodiment, self.config.following_error)
        self._hold = Hold(embodiment, self._stream)
        self._state, self._reason = State.DISABLED, "not enabled yet"
        self._measured: Array | None = None
        self._is_sending = self._is_checked = self._is_driver_stopped = False
        self._enabling: tuple[float, Future[Answer]] | None = None
        self._ready_since = self._spent_at = self._newest = -np.inf
        self._refused: str | None = None
        self.heartbeat = -np.inf
        """When the last tick began [s]."""
        self.num_chunks = 0
        """Chunks taken."""
        self.refusals: dict[str, int] = {}
        """How often chunks and commands were refused, by fault."""
        self.last_refusal = ""
        self.events: collections.deque[str] = collections.deque(maxlen=100)
        """What happened, for the log; whoever writes it there takes it out."""

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is sent, or the same for ever: the robot is held, and stands."""
        return not self._is_sending or (self._state is State.HELD and self._hold.is_reached)

    def stop_driver(self, fault: Fault) -> None:
        """Let the driver hold the robot by itself: for whoever finds that this loop does not run."""
        self._is_driver_stopped = True
        self.report(fault)
        self._driver.stop()

    def tick(self, now: float) -> Tick:
        """Read, judge, decide, send. Never raises: whatever goes wrong, the robot is held."""
        faults: list[Fault] = []
        command = None
        stops = self._take_stops()
        for fault, _ in stops:
            self._latch(fault)
        try:
            measured, faults = self._look(now)
            self._react(faults)
            self._obey_requests(now, measured, faults)
            self._judge_chunks()
            self._move(now, measured, faults)
            if self._is_sending:
                command = self._stream.command
                self._driver.write(command)
        except Exception as error:
            self._is_driver_stopped = True
            with contextlib.suppress(Exception):
                self._driver.stop()
            faults = [*faults, Fault("internal_error", f"{type(error).__name__}: {error}")]
            self._latch(faults[-1])
        for fault, answer in stops:
            reply(answer, True, f"held; {fault.kind.remedy}")
        self.heartbeat = now
        measured = np.full_like(self._stream.position, np.nan) if self._measured is None else self._measured
        return Tick(
            now=now, state=self._state, measured=measured, command=command, reason=self._reason, faults=tuple(faults)
        )

    def _look(self, now: float) -> tuple[Array, list[Fault]]:
        """Measured joints, the last plausible ones if they are not, and everything that is wrong."""
        measured = np.asarray(self._driver.read(), np.float64)
        faults = self._driver.faults(now)
        implausible = self._following.implausible(measured)
        if implausible is None:
            self._measured = measured
        else:
            faults = [*faults, implausible]
            measured = measured if self._measured is None else self._measured
        if self._state in (State.READY, State.MOVING):
            late = now - self.heartbeat
            if late > self.config.stall_timeout:
                # First: of what the arms say meanwhile nothing was heard, either.
                faults = [Fault("loop_stalled", f"for {late:.2f} s"), *faults]
            astray = self._following.astray(measured, self._stream.command, self._stream.velocity, now)
            faults = faults if astray is None else [*faults, astray]
        if self._state is State.DISABLED:
            faults = [fault for fault in faults if not fault.kind.ends_with_enabling]
        return measured, faults

    def _react(self, faults: list[Fault]) -> None:
        wrong = [fault for fault in faults if fault.kind.reaction is Reaction.HOLD]
        if self._is_sending and not self._is_driver_stopped and any(fault.kind.stops_driver for fault in wrong):
            self._is_driver_stopped = True
            self._driver.stop()
        if wrong and self._state in (State.READY, State.MOVING):
            self._latch(wrong[0])
        elif wrong and self._enabling is not None:
            self._give_up_enabling(str(wrong[0]))

    def _latch(self, fault: Fault) -> None:
        if self._state is State.HELD:
            return
        self._give_up_enabling(str(fault))
        self._state, self._reason = State.HELD, str(fault)
        self.events.append(f"held: {fault}")
        self._player.clear()
        self._hold.begin()

    def _begin_sending(self, pose: Array) -> None:
        self._stream.restart(pose)
        self._is_sending = True

    def _obey_requests(self, now: float, measured: Array, faults: list[Fault]) -> None:
        for kind, answer in self._take_requests():
            if kind == "enable":
                self._enable(now, measured, faults, answer)
            else:
                self._release(now, measured, faults, answer)

    def _enable(self, now: float, measured: Array, faults: list[Fault], answer: Future[Answer]) -> None:
        if self._state is not State.DISABLED or self._enabling is not None:
            is_on = self._state in (State.READY, State.MOVING)
            reply(answer, is_on, f"the robot is {self._state.value}{'' if is_on else ': ' + self._reason}")
            return
        problems = [str(fault) for fault in faults if fault.kind.reaction is Reaction.HOLD] + self._driver.checks()
        if problems:
            self._refuse(Fault("not_ready", "; ".join(problems)))
            self._reason = self.last_refusal
            reply(answer, False, self.last_refusal)
            return
        self._begin_sending(measured)
        self._reason = "waits for torque"
        self._enabling = (now + self.config.enable_timeout, answer)

    def _await_torque(self, now: float, measured: Array) -> None:
        """Hold what is measured and ask for torque, until there is some or the time is over."""
        assert self._enabling is not None
        deadline, answer = self._enabling
        if self._driver.enabled():
            self._driver.enable()  # tells settings to arms that had torque before, too
            self._enabling = None
            self._is_checked = True
            self._become_ready(now, "")
            reply(answer, True, "enabled, holds the measured pose")
        elif now > deadline:
            fault = Fault("enable_timeout", f"no torque on every joint within {self.config.enable_timeout} s")
            self._refuse(fault)
            self._give_up_enabling(str(fault))
        else:
            self._stream.restart(self._hold.near(self._stream.position, measured))
            self._driver.enable()

    def _give_up_enabling(self, why: str) -> None:
        if self._enabling is not None:
            reply(self._enabling[1], False, why)
            self._enabling, self._reason = None, why

    def _release(self, now: float, measured: Array, faults: list[Fault], answer: Future[Answer]) -> None:
        wrong = [f for f in faults if f.kind.reaction is Reaction.HOLD and not f.kind.ends_with_enabling]
        if self._state is not State.HELD:
            reply(answer, True, f"the robot is {self._state.value}, not held")
            return
        if wrong:
            reply(answer, False, f"still {'; '.join(map(str, wrong))}")
            return
        if self._is_driver_stopped:
            self._stream.restart(measured)
            self._driver.resume()
            self._is_driver_stopped = False
        if self._is_checked and self._driver.enabled():
            self._become_ready(now, "")
        else:
            self._state, self._reason, self._is_checked = State.DISABLED, "released, not enabled", False
        reply(answer, True, f"released, {self._state.value}")

    def _become_ready(self, now: float, why: str) -> None:
        self.events.append(f"ready{': ' if why else ''}{why}")
        self._state, self._reason = State.READY, why
        self._refused = None
        self._following.forget()
        if not why:
            self._ready_since = self._newest = now

    def _judge_chunks(self) -> None:
        for arrival, chunk in self._take_chunks():
            if isinstance(chunk, str):
                self._refuse(Fault("malformed_chunk", chunk))
            elif self._state not in (State.READY, State.MOVING):
                self._refuse(Fault("not_accepting", f"the robot is {self._state.value}"))
            elif refusal := self._door.refusal(chunk, arrival, self._ready_since):
                self._refuse(refusal)
            elif chunk.stamp < self._newest:
                self._refuse(Fault("superseded_chunk", f"by one {self._newest - chunk.stamp:.3f} s newer"))
            else:
                self._play(chunk, arrival)

    def _play(self, chunk: ActionChunk, arrival: float) -> None:
        if self._state is State.READY:
            self.events.append("moving")
        goes_on = self._state is State.MOVING and self._refused is None
        self._player.push(chunk, arrival + self._stream.delay, None if goes_on else self._stream.position)
        self._state, self._reason = State.MOVING, ""
        self._newest = chunk.stamp
        self._spent_at = chunk.stamp + len(chunk.actions) * chunk.period
        self.num_chunks += 1

    def _refuse(self, fault: Fault) -> None:
        self.refusals = {**self.refusals, fault.name: self.refusals.get(fault.name, 0) + 1}
        self.last_refusal = str(fault)

    def _move(self, now: float, measured: Array, faults: list[Fault]) -> None:
        if not self._is_sending:
            if self._state is State.HELD and self._driver.enabled():
                self._begin_sending(measured)  # torque from an earlier process
        elif self._state is State.HELD:
            self._hold.move(measured, any(fault.kind.is_limp for fault in faults))
        elif self._enabling is not None:
            self._await_torque(now, measured)
        elif self._state is State.DISABLED:
            self._stream.restart(self._hold.near(self._stream.position, measured))
        elif self._state is State.READY:
            self._stream.brake()
        elif now - self._spent_at > self.config.command_timeout:
            silence = Fault("no_commands", f"for {now - self._spent_at:.2f} s after the last chunk was spent")
            self._become_ready(now, str(silence))
            self._stream.brake()
        else:
            self._follow(now)

    def _follow(self, now: float) -> None:
        """Play the chunk, ahead by what the average is late."""
        target = self._player.target(now + self._stream.delay)
        assert target is not None
        near = self._stream.follow(target)
        if near is not None and self._refused is None:
            self._refuse(Fault("too_near", near))
        self._refused = near
        self._reason = "" if near is None else str(Fault("too_near", near))

"""A control loop on its thread, with the watchdog beside it, and the answers it owes to the operator."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError

from piper_bringup.control.faults import Fault
from piper_bringup.control.homing import is_home, way_home
from piper_bringup.control.loop import PERIOD, ControlLoop
from piper_bringup.control.loop_thread import Clock, LoopThread
from piper_bringup.control.stamps import Stamps
from piper_bringup.control.states import Answer, State, Tick
from piper_bringup.control.status import RobotStatus, robot_status
from piper_bringup.control.watchdog import Watchdog
from piper_bringup.drivers.driver import Driver
from vla_policy.types import ActionChunk

HOMING_TIME = 2.0
"""More than a way home itself takes, until it counts as failed [s]."""
ANSWER_TIME = 0.1
"""Time the loop has to obey; a stop is then left to the driver alone [s]."""
REST_TIME = 2.0
"""Longest time to wait at the end until the arms stand still [s]."""


class RobotAtWork:
    """Any thread may call any method."""

    def __init__(
        self,
        loop: ControlLoop,
        driver: Driver,
        clock: Clock,
        stamps: Stamps,
        on_tick: Callable[[Tick], object],
        priority: int = 0,
    ) -> None:
        """Begin at once.

        Args:
            loop: Turned by nobody else.
            driver: The loop's.
            clock: What the loop goes by.
            stamps: From the loop's clock to that of messages.
            on_tick: Told every tick, on the control thread: must not wait for anything.
            priority: Of the control thread.
        """
        self.loop, self._driver, self._clock, self._stamps, self._on_tick = loop, driver, clock, stamps, on_tick
        self._tick: Tick | None = None
        self._home_by = -math.inf
        self._thread = LoopThread(self._turn, PERIOD, clock, priority)
        self._watchdog = Watchdog(lambda: loop.heartbeat, self._on_silence, loop.config.stall_timeout, clock.now)
        self._thread.start()
        self._watchdog.start()

    def _turn(self, now: float) -> None:
        self._tick = tick = self.loop.tick(now)
        self._on_tick(tick)

    def _on_silence(self, silence: float) -> None:
        self.loop.stop_driver(Fault("loop_stalled", f"for {silence:.2f} s"))

    def submit(self, chunk: ActionChunk) -> None:
        """Offer a chunk that just came, its stamp on the clock of messages."""
        self.loop.submit(dataclasses.replace(chunk, stamp=self._stamps.to_loop(chunk.stamp)), self._clock.now())

    def refuse(self, message: str) -> None:
        """Count a message that could not be read as a chunk."""
        self.loop.refuse(message, self._clock.now())

    def enable(self) -> Future[Answer]:
        """Ask for torque; answered in seconds."""
        return self.loop.request_enable()

    def release(self) -> Answer:
        """Leave the held state, if nothing is wrong."""
        request = self.loop.request_release()
        with contextlib.suppress(TimeoutError):
            return request.result(ANSWER_TIME)
        request.cancel()
        return Answer(False, "the control loop does not answer; look at its jitter in the diagnostics")

    def go_home(self) -> Answer:
        """Set out for the posture that episodes start from, with open grippers; `homing` tells when it is there."""
        tick, now = self._tick, self._clock.now()
        if tick is None or tick.state is not State.READY or tick.command is None:
            state = "not connected" if tick is None else tick.state.value
            return Answer(False, f"the robot is {state}; it goes home when ready: stop the policy, release, enable")
        chunk = way_home(tick.command, now)
        self.loop.submit(chunk, now)
        self._home_by = now + len(chunk.actions) * chunk.period + HOMING_TIME
        return Answer(True, "on its way home")

    def homing(self) -> Answer | None:
        """How going home ended; None while it goes on."""
        tick, now = self._tick, self._clock.now()
        assert tick is not None, "go_home was answered first"
        if tick.state in (State.READY, State.MOVING) and tick.command is not None and is_home(tick.measured):
            return Answer(True, "at home")
        if tick.state in (State.DISABLED, State.HELD):
            return Answer(False, f"not home: the robot is {tick.state.value}: {tick.reason}")
        return None if now < self._home_by else Answer(False, f"not home: {tick.reason or self.loop.last_refusal}")

    def stop(self, who: str) -> Answer:
        """Hold the robot, by the driver alone if the loop hangs."""
        with contextlib.suppress(TimeoutError):
            return self.loop.request_stop(who).result(ANSWER_TIME)
        self.loop.stop_driver(Fault("stopped", f"by {who}, while the control loop did not answer"))
        return Answer(True, "the control loop does not answer; the driver holds the robot by itself")

    def compare_clocks(self) -> None:
        """Hold the robot if the clock of messages jumped; to be called now and then."""
        jump = self._stamps.compare()
        if jump is not None:
            self.loop.report(Fault("clock_jump", f"by {jump:+.3f} s"))

    def status(self) -> tuple[RobotStatus, float] | None:
        """For the diagnostics, and their stamp [s]; None before the first tick."""
        tick, now = self._tick, self._clock.now()
        if tick is None:
            return None
        status = robot_status(self.loop, tick, self._thread.punctuality(), self._driver.report(now))
        return status, self._stamps.to_message(now)

    def close(self) -> str:
        """Bring the arms to rest and leave them holding, with torque; tells so."""
        self.loop.report(Fault("shutdown", "robot_node ends"))
        deadline = time.monotonic() + REST_TIME
        while self._thread.is_alive and not self.loop.is_at_rest and time.monotonic() < deadline:
            time.sleep(PERIOD)
        self._watchdog.stop()
        self._thread.stop()
        has_torque = self._driver.enabled()
        self._driver.close()
        return "the arms keep their torque and hold where they are" if has_torque else "the arms have no torque"

"""Emulated arms on their buses in real time: every 5 ms each hears what has come, moves, and sends."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any

import can

from piper_bringup.can.bus import LoopbackBus
from piper_bringup.can.protocol import ARM_STATUS, CTRL_MODES, FAST_RATE, Frame
from piper_bringup.can.registry import INTERFACE, BusOff
from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.faults import Fault
from vla_policy.errors import VlaError

PERIOD = 1.0 / FAST_RATE
"""[s]."""
AT_ONCE = 1e-4
"""Two clocks are compared only if reading both took less than this [s]."""
PATIENCE = 4 * PERIOD
"""Periods missed for less than this [s] are made up for, as a real arm misses none; more are left out."""


class Station:
    """One arm at its socket."""

    def __init__(self, channel: str, arm: Arm, bustype: str) -> None:
        """Join the channel with python-can's interface `bustype`."""
        self.arm = arm
        self.frames_sent = 0
        self.send_errors = 0
        self._channel = channel
        self._bus: can.BusABC
        if bustype == INTERFACE:
            self._bus = LoopbackBus(channel, node=f"arm-{channel}")
        else:
            self._bus = can.Bus(channel=channel, interface=bustype)
        self._bus_off: BusOff | None = None
        self._to_monotonic = time.monotonic() - time.time()

    def exchange(self, now: float) -> None:
        """Hear, move and send at `now` [s], monotonic."""
        self._compare_clocks()
        while message := self._bus.recv(0):
            if message.is_rx and not message.is_error_frame:
                frame = Frame(message.arbitration_id, bytes(message.data))
                self.arm.receive(frame, message.timestamp + self._to_monotonic)
        self.arm.step(now)
        self._follow_bus_off()
        self._send(self.arm.feedback(now))

    def _compare_clocks(self) -> None:
        """Unless this thread was kept waiting meanwhile: frames would seem to have been sent at other times."""
        began, wall, ended = time.monotonic(), time.time(), time.monotonic()
        if ended - began < AT_ONCE:
            self._to_monotonic = began - wall

    def _follow_bus_off(self) -> None:
        is_wanted = any(fault.silences_bus for fault in self.arm.faults.values())
        if is_wanted and not self._bus_off and isinstance(self._bus, LoopbackBus):
            self._bus_off = BusOff(self._channel)
        elif not is_wanted and self._bus_off:
            self._bus_off.end()
            self._bus_off = None

    def _send(self, frames: Sequence[Frame]) -> None:
        messages = [can.Message(arbitration_id=id, data=data, is_extended_id=False) for id, data in frames]
        try:
            if isinstance(self._bus, LoopbackBus):
                self._bus.send_all(messages)
            else:
                for message in messages:
                    self._bus.send(message)
        except can.CanOperationError:
            self.send_errors += len(messages)
        else:
            self.frames_sent += len(messages)

    def close(self) -> None:
        """Leave the channel."""
        if self._bus_off:
            self._bus_off.end()
        self._bus.shutdown()


class Emulator:
    """Arms by channel, served on a thread. Any thread may call any method."""

    def __init__(self, arms: Mapping[str, Arm], bustype: str = INTERFACE) -> None:
        """Join the buses and begin.

        Args:
            arms: Channel to arm.
            bustype: python-can's interface: `piper_loopback`, or `socketcan` for one end of a vxcan pair.

        Raises:
            VlaError: a channel cannot be opened.
        """
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.missed = 0
        """Periods left out because the computer was too busy."""
        self._stations: dict[str, Station] = {}
        for channel, arm in arms.items():
            try:
                self._stations[channel] = Station(channel, arm, bustype)
            except (can.CanError, OSError) as error:
                self._close_stations()
                raise VlaError(f"cannot open {bustype} channel {channel}: {error}") from error
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name="emulator", daemon=True)
        self._thread.start()

    def __enter__(self) -> Emulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        try:
            self._run()
        except Exception as error:
            self._error = error

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            now = time.monotonic()
            with self._lock:
                for station in self._stations.values():
                    station.exchange(now)
            due += PERIOD
            behind = time.monotonic() - due
            if behind > PATIENCE:
                self.missed += int(behind / PERIOD)
                due += PERIOD * int(behind / PERIOD)
            elif behind < 0:
                time.sleep(-behind)

    def close(self) -> None:
        """Switch the arms off and leave the buses."""
        self._ended.set()
        self._thread.join()
        self._close_stations()

    def _close_stations(self) -> None:
        for station in self._stations.values():
            station.close()

    def _chosen(self, channel: str | None) -> list[Station]:
        if channel is None:
            return list(self._stations.values())
        if channel not in self._stations:
            raise VlaError(f"no arm is emulated on {channel}; there are {', '.join(self._stations)}")
        return [self._stations[channel]]

    def inject(self, fault: Fault, channel: str | None = None) -> None:
        """Let something go wrong with the arm of a channel, or with all."""
        with self._lock:
            for station in self._chosen(channel):
                station.arm.inject(dataclasses.replace(fault), time.monotonic())

    def clear(self, name: str | None = None, channel: str | None = None) -> None:
        """End the fault of this name, or all, on a channel or on all."""
        with self._lock:
            for station in self._chosen(channel):
                for each in [name] if name else list(station.arm.faults):
                    station.arm.clear(each, time.monotonic())

    def drag(self, joints: Sequence[float], channel: str) -> None:
        """Move a leader, or an arm that does not resist, by hand to six joints [rad] and an opening [m]."""
        with self._lock:
            self._chosen(channel)[0].arm.drag(joints)

    def power_cycle(self, channel: str | None = None) -> None:
        """Switch arms off and on; they do not fall meanwhile."""
        with self._lock:
            for station in self._chosen(channel):
                station.arm.power_cycle()

    @contextlib.contextmanager
    def placing(self) -> Generator[None]:
        """While the plants are moved by other means (a world is reset); the arms are silent, and stand there then."""
        with self._lock:
            yield
            for station in self._stations.values():
                station.arm.place()

    def state(self) -> dict[str, dict[str, Any]]:
        """Channel to what its arm does and saw, in words and numbers that JSON can hold.

        Raises:
            Exception: what ended the thread that serves the arms, a mistake of ours.
        """
        if self._error:
            raise self._error
        with self._lock:
            return {channel: _state(station) for channel, station in self._stations.items()}


def _state(station: Station) -> dict[str, Any]:
    arm = station.arm
    status = arm.status()
    return {
        "ctrl_mode": CTRL_MODES[status.ctrl_mode],
        "arm_status": ARM_STATUS[status.arm_status],
        "is_following": arm.is_following,
        "enabled": list(arm.torque.enabled),
        "joints": [float(joint) for joint in arm.plant.joints()],
        "targets": list(arm.targets),
        "faults": list(arm.faults),
        "frames_sent": station.frames_sent,
        "send_errors": station.send_errors,
        "counts": dataclasses.asdict(arm.counts) | {"violations": arm.counts.violations},
    }

"""What one arm says: the newest frame of every kind, when it came, and what is wrong with it.

piper_sdk's getters return the same object for ever, mix ticks, share one time stamp among six motors, and its `isOk`
says nothing for 0.4 s of silence. So the frames themselves are kept, each with the time it arrived.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import numpy as np

from piper_bringup.can import protocol
from piper_bringup.can.commands import CRASH_LEVELS, LIMITS, STROKE, Limits, Stroke
from piper_bringup.can.firmware import FIRMWARE, software_version, version_numbers
from piper_bringup.can.protocol import GripperState, MotorSlow, Status
from piper_bringup.control.faults import Fault
from piper_bringup.control.states import Array
from vla_policy.errors import VlaError

LATE, LOST = 0.05, 0.2
"""Ages of a message from which it is late, and lost [s]."""
LATE_SLOW, LOST_SLOW = 0.1, 0.5
"""The same for the motors' health, which comes every 25 ms and is nothing that motion is controlled by."""

GROUPS: dict[int, str] = {
    protocol.STATUS: "status",
    **dict(zip(protocol.JOINTS, ("joints 1-2", "joints 3-4", "joints 5-6"), strict=True)),
    protocol.GRIPPER: "gripper",
    **{id: f"motor {motor} speed" for motor, id in zip(protocol.MOTORS, protocol.MOTOR_FAST, strict=True)},
    **{id: f"motor {motor} health" for motor, id in zip(protocol.MOTORS, protocol.MOTOR_SLOW, strict=True)},
}
"""Identifiers that are watched, in words."""

_STATUS_FAULTS = {
    0x1: "emergency_stop",
    0x4: "target_refused",
    0x5: "joint_communication",
    0x6: "brake_closed",
    0x7: "collision",
    0x9: "joint_error",
    0xB: "teaching",
    0xC: "teaching",
    0xD: "teaching",
    0xE: "overheated",
    0xF: "overheated",
}
_MOTOR_FAULTS = (
    "undervoltage", "overheated", "overcurrent", "overheated", "collision", "joint_error", None, "stall",
)  # fmt: skip
_LEADER_FRAMES = frozenset(range(0x155, 0x160))


class Feedback:
    """`on_frame` belongs to the thread that reads the bus; everything else to any."""

    def __init__(self, arm: str, now: float) -> None:
        """Nothing has come since `now` [s]."""
        self._arm, self._begin = arm, now
        self._frames: dict[int, tuple[float, bytes]] = {}
        self._replies: dict[tuple[int, int], tuple[float, bytes]] = {}
        self._firmware: list[bytes] = []
        self._software: str | None = None
        self._judged: dict[int, tuple[bytes, list[Fault]]] = {}
        self._newest = now

    def on_frame(self, id: int, data: bytes, now: float) -> None:
        """Keep a frame that came at `now` [s]."""
        if id in GROUPS:
            self._frames[id] = now, data
        elif id in (LIMITS, STROKE, CRASH_LEVELS):
            self._replies[id, data[0] if id == LIMITS else 0] = now, data
        elif id == FIRMWARE:
            self._firmware = [*self._firmware[-20:], data]
            told = software_version(self._firmware)
            with contextlib.suppress(VlaError):  # the answer has come in part so far
                self._software = told if told and version_numbers(told) else self._software
        elif id not in _LEADER_FRAMES:
            return
        self._newest = now

    @property
    def joint_frames(self) -> list[bytes] | None:
        """Bytes of the three frames of measured joints; None until all have come."""
        frames = [self._frames.get(id) for id in protocol.JOINTS]
        return [frame[1] for frame in frames if frame] if all(frames) else None

    @property
    def joints(self) -> Array:
        """Six joints as the arm counts them [rad] and the opening [m]; NaN until they have come."""
        frames, gripper = self.joint_frames, self._frames.get(protocol.GRIPPER)
        if frames is None or gripper is None:
            return np.full(7, np.nan)
        angles = [angle for data in frames for angle in protocol.unpack_pair(data)]
        return np.array([*angles, GripperState.decode(gripper[1]).opening])

    @property
    def status(self) -> Status | None:
        """The newest one."""
        frame = self._frames.get(protocol.STATUS)
        return Status.decode(frame[1]) if frame else None

    @property
    def disabled_motors(self) -> list[int]:
        """Motors that have no torque, or have not said so."""
        return [motor for motor in protocol.MOTORS if not self._motor_bits(motor) & protocol.MOTOR_ENABLED]

    def _motor_bits(self, motor: int) -> int:
        frame = self._frames.get(0x260 + motor)
        return MotorSlow.decode(frame[1]).bits if frame else 0

    @property
    def is_gripper_enabled(self) -> bool:
        """Whether the gripper has torque."""
        frame = self._frames.get(protocol.GRIPPER)
        return frame is not None and bool(GripperState.decode(frame[1]).bits & protocol.GRIPPER_ENABLED)

    @property
    def motors(self) -> list[MotorSlow]:
        """Health of the motors that told it."""
        frames = [self._frames.get(id) for id in protocol.MOTOR_SLOW]
        return [MotorSlow.decode(frame[1]) for frame in frames if frame]

    @property
    def software(self) -> str | None:
        """Version of the firmware, as it was told last."""
        return self._software or software_version(self._firmware)

    def forget_firmware(self) -> None:
        """Before asking for it again; what was told stays until the answer has come."""
        self._firmware = []

    def limits(self, since: float) -> dict[int, Limits]:
        """Joint number to its limits, as told after `since` [s]."""
        return {
            motor: Limits.decode(data)
            for (id, motor), (time, data) in list(self._replies.items())
            if id == LIMITS and time >= since
        }

    def stroke(self, since: float) -> float | None:
        """Of the gripper [m], as told after `since` [s]."""
        time, data = self._replies.get((STROKE, 0), (-np.inf, b""))
        return Stroke.decode(data).stroke if time >= since and data else None

    @property
    def crash_levels(self) -> tuple[int, ...] | None:
        """Of the six joints, as told last."""
        reply = self._replies.get((CRASH_LEVELS, 0))
        return tuple(reply[1][:6]) if reply else None

    def ages(self, now: float) -> dict[int, float]:
        """Identifier to the time since its last frame [s]."""
        return {id: now - self._frames.get(id, (self._begin, b""))[0] for id in GROUPS}

    def faults(self, now: float) -> list[Fault]:
        """What is wrong at `now` [s]."""
        return [*self._silence(now), *self._judge(protocol.STATUS, self._status_faults), *self._motor_faults()]

    def _silence(self, now: float) -> list[Fault]:
        if now - self._newest > LOST:
            return [Fault("bus_silent", f"{self._arm} arm, for {now - self._newest:.1f} s")]
        ages = self.ages(now)
        late = {id: age for id, age in ages.items() if age > (LATE_SLOW if id in protocol.MOTOR_SLOW else LATE)}
        lost = {id: age for id, age in late.items() if age > (LOST_SLOW if id in protocol.MOTOR_SLOW else LOST)}
        return [
            Fault(
                name,
                f"{self._arm} arm, " + ", ".join(f"{GROUPS[id]} for {age * 1000:.0f} ms" for id, age in found.items()),
            )
            for name, found in (("feedback_lost", lost), ("feedback_late", {} if lost else late))
            if found
        ]

    def _judge(self, id: int, judge: Callable[[bytes], Iterable[Fault]]) -> list[Fault]:
        """What a frame says; judged once, for most frames say what the one before said."""
        if id not in self._frames:
            return []
        data = self._frames[id][1]
        if id not in self._judged or self._judged[id][0] != data:
            self._judged[id] = data, list(judge(data))
        return self._judged[id][1]

    def _status_faults(self, data: bytes) -> Iterable[Fault]:
        status = Status.decode(data)
        words = protocol.ARM_STATUS.get(status.arm_status, f"code {status.arm_status}")
        silent = f", joints {protocol.motors_in(status.silent_bits)}" if status.silent_bits else ""
        if status.arm_status:
            yield Fault(_STATUS_FAULTS.get(status.arm_status, "arm_status"), f"{self._arm} arm: {words}{silent}")
        elif silent:
            yield Fault("joint_communication", f"{self._arm} arm{silent}")
        if status.limit_bits:
            yield Fault("joint_limit", f"{self._arm} arm, joints {protocol.motors_in(status.limit_bits)}")
        mode = f"{self._arm} arm is in mode {protocol.CTRL_MODES.get(status.ctrl_mode, status.ctrl_mode)}"
        if status.ctrl_mode == protocol.CTRL_LEADER:
            yield Fault("leader_role", mode)
        elif status.ctrl_mode == protocol.CTRL_TEACH:
            yield Fault("teaching", mode)
        elif status.ctrl_mode != protocol.CTRL_CAN:
            yield Fault("not_can_controlled", mode)

    def _motor_faults(self) -> list[Fault]:
        found: list[Fault] = []
        for motor, id in zip(protocol.MOTORS, protocol.MOTOR_SLOW, strict=True):
            found += self._judge(id, lambda data, motor=motor: self._faults_of_motor(motor, data))
        return found + self._judge(protocol.GRIPPER, self._gripper_faults)

    def _faults_of_motor(self, motor: int, data: bytes) -> Iterable[Fault]:
        slow = MotorSlow.decode(data)
        where = f"{self._arm} arm, joint {motor}"
        heat = f"driver at {slow.driver_temperature}, motor at {slow.motor_temperature} degrees Celsius"
        for place, name in enumerate(_MOTOR_FAULTS):
            if name and slow.bits >> place & 1:
                yield Fault(name, f"{where}: {protocol.MOTOR_BITS[place]} ({slow.voltage:.1f} V, {heat})")
        if not slow.bits & protocol.MOTOR_ENABLED:
            yield Fault("joint_disabled", where)

    def _gripper_faults(self, data: bytes) -> Iterable[Fault]:
        bits = GripperState.decode(data).bits
        if bits & protocol.GRIPPER_FAULTS:
            words = ", ".join(protocol.names_of(bits & protocol.GRIPPER_FAULTS, protocol.GRIPPER_BITS))
            yield Fault("gripper_error", f"{self._arm} arm: {words}")
        if not bits & protocol.GRIPPER_ENABLED:
            yield Fault("gripper_disabled", f"{self._arm} arm")

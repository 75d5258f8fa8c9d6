"""CAN frames of a Piper: identifiers, units, joints and feedback here; what a host asks and sets in `commands`.

The two modules are the only place where the arm's units (0.001 degrees, 0.001 mm) meet ours (radians, metres). The
emulated arm speaks all of it; the driver takes what piper_sdk lacks. Classic frames with 11-bit identifiers, always 8
bytes, big-endian. Sources: AgileX's CAN protocol V2 as piper_sdk 0.6.2 codes it; the frame rate of a healthy arm as
AgileX states it, which fits 200 Hz and 40 Hz.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOTORS = range(1, 7)
"""Numbers of the joint motors, as frames count them."""

STATUS = 0x2A1
POSE = (0x2A2, 0x2A3, 0x2A4)
JOINTS = (0x2A5, 0x2A6, 0x2A7)
GRIPPER = 0x2A8
MOTOR_FAST = tuple(0x250 + motor for motor in MOTORS)
MOTOR_SLOW = tuple(0x260 + motor for motor in MOTORS)
FAST_RATE = 200.0
"""Of every feedback frame but MOTOR_SLOW [Hz]."""
SLOW_RATE = 40.0
"""Of MOTOR_SLOW [Hz]."""
FRAMES_PER_SECOND = 3040
"""What one healthy arm sends."""

MOTION_CONTROL = 0x150
MODE = 0x151
JOINT_TARGETS = (0x155, 0x156, 0x157)
GRIPPER_TARGET = 0x159

FEEDBACK_GROUPS: dict[str, tuple[int, ...]] = {
    "status": (STATUS,),
    "pose": POSE,
    "joints": JOINTS,
    "joints_12": JOINTS[:1],
    "joints_34": JOINTS[1:2],
    "joints_56": JOINTS[2:],
    "gripper": (GRIPPER,),
    "motor_fast": MOTOR_FAST,
    "motor_slow": MOTOR_SLOW,
}
"""Feedback that comes and stays away together."""

ARM_STATUS: dict[int, str] = {
    0x0: "normal",
    0x1: "emergency stop",
    0x2: "no solution of the inverse kinematics",
    0x3: "singularity",
    0x4: "target beyond a joint limit",
    0x5: "a joint does not communicate",
    0x6: "a brake is not released",
    0x7: "collision",
    0x8: "too fast while being dragged",
    0x9: "a joint reports an error",
    0xA: "unnamed error",
    0xB: "recording by teaching",
    0xC: "playing what was taught",
    0xD: "playing what was taught, paused",
    0xE: "main controller too hot",
    0xF: "brake resistor too hot",
}
"""Byte 1 of STATUS in words."""

CTRL_STANDBY, CTRL_CAN, CTRL_TEACH, CTRL_LEADER = 0, 1, 2, 6
CTRL_MODES: dict[int, str] = {
    CTRL_STANDBY: "standby",
    CTRL_CAN: "CAN",
    CTRL_TEACH: "teaching",
    3: "Ethernet",
    4: "WiFi",
    5: "remote control",
    CTRL_LEADER: "leader (teaching input)",
    7: "offline trajectory",
}
"""Byte 0 of STATUS in words."""

MOVE_P, MOVE_J, MOVE_L, MOVE_C, MOVE_MIT, MOVE_CPV = range(6)
FOLLOW_SMOOTHED, FOLLOW_AT_ONCE = 0x00, 0xAD
"""Byte 3 of MODE: the arm's own planner, or "high follow", what leader arms ask for."""
STOP, RESET = 1, 2
"""Byte 0 of MOTION_CONTROL. RESET cuts the torque: the arm falls."""

MOTOR_BITS = ("undervoltage", "motor hot", "overcurrent", "driver hot", "collision", "error", "enabled", "stalled")
MOTOR_ENABLED = 1 << 6
MOTOR_FAULTS = 0xFF & ~MOTOR_ENABLED
"""Bits of MOTOR_SLOW that say something is wrong."""
GRIPPER_BITS = ("undervoltage", "motor hot", "overcurrent", "driver hot", "sensor", "error", "enabled", "homed")
GRIPPER_ENABLED, GRIPPER_HOMED = 1 << 6, 1 << 7
GRIPPER_FAULTS = 0x3F

MILLIDEGREE = math.pi / 180_000.0
"""[rad]."""
MICROMETRE = 1e-6
"""[m]."""
MILLI = 1e-3
_PAIR = struct.Struct(">ii")
_GRIPPER = struct.Struct(">ihBx")
_FAST = struct.Struct(">hhi")
_SLOW = struct.Struct(">HhbBH")


class Frame(NamedTuple):
    """One frame on the bus."""

    id: int
    data: bytes
    """8 bytes."""


def names_of(bits: int, names: Sequence[str]) -> list[str]:
    """The names of the bits that are set, lowest first."""
    return [name for place, name in enumerate(names) if bits >> place & 1]


def motors_in(bits: int) -> list[int]:
    """Numbers of the motors whose bits are set in `limit_bits` or `silent_bits` of a status."""
    return [motor for motor in MOTORS if bits >> (motor - 1) & 1]


def to_millidegrees(angle: float) -> int:
    """What the bus says for an angle [rad]."""
    return round(angle / MILLIDEGREE)


def to_micrometres(length: float) -> int:
    """What the bus says for a length [m]."""
    return round(length / MICROMETRE)


def pack_joints(ids: Sequence[int], joints: Sequence[float]) -> list[Frame]:
    """Six joint positions [rad] as the three frames of JOINTS or JOINT_TARGETS."""
    raw = [to_millidegrees(angle) for angle in joints]
    return [Frame(id, _PAIR.pack(raw[2 * place], raw[2 * place + 1])) for place, id in enumerate(ids)]


def unpack_pair(data: bytes) -> tuple[float, float]:
    """Two joint positions [rad] of one frame of JOINTS or JOINT_TARGETS."""
    first, second = _PAIR.unpack(data)
    return first * MILLIDEGREE, second * MILLIDEGREE


def pack_pose(position: Sequence[float], angles: Sequence[float]) -> list[Frame]:
    """Flange position [m] and roll, pitch, yaw [rad] (R = Rz Ry Rx) as the three frames of POSE."""
    raw = [*map(to_micrometres, position), *map(to_millidegrees, angles)]
    return [Frame(id, _PAIR.pack(raw[2 * place], raw[2 * place + 1])) for place, id in enumerate(POSE)]


def unpack_pose(frames: Sequence[bytes]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Flange position [m] and roll, pitch, yaw [rad] from the bytes of the three frames of POSE."""
    raw = [value for data in frames for value in _PAIR.unpack(data)]
    return tuple(value * MICROMETRE for value in raw[:3]), tuple(value * MILLIDEGREE for value in raw[3:])


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS: how the arm is."""

    ctrl_mode: int = CTRL_STANDBY
    """Key of CTRL_MODES."""
    arm_status: int = 0
    """Key of ARM_STATUS."""
    move_mode: int = MOVE_P
    teach: int = 0
    is_moving: bool = False
    """The target is not reached yet."""
    point: int = 0
    """Of a trajectory stored in the arm."""
    limit_bits: int = 0
    """Motors whose target is beyond a limit."""
    silent_bits: int = 0
    """Motors that do not communicate with the arm's controller."""

    def encode(self) -> Frame:
        """As a frame."""
        values = (self.ctrl_mode, self.arm_status, self.move_mode, self.teach)
        return Frame(STATUS, bytes((*values, self.is_moving, self.point, self.limit_bits, self.silent_bits)))

    @staticmethod
    def decode(data: bytes) -> Status:
        """From the bytes of a frame."""
        return Status(data[0], data[1], data[2], data[3], bool(data[4]), data[5], data[6], data[7])


@dataclass(frozen=True, slots=True)
class GripperState:
    """GRIPPER: measured opening."""

    opening: float = 0.0
    """Between the fingers [m]."""
    effort: float = 0.0
    """[N m]."""
    bits: int = 0
    """GRIPPER_BITS."""

    def encode(self) -> Frame:
        """As a frame."""
        return Frame(GRIPPER, _GRIPPER.pack(to_micrometres(self.opening), round(self.effort / MILLI), self.bits))

    @staticmethod
    def decode(data: bytes) -> GripperState:
        """From the bytes of a frame."""
        opening, effort, bits = _GRIPPER.unpack(data)
        return GripperState(opening * MICROMETRE, effort * MILLI, bits)


@dataclass(frozen=True, slots=True)
class MotorFast:
    """MOTOR_FAST: speed and current of one motor."""

    velocity: float = 0.0
    """[rad/s]."""
    current: float = 0.0
    """[A]."""
    position: int = 0
    """In a unit that no source settles: take positions from JOINTS."""

    def encode(self, motor: int) -> Frame:
        """As a frame of motor 1 to 6."""
        speed = min(max(round(self.velocity / MILLI), -0x8000), 0x7FFF)
        return Frame(0x250 + motor, _FAST.pack(speed, round(self.current / MILLI), self.position))

    @staticmethod
    def decode(data: bytes) -> MotorFast:
        """From the bytes of a frame."""
        velocity, current, position = _FAST.unpack(data)
        return MotorFast(velocity * MILLI, current * MILLI, position)


@dataclass(frozen=True, slots=True)
class MotorSlow:
    """MOTOR_SLOW: health of one motor, and the only place that says whether it is enabled."""

    voltage: float = 24.0
    """[V]."""
    driver_temperature: int = 30
    """[degrees Celsius]."""
    motor_temperature: int = 30
    """[degrees Celsius]."""
    bits: int = 0
    """MOTOR_BITS."""
    bus_current: float = 0.0
    """[A]."""

    def encode(self, motor: int) -> Frame:
        """As a frame of motor 1 to 6."""
        temperatures = (self.driver_temperature, self.motor_temperature)
        raw = _SLOW.pack(round(self.voltage * 10), *temperatures, self.bits, round(self.bus_current / MILLI))
        return Frame(0x260 + motor, raw)

    @staticmethod
    def decode(data: bytes) -> MotorSlow:
        """From the bytes of a frame."""
        voltage, driver, motor, bits, current = _SLOW.unpack(data)
        return MotorSlow(voltage / 10, driver, motor, bits, current * MILLI)

"""CAN frames that a host sends to a Piper, and the arm's answers to them; `protocol` has the feedback."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from piper_bringup.can.protocol import (
    CTRL_CAN,
    FOLLOW_SMOOTHED,
    GRIPPER_TARGET,
    MICROMETRE,
    MILLI,
    MILLIDEGREE,
    MODE,
    MOTION_CONTROL,
    MOTORS,
    MOVE_J,
    Frame,
    to_micrometres,
    to_millidegrees,
)

ROLE = 0x470
ENABLE = 0x471
LIMIT_QUERY = 0x472
LIMITS, SET_LIMITS = 0x473, 0x474
JOINT_SETTINGS = 0x475
ACKNOWLEDGEMENT = 0x476
PARAMETER_QUERY = 0x477
TOOL_LIMITS, SET_TOOL_LIMITS = 0x478, 0x479
SET_CRASH_LEVELS, CRASH_LEVELS = 0x47A, 0x47B
ACCELERATION_LIMIT = 0x47C
SET_STROKE, STROKE = 0x47D, 0x47E

ALL_MOTORS = 7
"""As a motor number of ENABLE: the six joints and the gripper, which may move at once."""
LEADER, FOLLOWER = 0xFA, 0xFC
"""Byte 0 of ROLE."""
ASK_LIMITS, ASK_ACCELERATION = 1, 2
"""Byte 1 of LIMIT_QUERY."""
ASK_TOOL_LIMITS, ASK_CRASH_LEVELS, ASK_TRAJECTORY, ASK_STROKE = 1, 2, 3, 4
"""Byte 0 of PARAMETER_QUERY."""
LIMITS_TO_FACTORY = 2
"""Byte 1 of PARAMETER_QUERY: every joint's limits, speed and acceleration."""
DO_IT = 0xAE
"""What a byte of a setting must say to have an effect."""
UNCHANGED = 0x7FFF
"""A number in a setting that leaves the old one."""

_GRIPPER_TARGET = struct.Struct(">iHBB")
_LIMITS = struct.Struct(">BhhHx")
_JOINT_SETTINGS = struct.Struct(">BBBHBxx")
_ACCELERATION = struct.Struct(">BH5x")


@dataclass(frozen=True, slots=True)
class GripperTarget:
    """GRIPPER_TARGET: wanted opening; an arm whose stroke is unset ignores it."""

    opening: float
    """[m]."""
    effort: float = 1.0
    """Largest [N m], 0 to 5."""
    is_enabled: bool = True
    clears_errors: bool = False
    sets_zero: bool = False
    """Make the present opening the new zero."""

    def encode(self) -> Frame:
        """As a frame."""
        code = self.is_enabled | self.clears_errors << 1
        raw = _GRIPPER_TARGET.pack(
            to_micrometres(self.opening), round(self.effort / MILLI), code, DO_IT * self.sets_zero
        )
        return Frame(GRIPPER_TARGET, raw)

    @staticmethod
    def decode(data: bytes) -> GripperTarget:
        """From the bytes of a frame."""
        opening, effort, code, zero = _GRIPPER_TARGET.unpack(data)
        return GripperTarget(opening * MICROMETRE, effort * MILLI, bool(code & 1), bool(code & 2), zero == DO_IT)


@dataclass(frozen=True, slots=True)
class Mode:
    """MODE: who commands the arm, how it moves and how fast."""

    ctrl: int = CTRL_CAN
    """Key of CTRL_MODES."""
    move: int = MOVE_J
    speed: int = 100
    """Share of the largest speed [%]."""
    follow: int = FOLLOW_SMOOTHED

    def encode(self) -> Frame:
        """As a frame; residence time and mounting are left as they are."""
        return Frame(MODE, bytes((self.ctrl, self.move, self.speed, self.follow, 0, 0, 0, 0)))

    @staticmethod
    def decode(data: bytes) -> Mode:
        """From the bytes of a frame."""
        return Mode(*data[:4])


@dataclass(frozen=True, slots=True)
class MotionControl:
    """MOTION_CONTROL: stop, reset and teaching."""

    stop: int = 0
    """STOP (lowers itself damped) or RESET (limp at once: falls)."""
    trajectory: int = 0
    teach: int = 0
    """1: be dragged by hand, 2: end that."""

    def encode(self) -> Frame:
        """As a frame."""
        return Frame(MOTION_CONTROL, bytes((self.stop, self.trajectory, self.teach, 0, 0, 0, 0, 0)))

    @staticmethod
    def decode(data: bytes) -> MotionControl:
        """From the bytes of a frame."""
        return MotionControl(*data[:3])


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE: torque on or off. Off lets the arm fall."""

    motor: int = ALL_MOTORS
    is_on: bool = True

    @property
    def motors(self) -> Sequence[int]:
        """Joint motors it is meant for."""
        return MOTORS if self.has_gripper else (self.motor,)

    @property
    def has_gripper(self) -> bool:
        """True when it is meant for everything."""
        return self.motor in (ALL_MOTORS, 0xFF)

    def encode(self) -> Frame:
        """As a frame."""
        return Frame(ENABLE, bytes((self.motor, 2 if self.is_on else 1, 0, 0, 0, 0, 0, 0)))

    @staticmethod
    def decode(data: bytes) -> Enable | None:
        """From the bytes of a frame; None when it says neither on nor off."""
        return Enable(data[0], data[1] == 2) if data[1] in (1, 2) else None


@dataclass(frozen=True, slots=True)
class Role:
    """ROLE: leader, which sends joint targets instead of obeying them, or follower."""

    role: int = FOLLOWER
    feedback_offset: int = 0
    """Added to the identifiers of STATUS to GRIPPER, 0x00, 0x10 or 0x20."""
    control_offset: int = 0
    """Added to those of MOTION_CONTROL to GRIPPER_TARGET that the arm listens to."""
    target_offset: int = 0
    """Added to those that a leader sends."""

    def encode(self) -> Frame:
        """As a frame."""
        offsets = (self.feedback_offset, self.control_offset, self.target_offset)
        return Frame(ROLE, bytes((self.role, *offsets, 0, 0, 0, 0)))

    @staticmethod
    def decode(data: bytes) -> Role:
        """From the bytes of a frame."""
        return Role(*data[:4])


@dataclass(frozen=True, slots=True)
class Limits:
    """LIMITS and SET_LIMITS of one joint; None leaves a value as it is."""

    motor: int
    lower: float | None = None
    """[rad], in steps of 0.1 degrees."""
    upper: float | None = None
    """[rad], in steps of 0.1 degrees."""
    max_velocity: float | None = None
    """[rad/s]."""

    def encode(self, id: int = LIMITS) -> Frame:
        """As a frame: LIMITS, an arm's answer, or SET_LIMITS."""
        upper, lower = (_tenths(value) for value in (self.upper, self.lower))
        speed = UNCHANGED if self.max_velocity is None else round(self.max_velocity / MILLI)
        return Frame(id, _LIMITS.pack(self.motor, upper, lower, speed))

    @staticmethod
    def decode(data: bytes) -> Limits:
        """From the bytes of a frame."""
        motor, upper, lower, speed = _LIMITS.unpack(data)
        return Limits(motor, _from_tenths(lower), _from_tenths(upper), None if speed == UNCHANGED else speed * MILLI)


@dataclass(frozen=True, slots=True)
class AccelerationLimit:
    """ACCELERATION_LIMIT of one joint, an answer."""

    motor: int
    max_acceleration: float
    """[rad/s^2]."""

    def encode(self) -> Frame:
        """As a frame."""
        return Frame(ACCELERATION_LIMIT, _ACCELERATION.pack(self.motor, round(self.max_acceleration * 100)))

    @staticmethod
    def decode(data: bytes) -> AccelerationLimit:
        """From the bytes of a frame."""
        motor, acceleration = _ACCELERATION.unpack(data)
        return AccelerationLimit(motor, acceleration / 100)


@dataclass(frozen=True, slots=True)
class JointSettings:
    """JOINT_SETTINGS of one joint, or of all with motor 7."""

    motor: int
    sets_zero: bool = False
    """Make the present position the new zero."""
    max_acceleration: float | None = None
    """[rad/s^2]; None leaves it."""
    clears_error: bool = False

    def encode(self) -> Frame:
        """As a frame."""
        acceleration = UNCHANGED if self.max_acceleration is None else round(self.max_acceleration * 100)
        flags = [DO_IT * wish for wish in (self.sets_zero, self.max_acceleration is not None, self.clears_error)]
        return Frame(JOINT_SETTINGS, _JOINT_SETTINGS.pack(self.motor, *flags[:2], acceleration, flags[2]))

    @staticmethod
    def decode(data: bytes) -> JointSettings:
        """From the bytes of a frame."""
        motor, zero, wish, acceleration, clear = _JOINT_SETTINGS.unpack(data)
        is_told = wish == DO_IT and acceleration != UNCHANGED
        return JointSettings(motor, zero == DO_IT, acceleration / 100 if is_told else None, clear == DO_IT)


@dataclass(frozen=True, slots=True)
class Stroke:
    """STROKE and SET_STROKE: which gripper is mounted. Unset, it reports 0 and ignores commands."""

    stroke: float
    """0.07 or 0.10 [m]; 0 is unset."""
    leader_range: int = 100
    """Of a leader's grip, 100 to 200 [%]."""
    friction: int = 1
    """Of a leader's grip, 1 to 10."""

    def encode(self, id: int = STROKE) -> Frame:
        """As a frame: STROKE, an arm's answer, or SET_STROKE."""
        return Frame(id, bytes((self.leader_range, round(self.stroke * 1000), self.friction, 0, 0, 0, 0, 0)))

    @staticmethod
    def decode(data: bytes) -> Stroke:
        """From the bytes of a frame."""
        return Stroke(data[1] / 1000, data[0], data[2])


def _tenths(angle: float | None) -> int:
    return UNCHANGED if angle is None else round(to_millidegrees(angle) / 100)


def _from_tenths(raw: int) -> float | None:
    return None if raw == UNCHANGED else raw * 100 * MILLIDEGREE

"""What an emulated arm stores and answers when asked: limits, crash levels, gripper stroke, firmware."""

from __future__ import annotations

from dataclasses import dataclass

from piper_bringup.can import commands as commands
from piper_bringup.can.firmware import FIRMWARE, pack_firmware
from piper_bringup.can.protocol import MOTORS, Frame
from piper_twin.robot import GRIPPER_STROKE, JOINT_LIMITS, MAX_JOINT_ACCELERATION, MAX_JOINT_VELOCITY

SETTINGS = frozenset(
    (
        commands.SET_LIMITS,
        commands.JOINT_SETTINGS,
        commands.PARAMETER_QUERY,
        commands.SET_TOOL_LIMITS,
        commands.SET_CRASH_LEVELS,
        commands.SET_STROKE,
    )
)
"""Frames that change what is stored. An arm acknowledges them, some of them, or others too: firmwares differ."""
VENDOR_ACKNOWLEDGED = frozenset((0x474, 0x475, 0x477, 0x479, 0x47A))
"""What the test arm of AgileX acknowledges."""
ALSO_ACKNOWLEDGED = VENDOR_ACKNOWLEDGED | {0x150, 0x151, 0x470, 0x471, 0x47D}
"""What others report."""
NO_CRASH_DETECTION, MOST_TOLERANT = 0, 8
STROKES = (0.07, 0.10)
"""[m]."""


@dataclass(slots=True)
class JointRegister:
    """What is stored of one joint."""

    lower: float
    """[rad]."""
    upper: float
    """[rad]."""
    max_velocity: float = MAX_JOINT_VELOCITY
    """[rad/s]."""
    max_acceleration: float = MAX_JOINT_ACCELERATION
    """[rad/s^2]."""


def _factory() -> list[JointRegister]:
    return [JointRegister(lower, upper) for lower, upper in JOINT_LIMITS]


class Registers:
    """The memory of one arm; survives switching it off."""

    def __init__(self, software: str, stroke: float = GRIPPER_STROKE) -> None:
        """Factory settings.

        Args:
            software: Firmware version, as S-V1.8-5.
            stroke: Of the gripper [m]; 0: never set.
        """
        self.software: str | None = software
        """None: questions for it stay without an answer."""
        self.stroke = stroke
        self.joints = _factory()
        self.crash_levels = [NO_CRASH_DETECTION] * len(MOTORS)
        self._tool_limits = Frame(commands.TOOL_LIMITS, bytes((1, 0xF4, 1, 0xF4, 0, 200, 0, 200)))

    def joint(self, motor: int) -> JointRegister:
        """Of motor 1 to 6."""
        return self.joints[motor - 1]

    def handle(self, frame: Frame) -> list[Frame]:
        """Obey a setting or answer a question; the answers."""
        match frame.id:
            case commands.LIMIT_QUERY:
                return self._limits(frame.data[0], frame.data[1])
            case commands.PARAMETER_QUERY:
                return self._parameters(frame.data[0], frame.data[1])
            case _ if frame.id == FIRMWARE:
                return pack_firmware(self.software) if self.software and frame.data[0] == 1 else []
            case commands.SET_LIMITS:
                self._set_limits(commands.Limits.decode(frame.data))
            case commands.JOINT_SETTINGS:
                self._set_joint(commands.JointSettings.decode(frame.data))
            case commands.SET_TOOL_LIMITS:
                self._tool_limits = Frame(commands.TOOL_LIMITS, frame.data)
            case commands.SET_CRASH_LEVELS:
                for place, level in enumerate(frame.data[: len(MOTORS)]):
                    if level <= MOST_TOLERANT:
                        self.crash_levels[place] = level
            case commands.SET_STROKE:
                stroke = commands.Stroke.decode(frame.data).stroke
                self.stroke = stroke if stroke in STROKES else self.stroke
            case _:
                pass
        return []

    def _limits(self, motor: int, question: int) -> list[Frame]:
        if motor not in MOTORS:
            return []
        joint = self.joint(motor)
        if question == commands.ASK_ACCELERATION:
            return [commands.AccelerationLimit(motor, joint.max_acceleration).encode()]
        return [commands.Limits(motor, joint.lower, joint.upper, joint.max_velocity).encode()]

    def _parameters(self, question: int, wish: int) -> list[Frame]:
        if wish == commands.LIMITS_TO_FACTORY:
            self.joints = _factory()
        match question:
            case commands.ASK_TOOL_LIMITS:
                return [self._tool_limits]
            case commands.ASK_CRASH_LEVELS:
                return [Frame(commands.CRASH_LEVELS, bytes((*self.crash_levels, 0, 0)))]
            case commands.ASK_STROKE:
                return [commands.Stroke(self.stroke).encode()]
            case _:
                return []

    def _set_limits(self, limits: commands.Limits) -> None:
        if limits.motor not in MOTORS:
            return
        joint = self.joint(limits.motor)
        joint.lower = joint.lower if limits.lower is None else limits.lower
        joint.upper = joint.upper if limits.upper is None else limits.upper
        if limits.max_velocity is not None:
            joint.max_velocity = min(limits.max_velocity, MAX_JOINT_VELOCITY)

    def _set_joint(self, settings: commands.JointSettings) -> None:
        for motor in MOTORS:
            if settings.motor in (motor, commands.ALL_MOTORS) and settings.max_acceleration is not None:
                self.joint(motor).max_acceleration = min(settings.max_acceleration, MAX_JOINT_ACCELERATION)

"""The frames that an arm sends by itself: 14 kinds at 200 Hz, the health of six motors at 40 Hz."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from piper_bringup.can import protocol
from piper_bringup.can.commands import GripperTarget, Mode, Role
from piper_bringup.can.protocol import MOTORS, Frame
from piper_twin.robot import DH_TABLE

_PERIOD = 1.0 / protocol.FAST_RATE
_SLOW_EVERY = round(protocol.FAST_RATE / protocol.SLOW_RATE)


@dataclass(frozen=True, slots=True)
class Reading:
    """One moment of an arm."""

    status: protocol.Status
    joints: Sequence[float]
    """Six joints [rad] and the opening [m], measured."""
    velocity: Sequence[float]
    """[rad/s], [m/s]."""
    enabled: Sequence[bool]
    """Six joints and the gripper."""
    has_stroke: bool
    """Without it, the gripper reports 0."""


class Schedule:
    """When feedback is due."""

    def __init__(self) -> None:
        """The first is due at once."""
        self._next = -math.inf
        self._tick = 0

    def due(self, now: float) -> int | None:
        """Number of the period that begins at `now` [s], None between periods; what was missed is left out."""
        if now < self._next - _PERIOD / 2:
            return None
        self._next = max(self._next, now - _PERIOD) + _PERIOD
        self._tick += 1
        return self._tick


def follower_frames(reading: Reading, tick: int, pose: Sequence[Frame], offset: int = 0) -> list[Frame]:
    """What an arm that obeys sends in one period."""
    frames = [
        reading.status.encode(),
        *pose,
        *protocol.pack_joints(protocol.JOINTS, reading.joints[:6]),
        _gripper(reading).encode(),
    ]
    if offset:
        frames = [Frame(frame.id + offset, frame.data) for frame in frames]
    return frames + motor_frames(reading, tick)


def leader_frames(reading: Reading, tick: int, role: Role) -> list[Frame]:
    """What a leader sends in one period: its own joints, as targets for a follower to obey.

    Its feedback goes to shifted identifiers so that it does not meet the follower's; without a shift, only the status
    remains (users see zero joints then).
    """
    if role.feedback_offset:
        feedback = follower_frames(reading, tick, flange_frames(reading.joints), role.feedback_offset)
    else:
        feedback = [reading.status.encode(), *motor_frames(reading, tick)]
    targets = [
        Mode(follow=protocol.FOLLOW_AT_ONCE).encode(),
        *protocol.pack_joints(protocol.JOINT_TARGETS, reading.joints[:6]),
        GripperTarget(reading.joints[6]).encode(),
    ]
    return feedback + [Frame(frame.id + role.target_offset, frame.data) for frame in targets]


def motor_frames(reading: Reading, tick: int) -> list[Frame]:
    """Speeds of all motors, and the health of those whose turn it is."""
    fast = [protocol.MotorFast(reading.velocity[motor - 1]).encode(motor) for motor in MOTORS]
    bits = [protocol.MOTOR_ENABLED * is_on for is_on in reading.enabled]
    turn = [motor for motor in MOTORS if (tick - motor) % _SLOW_EVERY == 0]
    return fast + [protocol.MotorSlow(bits=bits[motor - 1]).encode(motor) for motor in turn]


def _gripper(reading: Reading) -> protocol.GripperState:
    bits = (protocol.GRIPPER_ENABLED * reading.enabled[6]) | protocol.GRIPPER_HOMED
    return protocol.GripperState(reading.joints[6] if reading.has_stroke else 0.0, 0.0, bits)


def flange_frames(joints: Sequence[float]) -> list[Frame]:
    """Flange position and angles, from the arm's own kinematics: `piper_twin.kinematics` in plain floats, for speed."""
    x, y, z = 0.0, 0.0, 0.0
    a1, a2, a3, b1, b2, b3, c1, c2, c3 = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0  # columns a, b, c of the rotation
    for row, joint in zip(DH_TABLE, joints, strict=False):
        ca, sa = math.cos(row.alpha), math.sin(row.alpha)
        ct, st = math.cos(joint + row.theta), math.sin(joint + row.theta)
        x, y, z = x + a1 * row.a, y + a2 * row.a, z + a3 * row.a
        b1, b2, b3, c1, c2, c3 = (  # about the x axis by alpha
            *(b1 * ca + c1 * sa, b2 * ca + c2 * sa, b3 * ca + c3 * sa),
            *(c1 * ca - b1 * sa, c2 * ca - b2 * sa, c3 * ca - b3 * sa),
        )
        x, y, z = x + c1 * row.d, y + c2 * row.d, z + c3 * row.d
        a1, a2, a3, b1, b2, b3 = (  # about the z axis by the joint
            *(a1 * ct + b1 * st, a2 * ct + b2 * st, a3 * ct + b3 * st),
            *(b1 * ct - a1 * st, b2 * ct - a2 * st, b3 * ct - a3 * st),
        )
    roll, pitch, yaw = math.atan2(b3, c3), math.atan2(-a3, math.hypot(a1, a2)), math.atan2(a2, a1)
    return protocol.pack_pose((x, y, z), (roll, pitch, yaw))

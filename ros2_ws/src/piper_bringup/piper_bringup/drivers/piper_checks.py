"""What must be true of an arm before it gets torque."""

from __future__ import annotations

import contextlib

import numpy as np

from piper_bringup.can import protocol
from piper_bringup.can.commands import Limits
from piper_bringup.can.firmware import NEW_ZERO, version_numbers
from piper_bringup.control.states import Array
from piper_bringup.drivers.piper_feedback import Feedback
from piper_twin.robot import DEG, GRIPPER_STROKE, JOINT_LIMITS
from vla_policy.errors import VlaError

OLDEST = (1, 5, 2)
"""First firmware that speaks this protocol (V2)."""
ANSWERED = 5.0
"""Answers are asked for once a second, and count for this long [s]."""
NARROWER, WIDER = 0.5 * DEG, 20.0 * DEG
"""How much an arm's limits may differ from ours [rad]: sources differ, but corrupted limits are far off."""
OLD_SHIFT = np.array([0.0, 2.0, -2.0, 0.0, 0.0, 0.0]) * DEG
"""An old firmware counts joint 2 and 3 from other zeros: its angles less ours."""

_SET_UP = "python -m piper_bringup.set_up_arm"


def zero_shift(software: str | None) -> Array:
    """The arm's angles less ours [rad], of joint 1 to 6; none while the firmware is unknown, for it is not enabled."""
    with contextlib.suppress(VlaError):
        if software is not None and version_numbers(software) < NEW_ZERO:
            return OLD_SHIFT
    return np.zeros(6)


def problems(arm: str, feedback: Feedback, max_velocity: float, now: float) -> list[str]:
    """What speaks against enabling one arm, each with its remedy.

    Args:
        arm: left or right.
        feedback: What the arm said.
        max_velocity: That the joints shall reach [rad/s].
        now: [s].
    """
    status = feedback.status
    if status is None or feedback.joint_frames is None:
        return [
            f"{arm} arm: no joint positions arrive; check power and CAN cable. An arm that was made a leader sends "
            f"none either: {_SET_UP} --role follower, then switch it off and on"
        ]
    since = now - ANSWERED
    found = [_firmware(feedback), _stroke(feedback.stroke(since)), *_limits(feedback, since, max_velocity)]
    return [f"{arm} arm: {problem}" for problem in found if problem]


def _firmware(feedback: Feedback) -> str | None:
    if feedback.software is None:
        return "it did not tell its firmware; wait a second and enable again, or switch the arm off and on"
    try:
        numbers = version_numbers(feedback.software)
    except VlaError as error:
        return str(error)
    if numbers < OLDEST:
        return f"its firmware {feedback.software} is older than S-V1.5-2; update it with AgileX's tool"
    return None


def _stroke(stroke: float | None) -> str | None:
    if stroke is None:
        return "it did not tell its gripper's stroke; wait a second and enable again"
    if stroke < GRIPPER_STROKE:
        told = "was never set" if stroke == 0.0 else f"is {stroke * 1000:.0f} mm"
        return f"its gripper's stroke {told}; set it once: {_SET_UP} --stroke 0.07 (V1) or 0.10 (V2)"
    return None


def _limits(feedback: Feedback, since: float, max_velocity: float) -> list[str]:
    told = feedback.limits(since)
    if missing := [motor for motor in protocol.MOTORS if motor not in told]:
        return [f"it did not tell the limits of joints {missing}; wait a second and enable again"]
    is_old = bool(zero_shift(feedback.software).any())
    narrower = NARROWER + (float(OLD_SHIFT.max()) if is_old else 0.0)
    wrong = [
        text
        for motor, (lower, upper) in zip(protocol.MOTORS, JOINT_LIMITS, strict=True)
        if (text := _misfit(told[motor], lower, upper, narrower, max_velocity))
    ]
    return [f"{text}; restore the factory's: {_SET_UP} --factory-limits" for text in wrong]


def _misfit(limits: Limits, lower: float, upper: float, narrower: float, max_velocity: float) -> str | None:
    told = [limits.lower, limits.upper, limits.max_velocity]
    if None in told:
        return f"joint {limits.motor} has no limits"
    low, high, speed = (float(value or 0.0) for value in told)
    if not (lower - WIDER <= low <= lower + narrower and upper - narrower <= high <= upper + WIDER):
        return (
            f"joint {limits.motor} is limited to {low / DEG:.1f} to {high / DEG:.1f} degrees, "
            f"here to {lower / DEG:.0f} to {upper / DEG:.0f}"
        )
    if speed < 0.99 * max_velocity:
        return f"joint {limits.motor} reaches {speed:.2f} rad/s, wanted are {max_velocity:.2f}"
    return None

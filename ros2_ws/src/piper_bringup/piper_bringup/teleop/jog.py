"""Jogging: a person without leader arms moves one tool at a time, along the world's axes.

A device (keyboard, gamepad) tells which way; here that becomes joint targets. What an arm cannot do is refused with a
word, and the targets stay where they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from piper_bringup.teleop.posture import Posture
from piper_bringup.teleop.source import Request, Tell
from piper_bringup.teleop.tool import joints_for, tool_pose
from piper_twin.guard import DistanceGuard
from piper_twin.moves import ToolPose, Unreachable
from piper_twin.robot import ARMS, GRIPPER_STROKE, HOME, MAX_JOINT_VELOCITY, arm_slice
from vla_policy.types import Vector

Array = npt.NDArray[np.float64]

NEXT_ARM = "next arm"
FASTER = "faster"
SLOWER = "slower"
HELP = "help"

LINEAR_SPEED = 0.2
"""Of the tool [m/s] at full speed."""
TURN_SPEED = 1.0
"""Of the tool [rad/s] at full speed."""
GRIPPER_SPEED = 0.1
"""Of the opening [m/s] at full speed."""
HOME_SPEED = 0.5
"""Of the joints on their way home [rad/s] at full speed."""
JOINT_SPEED = 0.5 * MAX_JOINT_VELOCITY
"""No joint moves faster for a tool [rad/s]: near a stretched arm the tool slows down instead."""
SPEEDS = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Shares of full speed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """Which way to move, each in -1..1 as a share of its speed."""

    x: float = 0.0
    """Away from the bases, in the world."""
    y: float = 0.0
    """To the left."""
    z: float = 0.0
    """Up."""
    roll: float = 0.0
    """About the tool's axis."""
    tilt: float = 0.0
    """The tip outwards."""
    gripper: float = 0.0
    """Open."""
    home: float = 0.0
    """Towards the home posture, joint by joint; nothing else happens meanwhile."""

    @property
    def moves_tool(self) -> bool:
        """Whether inverse kinematics is needed."""
        return any((self.x, self.y, self.z, self.roll, self.tilt))


STILL = Motion()


class JogDevice(Protocol):
    """Something a hand moves."""

    help: str
    """What to press, a line or more."""

    def poll(self, now: float) -> tuple[Motion, Sequence[str]]:
        """Which way to move at `now` [s], and what was asked for since: a command of this module or a service."""
        ...

    def close(self) -> None:
        """Leave the device."""
        ...


def moved(pose: ToolPose, motion: Motion, speed: float, duration: float) -> ToolPose:
    """Where a motion at a share `speed` of full speed brings a tool within `duration` [s]."""
    assert pose.yaw is not None, "a pose to jog from says where the tip leans"
    away, turn = LINEAR_SPEED * speed * duration, TURN_SPEED * speed * duration
    return dataclasses.replace(
        pose,
        x=pose.x + motion.x * away,
        y=pose.y + motion.y * away,
        z=pose.z + motion.z * away,
        roll=pose.roll + motion.roll * turn,
        tilt=pose.tilt + motion.tilt * turn,
    )


class JogSource:
    """Turns a device's motions into joint targets of the arm that has its turn."""

    interval = 0.02

    def __init__(self, device: JogDevice, tell: Tell, request: Request, speed: float = 0.5) -> None:
        """Start with the first arm.

        Args:
            device: What the operator holds.
            tell: Says why something was refused, and what has changed.
            request: Calls the services that the device asks for.
            speed: The share of full speed nearest to this.
        """
        self._device, self._tell, self._request = device, tell, request
        self._arm = ARMS[0]
        self._level = int(np.argmin(np.abs(np.array(SPEEDS) - speed)))
        self._posture = Posture()
        self._poses: dict[str, ToolPose] = {}
        self._distance = DistanceGuard()
        self._told: set[str] = set()
        joints_for(self._arm, tool_pose(self._arm, HOME[:6]), HOME[:6])  # loads the solver: not while a key is held
        tell(device.help)

    def start(self, state: Vector, now: float, world: Mapping[str, object]) -> str:
        """Go on from where the robot is."""
        del world
        for arm in self._posture.observe(state, now):
            self._poses.pop(arm, None)
        return f"jogging the {self._arm} arm at {SPEEDS[self._level]:.0%} of full speed"

    def targets(self, state: Vector | None, now: float) -> Vector | None:
        """The targets moved on by what the device tells, shape (2, 14)."""
        motion, asked = self._device.poll(now)
        for word in asked:
            self._heed(word)
        if state is None:
            return None
        for arm in self._posture.observe(state, now):
            self._poses.pop(arm, None)
        if motion == STILL:
            self._told.clear()
        else:
            self._move(motion)
        return self._posture.rows

    def close(self) -> None:
        """Leave the device."""
        self._device.close()

    def _heed(self, word: str) -> None:
        if word == NEXT_ARM:
            self._arm = ARMS[(ARMS.index(self._arm) + 1) % len(ARMS)]
            self._tell(f"the {self._arm} arm")
        elif word in (FASTER, SLOWER):
            self._level = min(max(0, self._level + (1 if word == FASTER else -1)), len(SPEEDS) - 1)
            self._tell(f"{SPEEDS[self._level]:.0%} of full speed")
        elif word == HELP:
            self._tell(self._device.help)
        else:
            self._request(word)

    def _move(self, motion: Motion) -> None:
        before, pose = self._posture.arm(self._arm), self._poses.get(self._arm)
        speed, elapsed = SPEEDS[self._level], self._posture.elapsed
        wanted = np.array(before)
        opening = before[6] + motion.gripper * GRIPPER_SPEED * speed * elapsed
        wanted[6] = min(max(0.0, opening), GRIPPER_STROKE)
        if motion.home:
            wanted[:6], pose = before[:6] + _towards(HOME[:6] - before[:6], HOME_SPEED * speed * elapsed), None
        elif motion.moves_tool:
            try:
                pose, wanted[:6] = self._led(pose or tool_pose(self._arm, before[:6]), motion, before[:6])
            except Unreachable as error:
                self._refuse(str(error))
        if not self._keeps_distance(wanted):
            return
        self._posture.move(self._arm, wanted)
        self._poses.pop(self._arm, None)
        if pose is not None:
            self._poses[self._arm] = pose

    def _led(self, pose: ToolPose, motion: Motion, near: Array) -> tuple[ToolPose, Array]:
        """Tool pose and joints (6,) after the motion; slower where joints would turn too fast."""
        speed, elapsed = SPEEDS[self._level], self._posture.elapsed
        for _ in range(3):
            goal = moved(pose, motion, speed, elapsed)
            joints = joints_for(self._arm, goal, near)
            excess = float(np.abs(joints - near).max()) / (JOINT_SPEED * elapsed + 1e-9)
            if excess <= 1.0:
                return goal, joints
            speed *= 0.9 / excess
        raise Unreachable(f"the {self._arm} arm is stretched out or folded there; move another way, or home")

    def _keeps_distance(self, wanted: Array) -> bool:
        """Whether the arm may go there; the robot's own guard judges again."""
        before = self._posture.values
        after = np.array(before)
        after[arm_slice(self._arm)] = wanted
        reason = self._distance.violation(after, before)
        if reason is not None:
            self._refuse(f"{reason}; move another way")
        return reason is None

    def _refuse(self, why: str) -> None:
        """Say it once a motion, not at every step of it."""
        if why not in self._told:
            self._tell(why)
        self._told.add(why)


def _towards(way: Array, longest: float) -> Array:
    """As much of a way in joint space as its fastest joint may go, all joints in step."""
    return way * min(1.0, longest / max(float(np.abs(way).max()), 1e-9))

"""Leader arms: a person moves two Pipers by hand, and the robot follows, joint by joint.

A Piper in the leader role sends its joints as the commands that a follower on its own bus would take (0x155 to 0x157,
gripper 0x159); they are only read here, nothing is ever sent to a leader. Each leader needs a CAN adapter of its own:
on a follower's bus one would read what the robot itself commands.

The clutch: an arm follows its leader from the moment the two meet. Where they stand apart it comes nearer slowly, or,
with an approach speed of 0, waits for the leader to be brought to it. A leader that falls silent opens the clutch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import can
import numpy as np
import numpy.typing as npt

from piper_bringup.can import bus as can_bus
from piper_bringup.can.commands import GripperTarget
from piper_bringup.can.protocol import (
    GRIPPER,
    GRIPPER_TARGET,
    JOINT_TARGETS,
    JOINTS,
    GripperState,
    unpack_pair,
)
from piper_bringup.teleop.posture import Posture
from piper_bringup.teleop.source import Tell
from piper_twin.robot import arm_slice
from vla_policy.errors import VlaError
from vla_policy.types import Vector

Array = npt.NDArray[np.float64]

SILENCE = 0.2
"""A leader that has not sent its joints for that long is silent [s]."""
MEETING = math.radians(3.0)
"""Leader and follower have met when no joint differs by more [rad]."""
LEAD = 0.08
"""While an arm comes near, its targets wait for it when they are that far ahead [rad]: when a held arm is released it
takes no bigger step."""

Frames = Literal["control", "feedback"]
"""control: the commands that an arm in the leader role sends. feedback: the joints of any arm moved by hand."""

_FRAMES_A_READ = 2000
"""More than a bus carries between two reads; bounds the time a read can take."""


_FRAMES: dict[str, tuple[tuple[int, ...], int, Callable[[bytes], GripperState | GripperTarget]]] = {
    "control": (JOINT_TARGETS, GRIPPER_TARGET, GripperTarget.decode),
    "feedback": (JOINTS, GRIPPER, GripperState.decode),
}


class LeaderArm:
    """What one leader says of its joints."""

    def __init__(self, bus: can.BusABC, frames: Frames = "control", offset: int = 0) -> None:
        """Listen.

        Args:
            bus: Closed with this.
            frames: Which frames tell the joints.
            offset: By how much the leader's frame identifiers are raised, as set with 0x470.
        """
        joints, gripper, decode = _FRAMES[frames]
        self._bus, self._decode = bus, decode
        self._pairs = {id + offset: place for place, id in enumerate(joints)}
        self._gripper = gripper + offset
        self._pose: Array = np.full(7, np.nan)
        self._heard = [-math.inf] * len(joints)

    def read(self, now: float) -> Array | None:
        """Joints [rad] and gripper [m] (7,) of the leader at `now` [s]; None while it is silent.

        The gripper is NaN until the leader has sent it: a leader may have none.
        """
        for message in self._arrived():
            data = bytes(message.data)
            if message.arbitration_id in self._pairs:
                place = self._pairs[message.arbitration_id]
                self._pose[2 * place : 2 * place + 2] = unpack_pair(data)
                self._heard[place] = now
            elif message.arbitration_id == self._gripper:
                self._pose[6] = self._decode(data).opening
        return np.array(self._pose) if now - min(self._heard) <= SILENCE else None

    def _arrived(self) -> list[can.Message]:
        """Classic frames of 8 bytes that came since the last read; none while the bus is down."""
        messages: list[can.Message] = []
        try:
            for _ in range(_FRAMES_A_READ):
                message = self._bus.recv(timeout=0.0)
                if message is None:
                    break
                is_data = not (message.is_error_frame or message.is_remote_frame or message.is_extended_id)
                if is_data and len(message.data) == 8:
                    messages.append(message)
        except (can.CanError, OSError):
            pass
        return messages

    def close(self) -> None:
        """Leave the bus."""
        self._bus.shutdown()


def open_leaders(
    channels: Mapping[str, str], interface: str, frames: Frames = "control", offset: int = 0
) -> dict[str, LeaderArm]:
    """Arm to its leader.

    Args:
        channels: Arm to the CAN channel of its leader.
        interface: python-can's name for the kind of channel.
        frames: As in `LeaderArm`.
        offset: As in `LeaderArm`.

    Raises:
        VlaError: a channel cannot be opened.
    """
    can_bus.register()
    leaders: dict[str, LeaderArm] = {}
    for arm, channel in channels.items():
        try:
            leaders[arm] = LeaderArm(can.Bus(channel=channel, interface=interface), frames, offset)
        except (can.CanError, OSError, ValueError) as error:
            for leader in leaders.values():
                leader.close()
            raise VlaError(
                f"the {arm} leader's channel {channel} ({interface}) cannot be opened: {error}; plug its adapter in "
                "and bring it up (ip link set CHANNEL up type can bitrate 1000000)"
            ) from error
    return leaders


class LeaderSource:
    """Lets each arm follow its leader."""

    interval = 0.02

    def __init__(self, leaders: Mapping[str, LeaderArm], tell: Tell, approach_speed: float = 0.3) -> None:
        """Begin with open clutches.

        Args:
            leaders: Arm to its leader; an arm without one holds still.
            tell: Says when an arm begins and ends to follow.
            approach_speed: How fast an arm comes near its leader before it follows [rad/s]; 0: it waits.
        """
        self._leaders, self._tell, self._approach_speed = leaders, tell, approach_speed
        self._posture = Posture()
        self._following: set[str] = set()
        self._told: dict[str, str] = {}

    def start(self, state: Vector, now: float, world: Mapping[str, object]) -> str:
        """Open the clutches."""
        del world
        self._posture.observe(state, now)
        self._following.clear()
        self._told.clear()
        return f"each arm follows its leader once they have met ({', '.join(self._leaders)})"

    def targets(self, state: Vector | None, now: float) -> Vector | None:
        """The leaders' joints as far as the arms may follow them, shape (2, 14)."""
        poses = {arm: leader.read(now) for arm, leader in self._leaders.items()}
        if state is None:
            return None
        for arm in self._posture.observe(state, now):
            self._following.discard(arm)
        for arm, pose in poses.items():
            self._follow(arm, pose, state[arm_slice(arm)].astype(np.float64))
        return self._posture.rows

    def _follow(self, arm: str, leader: Array | None, measured: Array) -> None:
        if leader is None:
            self._following.discard(arm)
            self._say(arm, f"the {arm} leader is silent: the arm holds; check its cable, power and role")
            return
        wanted = np.where(np.isfinite(leader), leader, self._posture.arm(arm))
        if np.abs(wanted - measured)[:6].max() <= MEETING:
            self._following.add(arm)
        if arm in self._following:
            self._say(arm, f"the {arm} arm follows its leader")
            self._posture.move(arm, wanted)
        elif self._approach_speed > 0.0:
            self._say(arm, f"the {arm} arm comes near its leader slowly")
            target = self._posture.arm(arm)
            near = np.where(np.abs(target - measured) < LEAD, wanted, target)
            self._posture.move(arm, near, self._approach_speed)
        else:
            self._say(arm, f"bring the {arm} leader to the posture of its arm")

    def _say(self, arm: str, text: str) -> None:
        if self._told.get(arm) != text:
            self._tell(text)
        self._told[arm] = text

    def close(self) -> None:
        """Leave the leaders' buses."""
        for leader in self._leaders.values():
            leader.close()

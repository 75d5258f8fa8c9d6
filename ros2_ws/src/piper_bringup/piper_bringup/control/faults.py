"""What can be wrong with a robot, what it means and what recovers it: one table, from which the documentation is made.

A fault that holds is latched: the robot stays held after it has gone, until the operator releases it.
"""

from __future__ import annotations

import dataclasses
import enum


class Reaction(enum.Enum):
    """What the robot does about a fault."""

    HOLD = "hold"
    """Brake, keep sending the last measured pose, wait for the operator's release."""
    PAUSE = "pause"
    """Brake and stay where it was sent; the next good chunk moves it again."""
    REFUSE = "refuse"
    """Leave out this one chunk or command; nothing else changes."""
    WARN = "warn"
    """Say so."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """One row of the table."""

    meaning: str
    remedy: str
    """What the operator does; a robot that was held is released after it."""
    reaction: Reaction = Reaction.HOLD
    is_limp: bool = False
    """The arm does not follow commands meanwhile: the pose to hold follows the arm, so that nothing jumps later."""
    recoverable: bool = True
    """False: only power off and on, or service, clears it."""
    stops_driver: bool = False
    """The control loop's commands do not get through: the driver holds the arms by its own way to the bus."""
    ends_with_enabling: bool = False
    """No wonder while the robot is disabled, and no obstacle to releasing it: enabling is what clears it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong right now."""

    name: str
    """A key of `FAULTS`."""
    message: str
    """Where and how much: "left arm, joint 3 driver at 85 degrees Celsius"."""

    @property
    def kind(self) -> FaultKind:
        """Its row of the table."""
        return FAULTS[self.name]

    @property
    def recoverable(self) -> bool:
        """Whether the operator can clear it with the arm powered."""
        return self.kind.recoverable

    def __str__(self) -> str:
        return f"{self.name}: {self.message}; {self.kind.remedy}"


_POWER_CYCLE = "support the arm, switch its power off and on, enable again"
_LOOK = "look what it met, clear the way, release"
_POLICY = "check the policy"

FAULTS: dict[str, FaultKind] = {
    # The operator and the process itself
    "stopped": FaultKind(meaning="Somebody asked for a stop.", remedy="make sure the cell is safe, release"),
    "shutdown": FaultKind(
        meaning="robot_node ends. The arms hold what they were sent last, torque stays on.",
        remedy="start robot_node again and enable; park the arms before switching their power off",
    ),
    "not_following": FaultKind(
        meaning="The measured joints stay far from what is sent: something blocks an arm, or it ignores commands.",
        remedy=_LOOK + "; if nothing was met, check the CAN adapter and the arm's mode",
    ),
    "implausible_feedback": FaultKind(
        meaning="The measured joints are not finite, or far beyond the arm's limits.",
        remedy="check the zero positions and the CAN wiring; power the arm off and on",
    ),
    "loop_stalled": FaultKind(
        meaning="The control loop did not run for a while; the driver held the arms by itself.",
        remedy="take load off the computer (see jitter in the diagnostics), release",
    ),
    "internal_error": FaultKind(
        meaning="A bug: the control loop or its driver raised an error.",
        remedy="report it with the log; release",
    ),
    "clock_jump": FaultKind(
        meaning="The clock that stamps messages jumped, so their ages mean nothing.",
        remedy="let the clocks settle (chrony or NTP on all machines), release",
    ),
    # CAN
    "bus_silent": FaultKind(
        meaning="Nothing at all arrives from an arm: power, cable, adapter, or bus-off.",
        remedy="check the arm's power, the cable and `ip -details link show`; bring the interface up again, release",
        is_limp=True,
    ),
    "feedback_lost": FaultKind(
        meaning="One kind of message has not come for longer than allowed.",
        remedy="check the named joint's cable and the bus load; release when the messages are back",
    ),
    "feedback_late": FaultKind(
        meaning="One kind of message is late, but not yet for too long.",
        remedy="check the bus load and the computer's load",
        reaction=Reaction.WARN,
    ),
    "send_failed": FaultKind(
        meaning="Frames cannot be sent: the interface is down or its buffer full (bus-off, no arm acknowledges).",
        remedy="check the cable and `ip -details link show`; bring the interface up again, release",
    ),
    "sender_stalled": FaultKind(
        meaning="The thread that sends to an arm hangs; the stop path, which shares nothing with it, holds the arm.",
        remedy="restart robot_node; the arms keep holding meanwhile",
        recoverable=False,
        stops_driver=True,
    ),
    # What an arm says of itself
    "emergency_stop": FaultKind(
        meaning="The arm was stopped at the arm; it sinks, damped, and does not follow.",
        remedy=_POWER_CYCLE,
        is_limp=True,
    ),
    "joint_disabled": FaultKind(
        meaning="A joint's motor lost its torque.",
        remedy="support the arm, release, enable again",
        is_limp=True,
        ends_with_enabling=True,
    ),
    "gripper_disabled": FaultKind(
        meaning="A gripper's motor lost its torque.",
        remedy="release, enable again",
        is_limp=True,
        ends_with_enabling=True,
    ),
    "gripper_error": FaultKind(
        meaning="A gripper reports an error of its motor or sensor.", remedy="free the gripper, let it cool, release"
    ),
    "collision": FaultKind(meaning="The arm felt a collision.", remedy=_LOOK),
    "stall": FaultKind(meaning="A joint's motor is blocked.", remedy=_LOOK),
    "joint_error": FaultKind(
        meaning="A joint's driver reports an error.", remedy=_POWER_CYCLE, recoverable=False, is_limp=True
    ),
    "joint_communication": FaultKind(
        meaning="The arm's controller lost a joint.", remedy=_POWER_CYCLE, recoverable=False, is_limp=True
    ),
    "brake_closed": FaultKind(meaning="A joint's brake is not released.", remedy=_POWER_CYCLE, recoverable=False),
    "undervoltage": FaultKind(meaning="A motor's supply is too low.", remedy="check the power supply, release"),
    "overcurrent": FaultKind(meaning="A motor draws too much current.", remedy=_LOOK),
    "overheated": FaultKind(
        meaning="A motor, its driver or the controller is too hot.", remedy="let the arm rest until it is cool, release"
    ),
    "joint_limit": FaultKind(
        meaning="A joint stands at or beyond its limit.",
        remedy="release, then move it back; check that the arm's limits are those of this project",
        reaction=Reaction.WARN,
    ),
    "target_refused": FaultKind(
        meaning="The arm refuses its target as over a limit.",
        remedy="compare the arm's joint limits with those of this project, release",
    ),
    "teaching": FaultKind(
        meaning="The arm is in teaching mode (its button was pressed).",
        remedy="leave teaching mode with the button on the arm, release",
        is_limp=True,
    ),
    "leader_role": FaultKind(
        meaning="The arm is set up as a leader and listens to nobody.",
        remedy="set it to follow (python -m piper_bringup.set_up_arm --role follower), then switch it off and on",
        is_limp=True,
    ),
    "not_can_controlled": FaultKind(
        meaning="The arm left CAN control (standby, Ethernet, ...).",
        remedy="close other programs that talk to it, release, enable again",
        is_limp=True,
        ends_with_enabling=True,
    ),
    "arm_status": FaultKind(
        meaning="The arm reports a status that this driver has no better name for.", remedy=_POWER_CYCLE
    ),
    # The twin
    "world_reset": FaultKind(
        meaning="The twin's world was reset: other arms stand at its start, without torque.",
        remedy="release, enable again",
        is_limp=True,
        ends_with_enabling=True,
    ),
    "world_broken": FaultKind(
        meaning="The twin's physics broke down; its world stands still.",
        remedy="reset the world (/world/reset), release, enable again",
        is_limp=True,
    ),
    # Before enabling
    "not_ready": FaultKind(
        meaning="A check before enabling failed: firmware, role, limits, gripper stroke or status.",
        remedy="do what the check says, enable again",
        reaction=Reaction.REFUSE,
    ),
    "enable_timeout": FaultKind(
        meaning="Not every joint took torque in time.",
        remedy="check the arm's emergency stop and power, enable again",
        reaction=Reaction.REFUSE,
    ),
    # Chunks
    "no_commands": FaultKind(
        meaning="The last chunk is spent and no other came: policy, camera or teleoperation died or is too slow.",
        remedy="restart it; the next chunk moves the robot on",
        reaction=Reaction.PAUSE,
    ),
    "not_accepting": FaultKind(
        meaning="A chunk came while the robot is disabled or held.",
        remedy="enable or release",
        reaction=Reaction.REFUSE,
    ),
    "malformed_chunk": FaultKind(
        meaning="Wrong names, lengths or times in a chunk.", remedy=_POLICY, reaction=Reaction.REFUSE
    ),
    "not_finite": FaultKind(meaning="NaN or infinity in a chunk.", remedy=_POLICY, reaction=Reaction.REFUSE),
    "stale_chunk": FaultKind(
        meaning="A chunk answers an observation that is too old, older than the last release, or is spent already.",
        remedy="make the policy faster, or its chunks longer",
        reaction=Reaction.REFUSE,
    ),
    "future_chunk": FaultKind(
        meaning="A chunk answers an observation that has not been made yet.",
        remedy="synchronise the clocks of the machines",
        reaction=Reaction.REFUSE,
    ),
    "superseded_chunk": FaultKind(
        meaning="A chunk answers an older observation than the one that is played.",
        remedy="run one policy at a time",
        reaction=Reaction.REFUSE,
    ),
    "too_near": FaultKind(
        meaning="A command would bring the arms too near each other or the table.",
        remedy="the robot brakes and waits for a target that keeps the distance",
        reaction=Reaction.REFUSE,
    ),
}  # fmt: skip
"""Name to what it means."""

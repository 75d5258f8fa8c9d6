"""Which ways of leading the robot there are, and what they need to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from piper_bringup.teleop.expert import ExpertSource
from piper_bringup.teleop.gamepad import Gamepad
from piper_bringup.teleop.jog import JogSource
from piper_bringup.teleop.keyboard import Keyboard
from piper_bringup.teleop.source import Request, TeleopSource, Tell
from piper_twin.robot import ARMS
from vla_policy.errors import VlaError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeleopConfig:
    """How the robot is led."""

    source: Literal["leader", "keyboard", "gamepad", "expert"]
    """leader: two Pipers moved by hand. keyboard, gamepad: one tool at a time. expert: the twin's scripted expert,
    played when /policy/run is called."""
    left_channel: str = "can_leader_left"
    """CAN channel of the left arm's leader; empty: it has none and holds still."""
    right_channel: str = "can_leader_right"
    """CAN channel of the right arm's leader."""
    leader_interface: str = "socketcan"
    """python-can interface of the leaders' channels: socketcan, or piper_loopback for emulated leaders."""
    leader_frames: Literal["control", "feedback"] = "control"
    """control: the commands that an arm in the leader role sends. feedback: the joints of any arm moved by hand."""
    leader_offset: int = 0
    """By how much the leaders' frame identifiers are raised: 0, 16 or 32, as set with 0x470."""
    approach_speed: float = 0.3
    """How fast an arm comes near its leader before it follows [rad/s]; 0: the leader must be brought to the arm."""
    terminal: Path = Path("/dev/tty")
    """Where the keyboard is read."""
    gamepad: Path = Path("/dev/input/js0")
    """Joystick device of the gamepad."""
    speed: float = 0.5
    """Share of full jogging speed at the start, 0.05 to 1."""
    max_joint_age: float = 0.2
    """Older joint states are not acted on [s]."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.source == "leader" and not self.leader_channels():
            raise VlaError("no leader has a channel; give left_channel or right_channel")
        if self.leader_offset not in (0, 16, 32):
            raise VlaError(f"leader_offset is {self.leader_offset}; a Piper knows 0, 16 and 32")
        if not self.approach_speed >= 0.0:
            raise VlaError(f"approach_speed is {self.approach_speed}; give 0 or more")
        if not 0.0 < self.speed <= 1.0:
            raise VlaError(f"speed is {self.speed}; give a share of full speed up to 1")
        if not self.max_joint_age > 0.0:
            raise VlaError(f"max_joint_age is {self.max_joint_age}; give more than 0")

    def leader_channels(self) -> dict[str, str]:
        """Arm to the CAN channel of its leader."""
        channels = {arm: str(getattr(self, f"{arm}_channel")) for arm in ARMS}
        return {arm: channel for arm, channel in channels.items() if channel}


def _leader(config: TeleopConfig, tell: Tell, request: Request) -> TeleopSource:
    from piper_bringup.teleop.leader import LeaderSource, open_leaders  # python-can, on a robot's computer only

    del request
    leaders = open_leaders(
        config.leader_channels(), config.leader_interface, config.leader_frames, config.leader_offset
    )
    return LeaderSource(leaders, tell, config.approach_speed)


def _keyboard(config: TeleopConfig, tell: Tell, request: Request) -> TeleopSource:
    return JogSource(Keyboard(config.terminal), tell, request, config.speed)


def _gamepad(config: TeleopConfig, tell: Tell, request: Request) -> TeleopSource:
    return JogSource(Gamepad(config.gamepad, tell), tell, request, config.speed)


def _expert(config: TeleopConfig, tell: Tell, request: Request) -> TeleopSource:
    del config, request
    return ExpertSource(tell)


SOURCES: dict[str, Callable[[TeleopConfig, Tell, Request], TeleopSource]] = {
    "leader": _leader,
    "keyboard": _keyboard,
    "gamepad": _gamepad,
    "expert": _expert,
}
"""Parameter `source` -> what makes it."""

"""What differs between emulated arms, and what no source settles about real ones."""

from __future__ import annotations

from dataclasses import dataclass

from piper_bringup.emulator.registers import VENDOR_ACKNOWLEDGED
from piper_twin.robot import GRIPPER_STROKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSettings:
    """One arm."""

    software: str = "S-V1.8-5"
    """Firmware version."""
    stroke: float = GRIPPER_STROKE
    """Of the gripper [m]; 0: never set."""
    is_leader: bool = False
    enable_delay: float = 0.2
    """From asking for torque to having it [s]."""
    reply_delay: float = 0.001
    """Of answers [s]."""
    firmware_delay: float = 0.004
    """Of the firmware's answer [s]: piper_sdk loses it when it comes at once."""
    acknowledged: frozenset[int] = VENDOR_ACKNOWLEDGED
    """Commands answered by an acknowledgement."""
    smooths: bool = True
    """In MOVE J stop at every target, within the acceleration limits. False for a plant whose servos smooth: targets
    are then followed as fast as the speed limits allow."""

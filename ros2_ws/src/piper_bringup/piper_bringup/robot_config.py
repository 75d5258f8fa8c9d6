"""What the robot's process is started with, beside what its driver and its control loop take."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError

DriverName = Literal["fake", "twin", "piper"]

CAREFUL_PERCENT = 30
"""Of the joints' largest speed, unless told otherwise, for arms that are not simulated."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RobotConfig:
    """Which robot, and how fast it may be."""

    driver: DriverName = "fake"
    """fake (arithmetic), twin (MuJoCo) or piper (two arms on CAN, real or emulated)."""
    speed_percent: int | None = None
    """Of the joints' largest speed, 1 to 100; 30 for driver piper and 100 for the others unless told."""
    realtime_priority: int = 0
    """Of the control thread under SCHED_FIFO, 1 to 99; 0, or where the system does not permit it: an ordinary one."""

    def __post_init__(self) -> None:
        """Refuse what is no percentage or priority."""
        if self.speed_percent is not None and not 1 <= self.speed_percent <= 100:
            raise VlaError(f"speed_percent is {self.speed_percent}; it must be 1 to 100")
        if not 0 <= self.realtime_priority <= 99:
            raise VlaError(f"realtime_priority is {self.realtime_priority}; it must be 0 to 99")

    @property
    def speed(self) -> int:
        """[%]."""
        if self.speed_percent is not None:
            return self.speed_percent
        return CAREFUL_PERCENT if self.driver == "piper" else 100


def slowed(embodiment: Embodiment, percent: int) -> Embodiment:
    """The robot with its joints, not its grippers, limited to a share of their largest speed."""
    joints = tuple(
        joint if joint.is_gripper else dataclasses.replace(joint, max_velocity=joint.max_velocity * percent / 100.0)
        for joint in embodiment.joints
    )
    return dataclasses.replace(embodiment, joints=joints)

"""What the robot's process is started with, beside what its driver and its control loop take."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError

DriverName = Literal["fake", "twin", "piper"]

CAREFUL_PERCENT = 30
"""Of the joints' largest speed, unless told otherwise, for arms that are not simulated."""
ARMS_PRIORITY = 20
"""Of their process, unless told otherwise."""
MARGIN = 0.005
"""Kept from the joint limits of arms [rad]."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RobotConfig:
    """Which robot, and how fast it may be."""

    driver: DriverName = "fake"
    """fake (arithmetic), twin (MuJoCo) or piper (two arms on CAN, real or emulated)."""
    speed_percent: int | None = None
    """Of the joints' largest speed, 1 to 100; 30 for driver piper and 100 for the others unless told."""
    realtime_priority: int | None = None
    """Of this process's threads under SCHED_FIFO, 1 to 89, 0: ordinary ones; unless told 20 for driver piper and 0 for
    the others. Where the system does not permit it they are ordinary ones (the diagnostics tell)."""

    def __post_init__(self) -> None:
        """Refuse what is no percentage or priority."""
        if self.speed_percent is not None and not 1 <= self.speed_percent <= 100:
            raise VlaError(f"speed_percent is {self.speed_percent}; it must be 1 to 100")
        if self.realtime_priority is not None and not 0 <= self.realtime_priority <= 89:
            raise VlaError(f"realtime_priority is {self.realtime_priority}; it must be 0 to 89")

    @property
    def speed(self) -> int:
        """[%]."""
        if self.speed_percent is not None:
            return self.speed_percent
        return CAREFUL_PERCENT if self.driver == "piper" else 100

    @property
    def priority(self) -> int:
        """Of the threads of this process."""
        if self.realtime_priority is not None:
            return self.realtime_priority
        return ARMS_PRIORITY if self.driver == "piper" else 0

    def limited(self, embodiment: Embodiment) -> Embodiment:
        """The robot with its joints limited to the speed; arms stay clear of their own limits, where they would stop.

        Grippers are as they are.
        """
        margin = MARGIN if self.driver == "piper" else 0.0
        joints = tuple(
            joint
            if joint.is_gripper
            else dataclasses.replace(
                joint,
                lower=joint.lower + margin,
                upper=joint.upper - margin,
                max_velocity=joint.max_velocity * self.speed / 100.0,
            )
            for joint in embodiment.joints
        )
        return dataclasses.replace(embodiment, joints=joints)

"""Which joints of an emulated arm have torque."""

from __future__ import annotations

from collections.abc import Iterable

from piper_twin.robot import DOF

GRIPPER_JOINT = 6
"""Its place among the seven joints."""
REST = {1: 0.0, 2: 0.0}
"""Joints (counted from 0) that gravity moves, and where they come to rest [rad]."""


class Torque:
    """Torque of six joints and the gripper."""

    def __init__(self) -> None:
        """None, and somebody supports the arm."""
        self.enabled = [False] * DOF
        self.is_supported = True
        """False from the first fall on."""
        self.ignored_asks = 0
        """How many of the next ones have no effect."""
        self._coming: dict[int, float] = {}

    def ask(self, joints: Iterable[int], due: float) -> None:
        """Give torque at `due` [s] to joints that have none."""
        if self.ignored_asks:
            self.ignored_asks -= 1
            return
        for joint in joints:
            if not self.enabled[joint]:
                self._coming.setdefault(joint, due)

    def arrived(self, now: float) -> list[int]:
        """Joints that have torque from now on."""
        joints = [joint for joint, due in self._coming.items() if now >= due]
        for joint in joints:
            del self._coming[joint]
            self.enabled[joint] = True
        return joints

    def cut(self, joints: Iterable[int]) -> bool:
        """Take torque away; true when the arm falls."""
        falls = False
        for joint in joints:
            falls |= self.enabled[joint] and joint in REST
            self.enabled[joint] = False
            self._coming.pop(joint, None)
        self.is_supported &= not falls
        return falls

    def is_limp(self, joint: int) -> bool:
        """Whether gravity has its way with a joint."""
        return not self.enabled[joint] and not self.is_supported

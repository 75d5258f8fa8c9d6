"""Two Pipers as one robot, through piper_sdk; real ones, or emulated ones that the SDK cannot tell from them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from piper_bringup.control.faults import Fault
from piper_bringup.drivers.piper_arm import ArmSettings, PiperArm
from piper_bringup.drivers.piper_bus import BusConfig
from piper_twin.robot import ARMS, arm_slice
from vla_policy.errors import VlaError
from vla_policy.types import Vector


class PiperDriver:
    """Commands are sent in MOVE J, position and velocity mode. Never disables torque and never resets."""

    def __init__(self, bus: BusConfig, settings: ArmSettings, speed: int) -> None:
        """Connect to both arms; they stay as they are.

        Args:
            bus: How they are wired.
            settings: What they are told beside where to go.
            speed: Of the joints, as a share of the largest [%].
        """
        self._arms: dict[str, PiperArm] = {}
        try:
            for arm in ARMS:
                self._arms[arm] = PiperArm(arm, getattr(bus, f"{arm}_channel"), bus, settings, speed)
        except VlaError:
            self.close()
            raise

    def read(self) -> Vector:
        """Measured joints [rad], grippers [m], shape (14,); NaN until they have come."""
        return np.concatenate([arm.read() for arm in self._arms.values()]).astype(np.float32)

    def write(self, command: npt.NDArray[np.floating[Any]]) -> None:
        """Hand a command to the senders."""
        targets = np.array(command, np.float64)
        for name, arm in self._arms.items():
            arm.write(targets[arm_slice(name)])

    def hold(self) -> None:
        """Command the measured pose, as far as it is known."""
        measured = self.read()
        if np.isfinite(measured).all():
            self.write(measured)

    def close(self) -> None:
        """Leave both buses; the arms hold what they were sent last."""
        for arm in self._arms.values():
            arm.close()

    def faults(self, now: float) -> list[Fault]:
        """Of both arms."""
        return [fault for arm in self._arms.values() for fault in arm.faults(now)]

    def checks(self) -> list[str]:
        """Of both arms."""
        now = time.monotonic()
        return [problem for arm in self._arms.values() for problem in arm.checks(now)]

    def report(self, now: float) -> dict[str, object]:
        """Of both arms, each value by the arm's name."""
        values = {f"{name}_{key}": value for name, arm in self._arms.items() for key, value in arm.report(now).items()}
        return {"driver": "piper", **values}

    def enable(self) -> None:
        """Wish for torque on both arms."""
        for arm in self._arms.values():
            arm.enable()

    def enabled(self) -> bool:
        """Whether both arms have torque."""
        return all(arm.enabled() for arm in self._arms.values())

    def stop(self) -> None:
        """Hold both arms where they are."""
        for arm in self._arms.values():
            arm.stop()

    def resume(self) -> None:
        """Take commands again."""
        for arm in self._arms.values():
            arm.resume()

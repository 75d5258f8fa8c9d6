"""The seam between the control loop and whatever has joints."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from piper_bringup.control.faults import Fault
from vla_policy.types import Robot


class Driver(Robot, Protocol):
    """Both arms as one robot. A driver that exists is connected; nothing here blocks, and nothing disables torque.

    The control loop calls everything but `stop`, which any thread may call at any time.
    """

    def write(self, command: npt.NDArray[np.floating[Any]]) -> None:
        """Send joint targets [rad], grippers [m], shape (num_joints,); they stay valid until the next ones."""
        ...

    def faults(self, now: float) -> list[Fault]:
        """What is wrong at `now` [s]; empty: healthy."""
        ...

    def checks(self) -> list[str]:
        """What speaks against enabling, each a sentence with its remedy; empty: the robot may be enabled."""
        ...

    def report(self, now: float) -> dict[str, object]:
        """What the diagnostics shall tell at `now` [s]: firmware, ages of messages, temperatures; any thread."""
        ...

    def enable(self) -> None:
        """Ask for torque on every joint; called every tick, beside `write`, until `enabled` or given up."""
        ...

    def enabled(self) -> bool:
        """Whether every joint has torque."""
        ...

    def stop(self) -> None:
        """Hold the measured pose at once and for ever, whatever `write` says and whatever else hangs.

        Shares no lock with the sender. Torque stays on.
        """
        ...

    def resume(self) -> None:
        """Take commands again after `stop`, beginning with the next `write`."""
        ...

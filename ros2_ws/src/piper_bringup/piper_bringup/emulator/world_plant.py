"""Emulated arms that move the joints of a world: frames in, physics out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from piper_bringup.emulator.plant import Plant
from piper_twin.robot import ARMS, arm_slice

Array = npt.NDArray[np.floating[Any]]


class World(Protocol):
    """Both arms in one simulation; `piper_bringup.live_world.LiveWorld` is one. Any thread may call it."""

    def command(self, targets: Array) -> None:
        """Joint targets [rad], openings [m], shape (14,)."""
        ...

    def joints(self) -> Array:
        """Measured, shape (14,)."""
        ...


class _ArmOfWorld:
    """One arm's part; the world hears of new targets when every arm has said its own."""

    def __init__(self, world: World, arm: str, targets: Array, waiting: set[str], arms: Sequence[str]) -> None:
        self._world, self._arm, self._slice = world, arm, arm_slice(arm)
        self._targets, self._waiting, self._arms = targets, waiting, arms

    def set_targets(self, targets: Sequence[float]) -> None:
        self._targets[self._slice] = targets
        self._waiting.discard(self._arm)
        if not self._waiting:
            self._world.command(self._targets)
            self._waiting.update(self._arms)

    def joints(self) -> Sequence[float]:
        return self._world.joints()[self._slice].tolist()


def plants_of(world: World, arms: Sequence[str] = ARMS) -> dict[str, Plant]:
    """Arm to its part of the world, for the `arms` that are emulated; the others stay where they are.

    Reset the world within `Emulator.placing`, or the arms go on pulling it to where they were.
    """
    targets = np.array(world.joints(), dtype=np.float64)
    waiting = set(arms)
    return {arm: _ArmOfWorld(world, arm, targets, waiting, arms) for arm in arms}

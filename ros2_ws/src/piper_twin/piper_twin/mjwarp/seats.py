"""Who sits where: the episode in each slot, and which slots of a call are worlds of one task."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from torch import Tensor

from piper_twin.compiled_task import CompiledTask
from piper_twin.episode import Episode
from piper_twin.mjwarp.starts import Start
from piper_twin.mjwarp.task_worlds import TaskWorlds
from piper_twin.worlds import ChunkOutcome

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Seat:
    """What a slot holds."""

    episode: Episode
    begin: Start
    row: int
    """Among the worlds of its task."""
    image_rng: np.random.Generator

    @property
    def compiled(self) -> CompiledTask:
        """Its task."""
        return self.begin.compiled

    @property
    def instruction(self) -> str:
        """What the policy is told."""
        return self.begin.instruction

    @property
    def start(self) -> Array:
        """Sensor values at the start."""
        return self.begin.sensors

    @property
    def command(self) -> Array:
        """The robot's joints at the start."""
        return self.begin.command


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Share:
    """Worlds of one task among some slots."""

    worlds: TaskWorlds
    seats: list[Seat]
    places: list[int]
    """Which of the slots they are."""
    index: Tensor
    """The same on the device."""
    rows: Tensor
    """Among the worlds of the task."""

    @property
    def deviation(self) -> float:
        """Of the noise of their pixels [of 255]."""
        return self.seats[0].begin.variation.image_noise


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """What a chunk did, and what is seen and measured after it."""

    outcome: ChunkOutcome
    states_BS: npt.NDArray[np.float32]
    images_BCHW3: Tensor | None
    """On the device, bytes; None: nothing was drawn."""

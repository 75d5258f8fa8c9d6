"""What the trainer asks of any simulator: many worlds, stepped a chunk at a time, seen at chunk ends only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from piper_twin.episode import Episode
from piper_twin.worlds import ChunkOutcome
from vla_policy.embodiment import Embodiment


@dataclasses.dataclass(frozen=True, slots=True)
class Observations:
    """What the policy sees in several worlds, as arrays (B = worlds, C = cameras, S = joints)."""

    images_BCHW3: Any
    """uint8 RGB, an array; a tensor where the worlds live on a GPU, so that pixels stay there.

    Stale for worlds that are done.
    """
    state_BS: npt.NDArray[np.float32]
    """Measured joints [rad], grippers [m]."""
    instructions: tuple[str, ...]


class VectorEnv(Protocol):
    """A fixed number of slots; each runs one episode at a time, and worlds live as long as the run."""

    embodiment: Embodiment
    num_slots: int

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        """Start an episode in each slot; the episode determines the world completely."""
        ...

    def step_chunk(
        self, slots: Sequence[int], actions_BKA: npt.NDArray[np.float32]
    ) -> tuple[Observations, ChunkOutcome]:
        """Execute a chunk of joint targets (len(slots), chunk, num_joints) in each slot.

        A world that breaks down is reported as dropped and done, never as a failure.
        """
        ...

    def close(self) -> None:
        """End every process."""
        ...


@runtime_checkable
class LaunchingEnv(Protocol):
    """A `VectorEnv` whose worlds move on a device, beside whatever this thread does."""

    def launch_chunk(
        self, slots: Sequence[int], actions_BKA: npt.NDArray[np.float32]
    ) -> Callable[[], tuple[Observations, ChunkOutcome]]:
        """Begin a `step_chunk`; what is returned waits for its end and tells the outcome."""
        ...

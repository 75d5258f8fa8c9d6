"""One simulation process: holds its share of the slots and answers over a pipe. Imports neither torch nor ROS.

Started as `python -m vla_rl_trainer.envs.worker`, not forked: the trainer's process has threads and OpenGL or CUDA
contexts of its own. Images, states and actions travel through a shared memory file, everything else over the pipe.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from piper_twin.demonstrate import Demonstration
from piper_twin.episode import Episode
from piper_twin.worlds import ChunkOutcome
from vla_policy.errors import VlaError
from vla_policy.types import Image


class Worlds(Protocol):
    """A fixed number of slots of some simulator, each holding one world at a time, in one process."""

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Start an episode in each slot."""
        ...

    def step_chunk(self, slots: Sequence[int], actions_BKA: npt.NDArray[np.floating]) -> ChunkOutcome:
        """Run a chunk of actions in each slot."""
        ...

    def instruction(self, slot: int) -> str:
        """What the policy is told there."""
        ...

    def joint_states(self, slots: Sequence[int], out_BS: npt.NDArray[np.float32]) -> None:
        """Measured states into `out_BS`."""
        ...

    def images(self, slots: Sequence[int], out: Sequence[Image] | Image) -> None:
        """Images of each slot into its entry of `out` (cameras, image_size, image_size, 3)."""
        ...

    def close(self) -> None:
        """Free OpenGL."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Simulator:
    """What a worker runs; it travels to the process by name, so both are functions of some module."""

    make_worlds: Callable[[int], Worlds]
    """Given a number of slots."""
    demonstrate: Callable[[Any, Episode, int | None], Demonstration] | None = None
    """Lets an expert try an episode in the first of these worlds, looking at every n-th step."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SharedLayout:
    """Shapes of the arrays in the shared memory file; rows are slots."""

    num_slots: int
    num_cameras: int
    image_size: int
    """[px]; 0 without images."""
    state_size: int
    action_size: int
    max_chunk: int

    def open(self, file: int) -> tuple[Image, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Images (N, C, H, W, 3), states (N, S) and actions (N, max_chunk, A) in the memory behind `file`."""
        shapes: tuple[tuple[tuple[int, ...], Any], ...] = (
            ((self.num_slots, self.num_cameras, self.image_size, self.image_size, 3), np.uint8),
            ((self.num_slots, self.state_size), np.float32),
            ((self.num_slots, self.max_chunk, self.action_size), np.float32),
        )
        sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in shapes]
        memory = mmap.mmap(file, sum(sizes))
        starts = np.cumsum([0, *sizes])
        images, states, actions = (
            np.ndarray(shape, dtype, memory, int(start)) for (shape, dtype), start in zip(shapes, starts, strict=False)
        )
        return images, states, actions

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        image = self.num_cameras * self.image_size**2 * 3
        return self.num_slots * (image + 4 * (self.state_size + self.max_chunk * self.action_size))


class Worker:
    """Serves one share of the slots."""

    def __init__(self, simulator: Simulator, layout: SharedLayout, slots: tuple[int, ...], file: int) -> None:
        """Take `slots` (numbers in the whole environment) with worlds of `simulator`."""
        self._simulator = simulator
        self._layout = layout
        self._worlds = simulator.make_worlds(len(slots))
        self._local = {slot: index for index, slot in enumerate(slots)}
        self._images, self._states, self._actions = layout.open(file)

    def reset(self, slots: list[int], episodes: list[Episode]) -> list[str]:
        """Start episodes, look, and answer their instructions."""
        self._worlds.reset([self._local[slot] for slot in slots], episodes)
        self._look(slots)
        return [self._worlds.instruction(self._local[slot]) for slot in slots]

    def step_chunk(self, slots: list[int], length: int) -> ChunkOutcome:
        """Step the worlds by the actions in shared memory; look at those that go on."""
        outcome = self._worlds.step_chunk([self._local[slot] for slot in slots], self._actions[slots, :length])
        self._look([slot for slot, done in zip(slots, outcome.done_B, strict=True) if not done])
        return outcome

    def demonstrate(self, slots: list[int], episodes: list[Episode], look_every: int | None) -> list[Demonstration]:
        """Let the expert try each episode; whatever ran in this worker's first slot is lost."""
        del slots
        if self._simulator.demonstrate is None:
            raise VlaError("this simulator has no experts that could show its tasks")
        return [self._simulator.demonstrate(self._worlds, episode, look_every) for episode in episodes]

    def _look(self, slots: list[int]) -> None:
        local = [self._local[slot] for slot in slots]
        states = np.empty((len(slots), self._layout.state_size), dtype=np.float32)
        self._worlds.joint_states(local, states)
        self._states[slots] = states
        if self._layout.image_size:
            self._worlds.images(local, [self._images[slot] for slot in slots])


def serve(pipe: Connection, file: int) -> None:
    """Answer requests (method name, arguments) until the pipe closes."""
    simulator, layout, slots = pipe.recv()
    worker = Worker(simulator, layout, slots, file)
    while True:
        method, arguments = pipe.recv()
        try:
            pipe.send((None, getattr(worker, method)(*arguments)))
        except VlaError as error:
            pipe.send((error, None))


if __name__ == "__main__":
    pipe_file, memory_file = (int(text) for text in sys.argv[1:3])
    try:
        serve(Connection(pipe_file), memory_file)
    except (EOFError, ConnectionError, KeyboardInterrupt):  # the trainer is gone, or has closed the environment
        os._exit(0)

"""What a task is: objects on the table, a random start, an instruction, a success predicate, a scripted expert.

Predicates read named sensor values with any leading batch axes and use operators only, so that they serve numpy on the
CPU and torch on the GPU alike.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.moves import Move

OBJECT_GROUP = 0
"""Geom group of everything a task puts on the table."""


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """Where an object starts: its frame's position [m] and its turn about the vertical [rad]."""

    x: float
    y: float
    z: float = 0.0
    yaw: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """How one world of a task starts."""

    placements: Mapping[str, Placement]
    """Body name to where it stands."""
    instruction: str
    colours: Mapping[str, tuple[float, float, float]] = dataclasses.field(default_factory=dict)
    """Geom name to red, green and blue, where they differ from world to world."""
    joints: npt.NDArray[np.float64] | None = None
    """Joint positions at the start (14,) [rad], [m]; home when None."""


class Readings:
    """Sensor values by name; each has the leading axes of `values` and its own length as the last axis."""

    def __init__(self, layout: Mapping[str, slice], values: Any) -> None:
        """Name the columns of `values`, shape (..., num_sensors), a numpy array or a torch tensor."""
        self._layout = layout
        self.values = values

    def __getitem__(self, name: str) -> Any:
        """Values of one sensor, shape (..., its length)."""
        return self.values[..., self._layout[name]]

    def scalar(self, name: str) -> Any:
        """Values of a one-dimensional sensor, shape (...)."""
        return self.values[..., self._layout[name].start]

    def x(self, name: str) -> Any:
        """First component."""
        return self.values[..., self._layout[name].start]

    def y(self, name: str) -> Any:
        """Second component."""
        return self.values[..., self._layout[name].start + 1]

    def z(self, name: str) -> Any:
        """Third component."""
        return self.values[..., self._layout[name].start + 2]

    def distance_xy(self, one: str, other: str) -> Any:
        """Horizontal distance of two positions [m], shape (...)."""
        return ((self.x(one) - self.x(other)) ** 2 + (self.y(one) - self.y(other)) ** 2) ** 0.5

    def speed(self, name: str) -> Any:
        """Length of a velocity [m/s], shape (...)."""
        return (self[name] ** 2).sum(-1) ** 0.5


class Task(abc.ABC):
    """One file in `piper_twin/tasks/`; stateless, shared by all worlds of the task."""

    name: str
    instructions: tuple[str, ...]
    """Several phrasings; an episode draws one."""
    unseen_instructions: tuple[str, ...] = ()
    """Others that mean the same and that no episode draws: to ask what a policy makes of them."""
    reflects: bool = True
    """Whether the mirror image of a world solved is the same task solved, left and right in its words exchanged."""
    horizon: int
    """Control steps until the episode has failed."""

    @abc.abstractmethod
    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """Add the task's objects to the empty cell; each must be tracked (`props.track`)."""

    @abc.abstractmethod
    def scene(self, rng: np.random.Generator) -> Scene:
        """Draw one world: where each object starts, and what the robot is told."""

    @abc.abstractmethod
    def success(self, now: Readings, start: Readings) -> Any:
        """Whether the task is done, shape of the leading axes; `start` is the episode's first reading."""

    def prerequisite(self, now: Readings, start: Readings) -> Any:
        """What must have happened at some moment of the episode for success to count; None: only how it ends counts.

        A strict task asks here for the way, such as an object carried instead of pushed. Of the shape of the leading
        axes; whoever steps the world remembers it.
        """
        del now, start

    @abc.abstractmethod
    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """What happens at this moment (grasped, lifted, pushed), each of the shape of the leading axes."""

    @abc.abstractmethod
    def plan(self, start: Readings) -> list[Move]:
        """The scripted expert: tool moves from privileged knowledge of one world (no leading axes)."""

    def phrase(self, rng: np.random.Generator) -> str:
        """Draw one of the instructions."""
        return self.instructions[int(rng.integers(len(self.instructions)))]

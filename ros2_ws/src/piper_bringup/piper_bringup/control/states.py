"""What the control loop tells of itself: its state, one record a tick, and answers to the operator."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
import numpy.typing as npt

from piper_bringup.control.faults import Fault

Array = npt.NDArray[np.float64]


class State(enum.Enum):
    """What the robot may do."""

    DISABLED = "disabled"
    """Not enabled by this process. Joints that have torque from before keep holding; nothing was sent yet."""
    READY = "ready"
    """Holds what it was sent last; a good chunk moves it."""
    MOVING = "moving"
    """Plays chunks."""
    HELD = "held"
    """Brakes, then sends the last measured pose for ever; only the operator's release leads out."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One turn of the control loop; never changed, so that any thread may read it."""

    now: float
    """[s]."""
    state: State
    measured: Array
    """Joint positions [rad], grippers [m], shape (num_joints,)."""
    command: Array | None
    """What was sent, same shape; None: nothing was."""
    reason: str
    """Why the robot does not move as told; empty if it does."""
    faults: tuple[Fault, ...] = ()
    """What is wrong at this moment."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """To a request of the operator."""

    success: bool
    message: str

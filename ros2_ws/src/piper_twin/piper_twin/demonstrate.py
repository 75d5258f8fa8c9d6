"""Recording a scripted expert in the twin: one frame a control period, as a recorder would see a teleoperator."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from piper_twin.episode import Episode
from piper_twin.moves import Unreachable
from piper_twin.robot import DUAL_PIPER
from piper_twin.task import Readings
from piper_twin.worlds import World, WorldBatch
from vla_policy.types import Image


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """One try of the expert; T control steps, of which L were looked at."""

    images_LCHW3: Image
    looked_L: npt.NDArray[np.int64]
    """Control steps the images belong to."""
    state_TS: npt.NDArray[np.float32]
    action_TA: npt.NDArray[np.float32]
    """Commands really sent after each frame."""
    instruction: str
    success: bool


def demonstrate(worlds: WorldBatch, episode: Episode, *, look_every: int | None = 1) -> Demonstration:
    """Let the task's expert try one episode in slot 0 of `worlds`.

    Args:
        worlds: At least one slot.
        episode: Determines the world.
        look_every: Control steps from image to image, the first of them drawn by the seed; None: never look.
    """
    worlds.reset([0], [episode])
    world = worlds.world(0)
    plan = plan_of(world)
    size, count = worlds.image_size, min(len(plan), world.compiled.task.horizon)
    looks = list(range(episode.seed % look_every, count, look_every)) if look_every else []
    frames = np.zeros((len(looks), len(DUAL_PIPER.cameras), size, size, 3), dtype=np.uint8)
    states = np.zeros((count, DUAL_PIPER.num_joints), dtype=np.float32)
    actions = np.zeros_like(states)
    length, success = 0, False
    for step in range(count):
        worlds.joint_states([0], states[step : step + 1])
        if step in looks:
            place = looks.index(step)
            worlds.images([0], frames[place : place + 1])
        outcome = worlds.step_chunk([0], plan[None, step : step + 1])
        actions[step], length, success = outcome.sent_BKA[0, 0], step + 1, bool(outcome.success_B[0])
        if outcome.done_B[0]:
            break
    looked = np.array([step for step in looks if step < length], dtype=np.int64)
    return Demonstration(
        images_LCHW3=frames[: len(looked)],
        looked_L=looked,
        state_TS=states[:length],
        action_TA=actions[:length],
        instruction=world.instruction,
        success=success,
    )


def plan_of(world: World) -> npt.NDArray[np.float64]:
    """The expert's commands in a world at its start (T, 14) [rad, m]; none where it finds no way for the arms."""
    from piper_twin.expert import commands  # mink and scipy, 0.5 s that a worker shall not pay to run policies

    try:
        return commands(world.compiled.task.plan(Readings(world.compiled.layout, world.start)), world.command)
    except Unreachable:
        return np.empty((0, DUAL_PIPER.num_joints))

"""Recording a scripted expert in the twin: one frame a control period, as a recorder would see a teleoperator."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from piper_twin.episode import Episode
from piper_twin.expert import Unreachable, commands
from piper_twin.robot import DUAL_PIPER
from piper_twin.task import Readings
from piper_twin.worlds import WorldBatch
from vla_policy.types import Image


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """One try of the expert; T frames."""

    images_TCHW3: Image
    state_TS: npt.NDArray[np.float32]
    action_TA: npt.NDArray[np.float32]
    """Commands really sent after each frame."""
    instruction: str
    success: bool


def demonstrate(worlds: WorldBatch, episode: Episode, *, images: bool = True) -> Demonstration:
    """Let the task's expert try one episode in slot 0 of `worlds`.

    Args:
        worlds: At least one slot.
        episode: Determines the world.
        images: Whether to look; without, the images have no frames.
    """
    worlds.reset([0], [episode])
    world = worlds.world(0)
    try:
        plan = commands(world.compiled.task.plan(Readings(world.compiled.layout, world.start)), world.command)
    except Unreachable:
        plan = np.empty((0, DUAL_PIPER.num_joints))
    size, count = worlds.image_size, min(len(plan), world.compiled.task.horizon)
    frames = np.zeros((count if images else 0, len(DUAL_PIPER.cameras), size, size, 3), dtype=np.uint8)
    states = np.zeros((count, DUAL_PIPER.num_joints), dtype=np.float32)
    actions = np.zeros_like(states)
    length, success = 0, False
    for step in range(count):
        worlds.joint_states([0], states[step : step + 1])
        if images:
            worlds.images([0], frames[step : step + 1])
        outcome = worlds.step_chunk([0], plan[None, step : step + 1])
        actions[step], length, success = outcome.sent_BKA[0, 0], step + 1, bool(outcome.success_B[0])
        if outcome.done_B[0]:
            break
    return Demonstration(
        images_TCHW3=frames[:length],
        state_TS=states[:length],
        action_TA=actions[:length],
        instruction=world.instruction,
        success=success,
    )

"""Every demonstration a second time, as its mirror image: what one arm was shown, the other learns too."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from piper_twin.mirror import reflect_images, reflect_joints, reflect_words
from piper_twin.robot import DUAL_PIPER
from piper_twin.tasks import TASKS
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset.frames import FrameTable

FRAME_FIELDS = ("images_NCHW3", "state_NS", "action_N", "end_N", "episode_N", "instruction_N")
"""Arrays of a `FrameTable` with a row a frame."""


def with_reflections(table: FrameTable, embodiment: Embodiment) -> FrameTable:
    """A table and its mirror image behind it, without the tasks that have none (`Task.reflects`).

    Raises:
        VlaError: the robot is another than the two Pipers.
    """
    require_mirror(embodiment)
    sided = {text for task in TASKS.values() if not task.reflects for text in task.instructions}
    rows = np.flatnonzero([text not in sided for text in table.instructions_of(range(len(table)))])
    chosen = _only(table, rows)
    reflected = dataclasses.replace(
        chosen,
        images_NCHW3=reflect_images(chosen.images_NCHW3),
        state_NS=reflect_joints(chosen.state_NS),
        action_MA=reflect_joints(table.action_MA),
        instructions=[reflect_words(text) for text in table.instructions],
    )
    return FrameTable.concatenate([table, reflected])


def require_mirror(embodiment: Embodiment) -> None:
    """Refuse a robot without a mirror image.

    Raises:
        VlaError: it is another than the two Pipers.
    """
    if embodiment != DUAL_PIPER:
        raise VlaError(f"{embodiment.name} is no pair of Pipers and has no mirror image; leave --mirror out")


def _only(table: FrameTable, rows: npt.NDArray[np.int64]) -> FrameTable:
    """Some of the frames; all actions."""
    fields = {name: getattr(table, name)[rows] for name in FRAME_FIELDS}
    return dataclasses.replace(table, **fields)

"""Every demonstration a second time, as its mirror image: what one arm was shown, the other learns too."""

from __future__ import annotations

import dataclasses

from piper_twin.mirror import reflect_images, reflect_joints, reflect_words
from piper_twin.robot import DUAL_PIPER
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset.frames import FrameTable


def with_reflections(table: FrameTable, embodiment: Embodiment) -> FrameTable:
    """A table and its mirror image behind it.

    Raises:
        VlaError: the robot is another than the two Pipers.
    """
    if embodiment != DUAL_PIPER or table.cameras != DUAL_PIPER.camera_names:
        raise VlaError(f"{embodiment.name} is no pair of Pipers and has no mirror image; leave --mirror out")
    reflected = dataclasses.replace(
        table,
        images_NCHW3=reflect_images(table.images_NCHW3),
        state_NS=reflect_joints(table.state_NS),
        action_MA=reflect_joints(table.action_MA),
        instructions=[reflect_words(text) for text in table.instructions],
    )
    return FrameTable.concatenate([table, reflected])

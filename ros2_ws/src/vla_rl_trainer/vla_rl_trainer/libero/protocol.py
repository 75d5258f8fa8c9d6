"""The protocol of published LIBERO evaluations: which initial states, which way up, which sign the gripper has.

50 recorded initial states a task, 10 steps of waiting, then at most `HORIZONS` steps; images of 256 px turned by half a
circle and brought to the policy's size. Many publications train on the very states they evaluate on; `held_out` keeps
them apart, and every result says which split it is.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from piper_twin.episode import Episode
from vla_policy.types import Image

StateSplit = Literal["official", "held_out"]
STATE_SPLITS: tuple[str, ...] = get_args(StateSplit)

NUM_TRAIN_STATES = 30
"""Of a task's 50 recorded states, those that training may use under `held_out`; the others are for evaluation."""


def state_of(episode: Episode, split: StateSplit, num_states: int) -> int:
    """Which recorded initial state an episode starts from.

    Args:
        episode: Its seed counts through the states, again and again.
        split: "official" gives every episode all states; "held_out" gives evaluation the last 20 and everything else
            the first 30.
        num_states: Recorded states of the task.
    """
    if split == "official":
        return episode.seed % num_states
    if episode.split == "evaluation":
        return NUM_TRAIN_STATES + episode.seed % (num_states - NUM_TRAIN_STATES)
    return episode.seed % NUM_TRAIN_STATES


def turned_half(pixels: Image) -> Image:
    """OpenGL's rows, bottom first, as policies for LIBERO are trained on them: turned by half a circle."""
    return pixels[::-1, ::-1]


def resized(image: Image, size: int) -> Image:
    """A square image (H, H, 3) at another size, by Lanczos' filter as OpenVLA-OFT resizes 256 to 224 px."""
    if image.shape[0] == size:
        return image
    from PIL import Image as Pictures

    return np.asarray(Pictures.fromarray(np.ascontiguousarray(image)).resize((size, size), Pictures.Resampling.LANCZOS))


def gripper_command(openness: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """LIBERO's gripper action, -1 open and 1 closed, of a data set's openness in [0, 1], 1 being open."""
    return -np.sign(2.0 * np.asarray(openness, dtype=np.float32) - 1.0)

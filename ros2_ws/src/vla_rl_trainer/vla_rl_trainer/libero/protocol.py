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
from piper_twin.pixels import average_down
from vla_policy.types import Image
from vla_rl_trainer.libero.suites import NUM_STATES

StateSplit = Literal["official", "held_out"]
STATE_SPLITS: tuple[str, ...] = get_args(StateSplit)
Visuals = Literal["lean", "stock"]
VISUALS: tuple[str, ...] = get_args(Visuals)

_LEAST_DRAWN = 128
"""[px]."""
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


def num_evaluation_states(split: StateSplit) -> int:
    """Initial states of each task that an evaluation may start from."""
    return NUM_STATES if split == "official" else NUM_STATES - NUM_TRAIN_STATES


def drawn_size(size: int) -> int:
    """Side at which images for a policy that sees `size` are drawn [px].

    Published policies see 224 px drawn at 256. Small images are averaged from larger ones, as those of a data set are.
    """
    return 256 if size == 224 else recorded_size(size)


def recorded_size(size: int) -> int:
    """Side at which demonstrations for a policy that sees `size` are recorded [px]."""
    return _LEAST_DRAWN if _LEAST_DRAWN % size == 0 else size


def turned_half(pixels: Image) -> Image:
    """OpenGL's rows, bottom first, as policies for LIBERO are trained on them: turned by half a circle."""
    return pixels[::-1, ::-1]


def resized(image: Image, size: int) -> Image:
    """A square image (H, H, 3) at another size.

    Each pixel is the mean of its block where the size divides the side; else Lanczos' filter is used, as OpenVLA-OFT
    resizes 256 to 224 px.
    """
    if image.shape[0] % size == 0:
        return average_down(image, size)
    from PIL import Image as Pictures

    return np.asarray(Pictures.fromarray(np.ascontiguousarray(image)).resize((size, size), Pictures.Resampling.LANCZOS))


def gripper_command(openness: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """LIBERO's gripper action, -1 open and 1 closed, of a data set's openness in [0, 1], 1 being open."""
    return -np.sign(2.0 * np.asarray(openness, dtype=np.float32) - 1.0)

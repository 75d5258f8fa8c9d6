"""Videos of a policy at work in simulation: every camera, every control step."""

from __future__ import annotations

import numpy as np

from piper_twin.episode import Episode
from piper_twin.pixels import average_down
from vla_policy.embodiment import Embodiment
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.envs.worker import Worlds
from vla_rl_trainer.video import encode_mp4, tile_cameras

HOLD_FRAMES = 12
"""The last frame stays for half a second."""
_SHOWN_SIZE = 256
"""Small images are magnified towards this [px]."""


class FilmStudio:
    """Films single episodes in this process."""

    def __init__(self, worlds: Worlds, embodiment: Embodiment, image_size: int, state_size: int) -> None:
        """Take over `worlds`, which are drawn as in training.

        Args:
            worlds: At least one slot.
            embodiment: The robot in them.
            image_size: Side of their images [px], a multiple of the policy's.
            state_size: Numbers in their state.
        """
        self._worlds = worlds
        self._embodiment = embodiment
        self._shape = (1, len(embodiment.cameras), image_size, image_size, 3)
        self._state_size = state_size

    def film(self, policy: VlaPolicy, episode: Episode) -> tuple[bytes, bool]:
        """One episode as mp4, and whether it succeeded; the policy sees the very pixels an evaluation shows it."""
        worlds = self._worlds
        worlds.reset([0], [episode])
        frames = [self._look()]
        while True:
            state = np.empty((1, self._state_size), dtype=np.float32)
            worlds.joint_states([0], state)
            seen = average_down(frames[-1][None], policy.config.image_size)
            inputs = policy.inputs_from_arrays(seen, state, [worlds.instruction(0)])
            for action in policy.act(inputs, state)[0]:
                outcome = worlds.step_chunk([0], action[None, None])
                frames.append(self._look())
                if outcome.done_B[0]:
                    frames += [frames[-1]] * HOLD_FRAMES
                    return self._encode(np.stack(frames)), bool(outcome.success_B[0])

    def _look(self) -> np.ndarray:
        images = np.empty(self._shape, dtype=np.uint8)
        self._worlds.images([0], images)
        return images[0]

    def _encode(self, frames_TCHW3: np.ndarray) -> bytes:
        cameras = {name: frames_TCHW3[:, index] for index, name in enumerate(self._embodiment.camera_names)}
        magnify = max(1, _SHOWN_SIZE // frames_TCHW3.shape[2])
        return encode_mp4(tile_cameras(cameras, magnify=magnify), fps=1.0 / self._embodiment.control_period)

    def close(self) -> None:
        """Free OpenGL."""
        self._worlds.close()

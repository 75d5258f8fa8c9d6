"""Videos of a policy at work in the twin: every camera, every control step."""

from __future__ import annotations

import numpy as np

from piper_twin.episode import Episode
from piper_twin.pixels import average_down
from piper_twin.robot import CONTROL_PERIOD, DUAL_PIPER
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.video import encode_mp4, tile_cameras

HOLD_FRAMES = 12
"""The last frame stays for half a second."""


class FilmStudio:
    """Films single episodes in this process."""

    def __init__(self, randomization: str) -> None:
        """Worlds are drawn as in training."""
        self._worlds = WorldBatch(1, TwinConfig(randomization=randomization))

    def film(self, policy: VlaPolicy, episode: Episode) -> tuple[bytes, bool]:
        """One episode as mp4, and whether it succeeded; the policy sees the very pixels an evaluation shows it."""
        worlds = self._worlds
        worlds.reset([0], [episode])
        frames = [self._look()]
        while True:
            state = np.empty((1, DUAL_PIPER.num_joints), dtype=np.float32)
            worlds.joint_states([0], state)
            seen = average_down(frames[-1][None], policy.config.image_size)
            inputs = policy.inputs_from_arrays(seen, state, [worlds.world(0).instruction])
            for action in policy.act(inputs, state)[0]:
                outcome = worlds.step_chunk([0], action[None, None])
                frames.append(self._look())
                if outcome.done_B[0]:
                    frames += [frames[-1]] * HOLD_FRAMES
                    return self._encode(np.stack(frames)), bool(outcome.success_B[0])

    def _look(self) -> np.ndarray:
        images = np.empty((1, len(DUAL_PIPER.cameras), *self._size, 3), dtype=np.uint8)
        self._worlds.images([0], images)
        return images[0]

    @property
    def _size(self) -> tuple[int, int]:
        return self._worlds.image_size, self._worlds.image_size

    @staticmethod
    def _encode(frames_TCHW3: np.ndarray) -> bytes:
        cameras = {name: frames_TCHW3[:, index] for index, name in enumerate(DUAL_PIPER.camera_names)}
        return encode_mp4(tile_cameras(cameras, magnify=2), fps=1.0 / CONTROL_PERIOD)

    def close(self) -> None:
        """Free OpenGL."""
        self._worlds.close()

"""The dual-Piper twin on mujoco_warp as a `VectorEnv`: all worlds in this process, on its GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from piper_twin.episode import Episode
from piper_twin.robot import DUAL_PIPER
from piper_twin.worlds import ChunkOutcome, TwinConfig
from vla_policy.errors import VlaError
from vla_rl_trainer.envs.vector_env import Observations

if TYPE_CHECKING:
    from torch import Tensor

    from piper_twin.mjwarp.device import WarpConfig


class WarpTwinVectorEnv:
    """Many worlds of the twin; nothing but pictures and joints leaves the device, and those only when asked for."""

    def __init__(self, num_slots: int, config: TwinConfig, warp: WarpConfig | None = None) -> None:
        """Memory is taken by the first `reset`.

        Args:
            num_slots: Worlds that run side by side.
            config: How worlds are drawn and seen.
            warp: Where, and how much room there is for contacts.

        Raises:
            VlaError: there is no such device, or no mujoco_warp.
        """
        from piper_twin.mjwarp.device import require_warp

        require_warp()
        from piper_twin.mjwarp.worlds import WarpWorlds  # loads Warp, 4 s that the other backend shall not pay

        if num_slots < 1:
            raise VlaError(f"num_slots is {num_slots}; at least one world is needed")
        self.embodiment = DUAL_PIPER
        self.num_slots = num_slots
        self.image_size = config.image_size
        self.worlds = WarpWorlds(num_slots, config, warp)
        self._has_images = config.images

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        """Start an episode in each slot; see `VectorEnv`."""
        self.worlds.reset(slots, episodes)
        return self._observe(slots)

    def step_chunk(
        self, slots: Sequence[int], actions_BKA: npt.NDArray[np.float32]
    ) -> tuple[Observations, ChunkOutcome]:
        """Execute a chunk of joint targets in each slot; see `VectorEnv`. Worlds that are done are drawn as well."""
        outcome = self.worlds.step_chunk(slots, actions_BKA)
        return self._observe(slots), outcome

    def observe_tensors(self, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (B, cameras, H, W, 3) in bytes and joint states (B, 14), on the device, without a copy to the host."""
        return self.worlds.look(slots), self.worlds.states(slots)

    def _observe(self, slots: Sequence[int]) -> Observations:
        states = self.worlds.states(slots).cpu().numpy()
        images = np.zeros((len(slots), len(DUAL_PIPER.cameras), 0, 0, 3), dtype=np.uint8)
        if self._has_images:
            drawn = self.worlds.look(slots)
            images = drawn.numpy() if drawn.device.type == "cpu" else drawn
        return Observations(images, states, tuple(self.worlds.instruction(slot) for slot in slots))

    def close(self) -> None:
        """Give the device's memory back."""
        self.worlds.close()

    def __enter__(self) -> WarpTwinVectorEnv:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        with contextlib.suppress(RuntimeError):  # the device may be gone, and the first error is the one to tell
            self.close()

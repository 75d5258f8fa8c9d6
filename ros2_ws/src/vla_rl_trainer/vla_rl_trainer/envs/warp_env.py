"""The dual-Piper twin on mujoco_warp as a `VectorEnv`: all worlds in this process, on its GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
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
        """Execute a chunk of joint targets in each slot; see `VectorEnv`."""
        return self.launch_chunk(slots, actions_BKA)()

    def launch_chunk(
        self, slots: Sequence[int], actions_BKA: npt.NDArray[np.float32]
    ) -> Callable[[], tuple[Observations, ChunkOutcome]]:
        """Begin a chunk, pictures included; see `LaunchingEnv`."""
        finish = self.worlds.launch_chunk(slots, actions_BKA, draws=self._has_images)

        def outcome() -> tuple[Observations, ChunkOutcome]:
            moved = finish()
            return self._observations(slots, moved.states_BS, moved.images_BCHW3), moved.outcome

        return outcome

    def _observe(self, slots: Sequence[int]) -> Observations:
        images = self.worlds.look(slots) if self._has_images else None
        return self._observations(slots, self.worlds.states(slots).cpu().numpy(), images)

    def _observations(
        self, slots: Sequence[int], state_BS: npt.NDArray[np.float32], drawn: Tensor | None
    ) -> Observations:
        if drawn is None:
            images = np.zeros((len(slots), len(DUAL_PIPER.cameras), 0, 0, 3), dtype=np.uint8)
        else:
            images = drawn.numpy() if drawn.device.type == "cpu" else drawn
        return Observations(images, state_BS, tuple(self.worlds.instruction(slot) for slot in slots))

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

"""The dual-Piper twin as a `VectorEnv`."""

from __future__ import annotations

import functools

from piper_twin.demonstrate import Demonstration, demonstrate
from piper_twin.episode import Episode
from piper_twin.robot import DUAL_PIPER
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_rl_trainer.envs.process_env import ProcessVectorEnv
from vla_rl_trainer.envs.worker import Simulator


class TwinVectorEnv(ProcessVectorEnv):
    """Many worlds of the twin."""

    def __init__(
        self,
        num_slots: int,
        config: TwinConfig,
        *,
        num_workers: int | None = None,
        max_chunk: int = 32,
        answer_timeout: float = 300.0,
    ) -> None:
        """Start the workers.

        Args:
            num_slots: Worlds that run side by side.
            config: How worlds are drawn and seen.
            num_workers: Processes; one a core when None.
            max_chunk: Longest chunk that will be stepped.
            answer_timeout: A worker that has not answered for this long [s] is replaced.
        """
        self.image_size = config.image_size
        super().__init__(
            num_slots,
            Simulator(make_worlds=functools.partial(WorldBatch, config=config), demonstrate=_demonstrate),
            DUAL_PIPER,
            image_size=config.image_size if config.images else 0,
            num_workers=num_workers,
            max_chunk=max_chunk,
            answer_timeout=answer_timeout,
        )


def _demonstrate(worlds: WorldBatch, episode: Episode, look_every: int | None) -> Demonstration:
    return demonstrate(worlds, episode, look_every=look_every)

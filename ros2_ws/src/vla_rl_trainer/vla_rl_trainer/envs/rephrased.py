"""Worlds whose tasks are told in words that training never uses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from piper_twin.episode import Episode
from piper_twin.tasks import find_task
from piper_twin.worlds import ChunkOutcome
from vla_policy.errors import VlaError
from vla_rl_trainer.envs.vector_env import Observations, VectorEnv


class Rephrased:
    """A `VectorEnv` of the twin with other instructions; the worlds are the same."""

    def __init__(self, env: VectorEnv) -> None:
        """Speak for `env`."""
        self.embodiment, self.num_slots = env.embodiment, env.num_slots
        self._env = env
        self._words: dict[int, str] = {}

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        """As the environment's.

        Raises:
            VlaError: a task has no such words.
        """
        for slot, episode in zip(slots, episodes, strict=True):
            self._words[slot] = unseen_words(episode)
        return self._told(slots, self._env.reset(slots, episodes))

    def step_chunk(
        self, slots: Sequence[int], actions_BKA: npt.NDArray[np.float32]
    ) -> tuple[Observations, ChunkOutcome]:
        """As the environment's."""
        seen, outcome = self._env.step_chunk(slots, actions_BKA)
        return self._told(slots, seen), outcome

    def _told(self, slots: Sequence[int], seen: Observations) -> Observations:
        return dataclasses.replace(seen, instructions=tuple(self._words[slot] for slot in slots))

    def close(self) -> Any:
        """As the environment's."""
        return self._env.close()


def unseen_words(episode: Episode) -> str:
    """The words of an episode, one of the task's by the episode's own stream.

    Raises:
        VlaError: the task has none.
    """
    words = find_task(episode.task).unseen_instructions
    if not words:
        raise VlaError(f"{episode.task} has no words beside those of training; leave --unseen-words out")
    return str(episode.generator("words").choice(words))

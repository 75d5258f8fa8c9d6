"""How each episode begins, made on the CPU by the very code of the other backend and kept while it is asked for again.

Members of a GRPO group begin alike, so most starts are made once and used eight times.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from piper_twin.compiled_task import CompiledTask
from piper_twin.episode import Episode
from piper_twin.randomization import Variation
from piper_twin.worlds import TwinConfig, WorldBatch

Array = npt.NDArray[np.float64]

AT_ONCE = 64
"""Starts that are made together; each needs a copy of the model meanwhile."""
MAX_THREADS = 8
"""That let them come to rest."""
MAX_KEPT = 4096


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A world once its objects have come to rest."""

    compiled: CompiledTask
    instruction: str
    variation: Variation
    state: Array
    """MuJoCo's full state."""
    command: Array
    """Joint targets [rad], [m], shape (14,)."""
    sensors: Array
    """Of the first observation."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """What differs in this world's model."""
        return self.variation.model_fields


class Starts:
    """Makes starts and keeps the latest."""

    def __init__(self, config: TwinConfig) -> None:
        """Worlds differ as `config` says."""
        num_threads = min(MAX_THREADS, len(os.sched_getaffinity(0)))
        self._worlds = WorldBatch(AT_ONCE, dataclasses.replace(config, images=False), num_threads)
        self._kept: collections.OrderedDict[Episode, Start] = collections.OrderedDict()

    def of(self, episodes: Sequence[Episode]) -> list[Start]:
        """The start of each episode."""
        found = {episode: self._kept[episode] for episode in episodes if episode in self._kept}
        missing = [episode for episode in dict.fromkeys(episodes) if episode not in found]
        for first in range(0, len(missing), AT_ONCE):
            part = missing[first : first + AT_ONCE]
            found.update(zip(part, self._make(part), strict=True))
        for episode in dict.fromkeys(episodes):
            self._kept[episode] = found[episode]
            self._kept.move_to_end(episode)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return [found[episode] for episode in episodes]

    def _make(self, episodes: Sequence[Episode]) -> list[Start]:
        slots = range(len(episodes))
        self._worlds.reset(slots, episodes)
        return [
            Start(
                compiled=world.compiled,
                instruction=world.instruction,
                variation=world.variation,
                state=world.state,
                command=world.command,
                sensors=world.start,
            )
            for world in map(self._worlds.world, slots)
        ]

    def close(self) -> None:
        """Free what the CPU backend holds."""
        self._worlds.close()
        self._kept.clear()

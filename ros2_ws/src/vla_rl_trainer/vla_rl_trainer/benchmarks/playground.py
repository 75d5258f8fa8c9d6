"""Where a base policy plays before it learns a task: the twin with plain solids, or LIBERO's scenes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from piper_twin.robot import DUAL_PIPER
from piper_twin.tasks import TASKS
from piper_twin.tasks.play import PLAY_TASKS
from piper_twin.worlds import TwinConfig
from vla_policy.config import VlaConfig
from vla_policy.embodiment import Embodiment
from vla_rl_trainer.benchmarks.libero import LiberoBenchmark, LiberoOptions
from vla_rl_trainer.benchmarks.twin import TwinBenchmark
from vla_rl_trainer.demonstrations import MAX_TRIES, Player
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA


class Playground(Protocol):
    """Play of one robot."""

    embodiment: Embodiment
    tasks: tuple[str, ...]
    """What is played, evenly."""
    max_tries: int
    """Worlds tried for each episode wanted, before a task in which nothing works is left out."""

    def network(self, preset: str) -> VlaConfig:
        """An untrained network of that size for this robot.

        Raises:
            VlaError: there is no such preset.
        """
        ...

    def open(self, image_size: int, num_workers: int | None) -> AbstractContextManager[Player]:
        """Worlds to play in; `image_size` in [px], a process a core when `num_workers` is None."""
        ...

    def texts(self) -> Iterator[str]:
        """Every text a policy of this robot may be told: what the text tokenizer is made from."""
        ...


class TwinPlayground:
    """`piper_twin.tasks.play`."""

    embodiment: Embodiment = DUAL_PIPER
    max_tries: int = MAX_TRIES

    def __init__(self, randomization: str) -> None:
        """Worlds differ as `randomization` says.

        Raises:
            VlaError: it does not exist.
        """
        self.tasks = tuple(PLAY_TASKS)
        self._twin = TwinConfig(randomization=randomization)

    def network(self, preset: str) -> VlaConfig:
        """See `Playground`."""
        return TwinBenchmark().network(preset)

    def open(self, image_size: int, num_workers: int | None) -> TwinVectorEnv:
        """See `Playground`."""
        return TwinVectorEnv(64, dataclasses.replace(self._twin, image_size=image_size), num_workers=num_workers)

    def texts(self) -> Iterator[str]:
        """See `Playground`."""
        for task in (*TASKS.values(), *PLAY_TASKS.values()):
            rng = np.random.default_rng(0)
            for _ in range(12):
                yield task.scene(rng).instruction


class LiberoPlayground:
    """`vla_rl_trainer.libero.play`."""

    embodiment: Embodiment = LIBERO_PANDA
    max_tries: int = 3  # between two moka pots the script can do nothing

    def __init__(self, suites: Sequence[str], options: LiberoOptions) -> None:
        """Play in the scenes of these suites or tasks.

        Raises:
            VlaError: one does not exist.
        """
        self._benchmark = LiberoBenchmark(suites, dataclasses.replace(options, perturbation="pose"))
        self.tasks = self._benchmark.tasks

    def network(self, preset: str) -> VlaConfig:
        """See `Playground`."""
        return self._benchmark.network(preset)

    def open(self, image_size: int, num_workers: int | None) -> AbstractContextManager[Player]:
        """See `Playground`."""
        from vla_rl_trainer.envs.libero_env import compile_missing
        from vla_rl_trainer.libero.play import PlayWorlds, play
        from vla_rl_trainer.libero.script_env import script_env

        worlds = self._benchmark.worlds(image_size)
        compile_missing(self.tasks, worlds)
        return script_env(worlds, num_workers, PlayWorlds, play)

    def texts(self) -> Iterator[str]:
        """See `Playground`."""
        from vla_rl_trainer.libero.play import texts

        return texts()

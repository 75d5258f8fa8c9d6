"""The LIBERO benchmark as a `VectorEnv`: its four suites, stepped and drawn without robosuite."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Sequence

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_rl_trainer.envs.process_env import ProcessVectorEnv
from vla_rl_trainer.envs.vector_env import Observations
from vla_rl_trainer.envs.worker import Simulator
from vla_rl_trainer.libero.cache import is_cached
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.suites import TaskName
from vla_rl_trainer.libero.worlds import LiberoConfig, LiberoWorlds


class LiberoVectorEnv(ProcessVectorEnv):
    """Many worlds of LIBERO. A task that is asked for the first time on this machine is compiled, about 10 s."""

    def __init__(
        self,
        num_slots: int,
        config: LiberoConfig,
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
        self.config = config
        self._compiled: set[str] = set()
        super().__init__(
            num_slots,
            Simulator(make_worlds=functools.partial(LiberoWorlds, config=config)),
            LIBERO_PANDA,
            image_size=config.image_size if config.images else 0,
            state_size=config.state_size,
            num_workers=num_workers,
            max_chunk=max_chunk,
            answer_timeout=answer_timeout,
        )

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        """Start an episode in each slot; see `VectorEnv`."""
        self.compile_tasks([episode.task for episode in episodes])
        return super().reset(slots, episodes)

    def compile_tasks(self, tasks: Sequence[str]) -> None:
        """Make sure that these tasks are in the cache; each is looked for once.

        Raises:
            VlaError: a task does not exist, or cannot be compiled here.
        """
        new = [task for task in dict.fromkeys(tasks) if task not in self._compiled]
        compile_missing(new, self.config)
        self._compiled.update(new)


def compile_missing(tasks: Sequence[str], config: LiberoConfig) -> None:
    """Make sure that these tasks are in the cache; robosuite stays in a process of its own.

    Raises:
        VlaError: a task does not exist, or cannot be compiled here.
    """
    cache, visuals = config.cache, config.visuals
    missing = [task for task in tasks if not is_cached(cache, TaskName.parse(task), visuals)]
    if not missing:
        return
    command = [sys.executable, "-m", "vla_rl_trainer.libero.compile_task", "--tasks", *missing]
    options = ["--visuals", visuals, "--cache", str(cache)]
    done = subprocess.run([*command, *options], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise VlaError(f"{', '.join(missing)} could not be compiled: {last[0].removeprefix('error: ')}")

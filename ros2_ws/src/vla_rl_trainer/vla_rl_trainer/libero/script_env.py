"""Processes that run the script, each one episode at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from piper_twin.demonstrate import Demonstration
from piper_twin.episode import Episode
from vla_rl_trainer.envs.process_env import ProcessVectorEnv, available_cores
from vla_rl_trainer.envs.worker import Simulator
from vla_rl_trainer.libero.demonstrate import ScriptWorlds, demonstrate
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.protocol import NUM_TRAIN_STATES
from vla_rl_trainer.libero.scene import LiberoConfig

SPLIT = "demonstration"


def script_env(
    config: LiberoConfig,
    num_workers: int | None,
    worlds: type[ScriptWorlds] = ScriptWorlds,
    demonstrate: Callable[..., Demonstration] = demonstrate,
) -> ProcessVectorEnv:
    """An environment whose `demonstrate` runs a script.

    Args:
        config: How worlds are drawn.
        num_workers: Processes; one a core when None.
        worlds: What is in each of them.
        demonstrate: Tries an episode in slot 0 of those worlds.
    """
    workers = num_workers or available_cores()
    make_worlds = functools.partial(_make_worlds, worlds=worlds, config=config)
    simulator = Simulator(make_worlds=make_worlds, demonstrate=demonstrate)
    return ProcessVectorEnv(
        workers, simulator, LIBERO_PANDA, image_size=0, state_size=config.state_size, num_workers=workers
    )


def _make_worlds(num_slots: int, worlds: type[ScriptWorlds], config: LiberoConfig) -> ScriptWorlds:
    assert num_slots == 1, "a process runs one script at a time"
    return worlds(config)


def train_episodes(task: str, first_seed: int = 0) -> Iterator[Episode]:
    """One episode for each initial state that training may use; its seed is the number of the state."""
    for offset in range(NUM_TRAIN_STATES):
        yield Episode(task, (first_seed + offset) % NUM_TRAIN_STATES, SPLIT)

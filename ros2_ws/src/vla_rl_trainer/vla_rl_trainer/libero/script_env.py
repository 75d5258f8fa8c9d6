"""Processes that run the script, each one episode at a time."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from piper_twin.episode import Episode
from vla_rl_trainer.envs.process_env import ProcessVectorEnv, available_cores
from vla_rl_trainer.envs.worker import Simulator
from vla_rl_trainer.libero.demonstrate import ScriptWorlds, demonstrate
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.protocol import NUM_TRAIN_STATES
from vla_rl_trainer.libero.scene import LiberoConfig

SPLIT = "demonstration"


def script_env(config: LiberoConfig, num_workers: int | None) -> ProcessVectorEnv:
    """An environment whose `demonstrate` runs the script; one process a core when `num_workers` is None."""
    workers = num_workers or available_cores()
    simulator = Simulator(make_worlds=functools.partial(_make_worlds, config=config), demonstrate=demonstrate)
    return ProcessVectorEnv(
        workers, simulator, LIBERO_PANDA, image_size=0, state_size=config.state_size, num_workers=workers
    )


def _make_worlds(num_slots: int, config: LiberoConfig) -> ScriptWorlds:
    assert num_slots == 1, "a process runs one script at a time"
    return ScriptWorlds(config)


def train_episodes(task: str, first_seed: int = 0) -> Iterator[Episode]:
    """One episode for each initial state that training may use; its seed is the number of the state."""
    for offset in range(NUM_TRAIN_STATES):
        yield Episode(task, (first_seed + offset) % NUM_TRAIN_STATES, SPLIT)

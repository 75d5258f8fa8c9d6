"""From how many initial states the script succeeds, in how many tries and steps: physics only, nothing is recorded.

python -m vla_rl_trainer.libero.rates --suites libero_object libero_spatial
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import cast

from rich.console import Console

from vla_policy.errors import VlaError
from vla_policy.provenance import provenance
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_at_least, require_at_most
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.envs.libero_env import compile_missing
from vla_rl_trainer.libero.cache import default_cache
from vla_rl_trainer.libero.demonstrate import ScriptedDemonstration
from vla_rl_trainer.libero.protocol import NUM_TRAIN_STATES
from vla_rl_trainer.libero.scene import LiberoConfig
from vla_rl_trainer.libero.script_env import script_env, train_episodes
from vla_rl_trainer.libero.suites import expand
from vla_rl_trainer.libero.tries import Try, summarise, table_of
from vla_rl_trainer.progress import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiberoRatesConfig:
    """Which tasks, from which states."""

    suites: tuple[str, ...] = ("libero_object", "libero_spatial")
    """Suites, or single tasks such as libero_object/3."""
    num_states: int = NUM_TRAIN_STATES
    """Initial states of each task, of those that training may use."""
    out: Path | None = None
    """File for the numbers, as JSON; replaced where there is one."""
    num_workers: int | None = None
    """Simulation processes; one a core by default."""
    cache: Path | None = None
    """Folder of the compiled tasks; LIBERO_CACHE, else the user's cache by default."""

    def __post_init__(self) -> None:
        """Refuse what names no worlds."""
        require_at_least(self, 1, "num_states")
        require_at_most(self, NUM_TRAIN_STATES, "num_states")
        if not self.tasks:
            raise VlaError("no task was given; name a suite or a task with --suites")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task asked for."""
        return tuple(dict.fromkeys(expand(self.suites)))


def script_rates(config: LiberoRatesConfig) -> list[Try]:
    """Let the script try every state."""
    worlds = LiberoConfig(images=False, cache=config.cache or default_cache())
    compile_missing(config.tasks, worlds)
    tries: list[Try] = []
    with (
        script_env(worlds, config.num_workers) as env,
        Progress("initial states", len(config.tasks) * config.num_states) as progress,
    ):
        for task in config.tasks:
            episodes = list(train_episodes(task))[: config.num_states]
            for episode, found in zip(episodes, env.demonstrate(episodes, look_every=None), strict=True):
                tries.append(Try.of(episode, cast("ScriptedDemonstration", found)))
            progress.advance(len(episodes), note=task)
    return tries


def main(config: LiberoRatesConfig) -> None:
    """Measure and tell."""
    summary = summarise(script_rates(config))
    if config.out is not None:
        write_atomically(config.out, json.dumps({"tasks": summary, **provenance(0)}, indent=2) + "\n")
    Console().print(table_of(summary))


if __name__ == "__main__":
    run_command(main, LiberoRatesConfig)

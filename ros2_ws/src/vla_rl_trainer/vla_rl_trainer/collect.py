"""Record demonstrations of the scripted experts into a dataset.

    python -m vla_rl_trainer.collect --tasks click_bell --num-demos 10 --out data/click_bell

keeps the tries that succeed; the dataset appears whole or not at all.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from piper_twin.robot import DUAL_PIPER
from piper_twin.tasks import find_task
from piper_twin.worlds import TwinConfig
from vla_policy.errors import VlaError
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.dataset import DatasetWriter
from vla_rl_trainer.demonstrations import expert_demonstrations, to_episode_data
from vla_rl_trainer.envs.process_env import available_cores
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.progress import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Recording scripted experts."""

    out: Path
    """Dataset folder, which must not exist."""
    tasks: tuple[str, ...] = ("click_bell",)
    num_demos: int = 10
    """Successful demonstrations of each task."""
    first_seed: int = 0
    """Of the worlds of the demonstration split."""
    randomization: str = "off"
    """off, standard or wide."""
    num_workers: int | None = None
    """Simulation processes; one a core by default."""

    def __post_init__(self) -> None:
        """Refuse what cannot be recorded."""
        require_at_least(self, 1, "num_demos")
        require_at_least(self, 0, "first_seed")
        if self.num_workers is not None:
            require_at_least(self, 1, "num_workers")
        if not self.tasks:
            raise VlaError("no task was given; name at least one with --tasks")
        for task in self.tasks:
            find_task(task)


def main(config: CollectConfig) -> None:
    """Record."""
    workers = config.num_workers or available_cores()
    twin = TwinConfig(randomization=config.randomization)
    with (
        DatasetWriter(config.out, DUAL_PIPER, images="image") as writer,
        TwinVectorEnv(workers, twin, num_workers=workers) as env,
        Progress("demonstrations", len(config.tasks) * config.num_demos) as progress,
    ):
        found = expert_demonstrations(env, config.tasks, config.num_demos, first_seed=config.first_seed)
        for episode, demonstration in found:
            writer.add(to_episode_data(episode, demonstration))
            progress.advance(note=episode.task)


if __name__ == "__main__":
    run_command(main, CollectConfig)

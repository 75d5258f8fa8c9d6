"""Where the groups of a run come from: worlds of this process, or of others (`cluster.source`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from piper_twin.episode import Episode
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import ranks
from vla_rl_trainer.allocation import TaskAllocator
from vla_rl_trainer.collect_statistics import CollectStatistics
from vla_rl_trainer.envs.vector_env import VectorEnv
from vla_rl_trainer.group_collector import GroupCollector
from vla_rl_trainer.ranks import Ranks
from vla_rl_trainer.rollout import run_episodes, sampling
from vla_rl_trainer.surplus import load_groups, save_groups
from vla_rl_trainer.trajectory import Group, Trajectory

if TYPE_CHECKING:
    from vla_rl_trainer.train_grpo import TrainGrpoConfig

SURPLUS = "surplus.safetensors"
"""In a checkpoint: groups that open the next step."""


class GroupSource(Protocol):
    """Samples with the policy that the trainer trains."""

    def attempt(self, episodes: Sequence[Episode]) -> list[bool]:
        """Try each of these once, in any order; whether they succeeded. Processes that share a run try a share each."""
        ...

    def collect(self, step: int, num_groups: int) -> tuple[list[Group], CollectStatistics]:
        """Sample informative groups for a step of the run; several processes sample a share each."""
        ...

    def task_shares(self) -> dict[str, float]:
        """Chance of each task to be drawn next."""
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what is in hand into a checkpoint; returns numbers that belong there too."""
        ...

    def restore(self, folder: Path, numbers: Mapping[str, Any]) -> None:
        """Go on from what `save` wrote and returned."""
        ...


class LocalSource:
    """Worlds of this process."""

    def __init__(
        self,
        config: TrainGrpoConfig,
        policy: VlaPolicy,
        env: VectorEnv | Sequence[VectorEnv],
        rank: Ranks | None = None,
    ) -> None:
        """Sample with `policy` in `env`; `rank` says which of how many sources of the run this is."""
        self._rank = rank or ranks.here()
        self._config, self._policy, self._env = config, policy, env
        self.allocator = TaskAllocator(config.benchmark.tasks, uniform=config.uniform_tasks)
        self.collector = GroupCollector(env, config.group, self.allocator, config.split, self._rank.count)
        self.collector.next_seed = config.seed * 1_000_000 + self._rank.own

    def attempt(self, episodes: Sequence[Episode]) -> list[bool]:
        """See `GroupSource`."""
        solved: list[bool] = []

        def on_finished(trajectory: Trajectory) -> tuple[Episode, ...]:
            solved.append(trajectory.success)
            trajectory.forget()
            return ()

        decide = sampling(self._policy, self._config.temperature, self._generator(0))
        run_episodes(self._env, decide, episodes[self._rank.own :: self._rank.count], on_finished)
        return solved

    def collect(
        self, step: int, num_groups: int, policy_version: int | None = None
    ) -> tuple[list[Group], CollectStatistics]:
        """See `GroupSource`; the policy is of the step's own version unless another is given."""
        rng = np.random.default_rng([self._config.seed, step, 1 + self._rank.own])
        decide = sampling(self._policy, self._config.temperature, self._generator(step + 1))
        share = num_groups // self._rank.count + (self._rank.own < num_groups % self._rank.count)
        return self.collector.collect(decide, share, rng, step if policy_version is None else policy_version)

    def _generator(self, step: int) -> torch.Generator:
        device = self._policy.device if self._policy.device.type == "cuda" else "cpu"
        seed = self._config.seed * 100_003 + step + self._rank.own * 1_000_000_007
        return torch.Generator(device).manual_seed(seed)

    def task_shares(self) -> dict[str, float]:
        """See `GroupSource`."""
        return self.allocator.probabilities()

    def state(self) -> dict[str, Any]:
        """Numbers that decide what is sampled next."""
        return {"next_seed": self.collector.next_seed, "allocator": self.allocator.state()}

    def take_over(self, state: Mapping[str, Any], surplus: list[Group]) -> None:
        """Go on from a `state` and the groups that were in hand."""
        self.collector.next_seed = int(state["next_seed"])
        self.allocator.restore(state["allocator"])
        self.collector.surplus = surplus

    def save(self, folder: Path) -> dict[str, Any]:
        """See `GroupSource`."""
        save_groups(self._rank.file(folder / SURPLUS), self.collector.surplus)
        return self.state()

    def restore(self, folder: Path, numbers: Mapping[str, Any]) -> None:
        """See `GroupSource`."""
        self.take_over(numbers, load_groups(self._rank.file(folder / SURPLUS)))

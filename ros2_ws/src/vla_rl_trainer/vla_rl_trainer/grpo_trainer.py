"""What one run of GRPO consists of: policy, optimiser, collector and allocator, step by step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_policy.fast_answers import accelerate
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import ranks
from vla_rl_trainer.allocation import TaskAllocator
from vla_rl_trainer.envs.vector_env import VectorEnv
from vla_rl_trainer.learner import make_optimizer, update
from vla_rl_trainer.rollout import CollectStatistics, GroupCollector, run_episodes, sampling
from vla_rl_trainer.surplus import load_groups, save_groups
from vla_rl_trainer.training_state import load_state, save_state
from vla_rl_trainer.trajectory import Trajectory

if TYPE_CHECKING:
    from vla_rl_trainer.train_grpo import TrainGrpoConfig

PREFLIGHT_EPISODES = 64
"""Episodes that must hold at least one success before RL starts."""


class GrpoTrainer:
    """Policy, optimiser, collector and allocator: all that a checkpoint must hold."""

    def __init__(self, config: TrainGrpoConfig, policy: VlaPolicy, env: VectorEnv) -> None:
        """Train `policy` in place on worlds of `env`."""
        self.config = config
        self.policy = policy
        self.step = 0
        self.optimizer = make_optimizer(policy, config.learner)
        accelerate(policy, config.compile)
        self.allocator = TaskAllocator(config.benchmark.tasks, uniform=config.uniform_tasks)
        self.collector = GroupCollector(env, config.group, self.allocator, config.split)
        self.collector.next_seed = config.seed * 1_000_000 + ranks.here().own
        self._env = env

    def preflight(self) -> None:
        """Refuse to start from a policy that solves nothing: RL sharpens what is there, it does not begin it.

        Raises:
            VlaError: no success in `PREFLIGHT_EPISODES` sampled episodes.
        """
        solved: list[bool] = []
        tasks = self.config.benchmark.tasks
        per_task = -(-PREFLIGHT_EPISODES // len(tasks))
        episodes = [Episode(task, seed, self.config.split) for task in tasks for seed in range(per_task)]

        def on_finished(trajectory: Trajectory) -> tuple[Episode, ...]:
            solved.append(trajectory.success)
            trajectory.forget()
            return ()

        decide = sampling(self.policy, self.config.temperature, self._generator(0))
        here = ranks.here()
        run_episodes(self._env, decide, episodes[here.own :: here.count], on_finished)
        if not any(ranks.gather(any(solved))):
            raise VlaError(
                f"{self.config.checkpoint} solved 0 of {len(episodes)} episodes of {', '.join(self.config.tasks)}; "
                "RL needs a policy that succeeds now and then (10 % is a good start): "
                "record more demonstrations or fine-tune longer"
            )

    def train_step(self) -> dict[str, float]:
        """Collect groups, learn from them; returns metrics. Each process collects its share, and learns from all."""
        config, here = self.config, ranks.here()
        rng, common = self._random()
        started = time.perf_counter()
        decide = sampling(self.policy, config.temperature, self._generator(self.step + 1))
        share = config.num_groups // here.count + (here.own < config.num_groups % here.count)
        groups, own = self.collector.collect(decide, share, rng, self.step)
        statistics, num_kept = ranks.sum_fields(own), sum(ranks.gather(len(groups)))
        collected = time.perf_counter()
        learned = update(self.policy, self.optimizer, groups, config.temperature, config.learner, common, self.step)
        finished = time.perf_counter()
        self.step += 1
        return (
            _rollout_metrics(statistics, num_kept)
            | learned
            | {f"task/{task}/share": share for task, share in self.allocator.probabilities().items()}
            | {
                "time/rollout_s": collected - started,
                "time/update_s": finished - collected,
                "time/step_s": finished - started,
                "time/control_steps_per_s": statistics.num_steps / (collected - started),
            }
        )

    def _random(self) -> tuple[np.random.Generator, np.random.Generator]:
        """What draws tasks, in every process others; and what mixes trajectories, in all the same."""
        seeds, here = [self.config.seed, self.step], ranks.here()
        if here.count == 1:
            both = np.random.default_rng(seeds)
            return both, both
        return np.random.default_rng([*seeds, 1 + here.own]), np.random.default_rng([*seeds, 0])

    def _generator(self, step: int) -> torch.Generator:
        device = self.policy.device if self.policy.device.type == "cuda" else "cpu"
        seed = self.config.seed * 100_003 + step + ranks.here().own * 1_000_000_007
        return torch.Generator(device).manual_seed(seed)

    def save(self, folder: Path) -> None:
        """Write all that `resume` needs."""
        if ranks.here().is_first:
            self.policy.save(folder)
        ranks.wait()
        numbers = {
            "step": self.step,
            "next_seed": self.collector.next_seed,
            "allocator": self.allocator.state(),
        }
        save_state(folder, self.optimizer, numbers)
        save_groups(ranks.here().file(folder / "surplus.safetensors"), self.collector.surplus)

    def resume(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        self.policy.restore(folder)
        numbers: dict[str, Any] = load_state(folder, self.optimizer)
        self.step, self.collector.next_seed = int(numbers["step"]), int(numbers["next_seed"])
        self.allocator.restore(numbers["allocator"])
        self.collector.surplus = load_groups(ranks.here().file(folder / "surplus.safetensors"))


def _rollout_metrics(statistics: CollectStatistics, num_kept: int) -> dict[str, float]:
    return {
        "reward/mean": statistics.success_rate,
        "rollout/episodes": statistics.num_episodes,
        "rollout/control_steps": statistics.num_steps,
        "rollout/chunks": statistics.num_chunks,
        "rollout/dropped_episodes": statistics.num_dropped_episodes,
        "group/kept": num_kept,
        "group/started": statistics.num_groups,
        "group/dropped": statistics.num_all_solved
        + statistics.num_all_failed
        + statistics.num_outside_bounds
        + statistics.num_lost,
        "group/all_solved": statistics.num_all_solved,
        "group/all_failed": statistics.num_all_failed,
        "group/stopped": statistics.num_stopped,
        "group/surplus": statistics.num_surplus,
        "group/hit_limit": statistics.hit_group_limit,
    }

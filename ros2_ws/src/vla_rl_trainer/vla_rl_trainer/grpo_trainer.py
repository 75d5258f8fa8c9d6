"""What one run of GRPO consists of: policy, optimiser and where its groups come from, step by step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_policy.fast_answers import accelerate
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import ranks
from vla_rl_trainer.collect_statistics import CollectStatistics
from vla_rl_trainer.group_source import GroupSource
from vla_rl_trainer.learner import make_optimizer, update
from vla_rl_trainer.training_state import load_state, save_state

if TYPE_CHECKING:
    from vla_rl_trainer.train_grpo import TrainGrpoConfig

PREFLIGHT_EPISODES = 64
"""Episodes that must hold at least one success before RL starts."""


class NothingToLearn(VlaError):
    """RL cannot begin, or go on: nothing succeeds, or no two tries at a world end differently."""


class GrpoTrainer:
    """Policy, optimiser and where groups come from: all that a checkpoint must hold."""

    def __init__(self, config: TrainGrpoConfig, policy: VlaPolicy, source: GroupSource) -> None:
        """Train `policy` in place on groups of `source`, which samples with it."""
        self.config = config
        self.policy = policy
        self.step = 0
        self.optimizer = make_optimizer(policy, config.learner)
        accelerate(policy, config.compile)
        self.source = source

    def preflight(self) -> None:
        """Refuse to start from a policy that solves nothing: RL sharpens what is there, it does not begin it.

        Raises:
            NothingToLearn: no success in `PREFLIGHT_EPISODES` sampled episodes.
        """
        tasks = self.config.benchmark.tasks
        per_task = -(-PREFLIGHT_EPISODES // len(tasks))
        episodes = [Episode(task, seed, self.config.split) for task in tasks for seed in range(per_task)]
        if not any(ranks.gather(any(self.source.attempt(episodes)))):
            raise NothingToLearn(
                f"{self.config.checkpoint} solved 0 of {len(episodes)} episodes of {', '.join(self.config.tasks)}; "
                "RL needs a policy that succeeds now and then (10 % is a good start): "
                "record more demonstrations or fine-tune longer"
            )

    def train_step(self) -> dict[str, float]:
        """Collect groups, learn from them; returns metrics. Each process collects its share, and learns from all."""
        config = self.config
        started = time.perf_counter()
        groups, own = self.source.collect(self.step, config.num_groups)
        statistics, num_kept = ranks.sum_fields(own), sum(ranks.gather(len(groups)))
        collected = time.perf_counter()
        rng = np.random.default_rng([config.seed, self.step, 0])  # the same in all processes
        learned = update(self.policy, self.optimizer, groups, config.temperature, config.learner, rng, self.step)
        finished = time.perf_counter()
        self.step += 1
        return (
            _rollout_metrics(statistics, num_kept)
            | learned
            | {f"task/{task}/share": share for task, share in self.source.task_shares().items()}
            | {
                "time/rollout_s": collected - started,
                "time/update_s": finished - collected,
                "time/step_s": finished - started,
                "time/control_steps_per_s": statistics.num_steps / (collected - started),
            }
        )

    def save(self, folder: Path) -> None:
        """Write all that `resume` needs."""
        if ranks.here().is_first:
            self.policy.save(folder)
        ranks.wait()
        save_state(folder, self.optimizer, {"step": self.step, **self.source.save(folder)})

    def resume(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        self.policy.restore(folder)
        numbers: dict[str, Any] = load_state(folder, self.optimizer)
        self.step = int(numbers["step"])
        self.source.restore(folder, numbers)


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
        "group/stale": statistics.num_stale,
        "group/hit_limit": statistics.hit_group_limit,
    }

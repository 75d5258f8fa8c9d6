"""One whole step of GRPO on the twin, with its images and a network of whatever design, and where the time goes.

Everything is what `train_grpo` does, but for who succeeds: a network with random weights solves nothing, so that no
group would reach the learner. Success is drawn instead, half of every group, after the full length of the episode:
the longest a rollout can be, and every group is learned from.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from piper_twin.episode import Episode
from piper_twin.mjwarp.device import Backend, WarpConfig
from piper_twin.worlds import ChunkOutcome
from vla_policy.fast_answers import Compile, accelerate
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import ranks
from vla_rl_trainer.envs.vector_env import Observations, VectorEnv
from vla_rl_trainer.group_collector import GroupConfig
from vla_rl_trainer.group_source import LocalSource
from vla_rl_trainer.grpo_trainer import GrpoTrainer
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.train_grpo import TrainGrpoConfig

_KNOWN = 200
"""Groups that the allocator believes to have seen kept: it starts no more than are asked for."""


class TimedEnv:
    """An environment whose time is taken, and in which every second try at a world succeeds."""

    def __init__(self, env: VectorEnv, max_chunks: int) -> None:
        """Episodes of `env` end after `max_chunks` at the latest."""
        self.embodiment, self.num_slots = env.embodiment, env.num_slots
        self.seconds = 0.0
        """Spent on physics and images so far [s]."""
        self._env, self._max_chunks = env, max_chunks
        self._tries: Counter[Episode] = Counter()
        self._succeeds, self._ages = np.zeros(env.num_slots, bool), np.zeros(env.num_slots, np.int64)

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        """As the environment's."""
        for slot, episode in zip(slots, episodes, strict=True):
            self._succeeds[slot], self._ages[slot] = self._tries[episode] % 2 == 0, 0
            self._tries[episode] += 1
        started = time.perf_counter()
        seen = self._env.reset(slots, episodes)
        self.seconds += time.perf_counter() - started
        return seen

    def step_chunk(self, slots: Sequence[int], actions_BKA: np.ndarray) -> tuple[Observations, ChunkOutcome]:
        """As the environment's; success is drawn where an episode ends."""
        started = time.perf_counter()
        seen, outcome = self._env.step_chunk(slots, actions_BKA)
        self.seconds += time.perf_counter() - started
        chosen = list(slots)
        self._ages[chosen] += 1
        done = outcome.done_B | (self._ages[chosen] >= self._max_chunks)
        success = done & ~outcome.dropped_B & self._succeeds[chosen]
        return seen, dataclasses.replace(outcome, done_B=done, success_B=success)

    def close(self) -> None:
        """As the environment's."""
        self._env.close()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IterationConfig:
    """One step of GRPO: 64 groups of 8, as published."""

    task: str = "click_bell"
    num_groups: int = 64
    group_size: int = 8
    num_slots: int = 128
    """Worlds side by side, in every process."""
    num_workers: int | None = None
    """Simulation processes; one a core by default."""
    max_chunks: int = 1000
    """Chunks of an episode at most; the task's horizon is shorter by default."""
    backend: Backend = "mujoco"
    """Of the twin."""
    warp: WarpConfig = dataclasses.field(default_factory=WarpConfig)
    """Of the backend warp."""
    num_warm_up_groups: int = 2
    """Of the step before, in every process."""


def iteration(policy: VlaPolicy, config: IterationConfig, learner: LearnerConfig, way: Compile) -> dict[str, Any]:
    """Time one step of GRPO in all its phases; a small one before it is not counted."""
    training = TrainGrpoConfig(
        checkpoint=Path("random weights"),
        tasks=(config.task,),
        num_groups=config.num_groups,
        group=GroupConfig(group_size=config.group_size, stop_decided=False, carry_surplus=False),
        learner=learner,
        uniform_tasks=True,
        num_slots=config.num_slots,
        backend=config.backend,
        warp=config.warp,
    )
    with training.benchmark.open(policy.config, config.num_slots, config.num_workers) as worlds:
        env = TimedEnv(worlds, config.max_chunks)
        source = LocalSource(training, policy, env)
        trainer = GrpoTrainer(training, policy, source)
        accelerate(policy, way)
        for _ in range(_KNOWN):
            source.allocator.update(config.task, (1.0, 0.0), kept=True)
        trainer.config = dataclasses.replace(training, num_groups=config.num_warm_up_groups * ranks.here().count)
        trainer.train_step()
        trainer.config, env.seconds = training, 0.0
        started = time.perf_counter()
        metrics = trainer.train_step()
        whole = time.perf_counter() - started
    rollout, learned = metrics["time/rollout_s"], metrics["time/update_s"]
    return {
        "seconds": whole,
        "env_steps_per_s": metrics["rollout/control_steps"] / whole,
        "phases_s": {
            "simulation": env.seconds,
            "policy": rollout - env.seconds,
            "update": learned,
            "other": whole - rollout - learned,
        },
        "env_steps": metrics["rollout/control_steps"],
        "chunks": metrics["rollout/chunks"],
        "episodes": metrics["rollout/episodes"],
        "groups": metrics["group/kept"],
        "sampler_learner_gap": metrics["sampler_learner_gap"],
        "compile": way,
        "chunk_fraction": learner.chunk_fraction,
        "rewards": "drawn: every second try succeeds after its full length",
    }

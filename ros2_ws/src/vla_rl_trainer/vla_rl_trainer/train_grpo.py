"""Reinforcement learning from binary success: GRPO on tasks of the twin or of LIBERO.

    python -m vla_rl_trainer.train_grpo ours --checkpoint runs/sft/checkpoints/step_000150 --tasks click_bell
    python -m vla_rl_trainer.train_grpo ours --checkpoint runs/libero/sft/checkpoints/step_004000 --tasks libero_object

Two presets. `paper` is SimpleVLA-RL's algorithm as published. `ours` differs in this: groups whose first half agrees
are stopped, surplus groups open the next step, tasks near 50 % get more groups (a Beta posterior a task), mini-batches
are mixed, the step size suits a small network. In both, uniform groups never reach the learner, log-probabilities are
kept from sampling and checked against the learner's, and a run can be stopped and resumed with the same curve.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from piper_twin.episode import Episode
from vla_policy.checkpoint import weights_sha256
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.allocation import TaskAllocator
from vla_rl_trainer.benchmarks.benchmark import Benchmark
from vla_rl_trainer.benchmarks.choose import find_benchmark
from vla_rl_trainer.benchmarks.libero import LiberoOptions
from vla_rl_trainer.command import run_presets
from vla_rl_trainer.config_checks import require_above, require_at_least, require_at_most
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.envs.vector_env import VectorEnv
from vla_rl_trainer.learner import LearnerConfig, make_optimizer, update
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.rollout import CollectStatistics, GroupCollector, GroupConfig, run_episodes, sampling
from vla_rl_trainer.run_folder import Run
from vla_rl_trainer.surplus import load_groups, save_groups
from vla_rl_trainer.training_state import load_state, save_state
from vla_rl_trainer.trajectory import Trajectory

PREFLIGHT_EPISODES = 64
"""Episodes that must hold at least one success before RL starts."""
MAY_DIFFER = ("out", "checkpoint", "num_workers", "num_steps", "libero.cache")
"""Fields that change nothing about the steps taken so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainGrpoConfig:
    """GRPO."""

    checkpoint: Path
    """Policy to start from; it must solve its tasks now and then."""
    out: Path = Path("runs/grpo")
    """Run folder."""
    tasks: tuple[str, ...] = ("click_bell",)
    """Of the twin, or of LIBERO: suites such as libero_object, or libero_object/3."""
    split: str = "train"
    """Random streams of the worlds; not "evaluation"."""
    randomization: str = "off"
    """Of the twin: off, standard or wide."""
    libero: LiberoOptions = dataclasses.field(default_factory=LiberoOptions)
    """Of LIBERO."""
    num_steps: int = 20
    num_groups: int = 16
    """Informative groups a step."""
    temperature: float = 1.6
    """Of sampling and of the loss."""
    group: GroupConfig = dataclasses.field(default_factory=GroupConfig)
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    uniform_tasks: bool = False
    """Draw all tasks alike instead of those near 50 % more often."""
    target_success: float | None = None
    """Stop once this share of the sampled episodes succeeded in two steps running."""
    num_slots: int = 64
    """Worlds side by side."""
    num_workers: int | None = None
    """Simulation processes; one a core by default."""
    checkpoint_every: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        require_at_least(self, 1, "num_steps", "num_groups", "num_slots", "checkpoint_every")
        require_at_least(self, 0, "seed")
        require_above(self, 0.0, "temperature")
        if self.num_workers is not None:
            require_at_least(self, 1, "num_workers")
        if self.target_success is not None:
            require_above(self, 0.0, "target_success")
            require_at_most(self, 1.0, "target_success")
        if self.split == "evaluation":
            raise VlaError("training on the evaluation split would spoil every evaluation; use --split train")
        for task in self.benchmark.tasks:
            Episode(task, self.seed, self.split)

    @property
    def benchmark(self) -> Benchmark:
        """Where the tasks come from."""
        return find_benchmark(self.tasks, randomization=self.randomization, libero=self.libero)


def ours(checkpoint: Path) -> TrainGrpoConfig:
    """Our preset, for the small networks."""
    return TrainGrpoConfig(checkpoint=checkpoint)


def paper(checkpoint: Path) -> TrainGrpoConfig:
    """SimpleVLA-RL as published: 64 groups of 8, four unmixed mini-batches of 128 trajectories, AdamW at 5e-6."""
    return TrainGrpoConfig(
        checkpoint=checkpoint,
        num_steps=300,
        num_groups=64,
        group=GroupConfig(stop_decided=False, carry_surplus=False),
        learner=LearnerConfig(learning_rate=5e-6, adam_beta2=0.999, num_minibatches=4, shuffle=False),
        uniform_tasks=True,
    )


class GrpoTrainer:
    """Policy, optimiser, collector and allocator: all that a checkpoint must hold."""

    def __init__(self, config: TrainGrpoConfig, policy: VlaPolicy, env: VectorEnv) -> None:
        """Train `policy` in place on worlds of `env`."""
        self.config = config
        self.policy = policy
        self.step = 0
        self.optimizer = make_optimizer(policy, config.learner)
        self.allocator = TaskAllocator(config.benchmark.tasks, uniform=config.uniform_tasks)
        self.collector = GroupCollector(env, config.group, self.allocator, config.split)
        self.collector.next_seed = config.seed * 1_000_000
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
        run_episodes(self._env, decide, episodes, on_finished)
        if not any(solved):
            raise VlaError(
                f"{self.config.checkpoint} solved 0 of {len(solved)} episodes of {', '.join(self.config.tasks)}; "
                "RL needs a policy that succeeds now and then (10 % is a good start): "
                "record more demonstrations or fine-tune longer"
            )

    def train_step(self) -> dict[str, float]:
        """Collect groups, learn from them; returns metrics."""
        config, rng = self.config, np.random.default_rng([self.config.seed, self.step])
        started = time.perf_counter()
        decide = sampling(self.policy, config.temperature, self._generator(self.step + 1))
        groups, statistics = self.collector.collect(decide, config.num_groups, rng, self.step)
        collected = time.perf_counter()
        learned = update(self.policy, self.optimizer, groups, config.temperature, config.learner, rng, self.step)
        finished = time.perf_counter()
        self.step += 1
        return (
            _rollout_metrics(statistics, len(groups))
            | learned
            | {f"task/{task}/share": share for task, share in self.allocator.probabilities().items()}
            | {
                "time/rollout_s": collected - started,
                "time/update_s": finished - collected,
                "time/step_s": finished - started,
                "time/control_steps_per_s": statistics.num_steps / (collected - started),
            }
        )

    def _generator(self, step: int) -> torch.Generator:
        device = self.policy.device if self.policy.device.type == "cuda" else "cpu"
        return torch.Generator(device).manual_seed(self.config.seed * 100_003 + step)

    def save(self, folder: Path) -> None:
        """Write all that `resume` needs."""
        self.policy.save(folder)
        numbers = {
            "step": self.step,
            "next_seed": self.collector.next_seed,
            "allocator": self.allocator.state(),
        }
        save_state(folder, self.optimizer, numbers)
        save_groups(folder / "surplus.safetensors", self.collector.surplus)

    def resume(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        self.policy.restore(folder)
        numbers: dict[str, Any] = load_state(folder, self.optimizer)
        self.step, self.collector.next_seed = int(numbers["step"]), int(numbers["next_seed"])
        self.allocator.restore(numbers["allocator"])
        self.collector.surplus = load_groups(folder / "surplus.safetensors")


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


def main(config: TrainGrpoConfig) -> Path:
    """Train; returns the folder of the trained policy."""
    benchmark = config.benchmark
    policy = VlaPolicy.load(config.checkpoint, pick_device(), robot=benchmark.embodiment)
    policy.require_tokens()
    benchmark.require_policy(policy.config)
    settings = dataclasses.asdict(config) | {"checkpoint_sha256": weights_sha256(config.checkpoint)}
    settings = {name: value for name, value in settings.items() if name not in benchmark.ignores}
    with (
        Run.open_or_create(config.out, settings, may_differ=MAY_DIFFER) as run,
        benchmark.open(policy.config, config.num_slots, config.num_workers) as env,
    ):
        trainer = GrpoTrainer(config, policy, env)
        latest = run.latest_checkpoint()
        if latest is None:
            trainer.preflight()
        else:
            trainer.resume(latest)
        run.truncate_metrics(trainer.step)
        return _train(run, trainer)


def _train(run: Run, trainer: GrpoTrainer) -> Path:
    config = trainer.config
    with Progress("GRPO steps", config.num_steps, trainer.step) as progress:
        while trainer.step < config.num_steps and not _is_solved(run, config):
            metrics = trainer.train_step()
            run.log(trainer.step - 1, metrics)
            rate = metrics["reward/mean"]
            progress.advance(note="groups kept from the step before" if math.isnan(rate) else f"success {rate:.0%}")
            is_last = trainer.step == config.num_steps or _is_solved(run, config)
            if trainer.step % config.checkpoint_every == 0 or is_last:
                with run.saving_checkpoint(trainer.step) as folder:
                    trainer.save(folder)
            if metrics["group/kept"] == 0 and not is_last:
                raise VlaError(_why_nothing_was_learnt(metrics))
    return run.checkpoint_path(trainer.step)


def _why_nothing_was_learnt(metrics: dict[str, float]) -> str:
    rate = metrics["reward/mean"]
    remedy = (
        "give harder tasks, or a --target-success to stop at"
        if rate > 0.5
        else "record more demonstrations, fine-tune longer, or give easier tasks"
    )
    return (
        f"none of {metrics['group/started']:.0f} groups was informative at a success rate of {rate:.0%}: "
        f"nothing can be learnt here; {remedy}"
    )


def _is_solved(run: Run, config: TrainGrpoConfig) -> bool:
    """Whether the last two steps reached the target, or the last one did so without leaving anything to learn from.

    A step made of surplus groups alone says nothing.
    """
    if config.target_success is None:
        return False
    told = [line for line in run.metrics() if line["reward/mean"] is not None][-2:]
    reached = [line["reward/mean"] >= config.target_success for line in told]
    if reached and reached[-1] and told[-1]["group/kept"] == 0:
        return True
    return len(reached) == 2 and all(reached)


if __name__ == "__main__":
    run_presets(main, {"ours": ours, "paper": paper})

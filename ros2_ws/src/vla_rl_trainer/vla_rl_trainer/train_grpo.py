"""Reinforcement learning from binary success: GRPO on tasks of the twin or of LIBERO.

    python -m vla_rl_trainer.train_grpo ours --checkpoint runs/sft/checkpoints/step_000150 --tasks click_bell
    python -m vla_rl_trainer.train_grpo ours --checkpoint runs/libero/sft/checkpoints/step_004000 --tasks libero_object

Two presets. `paper` is SimpleVLA-RL's algorithm as published. `ours` differs in this: groups whose first half agrees
are stopped, surplus groups open the next step, tasks near 50 % get more groups (a Beta posterior a task), mini-batches
are mixed, the step size suits a small network. In both, uniform groups never reach the learner, log-probabilities are
kept from sampling and checked against the learner's, and a run can be stopped and resumed with the same curve.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from piper_twin.episode import Episode
from piper_twin.mjwarp.device import WARP_MAY_DIFFER, Backend, WarpConfig
from vla_policy.checkpoint import weights_sha256
from vla_policy.errors import VlaError
from vla_policy.fast_answers import Compile
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import ranks
from vla_rl_trainer.benchmarks.benchmark import Benchmark
from vla_rl_trainer.benchmarks.choose import find_benchmark
from vla_rl_trainer.benchmarks.libero import LiberoOptions
from vla_rl_trainer.cluster.config import MAY_DIFFER as CLUSTER_MAY_DIFFER
from vla_rl_trainer.cluster.config import ClusterConfig
from vla_rl_trainer.command import run_presets
from vla_rl_trainer.config_checks import require_above, require_at_least, require_at_most
from vla_rl_trainer.devices import pick_device, share_cores
from vla_rl_trainer.group_collector import GroupConfig
from vla_rl_trainer.group_source import GroupSource, LocalSource
from vla_rl_trainer.grpo_trainer import GrpoTrainer, NothingToLearn
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.run_folder import Run
from vla_rl_trainer.shared_run import SharedRun, open_run

MAY_DIFFER = (
    *("out", "checkpoint", "num_workers", "num_steps", "libero.cache", *WARP_MAY_DIFFER),
    *("compile", "learner.micro_batch", "learner.recompute"),
    *CLUSTER_MAY_DIFFER,
)
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
    backend: Backend = "mujoco"
    """Of the twin: mujoco steps it on the CPU, warp on a GPU, auto on a GPU where there is one; mixed has half of the
    worlds on either, so that a policy is trained on the pictures and contacts of both."""
    warp: WarpConfig = dataclasses.field(default_factory=WarpConfig)
    """Of the backend warp."""
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
    """Worlds side by side, in every process of the run."""
    num_cohorts: int = 1
    """Parts of the worlds that take turns, one moves while the policy thinks about another: 2 pays where a GPU answers
    and cores simulate."""
    num_workers: int | None = None
    """Simulation processes of each cohort; one a core by default."""
    compile: Compile = "auto"
    """How the network is asked in rollouts: auto is CUDA graphs on a GPU, fused compiles it first."""
    cluster: ClusterConfig = dataclasses.field(default_factory=ClusterConfig)
    """Rollouts on other machines; none by default."""
    checkpoint_every: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        require_at_least(self, 1, "num_steps", "num_groups", "num_slots", "num_cohorts", "checkpoint_every")
        require_at_least(self, 0, "seed")
        require_above(self, 0.0, "temperature")
        if self.num_workers is not None:
            require_at_least(self, 1, "num_workers")
        if self.target_success is not None:
            require_above(self, 0.0, "target_success")
            require_at_most(self, 1.0, "target_success")
        num_parts = self.num_cohorts * (2 if self.backend == "mixed" else 1)
        if num_parts > self.num_slots:
            raise VlaError(f"{self.num_slots} worlds make no {num_parts} cohorts; raise --num-slots")
        if self.split == "evaluation":
            raise VlaError("training on the evaluation split would spoil every evaluation; use --split train")
        for task in self.benchmark.tasks:
            Episode(task, self.seed, self.split)

    @property
    def benchmark(self) -> Benchmark:
        """Where the tasks come from."""
        return find_benchmark(
            self.tasks,
            randomization=self.randomization,
            libero=self.libero,
            backend=self.backend,
            warp=self.warp,
        )


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


def main(config: TrainGrpoConfig) -> Path:
    """Train; returns the folder of the trained policy."""
    benchmark, here = config.benchmark, ranks.join()
    if here.count > 1 and config.cluster.num_rollouts:
        raise VlaError("a run is shared by torchrun's processes or by a cluster's rollouts; leave one of them out")
    sharers = max(here.count, config.cluster.num_rollouts)
    if config.num_groups < sharers:
        raise VlaError(f"{config.num_groups} groups cannot be shared by {sharers} processes; raise --num-groups")
    policy = VlaPolicy.load(config.checkpoint, pick_device(), robot=benchmark.embodiment)
    policy.require_tokens()
    benchmark.require_policy(policy.config)
    settings = dataclasses.asdict(config) | {"checkpoint_sha256": weights_sha256(config.checkpoint)}
    settings = {name: value for name, value in settings.items() if name not in benchmark.ignores}
    with (
        open_run(config.out, settings, MAY_DIFFER, _usual(config)) as run,
        _group_source(config, policy) as source,
    ):
        trainer = GrpoTrainer(config, policy, source)
        latest = run.latest_checkpoint()
        if latest is None:
            trainer.preflight()
        else:
            trainer.resume(latest)
        run.truncate_metrics(trainer.step)
        return _train(run, trainer)


@contextlib.contextmanager
def _group_source(config: TrainGrpoConfig, policy: VlaPolicy) -> Iterator[GroupSource]:
    """Worlds of this process, or a cluster's."""
    if config.cluster.num_rollouts:
        from vla_rl_trainer.cluster.source import ClusterSource, connected  # which imports this module's users

        with connected(config.cluster), contextlib.closing(ClusterSource(config, policy)) as source:
            yield source
        return
    workers = share_cores(config.num_workers)
    benchmarks = _benchmarks(config) * config.num_cohorts
    shares = np.array_split(np.arange(config.num_slots), len(benchmarks))
    with contextlib.ExitStack() as stack:
        envs = [
            stack.enter_context(benchmark.open(policy.config, len(share), workers))
            for benchmark, share in zip(benchmarks, shares, strict=True)
        ]
        yield LocalSource(config, policy, envs)


def _benchmarks(config: TrainGrpoConfig) -> list[Benchmark]:
    """Where the tasks come from: one, or each backend's."""
    if config.backend != "mixed":
        return [config.benchmark]
    return [dataclasses.replace(config, backend=backend).benchmark for backend in ("warp", "mujoco")]


def _usual(config: TrainGrpoConfig) -> dict[str, Any]:
    return dataclasses.asdict(TrainGrpoConfig(checkpoint=config.checkpoint))


def _train(run: Run | SharedRun, trainer: GrpoTrainer) -> Path:
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
                raise NothingToLearn(_why_nothing_was_learnt(metrics))
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


def _is_solved(run: Run | SharedRun, config: TrainGrpoConfig) -> bool:
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

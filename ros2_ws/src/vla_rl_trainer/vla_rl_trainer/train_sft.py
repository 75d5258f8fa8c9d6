"""Fine-tune a base policy on demonstrations.

    python -m vla_rl_trainer.train_sft --dataset data/click_bell --out runs/sft

starts from the base policy that ships with the package, unless `--checkpoint` names another, or `--preset small` asks
for a fresh network (none ships for LIBERO). Which robot it is, the demonstrations say.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vla_policy.checkpoint import weights_sha256
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_policy.presets import PRESETS
from vla_policy.prompt import train_tokenizer
from vla_rl_trainer import ranks
from vla_rl_trainer.benchmarks.benchmark import Benchmark
from vla_rl_trainer.benchmarks.choose import benchmark_of
from vla_rl_trainer.command import find, run_command
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.dataset import Dataset, FrameTable
from vla_rl_trainer.dataset.reflection import with_reflections
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.sft import SftConfig, SftTrainer, statistics_of, train_in_run
from vla_rl_trainer.shared_run import open_run

MAY_DIFFER = ("out", "checkpoint", "sft.micro_batch", "sft.recompute")
"""Fields that change nothing about the steps taken so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSftConfig:
    """Supervised fine-tuning."""

    dataset: tuple[Path, ...]
    """Demonstrations: LeRobotDataset v3.0 folders of this robot."""
    checkpoint: Path | None = None
    """Policy to start from; the shipped base by default."""
    preset: str | None = None
    """Start from a fresh network of this size instead: tiny or small."""
    mirror: bool = False
    """Learn from every demonstration's mirror image too, in which the other arm does it; for the two Pipers."""
    out: Path = Path("runs/sft")
    """Run folder."""
    sft: SftConfig = dataclasses.field(default_factory=lambda: SftConfig(num_steps=150, batch_size=32))
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        require_at_least(self, 1, "checkpoint_every")
        require_at_least(self, 0, "seed")
        if self.preset is not None:
            find(PRESETS, self.preset, "preset")
            if self.checkpoint is not None:
                raise VlaError("a preset is a fresh network and a checkpoint is none; give --preset or --checkpoint")


def _read(config: TrainSftConfig, benchmark: Benchmark, image_size: int | None) -> FrameTable:
    datasets = [Dataset(path, benchmark.embodiment) for path in config.dataset]
    table = FrameTable.concatenate([dataset.frames(image_size) for dataset in datasets])
    return with_reflections(table, benchmark.embodiment) if config.mirror else table


def _fresh(config: TrainSftConfig, benchmark: Benchmark, preset: str) -> tuple[VlaPolicy, FrameTable]:
    """An untrained policy, its numbers and words those of the demonstrations, and these."""
    network = benchmark.network(preset)
    table = _read(config, benchmark, network.image_size)
    statistics = statistics_of(table, benchmark.embodiment, network)
    tokenizer = train_tokenizer(table.instructions)
    device = pick_device()
    policy = VlaPolicy.create(network, benchmark.embodiment, statistics, tokenizer, seed=config.seed, device=device)
    return policy, table


def main(config: TrainSftConfig) -> Path:
    """Train; returns the folder of the trained policy."""
    ranks.join()
    benchmark = benchmark_of(Dataset(config.dataset[0]).embodiment if config.dataset else None)
    settings = dataclasses.asdict(config)
    if config.preset is not None:
        policy, table = _fresh(config, benchmark, config.preset)
    else:
        checkpoint = config.checkpoint or benchmark.base()
        policy = VlaPolicy.load(checkpoint, pick_device(), robot=benchmark.embodiment)
        benchmark.require_policy(policy.config)
        policy.require_tokens()
        table = _read(config, benchmark, None if policy.config.scales_images else policy.config.image_size)
        # The path does not say which policy it was: another base may ship one day.
        settings |= {"checkpoint_sha256": weights_sha256(checkpoint)}
    usual = dataclasses.asdict(TrainSftConfig(dataset=config.dataset))
    with open_run(config.out, settings, MAY_DIFFER, usual) as run:
        return train_in_run(run, SftTrainer(policy, table, config.sft, config.seed), config.checkpoint_every)


if __name__ == "__main__":
    run_command(main, TrainSftConfig)

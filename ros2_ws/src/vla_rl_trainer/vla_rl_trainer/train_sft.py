"""Fine-tune a base policy on demonstrations.

    python -m vla_rl_trainer.train_sft --dataset data/click_bell --out runs/sft

starts from the base policy that ships with the package, unless `--checkpoint` names another.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from piper_twin.robot import DUAL_PIPER
from vla_policy.checkpoint import weights_sha256
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.base import base_policy
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.dataset import Dataset, FrameTable
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.run_folder import Run
from vla_rl_trainer.sft import SftConfig, SftTrainer, train_in_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSftConfig:
    """Supervised fine-tuning."""

    dataset: tuple[Path, ...]
    """Demonstrations: LeRobotDataset v3.0 folders of this robot."""
    checkpoint: Path | None = None
    """Policy to start from; the shipped base by default."""
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


def main(config: TrainSftConfig) -> Path:
    """Train; returns the folder of the trained policy."""
    checkpoint = config.checkpoint or base_policy()
    policy = VlaPolicy.load(checkpoint, pick_device(), robot=DUAL_PIPER)
    size = policy.config.image_size
    table = FrameTable.concatenate([Dataset(path, DUAL_PIPER).frames(size) for path in config.dataset])
    # The path does not say which policy it was: another base may ship one day.
    settings = dataclasses.asdict(config) | {"checkpoint_sha256": weights_sha256(checkpoint)}
    with Run.open_or_create(config.out, settings, may_differ=("out", "checkpoint")) as run:
        return train_in_run(run, SftTrainer(policy, table, config.sft, config.seed), config.checkpoint_every)


if __name__ == "__main__":
    run_command(main, TrainSftConfig)

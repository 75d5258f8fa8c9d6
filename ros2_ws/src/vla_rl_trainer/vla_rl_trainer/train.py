"""From demonstrations to a trained policy in one command: SFT, GRPO, evaluation, each in a run folder of its own.

    python -m vla_rl_trainer.train --demos data/click_bell --tasks click_bell --out runs/bell

Every stage resumes where it was stopped and is skipped once it is finished; `train_sft`, `train_grpo` and `evaluate`
have all the options this one leaves at their defaults.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from vla_policy.errors import VlaError
from vla_rl_trainer import evaluate, train_grpo, train_sft
from vla_rl_trainer.command import run_command

_PRESETS = {"ours": train_grpo.ours, "paper": train_grpo.paper}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Demonstrations to policy."""

    tasks: tuple[str, ...] = ("click_bell",)
    """Tasks to train on; the demonstrations should show them."""
    demos: tuple[Path, ...] = ()
    """Demonstrations to fine-tune on first: LeRobotDataset v3.0 folders. None: `model` is fine-tuned already."""
    model: Path | None = None
    """Policy to start from; the shipped base by default."""
    preset: Literal["ours", "paper"] = "ours"
    """Of GRPO."""
    out: Path = Path("runs/train")
    """Holds the run folders sft, grpo and evaluate."""
    resume: bool = True
    """Go on with what is in `out`; without it a folder that exists is refused."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a start from nothing."""
        if not self.demos and self.model is None:
            raise VlaError("the base policy solves no task yet: give --demos to fine-tune on, or a fine-tuned --model")


def main(config: TrainConfig) -> int:
    """Train and evaluate; returns the exit code."""
    if not config.resume and config.out.exists():
        raise VlaError(f"{config.out} already exists; choose another --out, or go on with it by --resume")
    start = _fine_tuned(config) if config.demos else config.model
    assert start is not None  # held by TrainConfig
    grpo = dataclasses.replace(
        _PRESETS[config.preset](start), out=config.out / "grpo", tasks=config.tasks, seed=config.seed
    )
    trained = train_grpo.main(grpo)
    return evaluate.main(evaluate.EvaluateConfig(checkpoint=trained, tasks=config.tasks, out=config.out / "evaluate"))


def _fine_tuned(config: TrainConfig) -> Path:
    return train_sft.main(
        train_sft.TrainSftConfig(
            dataset=config.demos, checkpoint=config.model, out=config.out / "sft", seed=config.seed
        )
    )


if __name__ == "__main__":
    run_command(main, TrainConfig)

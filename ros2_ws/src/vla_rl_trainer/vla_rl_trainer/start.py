"""Training without `ros2 launch`, for machines where ROS came from pip.

    python -m vla_rl_trainer.start libero_rl suite:=libero_object model:=small num_demos:=10 output:=runs/object
    python -m vla_rl_trainer.start piper_rl --show-args

The launch files start this very process with the same arguments.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piper_twin.exit_codes import exit_after
from vla_policy.errors import VlaError
from vla_policy.launch_arguments import arguments_of, fill, parse

if TYPE_CHECKING:
    from vla_rl_trainer.learner import LearnerConfig
    from vla_rl_trainer.train import TrainConfig


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PiperRlArguments:
    """From demonstrations of two Pipers to a policy trained on the twin."""

    task: str = "click_bell"
    """Task of the twin to train on."""
    demos: str = ""
    """Demonstrations to fine-tune on first: a LeRobotDataset v3.0 folder, as import_bags writes it."""
    model: str = ""
    """Policy to start from; empty: the base that ships. Without demos it must be fine-tuned already."""
    preset: str = "ours"
    """Of GRPO: ours or paper."""
    output: str = "runs/train"
    """Folder for everything the run leaves behind."""
    resume: bool = True
    """Go on with what is in output; false refuses a folder that exists."""
    seed: int = 0
    """Of everything but the evaluation worlds."""

    def config(self) -> TrainConfig:
        """For `vla_rl_trainer.train`."""
        from vla_rl_trainer.train import TrainConfig

        return TrainConfig(
            tasks=(self.task,),
            demos=_paths(self.demos),
            model=Path(self.model) if self.model else None,
            preset=_one_of("preset", self.preset, ("ours", "paper")),
            out=Path(self.output),
            resume=self.resume,
            seed=self.seed,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LiberoRlArguments:
    """SimpleVLA-RL's benchmark: demonstrations, SFT, GRPO, and evaluations on held-out states before and after."""

    suite: str = "libero_object"
    """libero_spatial, libero_object, libero_goal or libero_10; several with commas between."""
    tasks: str = ""
    """Numbers of the suite's tasks to train on, such as 0,3; empty: all ten."""
    model: str = "small"
    """Policy to start from: a checkpoint, an OpenVLA-OFT folder, or the size of a fresh network (tiny, small)."""
    play_episodes: int = -1
    """Of play in the other suites, on which a fresh network is pretrained first; 0: it is not; -1: 2,000 where there
    are others."""
    demos: str = ""
    """Demonstrations to fine-tune on first: a LeRobotDataset v3.0 folder; several with commas between."""
    num_demos: int = -1
    """Scripted demonstrations of each task to record and fine-tune on where no demos are given; -1: ten for a fresh
    network, none for a checkpoint, which goes straight to RL."""
    split: str = "held_out"
    """Initial states: held_out evaluates on states that training never sees, official on all, as publications do."""
    perturbations: str = ""
    """Evaluate under these as well: camera, light, pose, all; several with commas between."""
    preset: str = "ours"
    """Of GRPO: ours or paper."""
    sft_steps: int = 1000
    """Batches of 128 in supervised fine-tuning; a fresh network that has not played needs 6,000."""
    grpo_steps: int = 100
    """Steps of GRPO; may be raised later to go on."""
    groups: int = 32
    """Informative groups of eight episodes in a step of GRPO."""
    lora: int = 0
    """Rank of adapters to train in place of all weights, for OpenVLA on one GPU; 32 is usual. 0: all weights."""
    learning_rate: float = 0.0
    """Of GRPO; 0: as the preset has it."""
    micro_batch: int = 0
    """Chunks a backward pass, as memory allows; 0: as the preset has it."""
    slots: int = 256
    """Worlds side by side."""
    output: str = "runs/libero"
    """Folder for everything the run leaves behind."""
    resume: bool = True
    """Go on with what is in output; false refuses a folder that exists."""
    eval_only: bool = False
    """Evaluate model and train nothing."""
    wandb: str = ""
    """online, offline or disabled; empty: as WANDB_MODE and WANDB_PROJECT say."""
    seed: int = 0
    """Of everything but the evaluation worlds."""

    def config(self) -> TrainConfig:
        """For `vla_rl_trainer.train`."""
        from vla_policy.presets import PRESETS
        from vla_rl_trainer.benchmarks.libero import LiberoOptions
        from vla_rl_trainer.libero.suites import HORIZONS
        from vla_rl_trainer.train import libero

        if self.wandb:
            os.environ["WANDB_MODE"] = _one_of("wandb", self.wandb, ("online", "offline", "disabled"))
        preset = _one_of("preset", self.preset, ("ours", "paper"))
        usual = libero()
        may_play = self.model in PRESETS and not set(HORIZONS) <= set(_words(self.suite))
        played = self.play_episodes if self.play_episodes != -1 else usual.play_episodes * may_play
        num_demos = self.num_demos if self.num_demos != -1 else usual.num_demos * (self.model in PRESETS)
        return dataclasses.replace(
            usual,
            tasks=self._tasks(),
            demos=_paths(self.demos),
            num_demos=0 if self.demos else num_demos,
            model=Path(self.model),
            play_episodes=played,
            preset=preset,
            sft=dataclasses.replace(usual.sft, num_steps=self.sft_steps),
            grpo_steps=self.grpo_steps,
            num_groups=self.groups,
            learner=self._learner(),
            num_slots=self.slots,
            libero=LiberoOptions(states=_one_of("split", self.split, ("held_out", "official"))),
            perturbations=tuple(_words(self.perturbations)),
            out=Path(self.output),
            resume=self.resume,
            eval_only=self.eval_only,
            seed=self.seed,
        )

    def _learner(self) -> LearnerConfig:
        from vla_rl_trainer.train import PRESETS_OF_GRPO
        from vla_rl_trainer.trainable import LoraConfig

        learner = PRESETS_OF_GRPO[self.preset](Path(self.model)).learner
        return dataclasses.replace(
            learner,
            learning_rate=self.learning_rate or learner.learning_rate,
            micro_batch=self.micro_batch or learner.micro_batch,
            lora=LoraConfig(rank=self.lora) if self.lora else learner.lora,
        )

    def _tasks(self) -> tuple[str, ...]:
        suites, numbers = _words(self.suite), _words(self.tasks)
        if numbers and len(suites) != 1:
            raise VlaError(f"tasks are numbers of one suite, not of {self.suite!r}; leave them out, or name one suite")
        return tuple(f"{suites[0]}/{number}" for number in numbers) or tuple(suites)


LAUNCHES: dict[str, type[Any]] = {"piper_rl": PiperRlArguments, "libero_rl": LiberoRlArguments}
"""What can be launched, by the name of its launch file."""


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(word) for word in _words(text))


def _one_of(name: str, value: str, allowed: Sequence[str]) -> Any:
    if value not in allowed:
        raise VlaError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")
    return value


def main(words: Sequence[str]) -> int:
    """Run what the first word names, told by the others; returns the exit code."""
    kind, rest = _kind(words)
    if {"--show-args", "-s", "--help", "-h"} & set(rest):
        print(_help(kind))
        return 0
    config = fill(kind, parse(rest)).config()
    from vla_rl_trainer import train

    return train.main(config)


def _kind(words: Sequence[str]) -> tuple[type[Any], Sequence[str]]:
    if not words or words[0] not in LAUNCHES:
        given = f"there is no launch '{words[0]}'" if words else "no launch was given"
        raise VlaError(f"{given}; choose one of {', '.join(LAUNCHES)}")
    return LAUNCHES[words[0]], words[1:]


def _help(kind: type[Any]) -> str:
    lines = [f"  {one.name} (default: '{one.default}')\n      {one.description}" for one in arguments_of(kind)]
    return "\n".join([kind.__doc__ or "", "", "Arguments (name:=value):", *lines])


if __name__ == "__main__":
    exit_after(lambda: main(sys.argv[1:]), "stopped; the same command resumes")

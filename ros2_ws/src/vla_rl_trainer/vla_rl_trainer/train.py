"""From demonstrations to a trained policy in one command: SFT, GRPO, evaluations before and after, a report.

    python -m vla_rl_trainer.train --demos data/click_bell --tasks click_bell --out runs/bell
    python -m vla_rl_trainer.train --tasks libero_object --num-demos 10 --model small --out runs/object

Every stage resumes where it was stopped and is skipped once it is finished, and each has a run folder of its own below
`--out`. `train_sft`, `train_grpo` and `evaluate` have all the options this one leaves at their defaults.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from piper_twin.mjwarp.device import Backend, WarpConfig
from vla_policy.errors import VlaError
from vla_policy.fast_answers import Compile
from vla_policy.policy import VlaPolicy
from vla_policy.presets import PRESETS
from vla_rl_trainer import evaluate, pretrain, train_grpo, train_sft
from vla_rl_trainer.benchmarks.benchmark import Benchmark
from vla_rl_trainer.benchmarks.choose import find_benchmark
from vla_rl_trainer.benchmarks.libero import LiberoOptions
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.dataset.reflection import require_mirror
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.group_collector import GroupConfig
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.libero.perturbation import PERTURBATIONS, Perturbation
from vla_rl_trainer.libero.suites import HORIZONS
from vla_rl_trainer.sft import SftConfig
from vla_rl_trainer.train_report import Found, is_reported, report, require_evaluated

PRESETS_OF_GRPO = {"ours": train_grpo.ours, "paper": train_grpo.paper}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Demonstrations to policy."""

    tasks: tuple[str, ...] = ("click_bell",)
    """Tasks to train on, of the twin or of LIBERO; the demonstrations should show them."""
    demos: tuple[Path, ...] = ()
    """Demonstrations to fine-tune on first: LeRobotDataset v3.0 folders."""
    num_demos: int = 0
    """Scripted demonstrations of each task to record where no `demos` are given; 0: `model` is fine-tuned already."""
    mirror: bool = False
    """Learn from the demonstrations' mirror images too; for the two Pipers."""
    model: Path | None = None
    """Policy to start from, or the size of a fresh network (tiny, small); the shipped base by default."""
    preset: Literal["ours", "paper"] = "ours"
    """Of GRPO."""
    play_episodes: int = 0
    """Of play in the other suites of LIBERO, on which a fresh network is pretrained first; 0: it is not."""
    play: SftConfig = dataclasses.field(
        default_factory=lambda: SftConfig(num_steps=6000, batch_size=128, learning_rate=6e-4)
    )
    """Pretraining on them."""
    sft: SftConfig = dataclasses.field(default_factory=lambda: SftConfig(num_steps=150, batch_size=32))
    grpo_steps: int | None = None
    """As the preset has it by default; may be raised later to go on."""
    num_groups: int | None = None
    """Informative groups a step; as the preset has it by default."""
    group: GroupConfig = dataclasses.field(default_factory=GroupConfig)
    """Of GRPO; as the preset has it unless changed."""
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    """Likewise."""
    num_slots: int = 64
    """Worlds side by side."""
    num_cohorts: int = 1
    """Parts of them that take turns: 2 pays where a GPU answers, and simulates too or cores do."""
    checkpoint_every: int = 5
    """Steps of GRPO between checkpoints."""
    backend: Backend = "mujoco"
    """Of the twin: mujoco steps it on the CPU, warp on a GPU, auto on a GPU where there is one; mixed trains on both,
    and evaluates on mujoco."""
    warp: WarpConfig = dataclasses.field(default_factory=WarpConfig)
    """Of the backend warp."""
    compile: Compile = "auto"
    """How the network is asked in GRPO: auto is CUDA graphs on a GPU, fused compiles it first."""
    libero: LiberoOptions = dataclasses.field(default_factory=LiberoOptions)
    """Of LIBERO."""
    perturbations: tuple[Perturbation, ...] = ()
    """LIBERO's perturbations under which both policies are evaluated as well."""
    num_videos: int = 4
    """Held-out worlds that are filmed before and after."""
    eval_only: bool = False
    """Evaluate `model` and train nothing."""
    out: Path = Path("runs/train")
    """Holds the run folders play, sft, grpo and evaluate/..., and the report."""
    resume: bool = True
    """Go on with what is in `out`; without it a folder that exists is refused."""
    seed: int = 0
    num_workers: int | None = None
    """Simulation processes; one a core by default."""

    def __post_init__(self) -> None:
        """Refuse a start from nothing, and what a later stage would refuse."""
        require_at_least(self, 0, "num_demos", "num_videos", "play_episodes", "seed")
        require_at_least(self, 1, "num_slots", "num_cohorts", "checkpoint_every")
        for name in ("grpo_steps", "num_groups", "num_workers"):
            if getattr(self, name) is not None:
                require_at_least(self, 1, name)
        benchmark = self.benchmark
        wrong = [one for one in self.perturbations if one not in PERTURBATIONS[1:]]
        if wrong or (self.perturbations and not benchmark.suites):
            raise VlaError(f"perturbations are LIBERO's {', '.join(PERTURBATIONS[1:])}, not {self.perturbations}")
        if self.mirror:
            require_mirror(benchmark.embodiment)
        if self.play_episodes and not (self.size and benchmark.suites and self.playground):
            raise VlaError(
                "play comes before a fresh network of LIBERO's learns a task: give --model tiny or small, and leave "
                "some suite to play in, or leave --play-episodes out"
            )
        if self.eval_only and (self.model is None or self.size):
            raise VlaError("there is nothing to evaluate: give the folder of a policy by --model")
        if not self.eval_only and not self.demos and not self.num_demos and (self.model is None or self.size):
            raise VlaError(
                "the base policy solves no task yet: give --demos to fine-tune on, or a fine-tuned --model, or "
                "--num-demos to record scripted ones"
            )

    @property
    def benchmark(self) -> Benchmark:
        """Where the tasks come from."""
        return find_benchmark(self.tasks, libero=self.libero, backend=self.backend, warp=self.warp)

    @property
    def playground(self) -> tuple[str, ...]:
        """LIBERO's suites that are not trained on."""
        return tuple(suite for suite in HORIZONS if suite not in self.benchmark.suites)

    @property
    def size(self) -> str | None:
        """Of a fresh network, where one is asked for."""
        return str(self.model) if self.model is not None and str(self.model) in PRESETS else None


def libero() -> TrainConfig:
    """What `libero_rl` starts from: a `small` network that has played, ten demonstrations of libero_object's tasks."""
    return TrainConfig(
        tasks=("libero_object",),
        model=Path("small"),
        play_episodes=2000,
        num_demos=10,
        sft=SftConfig(num_steps=1000, batch_size=128, learning_rate=4e-4),
        grpo_steps=100,
        num_groups=32,
        num_slots=256,
        checkpoint_every=10,
        out=Path("runs/libero"),
    )


def main(config: TrainConfig) -> int:
    """Train and evaluate; returns the exit code."""
    if not config.resume and config.out.exists():
        raise VlaError(f"{config.out} already exists; choose another --out, or go on with it by --resume")
    if config.eval_only:
        assert config.model is not None  # held by TrainConfig
        return max(evaluate.main(one) for one in _evaluations(config, config.model, "model").values())
    start = _fine_tuned(config)
    before = _evaluated(config, start, "before")
    trained = train_grpo.main(_grpo(config, start))
    after = _evaluated(config, trained, "after")
    if not is_reported(config.out, start, trained, before):
        report(config, (start, trained), before, after)
    return 0


def _fine_tuned(config: TrainConfig) -> Path:
    """The policy that RL starts from."""
    dataset = config.out / "demonstrations"
    demos = config.demos or ((dataset,) if config.num_demos else ())
    if not demos:
        assert config.model is not None  # held by TrainConfig
        return config.model
    if not config.demos and not dataset.exists():
        config.benchmark.collect(
            dataset,
            config.num_demos,
            image_size=_image_size(config),
            seed=config.seed,
            num_workers=config.num_workers,
        )
    start = _played(config)
    return train_sft.main(
        train_sft.TrainSftConfig(
            dataset=demos,
            checkpoint=start,
            preset=None if start else config.size,
            mirror=config.mirror,
            out=config.out / "sft",
            sft=config.sft,
            checkpoint_every=max(50, config.sft.num_steps // 10),
            seed=config.seed,
        )
    )


def _played(config: TrainConfig) -> Path | None:
    """The policy that is fine-tuned; None: a fresh network, or the shipped base."""
    if not config.size:
        return config.model
    if not config.play_episodes:
        return None
    return pretrain.main(
        pretrain.PretrainConfig(
            out=config.out / "play",
            suites=config.playground,
            preset=config.size,
            num_episodes=config.play_episodes,
            libero=dataclasses.replace(config.libero, perturbation="none"),
            sft=config.play,
            checkpoint_every=max(50, config.play.num_steps // 10),
            seed=config.seed,
            num_workers=config.num_workers,
        )
    )


def _image_size(config: TrainConfig) -> int:
    """Of the policy that is fine-tuned [px]."""
    benchmark = config.benchmark
    if config.size:
        return benchmark.network(config.size).image_size
    return VlaPolicy.load(config.model or benchmark.base(), pick_device(), benchmark.embodiment).config.image_size


def _grpo(config: TrainConfig, start: Path) -> train_grpo.TrainGrpoConfig:
    given: dict[str, Any] = {"num_steps": config.grpo_steps, "num_groups": config.num_groups}
    preset = PRESETS_OF_GRPO[config.preset](start)
    return dataclasses.replace(
        preset,
        group=preset.group if config.group == GroupConfig() else config.group,
        learner=preset.learner if config.learner == LearnerConfig() else config.learner,
        **{name: value for name, value in given.items() if value is not None},
        out=config.out / "grpo",
        tasks=config.tasks,
        libero=config.libero,
        backend=config.backend,
        warp=config.warp,
        compile=config.compile,
        num_slots=config.num_slots,
        num_cohorts=config.num_cohorts,
        checkpoint_every=config.checkpoint_every,
        num_workers=config.num_workers,
        seed=config.seed,
    )


def _evaluated(config: TrainConfig, checkpoint: Path, when: str) -> Found:
    return {level: require_evaluated(one) for level, one in _evaluations(config, checkpoint, when).items()}


def _evaluations(config: TrainConfig, checkpoint: Path, when: str) -> dict[str, evaluate.EvaluateConfig]:
    """Evaluations by LIBERO's perturbation, those in the worlds that are trained in first."""
    usual = config.libero.perturbation
    asked: dict[str, evaluate.EvaluateConfig] = {}
    for level in dict.fromkeys((usual, *config.perturbations)):
        name = f"{when}-{checkpoint.name}" + (f"-{level}" if level != usual else "")
        asked[level] = evaluate.EvaluateConfig(
            checkpoint=checkpoint,
            tasks=config.tasks,
            libero=dataclasses.replace(config.libero, perturbation=level),
            backend="mujoco" if config.backend == "mixed" else config.backend,
            warp=config.warp,
            num_videos=0,
            out=config.out / "evaluate" / name,
            num_workers=config.num_workers,
        )
    return asked


if __name__ == "__main__":
    run_command(main, TrainConfig)

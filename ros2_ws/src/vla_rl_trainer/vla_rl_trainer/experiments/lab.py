"""The stages of all experiments: demonstrations, SFT, GRPO, evaluation, each in a folder of its own.

Folders are named after all that decides what is in them, so that conditions share what they have in common, and what
was stopped goes on. Every stage is the command a user would run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from piper_twin.episode import Episode
from piper_twin.mjwarp.device import Backend, WarpConfig, choose_backend
from vla_policy.fast_answers import Compile
from vla_rl_trainer import train_grpo, train_sft
from vla_rl_trainer.base import base_policy
from vla_rl_trainer.benchmarks.twin import TwinBenchmark
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.evaluate import EvaluateConfig
from vla_rl_trainer.evaluation import SPLIT, Evaluation
from vla_rl_trainer.experiments.scale import Scale
from vla_rl_trainer.report import ReportData, Section, write_report
from vla_rl_trainer.run_files import read_metrics
from vla_rl_trainer.side_by_side import film_side_by_side
from vla_rl_trainer.train_grpo import TrainGrpoConfig
from vla_rl_trainer.train_report import require_evaluated

Change = Callable[[TrainGrpoConfig], TrainGrpoConfig]
FINISHED = "finished.json"
SOLVED = 0.98
"""Share of sampled episodes at which RL ends early: nothing is left to learn from then."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """What may differ from computer to computer."""

    backend: Backend = "auto"
    """Of the twin: mujoco steps it on the CPU, warp on a GPU, auto on a GPU where there is one."""
    warp: WarpConfig = dataclasses.field(default_factory=WarpConfig)
    compile: Compile = "auto"
    num_workers: int | None = None
    """Simulation processes; one a core by default."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trained:
    """A policy, and the training behind it."""

    folder: Path
    seconds: float = 0.0
    """Of GRPO's rollouts and updates [s]."""


class Lab:
    """Does what an experiment asks for, once."""

    def __init__(self, out: Path, scale: Scale, machine: Machine) -> None:
        """Stages lie below `out`."""
        self.out, self.scale = out, scale
        # What `auto` is, is decided once: a run that goes on elsewhere on another backend is refused.
        self.machine = dataclasses.replace(machine, backend=choose_backend(machine.backend))

    def demonstrations(self, tasks: Sequence[str], num_demos: int, seed: int, randomization: str = "off") -> Path:
        """Scripted demonstrations; the first of many are the few of another condition."""
        out = self.folder("demonstrations", tasks=tasks, num_demos=num_demos, seed=seed, randomization=randomization)
        if not out.exists():
            benchmark = TwinBenchmark(tuple(tasks), randomization)
            benchmark.collect(out, num_demos, image_size=0, seed=seed, num_workers=self.machine.num_workers)
        return out

    def sft(
        self, tasks: Sequence[str], num_demos: int, seed: int, *, randomization: str = "off", mirror: bool = False
    ) -> Trained:
        """The shipped base, fine-tuned; the base itself without demonstrations."""
        if not num_demos:
            return Trained(base_policy())  # in the package, wherever that is installed
        demos = self.demonstrations(tasks, num_demos, seed, randomization)
        config = train_sft.TrainSftConfig(dataset=(demos,), sft=self.scale.sft, seed=seed, mirror=mirror)
        out = self.folder("sft", **self._told(config))
        last = max(50, self.scale.sft.num_steps // 4)
        return self._once(out, lambda: train_sft.main(dataclasses.replace(config, out=out, checkpoint_every=last)))

    def grpo(self, start: Trained, tasks: Sequence[str], seed: int, change: Change = lambda config: config) -> Trained:
        """A policy after RL.

        Raises:
            NothingToLearn: RL refuses to start from it, or to go on.
        """
        scale, machine = self.scale, self.machine
        config = change(
            dataclasses.replace(
                train_grpo.ours(start.folder),
                tasks=tuple(tasks),
                num_steps=scale.num_steps,
                num_groups=scale.num_groups,
                num_slots=scale.num_slots,
                group=scale.group,
                learner=scale.learner,
                target_success=SOLVED,
                seed=seed,
            )
        )
        out = self.folder("grpo", **self._told(config))
        ours = {"backend": machine.backend, "warp": machine.warp, "compile": machine.compile}
        every = max(1, config.num_steps // 6)
        config = dataclasses.replace(config, out=out, checkpoint_every=every, num_workers=machine.num_workers, **ours)
        return self._once(out, lambda: train_grpo.main(config))

    def evaluate(
        self,
        policy: Trained,
        tasks: Sequence[str],
        randomization: str = "off",
        *,
        unseen_words: bool = False,
    ) -> tuple[Evaluation, Path]:
        """The policy on held-out worlds, and the file of the single episodes."""
        machine = self.machine
        config = EvaluateConfig(
            checkpoint=policy.folder,
            tasks=tuple(tasks),
            num_episodes=self.scale.num_episodes,
            randomization=randomization,
            num_videos=0,
            unseen_words=unseen_words,
        )
        out = self.folder("evaluate", **self._told(config))
        config = dataclasses.replace(
            config, out=out, backend=machine.backend, warp=machine.warp, num_workers=machine.num_workers
        )
        return require_evaluated(config), out / "evaluation.json"

    def film(self, policies: Mapping[str, Trained], task: str, seeds: Sequence[int], title: str) -> None:
        """A page with all policies side by side in the same held-out worlds, `films/TITLE.html`; made once."""
        page = self.out / "films" / f"{title}.html"
        if page.exists():
            return
        folders = {name: policy.folder for name, policy in policies.items()}
        films = film_side_by_side(TwinBenchmark((task,)), folders, [Episode(task, seed, SPLIT) for seed in seeds])
        page.parent.mkdir(exist_ok=True)
        subtitle = f"{' and '.join(policies)} in the same held-out worlds"
        write_report(page, ReportData(title=title, subtitle=subtitle, sections=[Section("", [films])]))

    def _once(self, out: Path, train: Callable[[], Path]) -> Trained:
        """Train unless it is done; what was stopped goes on."""
        note = out / FINISHED
        if note.exists():
            told = json.loads(note.read_text())
            return Trained(out / told["checkpoint"], told["seconds"])
        checkpoint = train()
        seconds = sum(line.get("time/step_s", 0.0) for line in read_metrics(out))
        told = {"checkpoint": str(checkpoint.relative_to(out)), "seconds": seconds}
        write_atomically(note, json.dumps(told) + "\n")
        return Trained(checkpoint, seconds)

    def _told(self, config: Any) -> Mapping[str, Any]:
        """All that decides a stage's result: where it lies, and on which machine, does not."""
        left_out = ("out", "num_workers", "checkpoint_every", "backend", "warp", "compile")
        told = {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}
        return {name: self.inside(value) for name, value in told.items()}

    def inside(self, value: Any) -> Any:
        """A path as the lab's folder has it, so that the folder may be moved; other values as they are."""
        if isinstance(value, tuple):
            return [self.inside(one) for one in value]
        if isinstance(value, Path):
            return value.relative_to(self.out) if self.out in value.parents else value.name
        return value

    def folder(self, stage: str, **told: Any) -> Path:
        """Where a stage lies that `told` decides."""
        text = json.dumps(told, sort_keys=True, default=str)
        return self.out / "stages" / f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

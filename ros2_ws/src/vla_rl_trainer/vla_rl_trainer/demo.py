"""The whole at small scale, in minutes on a laptop: demonstrations, SFT, evaluation, GRPO, evaluation, a report.

    make demo            # or: python -m vla_rl_trainer.demo --seed 1 --out runs/demo

A few demonstrations of click_bell fine-tune the shipped base policy; GRPO with a binary reward does the rest. Both are
evaluated on the same held-out worlds. Stop it at any time: the same command resumes.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from piper_twin.episode import Episode
from vla_policy.checkpoint import weights_sha256
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_policy.provenance import provenance
from vla_rl_trainer import collect, train_grpo, train_sft
from vla_rl_trainer.base import base_policy
from vla_rl_trainer.benchmarks.twin import TwinBenchmark
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_above, require_at_least, require_at_most
from vla_rl_trainer.demo_report import NAMES, write_demo_report
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.evaluation import SPLIT, Evaluation, EvaluationConfig, evaluate_policy
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.report import Block
from vla_rl_trainer.robot_graph import has_ros, run_trials
from vla_rl_trainer.run_files import read_metrics
from vla_rl_trainer.run_folder import Run
from vla_rl_trainer.sft import SftConfig
from vla_rl_trainer.side_by_side import film_side_by_side

Value = TypeVar("Value")

_SECONDS_A_TRIAL = 30.0
"""Longest trial through the graph, its reset included, before the graph counts as stuck [s]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The demo; the defaults are what `make demo` runs."""

    out: Path = Path("runs/demo")
    """Run folder."""
    task: str = "click_bell"
    num_demos: int = 3
    """Demonstrations the policy is fine-tuned on."""
    seed: int = 0
    """Of everything but the evaluation worlds, which are always the same."""
    sft: SftConfig = dataclasses.field(
        default_factory=lambda: SftConfig(num_steps=100, batch_size=32, learning_rate=3e-4)
    )
    grpo_steps: int = 34
    num_groups: int = 16
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    target_success: float = 0.95
    """GRPO stops early once the sampled policy reaches this."""
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    num_graph_trials: int = 5
    """Held-out worlds on which the result is run through the robot's ROS graph, on the twin and on emulated arms each;
    0: none."""
    num_videos: int = 3
    """Held-out worlds that are filmed before and after."""
    num_workers: int | None = None
    """Simulation processes; one a core by default."""

    def __post_init__(self) -> None:
        """Refuse what a later stage would refuse."""
        require_at_least(self, 1, "num_demos", "grpo_steps", "num_groups")
        require_at_least(self, 0, "seed", "num_graph_trials", "num_videos")
        require_above(self, 0.0, "target_success")
        require_at_most(self, 1.0, "target_success")
        if self.num_workers is not None:
            require_at_least(self, 1, "num_workers")
        TwinBenchmark((self.task,))


class Demo:
    """The stages; each is skipped when its result is there already."""

    def __init__(self, config: DemoConfig, run: Run) -> None:
        """Work in `run`."""
        self._config = config
        self._run = run

    def main(self) -> dict[str, Any]:
        """Run what is missing; returns the summary. A demo that is finished is left as it is."""
        finished = self._finished()
        if finished is not None:
            return finished
        config, out = self._config, self._run.path
        if not (out / "demonstrations").exists():
            self._timed("collect", lambda: collect.main(self._collect_config()))
        sft = self._timed("sft", lambda: train_sft.main(self._sft_config()))
        sft_evaluations = self._timed("evaluate_sft", lambda: self._evaluate(sft, "sft"))
        rl = self._timed("grpo", lambda: train_grpo.main(self._grpo_config(sft)))
        rl_evaluations = self._timed("evaluate_rl", lambda: self._evaluate(rl, "rl"))
        videos = self._timed("videos", lambda: self._film(sft, rl))
        graph = self._timed("graph", lambda: self._through_the_graph(rl))
        summary = self._summary(sft_evaluations, rl_evaluations) | {"graph": graph}
        write_demo_report(
            self._run.report_path, config, summary, (sft_evaluations, rl_evaluations), videos, out / "grpo"
        )
        self._run.write_summary(summary)
        return summary

    def _finished(self) -> dict[str, Any] | None:
        """The summary of a demo that is complete, which is written last."""
        try:
            return json.loads(self._run.summary_path.read_text()) if self._run.report_path.exists() else None
        except (OSError, ValueError):
            return None

    def _collect_config(self) -> collect.CollectConfig:
        config = self._config
        return collect.CollectConfig(
            out=self._run.path / "demonstrations",
            tasks=(config.task,),
            num_demos=config.num_demos,
            first_seed=1000 * config.seed,
            num_workers=config.num_workers,
        )

    def _sft_config(self) -> train_sft.TrainSftConfig:
        out = self._run.path
        return train_sft.TrainSftConfig(
            dataset=(out / "demonstrations",), out=out / "sft", sft=self._config.sft, seed=self._config.seed
        )

    def _grpo_config(self, checkpoint: Path) -> train_grpo.TrainGrpoConfig:
        config = self._config
        return dataclasses.replace(
            train_grpo.ours(checkpoint),
            out=self._run.path / "grpo",
            tasks=(config.task,),
            num_steps=config.grpo_steps,
            num_groups=config.num_groups,
            learner=config.learner,
            target_success=config.target_success,
            checkpoint_every=2,
            num_workers=config.num_workers,
            seed=config.seed,
        )

    def _evaluate(self, checkpoint: Path, name: str) -> dict[str, Evaluation]:
        """With the decoding the policy runs with, and greedily; kept in the run folder."""
        file = self._run.path / f"evaluation_{name}.json"
        if file.exists():
            return Evaluation.read(file)
        policy = VlaPolicy.load(checkpoint, pick_device())
        with TwinBenchmark((self._config.task,)).open(policy.config, 64, self._config.num_workers) as env:
            found = {
                decoding: evaluate_policy(env, policy, (self._config.task,), self._config.evaluation, decoding)
                for decoding in dict.fromkeys((policy.decoding, "argmax"))
            }
        Evaluation.write(file, found)
        return found

    def _through_the_graph(self, checkpoint: Path) -> dict[str, Any]:
        """The trained policy in the nodes that run a robot: place to success, or what kept it from running there."""
        found: dict[str, Any] = {}
        if not has_ros() or not self._config.num_graph_trials:
            return found
        told = {"checkpoint": checkpoint, "policy": "rl", "task": self._config.task}
        out, count = self._run.path / "graph", self._config.num_graph_trials
        places: dict[str, dict[str, object]] = {"sim": {"where": "sim"}, "emulated": {"where": "real", "emulate": True}}
        for place, arguments in places.items():
            try:
                found[place] = run_trials(told | arguments, count, out, _SECONDS_A_TRIAL)["policies"]["rl"][place]
            except VlaError as error:  # what was trained and measured before stays
                found[place] = {"error": str(error)}
        return found

    def _summary(self, sft: dict[str, Evaluation], rl: dict[str, Evaluation]) -> dict[str, Any]:
        metrics = read_metrics(self._run.path / "grpo")
        rollout = sum(line["time/rollout_s"] for line in metrics)
        stages = json.loads(self._stopwatch.read_text())
        return {
            "task": self._config.task,
            "num_demos": self._config.num_demos,
            "sft": _stage_summary(sft),
            "rl": _stage_summary(rl) | {"num_training_episodes": sum(line["rollout/episodes"] for line in metrics)},
            "wall_s": sum(stages.values()),
            "stages_s": stages,
            "env_steps_per_s": sum(line["rollout/control_steps"] for line in metrics) / max(rollout, 1e-9),
            **provenance(self._config.seed),
            "seed": self._config.seed,
        }

    def _film(self, sft: Path, rl: Path) -> Block:
        """The same held-out worlds before and after."""
        config = self._config
        first = config.evaluation.first_seed
        worlds = [Episode(config.task, seed, SPLIT) for seed in range(first, first + config.num_videos)]
        policies = dict(zip(NAMES.values(), (sft, rl), strict=True))
        return film_side_by_side(TwinBenchmark((config.task,)), policies, worlds)

    @property
    def _stopwatch(self) -> Path:
        return self._run.path / "stages.json"

    def _timed(self, stage: str, work: Callable[[], Value]) -> Value:
        """Do `work` and add its wall time to what earlier starts of this run spent on the stage."""
        started = time.perf_counter()
        try:
            return work()
        finally:
            spent = json.loads(self._stopwatch.read_text()) if self._stopwatch.exists() else {}
            spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - started
            write_atomically(self._stopwatch, json.dumps(spent, indent=2))


def _stage_summary(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    used = next(iter(evaluations.values()))
    return used.summary() | {"greedy_success_rate": evaluations["argmax"].success_rate}


def print_table(summary: dict[str, Any], report: Path) -> None:
    """The result, for a terminal."""
    table = Table(title=f"{summary['task']}: {summary['num_demos']} demonstrations, seed {summary['seed']}")
    for column in ("", "success", "95 % interval", "greedy", "episodes"):
        table.add_column(column, justify="left" if not column else "right")
    for stage in ("sft", "rl"):
        numbers = summary[stage]
        low, high = numbers["ci95"]
        table.add_row(
            stage.upper(),
            f"{numbers['success_rate']:.0%}",
            f"{low:.0%} .. {high:.0%}",
            f"{numbers['greedy_success_rate']:.0%}",
            str(numbers["num_episodes"]),
        )
    console = Console()
    console.print(table)
    for place, found in summary["graph"].items():
        told = found.get("error") or f"{found['num_successes']} of {found['num_episodes']} succeed"
        console.print(f"through the ROS graph, {place}: {told}", markup=False)
    console.print(f"{summary['wall_s'] / 60:.1f} minutes, {summary['env_steps_per_s']:.0f} control steps/s; {report}")


def main(config: DemoConfig) -> dict[str, Any]:
    """Run the demo, or what is missing of it."""
    settings = dataclasses.asdict(config) | {"base_sha256": weights_sha256(base_policy())}
    with Run.open_or_create(config.out, settings, ("out", "num_workers"), dataclasses.asdict(DemoConfig())) as run:
        summary = Demo(config, run).main()
    print_table(summary, config.out / "report.html")
    return summary


if __name__ == "__main__":
    run_command(main, DemoConfig)

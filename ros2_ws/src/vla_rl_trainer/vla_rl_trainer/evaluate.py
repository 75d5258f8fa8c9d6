"""Evaluate any checkpoint on held-out worlds.

    python -m vla_rl_trainer.evaluate --checkpoint runs/demo/grpo/checkpoints/step_000020 --tasks click_bell

writes `summary.json`, `report.html` with videos of successes and failures, and every outcome to `evaluation.json`.
Exit code 0; 1 when `--min-success` was not reached; 2 when something cannot be evaluated.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from piper_twin.episode import Episode
from piper_twin.robot import DUAL_PIPER
from piper_twin.tasks import find_task
from piper_twin.worlds import TwinConfig
from vla_policy.checkpoint import weights_sha256
from vla_policy.config import Decoding
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_policy.provenance import provenance
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_above, require_at_least, require_at_most
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.evaluation import SPLIT, Evaluation, EvaluationConfig, Outcome, evaluate_policy
from vla_rl_trainer.evaluation_blocks import origin_section, strategy_table, success_table, video_grid
from vla_rl_trainer.film import FilmStudio
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.report import ReportData, Section, Video, write_report
from vla_rl_trainer.run_folder import Run

MAX_SLOTS = 64
"""Worlds side by side."""
MAY_DIFFER = ("out", "num_videos", "min_success", "num_workers")
"""Fields that change no outcome."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Evaluation of one checkpoint."""

    checkpoint: Path
    """Policy folder."""
    out: Path = Path("runs/evaluate")
    """Run folder; the same command replaces what it wrote there, another one is refused."""
    tasks: tuple[str, ...] = ("click_bell",)
    num_episodes: int = 100
    """Of each task."""
    first_seed: int = 0
    """The worlds are the seeds from here on, of the evaluation split, which no training ever sees."""
    randomization: str = "off"
    """off, standard or wide."""
    decoding: Decoding | None = None
    """How the policy chooses among its bins; its own way by default."""
    temperature: float = 1.0
    """Of 'sample' and 'expectation'."""
    num_videos: int = 4
    """Of each task, half of them failures as far as there are any."""
    min_success: float | None = None
    """Exit code 1 when the success rate over all episodes is lower, between 0 and 1."""
    num_workers: int | None = None
    """Simulation processes; one a core by default."""

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        require_at_least(self, 1, "num_episodes")
        require_at_least(self, 0, "first_seed", "num_videos")
        require_above(self, 0.0, "temperature")
        if self.min_success is not None:
            require_at_least(self, 0.0, "min_success")
            require_at_most(self, 1.0, "min_success")
        if self.num_workers is not None:
            require_at_least(self, 1, "num_workers")
        if not self.tasks:
            raise VlaError("no task was given; name at least one with --tasks")
        if len(set(self.tasks)) < len(self.tasks):
            raise VlaError("a task was given twice; name each once, --num-episodes is of each task")
        for task in self.tasks:
            find_task(task)
        TwinConfig(randomization=self.randomization)


def evaluate(config: EvaluateConfig, policy: VlaPolicy) -> Evaluation:
    """Run the policy on the held-out worlds of each task."""
    worlds = EvaluationConfig(num_episodes=config.num_episodes, first_seed=config.first_seed)
    twin = TwinConfig(randomization=config.randomization, image_size=policy.config.image_size)
    num_slots = min(MAX_SLOTS, len(config.tasks) * config.num_episodes)
    with TwinVectorEnv(num_slots, twin, num_workers=config.num_workers) as env:
        return evaluate_policy(env, policy, config.tasks, worlds)


def to_film(outcomes: Sequence[Outcome], count: int) -> list[Outcome]:
    """The first successes and the first failures, half and half where there are enough of both."""
    solved = [one for one in outcomes if one.success]
    failed = [one for one in outcomes if not one.success]
    num_failed = min(len(failed), max(count // 2, count - len(solved)))
    return solved[: count - num_failed] + failed[:num_failed]


def film(config: EvaluateConfig, policy: VlaPolicy, evaluation: Evaluation) -> list[Video]:
    """Videos of some of the episodes, run once more; a caption tells where the result differs this time."""
    wanted = [one for task in config.tasks for one in to_film(evaluation.of_task(task).outcomes, config.num_videos)]
    if not wanted:
        return []
    videos = []
    studio = FilmStudio(config.randomization)
    with Progress("filming", len(wanted)) as progress:
        for one in wanted:
            mp4, success = studio.film(policy, Episode(one.task, one.seed, SPLIT))
            again = "" if success == one.success else ", other than in the evaluation"
            videos.append(Video(f"{one.task}, world {one.seed}: {'success' if success else 'failure'}{again}", mp4))
            progress.advance()
    studio.close()
    return videos


def summarise(config: EvaluateConfig, policy: VlaPolicy, evaluation: Evaluation, wall_s: float) -> dict[str, Any]:
    """The numbers for `summary.json`: over all episodes, and of each task."""
    return evaluation.summary() | {
        "checkpoint": str(config.checkpoint),
        "checkpoint_sha256": weights_sha256(config.checkpoint),
        "temperature": policy.temperature,
        "randomization": config.randomization,
        "split": SPLIT,
        "first_seed": config.first_seed,
        "tasks": {task: _task_summary(evaluation.of_task(task)) for task in config.tasks},
        "wall_s": wall_s,
        "control_steps_per_s": sum(one.num_steps for one in evaluation.outcomes) / wall_s,
        **{name: value for name, value in provenance(0).items() if name != "seed"},
    }


def _task_summary(evaluation: Evaluation) -> dict[str, Any]:
    steps = [one.num_steps for one in evaluation.outcomes if one.success]
    return evaluation.summary() | {"mean_steps_to_success": sum(steps) / len(steps) if steps else None}


def write_page(
    path: Path, config: EvaluateConfig, summary: dict[str, Any], evaluation: Evaluation, videos: Sequence[Video]
) -> None:
    """Write the report page."""
    by_task = [(task, evaluation.of_task(task)) for task in config.tasks]
    data = ReportData(
        title=f"{', '.join(config.tasks)}: {summary['success_rate']:.0%} success",
        subtitle=f"{summary['num_episodes']} held-out worlds, randomization {config.randomization}",
        sections=[
            Section("Success on held-out worlds", [success_table("task", by_task)]),
            Section("Successes and failures", [video_grid(videos)]),
            Section("How it was solved", [strategy_table("task", by_task)]),
            origin_section(summary, config),
        ],
    )
    write_report(path, data)


def print_table(summary: dict[str, Any], report: Path) -> None:
    """The result, for a terminal."""
    table = Table(title=f"{summary['checkpoint']}, {summary['decoding']}")
    for column in ("task", "success", "95 %", "worlds", "dropped", "seen to happen in successes"):
        table.add_column(column, justify="left" if column in ("task", "seen to happen in successes") else "right")
    rows = dict(summary["tasks"])
    if len(rows) > 1:
        rows["all"] = summary
    for task, numbers in rows.items():
        low, high = numbers["ci95"]
        table.add_row(
            task,
            f"{numbers['success_rate']:.0%}",
            f"{low:.0%} .. {high:.0%}",
            str(numbers["num_episodes"]),
            str(numbers["num_dropped"]),
            ", ".join(f"{signals}: {count}" for signals, count in numbers["strategies"].items()),
        )
    console = Console()
    console.print(table)
    console.print(f"{summary['wall_s']:.0f} s, {summary['control_steps_per_s']:.0f} control steps/s; {report}")


def main(config: EvaluateConfig) -> int:
    """Evaluate; returns the exit code."""
    policy = VlaPolicy.load(config.checkpoint, pick_device(), DUAL_PIPER, config.decoding, config.temperature)
    with Run.open_or_create(config.out, dataclasses.asdict(config), MAY_DIFFER) as run:
        started = time.perf_counter()
        evaluation = evaluate(config, policy)
        summary = summarise(config, policy, evaluation, time.perf_counter() - started)
        videos = film(config, policy, evaluation)
        Evaluation.write(run.path / "evaluation.json", {evaluation.decoding: evaluation})
        write_page(run.report_path, config, summary, evaluation, videos)
        run.write_summary(summary)
    print_table(summary, run.report_path)
    if config.min_success is not None and summary["success_rate"] < config.min_success:
        print(f"success {summary['success_rate']:.1%} is below {config.min_success:.1%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main, EvaluateConfig)

"""Evaluate any checkpoint on held-out worlds.

    python -m vla_rl_trainer.evaluate --checkpoint runs/demo/grpo/checkpoints/step_000020 --tasks click_bell
    python -m vla_rl_trainer.evaluate --checkpoint runs/libero/grpo/checkpoints/step_000200 --tasks libero_object

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
from piper_twin.mjwarp.device import WARP_MAY_DIFFER, Backend, WarpConfig
from vla_policy.checkpoint import weights_sha256
from vla_policy.config import Decoding
from vla_policy.errors import VlaError
from vla_policy.fast_answers import accelerate
from vla_policy.policy import VlaPolicy
from vla_policy.provenance import provenance
from vla_rl_trainer.benchmarks.benchmark import Benchmark
from vla_rl_trainer.benchmarks.choose import find_benchmark
from vla_rl_trainer.benchmarks.libero import LiberoOptions
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_above, require_at_least, require_at_most
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.envs.rephrased import Rephrased
from vla_rl_trainer.evaluation import SPLIT, Evaluation, EvaluationConfig, Outcome, evaluate_policy
from vla_rl_trainer.evaluation_blocks import origin_section, strategy_table, success_table, video_grid
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.report import ReportData, Section, Video, write_report
from vla_rl_trainer.run_folder import Run

MAX_SLOTS = 64
"""Worlds side by side."""
MAY_DIFFER = ("out", "num_videos", "min_success", "num_workers", "libero.cache", *WARP_MAY_DIFFER)
"""Fields that change no outcome."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Evaluation of one checkpoint."""

    checkpoint: Path
    """Policy folder."""
    out: Path = Path("runs/evaluate")
    """Run folder; the same command replaces what it wrote there, another one is refused."""
    tasks: tuple[str, ...] = ("click_bell",)
    """Of the twin, or of LIBERO: suites such as libero_object, or libero_object/3."""
    num_episodes: int | None = None
    """Of each task; 100 on the twin, every held-out initial state on LIBERO by default."""
    first_seed: int = 0
    """The worlds are the seeds from here on, of the evaluation split, which no training ever sees."""
    randomization: str = "off"
    """Of the twin: off, standard or wide."""
    backend: Backend = "mujoco"
    """Of the twin: mujoco steps it on the CPU, warp on a GPU, auto on a GPU where there is one."""
    warp: WarpConfig = dataclasses.field(default_factory=WarpConfig)
    """Of the backend warp."""
    libero: LiberoOptions = dataclasses.field(default_factory=LiberoOptions)
    """Of LIBERO."""
    unseen_words: bool = False
    """Tell the policy each task of the twin in words that training never uses."""
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
        if self.num_episodes is not None:
            require_at_least(self, 1, "num_episodes")
        require_at_least(self, 0, "first_seed", "num_videos")
        require_above(self, 0.0, "temperature")
        if self.min_success is not None:
            require_at_least(self, 0.0, "min_success")
            require_at_most(self, 1.0, "min_success")
        if self.num_workers is not None:
            require_at_least(self, 1, "num_workers")
        self.benchmark.num_evaluation_episodes(self.num_episodes)
        if self.unseen_words and self.benchmark.suites:
            raise VlaError("LIBERO's tasks have no other words; leave --unseen-words out")

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

    @property
    def worlds(self) -> EvaluationConfig:
        """Which worlds of each task."""
        num_episodes = self.benchmark.num_evaluation_episodes(self.num_episodes)
        return EvaluationConfig(num_episodes=num_episodes, first_seed=self.first_seed)


def evaluate(config: EvaluateConfig, policy: VlaPolicy) -> Evaluation:
    """Run the policy on the held-out worlds of each task."""
    benchmark, worlds = config.benchmark, config.worlds
    num_slots = min(MAX_SLOTS, len(benchmark.tasks) * worlds.num_episodes)
    with benchmark.open(policy.config, num_slots, config.num_workers) as env:
        told = Rephrased(env) if config.unseen_words else env
        return evaluate_policy(told, policy, benchmark.tasks, worlds)


def to_film(outcomes: Sequence[Outcome], count: int) -> list[Outcome]:
    """The first successes and the first failures, half and half where there are enough of both."""
    solved = [one for one in outcomes if one.success]
    failed = [one for one in outcomes if not one.success]
    num_failed = min(len(failed), max(count // 2, count - len(solved)))
    return solved[: count - num_failed] + failed[:num_failed]


def film(config: EvaluateConfig, policy: VlaPolicy, evaluation: Evaluation) -> list[Video]:
    """Videos of some of the episodes, run once more; a caption tells where the result differs this time."""
    tasks = config.benchmark.tasks
    wanted = [one for task in tasks for one in to_film(evaluation.of_task(task).outcomes, config.num_videos)]
    if not wanted:
        return []
    videos = []
    studio = config.benchmark.film_studio(policy.config)
    with Progress("filming", len(wanted)) as progress:
        for one in wanted:
            mp4, success = studio.film(policy, Episode(one.task, one.seed, SPLIT))
            again = "" if success == one.success else ", other than in the evaluation"
            videos.append(Video(f"{one.task}, world {one.seed}: {'success' if success else 'failure'}{again}", mp4))
            progress.advance()
    studio.close()
    return videos


def summarise(config: EvaluateConfig, policy: VlaPolicy, evaluation: Evaluation, wall_s: float) -> dict[str, Any]:
    """The numbers for `summary.json`: over all episodes, of each suite, and of each task."""
    benchmark = config.benchmark
    told = {task: {"instruction": text} for task, text in benchmark.instructions().items()}
    suites = {name: evaluation.of_tasks(tasks).summary() for name, tasks in benchmark.suites.items()}
    return evaluation.summary() | {
        "checkpoint": str(config.checkpoint),
        "checkpoint_sha256": weights_sha256(config.checkpoint),
        "temperature": policy.temperature,
        **benchmark.conditions(),
        "split": SPLIT,
        "first_seed": config.first_seed,
        "tasks": {task: _task_summary(evaluation.of_task(task)) | told.get(task, {}) for task in benchmark.tasks},
        **({"suites": suites} if suites else {}),
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
    benchmark = config.benchmark
    by_task = [(_label(task, numbers), evaluation.of_task(task)) for task, numbers in summary["tasks"].items()]
    by_suite = [(suite, evaluation.of_tasks(tasks)) for suite, tasks in benchmark.suites.items()]
    tables = [success_table("suite", by_suite)] if by_suite else []
    data = ReportData(
        title=f"{', '.join(config.tasks)}: {summary['success_rate']:.0%} success",
        subtitle=f"{summary['num_episodes']} episodes from {benchmark.conditions_line()}",
        sections=[
            Section("Success", [*tables, success_table("task", by_task)]),
            Section("Successes and failures", [video_grid(videos)]),
            Section("How it was solved", [strategy_table("task", by_task)]),
            origin_section(summary, config),
        ],
    )
    write_report(path, data)


def _label(task: str, numbers: dict[str, Any]) -> str:
    """Name of a task with what the policy is told, where that is another thing."""
    return f"{task}: {numbers['instruction']}" if "instruction" in numbers else task


def print_table(summary: dict[str, Any], conditions: str, report: Path) -> None:
    """The result, for a terminal."""
    table = Table(title=f"{summary['checkpoint']}, {summary['decoding']}, {conditions}")
    for column in ("task", "success", "95 %", "worlds", "dropped", "seen to happen in successes"):
        table.add_column(column, justify="left" if column in ("task", "seen to happen in successes") else "right")
    rows = {_label(task, numbers): numbers for task, numbers in summary["tasks"].items()}
    rows |= summary.get("suites", {})
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
    benchmark = config.benchmark
    policy = VlaPolicy.load(config.checkpoint, pick_device(), benchmark.embodiment, config.decoding, config.temperature)
    benchmark.require_policy(policy.config)
    accelerate(policy, "auto")
    settings = dataclasses.asdict(config) | {"num_episodes": config.worlds.num_episodes}
    settings = {name: value for name, value in settings.items() if name not in benchmark.ignores}
    usual = dataclasses.asdict(EvaluateConfig(checkpoint=config.checkpoint))
    with Run.open_or_create(config.out, settings, MAY_DIFFER, usual) as run:
        started = time.perf_counter()
        evaluation = evaluate(config, policy)
        summary = summarise(config, policy, evaluation, time.perf_counter() - started)
        videos = film(config, policy, evaluation)
        Evaluation.write(run.path / "evaluation.json", {evaluation.decoding: evaluation})
        write_page(run.report_path, config, summary, evaluation, videos)
        run.write_summary(summary)
    print_table(summary, benchmark.conditions_line(), run.report_path)
    if not evaluation.outcomes:
        print("every episode was lost to a broken simulation", file=sys.stderr)
        return 1
    if config.min_success is not None and summary["success_rate"] < config.min_success:
        print(f"success {summary['success_rate']:.1%} is below {config.min_success:.1%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main, EvaluateConfig)

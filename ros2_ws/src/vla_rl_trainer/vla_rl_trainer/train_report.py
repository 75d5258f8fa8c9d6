"""The page that compares a policy before and after RL, task by task, and the numbers behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from piper_twin.episode import Episode
from vla_policy.checkpoint import weights_sha256
from vla_policy.provenance import provenance
from vla_rl_trainer import evaluate
from vla_rl_trainer.benchmarks.benchmark import Benchmark
from vla_rl_trainer.demo_report import CURVES
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.evaluation import SPLIT, Evaluation
from vla_rl_trainer.evaluation_blocks import comparison_table, origin_section, strategy_table
from vla_rl_trainer.report import Charts, ReportData, Section, charts_of, write_report
from vla_rl_trainer.run_files import plain, read_metrics, without_nan
from vla_rl_trainer.side_by_side import film_side_by_side

Found = dict[str, Evaluation]
"""Evaluations by LIBERO's perturbation, the usual worlds first."""

BEFORE, AFTER = "before RL", "after RL"


def require_evaluated(config: evaluate.EvaluateConfig) -> Evaluation:
    """The evaluation of that configuration, run unless its result is there."""
    file = config.out / "evaluation.json"
    try:
        told = json.loads((config.out / "summary.json").read_text())["checkpoint_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        told = None
    if told != weights_sha256(config.checkpoint) or not file.exists():
        evaluate.main(config)
    return next(iter(Evaluation.read(file).values()))


def is_reported(out: Path, start: Path, trained: Path, before: Found) -> bool:
    """Whether the report of these policies is there; its summary is written last."""
    try:
        told = json.loads((out / "summary.json").read_text())
        policies = told["before"]["checkpoint_sha256"], told["after"]["checkpoint_sha256"]
        levels = {*told.get("perturbed", ()), next(iter(before))}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return policies == (weights_sha256(start), weights_sha256(trained)) and levels == set(before)


def report(config: Any, policies: tuple[Path, Path], before: Found, after: Found) -> None:
    """Write `summary.json` and `report.html`.

    Args:
        config: A `TrainConfig`.
        policies: Before and after RL.
        before: Evaluations of the first.
        after: Evaluations of the second.
    """
    benchmark: Benchmark = config.benchmark
    usual = next(iter(before))
    summary = _summary(config, benchmark, policies, before, after)
    tasks = benchmark.tasks
    worlds = [Episode(tasks[number % len(tasks)], number // len(tasks), SPLIT) for number in range(config.num_videos)]
    films = film_side_by_side(benchmark, dict(zip((BEFORE, AFTER), policies, strict=True)), worlds)
    tables = [comparison_table("task", *_rows(benchmark, before[usual], after[usual]))]
    data = ReportData(
        title=f"{', '.join(config.tasks)}: {summary['before']['success_rate']:.1%} before RL, "
        f"{summary['after']['success_rate']:.1%} after",
        subtitle=f"{summary['after']['num_episodes']} episodes each from {benchmark.conditions_line()}",
        sections=[
            Section("Success", tables),
            *_perturbed(before, after),
            Section("Before and after", [films]),
            Section("Reinforcement learning", [charts_of(read_metrics(config.out / "grpo"), CURVES)]),
            *_supervised(config.out / "sft"),
            Section("How it was solved", [strategy_table("stage", [(BEFORE, before[usual]), (AFTER, after[usual])])]),
            origin_section(summary, config),
        ],
    )
    write_report(config.out / "report.html", data)
    write_atomically(config.out / "summary.json", json.dumps(without_nan(plain(summary)), indent=2) + "\n")


def _summary(
    config: Any, benchmark: Benchmark, policies: tuple[Path, Path], before: Found, after: Found
) -> dict[str, Any]:
    """Numbers over all tasks and of each, before and after."""
    usual = next(iter(before))
    told: dict[str, Any] = {"tasks": list(config.tasks), **benchmark.conditions()}
    for name, folder, found in zip(("before", "after"), policies, (before, after), strict=True):
        tasks = {task: found[usual].of_task(task).summary() for task in benchmark.tasks}
        told[name] = found[usual].summary() | {
            "checkpoint": str(folder),
            "checkpoint_sha256": weights_sha256(folder),
            "tasks": tasks,
        }
    levels = [level for level in before if level != usual]
    if levels:
        told["perturbed"] = {
            level: {"before": before[level].summary(), "after": after[level].summary()} for level in levels
        }
    metrics = read_metrics(config.out / "grpo")
    rollout = sum(line["time/rollout_s"] for line in metrics)
    return told | {
        "num_training_episodes": sum(line["rollout/episodes"] for line in metrics),
        "num_training_control_steps": sum(line["rollout/control_steps"] for line in metrics),
        "env_steps_per_s": sum(line["rollout/control_steps"] for line in metrics) / max(rollout, 1e-9),
        **provenance(config.seed),
    }


def _rows(
    benchmark: Benchmark, before: Evaluation, after: Evaluation
) -> tuple[list[str], Mapping[str, list[Evaluation]]]:
    """Names of tasks, suites and all of them; and of each, what came out before and after."""
    told = benchmark.instructions()
    names: dict[str, tuple[str, ...]] = {
        f"{task}: {told[task]}" if task in told else task: (task,) for task in benchmark.tasks
    }
    names |= benchmark.suites if len(benchmark.suites) > 1 else {}
    names |= {"all": benchmark.tasks} if len(benchmark.tasks) > 1 else {}
    stages = ((BEFORE, before), (AFTER, after))
    return list(names), {stage: [found.of_tasks(tasks) for tasks in names.values()] for stage, found in stages}


def _perturbed(before: Found, after: Found) -> list[Section]:
    if len(before) < 2:
        return []
    stages = {BEFORE: list(before.values()), AFTER: [after[level] for level in before]}
    names = ["as in training" if level == "none" else level for level in before]
    return [Section("Perturbed worlds", [comparison_table("perturbation", names, stages)])]


def _supervised(folder: Path) -> list[Section]:
    metrics = read_metrics(folder)
    curves: list[Charts] = [charts_of(metrics, {"sft/loss": False, "sft/grad_norm": False})] if metrics else []
    return [Section("Supervised fine-tuning", curves)] if curves else []

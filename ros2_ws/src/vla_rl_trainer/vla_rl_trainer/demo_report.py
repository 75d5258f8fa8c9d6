"""The page that shows what the demo did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vla_rl_trainer.evaluation import Evaluation
from vla_rl_trainer.evaluation_blocks import origin_section, strategy_table, success_table
from vla_rl_trainer.report import Block, ReportData, Section, charts_of, write_report
from vla_rl_trainer.run_files import read_metrics

CURVES = {
    "reward/mean": True,
    "entropy": False,
    "approx_kl": False,
    "clipfrac": True,
    "group/dropped": False,
    "grad_norm": False,
}
"""Metric to whether it is a share."""

NAMES = {"sft": "after SFT", "rl": "after RL"}


def write_demo_report(
    path: Path,
    config: Any,
    summary: dict[str, Any],
    evaluations: tuple[dict[str, Evaluation], dict[str, Evaluation]],
    videos: Block,
    grpo: Path,
) -> None:
    """Write the report page of a demo.

    Args:
        path: The page.
        config: The demo's configuration dataclass.
        summary: As written to `summary.json`.
        evaluations: After SFT and after RL, by decoding.
        videos: Of the same worlds after SFT and after RL.
        grpo: Run folder of the GRPO stage.
    """
    used = [(NAMES[stage], next(iter(found.values()))) for stage, found in zip(NAMES, evaluations, strict=True)]
    all_of_them = [
        (name, one) for name, found in zip(NAMES.values(), evaluations, strict=True) for one in found.values()
    ]
    data = ReportData(
        title=f"{config.task}: {config.num_demos} demonstrations, then reinforcement learning",
        subtitle=f"{summary['wall_s'] / 60:.1f} minutes, {summary['env_steps_per_s']:.0f} control steps a second",
        sections=[
            Section("Success on held-out worlds", [success_table("stage", all_of_them)]),
            Section("Before and after", [videos]),
            Section("Training", [charts_of(read_metrics(grpo), CURVES)]),
            Section("How it was solved", [strategy_table("stage", used)]),
            origin_section(summary, config),
        ],
    )
    write_report(path, data)

"""The page that shows what the demo did."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vla_rl_trainer.evaluation import Evaluation
from vla_rl_trainer.report import Facts, Paragraph, Rate, ReportData, Section, Videos, charts_of, write_report
from vla_rl_trainer.report import Table as ReportTable
from vla_rl_trainer.report import Video as ReportVideo
from vla_rl_trainer.run_files import read_metrics

_CURVES = {
    "reward/mean": True,
    "entropy": False,
    "approx_kl": False,
    "clipfrac": True,
    "group/dropped": False,
    "grad_norm": False,
}
"""Metric to whether it is a share."""

_NAMES = {"sft": "after SFT", "rl": "after RL"}


def write_demo_report(
    path: Path,
    config: Any,
    summary: dict[str, Any],
    evaluations: tuple[dict[str, Evaluation], dict[str, Evaluation]],
    videos: dict[str, list[tuple[int, bytes, bool]]],
    grpo: Path,
) -> None:
    """Write the report page of a demo.

    Args:
        path: The page.
        config: The demo's configuration dataclass.
        summary: As written to `summary.json`.
        evaluations: After SFT and after RL, by decoding.
        videos: "sft" and "rl" to (seed, mp4, success).
        grpo: Run folder of the GRPO stage.
    """
    stages = dict(zip(("sft", "rl"), evaluations, strict=True))
    provenance = {name: summary[name] for name in ("command", "seed", "hardware", "commit") if name in summary}
    data = ReportData(
        title=f"{config.task}: {config.num_demos} demonstrations, then reinforcement learning",
        subtitle=f"{summary['wall_s'] / 60:.1f} minutes, {summary['env_steps_per_s']:.0f} control steps a second",
        sections=[
            Section("Success on held-out worlds", [_rates(stages)]),
            Section("Before and after", [_videos(videos)]),
            Section("Training", [charts_of(read_metrics(grpo), _CURVES)]),
            Section("How it was solved", [_strategies(stages)]),
            Section("Where this comes from", [Facts(provenance), Facts(dataclasses.asdict(config), "configuration")]),
        ],
    )
    write_report(path, data)


def _rates(stages: dict[str, dict[str, Evaluation]]) -> ReportTable:
    rows = [
        [_NAMES[stage], evaluation.decoding, Rate(evaluation.num_successes, len(evaluation.outcomes))]
        for stage, evaluations in stages.items()
        for evaluation in evaluations.values()
    ]
    return ReportTable(["stage", "decoding", "success, 95 % interval"], rows)


def _videos(videos: dict[str, list[tuple[int, bytes, bool]]]) -> Videos | Paragraph:
    pairs = [
        ReportVideo(f"world {seed}, {_NAMES[stage]}: {'success' if success else 'failure'}", mp4)
        for row in zip(*videos.values(), strict=True)
        for stage, (seed, mp4, success) in zip(videos, row, strict=True)
    ]
    return Videos(pairs) if pairs else Paragraph("No videos were asked for.")


def _strategies(stages: dict[str, dict[str, Evaluation]]) -> ReportTable:
    rows = [
        [_NAMES[stage], signals, str(count)]
        for stage, evaluations in stages.items()
        for signals, count in next(iter(evaluations.values())).strategies().items()
    ]
    return ReportTable(["stage", "seen to happen", "successes"], rows)

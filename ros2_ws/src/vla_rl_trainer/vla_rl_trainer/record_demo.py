"""From recording to a policy, with the twin in the robot's place: `make record-demo`.

    python -m vla_rl_trainer.record_demo --out runs/record-demo

Five episodes of the task's expert are recorded as bags through the ROS graph, imported, fine-tuned on and evaluated,
with the commands a person with two arms would use. Every stage that is finished is skipped by a second run.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from piper_twin.tasks import find_task
from vla_policy.provenance import provenance
from vla_rl_trainer import evaluate, import_bags, train_sft
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.robot_graph import run_graph
from vla_rl_trainer.run_folder import Run

_SECONDS_AN_EPISODE = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordDemoConfig:
    """Recording to policy."""

    out: Path = Path("runs/record-demo")
    """Run folder."""
    task: str = "click_bell"
    num_episodes: int = 5
    """Episodes to record."""
    seed: int = 0
    """Of the first recorded world, and of the fine-tuning."""
    num_evaluations: int = 100
    """Held-out worlds."""

    def __post_init__(self) -> None:
        """Refuse what cannot be recorded."""
        require_at_least(self, 1, "num_episodes", "num_evaluations")
        require_at_least(self, 0, "seed")
        find_task(self.task)


def main(config: RecordDemoConfig) -> dict[str, Any]:
    """Record, import, fine-tune, evaluate; returns the summary."""
    out, started = config.out, time.perf_counter()
    with Run.open_or_create(out, dataclasses.asdict(config), may_differ=("out",)) as run:
        record(config)
        dataset = out / "dataset"
        if not dataset.exists():
            import_bags.main(import_bags.ImportConfig(bags=(out / "bags",), out=dataset))
        policy = train_sft.main(train_sft.TrainSftConfig(dataset=(dataset,), out=out / "sft", seed=config.seed))
        evaluate.main(
            evaluate.EvaluateConfig(
                checkpoint=policy, tasks=(config.task,), num_episodes=config.num_evaluations, out=out / "evaluate"
            )
        )
        found = json.loads((out / "evaluate" / "summary.json").read_text(encoding="utf-8"))
        names = ("success_rate", "num_episodes", "ci95")
        summary = {name: found[name] for name in names} | {
            "task": config.task,
            "num_demos": config.num_episodes,
            "wall_s": time.perf_counter() - started,
            **provenance(config.seed),
        }
        run.write_summary(summary)
    Console().print(f"{config.num_episodes} recorded episodes: {summary['success_rate']:.0%} success; {out}")
    return summary


def record(config: RecordDemoConfig) -> None:
    """Record the episodes that are missing."""
    run_graph(
        "teleop_record",
        {
            "source": "expert",
            "task": config.task,
            "seed": 1000 * config.seed,
            "num_episodes": config.num_episodes,
            "bag_dir": config.out / "bags",
        },
        60.0 + config.num_episodes * _SECONDS_AN_EPISODE,
        config.out / "record.log",
    )


if __name__ == "__main__":
    run_command(main, RecordDemoConfig)

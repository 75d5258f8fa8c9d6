"""Does RL lift what a few demonstrations taught, on every task, and in one policy for all of them?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vla_rl_trainer.experiments.experiment import Finding, Verdict, findings, mean_gain
from vla_rl_trainer.experiments.lab import Lab
from vla_rl_trainer.experiments.record import Record, pool
from vla_rl_trainer.experiments.scale import Scale

TOGETHER = "one policy for all"


class SftVsRl:
    """Each task by itself, and all together."""

    name = "sft_vs_rl"
    claim = "RL with a binary reward lifts the success of a fine-tuned policy by 50 points on average."
    paper = "RoboTwin 2.0, 12 tasks: 38.3 % after SFT, 68.8 % after RL (+30.5)."
    differs = (
        "The gain is bounded by where SFT ends, and by the budget: tens of steps of a small policy here, hundreds "
        "of steps of one of 7.5 billion parameters there."
    )
    aim = 50.0

    def conditions(self, scale: Scale) -> Sequence[str]:
        """See `Experiment`."""
        return (*scale.tasks, *([TOGETHER] if len(scale.tasks) > 1 else []))

    def run(self, condition: str, seed: int, lab: Lab) -> Iterator[Finding]:
        """See `Experiment`."""
        tasks = lab.scale.tasks if condition == TOGETHER else (condition,)
        start = lab.sft(tasks, lab.scale.num_demos, seed, mirror=True)
        yield from findings("SFT", lab.evaluate(start, tasks))
        trained = lab.grpo(start, tasks, seed)
        yield from findings("RL", lab.evaluate(trained, tasks), trained.seconds)

    def judge(self, records: Sequence[Record]) -> Verdict:
        """See `Experiment`."""
        gain = mean_gain(records)
        if math.isnan(gain):
            return Verdict("not decided", "No task has both stages yet.")
        before, after = pool(records, stage="SFT"), pool(records, stage="RL")
        text = (
            f"SFT solves {before}, RL {after}: {gain:+.1f} points on average over tasks; {self.aim:.0f} were aimed at."
        )
        return Verdict("held" if gain >= self.aim else "did not hold", text)

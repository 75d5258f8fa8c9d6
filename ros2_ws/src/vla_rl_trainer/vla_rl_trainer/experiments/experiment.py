"""What an experiment is: a claim, conditions that are run seed by seed, and a verdict over what came out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

from vla_rl_trainer.evaluation import Evaluation
from vla_rl_trainer.experiments.lab import Lab
from vla_rl_trainer.experiments.record import Pooled, Record, pool
from vla_rl_trainer.experiments.scale import Scale

REFUSED = "RL refused"
"""Stage of a condition that ended because there was nothing to learn from."""
Held = Literal["held", "did not hold", "not decided"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one stage of a condition showed, before it is known who measured it."""

    stage: str
    task: str
    successes: int
    episodes: int
    seconds: float = 0.0
    outcomes: Path | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the claim held, and a paragraph that says why."""

    held: Held
    text: str


class Experiment(Protocol):
    """One question."""

    name: str
    claim: str
    paper: str
    """What SimpleVLA-RL reports (arXiv v1)."""
    differs: str
    """Why ours may disagree, for pages of claims that did not hold."""

    def conditions(self, scale: Scale) -> Sequence[str]:
        """Names of what is compared."""
        ...

    def run(self, condition: str, seed: int, lab: Lab) -> Iterator[Finding]:
        """Everything one condition shows with one seed.

        Raises:
            NothingToLearn: RL refused to begin or to go on; what was told before counts.
        """
        ...

    def judge(self, records: Sequence[Record]) -> Verdict:
        """The verdict over all records of one scale."""
        ...


def findings(stage: str, found: tuple[Evaluation, Path], seconds: float = 0.0) -> Iterator[Finding]:
    """An evaluation, task by task."""
    evaluation, outcomes = found
    for task in evaluation.tasks:
        own = evaluation.of_task(task)
        yield Finding(
            stage=stage,
            task=task,
            successes=own.num_successes,
            episodes=len(own.outcomes),
            seconds=seconds,
            outcomes=outcomes,
        )


def apart(one: Pooled, other: Pooled) -> bool:
    """Whether two 95 % intervals are disjoint."""
    (low, high), (other_low, other_high) = one.interval, other.interval
    return high < other_low or other_high < low


def names_of(records: Sequence[Record], field: str) -> list[str]:
    """Values of a field in the order they came."""
    return list(dict.fromkeys(str(getattr(one, field)) for one in records))


def mean_gain(records: Sequence[Record], before: str = "SFT", after: str = "RL") -> float:
    """Mean over conditions and tasks of what the stage `after` is above `before`, in points of success."""
    cells = dict.fromkeys((one.condition, one.task) for one in records)
    gains = []
    for condition, task in cells:
        parts = [pool(records, condition=condition, task=task, stage=stage) for stage in (before, after)]
        if all(part.episodes for part in parts):
            gains.append(100.0 * (parts[1].rate - parts[0].rate))
    return sum(gains) / len(gains) if gains else float("nan")

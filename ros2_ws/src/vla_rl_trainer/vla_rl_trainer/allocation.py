"""Which task gets the next group of rollouts: a Beta posterior a task, budget to the tasks near 50 %.

A group teaches most when its members disagree. The chance of that is highest for tasks solved half of the time, so
tasks are drawn in proportion to the posterior's expectation of p (1 - p). Old outcomes are forgotten, because the
policy changes; a floor keeps every task alive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vla_policy.errors import VlaError

FORGETTING = 0.98
"""Weight that remains of an outcome after the next group of its task."""
FLOOR = 0.1
"""Share of the draws that is spread evenly over all tasks."""

_COUNTS = ("successes", "failures", "kept", "discarded")


@dataclasses.dataclass(slots=True)
class TaskAllocator:
    """Beta posteriors over success rates; plain numbers, so that a checkpoint can hold them."""

    tasks: tuple[str, ...]
    uniform: bool = False
    """True: all tasks alike, as the paper does."""
    successes: dict[str, float] = dataclasses.field(default_factory=dict)
    failures: dict[str, float] = dataclasses.field(default_factory=dict)
    kept: dict[str, float] = dataclasses.field(default_factory=dict)
    """Groups that were informative."""
    discarded: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse lists from which no task can be drawn."""
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise VlaError(f"tasks are {list(self.tasks)}; name at least one, and each once")

    def update(self, task: str, rewards: Sequence[float], kept: bool) -> None:
        """Learn from the outcomes of one group, and from whether it was kept."""
        solved = float(sum(rewards))
        self.successes[task] = FORGETTING * self.successes.get(task, 0.0) + solved
        self.failures[task] = FORGETTING * self.failures.get(task, 0.0) + len(rewards) - solved
        self.kept[task] = FORGETTING * self.kept.get(task, 0.0) + kept
        self.discarded[task] = FORGETTING * self.discarded.get(task, 0.0) + (not kept)

    def state(self) -> dict[str, dict[str, float]]:
        """What a checkpoint must hold."""
        return {name: dict(getattr(self, name)) for name in _COUNTS}

    def restore(self, state: dict[str, dict[str, float]]) -> None:
        """Go on from what `state` returned."""
        for name in _COUNTS:
            setattr(self, name, dict(state[name]))

    def probabilities(self) -> dict[str, float]:
        """Chance of each task to be drawn next."""
        if self.uniform:
            return {task: 1.0 / len(self.tasks) for task in self.tasks}
        spread = np.array([self._expected_spread(task) for task in self.tasks])
        shares = (1.0 - FLOOR) * spread / spread.sum() + FLOOR / len(self.tasks)
        return dict(zip(self.tasks, shares.tolist(), strict=True))

    def _expected_spread(self, task: str) -> float:
        """Expectation of p (1 - p) under Beta(1 + successes, 1 + failures)."""
        alpha, beta = 1.0 + self.successes.get(task, 0.0), 1.0 + self.failures.get(task, 0.0)
        return alpha * beta / ((alpha + beta) * (alpha + beta + 1.0))

    def keep_chance(self, task: str) -> float:
        """Chance that the next group of this task will be kept, as its last ones were.

        Counted rather than derived from the success rate: some worlds are easy and some hard, so that groups agree
        more often than independent members would.
        """
        return (1.0 + self.kept.get(task, 0.0)) / (2.0 + self.kept.get(task, 0.0) + self.discarded.get(task, 0.0))

    def draw(self, rng: np.random.Generator) -> str:
        """Draw the task of the next group."""
        shares = self.probabilities()
        return str(rng.choice(list(shares), p=list(shares.values())))

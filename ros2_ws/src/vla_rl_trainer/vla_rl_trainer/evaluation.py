"""Success on held-out worlds: per task, with intervals, and what the robot was seen to do."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from piper_twin.episode import Episode
from piper_twin.wilson import wilson_interval
from vla_policy.config import Decoding
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.envs.vector_env import VectorEnv
from vla_rl_trainer.progress import Progress
from vla_rl_trainer.rollout import greedy, run_episodes
from vla_rl_trainer.trajectory import Trajectory

SPLIT = "evaluation"
"""Worlds of this split never occur in training."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """Which worlds, and how many."""

    num_episodes: int = 100
    """Of each task."""
    first_seed: int = 0
    """The worlds are the seeds from here on, of the evaluation split."""

    def __post_init__(self) -> None:
        """Refuse what names no worlds."""
        require_at_least(self, 1, "num_episodes")
        require_at_least(self, 0, "first_seed")


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One evaluated episode."""

    task: str
    seed: int
    success: bool
    num_steps: int
    """Control steps until success or the horizon."""
    signals: tuple[str, ...]
    """What was seen to happen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """All episodes of one policy under one decoding."""

    decoding: str
    outcomes: tuple[Outcome, ...]
    dropped: tuple[str, ...]
    """Task of each episode lost to a broken simulation; they count for nothing."""

    @staticmethod
    def write(path: Path, evaluations: Mapping[str, Evaluation]) -> None:
        """Keep evaluations by name in one JSON file."""
        write_atomically(path, json.dumps({name: dataclasses.asdict(one) for name, one in evaluations.items()}))

    @staticmethod
    def read(path: Path) -> dict[str, Evaluation]:
        """Read what `write` wrote.

        Raises:
            VlaError: the file is damaged.
        """
        try:
            return {name: _from_fields(fields) for name, fields in json.loads(path.read_text()).items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise VlaError(f"{path} is damaged ({error}); delete it, and it is made again") from error

    def of_task(self, task: str) -> Evaluation:
        """The episodes of one task."""
        return self.of_tasks((task,))

    def of_tasks(self, tasks: Collection[str]) -> Evaluation:
        """The episodes of some tasks."""
        return dataclasses.replace(
            self,
            outcomes=tuple(one for one in self.outcomes if one.task in tasks),
            dropped=tuple(name for name in self.dropped if name in tasks),
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks in the order they were evaluated."""
        return tuple(dict.fromkeys(one.task for one in self.outcomes))

    @property
    def num_dropped(self) -> int:
        """Episodes lost to a broken simulation."""
        return len(self.dropped)

    @property
    def num_successes(self) -> int:
        """Solved episodes."""
        return sum(one.success for one in self.outcomes)

    @property
    def success_rate(self) -> float:
        """Share of solved episodes; 0 without any."""
        return self.num_successes / max(1, len(self.outcomes))

    def strategies(self) -> dict[str, int]:
        """How many successes showed each combination of signals ("grasped + lifted")."""
        seen = collections.Counter(" + ".join(one.signals) or "none" for one in self.outcomes if one.success)
        return dict(seen.most_common())

    def summary(self) -> dict[str, Any]:
        """Numbers for `summary.json`."""
        return {
            "success_rate": self.success_rate,
            "num_episodes": len(self.outcomes),
            "num_successes": self.num_successes,
            "ci95": list(wilson_interval(self.num_successes, len(self.outcomes))),
            "decoding": self.decoding,
            "num_dropped": self.num_dropped,
            "strategies": self.strategies(),
        }


def _from_fields(fields: dict[str, Any]) -> Evaluation:
    outcomes = tuple(Outcome(**one | {"signals": tuple(one["signals"])}) for one in fields["outcomes"])
    return Evaluation(fields["decoding"], outcomes, tuple(fields["dropped"]))


def evaluate_policy(
    env: VectorEnv, policy: VlaPolicy, tasks: Sequence[str], config: EvaluationConfig, decoding: Decoding | None = None
) -> Evaluation:
    """Run a policy on the held-out worlds of each task.

    Args:
        env: Where; the same episodes give the same outcomes for any number of workers.
        policy: Decides.
        tasks: Task names.
        config: Which worlds.
        decoding: How the policy chooses among its bins; its own way by default.
    """
    usual, policy.decoding = policy.decoding, decoding or policy.decoding
    episodes = [
        Episode(task, config.first_seed + offset, SPLIT) for task in tasks for offset in range(config.num_episodes)
    ]
    finished: dict[Episode, Trajectory] = {}
    try:
        with Progress(f"evaluating ({policy.decoding})", len(episodes)) as progress:

            def on_finished(trajectory: Trajectory) -> tuple[Episode, ...]:
                finished[trajectory.episode] = trajectory
                solved = sum(one.success for one in finished.values())
                progress.advance(note=f"success {solved / len(finished):.0%}")
                return ()

            run_episodes(env, greedy(policy), episodes, on_finished)
        outcomes = tuple(
            Outcome(one.episode.task, one.episode.seed, one.success, one.num_steps, tuple(sorted(one.signals)))
            for one in (finished[episode] for episode in episodes)
            if not one.dropped
        )
        dropped = tuple(episode.task for episode in episodes if finished[episode].dropped)
        return Evaluation(policy.decoding, outcomes, dropped)
    finally:
        policy.decoding = usual

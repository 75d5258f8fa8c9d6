"""Trials of policies on a robot, real, emulated or simulated: kept one by one, compared in pairs.

A trial is (column, policy, task, seed). Two policies that met the same seeds in the same column are compared by
McNemar's exact test: only the trials in which they differ say which is better.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from piper_twin.wilson import wilson_interval
from vla_policy.errors import VlaError

COLUMNS = ("sim", "emulated", "real")
"""Where a trial can take place, in the order of the table."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A trial to be run."""

    column: str
    policy: str
    """Name of the policy; two checkpoints must have two names."""
    task: str
    seed: int
    """Of the world in simulation, number of the try on the robot."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trial(Planned):
    """A trial that was run."""

    success: bool
    seconds: float
    """From the policy's start to the outcome [s]."""
    note: str = ""
    """Why it ended, if not by success or time."""

    @property
    def planned(self) -> Planned:
        """The trial without its outcome."""
        return Planned(column=self.column, policy=self.policy, task=self.task, seed=self.seed)


class TrialLog:
    """Trials as one JSON line each, on disk before the next one starts."""

    def __init__(self, path: Path) -> None:
        """Keep trials in `path`, which may exist."""
        self._path = path

    def read(self) -> list[Trial]:
        """Every trial so far; a last line that was cut off by a crash is left out.

        Raises:
            VlaError: another line is no trial.
        """
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
        try:
            return [Trial(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise VlaError(
                f"{self._path} is damaged ({error}); repair the line, or give another --out to start over"
            ) from error

    def append(self, trial: Trial) -> None:
        """Add a trial; it survives a crash from here on."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write((json.dumps(dataclasses.asdict(trial)) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def remaining(self, planned: Iterable[Planned]) -> list[Planned]:
        """Those that have not been run yet."""
        done = {trial.planned for trial in self.read()}
        return [trial for trial in planned if trial not in done]


class Stage(Protocol):
    """Where trials take place: the twin, or a robot with a person beside it."""

    def reset(self, planned: Planned) -> None:
        """Bring the world into the trial's start; returns when it is there and the robot may move."""
        ...

    def start(self) -> None:
        """Let the policy begin."""
        ...

    def outcome(self, time_limit: float) -> tuple[bool, float, str]:
        """Wait for success, failure or the limit [s]; returns success, time passed [s] and a note."""
        ...

    def stop(self) -> None:
        """Let the policy end; the robot holds."""
        ...


def conduct(stage: Stage, planned: Sequence[Planned], log: TrialLog, time_limit: float) -> Iterable[Trial]:
    """Run what is missing, one after another; every trial is logged before it is handed out.

    Args:
        stage: Where.
        planned: All trials wanted; those in `log` are not run again.
        log: Grows.
        time_limit: Of a trial [s].
    """
    for trial in log.remaining(planned):
        stage.reset(trial)
        stage.start()
        try:
            success, seconds, note = stage.outcome(time_limit)
        finally:
            stage.stop()
        done = Trial(**dataclasses.asdict(trial), success=success, seconds=seconds, note=note)
        log.append(done)
        yield done


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """Two policies on the same trials of one column."""

    column: str
    first: str
    second: str
    num_pairs: int
    only_first: int
    """Trials the first solved and the second did not."""
    only_second: int

    @property
    def p_value(self) -> float:
        """Chance of a difference at least this large if both were equally good."""
        return mcnemar(self.only_first, self.only_second)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test: discordant pairs are fair coin tosses under the null hypothesis."""
    count, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(count, number) for number in range(fewer + 1)) / 2**count
    return min(1.0, 2.0 * tail)


def comparisons(trials: Sequence[Trial]) -> list[Comparison]:
    """Every two policies that share trials in a column."""
    found = []
    for column in _in_use(trials):
        of_policy: dict[str, dict[tuple[str, int], bool]] = {}
        for trial in trials:
            if trial.column == column:
                of_policy.setdefault(trial.policy, {})[trial.task, trial.seed] = trial.success
        names = list(of_policy)
        for number, first in enumerate(names):
            for second in names[number + 1 :]:
                one, other = of_policy[first], of_policy[second]
                pairs = [(one[key], other[key]) for key in one.keys() & other.keys()]
                if pairs:
                    counts = pairs.count((True, False)), pairs.count((False, True))
                    found.append(Comparison(column, first, second, len(pairs), *counts))
    return found


def summarise(trials: Sequence[Trial]) -> dict[str, Any]:
    """Numbers for `summary.json`: of every policy in every column, and of every pair of policies."""
    rates: dict[str, dict[str, Any]] = {}
    for trial in trials:
        rates.setdefault(trial.policy, {}).setdefault(trial.column, _rate(trials, trial.policy, trial.column))
    return {
        "num_episodes": len(trials),
        "success_rate": sum(trial.success for trial in trials) / max(1, len(trials)),
        "policies": rates,
        "comparisons": [dataclasses.asdict(one) | {"p_value": one.p_value} for one in comparisons(trials)],
    }


def _rate(trials: Sequence[Trial], policy: str, column: str) -> dict[str, Any]:
    chosen = [trial for trial in trials if (trial.policy, trial.column) == (policy, column)]
    successes = sum(trial.success for trial in chosen)
    times = [trial.seconds for trial in chosen if trial.success]
    return {
        "success_rate": successes / len(chosen),
        "num_episodes": len(chosen),
        "num_successes": successes,
        "ci95": list(wilson_interval(successes, len(chosen))),
        "mean_seconds_to_success": sum(times) / len(times) if times else None,
    }


def _in_use(trials: Sequence[Trial]) -> list[str]:
    used = {trial.column for trial in trials}
    return [column for column in COLUMNS if column in used] + sorted(used - set(COLUMNS))

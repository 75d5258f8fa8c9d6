"""How often the script succeeds: the tries of each task counted, for `summary` files and terminals."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from piper_twin.episode import Episode
from vla_rl_trainer.libero.demonstrate import ScriptedDemonstration


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """What became of one initial state."""

    task: str
    state: int
    """Number of the initial state, 0 to 29."""
    success: bool
    num_tries: int
    """Ways that were tried."""
    way: str
    """The last one."""
    num_steps: int
    """Control steps of the last one."""

    @staticmethod
    def of(episode: Episode, found: ScriptedDemonstration) -> Try:
        """Of an episode that has been played; its seed is the number of the state."""
        return Try(
            task=episode.task,
            state=episode.seed,
            success=found.success,
            num_tries=found.num_tries,
            way=found.way,
            num_steps=len(found.action_TA),
        )


def summarise(tries: Sequence[Try]) -> dict[str, dict[str, Any]]:
    """The numbers of each task, in the order of the tries; steps and ways are those of the successes."""
    summary = {}
    for task in dict.fromkeys(one.task for one in tries):
        mine = [one for one in tries if one.task == task]
        solved = [one for one in mine if one.success]
        steps = [one.num_steps for one in solved]
        summary[task] = {
            "num_states": len(mine),
            "num_successes": len(solved),
            "num_first_way": sum(one.num_tries == 1 for one in solved),
            "max_tries": max((one.num_tries for one in solved), default=None),
            "mean_steps": sum(steps) / len(steps) if steps else None,
            "max_steps": max(steps, default=None),
            "ways": dict(collections.Counter(one.way for one in solved)),
            "failed_states": [one.state for one in mine if not one.success],
        }
    return summary


def table_of(summary: dict[str, dict[str, Any]]) -> Table:
    """The same for a terminal."""
    table = Table(title="initial states from which the script succeeds")
    for column in ("task", "states", "succeeded", "at once", "tries", "steps", "longest"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, one in summary.items():
        mean = None if one["mean_steps"] is None else round(one["mean_steps"])
        counts = (one[name] for name in ("num_states", "num_successes", "num_first_way", "max_tries"))
        table.add_row(task, *("-" if number is None else str(number) for number in (*counts, mean, one["max_steps"])))
    return table

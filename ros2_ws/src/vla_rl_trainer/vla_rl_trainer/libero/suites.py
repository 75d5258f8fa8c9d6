"""Names, horizons and numbers of the benchmark, as published evaluations use them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from vla_policy.errors import VlaError

HORIZONS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520}
"""Control steps that OpenVLA's evaluation gives a policy, after the wait."""
TASKS_PER_SUITE = 10
NUM_STATES = 50
"""Recorded initial states of each task."""
WAIT_STEPS = 10
"""Control steps in which the objects come to rest before a policy acts."""
WAIT_ACTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""Hold still, gripper open."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class TaskName:
    """One task of a suite; "libero_object/3" is the fourth in the benchmark's own order."""

    suite: str
    index: int

    @staticmethod
    def parse(text: str) -> TaskName:
        """Read "suite/index".

        Raises:
            VlaError: there is no such task.
        """
        found = re.fullmatch(r"(\w+)/(\d)", text)
        if found is None or found[1] not in HORIZONS:
            raise VlaError(f"LIBERO task {text!r} does not exist; write SUITE/0 to SUITE/9, SUITE one of "
                           f"{', '.join(HORIZONS)}")  # fmt: skip
        return TaskName(found[1], int(found[2]))

    @property
    def horizon(self) -> int:
        """Control steps before a try counts as failed."""
        return HORIZONS[self.suite]

    def __str__(self) -> str:
        return f"{self.suite}/{self.index}"


def tasks_of(suite: str) -> tuple[str, ...]:
    """The ten task names of a suite.

    Raises:
        VlaError: there is no such suite.
    """
    if suite not in HORIZONS:
        raise VlaError(f"LIBERO suite {suite!r} does not exist; choose one of {', '.join(HORIZONS)}")
    return tuple(str(TaskName(suite, index)) for index in range(TASKS_PER_SUITE))


def is_libero(text: str) -> bool:
    """Whether a name is meant for this benchmark, be it right or wrong."""
    return text.startswith("libero_")


def expand(texts: Sequence[str]) -> tuple[str, ...]:
    """Names of tasks, and of suites for all their tasks, as names of tasks.

    Raises:
        VlaError: there is no such suite or task.
    """
    names = (name for text in texts for name in (tasks_of(text) if "/" not in text else (text,)))
    return tuple(str(TaskName.parse(name)) for name in names)
